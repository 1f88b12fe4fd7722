"""The spool against a model of what it promises, with crashes at any byte that was not synced."""

import json
import random
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from probe.config import SpoolConfig
from probe.spool import Spool, segment

MAX_SIZE = 16 << 10
REAL_UNLINK = Path.unlink


class Disk:
    """What a power cut would leave: file contents as last synced, deletions not yet synced."""

    def __init__(self) -> None:
        self.synced: dict[str, bytes] = {}
        self.deleted: dict[str, bytes] = {}

    def sync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            self.deleted.clear()
        else:
            self.synced[str(path)] = path.read_bytes()

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".seg" and path.exists():
            self.deleted[str(path)] = path.read_bytes()
        REAL_UNLINK(path, missing_ok=missing_ok)


class SpoolMachine(RuleBasedStateMachine):
    """Appends, ships, refuses and crashes; at the end every sequence must be accounted for."""

    fsync = "always"

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)
        self.root = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.disk = Disk()
        disk = self.disk

        def unlink(path: Path, missing_ok: bool = False) -> None:
            disk.unlink(path, missing_ok)

        self.patches = [
            patch("os.fdatasync", self.disk.sync),
            patch("os.fsync", self.disk.sync),
            patch.object(Path, "unlink", unlink),
        ]
        for each in self.patches:
            each.start()
        self.collector: dict[int, bytes] = {}
        self.safe: set[int] = set()  # appended, and synced since
        self.unsafe: set[int] = set()  # appended only
        self.refused: set[int] = set()
        self.images = 0

    @initialize()
    def start(self) -> None:
        self.open(self.root / "0")
        self.epoch = self.spool.epoch

    def open(self, path: Path) -> None:
        config = SpoolConfig(
            path=path, max_size=f"{MAX_SIZE}B", segment_size="2KiB", fsync=self.fsync
        )
        self.path = path
        self.spool = Spool(config, now_ns=lambda: 1_000_000_000)

    # ------------------------------------------------------------------------------------- rules

    @rule(sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=5))
    def append(self, sizes: list[int]) -> None:
        for size in sizes:
            self.append_one(self.random.randbytes(size).hex()[:size])

    def append_one(self, body: str) -> None:
        sequence = self.spool.append(lambda *head: json.dumps([*head, body]).encode())
        assert sequence not in self.safe, "a sequence that was safe is given again"
        assert sequence not in self.collector, "a sequence that was sent is given again"
        self.unsafe.add(sequence)
        if self.fsync == "always":
            self.mark_safe()

    @rule()
    def sync(self) -> None:
        self.spool.sync()
        self.mark_safe()

    def mark_safe(self) -> None:
        self.safe |= self.unsafe
        self.unsafe.clear()

    @rule(acknowledged=st.lists(st.booleans(), min_size=1, max_size=4))
    def ship(self, acknowledged: list[bool]) -> None:
        """Send the oldest batches; the acknowledgement of some is lost."""
        sequence = -1
        for arrives in acknowledged:
            following = self.spool.next_after(sequence)
            if following is None:
                return
            sequence = following
            self.deliver(sequence)
            if arrives:
                assert self.spool.acknowledge(sequence)

    def deliver(self, sequence: int) -> None:
        batch = zstandard.decompress(self.spool.read(sequence))
        epoch, inside, _, _ = json.loads(batch)
        assert (epoch, inside) == (self.epoch, sequence)
        assert self.collector.setdefault(sequence, batch) == batch, "one name, two contents"

    @rule()
    def refuse_oldest(self) -> None:
        sequence = self.spool.next_after(-1)
        if sequence is not None:
            self.refused.add(sequence)
            assert self.spool.refuse(sequence, "409 conflict")

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.mark_safe()
        self.open(self.path)

    @rule(data=st.data(), torn=st.integers(0, 60))
    def crash(self, data: st.DataObject, torn: int) -> None:
        """Cut the power, perhaps while a record is being written, and start again."""
        self.images += 1
        image = self.root / str(self.images)
        shutil.copytree(self.path, image)
        self.lose_unsynced(image, data)
        for name, content in self.disk.deleted.items():
            if data.draw(st.booleans(), label="the deletion is forgotten"):
                (image / "segments" / Path(name).name).write_bytes(content)
        last = segment.segment_paths(image / "segments")[-1]
        self.spool.close()
        if self.fsync == "always":
            record = segment.encode_record(10**9, 0, b"being written")
            with last.open("ab") as file:
                file.write(record[: min(torn, len(record) - 1)])
        self.disk.synced.clear()
        self.disk.deleted.clear()
        self.unsafe.clear()
        self.open(image)
        assert self.spool.epoch == self.epoch

    def lose_unsynced(self, image: Path, data: st.DataObject) -> None:
        for name, synced in self.disk.synced.items():
            copy = image / Path(name).relative_to(self.path)
            if not copy.exists():
                continue
            if copy.name == "state":
                if data.draw(st.booleans(), label="the state is as last synced"):
                    copy.write_bytes(synced)
                continue
            current = copy.read_bytes()
            between = st.integers(len(synced), len(current))
            ends = st.sampled_from([len(synced), len(current)])
            kept = data.draw(ends | between, label="bytes that survive")
            copy.write_bytes(current[:kept])

    # -------------------------------------------------------------------------------- invariants

    @invariant()
    def stays_within_its_size(self) -> None:
        if hasattr(self, "spool"):
            files = segment.segment_paths(self.path / "segments")
            assert sum(path.stat().st_size for path in files) <= MAX_SIZE

    def teardown(self) -> None:
        try:
            if hasattr(self, "spool"):
                self.account_for_everything()
        finally:
            for each in self.patches:
                each.stop()
            shutil.rmtree(self.root)

    def account_for_everything(self) -> None:
        self.ship_everything()
        # There is room now, so this batch makes no other give way: it announces all that did.
        self.spool.append(lambda *head: json.dumps([*head, ""]).encode())
        self.ship_everything()
        reasons: dict[int, str] = {}
        for batch in self.collector.values():
            for gap in json.loads(batch)[2]:
                for number in range(gap["from_sequence"], gap["to_sequence"] + 1):
                    reasons[number] = gap["reason"]
        for number in range(self.spool.status().next_sequence):
            assert number in self.collector or number in reasons, f"{number} vanished"
            if reasons.get(number) == "interrupted":
                assert number not in self.safe, f"{number} was safe and is lost"
            if reasons.get(number) == "refused":
                assert number in self.refused
            assert reasons.get(number) != "damaged"
        self.spool.close()

    def ship_everything(self) -> None:
        self.spool.sync()
        while (sequence := self.spool.next_after(-1)) is not None:
            self.deliver(sequence)
            assert self.spool.acknowledge(sequence)


class IntervalSyncMachine(SpoolMachine):
    """The same where batches are synced now and then only."""

    fsync = "1h"


SETTINGS = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("machine", [SpoolMachine, IntervalSyncMachine])
def test_every_sequence_is_stored_acknowledged_or_announced_whatever_crashes(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
