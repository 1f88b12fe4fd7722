use super::crypto::{Keys, Sender};
use super::version::{VERSION_1, VERSION_2, sealings};
use super::*;
use proptest::prelude::*;

const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
const SCID: [u8; 8] = [0xf0, 0x67, 0xa5, 0x50, 0x2a, 0x42, 0x62, 0xb5];
const MS: u64 = 1_000_000;

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn id(bytes: &[u8]) -> ConnectionId {
    ConnectionId::new(bytes).unwrap()
}

/// RFC 9001 A.2: a ClientHello for example.com in a CRYPTO frame, without the padding.
const RFC_CLIENT_FRAMES: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868\
    04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100\
    000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9\
    caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306\
    030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ff\
    ff0801100104800075300901100f088394c8f03e51570806048000ffff";
const RFC_CLIENT_HEADER_1: &str = "c300000001088394c8f03e5157080000449e00000002";
const RFC_CLIENT_HEADER_2: &str = "d36b3343cf088394c8f03e5157080000449e00000002";
/// RFC 9001 A.3 and RFC 9369 A.3: the server's answer, whole.
const RFC_SERVER_1: &str = "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6\
    394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3\
    bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cb\
    c42158407dd074ee";
const RFC_SERVER_2: &str = "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26\
    b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa5\
    2382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca\
    84bed8521e2e140";

fn rfc_client(header: &str, version: u32) -> Vec<u8> {
    let mut frames = from_hex(RFC_CLIENT_FRAMES);
    frames.resize(1162, 0);
    keys(version, &DCID, Sender::Client).seal(&from_hex(header), 2, &frames)
}

fn keys(version: u32, id: &[u8], sender: Sender) -> Keys {
    Keys::derive(sealings(version)[0], ConnectionId::new(id).unwrap(), sender)
}

#[test]
fn packets_are_sealed_as_in_the_appendices_of_rfc_9001_and_rfc_9369() {
    let first = rfc_client(RFC_CLIENT_HEADER_1, VERSION_1);
    assert_eq!(
        first[..40],
        from_hex(
            "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b\
                  d8ba"
        )
    );
    assert_eq!(first[1184..], from_hex("e221af44860018ab0856972e194cd934"));
    let second = rfc_client(RFC_CLIENT_HEADER_2, VERSION_2);
    assert_eq!(
        second[..40],
        from_hex(
            "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071\
                  bf03"
        )
    );
    assert_eq!(second[1184..], from_hex("a18b2faa745b6fe189cf772a9f84cbfc"));
    assert_eq!((first.len(), second.len()), (1200, 1200));
}

#[test]
fn the_rfcs_conversations_are_read() {
    for (header, version, answer) in [
        (RFC_CLIENT_HEADER_1, VERSION_1, RFC_SERVER_1),
        (RFC_CLIENT_HEADER_2, VERSION_2, RFC_SERVER_2),
    ] {
        let mut tracker = QuicTracker::new();
        tracker.on_datagram(true, &rfc_client(header, version), 10 * MS);
        tracker.on_datagram(false, &from_hex(answer), 30 * MS);
        tracker.refresh_identity();
        let wanted = Identity {
            server_name: Some("example.com".into()),
            alpn: Some("alpn".into()),
            ech: Some(false),
            tls_1_3: true,
        };
        assert_eq!(tracker.identity(), Some(&wanted));
        // The RFC's server acknowledges packet 0, its client sent packet 2.
        assert_eq!(tracker.facts().handshake_us, [None, None]);
    }
}

/// One side's packets, under numbers that go up.
struct Talker {
    version: u32,
    keys: Keys,
    destination: Vec<u8>,
    source: Vec<u8>,
    number: u32,
}

impl Talker {
    fn client() -> Self {
        Self::client_to(VERSION_1, &DCID)
    }

    fn client_to(version: u32, first_id: &[u8]) -> Self {
        Self {
            version,
            keys: keys(version, first_id, Sender::Client),
            destination: first_id.to_vec(),
            source: vec![1, 2, 3, 4],
            number: 0,
        }
    }

