"""The command `qoe-probe simulate`."""

import argparse
import sys
from importlib.util import find_spec

from probe.errors import ProbeError
from probe.simulate.arguments import read_arguments


def run(arguments: argparse.Namespace) -> int:
    """Write the simulation that `arguments` ask for and return exit code 0.

    Raises `ConfigError` for arguments out of range and `ProbeError` where a file cannot be
    written or scapy is not installed.
    """
    settings = read_arguments(arguments)
    if find_spec("scapy") is None:
        raise ProbeError("simulate needs scapy; install it with: pip install 'edgeqoe[simulate]'")
    from probe.simulate.simulation import simulate  # noqa: PLC0415  scapy: only when it is needed

    try:
        summary = simulate(settings, show_progress=sys.stderr.isatty())
    except OSError as error:
        raise ProbeError(f"{error.filename}: cannot be written: {error.strerror}") from error
    sys.stdout.write(summary + "\n")
    return 0
