"""Numbers and digits as control messages have them (TS 23.003, TS 24.008 10.5.1.3)."""

from functools import lru_cache
from typing import Final

from probe.simulate.network import MCC_MNC, Cell

PLMN: Final = bytes((0x00, 0xF1, 0x10))  # of network 001-01
assert MCC_MNC == "001-01"

QOS_CLASS: Final = 9  # QCI and 5QI of the default bearer
PRIORITY: Final = 8  # allocation and retention
BEARER_ID: Final = 5  # EPS bearer; the PDU session is number 1
SESSION_ID: Final = 1
MAX_RATE_UP_BPS, MAX_RATE_DOWN_BPS = 50_000_000, 150_000_000


@lru_cache(maxsize=65_536)
def bcd(digits: str) -> bytes:
    """Return two digits a byte, the first in the low half, filled up with ones."""
    filled = digits + "F" * (len(digits) % 2)
    return bytes(int(filled[i + 1] + filled[i], 16) for i in range(0, len(filled), 2))


def _number(text: str) -> int:
    return int(text.rpartition("-")[2], 16)


@lru_cache(maxsize=1024)
def cell_number(cell: Cell) -> int:
    """Return the E-UTRAN (28 bits) or NR (36 bits) cell identity."""
    return _number(cell.cell_id)


@lru_cache(maxsize=1024)
def node_number(cell: Cell) -> int:
    """Return the macro eNB's (20 bits) or gNB's (28 bits) identity."""
    return _number(cell.ran_node_id)


@lru_cache(maxsize=1024)
def area_number(cell: Cell) -> int:
    """Return the tracking area code, 16 bits, of NR 24."""
    return _number(cell.tracking_area)


@lru_cache(maxsize=1024)
def labels(apn: str) -> bytes:
    """Return an access point name in labels (TS 23.003 9.1)."""
    return b"".join(bytes((len(label),)) + label.encode("ascii") for label in apn.split("."))
