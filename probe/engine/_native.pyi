"""Types of the native engine, `probe.engine._native` (Rust, behind PyO3)."""

from typing import final

__all__ = [
    "Engine",
    "EngineError",
    "become_user",
    "capture_span",
    "drop_capabilities",
    "filter_system_calls",
    "forbid_dumps",
    "schema",
    "table_bytes",
]

class EngineError(Exception):
    """The engine cannot start, or its source cannot be read (on): one line for a person."""

@final
class Engine:
    """One thread per capture, or several; bodies (`probe.record.codec`) come as they are filled.

    `options` is a JSON text:

        {"probe_id": str,
         "captures": [{"capture_point": str,
                       "files": [path, ...]            # in this order of opening, merged by time;
                                                       # "-" is standard input; or
                       "interface": str,               # live, mutually exclusive with "files"
                       "ignore_outgoing": bool,        # live: leave out what this host sends
                       "ring_bytes": int,              # live: of each worker; 0: 64 MiB
                       "filter": {"ethernet": program, "raw_ip": program} | null,
                                                       # live: of (code, jt, jf, k), classic BPF
                       "timestamps": "kernel" | "hardware",  # live
                       "time_offset_ns": int,          # added to every packet's time
                       "workers": int}],               # threads that measure flows; of files the
                                                       # bodies are the same for any number
         "active_timeout_s": int,
         "client_address": "full" | "prefix" | "none",
         "batch_rows": int,                            # hand over at this many records ...
         "batch_interval_s": int,                      # ... or at this age, in packet time
         "limits": {"flows": int, "fragments": int, "reassembly_bytes": int, "clients": int,
                    "pairs": int, "names": int, "bearers": int,
                    "copies": int,                      # packets remembered to find a mirror's
                                                        # copies of them; 0: none are looked for
                    "shedding": "auto" | "nothing" | "content" | "round_trips",
                    "cpu_share_percent": int},          # of one core, for each live capture
         "cpus": [int, ...],                           # that the threads stay on, in turn; []: any
         "drop_capabilities": bool,                    # by the threads, once the sockets are open
         "keep_net_raw": bool,                         # all but this one
         "subscriber_prefixes": [cidr, ...],
         "ran_prefixes": [cidr, ...],                  # outer GTP-U addresses of eNB/gNB
         "attribution": [{"client_prefix": cidr | null, "vlan": int | null, "teid": int | null,
                          "gtpu_address": ip | null,   # of either end of the outer header
                          "subscriber": "imsi:..." | "msisdn:..." | null, "cell_id": str | null,
                          "ran_node_id": str | null, "tracking_area": str | null,
                          "rat": str | null, "apn": str | null}]}

    Each key is required, but for "copies" (65,536), "workers" (1), "ring_bytes", "filter",
    "timestamps", and those from "shedding" to "keep_net_raw" ("auto", 100, [], false); an unknown
    key or a wrong value raises `EngineError`.
    """

    def __new__(cls, options: str, site_key: bytes) -> Engine: ...
    def start(self) -> None:
        """Open the sources (raising `EngineError` where one cannot be opened) and start."""
    def next_body(self, timeout_s: float) -> bytes | None:
        """Wait, without the GIL, for the next body; None after `timeout_s` or when finished.

        Raises `EngineError` once, after all bodies before it, when a source failed.
        """
    def finished(self) -> bool:
        """Say whether all threads have ended and every body has been taken."""
    def stop(self) -> None:
        """Ask the threads to end their flows, hand over what they hold, and finish."""
    def progress(self) -> tuple[int, int] | None:
        """Return (bytes read, bytes in all) of the captures, None where the end is not known."""
    def set_attribution(self, rules: str) -> None:
        """Replace the attribution map by the JSON list `rules` (the option `attribution`).

        Running captures take it over within some thousand packets. Sessions keep what they have
        until they are looked up again. A faulty list raises `EngineError` and changes nothing.
        """
    def save_bearers(self) -> bytes:
        """Return what is known of the mobile network's sessions, sealed under the site key.

        For `load_bearers` of the next run. Raises `EngineError` while a capture still runs.
        """
    def load_bearers(self, sealed: bytes) -> None:
        """Take in what `save_bearers` gave, before `start`; by capture point.

        What is another version's, another probe's or key's, or damaged raises `EngineError` and
        changes nothing. The first packet's time says what is too old to count: see the counters
        bearers_restored and bearers_outdated.
        """
    def captures(self) -> list[tuple[str, int, str, dict[str, int], str]]:
        """Return (capture point, worker, link, numbers, interface) of each worker of live captures.

        `link` is up, no_carrier, down or gone. The numbers of the interface stand with worker 0:
        offered = received + filtered + dropped_kernel + dropped_nic + unaccounted.
        """
    def counters(self) -> dict[str, int]:
        """Return totals since the start: packets, bytes, flows, records, and drops by reason."""

    def loads(self) -> list[tuple[str, str, int, int]]:
        """Return (capture point, what is shed, percent of the ring that waits, lag in ns).

        One entry for each thread; files have no ring, and shed what the options say.
        """
    def take_load_steps(self) -> list[tuple[str, int, str, str, str, int, int]]:
        """Return the steps of shedding since the last call, at most 64 for each thread.

        (capture point, Unix ns, shed before, shed now, why, percent of the ring, lag in ns)
        """
    def hold_memory(self, is_short: bool) -> None:
        """While memory is short, tables of flows grow no more: new flows evict others."""

def become_user(name: str, uid: int, gid: int) -> None:
    """Go on as another user, with CAP_NET_RAW alone; for root, before there are threads."""

def drop_capabilities() -> None:
    """Leave the calling thread, and those it starts later, without any capability."""

def filter_system_calls(*, packet_sockets: bool = False) -> None:
    """Let system calls that the probe never makes fail with EPERM, in all threads, for good.

    `packet_sockets`: threads that hold CAP_NET_RAW may still open them.
    """

def table_bytes() -> dict[str, int]:
    """Return about how many bytes one entry takes, by the name of its limit."""

def forbid_dumps() -> None:
    """No core file of this process from now on, and no reading of its memory by its own user."""

def capture_span(paths: list[str]) -> tuple[int, int, int]:
    """Return (first ns, last ns, packets) of capture files, by a walk over their headers."""

def schema() -> list[tuple[str, str, bool]]:
    """Return (name, wire type, nullable) of every column that the engine writes, in order."""
