"""QUIC handshakes of real captures: round trips, and clients that find no version.

The round trips are not in the truth files: they are the times between the two frames named, of
which tshark shows that the second acknowledges the first.
"""

from collections import Counter

import pytest

from tests.oracle.captures import Record, replay_of, truth_of
from tests.oracle.figures import final_quic
from tests.support import needs_shared

# Microseconds of (server's side, client's side), by `tshark -Y quic -T fields -e frame.number
# -e frame.time_relative -e quic.packet_number -e quic.ack.largest_acknowledged`.
ROUND_TRIPS = {
    "zeek--retry.pcap": (36_579, 1_879),  # frames 7 to 8, 8 to 10
    "ndpi--quic-forcing-vn-with-data.pcapng": (3_421, 1_089),  # 5 to 6, 6 to 7
    "ndpi--quic-v2.pcapng": (1_772, 292),  # 1 to 2, 2 to 4 (a Handshake packet)
}
FORCED_NEGOTIATION = "ndpi--quic_interop_V.pcapng"


def sessions(name: str) -> list[Record]:
    return final_quic(replay_of(name).rows)


@needs_shared
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trips_are_the_times_between_a_packet_and_its_acknowledgment(name: str) -> None:
    (record,) = sessions(name)
    found = (record["handshake_rtt_server_us"], record["handshake_rtt_client_us"])
    assert found == ROUND_TRIPS[name]


@needs_shared
def test_clients_that_force_version_negotiation_end_without_a_version() -> None:
    causes = Counter(record["failure_cause"] for record in sessions(FORCED_NEGOTIATION))
    hellos = truth_of(FORCED_NEGOTIATION)["quic"]["client_hellos"]
    assert causes.total() == len({hello["udp_stream"] for hello in hellos})
    assert set(causes) == {"quic_version_mismatch", "quic_timeout"}
