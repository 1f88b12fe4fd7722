//! Alerts and the failures that they stand for (RFC 8446 6, RFC 5246 7.2).

use super::TlsInfo;
use super::hello::Version;

/// Length of an alert record in clear.
pub const PLAINTEXT_LENGTH: u16 = 2;
/// A cipher suite with tags of 8 bytes: TLS_AES_128_CCM_8_SHA256.
const SHORT_TAG_SUITE: u16 = 0x1305;
/// The level that ends the connection.
pub const FATAL: u8 = 2;

/// Longest protected TLS 1.3 record that holds an alert without padding: alert, content type and
/// tag. The shortest one of a handshake, a Certificate without certificates, is longer by 6 bytes.
pub fn protected_length(cipher_suite: Option<u16>) -> u16 {
    let tag = if cipher_suite == Some(SHORT_TAG_SUITE) {
        8
    } else {
        16
    };
    PLAINTEXT_LENGTH + 1 + tag
}

/// A fatal alert that was sent in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    pub from_client: bool,
    pub level: u8,
    /// A number of the IANA TLS Alerts registry.
    pub description: u8,
    pub time_ns: u64,
}

/// The record's `failure_cause` and `failure_side` texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub cause: &'static str,
    pub side: &'static str,
}

const DEVICE: &str = "device";
const SERVER: &str = "server";

/// What the alert of a connection says about its failure; none if there is none, or if it is an
/// orderly end.
///
/// The side is the one whose offer, choice or certificate the alert complains about, but:
/// internal errors are the sender's own; a client that calls a certificate expired that is not has
/// a wrong clock.
pub fn failure(info: &TlsInfo) -> Option<Failure> {
    let alert = info.alert?;
    let accused = if alert.from_client { SERVER } else { DEVICE };
    let sender = if alert.from_client { DEVICE } else { SERVER };
    let (cause, side) = match alert.description {
        0 | 90 => return None, // close_notify, user_canceled
        70 => ("tls_version_unsupported", outdated_side(info, alert)),
        40 if is_answer_to_client_hello(info, alert) => {
            ("tls_no_common_cipher", outdated_side(info, alert))
        }
        71 => ("tls_no_common_cipher", accused), // insufficient_security
        45 if certificate_is_valid(info, alert) => ("tls_certificate", DEVICE),
        41..=46 | 48 | 113 | 114 | 116 => ("tls_certificate", accused),
        112 => ("tls_unknown_name", SERVER),
        80 => ("tls_other_alert", sender), // internal_error
        _ => ("tls_other_alert", accused),
    };
    Some(Failure { cause, side })
}

/// The side that is behind the times: a device that offers less than TLS 1.2, else the server.
fn outdated_side(info: &TlsInfo, alert: Alert) -> &'static str {
    let old_client = info
        .client_version
        .is_some_and(|version| version < Version::Tls12);
    if old_client && !alert.from_client {
        DEVICE
    } else {
        SERVER
    }
}

/// handshake_failure is said for many reasons later on; ahead of a ServerHello the parameters
/// offered do not suit the server.
fn is_answer_to_client_hello(info: &TlsInfo, alert: Alert) -> bool {
    !alert.from_client && info.client_hello_time_ns.is_some() && info.server_hello_time_ns.is_none()
}

fn certificate_is_valid(info: &TlsInfo, alert: Alert) -> bool {
    alert.from_client
        && info
            .certificate_not_after_ns
            .is_some_and(|end| end > alert.time_ns)
}
