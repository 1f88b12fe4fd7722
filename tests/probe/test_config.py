"""probe.yaml: the examples load, mistakes are named, and the engine gets what it asks for."""

import ast
import json
from pathlib import Path

import pytest

from probe.config import (
    capture_files,
    content_problems,
    engine_options,
    load_attribution_map,
    load_probe_config,
    load_replay_config,
)
from probe.errors import ConfigError

MINIMAL = """
probe_id: p
capture:
  - {interface: eth1, capture_point: sgi}
site_key_file: key
spool: {path: spool}
collector: {urls: ["http://127.0.0.1:1"], token_file: token}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def problems(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_probe_config(path)
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize("name", ["sgi", "s1u", "laptop"])
def test_the_example_configuration_loads(repository: Path, name: str):
    config = load_probe_config(repository / "configs" / f"probe-{name}.yaml")
    assert json.loads(engine_options(config, [], client_address="prefix"))["probe_id"]


def test_the_page_names_every_key(repository: Path):
    page = (repository / "docs" / "configuration-probe.md").read_text()
    config = load_probe_config(repository / "configs" / "probe-s1u.yaml")
    for section in (config, config.attribution, config.limits, config.spool, config.collector):
        for key in type(section).model_fields:
            assert f"`{key}`" in page or f"## {key}" in page or f"`{key}." in page, key


def test_the_options_have_every_key_that_the_engine_requires(repository: Path, tmp_path: Path):
    config = load_probe_config(write(tmp_path / "p.yaml", MINIMAL))
    options = json.loads(engine_options(config, [], client_address="prefix"))
    stub = (repository / "probe" / "engine" / "_native.pyi").read_text()
    classes = [node for node in ast.parse(stub).body if isinstance(node, ast.ClassDef)]
    text = next(ast.get_docstring(node) or "" for node in classes if node.name == "Engine")
    for key in options:
        assert f'"{key}"' in text
    assert options["client_address"] == "prefix"
    limits = {"flows", "fragments", "reassembly_bytes", "clients", "pairs", "names", "bearers"}
    limits |= {"copies", "shedding", "cpu_share_percent"}
    assert options["limits"].keys() == limits
    assert options["active_timeout_s"] == 60


def test_what_run_needs_may_be_left_out_in_a_replay(tmp_path: Path):
    path = write(tmp_path / "p.yaml", "active_timeout: 5s\n")
    assert load_replay_config(path).active_timeout.total_seconds() == 5
    text = problems(path)
    for key in ("probe_id", "capture", "site_key_file", "spool", "collector"):
        assert f"{key}: this key is required" in text


def test_a_capture_has_exactly_one_source(tmp_path: Path):
    captures = """
      - {interface: eth1, file: x, capture_point: a}
      - {file: x, directory: y, capture_point: a}
      - {capture_point: a}
      - {file: "-", capture_point: a, time: now}
      - {interface: "../x", capture_point: a}
      - {interface: eth1}
    """
    text = problems(
        write(
            tmp_path / "p.yaml",
            MINIMAL.replace("  - {interface: eth1, capture_point: sgi}", captures),
        )
    )
    assert "capture[0].file: unknown key" in text
    assert "capture[1]: exactly one source is required" in text
    assert "capture[2]: exactly one source is required" in text
    assert "capture[3]: time: now needs files that can be read twice" in text
    assert "capture[4].interface: another form is needed" in text
    assert "capture[5].capture_point: this key is required" in text


def test_values_out_of_range_name_what_is_allowed(tmp_path: Path):
    text = problems(
        write(
            tmp_path / "p.yaml",
            MINIMAL.replace("{path: spool}", "{path: s, max_size: 1MiB, fsync: never}")
            + "active_timeout: 1500ms\nclient_address: half\nlimits: {flows: 1}\n",
        )
    )
    assert "spool.fsync: unknown value, got 'never'; allowed: always, or a duration" in text
    assert "active_timeout: must be whole seconds, got '1500ms'; allowed: 1s to 3600s" in text
    assert "client_address: unknown value, got 'half'; allowed: 'full', 'prefix' or 'none'" in text
    assert "limits.flows: must be greater than or equal to 16, got 1" in text


def test_the_attribution_map_is_read_from_csv(tmp_path: Path):
    path = write(
        tmp_path / "map.csv",
        "subscriber,client_prefix,vlan,teid,cell_id\n"
        "# a comment\n"
        "imsi:001010000000001,10.0.0.1,,,\n"
        "\n"
        ",,5,0x10,001-01-0019B01\n",
    )
    first, second = load_attribution_map(path)
    assert (first.subscriber, str(first.client_prefix)) == ("imsi:001010000000001", "10.0.0.1/32")
    assert (second.vlan, second.teid, second.cell_id) == (5, 16, "001-01-0019B01")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", ":1: the header is missing"),
        ("client_prefix,colour\n", ":1: unknown column 'colour'; allowed: client_prefix, vlan"),
        ("vlan,vlan\n", ":1: a column stands twice"),
        ("vlan,apn\n5\n", ":2: 1 fields, the header has 2"),
        ("vlan,apn\n5,internet\nx,internet\n", ":3: [1].vlan: wrong type, got 'x'"),
        ("vlan,apn\n5,\n", ":2: [0]: nothing is attributed"),
        ("vlan,apn\n,internet\n", ":2: [0]: a key is required"),
        ("client_prefix,apn\n10.0.0.1/8,internet\n", ":2: [0].client_prefix: has host bits set"),
        ("vlan,cell_id\n5,001-01-0019b01\n", ":2: [0].cell_id: another form is needed"),
        ("vlan,apn\n5000,internet\n", ":2: [0].vlan: must be less than or equal to 4094"),
        ('vlan,apn\n5,"internet\n', "not valid CSV"),
    ],
)
def test_a_fault_in_the_map_is_named_by_file_and_line(tmp_path: Path, content, problem):
    path = write(tmp_path / "map.csv", content)
    with pytest.raises(ConfigError) as raised:
        load_attribution_map(path)
    assert any(problem in line for line in raised.value.problems), raised.value.problems


def test_a_map_with_many_faults_does_not_flood_the_terminal(tmp_path: Path):
    path = write(tmp_path / "map.csv", "vlan,apn\n" + "x,internet\n" * 1000)
    with pytest.raises(ConfigError) as raised:
        load_attribution_map(path)
    assert len(raised.value.problems) == 51
    assert "950 more" in raised.value.problems[-1]


def test_rules_reach_the_engine_from_csv_yaml_and_inline_alike(tmp_path: Path):
    write(tmp_path / "m.csv", "client_prefix,gtpu_address,apn\n10.0.0.0/8,192.0.2.1,internet\n")
    rule = "{client_prefix: 10.0.0.0/8, gtpu_address: 192.0.2.1, apn: internet}"
    write(tmp_path / "m.yaml", f"- {rule}\n")
    seen = []
    for given in ("m.csv", "m.yaml", f"[{rule}]"):
        path = write(tmp_path / "p.yaml", MINIMAL + f"attribution: {{map: {given}}}\n")
        options = json.loads(engine_options(load_probe_config(path), [], client_address="full"))
        seen.append(options["attribution"])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0]["client_prefix"] == "10.0.0.0/8"
    assert seen[0][0]["vlan"] is None


def test_a_directory_stands_for_its_captures_in_the_order_of_names(tmp_path: Path):
    (tmp_path / "b.pcap").write_bytes(b"\xd4\xc3\xb2\xa1rest")
    (tmp_path / "a.pcapng").write_bytes(b"\x0a\x0d\x0d\x0arest")
    (tmp_path / "c.pcap.gz").write_bytes(b"\x1f\x8brest")
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "more").mkdir()
    names = [Path(name).name for name in capture_files([tmp_path])]
    assert names == ["a.pcapng", "b.pcap", "c.pcap.gz"]
    with pytest.raises(ConfigError, match="holds no capture file"):
        capture_files([tmp_path / "more"])
    assert capture_files([tmp_path / "index.json"]) == [str(tmp_path / "index.json")]


def test_files_that_the_configuration_names_are_looked_at(tmp_path: Path):
    text = MINIMAL.replace("interface: eth1", "file: x.pcap") + "attribution: {map: m.csv}\n"
    found = "\n".join(content_problems(load_probe_config(write(tmp_path / "p.yaml", text))))
    for part in ("site_key_file", "collector.token_file", "capture[0]", "m.csv"):
        assert part in found
    write(tmp_path / "key", "k")
    write(tmp_path / "token", "t")
    write(tmp_path / "x.pcap", "")
    write(tmp_path / "m.csv", "vlan,apn\n1,internet\n")
    assert content_problems(load_probe_config(tmp_path / "p.yaml")) == []


def test_a_slip_of_the_pen_in_a_capture_is_named_and_the_list_is_not_called_empty(tmp_path: Path):
    slip = MINIMAL.replace("{interface: eth1,", "{interfce: eth1,")
    text = problems(write(tmp_path / "p.yaml", slip))
    assert "capture[0].interfce: unknown key, did you mean 'interface'" in text
    assert "needs at least" not in text
