//! Closed lists of values, as the record spells them (`probe/record/enums.py`).

/// Bits of the `flags` column.
pub mod flag {
    pub const MISSED_START: u8 = 1;
    pub const ONE_WAY: u8 = 2;
    pub const TRUNCATED: u8 = 4;
    pub const CAPTURE_LOSS: u8 = 8;
    pub const RESTART: u8 = 16;
    pub const SCAN: u8 = 32;
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($variant),+ }

        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text)
            }
        }
    };
}

names!(
    /// Why a record was written.
    RecordKind { Interim = "interim", Final = "final", Transaction = "transaction" }
);
names!(
    /// Whether the session gave its customer what it was opened for.
    Outcome { Ok = "ok", Degraded = "degraded", Failed = "failed", Unknown = "unknown" }
);
names!(
    /// How far a session came before it failed.
    FailureStage {
        Signalling = "signalling",
        Dns = "dns",
        Connect = "connect",
        Tls = "tls",
        Request = "request",
        Transfer = "transfer",
    }
);
names!(
    /// Who is to look into a failure.
    FailureSide { Device = "device", Access = "access", Network = "network", Server = "server" }
);
names!(
    /// Why a flow's last record was written.
    EndReason {
        Fin = "fin",
        Reset = "reset",
        Idle = "idle",
        PortReused = "port_reused",
        Evicted = "evicted",
        CaptureEnd = "capture_end",
    }
);
names!(
    /// How round trips were measured.
    RttMethod {
        Timestamp = "timestamp",
        Sequence = "sequence",
        Handshake = "handshake",
        QuicHandshake = "quic_handshake",
        Spin = "spin",
        Echo = "echo",
    }
);
names!(
    /// The failure causes that the engine decides on.
    FailureCause {
        GtpApnUnknown = "gtp_apn_unknown",
        GtpAuthFailed = "gtp_auth_failed",
        GtpNoResources = "gtp_no_resources",
        GtpSubscriptionDenied = "gtp_subscription_denied",
        GtpPeerNotResponding = "gtp_peer_not_responding",
        GtpOther = "gtp_other",
        PfcpRejected = "pfcp_rejected",
        RadiusReject = "radius_reject",
        RadiusTimeout = "radius_timeout",
        S1apRejected = "s1ap_rejected",
        NgapRejected = "ngap_rejected",
        RadioConnectionLost = "radio_connection_lost",
        HandoverFailed = "handover_failed",
        DnsTimeout = "dns_timeout",
        DnsServfail = "dns_servfail",
        DnsRefused = "dns_refused",
        ConnectTimeout = "connect_timeout",
        ConnectRefused = "connect_refused",
        ConnectUnreachable = "connect_unreachable",
        ConnectProhibited = "connect_prohibited",
        QuicTimeout = "quic_timeout",
        QuicVersionMismatch = "quic_version_mismatch",
        QuicBlocked = "quic_blocked",
        TlsVersionUnsupported = "tls_version_unsupported",
        TlsCertificate = "tls_certificate",
        TlsNoCommonCipher = "tls_no_common_cipher",
        TlsUnknownName = "tls_unknown_name",
        TlsClientRejected = "tls_client_rejected",
        TlsOtherAlert = "tls_other_alert",
        TlsTimeout = "tls_timeout",
        TlsReset = "tls_reset",
        HttpClientError = "http_client_error",
        HttpServerError = "http_server_error",
        RequestTimeout = "request_timeout",
        ResetByServer = "reset_by_server",
        ResetByClient = "reset_by_client",
        TransferStalled = "transfer_stalled",
        NetworkInjectedReset = "network_injected_reset",
        RetransmissionTimeout = "retransmission_timeout",
    }
);
