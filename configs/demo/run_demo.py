"""Run the whole street once: `make run` calls this.

Starts a collector on its embedded store, lets a probe send it simulated traffic (or a capture
given with --pcap, moved to the present), prints the portal's address and a table of cells, and
stays until Ctrl-C. All state is in a temporary directory that goes when this ends.
"""

import argparse
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

DEMO = Path(__file__).resolve().parent
COLLECTOR_PORT, METRICS_PORT = 8642, 8643
READY_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 30
CELLS_SHOWN = 20

console = Console()


class DemoError(Exception):
    """The demonstration cannot go on; the message is for a person."""


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background ignores the former
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps it running
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="edgeqoe-demo-") as directory:
            _run(Path(directory), arguments.pcap, arguments.once)
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Collector and probe on sample traffic.")
    parser.add_argument("--pcap", type=Path, help="capture to replay in place of simulated traffic")
    parser.add_argument("--once", action="store_true", help="end after the table is printed")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(state: Path, pcap: Path | None, once: bool) -> None:
    url = _configure(state, pcap)
    with _collector(state, url):
        _say("token for the probe")
        token = _command(state, "qoe-collector", "token", "create", "--role", "probe",
                         "--name", "demo", "--config", "collector.yaml")  # fmt: skip
        _write_secret(state / "probe.token", token.strip())
        if pcap is None:
            _say("simulating two minutes of a network with a bad cell and a bad subscriber")
            console.print(
                "    " + _command(state, "qoe-probe", "simulate", "demo.pcap").strip(),
                soft_wrap=True,
            )
        _say("probe: measuring and shipping")
        damage = _measure(state)
        _show_cells(url)
        if damage is not None and once:
            raise damage
        console.print(f"\nPortal: {url}/", highlight=False)
        if not once:
            console.print("Ctrl-C ends it.")
            signal.pause()


def _measure(state: Path) -> DemoError | None:
    """Run the probe; what a damaged capture held up to the damage is worth seeing."""
    try:
        _command(state, "qoe-probe", "run", "--config", "probe.yaml")
    except DemoError as error:
        return error
    return None


# --------------------------------------------------------------------------------- preparation


def _configure(state: Path, pcap: Path | None) -> str:
    """Lay out `state` and return the collector's URL."""
    _write_secret(state / "site.key", secrets.token_hex(32))
    services = DEMO / "services.yaml" if pcap is None else DEMO.parent / "services.yaml"
    probe = "probe-simulated.yaml" if pcap is None else "probe-capture.yaml"
    shutil.copy(services, state / "services.yaml")
    shutil.copy(DEMO.parent / "models" / "default.yaml", state / "models.yaml")
    ports = {port: _free_port(port) for port in (COLLECTOR_PORT, METRICS_PORT)}
    for source, name in ((DEMO / "collector.yaml", "collector.yaml"), (DEMO / probe, "probe.yaml")):
        (state / name).write_text(_with_ports(source.read_text(), ports))
    if pcap is not None:
        if not pcap.exists():
            raise DemoError(f"{pcap}: no such file")
        (state / "demo.pcap").symlink_to(pcap.resolve())
    return f"http://127.0.0.1:{ports[COLLECTOR_PORT]}"


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret + "\n")


def _free_port(wanted: int) -> int:
    """Return `wanted`, or another port of the loopback if somebody listens there."""
    for port in (wanted, 0):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(server.getsockname()[1])
    raise DemoError("no port of 127.0.0.1 is free")


def _with_ports(text: str, ports: dict[int, int]) -> str:
    for default, port in ports.items():
        text = text.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
    return text


# ------------------------------------------------------------------------------------ commands


def _say(what: str) -> None:
    console.print(f"[bold]==>[/] {what}", highlight=False)


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _command(state: Path, name: str, *arguments: str) -> str:
    """Run one of our commands to its end and return its standard output."""
    with subprocess.Popen(
        [_program(name), *arguments], cwd=state, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            _stop(process)
            raise
    if process.returncode != 0:
        raise DemoError(f"{name} {arguments[0]} failed with exit code {process.returncode}")
    return output


@contextmanager
def _collector(state: Path, url: str) -> Iterator[None]:
    """Run the collector while the block runs; its log stays in `state`."""
    _say("collector: starting on its embedded store")
    log = state / "collector.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [_program("qoe-collector"), "serve", "--config", "collector.yaml"],
            cwd=state, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        _wait_until_ready(process, url, log)
        yield
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[Any], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text().splitlines()[-20:])
            raise DemoError(f"the collector did not start; its log ends with:\n{last}")
        time.sleep(0.2)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=REQUEST_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _stop(process: subprocess.Popen[Any]) -> None:
    """End a child in order, and by force only if it does not listen."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ------------------------------------------------------------------------------------- answers


def _show_cells(url: str) -> None:
    held = _get(url, "/api/v1/range")
    if held["from"] is None:
        console.print("the capture held no session")
        return
    span = {"from": held["from"], "to": held["to"]}
    cells = _get(url, "/api/v1/cells", **span, limit=CELLS_SHOWN)["data"]
    table = Table(title="Cells, the worst first", title_justify="left")
    table.add_column("cell")
    for name in ("QoE", "sessions", "failed", "RTT to device, median ms", "subscribers"):
        table.add_column(name, justify="right")
    for cell in cells:
        table.add_row(*_cell_texts(cell))
    console.print(table)


def _cell_texts(cell: dict[str, Any]) -> list[str]:
    qoe, median_us = cell["qoe"]["value"], cell["rtt_client_us"]["p50"]
    return [
        cell["cell_id"] or "unknown",
        "too few samples" if qoe is None else f"{qoe:.0f}",
        str(cell["sessions"]),
        str(cell["failures"]),
        "-" if median_us is None else f"{median_us / 1000:.1f}",
        str(cell["subscribers"]),
    ]


def _get(url: str, path: str, **query: object) -> Any:
    address = f"{url}{path}?{urlencode(query)}"
    try:
        with urllib.request.urlopen(address, timeout=REQUEST_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise DemoError(f"GET {path}: {error.code}: {error.read(500).decode()}") from error
    except OSError as error:
        raise DemoError(f"GET {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
