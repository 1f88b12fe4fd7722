"""YAML configuration: one loader for probe and collector that names every problem at once.

A configuration is a `Section`: a frozen pydantic model that refuses unknown keys. `load` reads the
file and returns the model, or raises `ConfigError` with one line for each problem:

    probe.yaml:12: collector.urls[0]: must be an http or https URL, got 'ftp://x'; allowed: ...

Values are taken strictly: the text "5" is not a number and the number 5 is not text. Relative paths
are relative to the directory of the file that names them, so a configuration means the same
wherever the process starts. YAML is version 1.2 (`yes` is text); tags, several documents, duplicate
keys and merge keys are refused.
"""

import difflib
import ipaddress
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainValidator,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from probe.errors import ConfigError

MAX_FILE_BYTES: Final = 64 << 20
MAX_NODES: Final = 1_000_000  # values of one file after aliases are followed: an alias bomb's end

Location = tuple[str | int, ...]
Locate = Callable[[Location], int]


class Section(BaseModel):
    """A mapping of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M]) -> M:
    """Return the configuration in the YAML file `path`, a mapping, as `model`.

    Raises `ConfigError` that lists every problem with file, line, key and what is allowed.
    """
    document = read_yaml(path)
    if not isinstance(document.value, dict):
        got = shown(document.value)
        raise ConfigError([f"{path}:1: the file must hold a mapping of keys to values, got {got}"])
    loaded: M = validate(document.value, model, source=path, locate=document.line)
    return loaded


def validate(value: object, form: Any, *, source: Path, locate: Locate) -> Any:
    """Return `value` (what JSON can hold) as `form`, a model or any type pydantic knows.

    `locate` gives the line of a location inside `value`; relative paths start at `source`'s
    directory. Raises `ConfigError`.
    """
    adapter = TypeAdapter(form)
    try:
        return adapter.validate_json(
            json.dumps(value), strict=True, context={"directory": source.parent}
        )
    except ValidationError as error:
        problems = _problems(error.errors(include_url=False), form, value)
        lines = sorted((locate(place), _path_text(place), text) for place, text in problems)
        raise ConfigError(
            [f"{source}:{line}: {path + ': ' if path else ''}{text}" for line, path, text in lines]
        ) from None


# ------------------------------------------------------------------------------- reading of YAML


@dataclass(frozen=True)
class _Document:
    """A file's plain value and the line (from 1) on which each part of it begins."""

    value: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_yaml(path: Path) -> _Document:
    text = read_text(path)
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise ConfigError([f"{path}:{line}: {character} is not allowed in YAML"]) from None
    except MarkedYAMLError as error:
        raise ConfigError([f"{path}:{_mark_line(error)}: {_syntax_message(error)}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}:1: the file is nested too deeply"]) from None
    except (YAMLError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError([f"{path}:1: not valid YAML: {first}"]) from None
    if node is None:
        raise ConfigError([f"{path}:1: the file is empty"])
    return _Builder(path, yaml).document(node)


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: the file is not UTF-8 text"]) from None


def _mark_line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return int(mark.line) + 1 if mark is not None else 1


def _syntax_message(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return "not valid YAML: " + ", ".join(" ".join(str(part).split()) for part in parts)


class _Builder:
    """Turns YAML nodes into plain values, noting lines and gathering problems."""

    def __init__(self, path: Path, yaml: YAML) -> None:
        self._path = path
        self._constructor = yaml.constructor
        self._lines: dict[Location, int] = {}
        self._problems: list[str] = []
        self._nodes = 0

    def document(self, node: Node) -> _Document:
        try:
            value = self._value(node, ())
        except RecursionError:
            raise ConfigError([f"{self._path}:1: the file is nested too deeply"]) from None
        if self._problems:
            raise ConfigError(self._problems)
        return _Document(value, self._lines)

    def _value(self, node: Node, location: Location) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError([f"{self._path}:1: the file holds more than {MAX_NODES} values"])
        self._lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, location)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*location, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problem(line, "a key must be plain text")
                continue
            key = str(key_node.value)
            inner = (*location, key)
            if key in mapping:
                self._problem(line, f"{_path_text(inner)}: the key stands twice")
                continue
            self._lines[inner] = line
            mapping[key] = self._value(value_node, inner)
        return mapping

    def _scalar(self, node: Node) -> Any:
        tag = str(node.tag)
        if tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"):
            return str(node.value)
        if tag not in _PLAIN_TAGS:
            self._problem(node.start_mark.line + 1, f"the tag {tag} is not allowed")
            return None
        try:
            return self._constructor.construct_object(node)
        except (ValueError, YAMLError):
            self._problem(node.start_mark.line + 1, f"{shown(node.value)} is not a value of {tag}")
            return None

    def _problem(self, line: int, text: str) -> None:
        self._problems.append(f"{self._path}:{line}: {text}")


_PLAIN_TAGS: Final = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}


