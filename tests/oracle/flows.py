"""TCP flows: a stream of tshark's beside our records of it."""

import calendar
import time
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.captures import Ends, Record, Truth, ends_of, ends_of_stream, streams_of

# Decimals of a truth file's times, which are floating-point numbers.
CLOCK_ERROR_S = 1e-5
OTHER_SIDE = {"client": "server", "server": "client"}
DIRECTION = {"client": "up", "server": "down"}


@dataclass(frozen=True)
class Flow:
    stream: Truth
    records: list[Record] = field(default_factory=list)

    def __str__(self) -> str:
        return f"stream {self.stream['stream']}"

    def side(self, theirs: str) -> str:
        """Which side of ours tshark's "client" or "server" is: ours may come from a tunnel."""
        ours = {(record["client_ip"], record["client_port"]) for record in self.records}
        return theirs if not ours or tuple(self.stream["client"]) in ours else OTHER_SIDE[theirs]

    def values(self, name: str) -> list[Any]:
        return [record[name] for record in self.records if record[name] is not None]


def flows(records: list[Record], truth: Truth) -> list[Flow]:
    """Every stream. A record belongs to the last stream of its ends that had begun by then."""
    found: dict[Ends, list[Flow]] = {}
    for stream in streams_of(truth):
        found.setdefault(ends_of_stream(stream), []).append(Flow(stream))
    for record in records:
        if record["transport"] == "tcp":
            begun = [f for f in found.get(ends_of(record), []) if has_begun(f.stream, record)]
            if begun:
                begun[-1].records.append(record)
    return [flow for of_ends in found.values() for flow in of_ends]


def has_begun(stream: Truth, record: Record) -> bool:
    return bool(stream["first_time"] <= seconds(record["flow_start_time"]) + CLOCK_ERROR_S)


def seconds(text: str) -> float:
    """Of a time in JSON: RFC 3339 with nine decimals and Z."""
    whole, _, decimals = text.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + int(decimals) / 1e9
