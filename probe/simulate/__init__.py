"""A small mobile network that writes labelled traffic: for demonstrations and tests.

A discrete-event model of subscribers behind cells, of the paths on both sides of a tap, and of
TCP, TLS, DNS and QUIC ends, writes what the tap sees as a capture, and beside it what was true.
Three files come out: `OUT.pcap`, `OUT.truth.json` (labels per session, cell and subscriber) and
`OUT.map.csv` (the attribution map that gives a probe the subscribers and cells).

scapy is GPL-2.0-only and an extra, so this module imports it only once `run` is called.
"""

from probe.simulate.arguments import add_arguments
from probe.simulate.command import run

__all__ = ["add_arguments", "run"]