    fn server() -> Self {
        Self {
            version: VERSION_1,
            keys: keys(VERSION_1, &DCID, Sender::Server),
            destination: vec![1, 2, 3, 4],
            source: SCID.to_vec(),
            number: 0,
        }
    }

    fn long_header(&self, first: u8) -> Vec<u8> {
        let mut header = vec![first];
        header.extend(self.version.to_be_bytes());
        for id in [&self.destination, &self.source] {
            header.push(id.len() as u8);
            header.extend(id);
        }
        header
    }

    fn initial(&mut self, frames: &[u8]) -> Vec<u8> {
        let types = if self.version == VERSION_2 {
            0xd3
        } else {
            0xc3
        };
        let mut header = self.long_header(types);
        header.push(0);
        let length = 4 + frames.len() as u16 + 16;
        header.extend((length | 0x4000).to_be_bytes());
        header.extend(self.number.to_be_bytes());
        self.number += 1;
        self.keys.seal(&header, self.number - 1, frames)
    }

    /// An Initial in a datagram of the least length that a client may send first.
    fn padded(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut frames = frames.to_vec();
        frames.resize(frames.len().max(1160), 0);
        self.initial(&frames)
    }

    /// Nobody without the connection's keys can read more of it than its header.
    fn handshake(&self) -> Vec<u8> {
        let types = if self.version == VERSION_2 {
            0xf0
        } else {
            0xe0
        };
        let mut packet = self.long_header(types);
        packet.extend([0x40, 50]);
        packet.extend([0x5a; 50]);
        packet
    }

    fn one_rtt(&self, spin: bool) -> Vec<u8> {
        let first = if spin { 0x60 } else { 0x40 };
        [&[first][..], &self.destination, &[0xa5; 40]].concat()
    }
}

fn crypto(offset: u16, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend((offset | 0x4000).to_be_bytes());
    frame.extend((data.len() as u16 | 0x4000).to_be_bytes());
    frame.extend(data);
    frame
}

fn ack(number: u8) -> Vec<u8> {
    vec![2, number, 0, 0, 0]
}

fn close(code: u16) -> Vec<u8> {
    let [high, low] = (code | 0x4000).to_be_bytes();
    vec![0x1c, high, low, 6, 0]
}

/// The ClientHello of RFC 9001 A.2.
fn hello() -> Vec<u8> {
    from_hex(RFC_CLIENT_FRAMES)[4..].to_vec()
}

