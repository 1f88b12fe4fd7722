"""Figures of TCP round trips, per flow and side: ours beside `tcp.analysis.ack_rtt`.

Both measure from a segment to the acknowledgment of exactly its end, the handshake included, so
what can be compared is equal: the number of samples, and the least of them to the microsecond.

The median is compared in two ways. Where one record holds all samples, and tshark has as many, it
is tshark's, within 1 % (the engine keeps samples to 0.1 %) or 50 us (the least that a histogram
tells). Else records keep up to 16 samples of an interval, spread over it: then the median of their
histograms, whose buckets are 5 % wide, lies between the quartiles of tshark's samples.
"""

from collections import Counter

from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure
from tests.oracle.flows import Flow, flows
from tests.oracle.tshark import details_of

FLOOR_US = 50
BUCKET = 1.05
SIDES = ("client", "server")


def round_trip_figures(records: list[Record], truth: Truth) -> list[Figure]:
    found = flows(records, truth)
    pairs = [(flow, side) for flow in found for side in SIDES]
    timed = [(flow, side) for flow, side in pairs if theirs(flow, side) or count(flow, side)]
    both = [(flow, side) for flow, side in timed if theirs(flow, side) and count(flow, side)]
    exact = [(flow, side) for flow, side in both if is_whole(flow, side)]
    polled = [pair for pair in both if pair not in exact]
    quartiles = details_of(truth["file"])["quartiles"]
    return [
        sample_counts(timed),
        Figure("round-trip minimum", len(both), minima(both)),
        Figure("round-trip median", len(exact), medians(exact)),
        Figure("round-trip median of a poll", len(polled), polls(polled, quartiles)),
    ]


def theirs(flow: Flow, side: str) -> Truth:
    found: Truth = flow.stream.get(f"ack_rtt_by_{side}_s") or {}
    return found


def ours(flow: Flow, side: str, figure: str) -> list[int]:
    return flow.values(f"rtt_{flow.side(side)}_{figure}")


def count(flow: Flow, side: str) -> int:
    return sum(ours(flow, side, "samples"))


def histogram(flow: Flow, side: str) -> Counter[int]:
    merged: Counter[int] = Counter()
    for of_record in flow.values(f"rtt_{flow.side(side)}_histogram"):
        merged.update({int(bucket): kept for bucket, kept in of_record.items()})
    return merged


def is_whole(flow: Flow, side: str) -> bool:
    """One record holds every sample, and there are as many as tshark has."""
    samples = {histogram(flow, side).total(), count(flow, side), theirs(flow, side)["n"]}
    return len(ours(flow, side, "median_us")) == 1 and len(samples) == 1


def sample_counts(pairs: list[tuple[Flow, str]]) -> Figure:
    """They differ by each sample that only one of the two has."""
    compared, off = 0, []
    for flow, side in pairs:
        found, wanted = count(flow, side), theirs(flow, side).get("n", 0)
        compared += max(found, wanted)
        off += [f"{flow}, {side}: {found} of {wanted}"] * abs(found - wanted)
    return Figure("round-trip samples", compared, off)


def minima(pairs: list[tuple[Flow, str]]) -> list[str]:
    off = []
    for flow, side in pairs:
        found, wanted = min(ours(flow, side, "min_us")), theirs(flow, side)["min"] * 1e6
        if abs(found - wanted) > 1:
            off.append(f"{flow}, {side}: {found}, tshark {wanted:.0f}")
    return off


def medians(pairs: list[tuple[Flow, str]]) -> list[str]:
    off = []
    for flow, side in pairs:
        (found,), wanted = ours(flow, side, "median_us"), theirs(flow, side)["median"] * 1e6
        if abs(found - wanted) > max(FLOOR_US, wanted / 100):
            off.append(f"{flow}, {side}: {found}, tshark {wanted:.0f}")
    return off


def polls(pairs: list[tuple[Flow, str]], quartiles: Truth) -> list[str]:
    off = []
    for flow, side in pairs:
        bucket = sorted(histogram(flow, side).elements())[histogram(flow, side).total() // 2]
        low, high = quartiles[str(flow.stream["stream"])][side]
        least, most = FLOOR_US * BUCKET**bucket, FLOOR_US * BUCKET ** (bucket + 1)
        if most < low or (bucket and least > high):
            off.append(f"{flow}, {side}: {least:.0f} to {most:.0f}, tshark {low} to {high}")
    return off
