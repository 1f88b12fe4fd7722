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


class SpoolBusyError(SpoolError):
    """Another process holds the spool."""


class SpoolWriteError(SpoolError):
    """A batch could not be stored and is lost; the next stored batch announces the gap."""


class ShipperError(ProbeError):
    """The collector cannot be spoken to with this configuration."""


class ExtraMissingError(ProbeError):
    """A command needs an optional package that is not installed."""
