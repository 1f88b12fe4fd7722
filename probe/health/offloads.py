"""Offloads of a network card that join packets: behind them are other packets than on the wire.

Their count, their sizes and their times are then the card's or the kernel's making.
"""

import ctypes
import fcntl
import socket
import struct
from typing import Final

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GFLAGS: Final = 0x25
_ETHTOOL_GGRO: Final = 0x2B
_FLAG_LRO: Final = 1 << 15


def joining_offloads(interface: str) -> list[str]:
    """Return which of `gro` and `lro` are on; raises `OSError` where that cannot be read."""
    gro = bool(_ethtool(interface, _ETHTOOL_GGRO))
    lro = bool(_ethtool(interface, _ETHTOOL_GFLAGS) & _FLAG_LRO)
    return [flag for flag, on in (("gro", gro), ("lro", lro)) if on]


def switch_off_command(interface: str, offloads: list[str]) -> str:
    """Return what an operator types to switch them off."""
    return f"ethtool -K {interface} {' '.join(f'{flag} off' for flag in offloads)}"


def _ethtool(interface: str, command: int) -> int:
    """Return the value of an ethtool query (linux/ethtool.h, struct ethtool_value)."""
    value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    return int(struct.unpack("=II", value.raw)[1])
