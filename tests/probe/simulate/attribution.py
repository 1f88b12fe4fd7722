"""What the engine says of who and where, held against what the simulator knows."""

import argparse
import hashlib
import hmac
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probe.engine import Engine
from probe.record import codec
from probe.simulate import add_arguments, run

Row = dict[str, Any]
FiveTuple = tuple[Any, ...]
SITE_KEY = b"a key for tests"
FIVE_TUPLE = ("transport", "client_ip", "client_port", "server_ip", "server_port")


def simulate(path: Path, *options: str) -> Row:
    """Write a capture and return its truth."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(path), *options])) == 0
    truth: Row = json.loads(path.with_suffix(".truth.json").read_text())
    return truth


def replay(path: Path, truth: Row, attribution: Sequence[Row] = ()) -> list[Row]:
    """Return the engine's records of a simulated capture, with a map's rules or without."""
    options = {
        "probe_id": "test",
        "captures": [{"capture_point": "tap", "files": [str(path)], "time_offset_ns": 0}],
        "active_timeout_s": 60,
        "client_address": "full",
        "batch_rows": 8192,
        "batch_interval_s": 3600,
        "limits": {
            "flows": 65_536,
            "fragments": 64,
            "reassembly_bytes": 1 << 20,
            "clients": 4096,
            "pairs": 4096,
            "names": 4096,
            "bearers": 65_536,
        },
        "subscriber_prefixes": truth.get("subscriber_prefixes", []),
        "ran_prefixes": truth.get("ran_prefixes", []),
        "attribution": list(attribution),
    }
    engine = Engine(json.dumps(options), SITE_KEY)
    engine.start()
    rows: list[Row] = []
    while not engine.finished():
        body = engine.next_body(1.0)
        if body:
            batch = codec.seal(body, probe_id="test", epoch=1, sequence=0, created_at=0)
            rows += codec.rows(codec.decode(batch))
    return rows


def pseudonym(identity: str) -> str:
    """Return the subscriber_id of `imsi:...` or `msisdn:...` at the site of `SITE_KEY`."""
    return hmac.new(SITE_KEY, identity.encode(), hashlib.sha256).hexdigest()[:32]


@dataclass
class Score:
    """Bytes of IP packets, by what the engine said of them."""

    total: int = 0
    right_subscriber: int = 0
    wrong_subscriber: int = 0
    right_cell: int = 0
    wrong_cell: int = 0
    no_cell: int = 0
    right_node: int = 0
    wrong_node: int = 0
    no_node: int = 0
    misplaced: dict[FiveTuple, Row] = field(default_factory=dict)

    def share(self, name: str) -> float:
        count: int = getattr(self, name)
        return count / self.total


def five_tuple(row: Row) -> FiveTuple:
    """Return what names a session in records and labels."""
    return tuple(row[name] for name in FIVE_TUPLE)


def by_five_tuple(rows: list[Row]) -> dict[FiveTuple, list[Row]]:
    """Return the records of sessions, not of signalling, by five-tuple."""
    flows: dict[FiveTuple, list[Row]] = defaultdict(list)
    for row in rows:
        if row["record_kind"] != "transaction":
            flows[five_tuple(row)].append(row)
    return flows


def score(truth: Row, rows: list[Row]) -> Score:
    """Compare bytes by subscriber, cell and base station, session by session."""
    result = Score()
    flows = by_five_tuple(rows)
    # A base station goes by its address where the control plane names it so alone (N4).
    identities = {
        stay["node_address"]: stay["ran_node_id"]
        for attachment in truth["attachments"]
        for stay in attachment["stays"]
    }
    for session in truth["sessions"]:
        key = five_tuple(session)
        records = flows.get(key, [])
        wanted = pseudonym(session["subscriber"])
        cells: Counter[str | None] = Counter()
        nodes: Counter[str | None] = Counter()
        for record in records:
            volume = record["bytes_up"] + record["bytes_down"]
            result.total += volume
            if record["subscriber_id"] == wanted:
                result.right_subscriber += volume
            elif record["subscriber_source"] != "address":
                result.wrong_subscriber += volume
            cells[record["cell_id"]] += volume
            node = record["ran_node_id"]
            nodes[identities.get(node, node)] += volume
        true_cells, true_nodes = carried(session, "cell_id"), carried(session, "ran_node_id")
        wrong = _compare(result, "cell", cells, true_cells)
        _compare(result, "node", nodes, true_nodes)
        if wrong:
            result.misplaced[key] = {"measured": dict(cells), "true": dict(true_cells)}
    return result


def carried(session: Row, name: str) -> Counter[str | None]:
    """Return a session's true bytes by cell or base station."""
    shares: Counter[str | None] = Counter()
    for share in session["carried"]:
        shares[share[name]] += share["bytes_up"] + share["bytes_down"]
    return shares


def _compare(
    result: Score, name: str, measured: Counter[str | None], true: Counter[str | None]
) -> int:
    """Count bytes as right, wrong or unknown; return those that are wrong or unknown."""
    unknown = measured.pop(None, 0)
    right = sum(min(volume, true[place]) for place, volume in measured.items())
    wrong = sum(measured.values()) - right
    for kind, volume in (("right", right), ("wrong", wrong), ("no", unknown)):
        key = f"{kind}_{name}"
        setattr(result, key, getattr(result, key) + volume)
    return wrong + unknown


def text_of(time_ns: int) -> str:
    """Return a time as records show it, to the microsecond."""
    return datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def main() -> None:
    """Print a line of docs/mobile.md, "Measured", for options of `qoe-probe simulate`."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "simulated.pcap"
        truth = simulate(path, *sys.argv[1:])
        result = score(truth, replay(path, truth))
    names = ("subscriber", "cell", "node")
    parts = [f"{name} right {result.share(f'right_{name}'):.4%}" for name in names]
    wrong = [f"wrong {getattr(result, f'wrong_{name}')} bytes" for name in names]
    print(f"{result.total} bytes:", "; ".join(map(", ".join, zip(parts, wrong, strict=True))))


if __name__ == "__main__":
    main()
