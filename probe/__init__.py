"""EdgeQoE probe: measures every session on a mirrored link and ships compact records."""

__version__ = "0.1.0"