/// A ClientHello with `more` bytes of an extension that nobody reads ahead of the server's name.
fn long_hello(more: usize) -> Vec<u8> {
    let hello = hello();
    // Message header, version, random, session ID, cipher suites, compression: extensions at 47.
    let (fixed, rest) = hello[4..].split_at(43);
    let padding = [
        &[0xfa, 0xfa][..],
        &(more as u16).to_be_bytes(),
        &vec![7; more],
    ]
    .concat();
    let extensions = [&padding, &rest[2..]].concat();
    let length = (extensions.len() as u16).to_be_bytes();
    let body = [fixed, &length, &extensions].concat();
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

fn server_hello() -> Vec<u8> {
    from_hex(
        "020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a1200130100002e\
         00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b0002\
         0304",
    )
}

fn name(tracker: &mut QuicTracker) -> Option<String> {
    tracker.refresh_identity();
    tracker.identity()?.server_name.as_deref().map(String::from)
}

#[test]
fn both_sides_round_trips_are_those_between_tap_and_side() {
    let (mut client, mut server, mut tracker) =
        (Talker::client(), Talker::server(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 100 * MS);
    let flight = [ack(0), crypto(0, &server_hello())].concat();
    let answer = [server.initial(&flight), server.handshake()].concat();
    tracker.on_datagram(false, &answer, 130 * MS);
    let reaction = [client.padded(&ack(0)), client.handshake()].concat();
    tracker.on_datagram(true, &reaction, 180 * MS);
    tracker.on_datagram(true, &client.one_rtt(false), 181 * MS);
    assert_eq!(tracker.facts().handshake_us, [Some(50_000), Some(30_000)]);
    assert_eq!(tracker.facts().setup_us(), Some(81_000));
    let [of_client, of_server] = tracker.take_handshake_round_trips();
    assert_eq!(of_client.min_us(), Some(50_000));
    assert_eq!(of_server.min_us(), Some(30_000));
    assert!(!tracker.is_in_handshake() && tracker.handshake.is_none());
}

#[test]
fn a_retransmitted_hello_is_timed_by_the_copy_that_was_answered() {
    let (mut client, mut server, mut tracker) =
        (Talker::client(), Talker::server(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 300 * MS);
    tracker.on_datagram(
        false,
        &server.initial(&[ack(1), crypto(0, &server_hello())].concat()),
        320 * MS,
    );
    assert_eq!(tracker.facts().handshake_us[SERVER], Some(20_000));
}

#[test]
fn a_client_that_acknowledges_with_handshake_packets_only_is_timed_too() {
    let (mut client, mut server) = (Talker::client(), Talker::server());
    for (copies, wanted) in [(1, Some(40_000)), (2, None)] {
        let mut tracker = QuicTracker::new();
        tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
        for _ in 0..copies {
            let flight = server.initial(&crypto(0, &server_hello()));
            tracker.on_datagram(false, &flight, 10 * MS);
        }
        tracker.on_datagram(true, &client.handshake(), 50 * MS);
        assert_eq!(tracker.facts().handshake_us[CLIENT], wanted);
    }
}

#[test]
fn a_hello_in_three_datagrams_is_read_in_any_order() {
    let hello = long_hello(2600);
    let pieces: Vec<&[u8]> = hello.chunks(1100).collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
        for piece in order {
            assert_eq!(name(&mut tracker), None);
            let frames = crypto(1100 * piece as u16, pieces[piece]);
            tracker.on_datagram(true, &client.padded(&frames), 0);
        }
        assert_eq!(name(&mut tracker).as_deref(), Some("example.com"));
    }
}

#[test]
fn after_a_retry_the_new_id_makes_the_keys() {
    let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello()[..100])), 0);
    let server = Talker::server();
    let retry = [server.long_header(0xf0), vec![9; 40]].concat();
    tracker.on_datagram(false, &retry, 10 * MS);
    let mut again = Talker::client_to(VERSION_1, &SCID);
    again.number = 1;
    tracker.on_datagram(true, &again.padded(&crypto(0, &hello())), 20 * MS);
    assert_eq!(name(&mut tracker).as_deref(), Some("example.com"));
    let mut answer = Talker::server();
    answer.keys = keys(VERSION_1, &SCID, Sender::Server);
    answer.source = vec![7; 8];
    tracker.on_datagram(false, &answer.initial(&ack(1)), 35 * MS);
    assert_eq!(tracker.facts().handshake_us[SERVER], Some(15_000));
}

#[test]
fn a_compatible_version_is_followed() {
    let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
    let mut server = Talker::server();
    server.version = VERSION_2;
    server.keys = keys(VERSION_2, &DCID, Sender::Server);
    let flight = [ack(0), crypto(0, &server_hello())].concat();
    tracker.on_datagram(false, &server.initial(&flight), 10 * MS);
    let mut second = Talker::client_to(VERSION_2, &DCID);
    second.number = 1;
    second.destination = SCID.to_vec();
    tracker.on_datagram(true, &second.padded(&ack(0)), 30 * MS);
    assert_eq!(tracker.facts().handshake_us, [Some(20_000), Some(10_000)]);
}

fn version_negotiation(versions: &[u32]) -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 0, 0, 4, 1, 2, 3, 4, 8];
    packet.extend(DCID);
    versions
        .iter()
        .for_each(|version| packet.extend(version.to_be_bytes()));
    packet
}

