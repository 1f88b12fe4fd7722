"""Copies that a mirror made are found in real captures, and in those without copies none is.

tshark takes most of these copies for retransmissions.
"""

from pathlib import Path

import pytest

from tests.oracle.captures import CORPUS, captures
from tests.probe.engine.conftest import Result, options, run_engine
from tests.support import needs_shared

TIMED_ALIKE = "the same datagram twice within a millisecond, identification and checksum included"

# Captures that hold packets more than once: how many copies, and by what they were looked up.
COPIES = {
    "5greplay--oai.pcap": (5, "N3 and N6 on one host: in GTP-U, and outside with one hop less"),
    "arkime--arkime_synthetic.pcap": (1, TIMED_ALIKE),
    "arkime--wireshark-retrans.pcap": (81, "a mirror that shows packets twice to four times"),
    "gopacket--test202.pcapng": (2, "two captures in one file"),
    "magma--inbound_roaming_01_210505_130828-1.pcapng": (20, "two GTP-U tunnels on two interfaces"),
    "ndpi--FAX-Call-t38-CA-TDM-SIP-FB-1.pcap": (23, TIMED_ALIKE),
    "ndpi--rtsp.pcapng": (426, "every packet at two to four devices of an 'any' capture"),
    "open5gs--5g-roaming-lbo.pcapng": (8, "in GTP-U and on the tunnel's device"),
    "open5gs--ipsec_to_ipsec_call.pcapng": (942, "S1-U, S5 and SGi on one host"),
    "open5gs--nonipsec_reg.pcapng": (164, "S1-U, S5 and SGi on one host"),
    "open5gs--testattach.pcapng": (6, "S1-U and S5 on one host"),
    "open5gs--volte.pcapng": (141, "S1-U, S5 and SGi on one host"),
    "pcapplusplus--gtp.pcapng": (1, "one packet on two interfaces"),
    "pcapplusplus--many_interfaces-1.pcapng": (2, "two interfaces"),
    "pcapplusplus--raw_ip.pcap": (1, TIMED_ALIKE),
}


def total(result: Result, figure: str) -> int:
    names = (f"{figure}_up", f"{figure}_down")
    return sum(row[name] or 0 for row in result.rows for name in names)


def without_search(path: Path) -> Result:
    limits = options([str(path)])["limits"]
    return run_engine([str(path)], limits={**limits, "copies": 0})


@needs_shared
@pytest.mark.parametrize("name", captures())
def test_copies_are_found_where_there_are_some_and_nowhere_else(name: str) -> None:
    result = run_engine([str(CORPUS / name)])
    assert result.counters["mirror_copies"] == COPIES.get(name, (0, ""))[0]
    assert sum(result.shed().values()) == result.counters["mirror_copies"]


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "arkime--wireshark-retrans.pcap",
        "ndpi--rtsp.pcapng",
        "open5gs--nonipsec_reg.pcapng",
        "open5gs--volte.pcapng",
    ],
)
def test_copies_are_neither_packets_nor_retransmissions(name: str) -> None:
    searched, unsearched = run_engine([str(CORPUS / name)]), without_search(CORPUS / name)
    copies, _ = COPIES[name]
    assert total(unsearched, "packets") - total(searched, "packets") == copies
    assert total(searched, "retransmitted_packets") == 0


@needs_shared
@pytest.mark.parametrize("name", sorted(set(captures()) - set(COPIES)))
def test_a_capture_without_copies_gives_the_same_records(name: str) -> None:
    assert run_engine([str(CORPUS / name)]).bodies == without_search(CORPUS / name).bodies
