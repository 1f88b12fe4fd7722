"""Static files: under a URL that names their content, compressed once, kept by browsers."""

import asyncio
import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

import zstandard

# Levels by measurement on plotly.min.js (4.8 MB): zstd 12 takes 0.6 s for 1.28 MB, 15 takes 3 s
# for 1.26 MB; gzip 9 takes 0.35 s for 1.47 MB. Brotli would be one dependency more and gain little.
_ZSTD_LEVEL: Final = 12
_GZIP_LEVEL: Final = 9
PLOTLY: Final = "plotly.min.js"
CODINGS: Final = ("zstd", "gzip")  # the better first

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_DIGEST_CHARACTERS: Final = 20  # 80 bits: nobody chooses the content, so chance is the only foe


@dataclass
class Asset:
    """One file and its compressed forms, each made when it is first asked for."""

    name: str
    content: bytes
    digest: str  # names the content of the file or of the set it belongs to
    _encoded: dict[str, bytes] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def media_type(self) -> str:
        """Return the Content-Type."""
        return _MEDIA_TYPES[PurePosixPath(self.name).suffix]

    @property
    def url(self) -> str:
        """Return the path under which the file is served; other content has another path."""
        return f"/assets/{self.digest}/{self.name}"

    async def encoded(self, coding: str) -> bytes:
        """Return the content in one of `CODINGS`. Compresses in a thread, once."""
        async with self._lock:
            if coding not in self._encoded:
                self._encoded[coding] = await asyncio.to_thread(_compress, self.content, coding)
        return self._encoded[coding]


def _compress(content: bytes, coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.compress(content, _ZSTD_LEVEL)
    return gzip.compress(content, _GZIP_LEVEL, mtime=0)


def load_assets(generated: Mapping[str, bytes]) -> tuple[Asset, ...]:
    """Return the portal's own files with the `generated` ones, and plotly.js.

    The portal's own share one digest, so that its modules find each other by relative names.
    """
    own = {**generated, **{entry.name: entry.read_bytes() for entry in _static_files()}}
    plotly = _plotly()
    digest = _digest(own)
    return (
        *(Asset(name, content, digest) for name, content in sorted(own.items())),
        Asset(PLOTLY, plotly, _digest({PLOTLY: plotly})),
    )


def _static_files() -> Iterable[Traversable]:
    folder = files("collector.portal") / "static"
    return (entry for entry in folder.iterdir() if PurePosixPath(entry.name).suffix in _MEDIA_TYPES)


def _plotly() -> bytes:
    return (files("plotly") / "package_data" / PLOTLY).read_bytes()


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def accepted_coding(header: str) -> str | None:
    """Return the best of `CODINGS` that an Accept-Encoding admits, None for none (RFC 9110 12.5.3).

    What cannot be read counts as not offered.
    """
    offered = dict(_offer(part) for part in header.lower().split(","))
    weights = {coding: offered.get(coding, offered.get("*", 0.0)) for coding in CODINGS}
    best = max(CODINGS, key=lambda coding: weights[coding])
    return best if weights[best] > 0 else None


def _offer(part: str) -> tuple[str, float]:
    coding, _, parameter = part.partition(";")
    name, _, value = parameter.strip().partition("=")
    if not parameter:
        return coding.strip(), 1.0
    try:
        weight = float(value) if name.strip() == "q" else 0.0
    except ValueError:
        weight = 0.0
    return coding.strip(), weight if 0.0 <= weight <= 1.0 else 0.0