#[test]
fn a_version_is_refused_until_another_is_accepted() {
    let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
    tracker.on_datagram(false, &version_negotiation(&[VERSION_1]), MS);
    assert!(
        !tracker.facts().version_refused,
        "it names the client's own"
    );
    tracker.on_datagram(false, &version_negotiation(&[VERSION_2]), MS);
    assert!(tracker.facts().version_refused && !tracker.is_unanswered());
    let mut second = Talker::client_to(VERSION_2, &DCID);
    tracker.on_datagram(true, &second.padded(&crypto(0, &hello())), 2 * MS);
    assert!(tracker.facts().version_refused);
    let mut server = Talker::server();
    server.version = VERSION_2;
    server.keys = keys(VERSION_2, &DCID, Sender::Server);
    tracker.on_datagram(false, &server.initial(&crypto(0, &server_hello())), 3 * MS);
    assert!(!tracker.facts().version_refused);
}

#[test]
fn a_refusal_by_alert_is_a_tls_failure() {
    for (code, cause) in [
        (0x128, Some("tls_no_common_cipher")),
        (0x170, Some("tls_unknown_name")),
        (0x178, Some("tls_other_alert")),
        (2, None),
    ] {
        let (mut client, mut server, mut tracker) =
            (Talker::client(), Talker::server(), QuicTracker::new());
        tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
        tracker.on_datagram(false, &server.initial(&close(code)), MS);
        let close = tracker.facts().close.expect("a close was seen");
        assert_eq!(
            (close.from_client, close.error_code),
            (false, u64::from(code))
        );
        assert_eq!(close.tls_failure.map(|failure| failure.cause), cause);
        assert!(!tracker.is_in_handshake());
    }
}

#[test]
fn the_client_is_who_sent_the_packet_that_opens_as_a_clients() {
    let (mut client, mut server, mut tracker) =
        (Talker::client(), Talker::server(), QuicTracker::new());
    tracker.on_datagram(false, &client.padded(&crypto(0, &hello())), 0);
    assert!(tracker.is_swapped() && tracker.is_unanswered());
    tracker.on_datagram(
        true,
        &server.initial(&[ack(0), crypto(0, &server_hello())].concat()),
        10 * MS,
    );
    assert_eq!(tracker.facts().handshake_us, [None, Some(10_000)]);
    assert_eq!(name(&mut tracker).as_deref(), Some("example.com"));
}

#[test]
fn a_reserved_version_opens_with_whatever_salt_its_client_took() {
    for like in [VERSION_1, VERSION_2, 0xff00_001d, 0xff00_001b] {
        let (mut client, mut tracker) = (Talker::client_to(like, &DCID), QuicTracker::new());
        client.version = 0x1a2a_3a4a;
        tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
        assert_eq!(
            name(&mut tracker).as_deref(),
            Some("example.com"),
            "{like:x}"
        );
    }
}

fn established() -> QuicTracker {
    let (mut client, mut server, mut tracker) =
        (Talker::client(), Talker::server(), QuicTracker::new());
    tracker.on_datagram(true, &client.padded(&crypto(0, &hello())), 0);
    tracker.on_datagram(
        false,
        &server.initial(&[ack(0), crypto(0, &server_hello())].concat()),
        MS,
    );
    tracker.on_datagram(true, &client.one_rtt(false), 2 * MS);
    tracker
}

#[test]
fn the_servers_id_is_news_once() {
    let mut tracker = established();
    let (known, identity) = tracker.take_news().expect("the handshake is over");
    assert_eq!(known, id(&SCID));
    assert_eq!(identity.server_name.as_deref(), Some("example.com"));
    assert_eq!(tracker.take_news(), None);
}

#[test]
fn another_connection_on_the_same_ports_is_told_from_a_straggler() {
    let tracker = established();
    let mut late = Talker::client();
    assert!(!tracker.is_succeeded_by(true, &late.padded(&crypto(0, &hello()))));
    late.destination = SCID.to_vec();
    assert!(!tracker.is_succeeded_by(true, &late.padded(&ack(0))));
    let mut next = Talker::client_to(VERSION_1, &[5; 8]);
    let initial = next.padded(&crypto(0, &hello()));
    assert!(tracker.is_succeeded_by(true, &initial));
    assert!(!tracker.is_succeeded_by(false, &initial));
    assert!(!QuicTracker::new().is_succeeded_by(true, &initial));
}

