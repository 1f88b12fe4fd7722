"""What can go wrong with an errand, and how a probe should call it."""

from enum import Enum

from probe.record.enums import FailureCause
from probe.simulate.tls import AlertDescription


class Fault(Enum):
    """A planned course of an errand."""

    NONE = "none"
    DNS_NXDOMAIN = "nxdomain"  # an answer like any other, no failure
    DNS_SERVFAIL = FailureCause.DNS_SERVFAIL
    DNS_TIMEOUT = FailureCause.DNS_TIMEOUT
    CONNECT_REFUSED = FailureCause.CONNECT_REFUSED
    CONNECT_TIMEOUT = FailureCause.CONNECT_TIMEOUT
    RESET_BY_SERVER = FailureCause.RESET_BY_SERVER
    TLS_UNKNOWN_NAME = FailureCause.TLS_UNKNOWN_NAME
    TLS_NO_COMMON_CIPHER = FailureCause.TLS_NO_COMMON_CIPHER
    TLS_VERSION = FailureCause.TLS_VERSION_UNSUPPORTED

    @property
    def cause(self) -> str | None:
        """The failure cause, None where a probe should see no failure."""
        return str(self.value) if isinstance(self.value, FailureCause) else None


DNS_FAULTS = (Fault.DNS_NXDOMAIN, Fault.DNS_SERVFAIL, Fault.DNS_TIMEOUT)

ALERTS = {
    Fault.TLS_UNKNOWN_NAME: AlertDescription.UNRECOGNIZED_NAME,
    Fault.TLS_NO_COMMON_CIPHER: AlertDescription.HANDSHAKE_FAILURE,
    Fault.TLS_VERSION: AlertDescription.PROTOCOL_VERSION,
}
