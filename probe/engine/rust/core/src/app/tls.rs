//! What a TLS handshake says in clear (RFC 8446, RFC 5246, RFC 6101).
//!
//! [`TlsTracker`] reads both directions of one connection as in-order stream bytes in chunks of
//! any size, and learns from them a [`TlsInfo`]. Per direction it keeps at most one handshake
//! message of [`message::MAX_HELLO`] bytes, and only if the message does not lie in one chunk.

pub mod alert;
pub mod certificate;
pub mod hello;
pub mod message;
pub mod record;

use alert::Alert;
use hello::{ClientHello, ServerHello, Version};
use message::{Message, MessageReader};
use record::{ContentType, Fragment, RecordReader};

/// What was learnt about one connection. Times are those of the chunk that brought the first
/// byte of the message or record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// Lower-case host name of the ClientHello; none if absent or not a host name. With `ech` it
    /// is the outer, public name.
    pub server_name: Option<Box<str>>,
    /// The server's choice of application protocol, visible up to TLS 1.2.
    pub alpn_selected: Option<Box<str>>,
    /// The client's offers, joined by commas, 255 bytes at most.
    pub alpn_offered: Option<Box<str>>,
    /// The highest version that the client offers.
    pub client_version: Option<Version>,
    /// The version that the server chose.
    pub version: Option<Version>,
    /// The ClientHello carries encrypted_client_hello, be it real or grease (RFC 9849).
    pub ech: bool,
    /// The ClientHello announces 0-RTT data.
    pub early_data: bool,
    /// The server asked for a second ClientHello.
    pub hello_retry_request: bool,
    /// The first ClientHello.
    pub client_hello_time_ns: Option<u64>,
    /// The ServerHello that is not a HelloRetryRequest.
    pub server_hello_time_ns: Option<u64>,
    /// The client's first record of type application_data, 0-RTT data left out.
    ///
    /// In TLS 1.3 that record holds the client's Finished (or its certificate): the request, if
    /// the client speaks first, is in the same flight. So the time agrees with that of earlier
    /// versions, where it is the first record of the request itself, but for a client that has
    /// finished and says nothing: there it exists in TLS 1.3 only.
    pub client_application_time_ns: Option<u64>,
    /// The server has sent application data. In TLS 1.3 that is its first protected record after
    /// the client's: session tickets are taken for data, data ahead of the client's Finished is
    /// not seen.
    pub server_application: bool,
    /// End of validity of the leaf certificate in ns since the Unix epoch, visible up to TLS 1.2.
    pub certificate_not_after_ns: Option<u64>,
    /// The first fatal alert sent in clear.
    pub alert: Option<Alert>,
    /// TLS 1.3: the client's first protected record is as short as an alert and too short for a
    /// Finished, so the client refused the server's flight (mostly its certificate).
    pub client_rejected: bool,
}

impl TlsInfo {
    /// The server's choice of protocol if it was visible, else the client's offers.
    pub fn alpn(&self) -> Option<&str> {
        self.alpn_selected
            .as_deref()
            .or(self.alpn_offered.as_deref())
    }

    /// From the ClientHello to the client's first application record, in microseconds.
    ///
    /// Bias: includes the client's time to verify the certificate and, up to TLS 1.2, to have
    /// something to say.
    pub fn setup_us(&self) -> Option<u32> {
        let end = self.client_application_time_ns?;
        let elapsed = end.checked_sub(self.client_hello_time_ns?)?;
        Some(u32::try_from(elapsed / 1000).unwrap_or(u32::MAX))
    }
}

/// Whether a stream's first bytes can be the start of TLS: a handshake record with a hello, or a
/// ClientHello in the format of SSL 2.0.
///
/// A prefix too short to tell counts as TLS; [`TlsTracker::is_malformed`] corrects that later.
pub fn looks_like_tls(first_bytes: &[u8]) -> bool {
    !first_bytes.is_empty() && (starts_tls_record(first_bytes) || starts_ssl2_hello(first_bytes))
}

