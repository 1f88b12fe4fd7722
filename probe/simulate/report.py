"""The truth file and the attribution map that stand beside a simulated capture."""

import csv
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from probe.simulate.control.report import ControlTruth
from probe.simulate.network import (
    APN,
    GATEWAY_ADDRESS,
    RAN_PREFIX,
    SUBSCRIBER_PREFIXES,
    Cell,
    Network,
    Subscriber,
)
from probe.simulate.truth import COUNTERS, Row

FORMAT: Final = 1
MAP_COLUMNS: Final = (
    "client_prefix",
    "vlan",
    "teid",
    "gtpu_address",
    "subscriber",
    "cell_id",
    "ran_node_id",
    "tracking_area",
    "rat",
    "apn",
)
_SUMMED: Final = [f"{name}_{way}" for name in COUNTERS for way in ("up", "down")]


def write_truth(
    path: Path,
    network: Network,
    sessions: list[Row],
    settings: Row,
    control: ControlTruth | None = None,
) -> Row:
    """Write the labels as JSON and return its totals. `settings` says how the capture was made."""
    totals = _totals(sessions)
    document = {
        "format": FORMAT,
        **settings,
        "subscriber_prefixes": list(SUBSCRIBER_PREFIXES),
        "ran_prefixes": [RAN_PREFIX],
        "bad_cells": [cell.cell_id for cell in network.cells if cell.bad],
        "bad_subscribers": [user.identity for user in network.subscribers if user.bad],
        "totals": totals,
        "cells": _cell_rows(network, sessions),
        "subscribers": _subscriber_rows(network, sessions),
        "sessions": sessions,
    }
    if control is not None:
        _add_control(document, control)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return totals


def _add_control(document: Row, control: ControlTruth) -> None:
    """Add what the control plane knows; where a subscriber is depends on the time then."""
    carried, congested = control.carried(), control.congested_cells
    for row in document["cells"]:
        row["congested"] = row["cell_id"] in congested
        row["carried"] = carried.get(row["cell_id"])
    for row in document["subscribers"]:
        del row["cell_id"], row["client_prefixes"], row["loss_down"]
    document.update(control.rows(document["start_time"]))


def _cell_rows(network: Network, sessions: list[Row]) -> list[Row]:
    grouped = _grouped(sessions, "cell_id")
    return [_cell_row(cell, grouped.get(cell.cell_id, [])) for cell in network.cells]


def _subscriber_rows(network: Network, sessions: list[Row]) -> list[Row]:
    grouped = _grouped(sessions, "subscriber")
    return [_subscriber_row(user, grouped.get(user.identity, [])) for user in network.subscribers]


def _grouped(sessions: list[Row], name: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in sessions:
        groups.setdefault(row[name], []).append(row)
    return groups


def _cell_row(cell: Cell, sessions: list[Row]) -> Row:
    return {
        "cell_id": cell.cell_id,
        "ran_node_id": cell.ran_node_id,
        "tracking_area": cell.tracking_area,
        "rat": cell.rat,
        "bad": cell.bad,
        "rtt_client_us": cell.rtt_us,
        "loss_down": cell.loss,
        **_totals(sessions),
    }


def _subscriber_row(subscriber: Subscriber, sessions: list[Row]) -> Row:
    return {
        "subscriber": subscriber.identity,
        "cell_id": subscriber.cell.cell_id,
        "bad": subscriber.bad,
        "client_prefixes": client_prefixes(subscriber),
        "loss_down": subscriber.loss,
        **_totals(sessions),
    }


def _totals(sessions: list[Row]) -> Row:
    causes = [row["failure_cause"] for row in sessions if row["failure_cause"] is not None]
    dns = [row for row in sessions if row["app_protocol"] == "dns"]
    return {
        "sessions": len(sessions),
        "sessions_by_transport": _counted(row["transport"] for row in sessions),
        "failures": len(causes),
        "failure_causes": _counted(causes),
        "dns_lookups": len(dns),
        "dns_rcodes": _counted(
            str(row["dns_rcode"]) for row in dns if row["dns_rcode"] is not None
        ),
        **{name: sum(row[name] for row in sessions) for name in _SUMMED},
        "handshake_rtt_client_us": _spread(sessions, "handshake_rtt_client_us"),
        "handshake_rtt_server_us": _spread(sessions, "handshake_rtt_server_us"),
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in sorted(values):
        counts[value] = counts.get(value, 0) + 1
    return counts


def _spread(sessions: list[Row], name: str) -> dict[str, Any] | None:
    values = sorted(row[name] for row in sessions if row[name] is not None)
    if not values:
        return None
    return {
        "samples": len(values),
        "min": values[0],
        "median": int(statistics.median(values)),
        "max": values[-1],
    }


def write_map(path: Path, network: Network, view: str) -> None:
    """Write the attribution map: by client prefix for an SGi tap, by TEID for an S1-U tap."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, MAP_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for subscriber in network.subscribers:
            keys = _prefix_keys(subscriber) if view == "sgi" else _tunnel_keys(subscriber)
            writer.writerows({**key, **_attributes(subscriber)} for key in keys)


def client_prefixes(subscriber: Subscriber) -> list[str]:
    """Return the prefixes that the subscriber's addresses come from."""
    prefixes = [f"{subscriber.ipv4}/32"]
    return prefixes if subscriber.ipv6_prefix is None else [*prefixes, subscriber.ipv6_prefix]


def _prefix_keys(subscriber: Subscriber) -> list[Row]:
    return [{"client_prefix": prefix} for prefix in client_prefixes(subscriber)]


def _tunnel_keys(subscriber: Subscriber) -> list[Row]:
    """A TEID is unique at the end that chose it, which is where its packets go (TS 29.281 5.1)."""
    return [
        {"teid": subscriber.teid_up, "gtpu_address": GATEWAY_ADDRESS},
        {"teid": subscriber.teid_down, "gtpu_address": subscriber.cell.node_address},
    ]


def _attributes(subscriber: Subscriber) -> Row:
    cell = subscriber.cell
    return {
        "subscriber": subscriber.identity,
        "cell_id": cell.cell_id,
        "ran_node_id": cell.ran_node_id,
        "tracking_area": cell.tracking_area,
        "rat": cell.rat,
        "apn": APN,
    }
