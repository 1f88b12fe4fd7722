"""Figures of the control plane: who, where, how long a set-up took, and what was refused."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from probe.cli.replay import WELL_KNOWN_KEY
from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure

# Messages that name a session's subscriber: Create Session and Create PDP Context Request.
CREATING = {"gtpv2": 32, "gtpv1c": 16}
# Answers to what a subscriber waits for: type or code, by section of a truth file.
ANSWERS = {"gtpv2": {33, 96}, "gtpv1c": {17}, "pfcp": {51}, "radius": {2, 3, 11}}
PROTOCOLS = {"gtpv2": "gtpv2", "gtpv1c": "gtpv1", "pfcp": "pfcp", "radius": "radius"}
# The first cause that refuses: TS 29.274 8.4, TS 29.060 7.7.1, TS 29.244 8.2.1.
REFUSES = {"gtpv2": 64, "gtpv1c": 192, "pfcp": 64}
ACCESS_REJECT = 3  # RFC 2865 4.3
ECI_BITS = 28  # tshark's number has the spare bits in it


def control_figures(records: list[Record], truth: Truth) -> list[Figure]:
    told = [record for record in records if record["record_kind"] == "transaction"]
    return [
        subscribers(records, truth),
        cells(told, truth),
        set_up_times(told, truth),
        refusals(told, truth),
    ]


def pseudonym(imsi: str) -> str:
    """The subscriber_id of an IMSI, as a replay without a key makes it."""
    return hmac.new(WELL_KNOWN_KEY, f"imsi:{imsi}".encode(), hashlib.sha256).hexdigest()[:32]


def messages(truth: Truth, section: str) -> list[Truth]:
    found: list[Truth] = truth.get(section, {}).get("list", [])
    return found


def all_of(value: Any) -> list[Any]:
    """One value, several, or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def subscribers(records: list[Record], truth: Truth) -> Figure:
    """Persons, each once, by the pseudonym of their IMSI."""
    theirs = {pseudonym(imsi): imsi for imsi in named(truth)}
    ours = {
        record["subscriber_id"]
        for record in records
        if record["subscriber_source"] not in (None, "address", "map")
    }
    off = [f"only ours: {one}" for one in ours - theirs.keys()]
    off += [f"only tshark's: {theirs[one]}" for one in theirs.keys() - ours]
    return Figure("control-plane subscribers", len(theirs), off)


def named(truth: Truth) -> Iterator[str]:
    for section, kind in CREATING.items():
        for message in messages(truth, section):
            if message["message"] == kind:
                yield from all_of(message.get("imsi"))
    for protocol in truth.get("ran", {}).values():
        for message in protocol["list"]:
            yield from all_of(message.get("imsi"))


def cells(told: list[Record], truth: Truth) -> Figure:
    """Cells of set-ups, each once, by the number within their network."""
    wanted = {cell for message in messages(truth, "gtpv2") for cell in eutran(message)}
    ngap = truth.get("ran", {}).get("ngap", {}).get("list", [])
    wanted |= {int(cell, 16) for message in ngap for cell in all_of(message.get("cell"))}
    found = {int(one["cell_id"].rpartition("-")[2], 16) for one in told if one["cell_id"]}
    return Figure("control-plane cells", len(wanted), differ(Counter(found), Counter(wanted)))


def eutran(message: Truth) -> list[int]:
    return [int(number) % 2**ECI_BITS for number in all_of(message.get("eci"))]


def set_up_times(told: list[Record], truth: Truth) -> Figure:
    """To the microsecond, of which the engine leaves out the rest."""
    theirs = Counter(
        (PROTOCOLS[section], round(message["time_s"] * 1e9) // 1000)
        for section, message in answers(truth)
        if "time_s" in message
    )
    ours = Counter(
        (one["app_protocol"], one["setup_us"])
        for one in told
        if one["app_protocol"] in PROTOCOLS.values() and one["setup_us"] is not None
    )
    return Figure("control-plane set-up times", theirs.total(), differ(ours, theirs))


def answers(truth: Truth) -> Iterator[tuple[str, Truth]]:
    for section, kinds in ANSWERS.items():
        for message in messages(truth, section):
            if kinds & set(all_of(message.get("message", message.get("code")))):
                yield section, message


def refusals(told: list[Record], truth: Truth) -> Figure:
    theirs = Counter(
        (PROTOCOLS[section], cause)
        for section, message in answers(truth)
        if (cause := refusal(section, message)) is not None
    )
    ours = Counter(
        (one["app_protocol"], cause)
        for one in told
        if one["app_protocol"] in PROTOCOLS.values()
        for cause in causes(one["evidence"] or [])
    )
    accepted = sum(1 for _ in answers(truth))
    return Figure("control-plane refusals", accepted, differ(ours, theirs))


def refusal(section: str, message: Truth) -> int | None:
    if section == "radius":
        return ACCESS_REJECT if message["code"] == ACCESS_REJECT else None
    causes = (cause for cause in all_of(message.get("cause")) if cause >= REFUSES[section])
    return next(causes, None)


def causes(evidence: Iterable[str]) -> list[int]:
    return [int(one.removeprefix("cause_")) for one in evidence if one.startswith("cause_")]


def differ(ours: Counter[Any], theirs: Counter[Any]) -> list[str]:
    off = [f"only ours: {one}" for one in (ours - theirs).elements()]
    return off + [f"only tshark's: {one}" for one in (theirs - ours).elements()]