# ------------------------------------------------------------------------------- words for people


def _problems(errors: list[ErrorDetails], form: Any, value: object) -> list[tuple[Location, str]]:
    """Return (location, text) of each error, those of a union's wrong members left out."""
    found: dict[Location, list[str]] = {}
    for error in errors:
        if error["type"] == "too_short" and _has_faulty_items(error, errors):
            continue  # pydantic counts the items that are right
        location, owner, in_union = _resolve(form, error["loc"])
        if error["type"] == "union_tag_invalid" and _is_key_name(error):
            location = (*location, error["ctx"]["discriminator"].strip("'"))
        text = _message(error, location, owner, value)
        found.setdefault(location, []).append(text)
        if in_union and error["type"] in _WRONG_TYPE:
            found[location][-1] = _UNION_MARK + text
    return [
        (location, "; or ".join(dict.fromkeys(text.lstrip(_UNION_MARK) for text in texts)))
        for location, texts in found.items()
        if not _explained_deeper(location, texts, found)
    ]


def _has_faulty_items(listed: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    place = listed["loc"]
    return any(error["loc"][: len(place)] == place and error["loc"] != place for error in errors)


_UNION_MARK: Final = "\0"  # sets apart "this member of the union is another type altogether"


def _explained_deeper(
    location: Location, texts: list[str], found: Mapping[Location, list[str]]
) -> bool:
    """Say whether a member of the union fits by type, so that only its own errors matter."""
    if not all(text.startswith(_UNION_MARK) for text in texts):
        return False
    return any(len(other) > len(location) and other[: len(location)] == location for other in found)


def _is_key_name(error: ErrorDetails) -> bool:
    return not error["ctx"]["discriminator"].endswith("()")


def _message(error: ErrorDetails, location: Location, owner: Any, value: object) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(location[-1]), _keys_of(owner))
    if kind == "missing":
        return "this key is required"
    got = f", got {shown(_at(value, location))}"
    if kind in ("literal_error", "enum"):
        return f"unknown value{got}; allowed: {context['expected']}"
    if kind == "union_tag_invalid":
        return f"unknown value{got}; allowed: {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']} is required"
    if kind in ("value_error", "assertion_error"):
        return _with_got(str(context["error"]), got, _at(value, location))
    if kind == "too_short":
        return f"needs at least {context['min_length']}, got {context['actual_length']}"
    if kind in _WRONG_TYPE:
        return f"wrong type{got}; allowed: {_WRONG_TYPE[kind]}"
    text = error["msg"].replace("Input should be", "must be").replace("Input should", "must")
    return text[:1].lower() + text[1:] + got


def _with_got(text: str, got: str, value: object) -> str:
    """Put what was found before the part that says what is allowed; mappings are not shown."""
    if isinstance(value, dict | list):
        return text
    what, separator, allowed = text.partition("; allowed:")
    return what + got + separator + allowed


_WRONG_TYPE: Final = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "none_required": "nothing",
    "path_type": "a path, as text",
}


def _unknown_key(key: str, allowed: Iterable[str]) -> str:
    names = list(allowed)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f", did you mean {near[0]!r}" if near else ""
    return f"unknown key{hint}; allowed: {', '.join(names)}"


