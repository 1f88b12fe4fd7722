use super::*;
use proptest::prelude::*;

const CLIENT: bool = true;
const SERVER: bool = false;
const NS_PER_MS: u64 = 1_000_000;

/// What a connection of (from client, bytes), one millisecond apart, says.
fn read(chunks: &[(bool, &[u8])]) -> (HttpTracker, Vec<Event>) {
    let (mut tracker, mut events) = (HttpTracker::default(), Vec::new());
    for (ms, (from_client, bytes)) in (0..).zip(chunks) {
        feed(&mut tracker, &mut events, *from_client, bytes, ms);
    }
    (tracker, events)
}

/// Feeds bytes, those of bodies too: their length is taken back by what is given of them.
fn feed(
    tracker: &mut HttpTracker,
    events: &mut Vec<Event>,
    from_client: bool,
    bytes: &[u8],
    ms: u64,
) -> u64 {
    tracker.feed(from_client, bytes, ms * NS_PER_MS, &mut |event| {
        events.push(event);
    })
}

fn answered(status: u16, first_byte_ms: u32) -> Event {
    Event::Response(Response {
        status,
        first_byte_us: Some(first_byte_ms * 1000),
        is_awaited: true,
    })
}

fn unasked(status: u16) -> Event {
    Event::Response(Response {
        status,
        first_byte_us: None,
        is_awaited: false,
    })
}

fn host(name: &str) -> Event {
    Event::Host(name.into())
}

fn statuses(events: &[Event]) -> Vec<u16> {
    let status = |event: &Event| match event {
        Event::Response(response) => Some(response.status),
        _ => None,
    };
    events.iter().filter_map(status).collect()
}

fn requests(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| **event == Event::Request)
        .count()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_and_its_answer_give_host_status_and_wait() {
    let (tracker, events) = read(&[(CLIENT, GET), (SERVER, OK)]);
    assert_eq!(
        events,
        [Event::Request, host("a.example"), answered(200, 1)]
    );
    assert!(!tracker.is_waiting());
}

#[test]
fn the_host_is_lower_case_without_port_and_bounded() {
    for (field, expected) in [
        ("WWW.Example.COM:8080", Some("www.example.com")),
        ("192.0.2.1:80", Some("192.0.2.1")),
        ("[2001:DB8::1]:80", Some("2001:db8::1")),
        ("[2001:db8::1", None),
        ("example.com.", Some("example.com")),
        ("", None),
        ("a b", None),
        ("<script>", None),
        (&"a".repeat(255), Some(&*"a".repeat(255))),
        (&"a".repeat(256), None),
        (&"a".repeat(4000), None),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhOsT :  {field} \r\n\r\n");
        let (_, events) = read(&[(CLIENT, request.as_bytes())]);
        let expected: Vec<Event> = expected.map(host).into_iter().collect();
        assert_eq!(events[1..], expected, "{field}");
    }
}

