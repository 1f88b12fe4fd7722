"""Cursors: where a list goes on, with what must not change between its pages."""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from collector.errors import ProblemError
from collector.query.times import LAST_NS, MINUTE_NS, Span


def question_mark(question: BaseModel, path: str) -> str:
    """Return a digest of a question, its page left out: pages of another question do not fit."""
    asked = question.model_dump_json(exclude={"cursor", "limit"})
    return hashlib.sha256(f"{path}\n{asked}".encode()).hexdigest()[:16]


class Cursor(BaseModel):
    """The state between two pages."""

    mark: str
    start: int
    end: int
    capture_point: str | None = None
    position: list[int]  # an offset, or the numbers of `records.Position`
    probe_id: Annotated[str, Field(max_length=128)] = ""  # of the last record told

    @property
    def span(self) -> Span:
        """The range of the first page, so that `now` stands still."""
        return Span(self.start, self.end)


def encode(cursor: Cursor) -> str:
    """Return the text of a cursor."""
    data = json.dumps(cursor.model_dump(), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


OFFSET: Final = (1 << 31,)  # the position in a list that goes on by offset
# The position in a list of records; a batch holds 65,536 at most.
AFTER_RECORD: Final = (1 << 63, 1 << 64, 1 << 32, 1 << 63, 1 << 63, (1 << 16) + 1)


def decode(text: str | None, mark: str, limits: tuple[int, ...]) -> Cursor | None:
    """Return the cursor in `text` with a position below `limits`; 400 if it does not fit."""
    if text is None:
        return None
    try:
        value: Mapping[str, Any] = json.loads(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        )
        cursor = Cursor.model_validate(value, strict=True)
    except (ValueError, binascii.Error, RecursionError):
        raise _unfit() from None
    if cursor.mark != mark or len(cursor.position) != len(limits):
        raise _unfit()
    if not 0 <= cursor.start < cursor.end <= LAST_NS + MINUTE_NS:
        raise _unfit()
    if any(not 0 <= n < limit for n, limit in zip(cursor.position, limits, strict=True)):
        raise _unfit()
    return cursor


def _unfit() -> ProblemError:
    return ProblemError(400, "Bad parameter", "cursor does not belong to this question")
