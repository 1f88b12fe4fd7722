"""The repository keeps its own rules."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from probe.record.schema import COLUMNS

LEFTOVERS = re.compile(
    r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error|todo!\(|unimplemented!\("
)
SKIP_MARKS = re.compile(r"#\[ignore\]|pytest\.mark\.xf" r"ail")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def test_no_module_imports_what_it_must_not(repository: Path) -> None:
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-cache", "--no-logo"]
    result = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout


# ------------------------------------------------------------------------------------ documents


def test_every_column_is_documented_once_and_in_its_group(repository: Path) -> None:
    documented = sorted(_documented_columns(repository / "docs/record.md"))
    assert documented == sorted((column.group, column.name) for column in COLUMNS)


def _documented_columns(page: Path) -> Iterator[tuple[str, str]]:
    group = ""
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif line.startswith("| `"):
            first_cell = line.split("|")[1]
            yield from ((group, name) for name in re.findall(r"`(\w+)`", first_cell))


def test_every_link_between_documents_leads_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
    targets = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    ]
    assert len(targets) > 5
    assert [(page.name, t) for page, t in targets if not (page.parent / t).exists()] == []


def test_decisions_are_numbered_once(repository: Path) -> None:
    numbers = [page.name[:4] for page in (repository / "docs/adr").glob("*.md")]
    assert len(numbers) == len(set(numbers))
    assert all(number.isdigit() for number in numbers)


# --------------------------------------------------------------------------------- dependencies


def test_every_dependency_has_its_reason(repository: Path, project: dict[str, Any]) -> None:
    page = (repository / "docs/dependencies.md").read_text()
    explained = {canonicalize_name(name) for name in re.findall(r"^\| ([\w.-]+) \|", page, re.M)}
    python = {canonicalize_name(requirement.name) for requirement in _requirements(project)}
    assert python | _crates(repository) <= explained
    assert explained - {"package", "crate"} <= python | _crates(repository)


def test_the_lock_holds_every_requirement(repository: Path, project: dict[str, Any]) -> None:
    lock = (repository / "requirements.lock").read_text()
    pins = {
        canonicalize_name(name): Version(version)
        for name, version in re.findall(r"^([\w.-]+)==([^ \\\n]+)", lock, re.M)
    }
    for requirement in _requirements(project):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier
    assert lock.count("--hash=sha256:") >= len(pins)


def _requirements(project: dict[str, Any]) -> list[Requirement]:
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    return [Requirement(text) for requirements in lists for text in requirements]


def _crates(repository: Path) -> set[str]:
    crates: set[str] = set()
    for member in ("core", "binding", "fuzz"):
        path = repository / "probe/engine/rust" / member / "Cargo.toml"
        manifest = tomllib.loads(path.read_text())
        for section in ("dependencies", "dev-dependencies"):
            crates |= manifest.get(section, {}).keys()
    return {str(canonicalize_name(name)) for name in crates} - {"edgeqoe-core"}


# ------------------------------------------------------------------------------------ leftovers


def test_nothing_unfinished_is_left(repository: Path) -> None:
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()}"
        for path in _sources(repository)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFTOVERS.search(line) or SKIP_MARKS.search(line)
    ]
    assert found == []


def _sources(repository: Path) -> Iterator[Path]:
    for room in ("probe", "collector", "configs", "tests"):
        for path in (repository / room).rglob("*"):
            if path.suffix in {".py", ".pyi", ".rs", ".js"} and "target" not in path.parts:
                yield path


def test_the_versions_agree(repository: Path, project: dict[str, Any]) -> None:
    cargo = tomllib.loads((repository / "probe/engine/rust/Cargo.toml").read_text())
    version = project["project"]["version"]
    assert cargo["workspace"]["package"]["version"] == version
    for package in ("probe", "collector"):
        text = (repository / package / "__init__.py").read_text()
        assert f'__version__ = "{version}"' in text
