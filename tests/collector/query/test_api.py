"""Answers of the read operations against the records that went in."""

import base64
import json
import math
from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest

from probe.record.codec import time_to_text
from probe.record.schema import COLUMNS, HISTOGRAM_FLOOR_US, HISTOGRAM_GROWTH, Meaning

Row = dict[str, Any]


def seen(rows: list[Row], capture_point: str = "s1u") -> list[Row]:
    return [row for row in rows if row["capture_point"] == capture_point]


def total(rows: list[Row], name: str) -> int:
    return sum(row.get(name) or 0 for row in rows)


def sessions_of(rows: list[Row]) -> int:
    return sum(row["interval_index"] == 0 and row["record_kind"] != "transaction" for row in rows)


async def test_sums_of_the_network_equal_those_of_the_records(api, rows):
    answer = await api.ask("/network")
    data, mine = answer["data"], seen(rows)
    assert answer["capture_point"] == "s1u"
    assert data["records"] == len(mine)
    assert data["sessions"] == sessions_of(mine)
    for name in ("bytes_up", "bytes_down", "payload_down", "packets_up", "lost_after_tap_down"):
        assert data[name] == total(mine, name)
    assert data["failures"] == sum(row.get("outcome") == "failed" for row in mine)
    assert data["attempts"] == sessions_of(mine) - 1  # one began before the capture
    assert data["transactions"] == data["transactions_failed"] == 1
    assert data["failure_ratio"] == pytest.approx((data["failures"] - 1) / data["attempts"])
    assert data["subscribers"] == len({r["subscriber_id"] for r in mine if "subscriber_id" in r})
    causes = Counter(row["failure_cause"] for row in mine if row.get("outcome") == "failed")
    assert data["causes"] == causes


@pytest.mark.parametrize("path", ["/cells", "/services", "/subscribers", "/devices"])
async def test_every_list_adds_up_to_the_network(api, rows, path):
    whole = (await api.ask("/network"))["data"]
    entries = (await api.ask(path, limit=1000))["data"]
    for name in ("records", "sessions", "bytes_up", "bytes_down", "failures", "attempts"):
        assert sum(entry[name] for entry in entries) == whole[name]


@pytest.mark.parametrize("step", ["1m", "5m", "1h", "1d"])
@pytest.mark.parametrize("group_by", [[], ["service_class"], ["apn", "qos_class"]])
async def test_every_timeline_adds_up_to_the_network(api, step, group_by):
    whole = (await api.ask("/network"))["data"]
    line = await api.ask("/network/timeline", step=step, group_by=group_by)
    assert sum(point["bytes_down"] for point in line["data"]) == whole["bytes_down"]
    assert sum(point["sessions"] for point in line["data"]) == whole["sessions"]
    times = [point["time"] for point in line["data"]]
    assert times == sorted(times)
    assert all(set(group_by) <= point.keys() for point in line["data"])


async def test_a_timeline_goes_on_page_by_page_in_either_direction(api):
    whole = (await api.ask("/network/timeline", step="1m"))["data"]
    assert len(whole) > 3
    first = await api.ask("/network/timeline", step="1m", limit=3)
    rest = await api.ask("/network/timeline", step="1m", limit=3, cursor=first["next_cursor"])
    assert first["data"] + rest["data"] == whole[:6]
    newest = (await api.ask("/network/timeline", step="1m", sort="-time"))["data"]
    assert newest == whole[::-1]


async def test_a_timeline_of_all_time_is_cut_to_what_holds_data(api):
    whole = (await api.ask("/network"))["data"]
    line = await api.ask("/network/timeline", step="1m", from_="0", to="now")
    assert sum(point["sessions"] for point in line["data"]) >= whole["sessions"]
    assert not line["from"].startswith("1970")


async def test_the_bad_cell_and_the_bad_subscriber_rank_worst(api, known):
    cells = (await api.ask("/cells", sort="qoe"))["data"]
    assert cells[0]["cell_id"] == known["bad_cell"]
    assert cells[0]["qoe"]["value"] < cells[1]["qoe"]["value"] - 20
    assert cells[-1]["cell_id"] is None  # what has no score comes last
    assert cells[-1]["qoe"]["value"] is None
    failing = (await api.ask("/cells", sort="-failure_ratio"))["data"]
    assert failing[0]["cell_id"] == known["bad_cell"]
    subscribers = (await api.ask("/subscribers", sort="qoe"))["data"]
    assert subscribers[0]["subscriber_id"] == known["bad_subscriber"]
    best = (await api.ask("/cells", sort="-qoe"))["data"]
    assert best[0]["cell_id"] in known["good_cells"]
    assert best[-1]["qoe"]["value"] is None


