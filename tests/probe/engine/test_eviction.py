"""Who gives way in a full table of flows: what nobody would miss, before what is measured."""

from typing import Any

from tests.probe.engine.conftest import Result, Run
from tests.probe.engine.packets import ACK, MINUTE, MS, SECOND, SYN, Capture, Dialogue

FLOWS = 64


def evictions(result: Result) -> dict[str, int]:
    start = "flows_evicted_"
    counters = result.counters.items()
    return {name.removeprefix(start): n for name, n in counters if name.startswith(start) and n}


def by_client(result: Result, client: str) -> list[dict[str, Any]]:
    return [row for row in result.rows if row["client_ip"] == client]


def established(capture: Capture, number: int, time_ns: int) -> Dialogue:
    dialogue = Dialogue(capture, client=f"10.0.0.{number + 1}")
    now = dialogue.open(time_ns)
    dialogue.up(now + MS, ACK, b"request")
    dialogue.down(now + 21 * MS, ACK, b"answer")
    return dialogue


def scan(capture: Capture, start_ns: int, probes: int, apart_ns: int) -> None:
    for number in range(probes):
        target = f"198.51.{number >> 8}.{number & 255}"
        dialogue = Dialogue(capture, client="10.9.9.9", server=target, client_port=50000)
        dialogue.up(start_ns + number * apart_ns, SYN)


def test_a_scan_evicts_itself_and_leaves_sessions_alone(run: Run) -> None:
    capture = Capture()
    dialogues = [established(capture, number, MINUTE) for number in range(40)]
    scan(capture, MINUTE + SECOND, probes=5000, apart_ns=MS)
    for dialogue in dialogues:
        dialogue.close(MINUTE + 7 * SECOND)
    result = run(capture, limits={"flows": FLOWS})
    assert set(evictions(result)) == {"unproven"}
    assert result.counters["flows_evicted"] == evictions(result)["unproven"] > 4000
    for number in range(40):
        (row,) = by_client(result, f"10.0.0.{number + 1}")
        assert row["end_reason"] == "fin"


def test_a_session_proves_itself_amid_a_flood(run: Run) -> None:
    capture = Capture()
    for number in range(30):
        established(capture, number, MINUTE)
    scan(capture, MINUTE + SECOND, probes=4000, apart_ns=10 * MS)
    newcomer = Dialogue(capture, client="10.0.1.1")
    newcomer.open(MINUTE + 20 * SECOND, server_rtt_ns=10 * MS, client_rtt_ns=10 * MS)
    newcomer.close(MINUTE + 30 * SECOND)
    result = run(capture, limits={"flows": FLOWS})
    (row,) = by_client(result, "10.0.1.1")
    assert (row["end_reason"], row["setup_us"]) == ("fin", 20_000)


def test_a_table_full_of_sessions_takes_the_one_silent_for_longest(run: Run) -> None:
    capture = Capture()
    for number in range(FLOWS):
        established(capture, number, MINUTE + number * SECOND)
    newcomer = Dialogue(capture, client="10.0.1.1")
    newcomer.open(MINUTE + 200 * SECOND)
    result = run(capture, limits={"flows": FLOWS})
    assert evictions(result) == {"idle": 1}
    evicted = [row for row in result.rows if row["end_reason"] == "evicted"]
    assert len(evicted) == 1
    assert evicted[0]["outcome"] != "failed", "what was cut short has not failed"


def test_closed_sessions_give_way_before_open_ones(run: Run) -> None:
    capture = Capture()
    for number in range(FLOWS - 8):
        established(capture, number, MINUTE)
    for number in range(8):
        dialogue = established(capture, 100 + number, MINUTE + SECOND)
        dialogue.close(MINUTE + 2 * SECOND)
    newcomer = Dialogue(capture, client="10.0.1.1")
    newcomer.open(MINUTE + 4 * SECOND)
    result = run(capture, limits={"flows": FLOWS})
    assert set(evictions(result)) <= {"closed", "active"}
    assert sum(evictions(result).values()) == 1
