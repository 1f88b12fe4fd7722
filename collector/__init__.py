"""EdgeQoE collector: stores session records and answers for QoE per cell and per subscriber."""

__version__ = "0.1.0"
