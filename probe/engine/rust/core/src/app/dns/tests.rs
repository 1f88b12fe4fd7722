use super::framer::MAX_KEPT;
use super::resolution::MAX_ADDRESSES;
use super::tracker::{MAX_PENDING, QUERY_TIMEOUT_NS};
use super::*;
use proptest::prelude::*;

const RESPONSE: u16 = 0x8180;
const QUERY: u16 = 0x0100;
const MS: u64 = 1_000_000;

/// The bytes of a message with one question; `counts` are those of the three record sections.
fn message(id: u16, flags: u16, name: &[u8], qtype: u16, counts: [u16; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [id, flags, 1].into_iter().chain(counts) {
        bytes.extend(value.to_be_bytes());
    }
    bytes.extend(name);
    bytes.extend(qtype.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

fn wire_name(labels: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(*label);
    }
    bytes.push(0);
    bytes
}

fn record(name: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn example_name() -> Vec<u8> {
    wire_name(&[b"www", b"Example", b"COM"])
}

fn query(id: u16) -> Vec<u8> {
    message(id, QUERY, &example_name(), TYPE_A, [0; 3])
}

fn response(id: u16, rcode: u16) -> Vec<u8> {
    message(id, RESPONSE | rcode, &example_name(), TYPE_A, [0; 3])
}

fn feed(tracker: &mut DnsTracker, bytes: &[u8], time_ns: u64) -> Option<Transaction> {
    tracker.on_message(&DnsMessage::parse(bytes).unwrap(), time_ns)
}

fn question_text(bytes: &[u8]) -> Option<String> {
    let message = DnsMessage::parse(bytes).ok()?;
    Some(message.question?.name.to_string())
}

#[test]
fn a_query_gives_its_name_in_lower_case() {
    let bytes = query(0x1234);
    let message = DnsMessage::parse(&bytes).unwrap();
    assert_eq!(
        (message.id, message.is_response, message.opcode),
        (0x1234, false, 0)
    );
    let question = message.question.unwrap();
    assert_eq!(&*question.name.to_text(), "www.example.com");
    assert_eq!(question.qtype, TYPE_A);
}

#[test]
fn an_answer_gives_its_addresses_through_a_compressed_alias() {
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [3, 0, 0]);
    bytes.extend(record(&[0xc0, 12], 5, CLASS_IN, 60, &[0xc0, 16]));
    bytes.extend(record(&[0xc0, 16], TYPE_A, CLASS_IN, 60, &[192, 0, 2, 1]));
    bytes.extend(record(&[0xc0, 16], TYPE_AAAA, CLASS_IN, 60, &[0x20; 16]));
    let message = DnsMessage::parse(&bytes).unwrap();
    let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), IpAddr::from([0x20u8; 16])];
    assert_eq!(Resolution::of(&message).unwrap().addresses(), expected);
}

#[test]
fn addresses_outside_the_answer_section_or_of_a_wrong_length_do_not_count() {
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [1, 1, 1]);
    for data in [&[1, 2, 3][..], &[1, 2, 3, 4], &[1, 2, 3, 4]] {
        bytes.extend(record(&[0xc0, 12], TYPE_A, CLASS_IN, 60, data));
    }
    assert!(Resolution::of(&DnsMessage::parse(&bytes).unwrap()).is_none());
}

#[test]
fn at_most_eight_addresses_are_kept() {
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [20, 0, 0]);
    for last in 0..20 {
        bytes.extend(record(&[0xc0, 12], TYPE_A, CLASS_IN, 60, &[1, 2, 3, last]));
    }
    assert_eq!(
        Resolution::of(&DnsMessage::parse(&bytes).unwrap())
            .unwrap()
            .addresses()
            .len(),
        MAX_ADDRESSES
    );
}

fn addresses(bytes: &[u8]) -> Vec<String> {
    let resolution = Resolution::of(&DnsMessage::parse(bytes).unwrap());
    let found = resolution.iter().flat_map(|found| found.addresses());
    found.map(ToString::to_string).collect()
}

#[test]
fn addresses_of_a_name_that_was_not_asked_do_not_count() {
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [2, 0, 0]);
    let other = wire_name(&[b"www", b"example", b"net"]);
    bytes.extend(record(&other, TYPE_A, CLASS_IN, 60, &[192, 0, 2, 9]));
    let same = wire_name(&[b"WWW", b"example", b"com"]);
    bytes.extend(record(&same, TYPE_A, CLASS_IN, 60, &[192, 0, 2, 1]));
    assert_eq!(addresses(&bytes), ["192.0.2.1"]);
}

