"""Identity maps: names of cells, base stations and devices."""

from pathlib import Path

import pytest

from collector.identity.maps import (
    CellEntry,
    DeviceEntry,
    Maps,
    MapsInForce,
    RanNodeEntry,
    load_maps,
)
from collector.metrics import Metrics
from probe.errors import ConfigError

CELL = "001-01-0019B01"
HEADER = "cell_id,name,site,latitude,longitude,azimuth,vendor,region\n"


def test_csv_and_yaml_say_the_same(tmp_path: Path):
    (tmp_path / "cells.csv").write_text(
        f"{HEADER}{CELL},Harbour 3,Harbour,54.3,10.1,240,Acme,North\n"
    )
    (tmp_path / "cells.yaml").write_text(
        f"- {{cell_id: {CELL}, name: Harbour 3, site: Harbour, latitude: 54.3, longitude: 10.1,"
        " azimuth: 240, vendor: Acme, region: North}\n"
    )
    of_csv, of_yaml = (load_maps(cells=tmp_path / f"cells.{kind}") for kind in ("csv", "yaml"))
    assert of_csv == of_yaml
    assert of_csv.labels({"cell_id": CELL}) == {
        "cell_name": "Harbour 3", "site": "Harbour", "region": "North", "vendor": "Acme",
        "latitude": 54.3, "longitude": 10.1, "azimuth": 240.0,
    }  # fmt: skip


def test_every_fault_of_every_map_is_named_at_once(tmp_path: Path):
    cells, devices = tmp_path / "cells.csv", tmp_path / "devices.csv"
    cells.write_text(f"{HEADER}{CELL},,,91,,360,,\n001-01-0019b01,,,,,,,\n{CELL},,,,,,,\n")
    devices.write_text("imei_tac,device_model\n1234567,Phone\n")
    with pytest.raises(ConfigError) as raised:
        load_maps(cells, tmp_path / "nodes.yaml", devices)
    told = [line.removeprefix(f"{tmp_path}/") for line in raised.value.problems]
    assert told[0] == "cells.csv:2: [0].azimuth: must be less than 360, got 360.0"
    assert told[1] == "cells.csv:2: [0].latitude: must be less than or equal to 90, got 91.0"
    assert told[2].startswith("cells.csv:3: [1].cell_id: another form is needed")
    assert told[3] == f"cells.csv:4: [2].cell_id: '{CELL}' stands on line 2 already"
    assert told[4] == "nodes.yaml: cannot be read: No such file or directory"
    assert told[5].startswith("devices.csv:2: [0].imei_tac: another form is needed, got '1234567'")
    assert len(told) == 6


def test_where_the_cell_is_silent_its_base_station_says_the_place():
    maps = Maps(
        cells={CELL: CellEntry(cell_id=CELL, region="North", latitude=0.0)},
        ran_nodes={
            "192.0.2.9": RanNodeEntry(
                ran_node_id="192.0.2.9", name="eNB 9", site="Hill", region="South", latitude=1.0
            )
        },
    )
    labels = maps.labels({"cell_id": CELL, "ran_node_id": "192.0.2.9"})
    assert (labels["site"], labels["region"], labels["latitude"]) == ("Hill", "North", 0.0)
    assert labels["ran_node_name"] == "eNB 9"
    assert maps.labels({"cell_id": None, "ran_node_id": "192.0.2.9"})["region"] == "South"


def test_what_no_map_knows_is_null_and_what_has_no_identity_gets_no_label():
    maps = Maps(devices={"1" * 8: DeviceEntry(imei_tac="1" * 8, device_model="Phone")})
    assert maps.labels({"imei_tac": "1" * 8}) == {"device_model": "Phone", "device_os": None}
    assert set(maps.labels({"imei_tac": None}).values()) == {None}
    assert maps.labels({"service": "Video"}) == {}


async def test_a_faulty_map_leaves_all_maps_as_they_were(tmp_path: Path, caplog):
    path = tmp_path / "devices.csv"
    path.write_text("imei_tac,device_model\n35209900,Old\n")
    metrics = Metrics("test")
    maps = MapsInForce(lambda: load_maps(devices=path), metrics)
    path.write_text("imei_tac,device_model\n35209900,New\nx,Bad\n")
    assert not await maps.reload()
    assert maps.current.labels({"imei_tac": "35209900"})["device_model"] == "Old"
    assert "devices.csv:3: [1].imei_tac" in caplog.text
    path.write_text("imei_tac,device_model\n35209900,New\n")
    assert await maps.reload()
    assert maps.current.labels({"imei_tac": "35209900"})["device_model"] == "New"
    for outcome in ("refused", "loaded"):
        assert metrics.registry.get_sample_value(
            "qoe_collector_map_reloads_total", {"outcome": outcome}
        ) == 1  # fmt: skip
