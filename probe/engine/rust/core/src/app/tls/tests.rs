use super::alert::{Failure, failure};
use super::*;
use proptest::prelude::*;

const CLIENT: bool = true;
const SERVER: bool = false;
const ALERT: u8 = 21;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION: u8 = 23;
const NS_PER_S: u64 = 1_000_000_000;

/// RFC 8448 3, "Simple 1-RTT Handshake".
const RFC_8448_CLIENT_HELLO: &str = "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18\
    a2ef6283024dece7000006130113031302010000910000000b0009000006736572766572ff01000100000a001400\
    12001d0017001800190100010101020103010400230000003300260024001d002099381de560e4bd43d23d8e435a\
    7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304000d0020001e0403050306030203080408050806\
    04010501060102010402050206020202002d00020101001c00024001";
const RFC_8448_SERVER_HELLO: &str = "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434da\
    c155772ed3e2692800130100002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b833df1\
    dd69b1b04e751f0f002b00020304";
/// The front of the certificate there: valid until 2026-07-30 01:23:59.
const RFC_8448_CERTIFICATE: &str = "308201ac30820115a003020102020102300d06092a864886f70d01010b05\
    00300e310c300a06035504031303727361301e170d3136303733303031323335395a170d32363037333030313233\
    35395a300e";
const RFC_8448_NOT_AFTER_NS: u64 = 1_785_374_639 * NS_PER_S;
const RETRY_REQUEST: &str = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn vector8(body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).unwrap()], body].concat()
}

fn vector16(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

fn vector24(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[1..], body].concat()
}

fn record(content_type: u8, body: &[u8]) -> Vec<u8> {
    [&[content_type, 3, 3][..], &vector16(body)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector24(body)].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(body)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0][..], &vector16(name)].concat()))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| vector8(name)).collect();
    extension(16, &vector16(&list))
}

fn offered_versions(versions: &[u16]) -> Vec<u8> {
    let list: Vec<u8> = versions
        .iter()
        .flat_map(|version| version.to_be_bytes())
        .collect();
    extension(43, &vector8(&list))
}

fn chosen_version(version: u16) -> Vec<u8> {
    extension(43, &version.to_be_bytes())
}

fn client_hello(version: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &vector8(&[8; 32]),
        &vector16(&[0x13, 0x01, 0xc0, 0x2f]),
        &vector8(&[0]),
        &vector16(&extensions.concat()),
    ];
    handshake(message::CLIENT_HELLO, &body.concat())
}

fn server_hello(version: u16, random: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &version.to_be_bytes()[..],
        random,
        &vector8(&[8; 32]),
        &[0xc0, 0x2f, 0],
        &vector16(&extensions.concat()),
    ];
    handshake(message::SERVER_HELLO, &body.concat())
}

fn certificate(leaf: &[u8], rest_of_chain: usize) -> Vec<u8> {
    let chain = [vector24(leaf), vector24(&vec![0; rest_of_chain])].concat();
    handshake(message::CERTIFICATE, &vector24(&chain))
}

fn plain(message: &[u8]) -> Vec<u8> {
    record(record::HANDSHAKE, message)
}

fn hello_of(name: &[u8]) -> Vec<u8> {
    client_hello(0x0303, &[server_name(name)])
}

fn tls12_server_hello() -> Vec<u8> {
    server_hello(0x0303, &[9; 32], &[alpn(&[b"h2"])])
}

fn tls13_server_hello() -> Vec<u8> {
    server_hello(0x0303, &[9; 32], &[chosen_version(0x0304)])
}

/// A tracker fed with (from client, bytes), one second apart.
fn track(chunks: &[(bool, Vec<u8>)]) -> TlsTracker {
    let mut tracker = TlsTracker::new();
    for (second, (from_client, bytes)) in (0..).zip(chunks) {
        tracker.feed(*from_client, bytes, second * NS_PER_S);
    }
    tracker
}

fn info_of_client(message: &[u8]) -> TlsInfo {
    track(&[(CLIENT, plain(message))]).info().clone()
}

