"""Times in questions: RFC 3339, Unix seconds, or relative to now (`now`, `now-1h`)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from collector.errors import ProblemError

NS: Final = 10**9
MINUTE_NS: Final = 60 * NS
HOUR_NS: Final = 3600 * NS
LAST_NS: Final = (1 << 32) * NS  # rollups count 32-bit seconds; 2106

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE: Final = re.compile(r"now(?:-(\d{1,9})([smhdw]))?")
_SECONDS: Final = re.compile(r"\d{1,10}(?:\.\d{1,9})?")
_STEPS: Final = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "6h": 21_600, "1d": 86_400}


@dataclass(frozen=True)
class Span:
    """A half-open range of time, ns since the Unix epoch."""

    start: int
    end: int

    def widened(self, step_s: int) -> "Span":
        """Return the least span of whole steps that holds this one."""
        step = step_s * NS
        return Span(self.start // step * step, -(-self.end // step) * step)

    def within(self, other: "Span | None") -> "Span":
        """Return the part inside `other`, empty if there is none."""
        if other is None:
            return Span(self.start, self.start)
        start = max(self.start, other.start)
        return Span(start, max(start, min(self.end, other.end)))


def parse_time(text: str, name: str, now_ns: int) -> int:
    """Return the ns of the parameter `name`; `ProblemError` 400 if it is no time."""
    if match := _RELATIVE.fullmatch(text):
        back = int(match[1]) * _UNITS[match[2]] * NS if match[1] else 0
        return max(0, now_ns - back)
    if _SECONDS.fullmatch(text):
        return _in_range(int(Decimal(text) * NS), name)
    return _in_range(_from_rfc3339(text, name), name)


def _from_rfc3339(text: str, name: str) -> int:
    # A plus sign that a client did not escape arrives as a space.
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(.+)", text)
    zone = match[3].replace(" ", "+") if match else ""
    if match is None or not re.fullmatch(r"[Zz]|[+-]\d\d:\d\d", zone):
        raise _no_time(name)
    try:
        moment = datetime.fromisoformat(match[1].upper() + zone.upper())
    except ValueError:
        raise _no_time(name) from None
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * NS + int((match[2] or "0").ljust(9, "0"))


def _in_range(time_ns: int, name: str) -> int:
    if not 0 <= time_ns <= LAST_NS:
        raise ProblemError(400, "Bad parameter", f"{name} must be between 1970 and 2106")
    return time_ns


def _no_time(name: str) -> ProblemError:
    return ProblemError(
        400,
        "Bad parameter",
        f"{name} must be RFC 3339 (2026-01-31T12:00:00Z), Unix seconds, or now, now-1h ...",
    )


def parse_step(text: str) -> int:
    """Return the seconds of a timeline's step."""
    if text not in _STEPS:
        raise ProblemError(400, "Bad parameter", f"step must be one of {', '.join(_STEPS)}")
    return _STEPS[text]


def default_step(span: Span) -> int:
    """Return the finest of 1m, 1h and 1d that gives 1,500 points or fewer."""
    for step_s in (60, 3600):
        if span.end - span.start <= 1500 * step_s * NS:
            return step_s
    return 86_400
