"""What is kept over a restart: used once, whole or not at all, and never in the way."""

import stat
from pathlib import Path

import pytest

from probe.spool import bearers


def test_what_is_kept_is_taken_once(tmp_path: Path) -> None:
    bearers.keep(tmp_path, b"who is who")
    assert stat.S_IMODE((tmp_path / bearers.NAME).stat().st_mode) == 0o600
    assert bearers.take(tmp_path) == b"who is who"
    assert bearers.take(tmp_path) is None


def test_what_was_of_use_leaves_nothing_behind(tmp_path: Path) -> None:
    bearers.keep(tmp_path, b"who is who")
    bearers.take(tmp_path)
    bearers.forget(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_was_of_no_use_stays_aside_until_the_next_such(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        bearers.keep(tmp_path, content)
        bearers.take(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [bearers.ASIDE]
        assert (tmp_path / bearers.ASIDE).read_bytes() == content


def test_the_later_of_two_is_kept(tmp_path: Path) -> None:
    (tmp_path / "bearers.new").write_bytes(b"left by a crash")
    bearers.keep(tmp_path, b"first")
    bearers.keep(tmp_path, b"second")
    assert bearers.take(tmp_path) == b"second"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"of someone else")
    (tmp_path / bearers.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        bearers.take(tmp_path)
    assert bearers.take(tmp_path) is None
    assert (tmp_path / "elsewhere").read_bytes() == b"of someone else"


def test_a_directory_in_its_place_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / bearers.NAME).mkdir()
    with pytest.raises(OSError):
        bearers.take(tmp_path)
    bearers.keep(tmp_path, b"who is who")
    assert (tmp_path / bearers.NAME).read_bytes() == b"who is who"
