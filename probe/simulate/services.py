"""The services that subscribers use: names, where they are, and how they move data."""

from dataclasses import dataclass
from typing import Final

from probe.simulate.faults import Fault


@dataclass(frozen=True)
class Exchange:
    """A kind of request: sizes are (least, most) bytes, drawn evenly."""

    request: tuple[int, int]
    response: tuple[int, int]
    count: tuple[int, int]  # requests on one connection
    pause_ms: tuple[int, int]  # between one response and the next request


@dataclass(frozen=True)
class Service:
    """A server that subscribers talk to over TLS, or over QUIC."""

    name: str
    service_class: str
    server_name: str
    ipv4: str
    ipv6: str | None
    rtt_ms: int  # between the tap and the server and back
    weight: int  # how often it is chosen
    exchange: Exchange
    alpn: str = "h2"
    tls_version: str = "1.3"
    quic: bool = False
    server_closes: bool = False


@dataclass(frozen=True)
class Resolver:
    """The operator's DNS resolver."""

    ipv4: str = "198.18.0.53"
    rtt_ms: int = 4


_VIDEO = Exchange((400, 900), (90_000, 260_000), (1, 3), (600, 1_800))
_WEB = Exchange((300, 800), (3_000, 45_000), (1, 5), (10, 250))
_MESSAGES = Exchange((120, 900), (90, 700), (2, 8), (150, 2_500))
_UPLOAD = Exchange((60_000, 180_000), (200, 400), (1, 1), (100, 300))
_API = Exchange((200, 600), (400, 6_000), (1, 4), (50, 900))

SERVICES: Final = (
    Service("streamly", "video", "cdn7.streamly.example", "198.18.10.10", "2001:db8:ff:a::10",
            9, 16, _VIDEO),
    Service("clipster", "video", "edge.clipster.example", "198.18.10.20", "2001:db8:ff:a::20",
            14, 6, _VIDEO, alpn="h3", quic=True),
    Service("dailynews", "web", "www.dailynews.example", "198.18.20.10", "2001:db8:ff:b::10",
            18, 22, _WEB),
    Service("shopfront", "web", "shop.shopfront.example", "198.18.20.20", None,
            26, 16, _WEB, alpn="http/1.1"),
    Service("oldbank", "web", "login.oldbank.example", "198.18.20.30", None,
            32, 6, _API, alpn="http/1.1", tls_version="1.2"),
    Service("chatter", "messaging", "mqtt.chatter.example", "198.18.30.10", "2001:db8:ff:c::10",
            22, 18, _MESSAGES, server_closes=True),
    Service("photobox", "other", "up.photobox.example", "198.18.40.10", "2001:db8:ff:d::10",
            20, 5, _UPLOAD),
    Service("farapi", "web", "api.farapi.example", "198.18.50.10", None,
            145, 11, _API),
)  # fmt: skip

# What becomes of an errand in normal operation: cards of a deck, so that each fault comes up
# regularly and none by chance alone.
FAULT_DECK: Final = (
    *(Fault.NONE for _ in range(140)),
    Fault.CONNECT_REFUSED,
    Fault.CONNECT_TIMEOUT,
    Fault.RESET_BY_SERVER,
    Fault.TLS_UNKNOWN_NAME,
    Fault.TLS_NO_COMMON_CIPHER,
    Fault.TLS_VERSION,
    Fault.DNS_NXDOMAIN,
    Fault.DNS_NXDOMAIN,
    Fault.DNS_SERVFAIL,
    Fault.DNS_TIMEOUT,
)