#[test]
fn aliases_are_followed_even_where_they_stand_behind_what_they_lead_to() {
    let target = wire_name(&[b"cdn", b"example"]);
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [2, 0, 0]);
    bytes.extend(record(&target, TYPE_A, CLASS_IN, 5, &[192, 0, 2, 1]));
    bytes.extend(record(&[0xc0, 12], TYPE_CNAME, CLASS_IN, 60, &target));
    let resolution = Resolution::of(&DnsMessage::parse(&bytes).unwrap()).unwrap();
    assert_eq!(
        (&*resolution.name, resolution.ttl_s),
        ("www.example.com", 5)
    );
    assert_eq!(addresses(&bytes), ["192.0.2.1"]);
}

#[test]
fn aliases_in_a_circle_come_to_an_end() {
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [40, 0, 0]);
    for _ in 0..40 {
        bytes.extend(record(&[0xc0, 12], TYPE_CNAME, CLASS_IN, 60, &[0xc0, 12]));
    }
    assert!(addresses(&bytes).is_empty());
}

#[test]
fn service_records_give_their_hints_to_the_host_behind_the_service_labels() {
    let asked = wire_name(&[b"_8443", b"_https", b"www", b"example"]);
    let mut hints = vec![0, 1, 0];
    hints.extend([0, 1, 0, 3, 2, b'h', b'3']); // alpn
    hints.extend([0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2]);
    hints.extend([0, 6, 0, 16]);
    hints.extend([0x20; 16]);
    let mut bytes = message(1, RESPONSE, &asked, TYPE_HTTPS, [1, 0, 0]);
    bytes.extend(record(&[0xc0, 12], TYPE_HTTPS, CLASS_IN, 60, &hints));
    let resolution = Resolution::of(&DnsMessage::parse(&bytes).unwrap()).unwrap();
    assert_eq!(&*resolution.name, "www.example");
    assert_eq!(resolution.addresses().len(), 3);
}

#[test]
fn what_nobody_can_connect_to_is_no_servers_address() {
    let blanks: [&[u8]; 5] = [
        &[0, 0, 0, 0],
        &[127, 0, 0, 1],
        &[255, 255, 255, 255],
        &[224, 0, 0, 251],
        &[0, 0, 0, 1],
    ];
    for blank in blanks {
        let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [1, 0, 0]);
        bytes.extend(record(&[0xc0, 12], TYPE_A, CLASS_IN, 60, blank));
        assert!(addresses(&bytes).is_empty(), "{blank:?}");
    }
}

#[test]
fn bytes_of_something_else_do_not_begin_like_dns() {
    assert!(DnsMessage::begins_plausibly(&query(1)));
    assert!(DnsMessage::begins_plausibly(&response(1, 2)));
    assert!(!DnsMessage::begins_plausibly(b"GET / HTTP/1.1\r\n"));
    assert!(!DnsMessage::begins_plausibly(&[
        0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6
    ]));
    assert!(!DnsMessage::begins_plausibly(&query(1)[..11]));
    let plain = |bytes: &[u8]| DnsMessage::parse(bytes).is_ok_and(|found| found.is_plain_query());
    assert!(plain(&query(1)));
    assert!(!plain(&[query(1), vec![0]].concat()), "with bytes behind");
    assert!(!plain(&response(1, 0)));
}

#[test]
fn the_rcode_is_extended_by_the_opt_record() {
    // BADVERS is 16 (RFC 6891 9): extended part 1, header part 0.
    let mut bytes = message(1, RESPONSE, &example_name(), TYPE_A, [0, 0, 1]);
    bytes.extend(record(&[0], TYPE_OPT, 1232, 0x0100_0000, &[]));
    assert_eq!(DnsMessage::parse(&bytes).unwrap().rcode, 16);
}

#[test]
fn records_cut_off_leave_the_header_and_the_question() {
    let mut bytes = message(1, RESPONSE | 0x0203, &example_name(), TYPE_A, [9, 9, 9]);
    bytes.extend([0xc0]);
    let message = DnsMessage::parse(&bytes).unwrap();
    assert_eq!((message.rcode, message.truncated), (3, true));
    assert!(message.question.is_some());
}

#[test]
fn bytes_that_are_no_name_are_escaped() {
    let name = wire_name(&[b"a.b", b"\\\0 \xff", b"c-_*"]);
    let bytes = message(1, QUERY, &name, TYPE_A, [0; 3]);
    let expected = r"a\046b.\092\000\032\255.c-_*";
    assert_eq!(question_text(&bytes).as_deref(), Some(expected));
}

#[test]
fn the_root_is_a_dot() {
    let bytes = message(1, QUERY, &[0], 2, [0; 3]);
    assert_eq!(question_text(&bytes).as_deref(), Some("."));
}

