"""The spool's promises one by one, each against the fault that threatens it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from probe.config import SpoolConfig
from probe.errors import SpoolBusyError, SpoolError, SpoolWriteError
from probe.spool import Spool, segment, survey


def config(path: Path, **changes: Any) -> SpoolConfig:
    return SpoolConfig(
        path=path / "spool", **{"max_size": "1MiB", "segment_size": "64KiB", **changes}
    )


def body(text: str = ""):
    return lambda *head: json.dumps([*head, text]).encode()


def noise(size: int):
    return lambda *head: json.dumps(head).encode() + b"\0" + os.urandom(size)


def head(spool: Spool, sequence: int) -> list[Any]:
    payload = spool.read(sequence)
    assert payload is not None
    return json.loads(zstandard.decompress(payload).split(b"\0")[0])


def pending(spool: Spool) -> list[int]:
    found, sequence = [], -1
    while (following := spool.next_after(sequence)) is not None:
        found.append(following)
        sequence = following
    return found


def segments(path: Path) -> list[Path]:
    return segment.segment_paths(path / "spool" / "segments")


def announced(spool: Spool) -> list[tuple[int, int, str]]:
    """Return the gaps that a new batch announces."""
    gaps = head(spool, spool.append(body()))[2]
    return [(gap["from_sequence"], gap["to_sequence"], gap["reason"]) for gap in gaps]


def test_epoch_and_sequence_go_on_across_restarts(tmp_path: Path):
    with Spool(config(tmp_path), now_ns=lambda: 5_000_000_000) as spool:
        assert (spool.epoch, spool.append(body()), spool.append(body())) == (5000, 0, 1)
        assert spool.acknowledge(0)
    with Spool(config(tmp_path), now_ns=lambda: 9_000_000_000) as spool:
        assert pending(spool) == [1]
        assert spool.append(body("new")) == 2
        assert head(spool, 2) == [5000, 2, [], "new"]
        for sequence in (1, 2):
            spool.acknowledge(sequence)
    with Spool(config(tmp_path)) as spool:
        assert (spool.epoch, pending(spool), spool.append(body())) == (5000, [], 3)


def test_what_a_killed_process_appended_is_there(tmp_path: Path):
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from probe.config import SpoolConfig; from probe.spool import Spool\n"
        "spool = Spool(SpoolConfig(path=Path(sys.argv[1]), fsync='always'))\n"
        "for n in range(20): spool.append(lambda *head: repr(head).encode())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "spool")], check=False)
    assert done.returncode == -9
    with Spool(config(tmp_path)) as spool:
        assert pending(spool) == list(range(20))
        assert spool.status().lost == {}


def test_a_batch_is_offered_only_once_it_is_synced(tmp_path: Path):
    with Spool(config(tmp_path, fsync="1h")) as spool:
        spool.append(body())
        assert spool.next_after(-1) is None
        spool.sync()
        assert spool.next_after(-1) == 0


def test_one_process_holds_a_spool(tmp_path: Path):
    with Spool(config(tmp_path)), pytest.raises(SpoolBusyError, match=f"process {os.getpid()}"):
        Spool(config(tmp_path))
    Spool(config(tmp_path)).close()


def test_a_directory_that_cannot_be_used_is_a_clear_error(tmp_path: Path):
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolError, match="spool"):
        Spool(config(tmp_path))


def test_the_oldest_batches_give_way_and_are_announced(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        for _ in range(60):
            spool.append(noise(30_000))
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 1 << 20
        lost = spool.status().lost["spool_full"]
        assert lost > 0
        assert pending(spool)[0] == lost
        told = [gap for sequence in pending(spool) for gap in head(spool, sequence)[2]]
        told += [
            dict(zip(("from_sequence", "to_sequence"), gap, strict=False))
            for gap in announced(spool)
        ]
        covered = {n for gap in told for n in range(gap["from_sequence"], gap["to_sequence"] + 1)}
        assert covered == set(range(lost))


def test_batches_past_their_age_give_way(tmp_path: Path):
    now = [1_000_000_000]
    settings = config(tmp_path, max_age="1h")
    with Spool(settings, now_ns=lambda: now[0]) as spool:
        for _ in range(6):
            spool.append(noise(30_000))
        now[0] += 2 * 3600 * 1_000_000_000
        for _ in range(3):
            spool.append(noise(30_000))
        assert spool.status().lost["too_old"] >= 4


def test_a_full_disk_costs_the_new_batch_and_mends_itself(tmp_path: Path, monkeypatch):
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real_write(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Spool(config(tmp_path)) as spool:
        spool.append(body("kept"))
        monkeypatch.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(SpoolWriteError, match="No space left"):
                spool.append(body("lost"))
        monkeypatch.undo()
        assert announced(spool) == [(1, 3, "disk_full")]
        assert spool.status().lost == {"disk_full": 3}
        assert announced(spool) == [], "a gap is announced once"
    with Spool(config(tmp_path)) as spool:
        assert pending(spool) == [0, 4, 5]
        assert spool.status().damaged_segments == 0


def test_acknowledging_makes_room_while_the_disk_is_full(tmp_path: Path, monkeypatch):
    with Spool(config(tmp_path)) as spool:
        for _ in range(6):
            spool.append(noise(30_000))
        before = len(segments(tmp_path))

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        for sequence in pending(spool):
            assert spool.acknowledge(sequence)
        monkeypatch.undo()
        assert len(segments(tmp_path)) < before
    with Spool(config(tmp_path)) as spool:
        assert pending(spool) == []
        assert spool.status().lost == {}


def test_a_torn_tail_is_cut_and_its_sequence_not_given_again(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        for text in "abc":
            spool.append(body(text))
    (last,) = segments(tmp_path)
    os.truncate(last, last.stat().st_size - 5)
    with Spool(config(tmp_path)) as spool:
        assert pending(spool) == [0, 1]
        assert spool.append(body()) == 3
        assert head(spool, 3)[2] == [
            {"from_sequence": 2, "to_sequence": 2, "reason": "interrupted"}
        ]
        assert list((tmp_path / "spool" / "quarantine").iterdir()) == []


def test_a_damaged_segment_is_set_aside_and_its_sound_batches_kept(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        for _ in range(5):
            spool.append(noise(30_000))
        first = segments(tmp_path)[0]
    data = bytearray(first.read_bytes())
    data[segment.HEADER_BYTES + segment.RECORD_OVERHEAD + 100] ^= 0xFF
    first.write_bytes(data)
    for _ in range(2):  # mended once, and then sound
        with Spool(config(tmp_path)) as spool:
            assert pending(spool)[:4] == [1, 2, 3, 4]
            assert (tmp_path / "spool" / "quarantine" / first.name).read_bytes() == bytes(data)
    with Spool(config(tmp_path)) as spool:
        assert spool.status().damaged_segments == 0
        assert announced(spool) == [(0, 0, "damaged")]


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\0" * 4096])
def test_a_segment_of_garbage_is_never_fatal(tmp_path: Path, content: bytes):
    with Spool(config(tmp_path)) as spool:
        for _ in range(3):
            spool.append(noise(30_000))
        epoch, last = spool.epoch, segments(tmp_path)[-1]
    last.write_bytes(content)
    with Spool(config(tmp_path)) as spool:
        assert spool.epoch == epoch
        assert spool.append(body()) >= 3
        gaps = head(spool, pending(spool)[-1])[2]
        assert gaps, "what the segment held is announced"


@pytest.mark.parametrize("name", ["state", "lock"])
def test_a_lost_state_only_costs_a_second_sending(tmp_path: Path, name: str):
    with Spool(config(tmp_path)) as spool:
        for _ in range(3):
            spool.append(body())
        epoch = spool.epoch
        spool.acknowledge(0)
    (tmp_path / "spool" / name).unlink()
    with Spool(config(tmp_path)) as spool:
        assert spool.epoch == epoch
        assert set(pending(spool)) >= {1, 2}
        assert spool.append(body()) == 3


def test_a_batch_damaged_while_the_probe_runs_is_announced(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        spool.append(body("a" * 100))
        (only,) = segments(tmp_path)
        data = bytearray(only.read_bytes())
        data[-1] ^= 1
        only.write_bytes(data)
        assert spool.read(0) is None
        assert pending(spool) == []
        assert announced(spool) == [(0, 0, "damaged")]


def test_a_refused_batch_is_kept_with_its_reason_and_announced(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        spool.append(body("refused"))
        payload = spool.read(0)
        assert spool.refuse(0, "400 Bad Request: no")
        assert not spool.refuse(0, "again")
        assert pending(spool) == []
        kept = sorted((tmp_path / "spool" / "quarantine").iterdir())
        assert kept[0].read_bytes() == payload
        assert json.loads(kept[1].read_text()) == {"reason": "400 Bad Request: no"}
        assert announced(spool) == [(0, 0, "refused")]


def test_the_quarantine_is_bounded(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        for _ in range(12):
            spool.refuse(spool.append(noise(30_000)), "400")
    files = (tmp_path / "spool" / "quarantine").iterdir()
    assert 0 < sum(path.stat().st_size for path in files) <= (1 << 20) // 16


def test_a_gap_is_announced_again_when_its_announcement_is_lost(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        spool.refuse(spool.append(body()), "400")
        second = spool.append(body())
        assert len(head(spool, second)[2]) == 1
        spool.refuse(second, "400")
        assert announced(spool) == [(0, 1, "refused")]


def test_a_batch_beyond_the_bounds_is_lost_alone(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        with pytest.raises(SpoolWriteError, match="exceed"):
            spool.append(noise(600_000))
        assert announced(spool) == [(0, 0, "too_large")]


def test_an_error_of_the_sealing_uses_no_sequence(tmp_path: Path):
    def failing(*_: Any) -> bytes:
        raise ValueError("no batch")

    with Spool(config(tmp_path)) as spool:
        with pytest.raises(ValueError, match="no batch"):
            spool.append(failing)
        assert (spool.append(body()), announced(spool)) == (0, [])


def test_a_survey_sees_what_is_pending_without_disturbing(tmp_path: Path):
    with Spool(config(tmp_path)) as spool:
        for text in "abc":
            spool.append(body(text))
        spool.acknowledge(1)
        before = {
            path: path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()
        }
        found = survey(tmp_path / "spool", payloads=True)
        after = {
            path: path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()
        }
        assert [batch.sequence for batch in found.pending] == [0, 2]
        assert zstandard.decompress(found.pending[1].payload or b"").endswith(b'"c"]')
        assert (found.epoch, found.next_sequence, found.segments) == (spool.epoch, 3, 1)
        assert before == after
    with pytest.raises(SpoolError, match="is not a spool directory"):
        survey(tmp_path)