#[test]
fn the_authority_of_the_target_goes_before_the_field() {
    for (target, expected) in [
        ("http://Target.example:80/x?y", "target.example"),
        ("http://user:pass@target.example", "target.example"),
        ("http://target.example?http://c.example/", "target.example"),
        ("/http://c.example/", "b.example"),
        ("*", "b.example"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: b.example\r\n\r\n");
        let (_, events) = read(&[(CLIENT, request.as_bytes())]);
        assert_eq!(events, [Event::Request, host(expected)], "{target}");
    }
}

#[test]
fn a_target_longer_than_a_line_that_is_kept_does_no_harm() {
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "x".repeat(5000)
    );
    let (_, events) = read(&[(CLIENT, request.as_bytes()), (SERVER, OK)]);
    assert_eq!(
        events,
        [Event::Request, host("a.example"), answered(200, 1)]
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let two = [GET, HEAD].concat();
    let answers = [OK, b"HTTP/1.1 404 No\r\nContent-Length: 99\r\n\r\n", OK].concat();
    let (_, events) = read(&[(CLIENT, &two), (CLIENT, GET), (SERVER, &answers)]);
    assert_eq!(
        events[4..],
        [answered(200, 2), answered(404, 2), answered(200, 1)]
    );
}

#[test]
fn no_body_follows_an_answer_to_head_nor_204_nor_304() {
    let length = "Content-Length: 1000000\r\n\r\n";
    for (request, status) in [(HEAD, 200), (GET, 204), (GET, 304)] {
        let first = format!("HTTP/1.1 {status} x\r\n{length}");
        let (_, events) = read(&[
            (CLIENT, request),
            (SERVER, first.as_bytes()),
            (CLIENT, GET),
            (SERVER, OK),
        ]);
        assert_eq!(statuses(&events), [status, 200]);
    }
}

#[test]
fn interim_answers_are_not_the_answer() {
    let (tracker, events) = read(&[
        (
            CLIENT,
            b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        ),
        (SERVER, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CLIENT, b""),
        (SERVER, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (SERVER, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
    ]);
    assert_eq!(events, [Event::Request, answered(201, 4)]);
    assert!(!tracker.is_lost(CLIENT));
}

#[test]
fn a_client_that_was_refused_to_continue_may_leave_the_body_out() {
    let put: &[u8] = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n";
    let (mut tracker, mut events) = read(&[
        (CLIENT, put),
        (SERVER, b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
    ]);
    assert!(tracker.is_lost(CLIENT));
    tracker.resume(CLIENT);
    feed(&mut tracker, &mut events, CLIENT, GET, 2);
    feed(&mut tracker, &mut events, SERVER, OK, 5);
    assert_eq!(events.last(), Some(&answered(200, 3)));
}

#[test]
fn the_rest_of_a_body_is_not_asked_for() {
    let (mut tracker, mut events) = read(&[(CLIENT, GET)]);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000000000\r\n\r\n12345";
    assert_eq!(
        feed(&mut tracker, &mut events, SERVER, head, 1),
        4_999_999_995
    );
    feed(&mut tracker, &mut events, CLIENT, GET, 2);
    feed(&mut tracker, &mut events, SERVER, OK, 3);
    assert_eq!(statuses(&events), [200, 200]);
}

#[test]
fn chunks_are_stepped_over_with_extensions_and_trailers() {
    let body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n\
        5;name=value\r\nabcde\r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    let both = [&body[..], OK].concat();
    let (_, events) = read(&[(CLIENT, GET), (CLIENT, GET), (SERVER, &both)]);
    assert_eq!(statuses(&events), [200, 200]);
}

#[test]
fn a_request_with_a_body_is_one_request() {
    let post = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let plain = b"POST / HTTP/1.1\r\nContent-Length: 14\r\n\r\nGET / HTTP/1.1";
    let (_, events) = read(&[(CLIENT, &[&post[..], plain, GET].concat())]);
    assert_eq!(requests(&events), 3);
}

#[test]
fn a_body_without_length_lasts_until_the_connection_ends() {
    let (tracker, events) = read(&[
        (CLIENT, GET),
        (
            SERVER,
            b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 500 is text\r\n\r\n",
        ),
    ]);
    assert_eq!(statuses(&events), [200]);
    assert!(!tracker.is_lost(SERVER) && tracker.is_deaf(SERVER));
}

#[test]
fn an_answer_behind_a_body_without_length_must_have_been_asked_for() {
    let (mut tracker, mut events) = read(&[
        (CLIENT, GET),
        (SERVER, b"HTTP/1.1 200 OK\r\n\r\nwho knows"),
        (CLIENT, GET),
    ]);
    assert!(tracker.is_lost(SERVER));
    tracker.resume(SERVER);
    feed(&mut tracker, &mut events, SERVER, OK, 5);
    assert_eq!(events.last(), Some(&answered(200, 3)));
}

#[test]
fn contradictory_lengths_leave_the_end_unknown() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 5, 6",
        "Content-Length: 99999999999999999999",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let (tracker, _) = read(&[(CLIENT, GET), (SERVER, response.as_bytes())]);
        assert!(tracker.is_lost(SERVER), "{fields}");
    }
}

#[test]
fn what_follows_a_granted_connect_is_not_http() {
    let connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n";
    let granted = b"HTTP/1.1 200 Connection established\r\nContent-Length: 7\r\n\r\n\x16\x03\x01";
    let (tracker, events) = read(&[(CLIENT, connect), (SERVER, granted)]);
    assert_eq!(
        events,
        [Event::Request, host("a.example"), answered(200, 1)]
    );
    assert_eq!(tracker.switch(), Some(Switch::Tunnel));
    assert_eq!(tracker.unread(), 3);
}

#[test]
fn a_refused_connect_leaves_http() {
    let connect = b"CONNECT a.example:443 HTTP/1.1\r\n\r\n";
    let refused = b"HTTP/1.1 407 Who are you\r\nContent-Length: 2\r\n\r\nno";
    let (tracker, events) = read(&[
        (CLIENT, connect),
        (SERVER, refused),
        (CLIENT, connect),
        (SERVER, OK),
    ]);
    assert_eq!(statuses(&events), [407, 200]);
    assert_eq!(tracker.switch(), Some(Switch::Tunnel));
}

#[test]
fn an_upgrade_names_the_protocol_that_follows() {
    for (name, expected) in [
        ("websocket", Upgrade::WebSocket),
        ("WebSocket", Upgrade::WebSocket),
        ("h2c", Upgrade::Http2),
        ("TLS/1.0, HTTP/1.1", Upgrade::Tls),
        ("irc/6.9", Upgrade::Other),
    ] {
        let answer = format!("HTTP/1.1 101 Switching\r\nUpgrade: {name}\r\n\r\n");
        let (tracker, events) = read(&[(CLIENT, GET), (SERVER, answer.as_bytes())]);
        assert_eq!(tracker.switch(), Some(Switch::Upgrade(expected)), "{name}");
        assert_eq!(statuses(&events), [101]);
    }
}

#[test]
fn bare_line_feeds_end_lines_too() {
    let (_, events) = read(&[
        (CLIENT, b"\r\n\nGET / HTTP/1.0\nHost: a.example\n\n"),
        (SERVER, b"HTTP/1.0 302\nContent-Length: 0\n\n"),
    ]);
    assert_eq!(
        events,
        [Event::Request, host("a.example"), answered(302, 1)]
    );
}

#[test]
fn blank_lines_before_a_request_do_not_lengthen_its_wait() {
    let (_, events) = read(&[(CLIENT, b"\r\n"), (CLIENT, GET), (SERVER, OK)]);
    assert_eq!(events.last(), Some(&answered(200, 1)));
}

#[test]
fn lines_that_are_no_status_lines_are_not_read_as_such() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/2.0 200 OK",
        "SIP/2.0 200 OK",
    ] {
        let answer = format!("{line}\r\n\r\n");
        let (tracker, events) = read(&[(CLIENT, GET), (SERVER, answer.as_bytes())]);
        assert_eq!(statuses(&events), [0; 0], "{line}");
        assert!(tracker.is_lost(SERVER));
    }
}

