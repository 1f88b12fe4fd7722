"""One person under several pseudonyms and at several taps: counted once, and nobody else."""

from typing import Any

import pytest

from collector.qoe import ServiceMap
from collector.store import Store, StoreOptions
from probe.record import codec
from tests.collector.query.conftest import NOW, ROOT, START, entry, serve

HOUR = 3600 * 10**9
MINUTE = 60 * 10**9
IMSI, MSISDN, ADDRESS, OTHER = (letter * 32 for letter in "abcd")
SERVICES = ServiceMap.load(ROOT / "configs/services.yaml")


def record(number: int, at: int, subscriber: str | None, **fields: Any) -> dict[str, Any]:
    return {
        "session_id": f"{number:016x}", "record_kind": "final", "interval_index": 0,
        "capture_point": "s1u", "transport": "tcp", "flags": [], "subscriber_id": subscriber,
        "flow_start_time": codec.time_to_text(at), "start_time": codec.time_to_text(at),
        "end_time": codec.time_to_text(at + 10**9), "bytes_up": 100, "bytes_down": 0,
    } | fields  # fmt: skip


def link(of: str, to: str, since: int, until: int | None = None) -> dict[str, Any]:
    return {"from": bytes.fromhex(of), "to": bytes.fromhex(to), "since": since, "until": until}


@pytest.fixture
async def filled(tmp_path):
    """Give a function that stores rows and links and returns (api, store)."""
    store = Store.open(StoreOptions(path=tmp_path / "store"), SERVICES.classify)
    clients = []

    async def fill(rows, links=(), preferred=()):
        await store.insert([entry(rows, links=list(links))], "1")
        api, client = await serve(store, lambda: NOW, tuple(preferred))
        clients.append(client)
        return api, store

    yield fill
    for client in clients:
        await client.close()
    await store.close()


