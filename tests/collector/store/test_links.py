"""Persons: links followed both ways, for as long as they hold, and erased with their person."""

from typing import Any

from collector.store.links import EVER, OPEN_NS, person

HOUR = 3600 * 10**9
TEN = 1_794_996_000 * 10**9  # 2026-11-18T10:00:00Z
IMSI, MSISDN, ADDRESS, OTHER, SECOND = (letter * 32 for letter in "abcde")


def link(of: str, to: str, since: int | None = None, until: int | None = None) -> dict[str, Any]:
    return {"from": bytes.fromhex(of), "to": bytes.fromhex(to), "since": since, "until": until}


async def test_a_person_is_found_from_any_pseudonym(store, make_batch):
    links = [link(IMSI, MSISDN, TEN), link(IMSI, ADDRESS, TEN, TEN + HOUR)]
    await store.insert([make_batch([], links=links)], "l")
    of_imsi = await person(store.fetch, IMSI)
    assert of_imsi.periods == {
        IMSI: (EVER,), MSISDN: ((TEN, OPEN_NS),), ADDRESS: ((TEN, TEN + HOUR),)
    }  # fmt: skip
    of_address = await person(store.fetch, ADDRESS)
    assert of_address.ids[0] == ADDRESS
    assert of_address.periods[IMSI] == ((TEN, TEN + HOUR),)
    assert of_address.periods[MSISDN] == ((TEN, TEN + HOUR),)
    assert set((await person(store.fetch, MSISDN)).ids) == {IMSI, MSISDN, ADDRESS}


async def test_an_address_that_changed_hands_leads_to_nobody_elses_time(store, make_batch):
    links = [
        link(IMSI, ADDRESS, TEN, TEN + HOUR),
        link(OTHER, ADDRESS, TEN + HOUR, TEN + 2 * HOUR),
        link(OTHER, SECOND, TEN, TEN + HOUR),
    ]
    await store.insert([make_batch([], links=links)], "l")
    assert set((await person(store.fetch, IMSI)).ids) == {IMSI, ADDRESS}
    # OTHER had the address after the hour in which SECOND was theirs.
    of_second = await person(store.fetch, SECOND)
    assert set(of_second.ids) == {SECOND, OTHER}


async def test_a_link_told_again_reaches_to_its_latest_end_and_a_lost_end_to_the_next_owner(
    store, make_batch
):
    told = [link(IMSI, ADDRESS, TEN), link(IMSI, ADDRESS, TEN, TEN + 5)]
    again = [link(IMSI, ADDRESS, TEN, TEN + HOUR)]
    lost = [link(IMSI, SECOND, TEN), link(OTHER, SECOND, TEN + HOUR)]
    for number, links in enumerate((told, again, lost)):
        await store.insert([make_batch([], number, links=links)], str(number))
    periods = (await person(store.fetch, IMSI)).periods
    assert periods[ADDRESS] == ((TEN, TEN + HOUR),)
    assert periods[SECOND] == ((TEN, TEN + HOUR),)


async def test_links_outside_of_the_question_are_not_followed(store, make_batch):
    links = [link(IMSI, ADDRESS, TEN, TEN + HOUR), link(IMSI, SECOND, TEN + HOUR, TEN + 2 * HOUR)]
    await store.insert([make_batch([], links=links)], "l")
    during = await person(store.fetch, IMSI, (TEN + HOUR, TEN + 2 * HOUR))
    assert set(during.ids) == {IMSI, SECOND}


async def test_malformed_links_are_kept_and_lead_nowhere(store, make_batch, count):
    links = [{"from": "x", "to": bytes(16)}, {}, link(IMSI, IMSI), {"from": 5, "since": "soon"}]
    await store.insert([make_batch([], links=links)], "l")
    assert await count("count()", "links") == 4
    assert (await person(store.fetch, IMSI)).ids == (IMSI,)


async def test_erasure_takes_what_a_person_did_under_an_address_and_nothing_else(
    store, make_row, make_batch, count
):
    half = HOUR // 2
    rows = [
        make_row(1, TEN + 1, subscriber_id=IMSI),
        make_row(2, TEN + 2, subscriber_id=MSISDN),
        make_row(3, TEN + 3, subscriber_id=ADDRESS),  # the person's
        make_row(4, TEN + half + 1, subscriber_id=ADDRESS),  # somebody else's, in the same hour
        make_row(5, TEN + HOUR, subscriber_id=ADDRESS),
        make_row(6, TEN, subscriber_id=OTHER),
    ]
    links = [
        link(IMSI, MSISDN, TEN - HOUR),
        link(IMSI, ADDRESS, TEN, TEN + half),
        link(OTHER, ADDRESS, TEN + half, TEN + 2 * HOUR),
    ]
    await store.insert([make_batch(rows, links=links)], "r")
    for _ in range(2):  # an erasure that was cut short is asked for again
        await store.erase_person(await person(store.fetch, IMSI))
        assert sorted(await count("groupArray(session_id)")) == [4, 5, 6]
        kept = await store.fetch(
            "SELECT lower(hex(subscriber_id)) AS id, toUnixTimestamp(time) AS t,"
            " sum(records) AS n, sum(bytes_up) AS up FROM subscriber_hour"
            " GROUP BY id, t ORDER BY id, t",
            {},
        )
        hour = TEN // 10**9
        assert [tuple(row.values()) for row in kept] == [
            (ADDRESS, hour, 1, 104),
            (ADDRESS, hour + 3600, 1, 105),
            (OTHER, hour, 1, 106),
        ]
        assert await count("groupArray((from_id, to_id))", "links") == [(OTHER, ADDRESS)]


async def test_many_addresses_do_not_crowd_out_the_number(store, make_batch):
    links = [link(IMSI, f"{n:032x}", TEN + n, TEN + n + 1) for n in range(1, 50)]
    await store.insert([make_batch([], links=[link(IMSI, MSISDN, 0), *links])], "l")
    few = await person(store.fetch, IMSI, most=4)
    assert few.ids == (IMSI, MSISDN, f"{49:032x}", f"{48:032x}")
    assert len((await person(store.fetch, IMSI)).ids) == 51