def shown(value: object) -> str:
    """Return `value` short and on one line.

    Left out are passwords in URLs, and most of long numbers: a slip in an identity must not carry
    it into a log.
    """
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(re.sub(r"://[^@/\s]*@", "://***@", value) if isinstance(value, str) else value)
    text = re.sub(r"\d{9,}", lambda digits: digits[0][:3] + "***", text)
    return text if len(text) <= 80 else text[:77] + "..."


def _path_text(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _at(value: Any, location: Location) -> Any:
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


# --------------------------------------------------- from pydantic's error locations to YAML's keys


def _resolve(form: Any, parts: tuple[int | str, ...]) -> tuple[Location, Any, bool]:
    """Return the keys in `parts`, the type that holds the last one, and if a union chose last.

    Pydantic puts the label of a union's member between the keys; the file has no such key.
    """
    location: list[str | int] = []
    owner, in_union = form, False
    for part in parts:
        members = _union_members(form)
        if members is not None:
            owner = form = _member(members, str(part))
            in_union = True
        elif part != "[key]":
            owner, in_union = form, False
            form = _inner(form, part)
            location.append(part)
    return tuple(location), owner, in_union


def plain_type(form: Any) -> Any:
    """Return `form` without Annotated and without `| None`, which pydantic does not label."""
    while True:
        if get_origin(form) is Annotated:
            form = get_args(form)[0]
            continue
        others = [a for a in get_args(form) if a is not types.NoneType] if _is_union(form) else []
        if len(others) != 1:
            return form
        form = others[0]


def _is_union(form: Any) -> bool:
    return get_origin(form) in (Union, types.UnionType)


def _union_members(form: Any) -> list[Any] | None:
    form = plain_type(form)
    return [a for a in get_args(form) if a is not types.NoneType] if _is_union(form) else None


def _member(members: list[Any], label: str) -> Any:
    for member in members:
        if label in _labels(member):
            return member
    return None


def _labels(member: Any) -> set[str]:
    """Return what pydantic may call `member`: its tag, its class, its discriminating literals."""
    metadata = get_args(member)[1:] if get_origin(member) is Annotated else ()
    labels = {entry.tag for entry in metadata if isinstance(entry, Tag)}
    plain = plain_type(member)
    labels.add(getattr(plain, "__name__", str(plain)))
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        for field in plain.model_fields.values():
            if get_origin(field.annotation) is Literal:
                labels.update(str(value) for value in get_args(field.annotation))
    return labels


def _inner(form: Any, part: str | int) -> Any:
    """Return the type of what `part` names inside `form`, None where that is not known."""
    form = plain_type(form)
    if isinstance(form, type) and issubclass(form, BaseModel):
        field = form.model_fields.get(str(part))
        return field.annotation if field is not None else None
    origin, arguments = get_origin(form), [a for a in get_args(form) if a is not Ellipsis]
    if origin in (list, tuple, set, frozenset) and arguments and isinstance(part, int):
        return arguments[min(part, len(arguments) - 1)]
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return arguments[1]
    return None


def _keys_of(owner: Any) -> list[str]:
    plain = plain_type(owner)
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return list(plain.model_fields)
    return []


# --------------------------------------------------------------------------- values with a meaning

_DURATION_UNITS: Final = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_SIZE_UNITS: Final = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
_DURATION_HELP: Final = "a duration carries a unit; allowed: us, ms, s, m, h, d, w, as in 60s"
_SIZE_HELP: Final = (
    "a size carries a unit; allowed: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, as in 64MiB"
)


def parse_duration(value: object) -> timedelta:
    """Return the duration in text like "60s", "250ms" or "1h30m"; more than 0, to 1 us."""
    if isinstance(value, timedelta):
        return value
    parts = re.findall(r"(\d{1,15}(?:\.\d{1,9})?)([a-z]+)", value) if isinstance(value, str) else []
    whole = "".join(number + unit for number, unit in parts)
    if not parts or whole != value or any(unit not in _DURATION_UNITS for _, unit in parts):
        raise ValueError(_DURATION_HELP)
    units = [_DURATION_UNITS[unit] for _, unit in parts]
    if any(earlier <= later for earlier, later in pairwise(units)):
        raise ValueError("units must go from the largest to the smallest, each once")
    try:
        total = sum((_DURATION_UNITS[unit] * float(number) for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError("the duration is too long") from None
    if total <= timedelta():
        raise ValueError("the duration must be longer than 0")
    return total


def parse_size(value: object) -> int:
    """Return the bytes in text like "64MiB" or "500MB"; more than 0."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)([A-Za-z]+)", str(value))
    if not isinstance(value, str) or match is None or match[2] not in _SIZE_UNITS:
        raise ValueError(_SIZE_HELP)
    size = int(float(match[1]) * _SIZE_UNITS[match[2]])
    if not 0 < size < 1 << 62:
        raise ValueError("the size must be more than 0 and less than 2^62 bytes")
    return size


@dataclass(frozen=True)
class ListenAddress:
    """Where a server listens: a host name or address, and a TCP port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> ListenAddress:
    """Return the address in text like "127.0.0.1:8642" or "[::1]:8642"."""
    if isinstance(value, ListenAddress):
        return value
    pattern = r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})"
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65_535:
        raise ValueError("must be host:port; allowed: 127.0.0.1:8642, [::1]:8642 and the like")
    return ListenAddress(match[1] or match[2], int(match[3]))


def parse_url(value: object) -> str:
    """Return the http or https URL `value` without a slash at its end."""
    if not isinstance(value, str):
        raise ValueError("must be an http or https URL, as text")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", value) or parts.query or parts.fragment:
        raise ValueError("must be a URL; allowed: http://host[:port][/path] or https://...")
    return value.rstrip("/")


IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_prefix(value: object) -> IPNetwork:
    """Return the network in text like "10.45.0.0/16"; an address alone is a /32 or /128."""
    if isinstance(value, IPNetwork):
        return value
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        reason = "has host bits set" if "host bits" in str(error) else "must be an address prefix"
        raise ValueError(f"{reason}; allowed: 10.45.0.0/16, 2001:db8::/32 and the like") from None


def parse_address(value: object) -> IPAddress:
    """Return the IPv4 or IPv6 address in the text `value`."""
    if isinstance(value, IPAddress):
        return value
    try:
        return ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be an IP address; allowed: 192.0.2.1, 2001:db8::1") from None


def _parse_path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path, as text")
    directory = (info.context or {}).get("directory", Path())
    return Path(value) if value == "-" else directory / Path(value).expanduser()


Duration = Annotated[timedelta, PlainValidator(parse_duration)]
Size = Annotated[int, PlainValidator(parse_size)]
Listen = Annotated[ListenAddress, PlainValidator(parse_listen)]
Url = Annotated[str, PlainValidator(parse_url)]


def text_like(pattern: str, allowed: str) -> AfterValidator:
    """Return a check that a text matches all of `pattern`; `allowed` tells a person the form."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"another form is needed; allowed: {allowed}")
        return value

    return AfterValidator(check)


Prefix = Annotated[IPNetwork, PlainValidator(parse_prefix)]
Address = Annotated[IPAddress, PlainValidator(parse_address)]
FilePath = Annotated[Path, PlainValidator(_parse_path)]
SecretFile = Annotated[Path, PlainValidator(_parse_path), "secret"]


def read_secret(path: Path) -> bytes:
    """Return the secret in the file `path`, without the space around it; `ConfigError` if none."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    if not secret:
        raise ConfigError([f"{path}: holds no secret, it is empty"])
    return secret


def secret_problems(section: BaseModel, prefix: str = "") -> list[str]:
    """Return a line for each `SecretFile` in `section` that is missing, unreadable or empty."""
    problems = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, BaseModel):
            problems += secret_problems(value, key)
        elif isinstance(value, Path) and _is_secret(field.annotation, field.metadata):
            try:
                read_secret(value)
            except ConfigError as error:
                problems += [f"{key}: {problem}" for problem in error.problems]
    return problems


def _is_secret(annotation: Any, metadata: list[Any]) -> bool:
    """Look for `SecretFile` in a field, which may be `SecretFile | None`."""
    inner = [entry for form in get_args(annotation) for entry in get_args(form)[1:]]
    return "secret" in metadata or "secret" in inner
