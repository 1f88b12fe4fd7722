"""Failures, and what looks like one: real programs, with what a probe is to say of their sessions.

The verdicts are those of the meaning of each cause (docs/record.md and the portal's causes), as an
engineer with both ends' logs would give them, limited to what a tap between the ends can see.
"""

import ssl
from dataclasses import dataclass

from aioquic.quic.packet import QuicProtocolVersion

from tests.system.laboratory import IcmpError, Link, Outage, Reset, Rule, Trigger, clients, servers
from tests.system.laboratory.clients import (
    Client,
    curl,
    datagrams,
    in_turn,
    knock,
    look_up,
    pause,
    preconnect_tls,
    together,
)
from tests.system.laboratory.servers import Server, deaf_udp, resolver
from tests.system.laboratory.site import NAME, WEB, Site
from tests.system.laboratory.steps import (
    finish,
    half_of,
    page,
    read,
    read_page,
    read_request,
    read_to_end,
    request,
    reset,
    send,
    wait,
)

Sides = tuple[str | None, ...]
EITHER_END: Sides = ("device", "server", None)
"""The evidence does not say which end is the older or the stricter one."""
BEYOND: Sides = ("server", "network")
"""Behind the tap, on the far side from the client."""


@dataclass(frozen=True)
class Verdict:
    """What is to be said of the sessions to one port; of each of them, if there are several."""

    cause: str
    stage: str | None = None
    sides: Sides = (None,)
    port: int | range = 80
    transport: str = "tcp"
    version: int | None = None
    """Only sessions over this version of IP."""
    scan: bool = False
    """The sessions are to be flagged as parts of a scan."""
    spares: bool = False
    """The program opens spare connections, which it may give up: one session has to show it."""
    excused: bool = False
    """Whether `unknown` is as good as `none`: an attempt in vain that is nobody's failure."""


@dataclass(frozen=True)
class Scenario:
    """Servers, a network and a client, and what the probe is to say of their sessions.

    `network` holds for the client's IPv4 flows and `network_v6` for the others; the first rule that
    matches a flow's port and protocol counts. Sessions that no verdict speaks of are to be `none`.
    """

    name: str
    client: Client
    verdicts: tuple[Verdict, ...]
    servers: tuple[Server, ...] = ()
    network: tuple[Rule, ...] = ()
    network_v6: tuple[Rule, ...] = ()


# ---------------------------------------------------------------------------------- what recurs


def fails(
    cause: str, stage: str, *sides: str | None, port: int = 80, transport: str = "tcp"
) -> Verdict:
    return Verdict(cause, stage, sides, port, transport)


def fine(port: int | range = 80, transport: str = "tcp", **more: int | bool) -> Verdict:
    return Verdict("none", None, (None,), port, transport, **more)  # type: ignore[arg-type]


def excused(port: int | range = 80, transport: str = "tcp", **more: int | bool) -> Verdict:
    """Return the verdict on what was not answered and is no failure: any outcome but failed."""
    return fine(port, transport, excused=True, **more)


def undecided(port: int = 80, transport: str = "tcp") -> Verdict:
    return Verdict("unknown", None, (None,), port, transport)


PLAIN = Link()
DOWN_FOR_EVER = Link(outage=Outage())
alive = curl("http:/")
"""A page from another server: this client can be reached, and the tap sees it."""

ROUTER = "10.2.255.1"
ROUTER_V6 = "fd02::ff01"

get = send(request())
hold = read_to_end
MEGABYTE = 1_000_000


def loses(up: Link = PLAIN, down: Link = PLAIN, **match: object) -> Rule:
    """Return a rule whose links have their faults between the tap and the server."""
    return Rule(server_up=up, server_down=down, **match)  # type: ignore[arg-type]


def answered_by_router(kind: int, code: int, version: int = 4, **match: object) -> Rule:
    """Return a rule by which a router behind the tap answers everything with an ICMP error."""
    source = ROUTER if version == 4 else ROUTER_V6
    error = IcmpError(kind, code, source=source, ttl=61, distance_ms=5)
    return Rule(middleboxes=(error,), **match)  # type: ignore[arg-type]


def meddled(*middleboxes: Reset | IcmpError, **match: object) -> Rule:
    return Rule(middleboxes=middleboxes, **match)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------- connect


def unreachable(name: str, cause: str, kind: int, code: int, version: int = 4) -> Scenario:
    """Return a scenario in which a SYN is answered by a router."""
    rules = (answered_by_router(kind, code, version, port=8080),)
    return Scenario(
        name,
        in_turn(alive, clients.tcp(get, hold, port=8080, version=version)),
        (fails(cause, "connect", "network", port=8080),),
        **{"network" if version == 4 else "network_v6": rules},  # type: ignore[arg-type]
    )


