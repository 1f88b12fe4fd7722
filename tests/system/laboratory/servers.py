"""Servers of the laboratory: nginx, openssl, aioquic and dnslib, and plain sockets for ill manners.

A server is a function that is called once with the site, on whose addresses it is ready when the
function returns.
"""

import asyncio
import contextlib
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from tests.system.laboratory.network import Laboratory, enter
from tests.system.laboratory.site import NAME, WEB, Site, wait_until
from tests.system.laboratory.steps import Step, talk

Server = Callable[[Site], None]

# Where nginx finds what stands behind it: nobody, and somebody who never answers.
_NOBODY, _MUTE = "127.0.0.1:9", "127.0.0.1:10"


def tcp(*steps: Step, port: int = 80, host: int = 0, buffer: int | None = None) -> Server:
    """Talk with each that connects; `buffer` bounds how far the server sends ahead, in bytes."""

    def start(site: Site) -> None:
        with site.laboratory.server.entered():
            listener = site.keep(socket.create_server((site.server(host), port), backlog=100))
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        _in_background(_accept, site, listener, talk(*steps))

    return start


def _accept(site: Site, listener: socket.socket, serve_one: Step) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection = site.keep(listener.accept()[0])
            _in_background(serve_one, connection)


def deaf_udp(port: int, host: int = 0) -> Server:
    """Have a UDP port open that nobody reads."""

    def start(site: Site) -> None:
        with site.laboratory.server.entered():
            deaf = site.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        deaf.bind((site.server(host), port))

    return start


def openssl(*options: str, certificate: str = "good", port: int = 443, host: int = 0) -> Server:
    """Run `openssl s_server`, which answers any request with a page about the connection."""

    def start(site: Site) -> None:
        words: list[str | Path] = ["openssl", "s_server", "-www"]
        words += ["-accept", f"{site.server(host)}:{port}"]
        if "-nocert" not in options:
            words += ["-cert", site.secrets / f"{certificate}.pem"]
            words += ["-key", site.secrets / f"{certificate}.key"]
        log = site.directory / f"s_server-{host}-{port}.log"
        with log.open("wb") as output:
            site.laboratory.server.popen(
                [*words, *(option.format(site=site) for option in options)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: b"ACCEPT" in log.read_bytes(), f"s_server {' '.join(options)}")

    return start


class _Answers(BaseResolver):
    """Answers every question in one way."""

    def __init__(self, rcode: str, delay_s: float, truncated: bool) -> None:
        self.rcode = getattr(RCODE, rcode)
        self.delay_s = delay_s
        self.truncated = truncated

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        time.sleep(self.delay_s)
        reply = request.reply()
        reply.header.rcode = self.rcode
        if self.truncated and handler.protocol == "udp":
            reply.header.tc = 1
        elif self.rcode == RCODE.NOERROR and request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("10.2.0.1"), ttl=60))
        return reply


def resolver(
    rcode: str = "NOERROR", delay_s: float = 0.0, truncated: bool = False, host: int = 0
) -> Server:
    """Answer DNS questions over UDP and TCP; `truncated`: over UDP with TC set and no answer."""

    def start(site: Site) -> None:
        answers = _Answers(rcode, delay_s, truncated)
        quiet = DNSLogger(logf=lambda _: None)
        for over_tcp in (False, True):
            with site.laboratory.server.entered():
                server = DNSServer(
                    answers, address=site.server(host), port=53, tcp=over_tcp, logger=quiet
                )
            _serve_until_end(site, server.server)

    return start


def _serve_until_end(site: Site, server: socketserver.BaseServer) -> None:
    def end() -> None:
        server.shutdown()
        server.server_close()

    _in_background(server.serve_forever, 0.05)
    site.at_end(end)


