"""Maps: files of many equal entries, as CSV with a header or as a YAML list of mappings.

    entries = load_rows(path, Cell, unique="cell_id")

Every fault of the file is named at once, each with file and line, the first `MAX_PROBLEMS` of them:

    cells.csv:7: [5].latitude: must be less than or equal to 90, got 95.0

In CSV the header names the columns, in any order; columns may be left out and empty cells say
nothing. Lines that begin with `#` are comments. Whole numbers may be written `0x1A2B`.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import GenericAlias
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from probe.errors import ConfigError
from probe.settings import (
    Locate,
    Location,
    plain_type,
    read_text,
    read_yaml,
    shown,
    validate,
)

MAX_ROWS: Final = 1_000_000
MAX_PROBLEMS: Final = 50  # lines shown for one map; a person mends these and runs it again

M = TypeVar("M", bound=BaseModel)

_CsvReader = Any  # csv.reader's type has no public name in Python 3.11


@dataclass
class _Found:
    """The entries of a file as plain values, the line of each, and what is wrong so far."""

    entries: list[Any] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    locate: Locate = lambda _: 1


def load_rows(path: Path, item: type[M], unique: str | None = None) -> tuple[M, ...]:
    """Return the entries of the map `path`: CSV if it ends so, else a YAML list.

    No two entries may have the same value of the field `unique`. Raises `ConfigError`.
    """
    found = _read_csv(path, item) if path.suffix == ".csv" else _read_list(path)
    rows: tuple[M, ...] = ()
    try:
        form = GenericAlias(tuple, (item, ...))
        rows = validate(found.entries, form, source=path, locate=found.locate)
    except ConfigError as error:
        found.problems += [_split(path, problem) for problem in error.problems]
    if unique is not None:
        found.problems += _repeated(found, unique)
    if found.problems:
        raise ConfigError(_told(path, found.problems))
    return rows


def _split(path: Path, problem: str) -> tuple[int, str]:
    """Take file and line off the front of a problem, so that all can be put in order."""
    line, _, text = problem.removeprefix(f"{path}:").partition(": ")
    return int(line), text


def _told(path: Path, problems: list[tuple[int, str]]) -> list[str]:
    told = [f"{path}:{line}: {text}" for line, text in sorted(problems)]
    more = len(told) - MAX_PROBLEMS
    return told[:MAX_PROBLEMS] + ([f"{path}: and {more} more problems"] if more > 0 else [])


def _repeated(found: _Found, unique: str) -> list[tuple[int, str]]:
    lines: dict[str, int] = {}
    problems = []
    for number, entry in enumerate(found.entries):
        value = entry.get(unique) if isinstance(entry, dict) else None
        if not isinstance(value, str):
            continue  # the model has refused it
        line = found.locate((number,))
        if value in lines:
            text = f"[{number}].{unique}: {value!r} stands on line {lines[value]} already"
            problems.append((line, text))
        lines.setdefault(value, line)
    return problems


def _read_list(path: Path) -> _Found:
    document = read_yaml(path)
    if not isinstance(document.value, list):
        got = shown(document.value)
        raise ConfigError([f"{path}:1: the file must hold a list of entries, got {got}"])
    return _Found(document.value, locate=document.line)


# -------------------------------------------------------------------------------------------- CSV


def _read_csv(path: Path, item: type[BaseModel]) -> _Found:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header = _header(path, reader, list(item.model_fields))
    readers = [_reader_of(item, name) for name in header]
    found, lines = _Found(), list[int]()
    try:
        for row in reader:
            if not row or row[0].lstrip().startswith("#"):
                continue
            if len(row) != len(header):
                text = f"{len(row)} fields, the header has {len(header)}"
                found.problems.append((reader.line_num, text))
                continue
            if len(found.entries) >= MAX_ROWS:
                raise ConfigError([f"{path}: holds more than {MAX_ROWS} rows"])
            found.entries.append(_entry(header, readers, row))
            lines.append(reader.line_num)
    except csv.Error as error:
        found.problems.append((reader.line_num, f"not valid CSV: {error}"))
    found.locate = _locate(lines)
    return found


def _locate(lines: Sequence[int]) -> Locate:
    def line(location: Location) -> int:
        return lines[location[0]] if location and isinstance(location[0], int) else 1

    return line


def _header(path: Path, reader: _CsvReader, allowed: list[str]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ConfigError([f"{path}:1: not valid CSV: {error}"]) from None
    unknown = [name for name in header if name not in allowed]
    if not header or unknown:
        what = f"unknown column {unknown[0]!r}" if unknown else "the header is missing"
        raise ConfigError([f"{path}:1: {what}; allowed: {', '.join(allowed)}"])
    if len(set(header)) != len(header):
        raise ConfigError([f"{path}:1: a column stands twice in the header"])
    return header


Read = Callable[[str], Any]


def _reader_of(item: type[BaseModel], name: str) -> Read:
    """Return what makes a value of a cell's text: a number where the field is one."""
    kind = plain_type(item.model_fields[name].annotation)
    if kind is int:
        return lambda cell: int(cell, 0)
    return float if kind is float else str


def _entry(header: Sequence[str], readers: Sequence[Read], row: Sequence[str]) -> dict[str, Any]:
    cells = zip(header, readers, (cell.strip() for cell in row), strict=True)
    return {name: _value(read, cell) for name, read, cell in cells if cell}


def _value(read: Read, cell: str) -> Any:
    """Return the value of a cell; what is no number stays text, for the model to refuse by name."""
    try:
        return read(cell)
    except ValueError:
        return cell
