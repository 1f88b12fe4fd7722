//! What a DTLS handshake says in clear (RFC 6347, RFC 9147): the same as in TLS, in datagrams.
//!
//! Only messages whose fragments come in order are read; a client repeats those that were lost. Of
//! DTLS certificates nothing is read: those of media sessions are made for the session, and name
//! nobody (RFC 8122 5.1).

use super::reader::Reader;
use super::tls::alert::FATAL;
use super::tls::hello::Version;
use super::tls::{Alert, TlsInfo, message};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// First byte of every DTLS version: the complement of TLS's numbers.
const MAJOR_VERSION: u8 = 0xfe;
/// Longest message that is kept; a longer one is skipped.
const MAX_MESSAGE: usize = 16 * 1024;
/// The three highest bits of a protected record's first byte from DTLS 1.3 on, and the lowest of its
/// epoch with application data in it (RFC 9147 4, 6.1).
const UNIFIED_HEADER: u8 = 0b0010_0000;
const APPLICATION_EPOCH: u8 = 3;

/// Whether a datagram begins with a handshake record that begins with a ClientHello.
pub fn begins_client_hello(datagram: &[u8]) -> bool {
    let Some(record) = Record::take(&mut Reader::new(datagram)) else {
        return false;
    };
    let is_hello = record.body.first() == Some(&message::CLIENT_HELLO);
    record.kind == HANDSHAKE && record.epoch == 0 && is_hello
}

/// Whether a datagram of DTLS 1.3 begins with application data.
fn begins_with_data(datagram: &[u8]) -> bool {
    let header = datagram.first().copied().unwrap_or_default();
    header & 0b1110_0000 == UNIFIED_HEADER && header & 0b11 == APPLICATION_EPOCH
}

/// A record as far as it is there (RFC 6347 4.1).
struct Record<'a> {
    kind: u8,
    epoch: u16,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let kind = reader.u8()?;
        let [major, _] = reader.array()?;
        let epoch = reader.u16()?;
        reader.take(6)?; // sequence_number
        let body = reader.vector16()?;
        (major == MAJOR_VERSION).then_some(Self { kind, epoch, body })
    }
}

/// A fragment of a handshake message (RFC 6347 4.2.2).
struct Fragment<'a> {
    kind: u8,
    length: u32,
    offset: u32,
    body: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let (kind, length) = (reader.u8()?, reader.u24()?);
        reader.u16()?; // message_seq
        let (offset, count) = (reader.u24()?, reader.u24()?);
        let body = reader.take(count as usize)?;
        Some(Self {
            kind,
            length,
            offset,
            body,
        })
    }
}

/// Follows one DTLS association until its client sends data.
#[derive(Debug, Default)]
pub struct DtlsTracker {
    info: TlsInfo,
    /// The hello under way, [`MAX_MESSAGE`] bytes at most.
    kept: Vec<u8>,
}

impl DtlsTracker {
    pub fn info(&self) -> &TlsInfo {
        &self.info
    }

    /// Takes in a datagram of the side that said ClientHello, or of the other one.
    pub fn on_datagram(&mut self, from_client: bool, datagram: &[u8], time_ns: u64) {
        if self.info.client_application_time_ns.is_some() {
            return;
        }
        if from_client && self.is_1_3() && begins_with_data(datagram) {
            self.info.client_application_time_ns = Some(time_ns);
            return;
        }
        let mut records = Reader::new(datagram);
        while let Some(record) = Record::take(&mut records) {
            self.on_record(&record, from_client, time_ns);
        }
    }

    fn is_1_3(&self) -> bool {
        self.info.version == Some(Version::Tls13)
    }

    fn on_record(&mut self, record: &Record<'_>, from_client: bool, time_ns: u64) {
        match (record.kind, record.epoch) {
            (HANDSHAKE, 0) => self.on_handshake(record.body, from_client, time_ns),
            (ALERT, 0) => self.on_alert(record.body, from_client, time_ns),
            (APPLICATION_DATA, 1..) if from_client && !self.is_1_3() => {
                self.info.client_application_time_ns = Some(time_ns);
            }
            _ => {}
        }
    }

    fn on_handshake(&mut self, body: &[u8], from_client: bool, time_ns: u64) {
        let mut fragments = Reader::new(body);
        while let Some(fragment) = Fragment::take(&mut fragments) {
            self.on_fragment(&fragment, from_client, time_ns);
        }
    }