CONNECT = (
    Scenario(
        "SYNs vanish while the client is served by others",
        in_turn(alive, clients.tcp(port=8080, patience_s=12), pause(2), alive),
        (fails("connect_timeout", "connect", *BEYOND, port=8080),),
        network=(loses(up=DOWN_FOR_EVER, port=8080),),
    ),
    Scenario(
        "SYN-ACKs vanish before they reach the tap",
        in_turn(alive, clients.tcp(port=8080, patience_s=12)),
        (fails("connect_timeout", "connect", *BEYOND, port=8080),),
        servers=(servers.tcp(hold, port=8080),),
        network=(loses(down=DOWN_FOR_EVER, port=8080),),
    ),
    Scenario(
        "three servers of one client are dead, which is no scan",
        in_turn(alive, knock(range(8080, 8081), range(10, 13), patience_s=8)),
        (fails("connect_timeout", "connect", *BEYOND, port=8080),),
        network=(loses(up=DOWN_FOR_EVER, port=8080),),
    ),
    Scenario(
        "SYNs vanish and nothing ever comes to this client",
        clients.tcp(port=8080, patience_s=12),
        (undecided(8080),),
        network=(loses(up=DOWN_FOR_EVER, port=8080),),
    ),
    Scenario(
        "nothing listens on the port",
        in_turn(alive, clients.tcp(port=8080)),
        (fails("connect_refused", "connect", "server", port=8080),),
    ),
    Scenario(
        "nothing listens on the port, over IPv6",
        clients.tcp(port=8080, version=6),
        (fails("connect_refused", "connect", "server", port=8080),),
    ),
    Scenario(
        "a filter resets the SYN, and the server's SYN-ACK comes all the same",
        in_turn(alive, clients.tcp(get, hold, port=8080)),
        (fails("network_injected_reset", "connect", "network", port=8080),),
        servers=(servers.tcp(read_request, send(page()), port=8080),),
        network=(
            meddled(Reset(toward="client", ttl=250), port=8080, server_down=Link(delay_ms=10)),
        ),
    ),
    unreachable("no route to the network", "connect_unreachable", 3, 0),
    unreachable("no such host", "connect_unreachable", 3, 1),
    unreachable("port unreachable, from a firewall", "connect_unreachable", 3, 3),
    unreachable("network administratively prohibited", "connect_prohibited", 3, 9),
    unreachable("host administratively prohibited", "connect_prohibited", 3, 10),
    unreachable("communication administratively prohibited", "connect_prohibited", 3, 13),
    unreachable("no route, over IPv6", "connect_unreachable", 1, 0, version=6),
    unreachable("address unreachable, over IPv6", "connect_unreachable", 1, 3, version=6),
    unreachable("administratively prohibited, over IPv6", "connect_prohibited", 1, 1, version=6),
    Scenario(
        "the SYN is lost twice, then all is well",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(page())),),
        network=(loses(up=Link(lose=(1, 2)), port=80),),
    ),
    Scenario(
        "the SYN-ACK is lost behind the tap, then all is well",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(page())),),
        network=(Rule(client_down=Link(lose=(1,)), port=80),),
    ),
    Scenario(
        "a connection is opened and closed, and nothing is sent",
        clients.tcp(port=8080),
        (fine(8080),),
        servers=(servers.tcp(hold, port=8080),),
    ),
)

# ------------------------------------------------------------------------------------------ dns


def dns(cause: str, stage: str = "dns", transport: str = "udp") -> Verdict:
    return fails(cause, stage, "server", port=53, transport=transport)


DNS = (
    Scenario(
        "the resolver is silent",
        in_turn(alive, look_up(patience_s=3), alive),
        (Verdict("dns_timeout", "dns", BEYOND, 53, "udp"),),
        servers=(deaf_udp(53),),
    ),
    Scenario(
        "queries vanish on the way to the resolver",
        in_turn(alive, look_up(patience_s=3, attempts=3), alive),
        (Verdict("dns_timeout", "dns", BEYOND, 53, "udp"),),
        servers=(resolver(),),
        network=(loses(up=DOWN_FOR_EVER, port=53),),
    ),
    Scenario(
        "the resolver fails",
        look_up(),
        (dns("dns_servfail"),),
        servers=(resolver("SERVFAIL"),),
    ),
    Scenario(
        "the resolver fails after four seconds, and the client has asked again",
        look_up(patience_s=3),
        (dns("dns_servfail"),),
        servers=(resolver("SERVFAIL", delay_s=4),),
    ),
    Scenario(
        "the resolver fails over TCP",
        look_up(over_tcp=True),
        (dns("dns_servfail", transport="tcp"),),
        servers=(resolver("SERVFAIL"),),
    ),
    Scenario(
        "the resolver refuses",
        look_up(),
        (dns("dns_refused"),),
        servers=(resolver("REFUSED"),),
    ),
    Scenario(
        "the name does not exist",
        look_up("nowhere.lab"),
        (fine(53, "udp"),),
        servers=(resolver("NXDOMAIN"),),
    ),
    Scenario(
        "the answer is slow and the client asks twice",
        look_up(patience_s=1.2),
        (fine(53, "udp"),),
        servers=(resolver(delay_s=1.5),),
    ),
    Scenario(
        "the first query is lost",
        look_up(patience_s=1),
        (fine(53, "udp"),),
        servers=(resolver(),),
        network=(loses(up=Link(lose=(1,)), port=53),),
    ),
    Scenario(
        "the answer is too long for UDP and fetched over TCP",
        look_up(),
        (fine(53, "udp"), fine(53, "tcp")),
        servers=(resolver(truncated=True),),
    ),
    Scenario(
        "a name is looked up over TCP",
        look_up(over_tcp=True),
        (fine(53, "tcp"),),
        servers=(resolver(),),
    ),
    Scenario(
        "names are looked up on a host that runs no resolver",
        in_turn(alive, look_up()),
        (Verdict("connect_unreachable", "connect", BEYOND, 53, "udp"),),
    ),
)

