"""Figures of TCP connections: their number, their set-up, and which were refused."""

from collections import Counter

from tests.oracle.captures import Ends, Record, Truth, ends_of, ends_of_stream, streams_of
from tests.oracle.figure import Figure


def tcp_figures(records: list[Record], truth: Truth) -> list[Figure]:
    return [
        connections(records, truth),
        initial_round_trips(records, truth),
        refusals(records, truth),
    ]


def final_tcp(records: list[Record]) -> list[Record]:
    return [r for r in records if r["transport"] == "tcp" and r["record_kind"] == "final"]


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
