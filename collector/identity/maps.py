"""Identity maps: what the operator calls the cells, base stations and devices of the records.

A name is a label and not an identity: records and rollups know identities only, and labels are laid
over an answer when it is given. So a corrected map corrects all of history.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field

from collector.metrics import Metrics
from probe.errors import ConfigError
from probe.settings import Section
from probe.settings.identities import CellId, Name, TypeAllocationCode
from probe.settings.rows import load_rows

_log = logging.getLogger(__name__)

Label = Annotated[str, Field(min_length=1, max_length=128)]
Latitude = Annotated[float, Field(ge=-90, le=90)]  # degrees, WGS 84, north positive
Longitude = Annotated[float, Field(ge=-180, le=180)]  # degrees, WGS 84, east positive
Azimuth = Annotated[float, Field(ge=0, lt=360)]  # degrees from north, clockwise

Row = Mapping[str, Any]
Labels = dict[str, Any]


class CellEntry(Section):
    """What is known of a cell."""

    cell_id: CellId
    name: Label | None = None
    site: Label | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    azimuth: Azimuth | None = None
    vendor: Label | None = None
    region: Label | None = None


class RanNodeEntry(Section):
    """What is known of an eNB or gNB, by the id or address that stands in `ran_node_id`."""

    ran_node_id: Name
    name: Label | None = None
    site: Label | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    vendor: Label | None = None
    region: Label | None = None


class DeviceEntry(Section):
    """What is known of a type of device."""

    imei_tac: TypeAllocationCode
    device_model: Label | None = None
    device_os: Label | None = None


# Of a place: the cell's entry says, and where it is silent its base station's.
_PLACE: Final = ("site", "region", "vendor", "latitude", "longitude")
_DEVICE: Final = ("device_model", "device_os")
# What a question may be narrowed by, and which dimension that narrows.
LABEL_FILTERS: Final = {
    **dict.fromkeys(("site", "region", "vendor"), "cell_id"),
    **dict.fromkeys(_DEVICE, "imei_tac"),
}


@dataclass(frozen=True)
class Maps:
    """All maps as they were read at one time."""

    cells: Mapping[str, CellEntry] = field(default_factory=dict)
    ran_nodes: Mapping[str, RanNodeEntry] = field(default_factory=dict)
    devices: Mapping[str, DeviceEntry] = field(default_factory=dict)

    def labels(self, row: Row) -> Labels:
        """Return the labels of the identities that `row` holds, null where no map says."""
        found: Labels = {}
        if "cell_id" in row or "ran_node_id" in row:
            found |= self._place(row)
        if "imei_tac" in row:
            device = self.devices.get(row["imei_tac"] or "")
            found |= {name: getattr(device, name, None) for name in _DEVICE}
        return found

    def _place(self, row: Row) -> Labels:
        cell = self.cells.get(row.get("cell_id") or "")
        node = self.ran_nodes.get(row.get("ran_node_id") or "")
        found: Labels = {}
        if "cell_id" in row:
            found["cell_name"] = getattr(cell, "name", None)
            found["azimuth"] = getattr(cell, "azimuth", None)
        if "ran_node_id" in row:
            found["ran_node_name"] = getattr(node, "name", None)
        for name in _PLACE:
            of_cell = getattr(cell, name, None)
            found[name] = getattr(node, name, None) if of_cell is None else of_cell
        return found

    def labelled(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Return `rows` with the labels of the identities that each holds."""
        return [{**row, **self.labels(row)} for row in rows]

    def identities(self, label: str, values: Iterable[str]) -> tuple[str, ...]:
        """Return the cells or types of device that carry one of `values` as `label`."""
        wanted = set(values)
        entries: Mapping[str, Section] = (
            self.devices if LABEL_FILTERS[label] == "imei_tac" else self.cells
        )
        return tuple(key for key, entry in entries.items() if getattr(entry, label) in wanted)


E = TypeVar("E", bound=Section)


def load_maps(
    cells: Path | None = None, ran_nodes: Path | None = None, devices: Path | None = None
) -> Maps:
    """Return the maps in the given files; `ConfigError` names every fault of all of them."""
    problems: list[str] = []
    maps = Maps(
        cells=_entries(cells, CellEntry, "cell_id", problems),
        ran_nodes=_entries(ran_nodes, RanNodeEntry, "ran_node_id", problems),
        devices=_entries(devices, DeviceEntry, "imei_tac", problems),
    )
    if problems:
        raise ConfigError(problems)
    return maps


def _entries(path: Path | None, item: type[E], key: str, problems: list[str]) -> dict[str, E]:
    if path is None:
        return {}
    try:
        return {getattr(entry, key): entry for entry in load_rows(path, item, unique=key)}
    except ConfigError as error:
        problems += error.problems
        return {}


class MapsInForce:
    """The maps that answers are given with, exchanged as a whole when they are read again.

    An answer takes `current` once, so that it shows one state of the maps.
    """

    def __init__(self, load: Callable[[], Maps], metrics: Metrics) -> None:
        """Load the maps for the first time; raises `ConfigError`. Blocks."""
        self._load = load
        self._metrics = metrics
        self.current = load()

    async def reload(self) -> bool:
        """Read the files again; at a fault all maps stay as they are, and the log says why."""
        try:
            self.current = await asyncio.to_thread(self._load)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("maps: %s", problem)
            _log.error("maps: not reloaded, those from before stay in force")
            self._metrics.map_reloads.labels("refused").inc()
            return False
        maps = self.current
        counts = len(maps.cells), len(maps.ran_nodes), len(maps.devices)
        _log.info("maps: reloaded, %d cells, %d RAN nodes, %d devices", *counts)
        self._metrics.map_reloads.labels("loaded").inc()
        return True
