"""DNS look-ups over UDP: one question, an answer or none, repeated as a stub resolver does."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from random import Random
from typing import Final

from scapy.layers.dns import DNS, DNSQR, DNSRR

from probe.simulate.events import Timeline
from probe.simulate.flow import Flow
from probe.simulate.headers import Datagram, Packet
from probe.simulate.path import Path

_ATTEMPTS: Final = 3
_RETRY_US: Final = 2_000_000
_TTL_S: Final = 60


class Rcode(IntEnum):
    """RFC 1035 4.1.1."""

    NOERROR = 0
    SERVFAIL = 2
    NXDOMAIN = 3


@dataclass(frozen=True)
class Question:
    """What a look-up asks, and what the resolver makes of it."""

    name: str
    record_type: str  # "A" or "AAAA"
    address: str  # the answer
    rcode: Rcode | None  # None: the resolver stays silent


class Lookup:
    """One look-up from one client port. `answered` is called on the first answer."""

    def __init__(
        self,
        timeline: Timeline,
        path: Path,
        flow: Flow,
        question: Question,
        *,
        random: Random,
        answered: Callable[[], None],
    ) -> None:
        self._timeline = timeline
        self._path = path
        self._flow = flow
        self._question = question
        self._random = random
        self._answered = answered
        self._transaction = struct.pack("!H", random.getrandbits(16))
        self._done = False

    def start(self) -> None:
        """Ask, and again every two seconds until answered, three times at most."""
        self._ask(1)

    def _ask(self, attempt: int) -> None:
        if self._done or attempt > _ATTEMPTS:
            return
        query = self._transaction + _query(self._question.name, self._question.record_type)
        self._path.send(Datagram(self._flow, True, query, is_query=True), self._resolve)
        self._timeline.after(_RETRY_US, self._ask, attempt + 1)

    def _resolve(self, _query_packet: Packet) -> None:
        if self._question.rcode is not None:
            self._timeline.after(self._random.randint(300, 4_000), self._answer)

    def _answer(self) -> None:
        answer = self._transaction + _answer(self._question)
        packet = Datagram(self._flow, False, answer, dns_rcode=self._question.rcode)
        self._path.send(packet, self._take_answer)

    def _take_answer(self, _answer_packet: Packet) -> None:
        if not self._done:
            self._done = True
            self._answered()


@lru_cache(maxsize=1024)
def _query(name: str, record_type: str) -> bytes:
    """Return a query without its transaction id."""
    return bytes(DNS(id=0, rd=1, qd=[DNSQR(qname=name, qtype=record_type)]))[2:]


@lru_cache(maxsize=1024)
def _answer(question: Question) -> bytes:
    """Return an answer without its transaction id."""
    name, record_type = question.name, question.record_type
    record = DNSRR(rrname=name, type=record_type, ttl=_TTL_S, rdata=question.address)
    message = DNS(
        id=0,
        qr=1,
        rd=1,
        ra=1,
        rcode=int(question.rcode or 0),
        qd=[DNSQR(qname=name, qtype=record_type)],
        an=[record] if question.rcode is Rcode.NOERROR else [],
    )
    return bytes(message)[2:]