#[test]
fn what_cannot_be_opened_costs_a_bounded_effort() {
    let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
    for number in 0..1000u32 {
        let mut packet = client.padded(&crypto(0, &hello()));
        packet[6..10].copy_from_slice(&number.to_be_bytes()); // another ID than that of the keys
        tracker.on_datagram(true, &packet, u64::from(number));
    }
    assert!(tracker.handshake.is_none());
    assert_eq!(name(&mut tracker), None);
}

#[test]
fn only_quic_looks_like_quic() {
    let hello = Talker::client().padded(&crypto(0, &hello()));
    assert!(looks_like_quic(&hello) && looks_like_quic(&hello[..40]));
    assert!(looks_like_quic(&version_negotiation(&[VERSION_1])));
    assert!(!looks_like_quic(&version_negotiation(&[0x1234_5678])));
    let rtp = [&[0x80, 0x60, 0, 1, 0, 0, 0, 1][..], &[0; 160]].concat();
    assert!(!looks_like_quic(&rtp));
    assert!(!looks_like_quic(&[0xc0, 0, 0, 0, 1, 21]));
    assert!(!looks_like_quic(&[]) && !looks_like_quic(&[0xff; 1200]));
}

/// Cuts that cover the hello, as offsets and lengths.
fn cuts(length: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::btree_set(1..length, 0..40).prop_map(move |inner| {
        let ends = inner.iter().copied().chain([length]);
        let starts = [0].into_iter().chain(inner.iter().copied());
        starts
            .zip(ends)
            .map(|(from, to)| (from, to - from))
            .collect()
    })
}

proptest! {
    #[test]
    fn fragments_in_any_order_and_any_packets_give_the_same_name(
        pieces in cuts(1500).prop_flat_map(|cuts| Just(cuts).prop_shuffle()),
        per_packet in 1usize..20,
        noise in any::<bool>(),
    ) {
        let hello = long_hello(1500 - hello().len() - 4);
        prop_assert_eq!(hello.len(), 1500);
        let (mut client, mut tracker) = (Talker::client(), QuicTracker::new());
        for group in pieces.chunks(per_packet) {
            let mut frames = Vec::new();
            for &(at, length) in group {
                frames.extend(crypto(at as u16, &hello[at..at + length]));
                frames.extend(if noise { &[1, 0, 0, 0][..] } else { &[] }); // PING and PADDING
            }
            tracker.on_datagram(true, &client.initial(&frames), 0);
        }
        let name = name(&mut tracker);
        prop_assert_eq!(name.as_deref(), Some("example.com"));
    }

    #[test]
    fn no_bytes_make_it_panic(
        datagrams in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20),
        version in prop::sample::select(vec![1u32, VERSION_2, 0, 0xff00_001d, 0x5130_3433]),
    ) {
        let mut tracker = QuicTracker::new();
        for (from_first, mut datagram) in datagrams {
            if let Some(front) = datagram.first_chunk_mut::<5>() {
                front[0] |= 0xc0;
                front[1..].copy_from_slice(&version.to_be_bytes());
            }
            looks_like_quic(&datagram);
            tracker.is_succeeded_by(from_first, &datagram);
            tracker.on_datagram(from_first, &datagram, 5);
        }
        tracker.refresh_identity();
    }

    #[test]
    fn sealed_rubbish_does_not_make_it_panic(
        payloads in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 4..200)), 0..20),
    ) {
        let (mut client, mut server, mut tracker) =
            (Talker::client(), Talker::server(), QuicTracker::new());
        for (from_client, payload) in payloads {
            let talker = if from_client { &mut client } else { &mut server };
            let packet = talker.initial(&payload);
            tracker.on_datagram(from_client, &packet, 5);
        }
        tracker.refresh_identity();
    }
}
