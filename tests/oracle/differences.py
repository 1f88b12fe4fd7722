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

MIRROR = (
    "the capture shows packets more than once: tshark takes the copies for repeats of the sender"
)
MARKS = "8 segments in flight are followed at once, by lot; tshark follows all"
REPAIR = (
    "a segment was sent again or overtaken, or the echo is that of a later one: what was "
    "acknowledged, or what the acknowledgment waited for, is not certain (Karn's rule)"
)
RESET = "a reset is not an answer to data; tshark takes it for an acknowledgment"
LONG = "beyond 12.6 s a round trip stands in the last bucket of its histogram"
POLL = "16 of 142 samples are a poll; the median of this one lies at the first quartile"
AGAIN = (
    "seen before, with a newer timestamp, or later than a round trip: sent again; tshark calls all "
    "out of order that comes within its first round trip (7 s where a SYN was lost)"
)
SOON = "sent again 4 ms after the original, of a round trip of 411 ms: here a copy made on the way"
PADDED = "IP states 6 bytes more than the PPPoE header around it: padding counts as payload here"
TWO_ANSWERS = "of two SYN-ACKs the client acknowledged the first; tshark goes on from the second"
OVERTAKEN = "a mere acknowledgment overtook the FIN before it, which tshark takes for sent again"

NO_VERSION = (
    "a request line without target or whole version is no HTTP/1 (RFC 9112 3); tshark goes by its "
    "method"
)
UNCERTAIN = "behind answers that were not captured it is not certain which request is answered"

LATE_COPY = "a copy sent 5 s later is another query to tshark; here its customer has waited 5 s"
ONE_FLOW = "one flow holds all questions: 3 SERVFAIL, and 3 answers after 6 s, are failures as well"
EXTENDED = (
    "BADVERS has four bits in the header and eight in the OPT record; tshark tells the former"
)
LATE_ANSWER = "SERVFAIL after 11 s: resolvers of clients give up sooner, so these timed out"

NULL_SCHEME = "the IMSI stands in a SUCI of the null scheme, which tshark shows in parts"
NO_SESSION = "its registration came to no request that a record is made of"
CIPHERED = "tshark takes the IMSI of a NAS message whose header says ciphered; we do not guess"
S1AP_CELL = "the truth files leave out the cells of S1AP"
MALFORMED = "the request has an attribute of length 0 (RFC 2865 5), so nobody knows what it says"

