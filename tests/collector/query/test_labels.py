"""Labels: names beside ids in every answer that tells a cell, a base station or a device."""

from tests.collector.query.conftest import BAD_CELL, GOOD_CELLS, network


async def test_cells_carry_the_labels_of_their_map_and_null_where_it_says_nothing(api):
    cells = {row["cell_id"]: row for row in (await api.ask("/cells"))["data"]}
    named = cells[BAD_CELL]
    assert (named["cell_name"], named["site"], named["region"]) == ("Harbour 3", "Harbour", "North")
    assert (named["latitude"], named["longitude"], named["azimuth"]) == (54.3, 10.1, 240.0)
    assert cells[GOOD_CELLS[0]]["cell_name"] is None
    assert cells[None]["site"] is None
    one = (await api.ask(f"/cells/{BAD_CELL}"))["data"]
    assert (one["cell_id"], one["cell_name"]) == (BAD_CELL, "Harbour 3")


async def test_lists_split_by_cell_carry_labels_and_others_do_not(api):
    split = (await api.ask("/services", group_by="cell_id"))["data"]
    assert {row["cell_name"] for row in split if row["cell_id"] == BAD_CELL} == {"Harbour 3"}
    assert "cell_name" not in (await api.ask("/services"))["data"][0]
    steps = (await api.ask("/network/timeline", group_by="cell_id"))["data"]
    assert {row["site"] for row in steps if row["cell_id"] == BAD_CELL} == {"Harbour"}


async def test_devices_and_sessions_carry_labels(asked_about):
    first, second = (
        row | {"imei_tac": tac, "ran_node_id": node, "subscriber_id": "a" * 32, "cell_id": None}
        for row, tac, node in zip(
            network()[:2], ("35209900", "99999999"), ("gnb-7", None), strict=True
        )
    )
    api = await asked_about([first, second])
    devices = {row["imei_tac"]: row for row in (await api.ask("/devices"))["data"]}
    assert devices["35209900"]["device_model"] == "Phone 1"
    assert devices["35209900"]["device_os"] == "OS 2"
    assert devices["99999999"]["device_model"] is None
    sessions = (await api.ask(f"/subscribers/{'a' * 32}/sessions"))["data"]
    told = {row["imei_tac"]: row for row in sessions}["35209900"]
    assert (told["ran_node_name"], told["site"], told["vendor"]) == ("gNB seven", "Hill", "Acme")
    assert told["device_model"] == "Phone 1"


async def test_a_label_narrows_a_question_to_what_carries_it(api):
    by_label = (await api.ask("/network", site="Harbour"))["data"]
    by_id = (await api.ask("/network", cell_id=BAD_CELL))["data"]
    assert by_label == by_id
    both = (await api.ask("/network", site="Harbour", cell_id=GOOD_CELLS[0]))["data"]
    assert both["records"] == 0
    assert (await api.ask("/network", region="Nowhere"))["data"]["records"] == 0
    assert (await api.ask("/network", device_model="Phone 1"))["data"]["records"] == 0