fn starts_tls_record(bytes: &[u8]) -> bool {
    let fits = |at: usize, test: fn(u8) -> bool| bytes.get(at).copied().is_none_or(test);
    let length_fits = bytes
        .get(3..5)
        .is_none_or(|length| (1..=record::MAX_LENGTH).contains(&be_u16(length)));
    length_fits
        && fits(0, |kind| kind == record::HANDSHAKE)
        && fits(1, |major| major == record::MAJOR_VERSION)
        && fits(2, |minor| minor <= 4)
        && fits(5, |kind| {
            kind == message::CLIENT_HELLO || kind == message::SERVER_HELLO
        })
}

/// The whole header must be there: its first byte alone says too little.
fn starts_ssl2_hello(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|header| record::is_ssl2_hello(*header))
}

fn be_u16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u16::from(*byte))
}

/// Follows one TLS connection until its handshake is over.
#[derive(Debug, Default)]
pub struct TlsTracker {
    client: Direction,
    server: Direction,
    info: TlsInfo,
}

impl TlsTracker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn info(&self) -> &TlsInfo {
        &self.info
    }

    /// Takes the next in-order bytes of one direction, in chunks of any size.
    ///
    /// Bytes are ignored once [`wants_more`](Self::wants_more) says no for the direction.
    pub fn feed(&mut self, from_client: bool, bytes: &[u8], time_ns: u64) {
        let mut rest = bytes;
        while self.wants_more(from_client) {
            let direction = match from_client {
                true => &mut self.client,
                false => &mut self.server,
            };
            match direction.records.next(&mut rest, time_ns) {
                Some(fragment) => direction.read(&fragment, from_client, &mut self.info),
                None => return,
            }
        }
    }

    /// Takes the next in-order bytes of handshake messages that no record layer surrounds: those of
    /// QUIC's CRYPTO frames (RFC 9001 4.1.3). A connection has either these or records.
    pub fn feed_handshake(&mut self, from_client: bool, bytes: &[u8], time_ns: u64) {
        let direction = match from_client {
            true => &mut self.client,
            false => &mut self.server,
        };
        let info = &mut self.info;
        direction
            .messages
            .feed(bytes, time_ns, from_client, &mut |message| {
                note_message(&message, from_client, info);
            });
    }

    /// Whether further bytes of the direction can add to [`TlsInfo`].
    pub fn wants_more(&self, from_client: bool) -> bool {
        let direction_open = match from_client {
            true => self.info.client_application_time_ns.is_none() && !self.info.client_rejected,
            false => !self.info.server_application,
        };
        direction_open && self.info.alert.is_none() && !self.is_malformed(from_client)
    }

    /// Whether the direction turned out not to be TLS, or not to follow its record layer.
    pub fn is_malformed(&self, from_client: bool) -> bool {
        match from_client {
            true => self.client.records.is_malformed(),
            false => self.server.records.is_malformed(),
        }
    }

    /// Whether the client has ended its handshake: it sent application data or, up to TLS 1.2,
    /// both sides have switched to the negotiated keys.
    pub fn handshake_done(&self) -> bool {
        let switched = self.client.changed_cipher && self.server.changed_cipher;
        let before_1_3 = self
            .info
            .version
            .is_some_and(|version| version < Version::Tls13);
        self.info.client_application_time_ns.is_some() || (switched && before_1_3)
    }
}

/// The state of one direction.
#[derive(Debug, Default)]
struct Direction {
    records: RecordReader,
    messages: MessageReader,
    /// The first byte of a plaintext alert whose second byte is still to come.
    alert_level: Option<u8>,
    /// A ChangeCipherSpec was sent.
    changed_cipher: bool,
}