def quic(
    *, retry: bool = False, certificate: str = "good", port: int = 443, **options: Any
) -> Server:
    """Serve QUIC by aioquic: each stream is answered with 20 kB."""

    def start(site: Site) -> None:
        configuration = QuicConfiguration(is_client=False, **({"alpn_protocols": ["h3"]} | options))
        configuration.load_cert_chain(
            site.secrets / f"{certificate}.pem", site.secrets / f"{certificate}.key"
        )
        ready = threading.Event()

        async def run() -> None:
            server = await serve(
                site.server(), port, configuration=configuration, retry=retry, stream_handler=_page
            )
            over, loop = asyncio.Event(), asyncio.get_running_loop()
            site.at_end(lambda: loop.call_soon_threadsafe(over.set))
            ready.set()
            await over.wait()
            server.close()

        def in_server_namespace() -> None:
            enter(site.laboratory.server.name)
            asyncio.run(run())

        _in_background(in_server_namespace)
        wait_until(ready.is_set, "aioquic server")

    return start


def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"x" * 20_000)
    writer.write_eof()


def _in_background(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


# -------------------------------------------------------------------------------------------- nginx


def start_nginx(laboratory: Laboratory, sites: list[Site], secrets: Path) -> None:
    """Serve pages at host `WEB` of every site, ports 80 and 443; `_LOCATIONS` says which."""
    directory = laboratory.directory.resolve() / "nginx"
    root = directory / "root"
    root.mkdir(parents=True)
    (root / "index.html").write_text("<html>" + "x" * 5000)
    (root / "large").write_bytes(bytes(20_000_000))
    (root / "medium").write_bytes(bytes(200_000))
    addresses = [site.server(WEB) for site in sites]
    addresses += [f"[{site.server(WEB, 6)}]" for site in sites]
    (directory / "nginx.conf").write_text(_configuration(directory, addresses, secrets.resolve()))
    with laboratory.server.entered():
        mute = sites[0].keep(socket.create_server(("127.0.0.1", 10), backlog=100))
    mute.listen()
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    words: list[str | Path] = [binary, "-p", directory, "-c", directory / "nginx.conf"]
    with (directory / "output").open("wb") as output:
        laboratory.server.popen(words, stdout=output, stderr=output)
    wait_until((directory / "nginx.pid").exists, "nginx")


def _configuration(directory: Path, addresses: list[str], secrets: Path) -> str:
    plain = "".join(f"    listen {address}:80;\n" for address in addresses)
    secure = "".join(f"    listen {address}:443 ssl;\n" for address in addresses)
    strict = "".join(f"    listen {address}:8443 ssl default_server;\n" for address in addresses)
    certificate = f"""\
    ssl_certificate {secrets}/good.pem;
    ssl_certificate_key {secrets}/good.key;
"""
    return f"""\
daemon off;
worker_processes 1;
user root;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_rlimit_nofile 8192;
# Each address that is listened on takes one of these.
events {{ worker_connections 8000; }}
http {{
access_log off;
client_body_temp_path {directory}/body;
proxy_temp_path {directory}/proxy;
fastcgi_temp_path {directory}/fastcgi;
uwsgi_temp_path {directory}/uwsgi;
scgi_temp_path {directory}/scgi;
keepalive_timeout 4s;
ssl_protocols TLSv1.2 TLSv1.3;
client_max_body_size 10k;
proxy_read_timeout 2s;
limit_req_zone $binary_remote_addr zone=once_a_minute:1m rate=1r/m;
server {{
{plain}{secure}{certificate}{_LOCATIONS}}}
# Knows one name, and refuses the handshake for any other.
server {{
{strict}    ssl_reject_handshake on;
}}
server {{
{strict.replace(" default_server", "")}    server_name {NAME};
{certificate}}}
}}
"""


_LOCATIONS = f"""\
    root root;
    location /status/400 {{ return 400; }}
    location /status/403 {{ return 403; }}
    location /no-answer {{ return 444; }}
    location /status/500 {{ return 500; }}
    location /status/503 {{ return 503; }}
    location /moved {{ return 302 /; }}
    location /nothing {{ return 204; }}
    location /members {{ auth_basic members; auth_basic_user_file /dev/null; }}
    location /busy {{ limit_req zone=once_a_minute; limit_req_status 429; alias root/index.html; }}
    location /overloaded {{ limit_req zone=once_a_minute; alias root/index.html; }}
    location /no-backend {{ proxy_pass http://{_NOBODY}; }}
    location /mute-backend {{ proxy_pass http://{_MUTE}; }}
    location /upload {{ client_max_body_size 100m; proxy_pass http://{_NOBODY}; }}
    location /slowly {{ limit_rate 100k; alias root/large; }}
"""