    fn on_fragment(&mut self, fragment: &Fragment<'_>, from_client: bool, time_ns: u64) {
        let is_hello = match fragment.kind {
            message::CLIENT_HELLO => from_client,
            message::SERVER_HELLO => !from_client,
            _ => false,
        };
        if is_hello && self.join(fragment) {
            let body = std::mem::take(&mut self.kept);
            self.info.note_dtls_hello(from_client, &body, time_ns);
        }
    }

    /// Joins a fragment to what is kept; true if that completes the message. One that does not
    /// follow it, or that speaks of another length, changes nothing.
    fn join(&mut self, fragment: &Fragment<'_>) -> bool {
        let (length, offset) = (fragment.length as usize, fragment.offset as usize);
        let end = offset.saturating_add(fragment.body.len());
        if length > MAX_MESSAGE || end > length {
            return false;
        }
        if offset == 0 {
            self.kept.clear();
        }
        let follows = offset == self.kept.len();
        if follows {
            self.kept.extend_from_slice(fragment.body);
        }
        follows && end == length
    }

    fn on_alert(&mut self, body: &[u8], from_client: bool, time_ns: u64) {
        if let (&[FATAL, description], None) = (body, self.info.alert) {
            self.info.alert = Some(Alert {
                from_client,
                level: FATAL,
                description,
                time_ns,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello with a cookie and the server name `a.example`, ALPN `webrtc`.
    fn client_hello() -> Vec<u8> {
        let name = b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example";
        let alpn = b"\x00\x10\x00\x09\x00\x07\x06webrtc";
        let extensions = [&name[..], alpn].concat();
        [
            &[0xfe, 0xfd][..],
            &[7; 32],
            &[0],
            &[3, 1, 2, 3],
            &[0, 2, 0xc0, 0x2b],
            &[1, 0],
            &[0, extensions.len() as u8],
            &extensions,
        ]
        .concat()
    }

    fn server_hello() -> Vec<u8> {
        [&[0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0x2b, 0, 0, 0]].concat()
    }

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let header = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0];
        let length = (body.len() as u16).to_be_bytes();
        [&header[..], &length, body].concat()
    }

    fn fragment(kind: u8, message: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
        let u24 = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
        let parts = [
            u24(message.len()),
            vec![0, 0],
            u24(range.start),
            u24(range.len()),
        ];
        record(
            HANDSHAKE,
            0,
            &[&[kind][..], &parts.concat(), &message[range]].concat(),
        )
    }

    #[test]
    fn a_handshake_in_fragments_is_read() {
        let (hello, answer) = (client_hello(), server_hello());
        let mut tracker = DtlsTracker::default();
        assert!(begins_client_hello(&fragment(1, &hello, 0..20)));
        tracker.on_datagram(true, &fragment(1, &hello, 0..20), 5_000);
        tracker.on_datagram(true, &fragment(1, &hello, 20..hello.len()), 6_000);
        tracker.on_datagram(false, &fragment(2, &answer, 0..answer.len()), 7_000);
        tracker.on_datagram(true, &record(APPLICATION_DATA, 1, &[0; 30]), 2_006_000);
        let info = tracker.info();
        assert_eq!(info.server_name.as_deref(), Some("a.example"));
        assert_eq!(info.alpn(), Some("webrtc"));
        assert_eq!(info.version.map(|version| version.as_str()), Some("1.2"));
        assert_eq!(info.setup_us(), Some(2000));
    }

    #[test]
    fn in_1_3_the_epoch_tells_data_from_the_handshake() {
        let supported = [0, 43, 0, 2, 0xfe, 0xfc];
        let hello_1_2 = server_hello();
        let fields = &hello_1_2[..hello_1_2.len() - 2];
        let answer = [fields, &[0, 6], &supported].concat();
        let hello = client_hello();
        let mut tracker = DtlsTracker::default();
        tracker.on_datagram(true, &fragment(1, &hello, 0..hello.len()), 0);
        tracker.on_datagram(false, &fragment(2, &answer, 0..answer.len()), 1_000_000);
        let sealed = |epoch: u8| [&[0b0010_1100 | epoch, 0, 1, 0, 40][..], &[9; 40]].concat();
        tracker.on_datagram(true, &sealed(2), 2_000_000);
        assert_eq!(tracker.info().version, Some(Version::Tls13));
        assert_eq!(tracker.info().setup_us(), None);
        tracker.on_datagram(true, &sealed(3), 3_000_000);
        assert_eq!(tracker.info().setup_us(), Some(3000));
    }

    #[test]
    fn a_hello_that_is_said_again_with_a_cookie_is_timed_from_the_first() {
        let hello = client_hello();
        let whole = fragment(1, &hello, 0..hello.len());
        let verify_request = fragment(3, &[0xfe, 0xfd, 2, 9, 9], 0..5);
        let mut tracker = DtlsTracker::default();
        tracker.on_datagram(true, &whole, 1_000);
        tracker.on_datagram(false, &verify_request, 2_000);
        tracker.on_datagram(true, &whole, 3_000);
        assert_eq!(tracker.info().client_hello_time_ns, Some(1_000));
        assert_eq!(tracker.info().version, None);
    }

    #[test]
    fn a_fragment_that_contradicts_the_one_before_changes_nothing() {
        let (hello, shorter) = (client_hello(), [1; 30]);
        let mut tracker = DtlsTracker::default();
        tracker.on_datagram(true, &fragment(1, &hello, 0..40), 0);
        // It ends where a message of 30 bytes has ended long ago.
        let mut beyond = fragment(1, &shorter, 10..10);
        beyond[13 + 6..13 + 9].copy_from_slice(&[0, 0, 40]);
        tracker.on_datagram(true, &beyond, 1);
        tracker.on_datagram(true, &fragment(1, &hello, 40..hello.len()), 2);
        assert_eq!(tracker.info().server_name.as_deref(), Some("a.example"));
    }

    #[test]
    fn a_fatal_alert_in_clear_is_noted() {
        let mut tracker = DtlsTracker::default();
        tracker.on_datagram(false, &record(ALERT, 0, &[2, 40]), 0);
        let alert = tracker.info().alert.map(|alert| alert.description);
        assert_eq!(alert, Some(40));
    }

    #[test]
    fn what_is_no_client_hello_does_not_begin_dtls() {
        for datagram in [
            &b""[..],
            b"\x16\xfe\xfd",
            &record(HANDSHAKE, 1, &[1]),
            &record(HANDSHAKE, 0, &[2]),
            &record(APPLICATION_DATA, 0, &[1]),
            b"\x16\x03\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01",
        ] {
            assert!(!begins_client_hello(datagram), "{datagram:?}");
        }
    }

    /// Pieces of both hellos, whole and cut, in datagrams that hold one or two.
    fn pieces() -> impl Strategy<Value = (bool, Vec<u8>)> {
        let message = prop::sample::select(vec![(1u8, client_hello()), (2, server_hello())]);
        let piece = (message, 0..80usize, 0..80usize, 0..3u8).prop_map(
            |((kind, message), start, count, lie)| {
                let start = start.min(message.len());
                let end = (start + count).min(message.len());
                let mut bytes = fragment(kind, &message, start..end);
                bytes[16] = bytes[16].wrapping_sub(lie * 20);
                (kind == 1, bytes)
            },
        );
        (any::<bool>(), piece.clone(), piece).prop_map(|(both, (side, first), (_, second))| {
            (
                side,
                if both {
                    [first, second].concat()
                } else {
                    first
                },
            )
        })
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_keep_the_bounds(datagrams in prop::collection::vec(pieces(), 0..30)) {
            let mut tracker = DtlsTracker::default();
            for (from_client, datagram) in &datagrams {
                tracker.on_datagram(*from_client, datagram, 0);
                prop_assert!(tracker.kept.len() <= MAX_MESSAGE);
            }
            let name = tracker.info().server_name.as_deref();
            prop_assert!(name.is_none_or(|name| name == "a.example"), "{name:?}");
        }

        #[test]
        fn a_hello_cut_anywhere_is_read_alike(cut in 1..80usize) {
            let hello = client_hello();
            let cut = cut.min(hello.len() - 1);
            let mut tracker = DtlsTracker::default();
            tracker.on_datagram(true, &fragment(1, &hello, 0..cut), 5);
            tracker.on_datagram(true, &fragment(1, &hello, cut..hello.len()), 6);
            prop_assert_eq!(tracker.info().server_name.as_deref(), Some("a.example"));
            prop_assert_eq!(tracker.info().alpn(), Some("webrtc"));
        }

        #[test]
        fn hostile_datagrams_keep_the_bounds(
            fragments in prop::collection::vec(
                (any::<bool>(), 0..3u8, any::<[u8; 11]>(), 0..2000usize), 0..30),
        ) {
            let mut tracker = DtlsTracker::default();
            for (from_client, kind, header, length) in fragments {
                let body = [&[kind][..], &header, &vec![1; length]].concat();
                tracker.on_datagram(from_client, &record(HANDSHAKE, 0, &body), 0);
                tracker.on_datagram(from_client, &body, 0);
                prop_assert!(tracker.kept.len() <= MAX_MESSAGE);
            }
        }
    }
}
