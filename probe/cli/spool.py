"""`qoe-probe spool`: look into a spool, or ship what is in it without capturing."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import zstandard

from probe.config import ProbeConfig
from probe.errors import BatchError
from probe.metrics import Metrics
from probe.record import codec
from probe.shipper import CollectorClient, Shipper
from probe.spool import PendingBatch, Spool, survey


def status(path: Path) -> int:
    """Print what the spool holds as one JSON object; a running agent is not disturbed."""
    found = survey(path)
    pending = found.pending
    oldest = min((batch.created_at for batch in pending), default=None)
    summary = {
        "path": str(path),
        "epoch": found.epoch,
        "next_sequence": found.next_sequence,
        "pending_batches": len(pending),
        "pending_bytes": sum(batch.compressed_bytes for batch in pending),
        "oldest_pending": None if oldest is None else codec.time_to_text(oldest),
        "stored_bytes": found.stored_bytes,
        "segments": found.segments,
        "unsound_segments": found.unsound_segments,
        "gaps": found.gaps,
        "quarantined": found.quarantined,
    }
    print(json.dumps(summary, indent=2))
    return 0


def inspect(path: Path) -> int:
    """Print each pending batch's head as a line of JSON."""
    for batch in survey(path, payloads=True).pending:
        print(json.dumps({"sequence": batch.sequence, **_head(batch)}))
    return 0


def _head(batch: PendingBatch) -> dict[str, Any]:
    head = {
        "created_at": codec.time_to_text(batch.created_at),
        "compressed_bytes": batch.compressed_bytes,
    }
    try:
        decoded = codec.decode(_decompressed(batch.payload))
    except (BatchError, zstandard.ZstdError) as error:
        return {**head, "error": str(error)}
    return {
        **head,
        "probe_id": decoded.probe_id,
        "epoch": decoded.epoch,
        "records": decoded.rows,
        "gaps": decoded.gaps,
    }


def _decompressed(payload: bytes | None) -> bytes:
    if payload is None:
        raise BatchError("the disk no longer holds the batch unharmed")
    unpacker = zstandard.ZstdDecompressor()
    return unpacker.decompress(payload, max_output_size=codec.MAX_DECODED_BYTES)


async def drain(config: ProbeConfig) -> int:
    """Ship everything and return 0; 1 if some of it was refused or lost."""
    with await asyncio.to_thread(Spool, config.spool) as spool:
        waiting = spool.status().pending_batches
        async with CollectorClient(config.collector) as client:
            shipper = Shipper(
                spool,
                client,
                Metrics(),
                in_flight=config.collector.in_flight,
                longest_retry_s=config.collector.longest_retry.total_seconds(),
            )
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(shipper.run())
                await shipper.drained()
                sending.cancel()
        lost = sum(spool.status().lost.values())
    print(f"qoe-probe: {waiting - lost} batches shipped, {lost} lost or refused", file=sys.stderr)
    return 1 if lost else 0