#[test]
fn the_rfc_8448_handshake_is_read() {
    let tracker = track(&[
        (CLIENT, plain(&from_hex(RFC_8448_CLIENT_HELLO))),
        (SERVER, plain(&from_hex(RFC_8448_SERVER_HELLO))),
        (SERVER, record(APPLICATION, &[0; 674])),
        (CLIENT, record(APPLICATION, &[0; 53])),
    ]);
    let info = tracker.info();
    assert_eq!(info.server_name.as_deref(), Some("server"));
    assert_eq!(info.client_version, Some(Version::Tls13));
    assert_eq!(info.version.map(Version::as_str), Some("1.3"));
    assert_eq!(info.client_hello_time_ns, Some(0));
    assert_eq!(info.server_hello_time_ns, Some(NS_PER_S));
    assert_eq!(info.setup_us(), Some(3_000_000));
    assert!(tracker.handshake_done() && !info.ech && !info.hello_retry_request);
}

#[test]
fn a_tls_1_2_handshake_gives_choice_certificate_and_end() {
    let tracker = track(&[
        (
            CLIENT,
            plain(&client_hello(0x0303, &[alpn(&[b"h2", b"http/1.1"])])),
        ),
        (SERVER, plain(&tls12_server_hello())),
        (
            SERVER,
            plain(&certificate(&from_hex(RFC_8448_CERTIFICATE), 12_000)),
        ),
        (CLIENT, record(CHANGE_CIPHER_SPEC, &[1])),
        (SERVER, record(CHANGE_CIPHER_SPEC, &[1])),
    ]);
    assert!(tracker.handshake_done());
    assert!(tracker.wants_more(CLIENT) && tracker.wants_more(SERVER));
    let info = tracker.info();
    assert_eq!(info.alpn(), Some("h2"));
    assert_eq!(info.version, Some(Version::Tls12));
    assert_eq!(info.certificate_not_after_ns, Some(RFC_8448_NOT_AFTER_NS));
    assert_eq!(info.setup_us(), None);
}

#[test]
fn application_data_of_both_sides_ends_the_interest() {
    let mut tracker = track(&[
        (CLIENT, plain(&hello_of(b"a.example"))),
        (SERVER, plain(&tls12_server_hello())),
        (CLIENT, record(APPLICATION, &[0; 200])),
    ]);
    assert!(!tracker.wants_more(CLIENT) && tracker.wants_more(SERVER));
    tracker.feed(SERVER, &record(APPLICATION, &[0; 200]), 0);
    assert!(!tracker.wants_more(SERVER) && tracker.info().server_application);
}

