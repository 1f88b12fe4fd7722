"""The labels of the control plane in the truth file."""

from collections import Counter
from collections.abc import Iterable, Sequence

from probe.simulate.control.connection import Connection, Identity, Row, Stay, Volume
from probe.simulate.control.core import Core
from probe.simulate.control.signalling import Signalling
from probe.simulate.network import Cell


class ControlTruth:
    """Sessions with their stays, transactions, and who the subscribers are."""

    def __init__(
        self,
        core: Core,
        signalling: Signalling,
        people: Sequence[Identity],
        cells: Sequence[Cell],
        *,
        skip_us: int,
    ) -> None:
        self._congested = {cell.cell_id for cell in cells if cell.congested}
        self._core = core
        self._signalling = signalling
        self._people = people
        self._skip_us = skip_us

    @property
    def moves(self) -> int:
        return self._core.moves

    @property
    def congested_cells(self) -> set[str]:
        return self._congested

    def rows(self, start_ns: int) -> Row:
        """Return the parts of the truth file. Times in ns since the Unix epoch."""
        shown = [
            transaction
            for transaction in self._signalling.transactions
            if transaction.start_us >= self._skip_us
        ]
        results = Counter(f"{row.interface} {row.procedure} {row.result}" for row in shown)
        connections = self._core.connections
        return {
            "handovers": self._core.moves,
            "identities": [_identity_row(identity) for identity in self._people],
            "attachments": [
                _attachment_row(connection, start_ns, self._skip_us) for connection in connections
            ],
            "signalling_results": dict(sorted(results.items())),
            "signalling": [transaction.row(start_ns) for transaction in shown],
        }

    def carried(self) -> dict[str, Row]:
        """Return what passed the tap, by cell."""
        by_cell: dict[str, list[Stay]] = {}
        for connection in self._core.connections:
            for stay in connection.stays:
                by_cell.setdefault(stay.cell.cell_id, []).append(stay)
        return {cell_id: _sum(stays) for cell_id, stays in by_cell.items()}


def _sum(stays: Iterable[Stay]) -> Row:
    total = Volume()
    for stay in stays:
        total.add(stay.volume)
    return total.row()


def _identity_row(identity: Identity) -> Row:
    return {
        "subscriber": f"imsi:{identity.imsi}",
        "imsi": identity.imsi,
        "msisdn": identity.msisdn,
        "imeisv": identity.imeisv,
        "imei_tac": identity.imei_tac,
        "device_model": identity.device_model,
        "old_device": identity.old_device,
    }


def _attachment_row(connection: Connection, start_ns: int, skip_us: int) -> Row:
    identity = connection.identity
    return {
        "attachment": connection.number,
        "subscriber": f"imsi:{identity.imsi}",
        "msisdn": identity.msisdn,
        "imei_tac": identity.imei_tac,
        "apn": connection.apn,
        "rat": connection.cell.rat,
        "client_ipv4": connection.ipv4,
        "client_ipv6_prefix": connection.ipv6_prefix,
        "start_time": start_ns + 1000 * connection.start_us,
        "end_time": _time(connection.end_us, start_ns),
        "end_reason": connection.end_reason,
        "start_shown": connection.start_us >= skip_us,
        "control": {
            "mme_teid": connection.keys.mme_teid,
            "sgw_teid": connection.keys.sgw_teid,
            "smf_seid": connection.keys.smf_seid,
            "upf_seid": connection.keys.upf_seid,
        },
        "stays": [_stay_row(stay, start_ns) for stay in connection.stays],
    }


def _stay_row(stay: Stay, start_ns: int) -> Row:
    return {
        **stay.key(),
        "start_time": start_ns + 1000 * stay.start_us,
        "end_time": _time(stay.end_us, start_ns),
        **stay.volume.row(),
    }


def _time(time_us: int | None, start_ns: int) -> int | None:
    return None if time_us is None else start_ns + 1000 * time_us
