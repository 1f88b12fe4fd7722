"""The first messages of devices, as far as they go in the clear (TS 24.301, TS 24.501)."""

import struct

from probe.simulate.control.codes import PLMN, bcd
from probe.simulate.control.connection import Connection


def attach_request(connection: Connection) -> bytes:
    """TS 24.301 8.2.4, with the IMSI, as of a device without a temporary identity."""
    digits = connection.identity.imsi
    # The first digit stands beside "odd" and "IMSI" (TS 24.301 9.9.3.12).
    identity = bytes((int(digits[0]) << 4 | 0x08 | 0x01,)) + bcd(digits[1:])
    pdn_type = 0x31 if connection.ipv6_prefix else 0x11  # initial request
    connectivity = bytes((0x02, 0x01, 0xD0, pdn_type))  # TS 24.301 8.3.20
    capability = b"\xe0\xe0"
    return b"".join(
        (
            b"\x07\x41\x71",  # no key; EPS attach
            bytes((len(identity),)),
            identity,
            bytes((len(capability),)),
            capability,
            struct.pack("!H", len(connectivity)),
            connectivity,
        )
    )


def service_request(connection: Connection) -> bytes:
    """TS 24.301 8.2.25: a short message, its check made up."""
    return b"\xc7\x21" + struct.pack("!I", connection.keys.tmsi)[2:]


def registration_request(connection: Connection) -> bytes:
    """TS 24.501 8.2.6, with the SUPI under the null scheme (TS 24.501 9.11.3.4)."""
    identity = b"\x01" + PLMN + b"\xf0\xff\x00\x00" + bcd(connection.identity.imsi[5:])
    return b"\x7e\x00\x41\x79" + struct.pack("!H", len(identity)) + identity + b"\x2e\x02\xe0\xe0"


def service_request_5g(connection: Connection) -> bytes:
    """TS 24.501 8.2.16, with the 5G-S-TMSI."""
    identity = b"\xf4" + struct.pack("!HI", 0x0041, connection.keys.tmsi)
    return b"\x7e\x00\x4c\x10" + struct.pack("!H", len(identity)) + identity
