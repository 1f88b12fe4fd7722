"""qoe-collector: help, version, usage, and commands that need no store."""

from pathlib import Path

import pytest

from collector import __version__
from collector.cli import main

COMMANDS = [
    ["serve"],
    ["check-config"],
    ["migrate"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["erase-subscriber"],
    ["check-store"],
]


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    path = tmp_path / "collector.yaml"
    path.write_text("store: {engine: chdb, path: store}\n")
    return ["--config", str(path)]


@pytest.mark.parametrize("command", [[], ["token"], *COMMANDS], ids=" ".join)
def test_every_command_has_help_with_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert f"example: {' '.join(['qoe-collector', *command])}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_tells_the_version(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--version"])
    assert ended.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["token"], ["token", "create"], ["erase-subscriber", "alice"],
     ["token", "create", "--role", "king", "--name", "x"]],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_store_that_is_no_directory_is_one_clear_line(
    command: str, config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file")
    assert main([command, *config]) == 1
    assert f"store.path {tmp_path}/store: Not a directory" in capsys.readouterr().err


def test_a_token_is_made_listed_and_revoked(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", "--role", "probe", "--name", "edge-1", *config]) == 0
    token = capsys.readouterr().out.strip()
    token_id = token.split("_")[1]
    assert main(["token", "list", *config]) == 0
    header, line = capsys.readouterr().out.splitlines()
    listed = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (listed["id"], listed["role"], listed["name"]) == (token_id, "probe", "edge-1")
    assert (listed["last_used"], listed["revoked"]) == ("-", "-")
    assert main(["token", "revoke", token_id, *config]) == 0
    assert main(["token", "revoke", token_id, *config]) == 1
    assert "no valid token" in capsys.readouterr().err


def test_a_name_that_is_none_is_exit_code_1(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", "--role", "probe", "--name", "a b", *config]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1


def test_a_missing_configuration_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
