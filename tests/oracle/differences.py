"""Where our figures differ from tshark's, and why: a capture may differ in nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """So many figures of one kind differ in one capture."""

    count: int
    why: str


COPIES = "the mirror shows the SYN more than once; tshark measures from the last copy"
KARN = "the SYN was retransmitted and its answer has no timestamp: ambiguous, so not reported"
UNSEEN = "only one side was captured: the set-up time is known, its two parts are not"
ZERO = "all three packets carry the same time; tshark goes on to the first data segment"
COARSE = "two packets of the handshake carry the same microsecond: no round trip to report"
DAMAGED = "the packets contradict their own headers (a fuzzer changed them); tshark reads on"
MISSED = "the SYN-ACK was not captured; tshark starts from the last SYN"
GONE = "an old connection's last packets come a minute after its end: a session of their own"

LATE_COPY = "a copy sent 5 s later is another query to tshark; here its customer has waited 5 s"
ONE_FLOW = "one flow holds all questions: 3 SERVFAIL, and 3 answers after 6 s, are failures as well"
EXTENDED = (
    "BADVERS has four bits in the header and eight in the OPT record; tshark tells the former"
)
OVERLAY = "a question behind VXLAN-GPE or GENEVE, which are not read"

DIFFERENCES: dict[str, dict[str, Difference]] = {
    "arkime--arkime_synthetic.pcap": {
        "initial round trip": Difference(7, ZERO),
        "DNS queries": Difference(1, OVERLAY),
        "DNS response times": Difference(1, OVERLAY),
        "DNS response codes": Difference(3, f"{EXTENDED}; {OVERLAY}"),
    },
    "arkime--wireshark-retrans.pcap": {"initial round trip": Difference(1, COPIES)},
    "ndpi--KakaoTalk_talk.pcap": {"initial round trip": Difference(1, KARN)},
    "ndpi--bad-dns-traffic.pcap": {"DNS unanswered": Difference(6, ONE_FLOW)},
    "ndpi--dns_fragmented.pcap": {"DNS response times": Difference(2, LATE_COPY)},
    "ndpi--fuzz-2006-06-26-2594.pcap": {
        "initial round trip": Difference(1, DAMAGED),
        "DNS queries": Difference(20, DAMAGED),
        "DNS response times": Difference(1, DAMAGED),
        "DNS unanswered": Difference(13, DAMAGED),
    },
    "ndpi--rtsp.pcapng": {
        "TCP connections": Difference(1, GONE),
        "initial round trip": Difference(1, MISSED),
    },
    "pcapplusplus--raw_ip.pcap": {"initial round trip": Difference(2, UNSEEN)},
    "suricata-verify--syn_retransmit_with_ts.pcap": {"initial round trip": Difference(1, COARSE)},
    "suricata-verify--sip.pcap": {"DNS response times": Difference(2, LATE_COPY)},
    "suricata-verify--TLPW1-tcp-174.56.47.59-10.3.11.101-tcp-80-49309.pcap": {
        "initial round trip": Difference(1, KARN)
    },
    "zeek--mixed-vlan-mpls.pcap": {"initial round trip": Difference(1, UNSEEN)},
}

# Captures that end in damage: their records up to there are compared like all others.
DAMAGED_FILES = {
    "suricata-verify--fuzz.pcap": "corrupt record",
}