#[test]
fn the_server_name_is_lower_case_or_nothing() {
    for (name, expected) in [
        (&b"WWW.Example.COM"[..], Some("www.example.com")),
        (b"example.com.", Some("example.com")),
        (b"_sip.example", Some("_sip.example")),
        (b"104.236.167.107", Some("104.236.167.107")),
        (b"xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        (b"", None),
        (b".", None),
        (b"a b", None),
        (b"a\0.example", None),
        (b"b\xc3\xbccher.example", None),
        (b"<script>", None),
        (&[b'a'; 256], None),
    ] {
        assert_eq!(
            info_of_client(&hello_of(name)).server_name.as_deref(),
            expected,
            "{name:?}"
        );
    }
}

#[test]
fn grease_is_neither_a_version_nor_a_protocol() {
    let hello = client_hello(
        0x0303,
        &[
            extension(0x0a0a, &[]),
            offered_versions(&[0xdada, 0x0304, 0x0303]),
            alpn(&[&[0x3a, 0xfa], b"h2", b"a,b", b"http/1.1"]),
        ],
    );
    let info = info_of_client(&hello);
    assert_eq!(info.client_version, Some(Version::Tls13));
    assert_eq!(info.alpn(), Some("h2,http/1.1"));
}

#[test]
fn the_list_of_offered_protocols_is_bounded() {
    let info = info_of_client(&client_hello(0x0303, &[alpn(&[&[b'a'; 100][..]; 30])]));
    assert_eq!(info.alpn().map(str::len), Some(201));
}

#[test]
fn encrypted_client_hello_and_early_data_are_noted() {
    let info = info_of_client(&client_hello(
        0x0303,
        &[extension(0xfe0d, &[0; 40]), extension(42, &[])],
    ));
    assert!(info.ech && info.early_data);
}

#[test]
fn versions_before_1_3_come_from_the_legacy_field() {
    for (wire, text) in [
        (0x0300, "ssl3"),
        (0x0301, "1.0"),
        (0x0302, "1.1"),
        (0x0303, "1.2"),
    ] {
        let tracker = track(&[(SERVER, plain(&server_hello(wire, &[9; 32], &[])))]);
        assert_eq!(tracker.info().version.map(Version::as_str), Some(text));
        let offer = info_of_client(&client_hello(wire, &[])).client_version;
        assert_eq!(offer.map(Version::as_str), Some(text));
    }
}

#[test]
fn a_draft_of_1_3_is_1_3() {
    let hello = server_hello(0x0303, &[9; 32], &[chosen_version(0x7f1c)]);
    assert_eq!(
        track(&[(SERVER, plain(&hello))]).info().version,
        Some(Version::Tls13)
    );
}

#[test]
fn a_retry_request_is_no_server_hello_and_the_second_client_hello_is_read_past() {
    let retry = server_hello(0x0303, &from_hex(RETRY_REQUEST), &[chosen_version(0x0304)]);
    let tracker = track(&[
        (CLIENT, plain(&hello_of(b"first.example"))),
        (SERVER, plain(&retry)),
        (CLIENT, record(CHANGE_CIPHER_SPEC, &[1])),
        (CLIENT, plain(&hello_of(b"second.example"))),
        (SERVER, plain(&tls13_server_hello())),
        (CLIENT, record(APPLICATION, &[0; 53])),
    ]);
    let info = tracker.info();
    assert!(info.hello_retry_request);
    assert_eq!(info.server_name.as_deref(), Some("first.example"));
    assert_eq!(info.server_hello_time_ns, Some(4 * NS_PER_S));
    assert_eq!(info.setup_us(), Some(5_000_000));
}

#[test]
fn early_data_is_not_the_end_of_the_handshake() {
    let mut tracker = track(&[
        (CLIENT, plain(&client_hello(0x0303, &[extension(42, &[])]))),
        (CLIENT, record(CHANGE_CIPHER_SPEC, &[1])),
        (CLIENT, record(APPLICATION, &[0; 400])),
    ]);
    assert!(!tracker.handshake_done());
    tracker.feed(SERVER, &plain(&tls13_server_hello()), 3 * NS_PER_S);
    tracker.feed(CLIENT, &record(APPLICATION, &[0; 53]), 4 * NS_PER_S);
    assert_eq!(tracker.info().setup_us(), Some(4_000_000));
}

#[test]
fn in_1_3_a_first_client_record_as_short_as_an_alert_is_a_rejection() {
    let tracker = track(&[
        (CLIENT, plain(&hello_of(b"a.example"))),
        (SERVER, plain(&tls13_server_hello())),
        (SERVER, record(APPLICATION, &[0; 900])),
        (CLIENT, record(CHANGE_CIPHER_SPEC, &[1])),
        (CLIENT, record(APPLICATION, &[0; 19])),
    ]);
    assert!(tracker.info().is_rejected_by_client());
    assert!(!tracker.handshake_done() && !tracker.info().server_application);
}

/// A TLS 1.3 handshake up to the server's flight, with what the client makes of it.
fn answer_to_flight(hello: Vec<u8>, suite: u16, flight: usize, answers: &[usize]) -> TlsTracker {
    let mut server = tls13_server_hello();
    let [high, low] = suite.to_be_bytes();
    // Behind the header, version, random and session ID.
    server[4 + 2 + 32 + 33] = high;
    server[4 + 2 + 32 + 34] = low;
    let mut chunks = vec![
        (CLIENT, plain(&hello)),
        (SERVER, plain(&server)),
        (SERVER, record(APPLICATION, &vec![0; flight])),
    ];
    let answer = |&length: &usize| (CLIENT, record(APPLICATION, &vec![0; length]));
    chunks.extend(answers.iter().map(answer));
    track(&chunks)
}

#[test]
fn a_client_that_was_told_to_stop_has_not_rejected_the_server() {
    let hello = || hello_of(b"a.example");
    // user_canceled, close_notify.
    let tracker = answer_to_flight(hello(), 0x1301, 900, &[19, 19]);
    assert!(!tracker.info().is_rejected_by_client() && !tracker.handshake_done());
}

#[test]
fn a_client_that_finishes_and_leaves_at_once_has_not_rejected_the_server() {
    let tracker = answer_to_flight(hello_of(b"a.example"), 0x1301, 900, &[53, 19]);
    assert!(!tracker.info().is_rejected_by_client() && tracker.handshake_done());
}

#[test]
fn a_client_without_a_certificate_to_show_has_not_rejected_the_server() {
    // An empty Certificate, with tags of 16 and of 8 bytes; a Finished.
    for (suite, certificate, finished) in [(0x1301, 25, 53), (0x1305, 17, 45)] {
        let tracker = answer_to_flight(hello_of(b"a"), suite, 900, &[certificate, finished]);
        assert!(!tracker.info().is_rejected_by_client(), "{suite:x}");
        assert!(tracker.handshake_done());
    }
    let alert = answer_to_flight(hello_of(b"a"), 0x1305, 900, &[11]);
    assert!(alert.info().is_rejected_by_client());
}

#[test]
fn with_early_data_a_short_record_is_its_end_and_no_rejection() {
    let hello = client_hello(0x0303, &[extension(42, &[])]);
    for end_of_early_data in [21, 19] {
        let tracker = answer_to_flight(hello.clone(), 0x1301, 120, &[end_of_early_data, 53]);
        assert!(!tracker.info().is_rejected_by_client());
    }
}

/// Whether a client that leaves after the server's choice has left because of it.
fn leaves_at(hello: Vec<u8>, answer: Vec<u8>, said: &[Vec<u8>]) -> bool {
    let mut chunks = vec![(CLIENT, plain(&hello)), (SERVER, plain(&answer))];
    chunks.extend(said.iter().map(|bytes| (CLIENT, bytes.clone())));
    let mut tracker = track(&chunks);
    tracker.on_client_leaving();
    tracker.info().left_at_version
}

#[test]
fn a_version_that_was_not_offered_is_why_a_client_leaves() {
    let only_13 = || client_hello(0x0303, &[offered_versions(&[0x7a7a, 0x0304])]);
    let from_11 = || client_hello(0x0303, &[offered_versions(&[0x0304, 0x0303, 0x0302])]);
    let up_to_12 = || client_hello(0x0303, &[]);
    let chosen = |version| server_hello(version, &[9; 32], &[]);
    assert!(leaves_at(only_13(), chosen(0x0303), &[]));
    assert!(leaves_at(from_11(), chosen(0x0301), &[]));
    assert!(leaves_at(up_to_12(), tls13_server_hello(), &[]));
    // Whoever names the highest version only may be content with an older one.
    assert!(!leaves_at(up_to_12(), chosen(0x0301), &[]));
    assert!(!leaves_at(from_11(), chosen(0x0302), &[]));
    assert!(!leaves_at(only_13(), tls13_server_hello(), &[]));
    let unknown = client_hello(0x0303, &[offered_versions(&[0x7a7a])]);
    assert!(!leaves_at(unknown, chosen(0x0301), &[]));
}

#[test]
fn a_client_that_went_on_did_not_leave_because_of_the_version() {
    let hello = || client_hello(0x0303, &[offered_versions(&[0x0304])]);
    for said in [
        record(CHANGE_CIPHER_SPEC, &[1]),
        plain(&handshake(16, &[0; 66])),
        record(APPLICATION, &[0; 19]),
        record(ALERT, &[2, 70]),
    ] {
        assert!(!leaves_at(hello(), tls12_server_hello(), &[said]));
    }
}

#[test]
fn a_client_that_leaves_after_the_servers_flight_says_nothing() {
    // Whether slow to verify, closed by the user, or put off: it looks the same.
    for flight in [120, 900, 4000] {
        let hello = client_hello(0x0303, &[offered_versions(&[0x0304, 0x0303])]);
        let mut tracker = answer_to_flight(hello, 0x1301, flight, &[]);
        tracker.on_client_leaving();
        assert!(!tracker.info().is_rejected_by_client() && !tracker.info().left_at_version);
    }
}

#[test]
fn in_1_3_protected_records_of_the_server_are_handshake_until_the_client_answers() {
    let mut tracker = track(&[
        (CLIENT, plain(&hello_of(b"a.example"))),
        (SERVER, plain(&tls13_server_hello())),
        (SERVER, record(APPLICATION, &[0; 900])),
    ]);
    assert!(!tracker.info().server_application);
    tracker.feed(CLIENT, &record(APPLICATION, &[0; 53]), 3);
    tracker.feed(SERVER, &record(APPLICATION, &[0; 900]), 4);
    assert!(tracker.info().server_application);
}

#[test]
fn a_fatal_alert_in_clear_is_kept_and_ends_the_interest() {
    let tracker = track(&[
        (CLIENT, plain(&hello_of(b"a.example"))),
        (SERVER, record(ALERT, &[2, 40])),
        (SERVER, record(ALERT, &[2, 70])),
    ]);
    let alert = tracker.info().alert.unwrap();
    assert_eq!(
        (alert.from_client, alert.level, alert.description),
        (SERVER, 2, 40)
    );
    assert_eq!(alert.time_ns, NS_PER_S);
    assert!(!tracker.wants_more(CLIENT) && !tracker.wants_more(SERVER));
}

#[test]
fn warnings_and_encrypted_alerts_are_no_fatal_alert() {
    let tracker = track(&[
        (SERVER, record(ALERT, &[1, 112])),
        (SERVER, record(ALERT, &[2; 26])),
        (CLIENT, record(ALERT, &[2])),
    ]);
    assert_eq!(tracker.info().alert, None);
}

#[test]
fn an_encrypted_handshake_message_is_not_read_as_a_hello() {
    let tracker = track(&[
        (SERVER, plain(&tls12_server_hello())),
        (SERVER, record(CHANGE_CIPHER_SPEC, &[1])),
        (SERVER, plain(&server_hello(0x0301, &[9; 32], &[]))),
    ]);
    assert_eq!(tracker.info().version, Some(Version::Tls12));
}

#[test]
fn a_hello_of_the_wrong_side_is_not_read() {
    let tracker = track(&[(SERVER, plain(&hello_of(b"a.example")))]);
    assert_eq!(tracker.info(), &TlsInfo::default());
}

#[test]
fn a_malformed_extension_elsewhere_does_not_hide_the_server_name() {
    let hello = client_hello(
        0x0303,
        &[
            extension(10, &[0xff]),
            extension(51, &[9; 3]),
            server_name(b"a.b"),
        ],
    );
    assert_eq!(info_of_client(&hello).server_name.as_deref(), Some("a.b"));
}

#[test]
fn extensions_that_run_out_keep_what_came_before() {
    let hello = client_hello(0x0303, &[server_name(b"a.b"), vec![0, 16, 0xff, 0xff, 1]]);
    assert_eq!(info_of_client(&hello).server_name.as_deref(), Some("a.b"));
}

#[test]
fn a_hello_of_ten_kibibytes_over_several_records_is_read() {
    let hello = client_hello(
        0x0303,
        &[extension(51, &[5; 10_000]), server_name(b"pq.example")],
    );
    let records: Vec<u8> = hello.chunks(4000).flat_map(plain).collect();
    let tracker = track(&[(CLIENT, records)]);
    assert_eq!(tracker.info().server_name.as_deref(), Some("pq.example"));
}

#[test]
fn a_hello_beyond_the_bound_is_timed_and_skipped_and_what_follows_is_read() {
    let hello = client_hello(
        0x0303,
        &[extension(51, &[5; 17_000]), server_name(b"big.example")],
    );
    let records: Vec<u8> = hello.chunks(1000).flat_map(plain).collect();
    let tracker = track(&[
        (CLIENT, records),
        (SERVER, vec![]),
        (CLIENT, record(APPLICATION, &[0; 9])),
    ]);
    assert_eq!(tracker.info().server_name, None);
    assert_eq!(tracker.info().setup_us(), Some(2_000_000));
}

#[test]
fn a_hostile_message_length_allocates_by_what_arrives() {
    let mut reader = MessageReader::default();
    let mut lengths = Vec::new();
    let header = [message::CERTIFICATE, 0xff, 0xff, 0xff];
    reader.feed(&header, 0, SERVER, &mut |message| {
        lengths.push(message.body.len())
    });
    reader.feed(&[0; 5000], 0, SERVER, &mut |message| {
        lengths.push(message.body.len())
    });
    assert_eq!(lengths, [message::CERTIFICATE_PREFIX as usize]);
}

#[test]
fn a_hello_in_the_format_of_ssl_2_opens_a_tls_connection() {
    // Lengths of cipher specs, session id and challenge (3, 0, 16), then these (RFC 5246 E.2).
    let body = [&[1, 3, 3, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f][..], &[7; 16]].concat();
    let hello = [&[0x80, u8::try_from(body.len()).unwrap()][..], &body].concat();
    assert!(looks_like_tls(&hello));
    let tracker = track(&[
        (CLIENT, hello.clone()),
        (SERVER, plain(&tls12_server_hello())),
    ]);
    assert_eq!(tracker.info().client_version, Some(Version::Tls12));
    assert_eq!(tracker.info().client_hello_time_ns, Some(0));
    assert_eq!(tracker.info().version, Some(Version::Tls12));
    let twice = track(&[(CLIENT, [hello.clone(), hello].concat())]);
    assert!(twice.is_malformed(CLIENT));
}

#[test]
fn bytes_that_are_no_record_end_the_direction() {
    for bytes in [
        &b"GET / HTTP/1.1"[..],
        &[22, 2, 0, 0, 1],
        &[22, 3, 1, 0xff, 0xff],
        &[25, 3, 1, 0, 1],
    ] {
        let tracker = track(&[(CLIENT, bytes.to_vec())]);
        assert!(
            tracker.is_malformed(CLIENT) && !tracker.wants_more(CLIENT),
            "{bytes:?}"
        );
        assert!(tracker.wants_more(SERVER));
    }
}

#[test]
fn tls_is_told_from_other_protocols_by_its_first_bytes() {
    let hello = plain(&hello_of(b"a.example"));
    for length in 1..hello.len() {
        assert!(looks_like_tls(&hello[..length]));
    }
    assert!(looks_like_tls(&plain(&tls12_server_hello())));
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x01\x00\x10\x01",
        b"\x16\x03\x05\x00\x10\x01",
        b"\x16\x03\x01\x00\x00\x01",
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x10\x0b",
        b"\x17\x03\x03\x00\x10\x01",
    ] {
        assert!(!looks_like_tls(bytes), "{bytes:?}");
    }
}