@pytest.mark.parametrize("sort", ["-records", "records", "qoe", "-qoe", "-cell_id", "cell_id"])
async def test_what_is_unknown_comes_last(api, sort):
    cells = [cell["cell_id"] for cell in (await api.ask("/cells", sort=sort))["data"]]
    assert cells.index(None) == len(cells) - 1 == 5


async def test_percentiles_are_those_of_the_samples(api, rows, known):
    cell = (await api.ask(f"/cells/{known['bad_cell']}"))["data"]
    samples = sorted(
        HISTOGRAM_FLOOR_US * HISTOGRAM_GROWTH ** (int(bucket) + 0.5)
        for row in seen(rows)
        if row.get("cell_id") == known["bad_cell"]
        for bucket, count in row["rtt_client_histogram"].items()
        for _ in range(count)
    )
    assert cell["rtt_client_us"]["samples"] == len(samples)
    for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = samples[math.ceil(round(len(samples) * p, 6)) - 1]
        assert cell["rtt_client_us"][name] == pytest.approx(exact, rel=0.025)


async def test_nulls_stay_null(api):
    cells = (await api.ask("/cells", sort="cell_id"))["data"]
    unknown = next(cell for cell in cells if cell["cell_id"] is None)
    assert unknown["rtt_client_us"] == {"p50": None, "p95": None, "p99": None, "samples": 0}
    assert unknown["qoe"]["value"] is unknown["qoe"]["low"] is unknown["qoe"]["high"] is None
    assert unknown["failure_ratio"] is None
    assert unknown["rtt_server_us"]["p50"] is None


async def test_one_capture_point_counts_and_the_answer_names_it(api, rows):
    other = await api.ask("/network", capture_point="sgi")
    assert other["capture_point"] == "sgi"
    assert other["data"]["bytes_down"] == total(seen(rows, "sgi"), "bytes_down")
    none = await api.ask("/network", capture_point="nowhere")
    assert none["data"]["records"] == 0


async def test_raw_records_and_rollups_give_the_same_numbers(api, known):
    """The filter on apn can only be answered by raw records, of which all fit or none."""
    for path in ("/cells", "/services"):
        rolled = (await api.ask(path, cell_id=known["good_cells"], sort="-bytes_down"))["data"]
        raw = (
            await api.ask(path, cell_id=known["good_cells"], apn="internet", sort="-bytes_down")
        )["data"]
        assert rolled == raw
        assert rolled


