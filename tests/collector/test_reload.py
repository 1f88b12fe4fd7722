"""SIGHUP: a serving collector reads its identity maps again and loses no request over it."""

import json
import os
import signal
import threading
import time

import pytest

from collector.cli import main

CELL = "001-01-0019B01"
SETTINGS = "open_on_loopback: true\nmaps: {cells: cells.csv}\n"
TIME = "2026-11-18T10:00:00.000000000Z"


def cells(name: str, rows: int = 1) -> str:
    more = "".join(f"001-01-{number:07X},x\n" for number in range(1, rows))
    return f"cell_id,name\n{CELL},{name}\n{more}"


@pytest.fixture
def collector(start_collector, sealed):
    running = start_collector(SETTINGS, **{"cells.csv": cells("Old")})
    times = {"start_time": TIME, "end_time": TIME, "flow_start_time": TIME}
    token = running.token("probe", "edge-1")
    assert running.send(sealed([{"cell_id": CELL, **times}]), token).status == 200
    return running


def name_of(collector) -> str:
    (row,) = collector.ask("/api/v1/cells").json["data"]
    return row["cell_name"]


def reload(collector, content: str, says: str) -> None:
    (collector.directory / "cells.csv").write_text(content)
    before = collector.log.read_text().count(says)
    os.kill(collector.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 30
    while collector.log.read_text().count(says) == before:
        assert time.monotonic() < deadline, collector.log.read_text()
        time.sleep(0.02)


def test_a_reload_changes_names_at_once_and_a_faulty_map_changes_nothing(collector):
    assert name_of(collector) == "Old"
    reload(collector, cells("New"), "maps: reloaded, 1 cells")
    assert name_of(collector) == "New"
    reload(collector, "cell_id,name\nx,a\ny,b\n", "not reloaded")
    log = collector.log.read_text()
    assert "cells.csv:2: [0].cell_id" in log
    assert "cells.csv:3: [1].cell_id" in log
    assert name_of(collector) == "New"
    metrics = collector.ask("/metrics").body.decode()
    assert 'qoe_collector_map_reloads_total{outcome="loaded"} 1.0' in metrics
    assert 'qoe_collector_map_reloads_total{outcome="refused"} 1.0' in metrics


def test_requests_under_way_while_maps_are_read_are_all_answered(collector):
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            answer = collector.ask("/api/v1/cells")
            seen.append((answer.status, json.loads(answer.body)["data"][0]["cell_name"]))

    asking = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in asking:
        thread.start()
    for number in range(3):
        reload(collector, cells(f"New {number}", rows=5000), "maps: reloaded, 5000 cells")
    done.set()
    for thread in asking:
        thread.join()
    assert {status for status, _ in seen} == {200}
    assert {name for _, name in seen} <= {"Old", "New 0", "New 1", "New 2"}
    assert name_of(collector) == "New 2"


def test_check_config_names_every_fault_of_the_maps(tmp_path, capsys):
    for name in ("cells", "devices"):
        (tmp_path / f"{name}.csv").write_text("colour\nred\n")
    config = tmp_path / "collector.yaml"
    config.write_text(
        "store: {engine: chdb, path: store}\nmaps: {cells: cells.csv, devices: devices.csv}\n"
    )
    assert main(["check-config", str(config)]) == 2
    told = capsys.readouterr().err
    assert "cells.csv:1: unknown column 'colour'" in told
    assert "devices.csv:1: unknown column 'colour'" in told
