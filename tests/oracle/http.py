"""Figures of HTTP/1.x per TCP flow: hosts, requests, statuses, and waits for the first byte.

A record holds the first host of its flow, and of its interval the number of requests, the worst
status and the median wait; each is compared with the same of tshark's over the whole flow. Where a
flow has several records, or more waits than an interval keeps, each of our medians is one of
tshark's waits.
"""

from collections import defaultdict
from collections.abc import Iterable

from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure
from tests.oracle.flows import Flow, flows
from tests.oracle.tshark import details_of

# A status and the wait for it in microseconds, if tshark knows the request.
Response = tuple[int, int | None]
# Most waits of an interval that the engine keeps; of more it takes a part.
MAX_KEPT = 16
# Interim answers, which the engine leaves out (RFC 9110 15.2).
INTERIM = {100, 102, 103}
# From the status that hurts most to the one that hurts least, as docs/record.md has it.
ORDINARY_ERRORS = {401, 403, 404, 407, 410, 412, 416}


def http_figures(records: list[Record], truth: Truth) -> list[Figure]:
    found = {str(flow.stream["stream"]): flow for flow in flows(records, truth)}
    http: Truth = truth.get("http", {})
    responses = details_of(truth["file"])["responses"]
    return [
        hosts(found, by_stream(http.get("requests", []))),
        requests(found, by_stream(http.get("requests", []))),
        statuses(found, responses),
        first_bytes(found, responses),
    ]


def by_stream(messages: list[Truth]) -> dict[str, list[Truth]]:
    found: dict[str, list[Truth]] = defaultdict(list)
    for message in messages:
        found[str(message["stream"])].append(message)
    return found


def hosts(found: dict[str, Flow], asked: dict[str, list[Truth]]) -> Figure:
    off = []
    named = {number: host for number, of in asked.items() if (host := first_host(of))}
    for number, host in named.items():
        ours = {
            r["server_name"] for r in found[number].records if r["server_name_source"] == "host"
        }
        if ours != {host}:
            off.append(f"stream {number}: {sorted(ours)}, tshark {host}")
    return Figure("HTTP hosts", len(named), off)


def first_host(messages: list[Truth]) -> str | None:
    """Lower case, without port, as the engine gives it."""
    named = [message["host"].lower() for message in messages if message["host"]]
    return without_port(named[0]) if named else None


def without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0]


def requests(found: dict[str, Flow], asked: dict[str, list[Truth]]) -> Figure:
    off = []
    for number, flow in found.items():
        of_http = [r["requests"] for r in flow.records if is_http(r)]
        ours, wanted = sum(count or 0 for count in of_http), len(asked.get(number, []))
        off += [f"stream {number}: {ours} of {wanted}"] * abs(ours - wanted)
    return Figure("HTTP requests", sum(map(len, asked.values())), off)


def is_http(record: Record) -> bool:
    return record["app_protocol"] in {"http", "websocket"}


def statuses(found: dict[str, Flow], responses: dict[str, list[Response]]) -> Figure:
    """The worst of each flow."""
    compared, off = 0, []
    for number, flow in found.items():
        wanted = worst(code for code, _ in responses.get(number, []) if code not in INTERIM)
        ours = worst(flow.values("http_status"))
        compared += wanted is not None
        if ours != wanted:
            off.append(f"stream {number}: {ours}, tshark {wanted}")
    return Figure("HTTP statuses", compared, off)


def worst(codes: Iterable[int]) -> int | None:
    """Of two as bad the first."""
    return max(codes, key=badness, default=None)


def badness(status: int) -> int:
    if status in ORDINARY_ERRORS:
        return 3
    return {5: 5, 4: 4, 3: 2, 2: 1}.get(status // 100, 0)


def first_bytes(found: dict[str, Flow], responses: dict[str, list[Response]]) -> Figure:
    """The median of each flow (the lower of two in the middle), to the microsecond."""
    compared, off = 0, []
    for number, of_stream in responses.items():
        flow = found[number]
        theirs = sorted(us for code, us in of_stream if us is not None and code not in INTERIM)
        is_whole = len(flow.records) == 1 and len(theirs) <= MAX_KEPT
        wanted = [theirs[(len(theirs) - 1) // 2]] if theirs and is_whole else theirs
        ours = flow.values("time_to_first_byte_us")
        compared += bool(wanted)
        if bool(ours) != bool(wanted) or not all(is_among(us, wanted) for us in ours):
            off.append(f"stream {number}: {ours}, tshark {theirs}")
    return Figure("HTTP first-byte times", compared, off)


def is_among(us: int, wanted: list[int]) -> bool:
    return any(abs(us - one) <= 1 for one in wanted)