ROWS = [
    record(1, START, IMSI),
    record(2, START + MINUTE, MSISDN),
    record(3, START + 10 * MINUTE, ADDRESS),  # the person's
    record(4, START + 30 * MINUTE, ADDRESS),  # somebody else's, in the same hour
    record(5, START + 70 * MINUTE, ADDRESS),
]
LINKS = [
    link(IMSI, MSISDN, START - HOUR),
    link(IMSI, ADDRESS, START, START + 20 * MINUTE),
    link(OTHER, ADDRESS, START + 20 * MINUTE, START + 2 * HOUR),
]
RANGE = {"from_": START // 10**9, "to": START // 10**9 + 7200}


@pytest.mark.parametrize("asked", [IMSI, MSISDN])
async def test_a_person_has_one_history_under_all_pseudonyms_and_no_one_elses(filled, asked):
    api, _ = await filled(ROWS, LINKS)
    answer = await api.ask(f"/subscribers/{asked}", **RANGE)
    assert (answer["data"]["sessions"], answer["data"]["bytes_up"]) == (3, 300)
    assert {asked, *answer["linked"]} == {IMSI, MSISDN, ADDRESS}
    records = (await api.ask(f"/subscribers/{asked}/sessions", **RANGE))["data"]
    assert {row["session_id"][-1] for row in records} == {"1", "2", "3"}
    steps = (await api.ask(f"/subscribers/{asked}/timeline", step="5m", **RANGE))["data"]
    assert [step["sessions"] for step in steps] == [2, 1]
    (service,) = (await api.ask(f"/subscribers/{asked}/services", **RANGE))["data"]
    assert service["sessions"] == 3


async def test_an_address_leads_to_its_owner_of_the_time_only(filled):
    api, _ = await filled([*ROWS, record(6, START + 40 * MINUTE, IMSI)], LINKS)
    answer = await api.ask(f"/subscribers/{ADDRESS}", **RANGE)
    # Its own three records, and what its owner did under other names while it was his.
    assert answer["data"]["sessions"] == 5
    later = {"from_": START // 10**9 + 1800, "to": START // 10**9 + 7200}
    assert (await api.ask(f"/subscribers/{ADDRESS}", **later))["data"]["sessions"] == 2


async def test_without_a_range_the_last_hour_of_the_person_answers(filled):
    api, _ = await filled(ROWS, LINKS)
    answer = await api.ask(f"/subscribers/{IMSI}")
    assert answer["data"]["sessions"] == 3
    assert answer["from"] == codec.time_to_text(START)


async def test_where_raw_records_are_gone_no_hour_of_two_owners_is_counted(filled):
    api, store = await filled(ROWS, LINKS)
    await store._inserts.run(
        lambda: store._writers.run("test", lambda client: client.command("TRUNCATE TABLE sessions"))
    )
    answer = await api.ask(f"/subscribers/{IMSI}", **RANGE)
    assert answer["data"]["sessions"] == 2, "the rollup's hour of the address is left out"


async def test_a_subscriber_whom_two_taps_see_counts_once(filled):
    at_s1u = [record(n, START + n * MINUTE, IMSI, cell_id="001-01-0000001") for n in (1, 2)]
    # At SGi there is no IMSI, only the number; the links say that this is the same person.
    at_sgi = [record(10 + n, START + n * MINUTE, MSISDN, capture_point="sgi") for n in (1, 2)]
    api, _ = await filled([*at_s1u, *at_sgi], [link(IMSI, MSISDN, START - HOUR)])
    for path in ("/network", f"/subscribers/{IMSI}", f"/subscribers/{MSISDN}"):
        answer = await api.ask(path, **RANGE)
        assert (answer["data"]["sessions"], answer["capture_point"]) == (2, "s1u"), path
        for point in ("s1u", "sgi"):
            answer = await api.ask(path, capture_point=point, **RANGE)
            assert (answer["data"]["sessions"], answer["capture_point"]) == (2, point)


async def test_the_preferred_capture_point_answers_where_it_has_records(filled):
    rows = [record(n, START, IMSI, cell_id="001-01-0000001") for n in (1, 2)]
    rows.append(record(3, START, IMSI, capture_point="sgi"))
    api, _ = await filled(rows, preferred=("n3", "sgi"))
    assert (await api.ask("/network", **RANGE))["capture_point"] == "sgi"
    cell = await api.ask("/cells/001-01-0000001", **RANGE)
    assert (cell["capture_point"], cell["data"]["sessions"]) == ("s1u", 2)


async def test_what_is_unknown_can_be_asked_for(filled):
    known = {"cell_id": "001-01-0000001", "cell_source": "map", "subscriber_source": "map"}
    rows = [
        record(1, START, IMSI, **known),
        record(2, START, ADDRESS, subscriber_source="address"),
        record(3, START, None),
    ]
    api, _ = await filled(rows)
    for asked, sessions in (
        ({"cell_id": ""}, 2), ({"cell_source": ""}, 2), ({"subscriber_id": ""}, 1),
        ({"subscriber_source": "address"}, 1), ({"subscriber_source": ["map", ""]}, 2),
        ({"rat": ""}, 3), ({"ran_node_id": ""}, 3),
    ):  # fmt: skip
        assert (await api.ask("/network", **asked))["data"]["sessions"] == sessions, asked


async def test_the_share_of_bytes_that_is_attributed_is_told(filled):
    rows = [
        record(1, START, IMSI, subscriber_source="s11", cell_id="001-01-0000001"),
        record(2, START, ADDRESS, subscriber_source="address", ran_node_id="gnb-7"),
        record(3, START, None, bytes_down=200),
    ]
    api, _ = await filled(rows)
    (quality,) = (await api.ask("/quality"))["data"]
    for told in ((await api.ask("/network"))["data"], quality):
        assert told["attributable_bytes"] == 500
        shares = [told[f"{what}_share"] for what in ("subscriber", "cell", "ran_node")]
        assert shares == [0.2, 0.2, 0.2]
        assert told["subscriber_bytes"] == 100
    assert (await api.ask("/network", service="none"))["data"]["cell_share"] is None


async def test_failures_of_a_person_are_those_under_all_pseudonyms(filled):
    failed = {"outcome": "failed", "failure_cause": "connect_timeout"}
    api, _ = await filled([row | failed for row in ROWS], LINKS)
    (cause,) = (await api.ask(f"/subscribers/{IMSI}/failures", **RANGE))["data"]
    assert (cause["failure_cause"], cause["failures"]) == ("connect_timeout", 3)
    (cause,) = (await api.ask("/failures", subscriber_id=IMSI, **RANGE))["data"]
    assert cause["failures"] == 1, "a filter stands for the very pseudonym"
