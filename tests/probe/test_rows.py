"""Maps of many rows: CSV and YAML say the same, and every fault has its line."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from probe.errors import ConfigError
from probe.settings import Section
from probe.settings.rows import load_rows


class Mast(Section):
    name: str
    height: Annotated[float, Field(gt=0)] | None = None
    floors: int | None = None


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_rows(path, Mast, unique="name")
    return [problem.removeprefix(f"{path}:") for problem in raised.value.problems]


def test_csv_and_yaml_give_the_same_rows(tmp_path: Path):
    (tmp_path / "m.csv").write_text("height,name\n# none yet\n12.5,a\n,b\n7,c\n")
    (tmp_path / "m.yaml").write_text(
        "- {name: a, height: 12.5}\n- {name: b}\n- {name: c, height: 7}"
    )
    of_csv, of_yaml = (load_rows(tmp_path / name, Mast) for name in ("m.csv", "m.yaml"))
    assert (
        of_csv == of_yaml == (Mast(name="a", height=12.5), Mast(name="b"), Mast(name="c", height=7))
    )


def test_every_fault_is_named_at_once_in_the_order_of_lines(tmp_path: Path):
    text = "name,height,floors\na,-1,\nb,2\nc,3,many\na,4,\n,5,\n"
    assert problems(tmp_path / "m.csv", text) == [
        "2: [0].height: must be greater than 0, got -1.0",
        "3: 2 fields, the header has 3",
        "4: [1].floors: wrong type, got 'many'; allowed: a whole number",
        "5: [2].name: 'a' stands on line 2 already",
        "6: [3].name: this key is required",
    ]


def test_faults_of_a_yaml_list_have_the_lines_of_their_keys(tmp_path: Path):
    text = "- name: a\n  height: 0\n- name: a\n- depth: 3\n  name: b\n"
    assert problems(tmp_path / "m.yaml", text) == [
        "2: [0].height: must be greater than 0, got 0",
        "3: [1].name: 'a' stands on line 1 already",
        "4: [2].depth: unknown key; allowed: name, height, floors",
    ]


def test_what_is_no_list_or_no_text_is_refused(tmp_path: Path):
    assert "must hold a list of entries, got a mapping" in problems(tmp_path / "m.yaml", "a: 1")[0]
    (tmp_path / "m.csv").write_bytes(b"name\n\xff\n")
    with pytest.raises(ConfigError, match=r"m\.csv:2: the file is not UTF-8 text"):
        load_rows(tmp_path / "m.csv", Mast)
