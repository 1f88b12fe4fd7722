"""What tshark says of the reference captures and their truth files leave out.

Of each TCP stream the frames that tshark takes for retransmissions, by direction (the truth files
add up both), and the quartiles of its round trips; of each HTTP response its status, and the time
from the first byte of its request to its own first byte (theirs ends with the last byte, and they
leave out responses whose body was not captured in whole). The configuration is empty, as it was for
the truth files (tshark 4.0.17); a test compares the two where they hold the same.
"""

import functools
import math
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.oracle.captures import CORPUS, streams_of, truth_of

FIELDS = [
    "frame.number",
    "frame.time_epoch",
    "ip.src",
    "ipv6.src",
    "tcp.stream",
    "tcp.srcport",
    "tcp.flags.syn",
    "tcp.flags.ack",
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.ack_rtt",
    "tcp.segment",
    "http.response.code",
    "http.request_in",
]
RETRANSMISSION = FIELDS[8:11]

Frame = dict[str, list[str]]


def frames_of(name: str) -> Iterator[Frame]:
    """The TCP frames of a capture; quoted in ICMP errors are none."""
    words = ["tshark", "-n", "-2", "-r", str(CORPUS / name), "-Y", "tcp && !icmp && !icmpv6"]
    words += ["-o", "tcp.calculate_timestamps:TRUE"]
    words += ["-o", "http.desegment_body:FALSE", "-T", "fields", "-E", "separator=\x1f"]
    words += [word for field in FIELDS for word in ("-e", field)]
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "WIRESHARK_CONFIG_DIR": empty}
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, check=False, timeout=60
        )
    for line in done.stdout.splitlines():
        values = (value.split(",") if value else [] for value in line.split("\x1f"))
        yield dict(zip(FIELDS, values, strict=True))


def is_from_client(frame: Frame, stream: dict[str, Any]) -> bool:
    (client_ip, client_port), (_, server_port) = stream["client"], stream["server"]
    if client_port != server_port:
        return bool(int(frame["tcp.srcport"][-1]) == client_port)
    return client_ip in (frame["ip.src"] + frame["ipv6.src"])[-1:]


def microseconds(seconds: str) -> int:
    return int(Decimal(seconds) * 1_000_000)


def quartiles(name: str, frames: list[Frame]) -> dict[str, dict[str, list[int]]]:
    """By stream and the side that acknowledged: first and third quartile in microseconds."""
    streams = {stream["stream"]: stream for stream in streams_of(truth_of(name))}
    samples: dict[str, dict[str, list[int]]] = {}
    for frame in frames:
        if frame["tcp.analysis.ack_rtt"]:
            number = frame["tcp.stream"][-1]
            side = "client" if is_from_client(frame, streams[int(number)]) else "server"
            of_side = samples.setdefault(number, {}).setdefault(side, [])
            of_side.append(microseconds(frame["tcp.analysis.ack_rtt"][-1]))
    return {
        number: {side: middle_half(values) for side, values in sides.items()}
        for number, sides in samples.items()
    }


def middle_half(values: list[int]) -> list[int]:
    if len(values) == 1:
        return values * 2
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [math.floor(low), math.ceil(high)]


def retransmissions(name: str, frames: list[Frame]) -> dict[str, dict[str, int]]:
    """By stream: SYNs, SYN-ACKs, other segments of the client, and of the server."""
    streams = {stream["stream"]: stream for stream in streams_of(truth_of(name))}
    found: dict[str, dict[str, int]] = {}
    for frame in frames:
        if not any(frame[field] for field in RETRANSMISSION):
            continue
        number = frame["tcp.stream"][-1]
        side = "up" if is_from_client(frame, streams[int(number)]) else "down"
        if frame["tcp.flags.syn"][-1] == "1":
            side = "syn_ack" if frame["tcp.flags.ack"][-1] == "1" else "syn"
        of_stream = found.setdefault(number, {})
        of_stream[side] = of_stream.get(side, 0) + 1
    return found


def responses(frames: list[Frame]) -> dict[str, list[list[int | None]]]:
    """By stream: status of each response, and microseconds from its request to it."""
    times = {frame["frame.number"][0]: frame["frame.time_epoch"] for frame in frames}
    first = {frame["frame.number"][0]: frame["tcp.segment"][:1] for frame in frames}

    def begin_us(number: str) -> int:
        begins = (first[number] or [number])[0]
        return microseconds(times[begins][0])

    found: dict[str, list[list[int | None]]] = {}
    for frame in frames:
        begun_us = [begin_us(number) for number in frame["http.request_in"]]
        for position, status in enumerate(frame["http.response.code"]):
            us = begin_us(frame["frame.number"][0]) - begun_us[position] if begun_us else None
            found.setdefault(frame["tcp.stream"][-1], []).append([int(status), us])
    return found


@functools.cache
def details_of(name: str) -> dict[str, Any]:
    frames = list(frames_of(name)) if streams_of(truth_of(name)) else []
    return {
        "retransmissions": retransmissions(name, frames),
        "quartiles": quartiles(name, frames),
        "responses": responses(frames),
    }