async def test_the_range_is_half_open_and_whole_minutes(api, rows, known):
    middle = known["start"] + 30 * 60 * 10**9
    first = await api.ask("/network", from_=known["start"] // 10**9, to=time_to_text(middle))
    second = await api.ask("/network", from_="2026-11-18T11:30:00+01:00", to="now-1h")
    both = (await api.ask("/network"))["data"]
    assert first["data"]["records"] + second["data"]["records"] == both["records"]
    before = [row for row in seen(rows) if row["start_time"] < time_to_text(middle)]
    assert first["data"]["records"] == len(before)
    assert first["to"] == second["from"] == time_to_text(middle)
    inside = await api.ask("/network", from_=f"{known['start'] // 10**9 + 30}.5", to="now-1h")
    assert inside["from"] == time_to_text(known["start"])


async def test_without_a_range_the_last_hour_that_holds_data_is_asked(api, known):
    held = await api.ask("/range")
    answer = await api.ask("/network")
    assert answer["to"] == held["to"]
    assert held["from"] >= time_to_text(known["start"])


async def test_an_empty_store_answers_with_zeros_and_nulls(empty_api):
    assert await empty_api.ask("/range") == {"from": None, "to": None}
    network = await empty_api.ask("/network")
    assert network["data"]["sessions"] == 0
    assert network["data"]["qoe"]["value"] is None
    assert network["capture_point"] is None
    for path in ("/cells", "/services", "/failures", "/probes", "/quality", "/network/timeline"):
        answer = await empty_api.ask(path)
        assert (answer["data"], answer["next_cursor"]) == ([], None)
    await empty_api.ask("/cells/001-01-0000001", status=404)


async def test_pages_join_to_the_whole_list(api):
    for parameters in ({"sort": "qoe"}, {"sort": "-bytes_down"}, {"group_by": ["service"]}):
        whole = (await api.ask("/cells", limit=1000, **parameters))["data"]
        joined, cursor = [], {}
        while True:
            page = await api.ask("/cells", limit=2, **parameters, **cursor)
            joined += page["data"]
            if page["next_cursor"] is None:
                break
            assert len(page["data"]) == 2
            cursor = {"cursor": page["next_cursor"]}
        assert joined == whole


async def test_a_cursor_of_another_question_is_refused(api):
    cursor = (await api.ask("/cells", limit=1))["next_cursor"]
    assert cursor
    await api.ask("/cells", limit=1, cursor=cursor, sort="-sessions", status=400)
    await api.ask("/services", limit=1, cursor=cursor, status=400)
    for text in ("x", "!!!!", "e30", "W10", "bnVsbA", "9" * 400):
        await api.ask("/cells", cursor=text, status=400)


async def test_a_cursor_that_was_changed_is_refused(api, known):
    path = f"/subscribers/{known['bad_subscriber']}/sessions"
    text = (await api.ask(path, limit=1))["next_cursor"]
    good = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    changes = (
        {"position": [1 << 63, 0, 0]},
        {"position": [0, 0, 1 << 32]},
        {"position": [0, -1, 0]},
        {"position": [0]},
        {"position": ["0", 0, 0]},
        {"start": good["end"]},
        {"end": 1 << 63},
    )
    for change in changes:
        changed = base64.urlsafe_b64encode(json.dumps(good | change).encode()).decode()
        await api.ask(path, limit=1, cursor=changed, status=400)


async def test_sessions_are_the_records_as_sent(api, rows, known):
    answer = await api.ask(f"/subscribers/{known['bad_subscriber']}/sessions", limit=1000)
    mine = {
        (row["session_id"], row["interval_index"]): row
        for row in rows
        if row.get("subscriber_id") == known["bad_subscriber"]
    }
    assert len(answer["data"]) == len(mine) > 10
    times = [record["start_time"] for record in answer["data"]]
    assert times == sorted(times, reverse=True)
    for record in answer["data"]:
        row = mine[(record["session_id"], record["interval_index"])]
        for column in COLUMNS:
            assert record[column.name] == _as_told(column, row.get(column.name)), column.name
        named = known["services"].classify(row["server_name"], row["app_protocol"])
        assert (record["service"], record["service_class"]) == named
        assert record["probe_id"] == "probe-1"


def _as_told(column: Any, value: Any) -> Any:
    if value is None and not column.nullable:
        return 0
    if column.meaning is Meaning.BOOLEAN and value is not None:
        return bool(value)
    return value


async def test_pages_of_sessions_join_without_gap_or_double(api, known):
    path = f"/subscribers/{known['bad_subscriber']}/sessions"
    whole = (await api.ask(path, limit=1000))["data"]
    joined, cursor = [], {}
    while True:
        page = await api.ask(path, limit=7, **cursor)
        joined += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert joined == whole


async def test_a_subscriber_is_the_sum_of_linked_pseudonyms(api, rows):
    one, two = f"{1:032x}", f"{77:032x}"
    answer = await api.ask(f"/subscribers/{two}")
    mine = [row for row in seen(rows) if row.get("subscriber_id") == one]
    assert answer["linked"] == [one]
    assert answer["data"]["bytes_down"] == total(mine, "bytes_down")
    assert (await api.ask(f"/subscribers/{one}"))["linked"] == [two]


async def test_a_subscriber_has_a_timeline_and_services(api, known):
    path = f"/subscribers/{known['bad_subscriber']}"
    whole = (await api.ask(path))["data"]
    line = (await api.ask(f"{path}/timeline", step="5m"))["data"]
    services = (await api.ask(f"{path}/services"))["data"]
    assert sum(point["bytes_up"] for point in line) == whole["bytes_up"]
    assert sum(entry["bytes_up"] for entry in services) == whole["bytes_up"]
    assert {entry["service"] for entry in services} == {"YouTube", None}
    assert {entry["service_class"] for entry in services} == {"video", "web"}
    assert whole["qoe"]["value"] is not None


async def test_a_cell_has_a_timeline(api, known):
    path = f"/cells/{known['bad_cell']}"
    whole = (await api.ask(path))["data"]
    line = (await api.ask(f"{path}/timeline", step="1m"))["data"]
    assert sum(point["failures"] for point in line) == whole["failures"] > 0


@pytest.mark.parametrize("narrowed", [{}, {"apn": ["internet", ""]}])
async def test_failures_tell_cause_stage_side_and_share(api, rows, narrowed):
    """The second question is answered by raw records."""
    answer = await api.ask("/failures", **narrowed)
    expected = Counter(
        (row["failure_cause"], row["failure_stage"], row.get("failure_side"))
        for row in seen(rows)
        if row.get("outcome") == "failed"
    )
    found = {
        (entry["failure_cause"], entry["failure_stage"], entry["failure_side"]): entry["failures"]
        for entry in answer["data"]
    }
    assert found == expected
    assert sum(entry["share"] for entry in answer["data"]) == pytest.approx(1)
    counts = [entry["failures"] for entry in answer["data"]]
    assert counts == sorted(counts, reverse=True)
    by_cell = (await api.ask("/failures", group_by="cell_id", limit=1000, **narrowed))["data"]
    assert sum(entry["failures"] for entry in by_cell) == sum(expected.values())


async def test_probes_tell_what_they_sent_and_what_is_missing(api, rows):
    answer = await api.ask("/probes")
    quiet, probe = answer["data"]
    assert (quiet["probe_id"], quiet["records"]) == ("probe-0", 0)
    assert (probe["probe_id"], probe["records"]) == ("probe-1", len(rows))
    assert (probe["batches"], probe["batches_missing"], probe["sequence"]) == (2, 2, 4)
    assert probe["health"] == {"cpu": 0.25}
    assert probe["ledger"] == {"eth1": {"received": 90, "shed.flows": 4}}
    first = await api.ask("/probes", limit=1)
    second = await api.ask("/probes", limit=1, cursor=first["next_cursor"])
    assert first["data"] + second["data"] == answer["data"]
    assert second["next_cursor"] is None
    assert (await api.ask("/probes", probe_id="nobody"))["data"] == []


async def test_quality_counts_flags_and_what_is_not_attributed(api, rows):
    answer = (await api.ask("/quality"))["data"]
    assert [entry["capture_point"] for entry in answer] == ["s1u", "sgi"] or [
        entry["capture_point"] for entry in answer
    ] == ["sgi", "s1u"]
    told = next(entry for entry in answer if entry["capture_point"] == "s1u")
    mine = seen(rows)
    assert told["records"] == len(mine)
    assert told["records_one_way"] == sum("one_way" in row["flags"] for row in mine)
    assert told["records_missed_start"] == 1
    assert told["records_without_subscriber"] == 2
    assert told["records_without_cell"] == 2


async def test_an_empty_value_asks_for_what_is_unknown(api):
    assert (await api.ask("/network", cell_id=""))["data"]["records"] == 2
    assert (await api.ask("/network", apn=""))["data"]["records"] == 2
    assert (await api.ask("/network", apn="' OR 1=1 --"))["data"]["records"] == 0


@pytest.mark.parametrize(
    ("path", "parameters", "word"),
    [
        ("/cells", {"colour": "red"}, "colour"),
        ("/cells", {"limit": 0}, "limit"),
        ("/cells", {"limit": "many"}, "limit"),
        ("/cells", {"sort": "colour"}, "sort"),
        ("/cells", {"sort": "--sessions"}, "sort"),
        ("/cells", {"group_by": "bytes_up"}, "group_by"),
        ("/cells", {"group_by": ["apn", "rat", "slice", "service"]}, "group_by"),
        ("/network", {"from_": "yesterday"}, "from"),
        ("/network", {"from_": "2026-13-01T00:00:00Z"}, "from"),
        ("/network", {"from_": "2026-11-18T10:00:00"}, "from"),
        ("/network", {"to": "9999999999"}, "to"),
        ("/network", {"from_": "now", "to": "now-1h"}, "from"),
        ("/network", {"limit": 5}, "limit"),
        ("/network", {"capture_point": ["a", "b"]}, "capture_point"),
        ("/network", {"subscriber_id": "abc"}, "subscriber_id"),
        ("/network", {"apn": "x" * 300}, "apn"),
        ("/network/timeline", {"step": "7m"}, "step"),
        ("/network/timeline", {"sort": "qoe"}, "sort"),
        ("/failures", {"sort": "bytes_up"}, "sort"),
        ("/quality", {"sort": "records"}, "sort"),
        ("/probes", {"from_": "now", "to": "now-1h"}, "from"),
        ("/range", {"from_": "now"}, "from"),
    ],
)
async def test_a_wrong_parameter_is_400_and_named(api, path, parameters, word):
    problem = await api.ask(path, status=400, **parameters)
    assert problem["status"] == 400
    assert word in problem["detail"]


@pytest.mark.parametrize("name", ["x", "F" * 32, "0" * 31, "%27"])
async def test_a_subscriber_that_is_none_is_404(api, name):
    await api.ask(f"/subscribers/{name}", status=404)
    await api.ask(f"/subscribers/{'a' * 32}", status=404)


async def test_every_answer_has_the_shape_that_is_documented(api, known):
    for path, operation in api.operations.items():
        asked = path.removeprefix("/api/v1").format(
            cell_id=known["bad_cell"], id=known["bad_subscriber"]
        ) if "{" in path else path.removeprefix("/api/v1")  # fmt: skip
        answer = await api.ask(asked)
        model = operation.response.model_validate(answer, strict=True)
        assert model.model_dump(by_alias=True) == answer


def plain(number: int, second: int, **fields: Any) -> Row:
    """Return a session of the given second of the day that the other tests ask about."""
    time = f"2026-11-18T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
    return {
        "session_id": f"{number:016x}", "record_kind": "final", "capture_point": "s1u",
        "transport": "tcp", "flow_start_time": time, "start_time": time, "end_time": time,
        "subscriber_id": "ab" * 16, "flags": [],
    } | fields  # fmt: skip


async def test_a_timeline_counts_one_capture_point_in_the_whole_steps(asked_about):
    ten = 10 * 3600
    seen_twice = [plain(n, ten + 600 + n, capture_point=p) for n in range(3) for p in ("s1u", "x")]
    api = await asked_about(seen_twice)
    line = await api.ask(
        "/network/timeline", from_="2026-11-18T10:30:00Z", to="2026-11-18T10:31:00Z", step="1h"
    )
    assert line["capture_point"] in ("s1u", "x")
    assert [point["sessions"] for point in line["data"]] == [3]


@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_a_capture_that_came_several_times_is_walked_record_by_record(asked_about, limit):
    replayed = [plain(n // 2, 36_000) for n in range(4)]  # each twice in one batch, too
    api = await asked_about(replayed, replayed, replayed)
    walked, cursor = [], {}
    while len(walked) <= 12:
        page = await api.ask(f"/subscribers/{'ab' * 16}/sessions", limit=limit, **cursor)
        walked += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    told = Counter((record["session_id"], record["received_at"]) for record in walked)
    assert (len(told), set(told.values())) == (6, {2})


async def test_a_damaged_time_does_not_carry_the_default_range_away(asked_about):
    damaged = {"start_time": "2100-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z"}
    api = await asked_about([plain(1, 36_000, cell_id="a"), plain(2, 36_000) | damaged])
    assert (await api.ask("/range"))["to"] == "2026-11-18T10:01:00.000000000Z"
    assert (await api.ask("/cells/a"))["data"]["records"] == 1


async def test_times_after_every_arrival_are_found_if_there_is_no_other(asked_about):
    later = {"start_time": "2100-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z"}
    api = await asked_about([plain(1, 36_000) | later])
    assert (await api.ask("/range"))["from"] == "2100-01-01T00:00:00.000000000Z"


async def test_a_path_and_a_filter_must_both_hold(api, known):
    path, other = f"/cells/{known['bad_cell']}", known["good_cells"][0]
    await api.ask(path, status=404, cell_id=other)
    assert (await api.ask(f"{path}/timeline", cell_id=other))["data"] == []
    both = await api.ask(path, cell_id=[other, known["bad_cell"]])
    assert both["data"] == (await api.ask(path))["data"]
    await api.ask(f"/subscribers/{known['bad_subscriber']}", status=404, subscriber_id="0" * 32)


async def test_a_cell_may_have_any_name(asked_about):
    names = ["{p0:String}", "a/b", "a b"]
    api = await asked_about([plain(n, 36_000, cell_id=name) for n, name in enumerate(names)])
    for name in names:
        assert (await api.ask(f"/cells/{quote(name, safe='')}"))["data"]["records"] == 1
