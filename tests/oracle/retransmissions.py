"""Figures of what TCP senders sent again, per flow and direction.

tshark's retransmission, fast retransmission and spurious retransmission together are our
`retransmitted_packets`: lost before the tap, lost after it, or sent again needlessly. SYNs are
counted apart; of the SYN-ACK no copies are counted here.
"""

from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure
from tests.oracle.flows import DIRECTION, Flow, flows
from tests.oracle.tshark import details_of


def retransmission_figures(records: list[Record], truth: Truth) -> list[Figure]:
    found = flows(records, truth)
    theirs = details_of(truth["file"])["retransmissions"]
    return [segments(found, theirs), syns(found, theirs), reordered(found)]


def segments(found: list[Flow], theirs: Truth) -> Figure:
    compared, off = 0, []
    for flow in found:
        for side in ("client", "server"):
            ours = sum(flow.values(f"retransmitted_packets_{DIRECTION[flow.side(side)]}"))
            wanted = theirs.get(str(flow.stream["stream"]), {}).get(DIRECTION[side], 0)
            compared += max(wanted, ours)
            off += [f"{flow}, by {side}: {ours} of {wanted}"] * abs(ours - wanted)
    return Figure("retransmitted segments", compared, off)


def syns(found: list[Flow], theirs: Truth) -> Figure:
    compared, off = 0, []
    for flow in found:
        ours = sum(flow.values("syn_retransmissions"))
        wanted = theirs.get(str(flow.stream["stream"]), {}).get("syn", 0)
        compared += max(wanted, ours)
        off += [f"{flow}: {ours} of {wanted}"] * abs(ours - wanted)
    return Figure("retransmitted SYNs", compared, off)


def reordered(found: list[Flow]) -> Figure:
    """Both directions of a flow together, as the truth files have it."""
    compared, off = 0, []
    for flow in found:
        names = ("out_of_order_packets_up", "out_of_order_packets_down")
        ours = sum(sum(flow.values(name)) for name in names)
        wanted = flow.stream["out_of_order"]
        compared += max(wanted, ours)
        off += [f"{flow}: {ours} of {wanted}"] * abs(ours - wanted)
    return Figure("segments out of order", compared, off)
