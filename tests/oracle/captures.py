"""Reference captures that other people made, with tshark's view of them and ours."""

import functools
import json
from typing import Any

from tests.support import SHARED, Replay, replay

CORPUS = SHARED / "corpora" / "dev"

Record = dict[str, Any]
Truth = dict[str, Any]
Ends = frozenset[tuple[str, int]]


def captures() -> list[str]:
    truth = sorted((CORPUS / "truth").glob("*.json"))
    return [path.name.removesuffix(".json") for path in truth]


@functools.cache
def truth_of(name: str) -> Truth:
    document: Truth = json.loads((CORPUS / "truth" / f"{name}.json").read_text())
    return document


@functools.cache
def replay_of(name: str) -> Replay:
    """What the installed command says of a capture; asked once, compared in many ways."""
    return replay(CORPUS / name)


def ends_of(record: Record) -> Ends:
    """Both ends of a session, whichever is the client."""
    return frozenset(
        [
            (record["client_ip"], record["client_port"]),
            (record["server_ip"], record["server_port"]),
        ]
    )


def ends_of_stream(stream: Truth) -> Ends:
    return frozenset([tuple(stream["client"]), tuple(stream["server"])])


def streams_of(truth: Truth) -> list[Truth]:
    streams: list[Truth] = truth.get("tcp", {}).get("streams", [])
    return streams