fn cause_of(chunks: &[(bool, Vec<u8>)]) -> Option<(&'static str, &'static str)> {
    failure(track(chunks).info()).map(|Failure { cause, side }| (cause, side))
}

#[test]
fn an_alert_names_cause_and_side() {
    let hello = || (CLIENT, plain(&hello_of(b"a.example")));
    let old_hello = || (CLIENT, plain(&client_hello(0x0301, &[])));
    let answer = || (SERVER, plain(&tls12_server_hello()));
    let alert = |from_client, description| (from_client, record(ALERT, &[2, description]));

    let version = "tls_version_unsupported";
    assert_eq!(
        cause_of(&[old_hello(), alert(SERVER, 70)]),
        Some((version, "device"))
    );
    assert_eq!(
        cause_of(&[hello(), alert(SERVER, 70)]),
        Some((version, "server"))
    );
    assert_eq!(
        cause_of(&[hello(), answer(), alert(CLIENT, 70)]),
        Some((version, "server"))
    );
    let cipher = "tls_no_common_cipher";
    assert_eq!(
        cause_of(&[hello(), alert(SERVER, 40)]),
        Some((cipher, "server"))
    );
    assert_eq!(
        cause_of(&[hello(), alert(SERVER, 71)]),
        Some((cipher, "device"))
    );
    let other = "tls_other_alert";
    assert_eq!(
        cause_of(&[hello(), answer(), alert(SERVER, 40)]),
        Some((other, "device"))
    );
    assert_eq!(
        cause_of(&[hello(), alert(SERVER, 80)]),
        Some((other, "server"))
    );
    assert_eq!(
        cause_of(&[hello(), alert(SERVER, 112)]),
        Some(("tls_unknown_name", "server"))
    );
    assert_eq!(cause_of(&[hello(), alert(CLIENT, 90)]), None);
    assert_eq!(cause_of(&[hello()]), None);
}