#[test]
fn an_answer_to_a_request_that_was_missed_has_no_wait() {
    let (_, events) = read(&[(SERVER, OK)]);
    assert_eq!(events, [unasked(200)]);
}

#[test]
fn behind_missing_bytes_answers_and_requests_match_again_if_the_client_waits() {
    let (mut tracker, mut events) = read(&[(CLIENT, GET)]);
    tracker.lose(SERVER);
    assert!(!tracker.is_waiting());
    feed(&mut tracker, &mut events, CLIENT, GET, 7);
    tracker.resume(SERVER);
    feed(&mut tracker, &mut events, SERVER, OK, 9);
    assert_eq!(events.last(), Some(&answered(200, 2)));
}

#[test]
fn behind_missing_bytes_of_two_requests_nobody_knows_which_was_answered() {
    let (mut tracker, mut events) = read(&[(CLIENT, GET)]);
    tracker.lose(SERVER);
    feed(&mut tracker, &mut events, CLIENT, GET, 7);
    feed(&mut tracker, &mut events, CLIENT, GET, 8);
    tracker.resume(SERVER);
    feed(&mut tracker, &mut events, SERVER, OK, 9);
    assert_eq!(events.last(), Some(&unasked(200)));
}

#[test]
fn behind_missing_bytes_of_a_pipeline_no_wait_is_told() {
    let (mut tracker, mut events) = read(&[(CLIENT, GET), (CLIENT, GET), (SERVER, OK)]);
    tracker.lose(CLIENT);
    tracker.resume(CLIENT);
    feed(&mut tracker, &mut events, CLIENT, GET, 7);
    feed(&mut tracker, &mut events, SERVER, OK, 9);
    let Some(Event::Response(response)) = events.last() else {
        panic!("an answer");
    };
    assert_eq!(response.first_byte_us, None);
    assert!(!tracker.is_waiting());
}

