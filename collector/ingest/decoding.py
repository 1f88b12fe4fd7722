"""From the bytes of a request to a checked batch. Everything here runs in a thread, bounded."""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Final

import zstandard

from collector.errors import ProblemError
from collector.store import Attributed, attributed, refusal
from probe.errors import BatchError
from probe.record import codec

CONTENT_TYPE: Final = "application/msgpack"
ENCODINGS: Final = ("identity", "zstd", "gzip")

# A zstd frame names the window that its reader must hold; 8 MiB is what RFC 9659 grants HTTP.
_MAX_WINDOW_BYTES: Final = 8 << 20
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class DecodedBatch:
    """A batch and the SHA-256 of its content, which tells a repetition from a forgery."""

    batch: codec.Batch
    digest: bytes
    attributed: Attributed


def decode(body: bytes, encoding: str, max_decoded: int) -> DecodedBatch:
    """Return the batch in `body`, compressed as the Content-Encoding says.

    Never holds more than `max_decoded` bytes of content. Raises `ProblemError` 400 for what does
    not decode, 413 for what grows too large.
    """
    content = _content(body, encoding, max_decoded)
    try:
        batch = codec.decode(content)
    except BatchError as error:
        raise ProblemError(400, "Malformed batch", str(error)) from error
    if (why := refusal(batch)) is not None:
        raise ProblemError(400, "Unusable batch", why)
    return DecodedBatch(batch, hashlib.sha256(content).digest(), attributed(batch))


def _content(body: bytes, encoding: str, limit: int) -> bytes:
    try:
        if encoding == "zstd":
            return _zstd(body, limit)
        content = _gunzip(body, limit) if encoding == "gzip" else body
    except (zstandard.ZstdError, zlib.error, EOFError) as error:
        raise ProblemError(400, "Malformed batch", f"not {encoding} data: {error}") from error
    if len(content) > limit:
        raise too_large_decoded(limit)
    return content


def _zstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    content = bytearray()
    # A stream, whose reads bound the output: feeding a decompressor bounds only its input, and
    # 64 KiB of zstd can hold 2 GB.
    with decompressor.stream_reader(body) as reader:
        while chunk := reader.read(_READ_BYTES):
            content += chunk
            if len(content) > limit:
                raise too_large_decoded(limit)
    return bytes(content)


def _gunzip(body: bytes, limit: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    # One byte more than allowed, so that a content of just the limit is told from a larger one.
    content = decompressor.decompress(body, limit + 1)
    if len(content) <= limit and not decompressor.eof:
        raise EOFError("the data ends early")
    if len(content) <= limit and decompressor.unused_data:
        raise EOFError("something follows the data")
    return content


def too_large_decoded(limit: int) -> ProblemError:
    """Return the 413 for content of more than `limit` bytes."""
    return ProblemError(413, "Content Too Large", f"the batch decodes to more than {limit} bytes")
