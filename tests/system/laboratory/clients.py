"""Clients of the laboratory: curl, openssl, aioquic and dnslib, and plain sockets for ill manners.

A client is a function that is called once with its site, in a thread that is in the client's
namespace, and returns when it is done. What it meets it notes; nothing it meets is an error here.
"""

import asyncio
import contextlib
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from dnslib import RCODE, DNSRecord

from tests.system.laboratory.network import enter
from tests.system.laboratory.site import NAME, WEB, Site
from tests.system.laboratory.steps import Step, talk

Client = Callable[[Site], None]


def together(*clients: Client, apart_s: float = 0.0) -> Client:
    """Run clients at the same time, or one after the other by `apart_s`."""

    def run(site: Site) -> None:
        def inside(client: Client) -> None:
            enter(site.laboratory.client.name)
            client(site)

        threads = [threading.Thread(target=inside, args=[one], daemon=True) for one in clients]
        for thread in threads:
            thread.start()
            time.sleep(apart_s)
        for thread in threads:
            thread.join()

    return run


def in_turn(*clients: Client) -> Client:
    def run(site: Site) -> None:
        for client in clients:
            client(site)

    return run


def pause(seconds: float) -> Client:
    return lambda _: time.sleep(seconds)


def tcp(
    *steps: Step,
    port: int = 80,
    host: int = 0,
    version: int = 4,
    patience_s: float = 8.0,
    buffer: int | None = None,
) -> Client:
    """Connect, and talk; give the connecting up after `patience_s`. `buffer`: SO_RCVBUF, bytes."""

    def run(site: Site) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        connection = site.keep(socket.socket(family, socket.SOCK_STREAM))
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(patience_s)
        try:
            connection.connect((site.server(host, version), port))
        except OSError as error:
            site.note(f"connect: {error}")
            connection.close()
            return
        talk(*steps)(connection)

    return run


def knock(ports: range, hosts: range, patience_s: float = 5.0) -> Client:
    """Try to connect to all these ports of all these hosts at once, as a scanner does."""

    def run(site: Site) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
            for address in ((site.server(host), port) for host in hosts for port in ports):
                attempt = opened.enter_context(socket.socket())
                attempt.setblocking(False)
                attempt.connect_ex(address)
                selector.register(attempt, selectors.EVENT_WRITE)
                time.sleep(0.02)
            time.sleep(patience_s)

    return run


def curl(*urls: str, options: tuple[str, ...] = (), host: int = WEB, max_s: float = 30.0) -> Client:
    """Fetch URLs with curl from that host of the site, whatever name they give it.

    A URL without a host is one of `NAME`: `http:/page`, `https:/page`, `https::8443/page`.
    """
    whole = [url.replace(":", f"://{NAME}", 1) if "//" not in url else url for url in urls]

    def run(site: Site) -> None:
        words = ["curl", "--silent", "--show-error", "--max-time", str(max_s)]
        words += ["--cacert", str(site.secrets / "authority.pem")]
        if "--resolve" not in options:
            words += ["--connect-to", f"::{site.server(host)}:"]
        words += [option.format(site=site) for option in options]
        words += ["--write-out", "%{http_code} "]
        for url in whole:
            words += ["--output", "/dev/null", url]
        _program(site, words)

    return run


def openssl(*options: str, name: str = NAME, port: int = 443, host: int = 0) -> Client:
    """Run `openssl s_client`, which insists on a good certificate and asks for a page."""

    def run(site: Site) -> None:
        words = ["openssl", "s_client", "-connect", f"{site.server(host)}:{port}"]
        words += ["-servername", name, "-CAfile", str(site.secrets / "authority.pem")]
        words += ["-verify", "5", "-verify_return_error", "-ign_eof"]
        words += [option.format(site=site) for option in options]
        _program(site, words, b"GET / HTTP/1.0\r\n\r\n")

    return run


def _program(site: Site, words: list[str], typed: bytes = b"", longest_s: float = 60) -> None:
    """Run a program to its end and note the last line that it says of an error, or its exit."""
    try:
        done = site.laboratory.client.run(words, input=typed, timeout=longest_s)
    except subprocess.TimeoutExpired:
        site.note(f"{words[0]}: ended after {longest_s} s")
        return
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if "rror" in line]
    text = said[-1] if said else done.stdout.decode(errors="replace")[-40:].strip()
    site.note(f"{words[0]} {done.returncode}: {text}")


def preconnect_tls(idle_s: float, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Client:
    """Make a TLS connection to nginx with Python's ssl, and close it unused."""

    def run(site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.secrets / "authority.pem"))
        context.maximum_version = maximum
        try:
            with (
                socket.create_connection((site.server(WEB), 443), 10) as plain,
                context.wrap_socket(plain, server_hostname=NAME) as secure,
            ):
                time.sleep(idle_s)
                site.note(f"unused {secure.version()}")
        except OSError as error:
            site.note(f"BROKEN: {error}")

    return run