#[test]
fn a_certificate_alert_blames_the_holder_but_for_a_clock_that_is_wrong() {
    let answer = || (SERVER, plain(&tls12_server_hello()));
    let leaf = || {
        (
            SERVER,
            plain(&certificate(&from_hex(RFC_8448_CERTIFICATE), 0)),
        )
    };
    let alert = |from_client, description| (from_client, record(ALERT, &[2, description]));
    for description in [42, 43, 44, 45, 46, 48] {
        let cause = cause_of(&[answer(), alert(CLIENT, description)]);
        assert_eq!(cause, Some(("tls_certificate", "server")));
    }
    let client_certificate = cause_of(&[answer(), alert(SERVER, 42)]);
    assert_eq!(client_certificate, Some(("tls_certificate", "device")));
    let not_expired = cause_of(&[answer(), leaf(), alert(CLIENT, 45)]);
    assert_eq!(not_expired, Some(("tls_certificate", "device")));
    let unknown_issuer = cause_of(&[answer(), leaf(), alert(CLIENT, 48)]);
    assert_eq!(unknown_issuer, Some(("tls_certificate", "server")));
}

/// A whole TLS 1.2 handshake: all client bytes, then all server bytes.
fn whole_handshake(record_length: usize) -> [(bool, Vec<u8>); 2] {
    let client = client_hello(0x0303, &[server_name(b"a.example"), alpn(&[b"h2"])]);
    let server = [
        tls12_server_hello(),
        certificate(&from_hex(RFC_8448_CERTIFICATE), 5000),
        handshake(14, &[]),
    ]
    .concat();
    let cut = |messages: &[u8]| {
        messages
            .chunks(record_length)
            .flat_map(plain)
            .collect::<Vec<u8>>()
    };
    let protected = [
        record(CHANGE_CIPHER_SPEC, &[1]),
        plain(&[9; 40]),
        record(APPLICATION, &[0; 99]),
    ]
    .concat();
    [
        (CLIENT, [cut(&client), protected.clone()].concat()),
        (SERVER, [cut(&server), protected].concat()),
    ]
}

