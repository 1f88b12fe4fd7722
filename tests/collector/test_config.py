"""collector.yaml: the example is right and shows the defaults; every mistake is named."""

from pathlib import Path

import pytest

from collector.cli import main
from collector.config import CollectorConfig, ConfigError, file_problems, load_config
from collector.service.rooms import content_problems, load_models, store_options

ROOT = Path(__file__).resolve().parents[2]
STORE = "store: {engine: chdb, path: store}\n"


def loaded(tmp_path: Path, text: str) -> CollectorConfig:
    path = tmp_path / "collector.yaml"
    path.write_text(text)
    return load_config(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    return caught.value.problems


def test_the_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    example = load_config(ROOT / "configs/collector.yaml")
    least = loaded(tmp_path, STORE)
    different = {
        name
        for name in CollectorConfig.model_fields
        if getattr(example, name) != getattr(least, name)
    }
    assert different == {"store"}
    assert file_problems(example) == [] and content_problems(example) == []


def test_the_files_that_the_example_suggests_are_those_that_come_with_the_collector(
    tmp_path: Path,
) -> None:
    configs = ROOT / "configs"
    text = f"{STORE}models: {configs}/models/default.yaml\nservices: {configs}/services.yaml\n"
    config = loaded(tmp_path, text)
    assert content_problems(config) == []
    assert load_models(config) == load_models(loaded(tmp_path, STORE))


def test_only_the_store_is_required_and_it_listens_on_loopback(tmp_path: Path) -> None:
    config = loaded(tmp_path, STORE)
    assert str(config.listen) == "127.0.0.1:8642"
    assert not config.open_on_loopback
    assert config.state_path == tmp_path / "store.state.sqlite"
    assert store_options(config).path == tmp_path / "store"
    assert store_options(config).raw_retention_s == 30 * 86_400


def test_a_cluster_needs_a_state_file_and_reads_its_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    cluster = (
        "store: {engine: clickhouse, urls: ['https://ch-1:8443'], cluster: c,"
        " password_file: password}\n"
    )
    (problem,) = problems(tmp_path, cluster)
    assert "state" in problem and "required" in problem
    options = store_options(loaded(tmp_path, cluster + "state: state.sqlite\n"))
    assert (options.urls, options.password) == (("https://ch-1:8443",), "secret")


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("listen: 0.0.0.0:8642\nopen_on_loopback: true\n", 3, "open_on_loopback"),
        ("listen: 8642\n", 2, "listen"),
        ("colour: red\n", 2, "unknown key"),
        ("retention: {raw: 30}\n", 2, "retention.raw"),
        ("limits: {max_sent: 9MiB}\n", 2, "limits.max_sent"),
        ("limits: {in_flight: 1MiB}\n", 2, "limits.in_flight"),
        ("incidents: {window: 7m}\n", 2, "incidents.window"),
        ("incidents: {failure_ratio: 2}\n", 2, "incidents.failure_ratio"),
        ("tls: {certificate_file: a}\n", 2, "tls.key_file"),
    ],
)
def test_a_mistake_is_named_by_line_and_key(
    tmp_path: Path, text: str, line: int, named: str
) -> None:
    (problem,) = problems(tmp_path, STORE + text)
    assert f"collector.yaml:{line}:" in problem
    assert named in problem


def test_all_mistakes_are_named_at_once_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "collector.yaml"
    path.write_text("store: {engine: duckdb}\nlisten: x\ncolour: red\n")
    assert main(["check-config", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 3
    assert "chdb" in captured.err and "clickhouse" in captured.err


def test_files_that_cannot_be_read_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "collector.yaml"
    path.write_text(STORE + "site_key_file: none\nmodels: none.yaml\nservices: no.yaml\n")
    assert main(["check-config", str(path)]) == 2
    errors = capsys.readouterr().err
    assert all(key in errors for key in ("site_key_file", "models", "services"))


def test_a_configuration_without_a_fault_is_exit_code_0(tmp_path: Path) -> None:
    path = tmp_path / "collector.yaml"
    path.write_text(STORE)
    assert main(["check-config", str(path)]) == 0