#[test]
fn names_longer_than_the_limit_are_refused() {
    let longest = wire_name(&[&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]]);
    assert_eq!(longest.len(), name::MAX_WIRE_LENGTH);
    let text = question_text(&message(1, QUERY, &longest, TYPE_A, [0; 3])).unwrap();
    assert_eq!(text.len(), 253);
    let longer = wire_name(&[&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 62]]);
    let refused = DnsMessage::parse(&message(1, QUERY, &longer, TYPE_A, [0; 3])).err();
    assert_eq!(refused, Some(Malformed::Question));
}

#[test]
fn compression_pointers_that_lead_nowhere_are_refused() {
    let to_itself = [0xc0, 12];
    let forward = [0xc0, 20];
    let out_of_bounds = [0xff, 0xff];
    let around = [1, b'a', 0xc0, 12];
    let cut = [0xc0];
    let extended_label = [0x41, b'a', 0];
    for name in [
        &to_itself[..],
        &forward,
        &out_of_bounds,
        &around,
        &extended_label,
    ] {
        let bytes = message(1, QUERY, name, TYPE_A, [0; 3]);
        assert_eq!(
            DnsMessage::parse(&bytes).err(),
            Some(Malformed::Question),
            "{name:?}"
        );
    }
    let bytes = [&message(1, QUERY, &[], 0, [0; 3])[..12], &cut].concat();
    assert_eq!(DnsMessage::parse(&bytes).err(), Some(Malformed::Question));
}

#[test]
fn every_prefix_of_a_header_is_too_short() {
    let bytes = query(1);
    for length in 0..12 {
        assert_eq!(
            DnsMessage::parse(&bytes[..length]).err(),
            Some(Malformed::Header)
        );
    }
}

#[test]
fn an_answer_and_its_query_make_a_transaction() {
    let mut tracker = DnsTracker::default();
    assert_eq!(feed(&mut tracker, &query(7), 10 * MS), None);
    let transaction = feed(&mut tracker, &response(7, 3), 35 * MS).unwrap();
    assert_eq!(&*transaction.name, "www.example.com");
    assert_eq!(transaction.rcode, Some(3));
    assert_eq!(transaction.response_us, Some(25_000));
    assert_eq!(transaction.failure_cause(), None);
    assert_eq!(tracker.pending(), 0);
}

#[test]
fn a_retransmitted_query_is_one_transaction_timed_from_its_first_copy() {
    let mut tracker = DnsTracker::default();
    feed(&mut tracker, &query(7), 0);
    feed(&mut tracker, &query(7), 5_000 * MS);
    assert_eq!(tracker.expire(6_500 * MS), None);
    let transaction = feed(&mut tracker, &response(7, 0), 6_600 * MS).unwrap();
    assert_eq!(transaction.retransmitted_queries, 1);
    assert_eq!(transaction.response_us, Some(6_600_000));
}

#[test]
fn an_answer_to_another_question_does_not_count() {
    let mut tracker = DnsTracker::default();
    feed(&mut tracker, &query(7), 0);
    assert_eq!(feed(&mut tracker, &response(8, 0), MS), None);
    let other_type = message(7, RESPONSE, &example_name(), TYPE_AAAA, [0; 3]);
    assert_eq!(feed(&mut tracker, &other_type, MS), None);
    let other_name = message(7, RESPONSE, &wire_name(&[b"www"]), TYPE_A, [0; 3]);
    assert_eq!(feed(&mut tracker, &other_name, MS), None);
    assert_eq!((tracker.unmatched(), tracker.pending()), (3, 1));
}