# ------------------------------------------------------------------------------------------ tls

OLD = ("-cipher", "DEFAULT@SECLEVEL=0")
"""What OpenSSL 3 needs to speak TLS 1.0 and 1.1."""


def tls(
    name: str,
    server: tuple[str, ...],
    client: tuple[str, ...],
    *verdict: object,
    certificate: str = "good",
    asked_name: str = NAME,
) -> Scenario:
    """Return a scenario of `openssl s_client` and `s_server` with these options.

    `verdict` is a cause and its sides, or nothing where the handshake is to succeed.
    """
    cause, *sides = verdict or ("none", None)
    stage = "tls" if verdict else None
    return Scenario(
        name,
        clients.openssl(*client, name=asked_name),
        (Verdict(str(cause), stage, tuple(sides), 443),),  # type: ignore[arg-type]
        servers=(servers.openssl(*server, certificate=certificate),),
    )


TLS = (
    tls("TLS 1.0", ("-tls1", *OLD), ("-tls1", *OLD)),
    tls("TLS 1.1", ("-tls1_1", *OLD), ("-tls1_1", *OLD)),
    tls("TLS 1.2", ("-tls1_2",), ()),
    tls("TLS 1.2 without session tickets", ("-tls1_2", "-no_ticket"), ()),
    tls("TLS 1.3", (), ()),
    tls("TLS 1.3 with a HelloRetryRequest", ("-groups", "P-384"), ("-groups", "X25519:P-384")),
    tls("a certificate with an elliptic key", (), (), certificate="elliptic"),
    tls(
        "the client speaks TLS 1.0 only, the server no less than 1.2",
        ("-no_tls1", "-no_tls1_1"),
        ("-tls1", *OLD),
        "tls_version_unsupported",
        "device",
    ),
    tls(
        "the client speaks TLS 1.1 only, the server no less than 1.2",
        ("-no_tls1", "-no_tls1_1"),
        ("-tls1_1", *OLD),
        "tls_version_unsupported",
        "device",
    ),
    tls(
        "the client speaks TLS 1.2 only, the server 1.3 only",
        ("-tls1_3",),
        ("-tls1_2",),
        "tls_version_unsupported",
        "device",
        "server",
    ),
    tls(
        "the server speaks TLS 1.0 only, the client no less than 1.2",
        ("-tls1", *OLD),
        ("-no_tls1", "-no_tls1_1"),
        "tls_version_unsupported",
        "server",
    ),
    tls(
        "the server speaks TLS 1.1 only, the client no less than 1.2",
        ("-tls1_1", *OLD),
        ("-no_tls1", "-no_tls1_1"),
        "tls_version_unsupported",
        "server",
    ),
    tls(
        "the server speaks TLS 1.2 only, the client 1.3 only",
        ("-tls1_2",),
        ("-tls1_3",),
        "tls_version_unsupported",
        "server",
    ),
    tls(
        "no cipher in common",
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"),
        "tls_no_common_cipher",
        *EITHER_END,
    ),
    tls(
        "no cipher of TLS 1.3 in common",
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        "tls_no_common_cipher",
        *EITHER_END,
    ),
    tls(
        "no key exchange group in common",
        ("-tls1_3", "-groups", "P-384"),
        ("-tls1_3", "-groups", "X25519"),
        "tls_no_common_cipher",
        *EITHER_END,
    ),
    tls(
        "the server has no certificate",
        ("-nocert", "-tls1_2"),
        ("-tls1_2",),
        "tls_no_common_cipher",
        *EITHER_END,
    ),
    tls(
        "an expired certificate over TLS 1.2",
        ("-tls1_2",),
        (),
        "tls_certificate",
        "server",
        certificate="expired",
    ),
    tls(
        "an unknown authority over TLS 1.2",
        ("-tls1_2",),
        (),
        "tls_certificate",
        "server",
        certificate="untrusted",
    ),
    tls(
        "a certificate for another name over TLS 1.2",
        ("-tls1_2",),
        ("-verify_hostname", NAME),
        "tls_certificate",
        "server",
        certificate="wrong_name",
    ),
    tls(
        "an expired certificate over TLS 1.3, and OpenSSL says so before it encrypts",
        (),
        (),
        "tls_certificate",
        "server",
        certificate="expired",
    ),
    tls(
        "a certificate for another name over TLS 1.3, and OpenSSL says so before it encrypts",
        (),
        ("-verify_hostname", NAME),
        "tls_certificate",
        "server",
        certificate="wrong_name",
    ),
    *(
        Scenario(
            f"a browser is shown a certificate over TLS 1.3: {certificate.replace('_', ' ')}",
            clients.chromium(),
            (Verdict("tls_client_rejected", "tls", ("server",), 443, spares=True),),
            servers=(servers.openssl(certificate=certificate),),
        )
        for certificate in ("expired", "untrusted", "wrong_name")
    ),
    Scenario(
        "a page by a browser over TLS 1.3",
        clients.chromium(host=WEB, trusting=True),
        (excused(443),),
    ),
    *(
        Scenario(
            f"a TLS 1.{minor} session is resumed",
            in_turn(
                clients.openssl("-sess_out", "{site.directory}/session"),
                clients.openssl("-sess_in", "{site.directory}/session"),
            ),
            (fine(443),),
            servers=(servers.openssl(f"-tls1_{minor}"),),
        )
        for minor in (2, 3)
    ),
    Scenario(
        "curl does not trust the authority, over TLS 1.2",
        curl("https:/", host=0, options=("--tls-max", "1.2")),
        (fails("tls_certificate", "tls", "server", port=443),),
        servers=(servers.openssl(certificate="untrusted"),),
    ),
    tls(
        "the server wants a certificate from the client, over TLS 1.2",
        ("-tls1_2", "-Verify", "1", "-verify_return_error"),
        ("-tls1_2",),
        "tls_other_alert",
        "device",
        "server",
    ),
    tls(
        "no application protocol in common",
        ("-alpn", "h2"),
        ("-alpn", "http/1.1"),
        "tls_other_alert",
        *EITHER_END,
    ),
    tls(
        "openssl does not know the name",
        (
            "-servername",
            "known.lab",
            "-servername_fatal",
            "-cert2",
            "{site.secrets}/good.pem",
            "-key2",
            "{site.secrets}/good.key",
        ),
        (),
        "tls_unknown_name",
        "server",
        asked_name="elsewhere.lab",
    ),
    Scenario(
        "nginx does not know the name",
        curl("https://elsewhere.lab:8443/"),
        (fails("tls_unknown_name", "tls", "server", port=8443),),
    ),
    Scenario(
        "nginx knows the name",
        curl("https::8443/"),
        (fine(8443),),
    ),
    Scenario(
        "a page by curl from nginx over TLS 1.2",
        curl("https:/", "https:/", options=("--tls-max", "1.2")),
        (fine(443),),
    ),
    Scenario(
        "a server error within TLS, which nobody on the way can see",
        curl("https:/status/500"),
        (fine(443),),
    ),
    Scenario(
        "the ClientHello is never answered",
        clients.openssl(),
        (fails("tls_timeout", "tls", "server", "network", None, port=443),),
        servers=(servers.tcp(hold, port=443),),
    ),
    Scenario(
        "the client gives up waiting for a ServerHello after 15 s",
        curl("https:/", host=0, max_s=15),
        (fails("tls_timeout", "tls", "server", "network", None, port=443),),
        servers=(servers.tcp(hold, port=443),),
    ),
    Scenario(
        "the server resets upon the ClientHello",
        clients.openssl(),
        (fails("tls_reset", "tls", "server", port=443),),
        servers=(servers.tcp(read(100), reset, port=443),),
    ),
    Scenario(
        "a filter resets both ends when it reads the server name",
        curl("https://blocked.lab/"),
        (fails("network_injected_reset", "tls", "network", port=443),),
        network=(
            meddled(Reset(Trigger(contains=b"blocked.lab"), ttl=47, distance_ms=3), port=443),
        ),
    ),
    Scenario(
        "a filter swallows the ClientHello and resets the client",
        curl("https://blocked.lab/"),
        (fails("network_injected_reset", "tls", "network", port=443),),
        network=(
            meddled(
                Reset(Trigger(contains=b"blocked.lab"), toward="client", ttl=120, drop=True),
                port=443,
            ),
        ),
    ),
    Scenario(
        "a TLS connection that is made ahead of use and never used",
        preconnect_tls(8),
        (fine(443),),
    ),
    Scenario(
        "the same over TLS 1.2, closed after two seconds",
        preconnect_tls(2, ssl.TLSVersion.TLSv1_2),
        (fine(443),),
    ),
    Scenario(
        "plain HTTP to a port for TLS",
        clients.tcp(get, hold, port=443, host=WEB),
        (fails("http_client_error", "request", *EITHER_END, port=443),),
    ),
)

