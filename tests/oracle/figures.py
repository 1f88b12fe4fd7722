"""What is compared: figures of a capture, ours beside tshark's."""

from collections import Counter

from tests.oracle.captures import Ends, Record, Truth, ends_of, ends_of_stream
from tests.oracle.dns import dns_figures
from tests.oracle.figure import Figure


def figures(records: list[Record], truth: Truth) -> list[Figure]:
    """Every figure that tshark has of a capture."""
    return [
        connections(records, truth),
        initial_round_trips(records, truth),
        refusals(records, truth),
        tls_server_names(records, truth),
        quic_server_names(records, truth),
        quic_protocols(records, truth),
        *dns_figures(records, truth),
    ]


def final_tcp(records: list[Record]) -> list[Record]:
    return [r for r in records if r["transport"] == "tcp" and r["record_kind"] == "final"]


def streams_of(truth: Truth) -> list[Truth]:
    streams: list[Truth] = truth.get("tcp", {}).get("streams", [])
    return streams


def connections(records: list[Record], truth: Truth) -> Figure:
    ours = Counter(ends_of(record) for record in final_tcp(records))
    theirs = Counter(ends_of_stream(stream) for stream in streams_of(truth))
    return Figure("TCP connections", theirs.total(), counted_differences(ours, theirs))


def counted_differences(ours: Counter[Ends], theirs: Counter[Ends]) -> list[str]:
    too_many = [f"only ours: {sorted(key)}" for key in (ours - theirs).elements()]
    missing = [f"only tshark's: {sorted(key)}" for key in (theirs - ours).elements()]
    return too_many + missing


def initial_round_trips(records: list[Record], truth: Truth) -> Figure:
    """Both sides' handshake round trips added are tshark's `tcp.analysis.initial_rtt`.

    A refused connection has no handshake, though tshark takes its reset for one.
    """
    ours: dict[Ends, list[int]] = {}
    for record in records:
        sides = (record["handshake_rtt_client_us"], record["handshake_rtt_server_us"])
        if record["transport"] == "tcp" and None not in sides:
            ours.setdefault(ends_of(record), []).append(sum(sides))
    timed = [s for s in streams_of(truth) if s.get("initial_rtt_s") is not None]
    timed = [stream for stream in timed if not stream["refused"]]
    off = []
    for stream in timed:
        wanted_us = stream["initial_rtt_s"] * 1e6
        found = ours.get(ends_of_stream(stream), [])
        if not any(is_close(us, wanted_us, least=1000, share=0.01) for us in found):
            off.append(f"{stream['client']} to {stream['server']}: {wanted_us:.0f}, ours {found}")
    return Figure("initial round trip", len(timed), off)


def is_close(found: float, wanted: float, *, least: float, share: float) -> bool:
    return abs(found - wanted) <= max(least, wanted * share)


def refusals(records: list[Record], truth: Truth) -> Figure:
    """A port scan's refused attempts are flagged as a scan, and no failure of the network."""
    refused = {
        ends_of(record)
        for record in records
        if record["failure_cause"] == "connect_refused" or "scan" in (record["flags"] or [])
    }
    theirs = [stream for stream in streams_of(truth) if stream["refused"]]
    off = [
        f"{stream['client']} to {stream['server']}"
        for stream in theirs
        if ends_of_stream(stream) not in refused
    ]
    return Figure("refused connections", len(theirs), off)


def tls_server_names(records: list[Record], truth: Truth) -> Figure:
    ours = Counter(
        record["server_name"]
        for record in final_tcp(records)
        if record["app_protocol"] == "tls" and record["server_name"]
    )
    theirs = Counter(stream["sni"].lower() for stream in streams_of(truth) if stream.get("sni"))
    off = [*(ours - theirs).elements(), *(theirs - ours).elements()]
    return Figure("TLS server names", theirs.total(), off)


def final_quic(records: list[Record]) -> list[Record]:
    return [r for r in records if r["app_protocol"] == "quic" and r["record_kind"] == "final"]


def quic_server_names(records: list[Record], truth: Truth) -> Figure:
    """One name per connection; tshark says it again where the hello is sent again.

    Google's own QUIC is another dissector's, which does not say in which connection.
    """
    quic = truth.get("quic", {})
    google = set(quic.get("gquic_sni", {}))
    ours = Counter(r["server_name"] for r in final_quic(records) if r["server_name"])
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