#[test]
fn an_answer_without_a_question_is_matched_by_its_id() {
    let mut tracker = DnsTracker::default();
    feed(&mut tracker, &query(7), 0);
    let format_error = [0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let transaction = feed(&mut tracker, &format_error, MS).unwrap();
    assert_eq!(transaction.rcode, Some(1));
}

#[test]
fn a_query_without_an_answer_times_out_once() {
    let mut tracker = DnsTracker::default();
    feed(&mut tracker, &query(7), 0);
    assert_eq!(tracker.next_deadline_ns(), Some(QUERY_TIMEOUT_NS));
    assert_eq!(tracker.expire(QUERY_TIMEOUT_NS), None);
    let transaction = tracker.expire(QUERY_TIMEOUT_NS + 1).unwrap();
    assert_eq!((transaction.rcode, transaction.response_us), (None, None));
    assert_eq!(transaction.failure_cause(), Some("dns_timeout"));
    assert_eq!(tracker.expire(u64::MAX), None);
    assert_eq!(
        feed(&mut tracker, &response(7, 0), QUERY_TIMEOUT_NS + MS),
        None
    );
    assert_eq!(tracker.unmatched(), 1);
}

#[test]
fn the_oldest_of_too_many_queries_is_given_up_and_counted() {
    let mut tracker = DnsTracker::default();
    for id in 0..=16 {
        feed(&mut tracker, &query(id), u64::from(id));
    }
    assert_eq!((tracker.pending(), tracker.evicted()), (MAX_PENDING, 1));
    assert_eq!(feed(&mut tracker, &response(0, 0), MS), None);
    assert!(feed(&mut tracker, &response(1, 0), MS).is_some());
}

#[test]
fn failures_are_named() {
    for (rcode, cause) in [
        (0, None),
        (2, Some("dns_servfail")),
        (5, Some("dns_refused")),
    ] {
        let mut tracker = DnsTracker::default();
        feed(&mut tracker, &query(7), 0);
        let transaction = feed(&mut tracker, &response(7, rcode), MS).unwrap();
        assert_eq!(transaction.failure_cause(), cause);
    }
}

#[test]
fn a_message_too_long_to_keep_is_handed_on_as_its_front() {
    let mut framer = DnsTcpFramer::default();
    let mut lengths = Vec::new();
    let body = vec![1; 60_000];
    let stream = [&60_000u16.to_be_bytes()[..], &body, &[0, 0, 0, 1, 9]].concat();
    for chunk in stream.chunks(1460) {
        framer.feed(chunk, |message| lengths.push(message.len()));
    }
    assert_eq!(lengths, [MAX_KEPT, 1]);
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |message: &Vec<u8>| {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&length[..], message].concat()
    };
    messages.iter().flat_map(frame).collect()
}

proptest! {
    #[test]
    fn parsing_never_panics_and_text_stays_bounded(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Some(text) = question_text(&bytes) {
            prop_assert!(text.len() <= 1004 && text.is_ascii());
        }
    }

    #[test]
    fn names_made_of_pointers_never_panic(
        tail in prop::collection::vec(prop_oneof![Just(0xc0), 0..40u8], 0..300),
    ) {
        let mut bytes = message(1, RESPONSE, &[], 0, [40, 40, 40]);
        bytes.truncate(12);
        bytes.extend(tail);
        if let Some(text) = question_text(&bytes) {
            prop_assert!(text.len() <= 1004);
        }
    }

    #[test]
    fn the_same_name_is_found_however_its_case_is_mixed(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8),
    ) {
        let slices: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let mut tracker = DnsTracker::default();
        feed(&mut tracker, &message(7, QUERY, &wire_name(&slices), TYPE_A, [0; 3]), 0);
        let upper: Vec<Vec<u8>> = labels.iter().map(|label| label.to_ascii_uppercase()).collect();
        let slices: Vec<&[u8]> = upper.iter().map(Vec::as_slice).collect();
        let answer = message(7, RESPONSE, &wire_name(&slices), TYPE_A, [0; 3]);
        prop_assert!(feed(&mut tracker, &answer, 1).is_some());
    }

    #[test]
    fn framing_is_the_same_for_any_chunks(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 0..12),
        chunk_lengths in prop::collection::vec(1..700usize, 1..40),
    ) {
        let stream = framed(&messages);
        let (mut framer, mut got) = (DnsTcpFramer::default(), Vec::new());
        let mut rest = &stream[..];
        for length in chunk_lengths.into_iter().cycle() {
            let (chunk, after) = rest.split_at(length.min(rest.len()));
            framer.feed(chunk, |message| got.push(message.to_vec()));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, messages);
    }
}

proptest! {
    #[test]
    fn no_answer_makes_its_reader_panic(
        id: u16,
        counts in [0u16..40, 0u16..4, 0u16..4],
        kinds in proptest::collection::vec((0usize..6, 0u32..1000, any::<[u8; 20]>(), 0usize..20), 0..20),
        cut in 0usize..600,
    ) {
        let mut bytes = message(id, RESPONSE, &example_name(), TYPE_A, counts);
        let known = [TYPE_A, TYPE_CNAME, TYPE_AAAA, TYPE_HTTPS, TYPE_SVCB, TYPE_OPT];
        for (kind, ttl, data, length) in kinds {
            bytes.extend(record(&[0xc0, 12], known[kind], CLASS_IN, ttl, &data[..length]));
        }
        bytes.truncate(cut.max(40));
        if let Ok(message) = DnsMessage::parse(&bytes)
            && let Some(resolution) = Resolution::of(&message)
        {
            prop_assert!((1..=MAX_ADDRESSES).contains(&resolution.addresses().len()));
        }
    }
}
