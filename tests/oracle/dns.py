"""Figures of DNS. Records hold the slowest answer and the worst code of an interval of a flow;
what stands behind these in a flow of several questions cannot be compared one by one."""

from collections import Counter

from tests.oracle.captures import Record, Truth
from tests.oracle.figure import Figure


def dns_figures(records: list[Record], truth: Truth) -> list[Figure]:
    ours = [record for record in records if record["app_protocol"] == "dns"]
    theirs: Truth = truth.get("dns", {})
    return [
        queries(ours, theirs),
        response_times(ours, theirs),
        response_codes(ours, theirs),
        unanswered(ours, theirs),
    ]


def answered(truth: Truth) -> list[Truth]:
    """Answers whose query was captured; the first to each query (a segment may hold several)."""
    first: dict[tuple[int, int, str], Truth] = {}
    for transaction in truth.get("transactions", []):
        if frame := transaction.get("query_frame"):
            first.setdefault((frame, transaction["id"], transaction["name"]), transaction)
    return list(first.values())


def question(message: Truth) -> tuple[int, str, int]:
    return message["id"], message.get("name", ""), message.get("type", 0)


def given_up(truth: Truth) -> set[tuple[int, str, int]]:
    """Questions without an answer. To tshark a copy sent after 5 s is another query; here not."""
    asked = {question(query) for query in truth.get("unanswered", [])}
    return asked - {question(answer) for answer in answered(truth)}


def hidden(records: list[Record]) -> int:
    """Questions of which only the slowest and the worst stand in a record."""
    return sum(max(0, (record["requests"] or 0) - 1) for record in records)


def queries(records: list[Record], truth: Truth) -> Figure:
    wanted = len(answered(truth)) + len(given_up(truth))
    found = sum(record["requests"] or 0 for record in records)
    return Figure("DNS queries", wanted, [f"{found} of {wanted}"] * abs(found - wanted))


def response_times(records: list[Record], truth: Truth) -> Figure:
    """To the microsecond, of which the engine leaves out the rest."""
    theirs = Counter(round(answer["time_s"] * 1e9) // 1000 for answer in answered(truth))
    ours = Counter(r["dns_response_us"] for r in records if r["dns_response_us"] is not None)
    off = [f"only ours: {us} us" for us in (ours - theirs).elements()]
    left = sorted((theirs - ours).elements())
    return Figure("DNS response times", theirs.total(), off + excess(left, records))


def response_codes(records: list[Record], truth: Truth) -> Figure:
    theirs = Counter(int(answer["rcode"]) for answer in answered(truth))
    ours = Counter(r["dns_rcode"] for r in records if r["dns_rcode"] is not None)
    off = [f"only ours: {code}" for code in (ours - theirs).elements()]
    left = sorted((theirs - ours).elements())
    return Figure("DNS response codes", theirs.total(), off + excess(left, records))


def excess(left: list[int], records: list[Record]) -> list[str]:
    """What tshark has more than can stand behind our records."""
    return [f"only tshark's: {figure}" for figure in left[hidden(records) :]]


def unanswered(records: list[Record], truth: Truth) -> Figure:
    """Questions without an answer; of a flow with several, those that its records call failed."""
    sessions: dict[str, list[Record]] = {}
    for record in records:
        sessions.setdefault(record["session_id"], []).append(record)
    found = sum(unanswered_of(of_session) for of_session in sessions.values())
    wanted = len(given_up(truth))
    return Figure("DNS unanswered", wanted, [f"{found} of {wanted}"] * abs(found - wanted))


def unanswered_of(records: list[Record]) -> int:
    asked: int = sum(record["requests"] or 0 for record in records)
    if all(record["dns_rcode"] is None for record in records):
        return asked
    failed: int = sum(record["requests_failed"] or 0 for record in records)
    return failed if asked > 1 else 0
