"""What is compared: figures of a capture, ours beside tshark's."""

from tests.oracle.captures import Record, Truth
from tests.oracle.control import control_figures
from tests.oracle.dns import dns_figures
from tests.oracle.figure import Figure
from tests.oracle.http import http_figures
from tests.oracle.quic import quic_figures
from tests.oracle.retransmissions import retransmission_figures
from tests.oracle.round_trips import round_trip_figures
from tests.oracle.tcp import tcp_figures
from tests.oracle.tls import tls_server_names


def figures(records: list[Record], truth: Truth) -> list[Figure]:
    """Every figure that tshark has of a capture."""
    return [
        *tcp_figures(records, truth),
        *round_trip_figures(records, truth),
        *retransmission_figures(records, truth),
        tls_server_names(records, truth),
        *quic_figures(records, truth),
        *http_figures(records, truth),
        *dns_figures(records, truth),
        *control_figures(records, truth),
    ]
