"""scapy says of the control messages of real captures what tshark says, and so what we do.

Where the two differ the table says why; a difference that is not in it fails, and so does an entry
that no longer differs.
"""

from collections import Counter

import pytest

from tests.oracle.captures import captures, truth_of
from tests.oracle.control import messages
from tests.oracle.differences import Difference
from tests.oracle.scapy_view import SECTIONS, scapy_messages, tshark_facts
from tests.support import needs_shared

WITHOUT_ELEMENTS = "scapy leaves the elements of an SGSN Context Response as bytes"
CUT_SHORT = (
    "an attribute of length 0 makes the message malformed: tshark tells none, scapy the first"
)

DIFFERENCES: dict[tuple[str, str], dict[str, Difference]] = {
    ("arkime--arkime_synthetic.pcap", "radius"): {"user": Difference(2, CUT_SHORT)},
    ("pcapplusplus--gtp.pcapng", "gtpv1c"): {
        "cause": Difference(1, WITHOUT_ELEMENTS),
        "teid_cp": Difference(1, WITHOUT_ELEMENTS),
        "teid_data": Difference(1, WITHOUT_ELEMENTS),
    },
}
CASES = [
    (name, section)
    for name in captures()
    for section in SECTIONS
    if messages(truth_of(name), section)
]


@needs_shared
@pytest.mark.parametrize(("name", "section"), CASES)
def test_scapy_and_tshark_read_the_same(name: str, section: str) -> None:
    by_frame = scapy_messages(name, section)
    listed = messages(truth_of(name), section)
    assert len(by_frame) == len(listed)
    off: Counter[str] = Counter()
    for message in listed:
        facts = by_frame[message["frame"]]
        theirs = tshark_facts(message, facts)
        off.update(field for field, found in facts.items() if found != theirs[field])
    allowed = DIFFERENCES.get((name, section), {})
    assert off == {field: difference.count for field, difference in allowed.items()}


@needs_shared
def test_subscribers_tunnels_and_causes_are_compared() -> None:
    """Guards against a comparison that compares nothing."""
    compared: Counter[str] = Counter()
    for name, section in CASES:
        for facts in scapy_messages(name, section).values():
            compared.update({field: len(found) for field, found in facts.items()})
    assert compared["imsi"] > 20 and compared["teid"] > 100
    assert compared["fteid"] > 200 and compared["cause"] > 200
    assert set(DIFFERENCES) <= set(CASES)
