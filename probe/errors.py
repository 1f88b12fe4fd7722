"""Errors that the probe reports to a person. Each message stands alone on one line."""


class ProbeError(Exception):
    """Base of every error with a message meant for a person (exit code 1)."""


class ConfigError(ProbeError):
    """The configuration is unusable; `problems` lists every fault found (exit code 2)."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CaptureError(ProbeError):
    """A capture source cannot be opened or read on."""


class BatchError(ProbeError):
    """A batch violates the record contract; the message names the part that does."""


class SpoolError(ProbeError):
    """The spool directory cannot be used."""