def chromium(path: str = "/", host: int = 0, trusting: bool = False) -> Client:
    """Visit a page of `NAME` over TLS with Chromium; `trusting`: whatever its certificate is.

    The window stays open for some seconds, so that all connections come to their own end.
    """

    def run(site: Site) -> None:
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        words += ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
        words += [f"--user-data-dir={site.directory}/chromium", "--remote-debugging-port=0"]
        words += [f"--host-resolver-rules=MAP {NAME} {site.server(host)}, MAP * ~NOTFOUND"]
        words += ["--ignore-certificate-errors"] * trusting
        _program(site, [*words, f"https://{NAME}{path}"], longest_s=10)

    return run


def look_up(
    name: str = "service.lab",
    host: int = 0,
    patience_s: float = 2.0,
    attempts: int = 2,
    over_tcp: bool = False,
) -> Client:
    """Ask for an address as a stub resolver does: repeat over UDP, and go to TCP when told so."""

    def run(site: Site) -> None:
        question = DNSRecord.question(name)
        if not over_tcp:
            answer = _ask_over_udp(site, question, host, patience_s, attempts)
            if answer is None or not answer.header.tc:
                site.note(RCODE[answer.header.rcode] if answer else "no answer")
                return
        with contextlib.suppress(OSError):
            reply = question.send(site.server(host), 53, tcp=True, timeout=10)
            site.note(f"over TCP: {RCODE[DNSRecord.parse(reply).header.rcode]}")

    return run


def _ask_over_udp(
    site: Site, question: DNSRecord, host: int, patience_s: float, attempts: int
) -> DNSRecord | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(patience_s)
        asking.connect((site.server(host), 53))
        for _ in range(attempts):
            try:
                asking.send(question.pack())
                return DNSRecord.parse(asking.recv(4096))
            except TimeoutError:
                continue
            except OSError as error:  # an ICMP error came back
                site.note(str(error))
                return None
    return None


def datagrams(count: int, port: int, apart_s: float = 0.2, size: int = 200) -> Client:
    """Send UDP datagrams, and expect nothing."""

    def run(site: Site) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for number in range(count):
                with contextlib.suppress(OSError):
                    sending.sendto(number.to_bytes(size), (site.server(), port))
                time.sleep(apart_s)

    return run


# --------------------------------------------------------------------------------------------- QUIC


async def _one_page(site: Site, protocol: QuicConnectionProtocol) -> None:
    reader, writer = await protocol.create_stream()
    writer.write(b"GET /\r\n")
    writer.write_eof()
    site.note(f"quic: {len(await asyncio.wait_for(reader.read(), 10))} bytes")


def quic(
    *,
    pages: int = 1,
    patience_s: float = 8.0,
    apart_s: float = 1.0,
    nat: bool = False,
    give_up_s: float = 20.0,
    **options: Any,
) -> Client:
    """Fetch pages by aioquic over one connection. `nat`: behind one that forgets (see `_Nat`).

    aioquic itself gives up after `patience_s` without an answer; `give_up_s` ends the whole visit.
    """

    async def visit(site: Site, address: tuple[str, int]) -> None:
        settings: dict[str, Any] = {"alpn_protocols": ["h3"], "server_name": NAME}
        settings |= {"cafile": str(site.secrets / "authority.pem"), "idle_timeout": patience_s}
        configuration = QuicConfiguration(is_client=True, **(settings | options))
        async with connect(*address, configuration=configuration) as protocol:
            for number in range(pages):
                await asyncio.sleep(apart_s * (number > 0))
                await _one_page(site, protocol)

    async def run_visit(site: Site) -> None:
        address = (site.server(), 443)
        if nat:
            address = await _Nat.start(site, address)
        await visit(site, address)

    def run(site: Site) -> None:
        try:
            asyncio.run(asyncio.wait_for(run_visit(site), give_up_s))
        except (OSError, TimeoutError) as error:
            site.note(f"quic: {type(error).__name__} {error}")

    return run


class _Nat(asyncio.DatagramProtocol):
    """An address translation that gives a flow another port after 1.5 s of its life."""

    def __init__(self, site: Site, server: tuple[str, int]) -> None:
        self.site = site
        self.server = server
        self.inside: Any = None
        self.user: Any = None

    @classmethod
    async def start(cls, site: Site, server: tuple[str, int]) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: cls(site, server), local_addr=(site.client(), 0)
        )
        port: int = transport.get_extra_info("sockname")[1]
        return site.client(), port

    def connection_made(self, transport: Any) -> None:
        self.inside = transport
        loop = asyncio.get_running_loop()
        self.outside = self._new_port()
        loop.call_later(1.5, self._forget)

    def _new_port(self) -> socket.socket:
        outside = self.site.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        outside.setblocking(False)
        outside.connect(self.server)
        asyncio.get_running_loop().add_reader(outside, self._from_server, outside)
        return outside

    def _forget(self) -> None:
        asyncio.get_running_loop().remove_reader(self.outside)
        self.outside.shutdown(socket.SHUT_RD)
        self.outside = self._new_port()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.user = address
        with contextlib.suppress(OSError):
            self.outside.send(data)

    def _from_server(self, outside: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.inside.sendto(outside.recv(65536), self.user)