DIFFERENCES: dict[str, dict[str, Difference]] = {
    "5greplay--oai.pcap": {
        "control-plane subscribers": Difference(1, NULL_SCHEME),
        "round-trip samples": Difference(31, f"{MARKS}; {REPAIR}"),
    },
    "arkime--arkime_synthetic.pcap": {
        "control-plane set-up times": Difference(1, MALFORMED),
        "initial round trip": Difference(7, ZERO),
        "DNS response codes": Difference(2, EXTENDED),
    },
    "arkime--wireshark-retrans.pcap": {
        "initial round trip": Difference(1, COPIES),
        "round-trip samples": Difference(7, MIRROR),
        "round-trip minimum": Difference(1, MIRROR),
        "round-trip median of a poll": Difference(1, MIRROR),
        "retransmitted segments": Difference(42, MIRROR),
        "retransmitted SYNs": Difference(2, MIRROR),
        "segments out of order": Difference(1, MIRROR),
    },
    "freediameter--capture.pcap": {
        "round-trip samples": Difference(3, RESET),
    },
    "magma--gx_gy_combined_03_210505_132953-1.pcapng": {
        "control-plane cells": Difference(1, S1AP_CELL),
    },
    "magma--inbound_roaming_01_210505_130828-1.pcapng": {
        "control-plane cells": Difference(1, S1AP_CELL),
    },
    "ndpi--6in4tunnel.pcap": {
        "round-trip samples": Difference(2, REPAIR),
        "retransmitted segments": Difference(2, AGAIN),
        "segments out of order": Difference(2, AGAIN),
    },
    "ndpi--bad-dns-traffic.pcap": {
        "DNS unanswered": Difference(6, ONE_FLOW),
    },
    "ndpi--bittorrent_tcp_miss.pcapng": {
        "round-trip samples": Difference(15, MARKS),
    },
    "ndpi--dns_fragmented.pcap": {
        "DNS response times": Difference(2, LATE_COPY),
    },
    "ndpi--fuzz-2006-06-26-2594.pcap": {
        "initial round trip": Difference(1, DAMAGED),
        "DNS queries": Difference(20, DAMAGED),
        "DNS response times": Difference(1, DAMAGED),
        "DNS unanswered": Difference(13, DAMAGED),
        "round-trip samples": Difference(4, DAMAGED),
        "retransmitted segments": Difference(1, DAMAGED),
    },
    "ndpi--KakaoTalk_talk.pcap": {
        "initial round trip": Difference(1, KARN),
        "round-trip samples": Difference(4, REPAIR),
        "round-trip minimum": Difference(2, REPAIR),
        "round-trip median of a poll": Difference(1, REPAIR),
        "retransmitted segments": Difference(2, TWO_ANSWERS),
        "HTTP statuses": Difference(1, TWO_ANSWERS),
    },
    "ndpi--netflix.pcap": {
        "round-trip samples": Difference(72, REPAIR),
        "round-trip median of a poll": Difference(1, REPAIR),
    },
    "ndpi--quickplay.pcap": {
        "round-trip samples": Difference(3, REPAIR),
        "round-trip median": Difference(1, LONG),
    },
    "ndpi--rtsp.pcapng": {
        "initial round trip": Difference(1, MISSED),
        "round-trip samples": Difference(9, MIRROR),
        "round-trip minimum": Difference(4, MIRROR),
        "retransmitted segments": Difference(219, MIRROR),
        "retransmitted SYNs": Difference(21, MIRROR),
    },
    "ndpi--synscan.pcap": {
        "round-trip samples": Difference(5, RESET),
    },
    "ndpi--waze.pcap": {
        "round-trip samples": Difference(7, f"{REPAIR}; {RESET}"),
        "round-trip median of a poll": Difference(1, REPAIR),
    },
    "ndpi--whatsapp_login_call.pcap": {
        "round-trip samples": Difference(1, MARKS),
    },
    "ndpi--zoom.pcapng": {
        "round-trip samples": Difference(20, MARKS),
    },
    "open5gs--5g-roaming-lbo.pcapng": {
        "control-plane subscribers": Difference(1, NULL_SCHEME),
        "round-trip samples": Difference(6, RESET),
        "round-trip minimum": Difference(1, RESET),
        "round-trip median of a poll": Difference(1, RESET),
    },
    "open5gs--nonipsec_reg.pcapng": {
        "retransmitted segments": Difference(49, MIRROR),
        "retransmitted SYNs": Difference(8, MIRROR),
        "segments out of order": Difference(13, MIRROR),
    },
    "open5gs--testattach.pcapng": {
        "control-plane subscribers": Difference(1, CIPHERED),
    },
    "open5gs--testregistration.pcapng": {
        "control-plane subscribers": Difference(1, NULL_SCHEME),
    },
    "open5gs--volte.pcapng": {
        "retransmitted segments": Difference(6, MIRROR),
        "retransmitted SYNs": Difference(1, MIRROR),
        "segments out of order": Difference(3, MIRROR),
    },
    "pcap-parser--err-buffertoosmall.pcapng": {
        "retransmitted segments": Difference(1, OVERTAKEN),
    },
    "pcapplusplus--raw_ip.pcap": {
        "initial round trip": Difference(2, UNSEEN),
    },
    "rnp-pgid-2023--core-ue-eap-aka-prime-no-fix.pcapng": {
        "control-plane cells": Difference(1, NO_SESSION),
        "round-trip samples": Difference(5, MARKS),
    },
    "suricata-verify--sip.pcap": {
        "DNS response times": Difference(2, LATE_COPY),
    },
    "suricata-verify--syn_retransmit_with_ts.pcap": {
        "initial round trip": Difference(1, COARSE),
        "round-trip samples": Difference(15, REPAIR),
        "round-trip median of a poll": Difference(2, REPAIR),
        "retransmitted segments": Difference(1, AGAIN),
        "segments out of order": Difference(1, AGAIN),
    },
    "suricata-verify--TLPW1-tcp-174.56.47.59-10.3.11.101-tcp-80-49309.pcap": {
        "initial round trip": Difference(1, KARN),
        "round-trip samples": Difference(14, REPAIR),
        "round-trip median of a poll": Difference(1, REPAIR),
        "retransmitted segments": Difference(13, AGAIN),
        "segments out of order": Difference(13, AGAIN),
    },
    "zeek--erspan.pcap": {
        "DNS response times": Difference(3, LATE_ANSWER),
        "DNS response codes": Difference(3, LATE_ANSWER),
        "DNS unanswered": Difference(3, LATE_ANSWER),
        "HTTP first-byte times": Difference(2, UNCERTAIN),
    },
    "zeek--gtp1_gn_normal_incl_fragmentation.pcap": {
        "round-trip samples": Difference(10, MARKS),
    },
    "zeek--gtp2_different_udp_port.pcap": {
        "round-trip samples": Difference(4, MARKS),
        "round-trip minimum": Difference(1, MARKS),
    },
    "zeek--hrr.pcap": {
        "round-trip samples": Difference(1, REPAIR),
    },
    "zeek--methods.pcap": {
        "HTTP hosts": Difference(18, NO_VERSION),
        "HTTP requests": Difference(18, NO_VERSION),
        "HTTP first-byte times": Difference(18, NO_VERSION),
    },
    "zeek--mixed-vlan-mpls.pcap": {
        "initial round trip": Difference(1, UNSEEN),
        "HTTP requests": Difference(1, NO_VERSION),
    },
    "zeek--pppoe-over-qinq.pcap": {
        "round-trip samples": Difference(13, REPAIR),
        "retransmitted segments": Difference(4, f"{AGAIN}; {SOON}; {PADDED}"),
        "segments out of order": Difference(2, AGAIN),
    },
    "zeek--reassembly.pcap": {
        "round-trip samples": Difference(9, REPAIR),
        "round-trip median of a poll": Difference(1, REPAIR),
    },
    "zeek--retransmit-fast009.pcap": {
        "round-trip samples": Difference(1, REPAIR),
        "round-trip median of a poll": Difference(1, REPAIR),
    },
    "zeek--tls-fragmented-handshake.pcap": {
        "round-trip median of a poll": Difference(1, POLL),
    },
}

# Captures that end in damage: their records up to there are compared like all others.
DAMAGED_FILES = {
    "suricata-verify--fuzz.pcap": "corrupt record",
}
