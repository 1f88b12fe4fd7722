"""Closed lists of values that stand in session records.

The engine writes the same texts (`core/src/record`); a test compares the two lists.
"""

from enum import IntFlag, StrEnum


class RecordKind(StrEnum):
    INTERIM = "interim"
    FINAL = "final"
    TRANSACTION = "transaction"


class Transport(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"


class Side(StrEnum):
    """One end of a session, seen from the tap."""

    CLIENT = "client"
    SERVER = "server"


class RttMethod(StrEnum):
    TIMESTAMP = "timestamp"
    SEQUENCE = "sequence"
    HANDSHAKE = "handshake"
    QUIC_HANDSHAKE = "quic_handshake"
    SPIN = "spin"
    ECHO = "echo"


class LimitedBy(StrEnum):
    NETWORK = "network"
    RECEIVER_WINDOW = "receiver_window"
    APPLICATION = "application"


class Outcome(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class FailureStage(StrEnum):
    SIGNALLING = "signalling"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    REQUEST = "request"
    TRANSFER = "transfer"


class FailureSide(StrEnum):
    DEVICE = "device"
    ACCESS = "access"
    NETWORK = "network"
    SERVER = "server"


class EndReason(StrEnum):
    """Why a flow's last record was written."""

    FIN = "fin"
    RESET = "reset"
    IDLE = "idle"
    PORT_REUSED = "port_reused"
    EVICTED = "evicted"
    CAPTURE_END = "capture_end"


class RecordFlag(IntFlag):
    """Bits of the `flags` column: what limits the trust in a record."""

    MISSED_START = 1
    ONE_WAY = 2
    TRUNCATED = 4
    CAPTURE_LOSS = 8
    RESTART = 16
    SCAN = 32


class FailureCause(StrEnum):
    """The closed list of failure causes, in the order of the stages."""

    GTP_APN_UNKNOWN = "gtp_apn_unknown"
    GTP_AUTH_FAILED = "gtp_auth_failed"
    GTP_NO_RESOURCES = "gtp_no_resources"
    GTP_SUBSCRIPTION_DENIED = "gtp_subscription_denied"
    GTP_PEER_NOT_RESPONDING = "gtp_peer_not_responding"
    GTP_OTHER = "gtp_other"
    PFCP_REJECTED = "pfcp_rejected"
    RADIUS_REJECT = "radius_reject"
    RADIUS_TIMEOUT = "radius_timeout"
    S1AP_REJECTED = "s1ap_rejected"
    NGAP_REJECTED = "ngap_rejected"
    RADIO_CONNECTION_LOST = "radio_connection_lost"
    HANDOVER_FAILED = "handover_failed"
    DNS_TIMEOUT = "dns_timeout"
    DNS_SERVFAIL = "dns_servfail"
    DNS_REFUSED = "dns_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_UNREACHABLE = "connect_unreachable"
    CONNECT_PROHIBITED = "connect_prohibited"
    QUIC_TIMEOUT = "quic_timeout"
    QUIC_VERSION_MISMATCH = "quic_version_mismatch"
    QUIC_BLOCKED = "quic_blocked"
    TLS_VERSION_UNSUPPORTED = "tls_version_unsupported"
    TLS_CERTIFICATE = "tls_certificate"
    TLS_NO_COMMON_CIPHER = "tls_no_common_cipher"
    TLS_UNKNOWN_NAME = "tls_unknown_name"
    TLS_CLIENT_REJECTED = "tls_client_rejected"
    TLS_OTHER_ALERT = "tls_other_alert"
    TLS_TIMEOUT = "tls_timeout"
    TLS_RESET = "tls_reset"
    HTTP_CLIENT_ERROR = "http_client_error"
    HTTP_SERVER_ERROR = "http_server_error"
    REQUEST_TIMEOUT = "request_timeout"
    SIP_REJECTED = "sip_rejected"
    SIP_SERVER_ERROR = "sip_server_error"
    SIP_TIMEOUT = "sip_timeout"
    RESET_BY_SERVER = "reset_by_server"
    RESET_BY_CLIENT = "reset_by_client"
    TRANSFER_STALLED = "transfer_stalled"
    NETWORK_INJECTED_RESET = "network_injected_reset"
    RETRANSMISSION_TIMEOUT = "retransmission_timeout"
    RTP_ONE_WAY = "rtp_one_way"
    RTP_SILENT = "rtp_silent"
    NONE = "none"
    UNKNOWN = "unknown"
