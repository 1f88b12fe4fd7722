"""What the collector tells of tunnels: by path, and summed over cells."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.store import Store, StoreOptions
from tests.collector.query.conftest import NOW, SERVICES, START, Api, Row, entry, serve

GNB, UPF = "10.8.0.1", "10.9.0.1"
NO_RTT = {"min": None, "mean": None, "max": None, "samples": 0}


def told(source: str, destination: str, **counts: Any) -> Row:
    """Return a path's entry as a probe ships it."""
    quiet = {f"{name}_{bound}_us": None for name in ("rtt", "n3_rtt") for bound in ("min", "max")}
    return {"capture_point": "n3", "source": source, "destination": destination, **quiet, **counts}


ENTRIES = (
    [
        told(UPF, GNB, echo_requests=2, echo_responses=1, echo_unanswered=1, rtt_min_us=900,
             rtt_max_us=900, rtt_sum_us=900, rtt_samples=1, tunnel_packets=90, tunnel_missing=12,
             tunnel_late=2),
        told(GNB, UPF, error_indications=3),
    ],
    [
        told(UPF, GNB, echo_requests=1, echo_responses=1, rtt_min_us=1500, rtt_max_us=1500,
             rtt_sum_us=1500, rtt_samples=1, n3_rtt_min_us=700, n3_rtt_max_us=900,
             n3_rtt_sum_us=1600, n3_rtt_samples=2),
        # Nothing that a probe says of these: neither numbers nor a shape of their own.
        {"source": UPF, "echo_requests": "many", "rtt_min_us": -5},
    ],
)  # fmt: skip


def record(number: int, **measured: Any) -> Row:
    moment = "2026-11-18T10:00:00.000000000Z"
    return {
        "session_id": f"{number:016x}", "record_kind": "final", "interval_index": 0,
        "capture_point": "n3", "transport": "udp", "flags": [], "cell_id": "001-01-0000001",
        "flow_start_time": moment, "start_time": moment, "end_time": moment, **measured,
    }  # fmt: skip


ROWS = [
    record(1, tunnel_packets_up=80, tunnel_missing_up=25, tunnel_late_up=0,
           ran_delay_down_histogram={"107": 60}, ran_delay_down_samples=60),
    # Late by so much that another interval tells of it.
    record(2, tunnel_packets_up=10, tunnel_missing_up=0, tunnel_late_up=15),
    record(3),
]  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    store = Store.open(StoreOptions(path=tmp_path / "store"), SERVICES.classify)
    for sequence, paths in enumerate(ENTRIES, start=1):
        rows = ROWS if sequence == 1 else []
        await store.insert([entry(rows, sequence, paths=paths)], f"batch-{sequence}")
    api, client = await serve(store, lambda: NOW)
    yield api
    await client.close()
    await store.close()


async def test_a_path_tells_of_its_echoes_and_of_what_was_lost_on_it(api: Api) -> None:
    answer = await api.ask("/paths", capture_point="n3")
    up, down = answer["data"]
    assert (up["source"], up["destination"], up["error_indications"]) == (GNB, UPF, 3)
    assert (up["echo_rtt_us"], up["n3_rtt_us"], up["tunnel_loss"]) == (NO_RTT, NO_RTT, None)
    counts = [down[f"echo_{what}"] for what in ("requests", "responses", "unanswered")]
    assert counts == [3, 2, 1]
    assert down["echo_rtt_us"] == {"min": 900, "mean": 1200, "max": 1500, "samples": 2}
    assert down["n3_rtt_us"] == {"min": 700, "mean": 800, "max": 900, "samples": 2}
    assert [down[f"tunnel_{what}"] for what in ("packets", "missing", "late")] == [90, 12, 2]
    assert down["tunnel_loss"] == pytest.approx(0.1)


async def test_paths_are_found_by_either_end_and_by_time(api: Api) -> None:
    assert len((await api.ask("/paths", end=GNB))["data"]) == 2
    assert len((await api.ask("/paths", source=GNB))["data"]) == 1
    assert (await api.ask("/paths", probe_id="nobody"))["data"] == []
    assert (await api.ask("/paths", to=START // 10**9))["data"] == []
    first = await api.ask("/paths", limit=1)
    rest = await api.ask("/paths", limit=100, cursor=first["next_cursor"])
    assert len(first["data"] + rest["data"]) == 3


async def test_an_entry_without_numbers_counts_nothing(api: Api) -> None:
    (odd,) = (await api.ask("/paths", capture_point=""))["data"]
    assert (odd["source"], odd["destination"]) == (UPF, "")
    assert (odd["echo_requests"], odd["echo_rtt_us"]) == (0, NO_RTT)


async def test_what_tunnels_lost_is_summed_over_a_cell(api: Api) -> None:
    cell = (await api.ask("/cells/001-01-0000001"))["data"]
    assert [cell[f"tunnel_{what}_up"] for what in ("packets", "missing", "late")] == [90, 25, 15]
    assert cell["tunnel_loss_up"] == pytest.approx(0.1)
    assert cell["tunnel_loss_down"] is None
    assert cell["ran_delay_down_us"]["samples"] == 60
    assert cell["ran_delay_down_us"]["p50"] == pytest.approx(9_500, rel=0.03)
    assert cell["ran_delay_up_us"]["samples"] == 0