fn feed_in_chunks(stream: &[(bool, Vec<u8>)], lengths: &[usize]) -> TlsInfo {
    let mut tracker = TlsTracker::new();
    for (from_client, bytes) in stream {
        let mut rest = &bytes[..];
        for length in lengths.iter().cycle() {
            let (chunk, after) = rest.split_at((*length).min(rest.len()));
            tracker.feed(*from_client, chunk, 0);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    tracker.info().clone()
}

proptest! {
    #[test]
    fn chunks_and_records_of_any_length_give_the_same_knowledge(
        lengths in prop::collection::vec(1..2000usize, 1..40),
        record_length in 1..6000usize,
    ) {
        let expected = feed_in_chunks(&whole_handshake(16_000), &[usize::MAX]);
        prop_assert_eq!(expected.certificate_not_after_ns, Some(RFC_8448_NOT_AFTER_NS));
        prop_assert!(expected.server_application);
        let stream = whole_handshake(record_length);
        prop_assert_eq!(&feed_in_chunks(&stream, &lengths), &expected);
        prop_assert_eq!(&feed_in_chunks(&stream, &[1]), &expected);
    }

    #[test]
    fn any_bytes_in_any_chunks_are_survived_alike(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        from_client: bool,
        lengths in prop::collection::vec(1..50usize, 1..20),
    ) {
        let stream = [(from_client, bytes)];
        let expected = feed_in_chunks(&stream, &[usize::MAX]);
        prop_assert_eq!(feed_in_chunks(&stream, &lengths), expected);
    }

    #[test]
    fn damaged_handshakes_are_survived_alike(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        lengths in prop::collection::vec(1..500usize, 1..20),
    ) {
        let mut stream = whole_handshake(1000);
        for (_, bytes) in &mut stream {
            for (place, value) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
        }
        let expected = feed_in_chunks(&stream, &[usize::MAX]);
        prop_assert_eq!(feed_in_chunks(&stream, &lengths), expected);
    }
}
