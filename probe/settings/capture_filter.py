"""Capture filters in tcpdump's language (pcap-filter(7)), compiled by the system's libpcap.

The library is loaded when there is a filter to compile, and parses the configuration alone: packets
never pass it. The kernel runs what it makes.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_LIBRARIES: Final = ("libpcap.so.1", "libpcap.so.0.8")
_LINKS: Final = {"ethernet": 1, "raw_ip": 12}  # DLT_EN10MB, and DLT_RAW as Linux numbers it
_SNAPLEN: Final = 262_144  # what pcap_compile writes into the filter for "all of the packet"
_NO_NETMASK: Final = 0xFFFF_FFFF
_VLAN: Final = re.compile(r"\bvlan\b")

Program = list[tuple[int, int, int, int]]


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


def compile_filter(expression: str) -> dict[str, Program]:
    """Return the filter as (code, jt, jf, k), for links with Ethernet headers and without.

    A list is empty where the expression makes no sense for that kind of link. Raises `ValueError`
    with what is wrong with the expression, or where there is no libpcap.
    """
    if _VLAN.search(expression):
        raise ValueError("vlan cannot be asked for: the kernel takes the tag out before the filter")
    library = _library()
    programs: dict[str, Program] = {}
    problems = []
    for link, number in _LINKS.items():
        try:
            programs[link] = _compiled(library, expression, number)
        except ValueError as error:
            programs[link] = []
            problems.append(str(error))
    if len(problems) == len(_LINKS):
        raise ValueError(problems[0])
    return programs


def _library() -> Any:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        library.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(_Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        return library
    raise ValueError("libpcap is not installed; Debian and Ubuntu: libpcap0.8, Fedora: libpcap")


@contextmanager
def _handle(library: Any, link: int) -> Iterator[int]:
    handle = library.pcap_open_dead(link, _SNAPLEN)
    if not handle:
        raise ValueError("libpcap cannot be used")
    try:
        yield handle
    finally:
        library.pcap_close(handle)


def _compiled(library: Any, expression: str, link: int) -> Program:
    with _handle(library, link) as handle:
        program = _Program()
        done = library.pcap_compile(
            handle, ctypes.byref(program), expression.encode(), 1, _NO_NETMASK
        )
        if done != 0:
            raise ValueError(library.pcap_geterr(handle).decode(errors="replace"))
        each = (program.instructions[index] for index in range(program.length))
        instructions = [(one.code, one.jt, one.jf, one.k) for one in each]
        library.pcap_freecode(ctypes.byref(program))
        return instructions