#[test]
fn the_requests_that_wait_are_bounded() {
    let (tracker, events) = read(&[(CLIENT, &GET.repeat(3 * MAX_PENDING))]);
    assert_eq!(requests(&events), 3 * MAX_PENDING);
    assert_eq!(tracker.pending.len(), MAX_PENDING);
    assert!(!tracker.is_waiting(), "some were given up");
}

#[test]
fn a_head_without_end_is_given_up() {
    let mut request = b"GET / HTTP/1.1\r\n".to_vec();
    request.extend(b"X: y\r\n".repeat(MAX_HEAD as usize / 6));
    let (tracker, _) = read(&[(CLIENT, &request)]);
    assert!(tracker.is_lost(CLIENT));
}

#[test]
fn an_opening_is_told_by_its_line_or_by_what_there_is_of_it() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: x"[..], Some(Opening::Request)),
        (b"RPC_IN_DATA /rpc HTTP/1.1\r\n", Some(Opening::Request)),
        (b"GET /a/very/long/tar", Some(Opening::Request)),
        (b"GE", Some(Opening::Request)),
        (b"GET / HTTP/1.1\n", Some(Opening::Request)),
        (b"HTTP/1.0 200 OK\r\n", Some(Opening::Response)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Opening::Http2)),
        (b"OPTIONS rtsp://x RTSP/1.0\r\n", Some(Opening::Rtsp)),
        (b"RTSP/1.0 200 OK\r\n", Some(Opening::Rtsp)),
        (b"OPTIONS sip:x SIP/2.0\r\n", None),
        (b"GET /\r\n", None),
        (b"EHLO a.example\r\n", None),
        (b"SSH-2.0-x\r\n", None),
        (b"Get more of it", None),
        (b"HTTP/3 is", None),
        (b"\x16\x03\x01", None),
        (b"", None),
    ] {
        assert_eq!(Opening::of(bytes), expected, "{bytes:?}");
    }
}

/// Messages, well formed or not, in any order.
fn messages(parts: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        9 => prop::sample::select(parts).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

const CLIENT_PARTS: &[&[u8]] = &[
    GET,
    HEAD,
    b"\r\n",
    b"GET http://c.example:80/ HTTP/1.1\r\nHost: d.example\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nHost: e.example\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"CONNECT f.example:1 HTTP/1.1\r\n\r\n",
    &[b'x'; 600],
];
const SERVER_PARTS: &[&[u8]] = &[
    OK,
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Same\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n",
    &[b'x'; 600],
];

proptest! {
    #[test]
    fn any_split_of_the_bytes_says_the_same(
        client in messages(CLIENT_PARTS),
        server in messages(SERVER_PARTS),
        cuts in prop::collection::vec(1..40usize, 1..20),
    ) {
        let learn = |cuts: &[usize]| {
            let (mut tracker, mut events) = (HttpTracker::default(), Vec::new());
            for (from_client, bytes) in [(CLIENT, &client), (SERVER, &server), (CLIENT, &client)] {
                let mut rest = &bytes[..];
                for cut in cuts.iter().cycle() {
                    let (chunk, behind) = rest.split_at(rest.len().min(*cut));
                    let skip = feed(&mut tracker, &mut events, from_client, chunk, 0);
                    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                    rest = behind.get(skip..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            let lost = [CLIENT, SERVER].map(|side| tracker.is_lost(side));
            (events, tracker.switch(), tracker.is_waiting(), lost)
        };
        let whole = learn(&[usize::MAX]);
        prop_assert_eq!(&learn(&[1]), &whole);
        prop_assert_eq!(&learn(&cuts), &whole);
    }

    #[test]
    fn hostile_bytes_keep_the_bounds(
        chunks in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..700)), 0..20),
    ) {
        let (mut tracker, mut events) = (HttpTracker::default(), Vec::new());
        for (from_client, bytes) in &chunks {
            feed(&mut tracker, &mut events, *from_client, bytes, 0);
            if tracker.is_lost(*from_client) {
                tracker.resume(*from_client);
            }
            prop_assert!(tracker.client.kept() <= MAX_LINE && tracker.server.kept() <= MAX_LINE);
            prop_assert!(tracker.pending.len() <= MAX_PENDING);
        }
    }
}
