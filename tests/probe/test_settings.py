"""The YAML loader: every problem at once, each with file, line, key and what is allowed."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Discriminator, Field, Tag

from probe.errors import ConfigError
from probe.settings import (
    Duration,
    FilePath,
    Listen,
    ListenAddress,
    SecretFile,
    Section,
    Size,
    Url,
    load,
    parse_duration,
    parse_listen,
    parse_size,
    parse_url,
    secret_problems,
)
from probe.settings.rows import load_rows


class Door(Section):
    colour: str
    width: int = Field(1, gt=0)


class Window(Section):
    pane: FilePath
    open: Literal["yes", "no"] = "no"


class Brick(Section):
    kind: Literal["brick"]
    count: int


class Wood(Section):
    kind: Literal["wood"]
    planks: tuple[str, ...]


def _opening(value: object) -> str:
    return "door" if isinstance(value, dict) and "colour" in value else "window"


class House(Section):
    name: str
    openings: tuple[
        Annotated[
            Annotated[Door, Tag("door")] | Annotated[Window, Tag("window")],
            Discriminator(_opening),
        ],
        ...,
    ] = ()
    wall: Annotated[Brick | Wood, Field(discriminator="kind")] | None = None
    age: Duration = timedelta(days=1)
    size: Size = 1
    bell: Listen = ListenAddress("h", 1)
    pages: tuple[Url, ...] = ()
    key_file: SecretFile | None = None
    rooms: dict[str, int] = Field(default_factory=dict)
    note: str | Door = ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "house.yaml"


def problems(file: Path, content: str | bytes) -> list[str]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as raised:
        load(file, House)
    for line in raised.value.problems:
        assert line.startswith(f"{file}:"), line
        assert "\n" not in line
    return [line.removeprefix(f"{file}:") for line in raised.value.problems]


def test_a_correct_file_becomes_a_frozen_model(file: Path):
    file.write_text(
        "name: home\nage: 1h30m\nsize: 64MiB\nbell: '[::1]:80'\npages: [http://x/]\n"
        "openings:\n  - {colour: red}\n  - {pane: glass}\nrooms: {1: 2}\n"
        "wall: {kind: wood, planks: [a]}\n"
    )
    house = load(file, House)
    assert (house.age, house.size) == (timedelta(hours=1, minutes=30), 64 << 20)
    assert house.bell == ListenAddress("::1", 80)
    assert house.pages == ("http://x",)
    assert house.openings == (Door(colour="red"), Window(pane=file.parent / "glass"))
    assert house.rooms == {"1": 2}
    with pytest.raises(ValueError, match="frozen"):
        house.name = "other"


def test_every_problem_is_named_at_once_with_its_line_and_key(file: Path):
    found = problems(
        file,
        "name: 5\n"
        "openings:\n"
        "  - colour: red\n"
        "    widht: 3\n"
        "  - pane: 3\n"
        "    open: ajar\n"
        "  - 7\n"
        "age: 60\n"
        "size: 5 MB\n"
        "bell: localhost\n"
        "pages:\n"
        "  - ftp://user:secret@x\n"
        "rooms: {attic: big}\n"
        "zzz: 1\n",
    )
    assert [line.split(" ")[0] for line in found] == [
        "1:",
        "4:",
        "5:",
        "6:",
        "7:",
        "8:",
        "9:",
        "10:",
        "12:",
        "13:",
        "14:",
    ]
    text = "\n".join(found)
    assert "name: wrong type, got 5; allowed: text" in text
    assert "openings[0].widht: unknown key, did you mean 'width'; allowed: colour, width" in text
    assert "openings[1].open: unknown value, got 'ajar'; allowed: 'yes' or 'no'" in text
    assert "openings[2]: wrong type, got 7; allowed: a mapping" in text
    assert "age: a duration carries a unit, got 60; allowed: us, ms" in text
    assert "rooms.attic: wrong type, got 'big'; allowed: a whole number" in text
    assert "secret" not in text, "a password in a URL is not repeated"


def test_a_missing_key_is_named_on_the_line_of_its_mapping(file: Path):
    assert problems(file, "size: 1B\nopenings:\n  - open: 'no'\n") == [
        "1: name: this key is required",
        "3: openings[0].pane: this key is required",
    ]


def test_a_discriminated_union_names_its_choices(file: Path):
    assert problems(file, "name: a\nwall: {kind: straw}\n") == [
        "2: wall.kind: unknown value, got 'straw'; allowed: 'brick', 'wood'"
    ]
    assert problems(file, "name: a\nwall: {kind: brick, planks: []}\n") == [
        "2: wall.count: this key is required",
        "2: wall.planks: unknown key; allowed: kind, count",
    ]


def test_a_plain_union_blames_the_member_that_fits_by_type(file: Path):
    assert problems(file, "name: a\nnote: {colour: red, x: 1}\n") == [
        "2: note.x: unknown key; allowed: colour, width"
    ]
    (line,) = problems(file, "name: a\nnote: 5\n")
    assert "allowed: text" in line
    assert "a mapping of keys to values" in line


def test_text_is_not_taken_for_a_number_nor_a_number_for_text(file: Path):
    found = problems(file, "name: 007\nrooms: {a: '5', b: true, c: 1.5}\n")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
        ("- 1\n", 1, "must hold a mapping"),
        ("hello", 1, "must hold a mapping"),
        ("name: a\nrooms: [1\n", 3, "not valid YAML"),
        ("name: a\n\tb: 2", 2, "not valid YAML"),
        ("name: a\n---\nname: b", 2, "single document"),
        ("name: a\nname: b\n", 2, "name: the key stands twice"),
        ("name: a\nrooms:\n  x: 1\n  x: 2\n", 4, "rooms.x: the key stands twice"),
        (b"name: a\nnote: \xff", 2, "not UTF-8"),
        ("name: a\nnote: \x01", 2, "U+0001 is not allowed"),
        ("name: !!python/object:os.system x", 1, "the tag"),
        ("? [a]\n: b\n", 1, "a key must be plain text"),
        ("name: *nobody", 1, "undefined alias"),
        ("[" * 20_000, 1, "nested too deeply"),
        ("name: !!int zz", 1, "is not a value of"),
    ],
)
def test_what_is_not_usable_yaml_is_one_clear_line(file: Path, content, line, words):
    (found,) = problems(file, content)
    assert found.startswith(f"{line}: ")
    assert words in found


def test_an_alias_bomb_ends_with_an_error(file: Path):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (found,) = problems(file, "\n".join(lines))
    assert "more than" in found


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_the_loader_fail_otherwise(tmp_path_factory, content: bytes):
    file = tmp_path_factory.mktemp("any") / "any.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        load(file, House)


def test_an_unreadable_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml", House)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, House)


def test_a_list_of_entries_is_loaded_and_its_faults_have_lines(file: Path):
    file.write_text("- {colour: red}\n- {colour: 5}\n")
    with pytest.raises(ConfigError, match=r"house\.yaml:2: \[1\]\.colour: wrong type"):
        load_rows(file, Door)
    file.write_text("- {colour: red}\n")
    assert load_rows(file, Door) == (Door(colour="red"),)
    file.write_text("colour: red\n")
    with pytest.raises(ConfigError, match="must hold a list"):
        load_rows(file, Door)


def test_durations_and_sizes_carry_units():
    assert parse_duration("250ms") == timedelta(milliseconds=250)
    assert parse_duration("2d") == timedelta(days=2)
    assert parse_duration("1.5s") == timedelta(milliseconds=1500)
    assert parse_size("500MB") == 500_000_000
    assert parse_size("1.5KiB") == 1536
    for wrong in ("60", "", "s", "-1s", "0s", "5 s", "1s1h", "1s1s", "1y", 60, None, True):
        with pytest.raises(ValueError, match=r"unit|longer|duration"):
            parse_duration(wrong)
    for wrong in ("64", "64M", "0B", "-1B", "1 MiB", 64, None, True):
        with pytest.raises(ValueError, match="size"):
            parse_size(wrong)


def test_addresses_and_urls_are_checked():
    assert parse_listen("127.0.0.1:0") == ListenAddress("127.0.0.1", 0)
    assert str(parse_listen("[::1]:8642")) == "[::1]:8642"
    for wrong in ("localhost", ":80", "a:99999", "::1:80", "a:b", 80):
        with pytest.raises(ValueError, match="host:port"):
            parse_listen(wrong)
    assert parse_url("https://[2001:db8::1]:8642/base/") == "https://[2001:db8::1]:8642/base"
    for wrong in ("x", "ftp://x", "http://", "http://a b", "http://x:99999", "http://x?q", 5):
        with pytest.raises(ValueError, match="URL"):
            parse_url(wrong)


def test_secrets_that_are_missing_or_empty_are_found(tmp_path: Path):
    def house(name: str) -> House:
        return House(name="a", key_file=tmp_path / name)

    (tmp_path / "good").write_text(" key \n")
    (tmp_path / "empty").write_text(" \n")
    assert secret_problems(house("good")) == []
    assert "holds no secret" in secret_problems(house("empty"))[0]
    assert "No such file" in secret_problems(house("none"))[0]
