"""Figures of QUIC: names and protocols of hellos, round trips, and clients that find no version."""

from collections import Counter

from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure
from tests.oracle.tls import hello_name

# Microseconds of (server's side, client's side): the times between the two frames named, of which
# `tshark -Y quic -T fields -e frame.number -e frame.time_relative -e quic.packet_number
# -e quic.ack.largest_acknowledged` shows that the second acknowledges the first.
ROUND_TRIPS = {
    "zeek--retry.pcap": (36_579, 1_879),  # frames 7 to 8, 8 to 10
    "ndpi--quic-forcing-vn-with-data.pcapng": (3_421, 1_089),  # 5 to 6, 6 to 7
    "ndpi--quic-v2.pcapng": (1_772, 292),  # 1 to 2, 2 to 4 (a Handshake packet)
}
# Its clients force a negotiation, as section 6.3 of RFC 9000 lets them, and end with its answer.
FORCED_NEGOTIATION = "ndpi--quic_interop_V.pcapng"

WITHOUT_VERSION = (
    "quic_version_mismatch",
    "quic_timeout",
    "connect_unreachable",
    "connect_prohibited",
    None,
)


def quic_figures(records: list[Record], truth: Truth) -> list[Figure]:
    return [
        quic_server_names(records, truth),
        quic_protocols(records, truth),
        round_trips(records, truth),
        without_version(records, truth),
    ]


def final_quic(records: list[Record]) -> list[Record]:
    return [r for r in records if r["app_protocol"] == "quic" and r["record_kind"] == "final"]


def quic_server_names(records: list[Record], truth: Truth) -> Figure:
    """One name per connection; tshark says it again where the hello is sent again.

    Google's own QUIC is another dissector's, which does not say in which connection.
    """
    quic = truth.get("quic", {})
    google = set(quic.get("gquic_sni", {}))
    ours = Counter(name for record in final_quic(records) if (name := hello_name(record)))
    hellos = {(hello["udp_stream"], hello.get("sni")) for hello in quic.get("client_hellos", [])}
    theirs = Counter(name.lower() for _, name in hellos if name)
    of_ietf = Counter({name: count for name, count in ours.items() if name not in google})
    off = [*(of_ietf - theirs).elements(), *(theirs - of_ietf).elements(), *(google - set(ours))]
    return Figure("QUIC server names", theirs.total() + len(google), off)


def quic_protocols(records: list[Record], truth: Truth) -> Figure:
    """Every protocol that a client offers, in whichever connection, where tshark opens a hello: it
    opens none of a client that began with a reserved version.
    """
    offers = [r["alpn"].split(",") for r in final_quic(records) if r["alpn"]]
    ours = {protocol for offer in offers for protocol in offer}
    theirs = set(truth.get("quic", {}).get("alpn", {}))
    off = sorted(ours ^ theirs) if theirs else []
    return Figure("QUIC protocols offered", len(theirs), off)


def round_trips(records: list[Record], truth: Truth) -> Figure:
    wanted = ROUND_TRIPS.get(truth["file"])
    sides = ("handshake_rtt_server_us", "handshake_rtt_client_us")
    found = [tuple(record[side] for side in sides) for record in final_quic(records)]
    off = [f"{found}, tshark {wanted}"] if wanted and found != [wanted] else []
    return Figure("QUIC round trips", int(bool(wanted)), off)


def without_version(records: list[Record], truth: Truth) -> Figure:
    """Nobody gets through: told no version that suits, told by ICMP, or told nothing, by the end of
    the capture perhaps not yet for long enough to say so.
    """
    if truth["file"] != FORCED_NEGOTIATION:
        return Figure("QUIC without a version", 0, [])
    wanted = len({hello["udp_stream"] for hello in truth["quic"]["client_hellos"]})
    causes = Counter(r["failure_cause"] for r in final_quic(records) if r["setup_us"] is None)
    found = sum(causes[cause] for cause in WITHOUT_VERSION)
    off = [f"{dict(causes)} of {wanted}"] * max(abs(found - wanted), causes.total() - found)
    return Figure("QUIC without a version", wanted, off)