# ----------------------------------------------------------------------------------------- quic


QUIC_OK = fine(443, "udp")


def quic_fails(cause: str, stage: str, *sides: str | None) -> Verdict:
    return fails(cause, stage, *sides, port=443, transport="udp")


V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2

QUIC = (
    Scenario("QUIC", clients.quic(pages=3), (QUIC_OK,), servers=(servers.quic(),)),
    Scenario("QUIC with a Retry", clients.quic(), (QUIC_OK,), servers=(servers.quic(retry=True),)),
    Scenario(
        "QUIC whose first flight is lost",
        clients.quic(),
        (QUIC_OK,),
        servers=(servers.quic(),),
        network=(loses(up=Link(lose=(1,)), down=Link(lose=(1, 2)), port=443),),
    ),
    Scenario(
        "QUIC version 2",
        clients.quic(original_version=V2, supported_versions=[V2]),
        (QUIC_OK,),
        servers=(servers.quic(),),
    ),
    Scenario(
        "QUIC that agrees on another version at the second try",
        clients.quic(original_version=V2, supported_versions=[V2, V1]),
        (QUIC_OK,),
        servers=(servers.quic(supported_versions=[V1]),),
    ),
    Scenario(
        "QUIC behind an address translation that forgets",
        clients.quic(nat=True, pages=4),
        (QUIC_OK,),
        servers=(servers.quic(),),
    ),
    Scenario(
        "no version of QUIC in common",
        clients.quic(original_version=V1, supported_versions=[V1]),
        (quic_fails("quic_version_mismatch", "connect", *EITHER_END),),
        servers=(servers.quic(supported_versions=[V2]),),
    ),
    Scenario(
        "QUIC is dropped on the way, TCP to the same server works",
        in_turn(clients.quic(patience_s=4), clients.openssl()),
        (quic_fails("quic_blocked", "connect", "network"), fine(443)),
        servers=(servers.quic(), servers.openssl()),
        network=(loses(up=DOWN_FOR_EVER, port=443, protocol="udp"),),
    ),
    Scenario(
        "QUIC is never answered, and TCP to that server is not tried",
        in_turn(alive, clients.quic(patience_s=6)),
        (quic_fails("quic_timeout", "connect", "server", "network", None),),
        servers=(deaf_udp(443),),
    ),
    Scenario(
        "QUIC to a host that does not speak it, which says so",
        in_turn(alive, clients.quic(patience_s=4)),
        (quic_fails("connect_unreachable", "connect", *BEYOND),),
    ),
    Scenario(
        "QUIC is prohibited by a router",
        in_turn(alive, clients.quic(patience_s=4)),
        (quic_fails("connect_prohibited", "connect", "network"),),
        network=(answered_by_router(3, 13, port=443, protocol="udp"),),
    ),
    Scenario(
        "no application protocol in common over QUIC",
        clients.quic(alpn_protocols=["hq-interop"]),
        (quic_fails("tls_other_alert", "tls", *EITHER_END),),
        servers=(servers.quic(),),
    ),
    Scenario(
        "an expired certificate over QUIC, and the client says why where nobody can read it",
        clients.quic(),
        (undecided(443, "udp"),),
        servers=(servers.quic(certificate="expired"),),
    ),
    Scenario(
        "QUIC is slow, TCP wins the race and QUIC is closed before it was up",
        together(clients.quic(give_up_s=0.6), clients.openssl(), apart_s=0.2),
        (excused(443, "udp"), fine(443)),
        servers=(servers.quic(), servers.openssl()),
        network=(loses(up=Link(delay_ms=500), port=443, protocol="udp"),),
    ),
    Scenario(
        "QUIC wins the race and the TCP connection is closed unused",
        together(clients.quic(), clients.tcp(port=443), apart_s=0.05),
        (QUIC_OK, fine(443)),
        servers=(servers.quic(), servers.openssl()),
    ),
    Scenario(
        "QUIC wins the race and a TCP that was never answered is given up",
        together(clients.quic(), clients.tcp(port=443, patience_s=2), apart_s=0.05),
        (QUIC_OK, excused(443)),
        servers=(servers.quic(),),
        network=(loses(up=DOWN_FOR_EVER, port=443, protocol="tcp"),),
    ),
)