impl Direction {
    fn read(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        match fragment.content_type {
            ContentType::ChangeCipherSpec => self.changed_cipher = true,
            ContentType::Alert => self.read_alert(fragment, from_client, info),
            ContentType::Handshake => self.read_handshake(fragment, from_client, info),
            ContentType::ApplicationData if fragment.begins_record => {
                note_application_data(fragment, from_client, info);
            }
            ContentType::Ssl2ClientHello(version) if fragment.begins_record && from_client => {
                info.client_hello_time_ns = Some(fragment.record_time_ns);
                info.client_version = Version::from_wire(version);
            }
            ContentType::ApplicationData
            | ContentType::Heartbeat
            | ContentType::Ssl2ClientHello(_) => {}
        }
    }

    /// Up to TLS 1.2 a handshake record after ChangeCipherSpec is encrypted. In TLS 1.3 none is,
    /// and the client may send a dummy ChangeCipherSpec ahead of its second ClientHello
    /// (RFC 8446 D.4).
    fn read_handshake(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        if self.changed_cipher && info.version != Some(Version::Tls13) {
            return;
        }
        self.messages.feed(
            fragment.bytes,
            fragment.time_ns,
            from_client,
            &mut |message| {
                note_message(&message, from_client, info);
            },
        );
    }

    /// An alert in clear is two bytes; an encrypted one is longer by a MAC or a tag.
    fn read_alert(&mut self, fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
        if fragment.record_length != alert::PLAINTEXT_LENGTH {
            return;
        }
        for &byte in fragment.bytes {
            match self.alert_level.take() {
                None => self.alert_level = Some(byte),
                Some(level) => note_alert(level, byte, fragment, from_client, info),
            }
        }
    }
}

fn note_alert(
    level: u8,
    description: u8,
    fragment: &Fragment<'_>,
    from_client: bool,
    info: &mut TlsInfo,
) {
    if level == alert::FATAL {
        info.alert = Some(Alert {
            from_client,
            level,
            description,
            time_ns: fragment.record_time_ns,
        });
    }
}

fn note_application_data(fragment: &Fragment<'_>, from_client: bool, info: &mut TlsInfo) {
    let tls_1_3 = info.version == Some(Version::Tls13);
    if !from_client {
        info.server_application = !tls_1_3 || info.client_application_time_ns.is_some();
    } else if info.early_data && info.server_hello_time_ns.is_none() {
        // 0-RTT data: sent before the handshake has got anywhere.
    } else if tls_1_3 && !info.early_data && fragment.record_length <= alert::PROTECTED_LENGTH {
        info.client_rejected = true;
    } else {
        info.client_application_time_ns = Some(fragment.record_time_ns);
    }
}

fn note_message(message: &Message<'_>, from_client: bool, info: &mut TlsInfo) {
    match (message.kind, from_client) {
        (message::CLIENT_HELLO, true) => note_client_hello(message, info),
        (message::SERVER_HELLO, false) => note_server_hello(message, info),
        (message::CERTIFICATE, false) if info.certificate_not_after_ns.is_none() => {
            info.certificate_not_after_ns = certificate::leaf_not_after_ns(message.body);
        }
        _ => {}
    }
}

/// A second ClientHello, after a HelloRetryRequest, repeats the first.
fn note_client_hello(message: &Message<'_>, info: &mut TlsInfo) {
    if info.client_hello_time_ns.is_some() {
        return;
    }
    info.client_hello_time_ns = Some(message.time_ns);
    if let Some(hello) = ClientHello::parse(message.body) {
        info.server_name = hello.server_name();
        info.alpn_offered = hello.alpn_offered();
        info.client_version = hello.max_version();
        info.ech = hello.encrypted_client_hello;
        info.early_data = hello.early_data;
    }
}

fn note_server_hello(message: &Message<'_>, info: &mut TlsInfo) {
    let hello = ServerHello::parse(message.body);
    if hello.as_ref().is_some_and(|hello| hello.is_retry_request) {
        info.hello_retry_request = true;
    } else {
        info.server_hello_time_ns.get_or_insert(message.time_ns);
    }
    if let Some(hello) = hello {
        info.version = hello.version().or(info.version);
        info.alpn_selected = hello.alpn_selected();
    }
}

#[cfg(test)]
mod tests;