# -------------------------------------------------------------------------------------- request


def status(name: str, *urls: str, cause: str = "none", options: tuple[str, ...] = ()) -> Scenario:
    """Return a scenario of curl and nginx, over one connection, that fails by a status or not."""
    sides = ("server",) if cause == "http_server_error" else EITHER_END
    verdict = fine() if cause == "none" else fails(cause, "request", *sides)
    return Scenario(name, curl(*urls, options=options), (verdict,))


SERVER_ERROR, CLIENT_ERROR = "http_server_error", "http_client_error"
POSTED = ("--data-binary", "@{site.secrets}/large")
UNREADABLE_HEADER = ("--header", "Host: a b")

REQUEST = (
    status("500", "http:/status/500", cause=SERVER_ERROR),
    status("502 from a gateway without a backend", "http:/no-backend", cause=SERVER_ERROR),
    status(
        "503 from a server that is overloaded",
        "http:/overloaded",
        "http:/overloaded",
        cause=SERVER_ERROR,
    ),
    status("504 from a gateway whose backend is mute", "http:/mute-backend", cause=SERVER_ERROR),
    status(
        "503 as the third of four answers",
        "http:/",
        "http:/medium",
        "http:/status/503",
        "http:/",
        cause=SERVER_ERROR,
    ),
    status(
        "400 for a request that nobody can read",
        "http:/",
        cause=CLIENT_ERROR,
        options=UNREADABLE_HEADER,
    ),
    status("413 for too much of a body", "http:/", cause=CLIENT_ERROR, options=POSTED),
    status("429 for one request too many", "http:/busy", "http:/busy", cause=CLIENT_ERROR),
    status("401", "http:/members"),
    status("403", "http:/status/403"),
    status("404", "http:/does-not-exist", "http:/"),
    status("302, 204 and a HEAD", "http:/moved", "http:/nothing"),
    status("many pages over one connection", *["http:/"] * 8),
    Scenario(
        "500 by a server of HTTP/1.0, which closes at once",
        clients.tcp(get, hold),
        (fails(SERVER_ERROR, "request", "server"),),
        servers=(servers.tcp(read_request, send(b"HTTP/1.0 500 Sorry\r\n\r\nSorry.\n")),),
    ),
    Scenario(
        "408 for a request of which half never comes",
        clients.tcp(send(half_of(request())), hold),
        (fails(CLIENT_ERROR, "request", *EITHER_END),),
        servers=(
            servers.tcp(read(len(request()) // 2), wait(5), send(page(20, "408 Request Timeout"))),
        ),
    ),
    Scenario(
        "503 as the second of two pipelined answers",
        clients.tcp(send(request() * 2), read_page, read_page),
        (fails(SERVER_ERROR, "request", "server"),),
        servers=(
            servers.tcp(read_request, send(page() + page(20, "503 Service Unavailable")), hold),
        ),
    ),
    Scenario(
        "a request is never answered and the client waits on",
        clients.tcp(get, hold),
        (fails("request_timeout", "request", "server"),),
        servers=(servers.tcp(read_request, hold),),
    ),
    Scenario(
        "a request is never answered and the client gives up after 14 s",
        curl("http:/", host=0, max_s=14),
        (fails("request_timeout", "request", "server"),),
        servers=(servers.tcp(read_request, hold),),
    ),
    Scenario(
        "the second request of a connection is never answered",
        curl("http:/", "http:/", host=0, max_s=16),
        (fails("request_timeout", "request", "server"),),
        servers=(servers.tcp(read_request, send(page()), read_request, hold),),
    ),
    Scenario(
        "the first byte takes three seconds",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, wait(3), send(page())),),
    ),
    Scenario(
        "a long poll is answered after 14 s",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, wait(14), send(page(20))),),
    ),
    Scenario(
        "a request in two halves, two seconds apart",
        clients.tcp(
            send(half_of(request())), wait(2), send(request()[len(request()) // 2 :]), read_page
        ),
        (fine(),),
        servers=(servers.tcp(read_request, send(page())),),
    ),
)

# ------------------------------------------------------------------------------------- transfer

PAGE = page(MEGABYTE)
serves_half_and = (read_request, send(half_of(PAGE)), wait(1))

TRANSFER = (
    Scenario(
        "the server crashes in the middle of a download",
        clients.tcp(get, read_page),
        (fails("reset_by_server", "transfer", "server"),),
        servers=(servers.tcp(*serves_half_and, reset),),
    ),
    Scenario(
        "the server crashes with a download in flight",
        clients.tcp(get, read_page),
        (fails("reset_by_server", "transfer", "server"),),
        servers=(servers.tcp(read_request, send(PAGE), reset, buffer=30_000),),
    ),
    Scenario(
        "nginx closes without a word upon a request",
        curl("http:/no-answer"),
        (fails("reset_by_server", "transfer", "server"),),
    ),
    Scenario(
        "the server crashes upon a request",
        clients.tcp(get, hold),
        (fails("reset_by_server", "transfer", "server"),),
        servers=(servers.tcp(read_request, wait(0.5), reset),),
    ),
    Scenario(
        "the server crashes upon the second request of a connection",
        clients.tcp(get, read_page, get, hold),
        (fails("reset_by_server", "transfer", "server"),),
        servers=(servers.tcp(read_request, send(page()), read_request, reset),),
    ),
    Scenario(
        "a protocol unknown to the probe is reset with a question open",
        clients.tcp(send(b"\x01question"), read(7), send(b"\x02question"), hold, port=7000),
        (fails("reset_by_server", "transfer", "server", port=7000),),
        servers=(servers.tcp(read(9), send(b"\x01answer"), read(9), wait(0.3), reset, port=7000),),
    ),
    Scenario(
        "the server stops in the middle of a download",
        clients.tcp(get, read_page),
        (fails("transfer_stalled", "transfer", *BEYOND),),
        servers=(servers.tcp(*serves_half_and, hold),),
    ),
    Scenario(
        "the path from the server breaks in the middle of a download",
        clients.tcp(get, read_page),
        (fails("transfer_stalled", "transfer", *BEYOND),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(loses(down=Link(outage=Outage(after_bytes=300_000)), port=80),),
    ),
    Scenario(
        "the client loses its network in the middle of a download",
        clients.tcp(get, read_page),
        (fails("retransmission_timeout", "transfer", "access"),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(Rule(client_down=Link(outage=Outage(after_bytes=300_000)), port=80),),
    ),
    Scenario(
        "the client loses its network in the middle of a download from nginx",
        curl("http:/large", max_s=60),
        (fails("retransmission_timeout", "transfer", "access"),),
        network=(Rule(client_down=Link(outage=Outage(after_bytes=900_000)), port=80),),
    ),
    Scenario(
        "the path to the server breaks in the middle of an upload",
        clients.tcp(send(request("/", "POST", bytes(MEGABYTE))), hold),
        (fails("retransmission_timeout", "transfer", *BEYOND, None),),
        servers=(servers.tcp(hold),),
        network=(loses(up=Link(outage=Outage(after_bytes=300_000)), port=80),),
    ),
    Scenario(
        "an app gives up with a reset when its download has stood still for 12 s",
        clients.tcp(get, read(250_000), wait(12), reset),
        (fails("reset_by_client", "transfer", "access", "device"),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(Rule(client_down=Link(outage=Outage(after_bytes=300_000)), port=80),),
    ),
    Scenario(
        "a filter resets both ends in the middle of a download",
        clients.tcp(get, read_page),
        (fails("network_injected_reset", "transfer", "network"),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(meddled(Reset(Trigger("down", data=100), ttl=251, distance_ms=4), port=80),),
    ),
    Scenario(
        "a filter resets the client for what it reads in a request",
        clients.tcp(send(request("/forbidden")), hold),
        (fails("network_injected_reset", "transfer", "network"),),
        servers=(servers.tcp(read_request, wait(0.5), send(page()), hold),),
        network=(
            meddled(Reset(Trigger(contains=b"/forbidden"), toward="client", ttl=33), port=80),
        ),
    ),
    Scenario(
        "a filter guesses the sequence number with three resets, of which one fits",
        clients.tcp(send(request("/forbidden")), hold),
        (fails("network_injected_reset", "transfer", "network"),),
        servers=(servers.tcp(read_request, wait(0.5), send(page()), hold),),
        network=(
            meddled(
                *(
                    Reset(Trigger(contains=b"/forbidden"), "client", sequence_offset=offset)
                    for offset in (0, 1460, 4380)
                ),
                port=80,
            ),
        ),
    ),
    Scenario(
        "a forged reset misses its mark, and the download goes on to its end",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(
            meddled(
                Reset(Trigger("down", data=100), "client", ttl=251, sequence_offset=-900_000),
                port=80,
            ),
        ),
    ),
    Scenario(
        "a customer leaves in the middle of a download",
        clients.tcp(get, read(200_000)),
        (fine(),),
        servers=(servers.tcp(read_request, send(page(5 * MEGABYTE)), hold),),
        network=(Rule(client_down=Link(rate_mbit=4), port=80),),
    ),
    Scenario(
        "a customer leaves a slow download from nginx by closing curl",
        curl("http:/slowly", max_s=4),
        (fine(),),
    ),
    Scenario(
        "a customer leaves before the answer",
        clients.tcp(get, wait(1)),
        (fine(),),
        servers=(servers.tcp(read_request, wait(3), send(page())),),
    ),
    Scenario(
        "a customer leaves before the answer, with a reset",
        clients.tcp(get, wait(1), reset),
        (fine(),),
        servers=(servers.tcp(read_request, wait(3), send(page())),),
    ),
    Scenario(
        "a customer cancels an upload that goes well",
        clients.tcp(send(request("/", "POST", bytes(MEGABYTE))[:400_000]), wait(0.1), reset),
        (fine(),),
        servers=(servers.tcp(hold),),
    ),
    Scenario(
        "an upload by curl is ended by its user",
        curl("http:/", host=0, max_s=3, options=("--limit-rate", "100k", *POSTED)),
        (fine(),),
        servers=(servers.tcp(hold),),
    ),
    Scenario(
        "the client resets when it has all, rather than to close",
        clients.tcp(get, read_page, reset),
        (fine(),),
        servers=(servers.tcp(read_request, send(page(50_000)), hold),),
    ),
    Scenario(
        "the server resets after its FIN, when the client is done too",
        clients.tcp(get, hold, wait(0.5)),
        (fine(),),
        servers=(servers.tcp(read_request, send(page()), finish, wait(1), reset),),
    ),
    Scenario(
        "the server resets an idle connection after five seconds",
        clients.tcp(get, read_page, wait(8)),
        (fine(),),
        servers=(servers.tcp(read_request, send(page()), wait(5), reset),),
    ),
    Scenario(
        "a connection stands open and idle after its page",
        clients.tcp(get, read_page, hold),
        (fine(),),
        servers=(servers.tcp(read_request, send(page()), hold),),
    ),
    Scenario(
        "a slow reader closes its window for twelve seconds and then reads on",
        clients.tcp(get, wait(12), read_page, buffer=20_000),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
    ),
    Scenario(
        "a download over a lossy path",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(Rule(client_down=Link(loss=0.02), server_down=Link(loss=0.01), port=80),),
    ),
    Scenario(
        "a download with two seconds without coverage",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(Rule(client_down=Link(outage=Outage(after_bytes=300_000, seconds=2)), port=80),),
    ),
    Scenario(
        "a router calls an open connection unreachable once, which goes on",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(
            meddled(IcmpError(3, 1, on=Trigger(packet=20), source=ROUTER, drop=False), port=80),
        ),
    ),
    Scenario(
        "a router wants smaller packets",
        clients.tcp(get, read_page),
        (fine(),),
        servers=(servers.tcp(read_request, send(PAGE), hold),),
        network=(
            meddled(IcmpError(3, 4, on=Trigger("down", data=5), mtu=1300, place="client"), port=80),
        ),
    ),
)

# ------------------------------------------------------------------------------ races and others


def race(name: str, v6: Link, *verdicts: Verdict) -> Scenario:
    """Return curl's race between IPv4 and an IPv6 with that link to the server."""
    return Scenario(
        name,
        in_turn(look_up(), _by_either_version),
        verdicts,
        servers=(resolver(),),
        network_v6=(loses(up=v6, port=443),),
    )


def _by_either_version(site: Site) -> None:
    addresses = f"{NAME}:443:[{site.server(WEB, 6)}],{site.server(WEB)}"
    curl("https:/", options=("--resolve", addresses))(site)


WON_BY_IPV4 = (excused(443, version=6), fine(443, version=4))


OTHERS = (
    race("IPv6 is dead and IPv4 wins the race", DOWN_FOR_EVER, *WON_BY_IPV4),
    race("IPv6 is slow, IPv4 wins the race", Link(delay_ms=400), *WON_BY_IPV4),
    race("IPv6 wins the race", PLAIN, fine(443, version=6)),
    Scenario(
        "a connection is made ahead of use and never used",
        clients.tcp(wait(9)),
        (fine(),),
        servers=(servers.tcp(hold),),
    ),
    Scenario(
        "a connection made ahead of use is reset by the server",
        clients.tcp(wait(9)),
        (fine(),),
        servers=(servers.tcp(wait(4), reset),),
    ),
    Scenario(
        "a connection made ahead of use is closed by the server with a 408",
        clients.tcp(wait(9)),
        (fine(),),
        servers=(servers.tcp(wait(5), send(page(20, "408 Request Timeout"))),),
    ),
    Scenario(
        "a scan of fifty ports, all refused",
        in_turn(alive, knock(range(2000, 2050), range(1))),
        (excused(range(2000, 2050), scan=True),),
    ),
    Scenario(
        "a scan of fifty addresses, none answers",
        in_turn(alive, knock(range(2323, 2324), range(10, 60))),
        (excused(2323, scan=True),),
        network=(loses(up=DOWN_FOR_EVER, port=2323),),
    ),
    Scenario(
        "only one direction is mirrored: up",
        clients.tcp(get, read_page),
        (undecided(),),
        servers=(servers.tcp(read_request, send(page()), hold),),
        network=(Rule(mirror="up"),),
    ),
    Scenario(
        "only one direction is mirrored: down",
        clients.tcp(get, read_page),
        (undecided(),),
        servers=(servers.tcp(read_request, send(page()), hold),),
        network=(Rule(mirror="down"),),
    ),
    Scenario(
        "DNS of which only the questions are mirrored",
        look_up(),
        (undecided(53, "udp"),),
        servers=(resolver(),),
        network=(Rule(mirror="up"),),
    ),
    Scenario(
        "datagrams that nobody has to answer",
        in_turn(alive, datagrams(20, port=5140)),
        (undecided(5140, "udp"),),
        servers=(deaf_udp(5140),),
    ),
    Scenario(
        "a server that speaks first, then a dialogue",
        clients.tcp(read(9), send(b"HELO lab\r\n"), read(9), send(b"QUIT\r\n"), hold, port=25),
        (fine(25),),
        servers=(
            servers.tcp(send(b"220 lab\r\n"), read(10), send(b"250 lab\r\n"), read(6), port=25),
        ),
    ),
)

SCENARIOS = (*CONNECT, *DNS, *TLS, *QUIC, *REQUEST, *TRANSFER, *OTHERS)
