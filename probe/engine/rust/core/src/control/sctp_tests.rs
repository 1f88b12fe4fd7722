//! SCTP as a tap sees it: bundled, fragmented, repeated, cut.

use proptest::prelude::*;

use super::*;

const ENB: Address = Address(1);
const MME: Address = Address(2);
const S1AP: u32 = 18;
const NGAP: u32 = 60;

/// What a DATA chunk has beside its bytes: B and E as one number (3: both), TSN, stream, payload.
#[derive(Clone, Copy)]
struct Head(u8, u32, u16, u32);

fn chunk(Head(flags, tsn, stream, payload): Head, bytes: &[u8]) -> Vec<u8> {
    let length = 16 + bytes.len() as u16;
    let mut chunk = vec![0, flags];
    chunk.extend(length.to_be_bytes());
    chunk.extend(tsn.to_be_bytes());
    chunk.extend(stream.to_be_bytes());
    chunk.extend([0, 0]);
    chunk.extend(payload.to_be_bytes());
    chunk.extend(bytes);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let ports = [0x8e, 0x3c, 0x8e, 0x3c];
    [&ports[..], &tag.to_be_bytes(), &[0; 4], &chunks.concat()].concat()
}

type Given = Vec<(Payload, Vec<u8>)>;

fn feed(sctp: &mut Sctp, packet: &[u8], now_ns: u64, given: &mut Given) {
    sctp.on_packet(ENB, MME, packet, now_ns, |payload, bytes| {
        given.push((payload, bytes.to_vec()));
    });
}

/// What is given of these packets, of one association and one millisecond apart.
fn given(packets: &[Vec<u8>]) -> (Given, Counters) {
    let mut sctp = Sctp::new(Limits::default());
    let mut given = Given::new();
    for (number, packet) in packets.iter().enumerate() {
        feed(&mut sctp, packet, number as u64 * 1_000_000, &mut given);
    }
    (given, sctp.counters())
}

#[test]
fn bundled_messages_are_each_given() {
    let sack = vec![3, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let chunks = [
        sack,
        chunk(Head(3, 10, 1, S1AP), b"one"),
        chunk(Head(3, 11, 2, NGAP), b"two"),
    ];
    let (given, counters) = given(&[packet(7, &chunks)]);
    let wanted = vec![
        (Payload::S1ap, b"one".to_vec()),
        (Payload::Ngap, b"two".to_vec()),
    ];
    assert_eq!(given, wanted);
    assert_eq!(counters, Counters::default());
}

#[test]
fn a_repeated_chunk_is_given_once() {
    let one = chunk(Head(3, u32::MAX, 1, S1AP), b"one");
    let two = chunk(Head(3, 0, 1, S1AP), b"two");
    let packets = [
        packet(7, std::slice::from_ref(&two)),
        packet(7, std::slice::from_ref(&one)),
        packet(7, &[one.clone(), two]),
    ];
    let (found, counters) = given(&packets);
    assert_eq!(found.len(), 2);
    assert_eq!(counters.repeated, 2);
    // Another tag is another association, or the same one after a restart.
    let (found, _) = given(&[packet(7, std::slice::from_ref(&one)), packet(8, &[one])]);
    assert_eq!(found.len(), 2);
}

#[test]
fn numbers_far_back_belong_to_an_association_that_began_anew() {
    let message = |tsn| packet(7, &[chunk(Head(3, tsn, 1, S1AP), b"one")]);
    let (found, counters) = given(&[message(10_000), message(1), message(2), message(1)]);
    assert_eq!((found.len(), counters.repeated), (3, 1));
}

#[test]
fn a_fragment_of_an_association_that_began_anew_takes_the_place_of_the_old() {
    let packets = [
        packet(7, &[chunk(Head(2, 4, 1, S1AP), b"old")]),
        packet(7, &[chunk(Head(3, 5000, 1, S1AP), b"one")]),
        packet(7, &[chunk(Head(2, 4, 1, S1AP), b"ne")]),
        packet(7, &[chunk(Head(1, 5, 1, S1AP), b"w")]),
    ];
    let mut sctp = Sctp::new(Limits::default());
    let mut found = Given::new();
    for packet in &packets {
        feed(&mut sctp, packet, 0, &mut found);
    }
    assert_eq!(found.last(), Some(&(Payload::S1ap, b"new".to_vec())));
    assert_eq!(
        (sctp.held(), sctp.counters().fragments_shed),
        ((1, 0, 0), 1)
    );
}

#[test]
fn fragments_make_a_message_in_any_order() {
    let fragments = [
        packet(7, &[chunk(Head(2, 4, 1, NGAP), b"be")]),
        packet(7, &[chunk(Head(0, 5, 1, NGAP), b"gi")]),
        packet(7, &[chunk(Head(1, 6, 1, NGAP), b"n")]),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let packets = order.map(|at| fragments[at].clone());
        let (found, counters) = given(&packets);
        assert_eq!(found, vec![(Payload::Ngap, b"begin".to_vec())]);
        assert_eq!(counters, Counters::default());
    }
}

#[test]
fn fragments_of_different_messages_are_not_put_together() {
    let packets = [
        packet(7, &[chunk(Head(2, 4, 1, S1AP), b"be")]),
        packet(7, &[chunk(Head(1, 5, 2, S1AP), b"end")]),
    ];
    let (found, counters) = given(&packets);
    assert_eq!(found, Given::new());
    assert_eq!(counters.fragments_shed, 2);
}

#[test]
fn what_cannot_be_read_is_counted_by_reason() {
    let good = chunk(Head(3, 4, 1, S1AP), b"good");
    let cut = packet(7, &[good.clone(), good.clone()]);
    let mut too_short = good.clone();
    too_short[3] = 16;
    let mut no_header = good.clone();
    no_header[3] = 3;
    let packets = [
        cut[..cut.len() - 2].to_vec(),
        vec![0; 11],
        packet(7, &[too_short]),
        packet(7, &[no_header]),
        packet(7, &[chunk(Head(3, 5, 1, 66), b"DTLS")]),
    ];
    let (found, counters) = given(&packets);
    assert_eq!(found.len(), 1);
    let wanted = Counters {
        other: 1,
        truncated: 2,
        malformed: 2,
        ..Counters::default()
    };
    assert_eq!(counters, wanted);
}

#[test]
fn a_message_without_end_stays_within_bounds() {
    let mut sctp = Sctp::new(Limits::default());
    let mut found = Given::new();
    for tsn in 0..3 * MAX_WAITING as u32 {
        let flags = if tsn == 0 { 2 } else { 0 };
        let fragment = packet(7, &[chunk(Head(flags, tsn, 1, S1AP), &[0; 1000])]);
        feed(&mut sctp, &fragment, tsn.into(), &mut found);
        let (_, fragments, bytes) = sctp.held();
        assert!(fragments <= MAX_WAITING && bytes <= MAX_WAITING_BYTES);
    }
    let (_, fragments, _) = sctp.held();
    let shed = sctp.counters().fragments_shed;
    assert_eq!(shed + fragments as u64, 3 * MAX_WAITING as u64);
    assert_eq!(found, Given::new());
}

#[test]
fn the_oldest_fragments_and_the_stalest_directions_make_room() {
    let limits = Limits {
        directions: 3,
        fragments: 2,
        bytes: 100,
    };
    let mut sctp = Sctp::new(limits);
    let mut found = Given::new();
    for tag in 0..10 {
        let fragment = packet(tag, &[chunk(Head(2, 1, 1, S1AP), &[0; 40])]);
        feed(&mut sctp, &fragment, tag.into(), &mut found);
        let (directions, fragments, bytes) = sctp.held();
        assert!(directions <= 3 && fragments <= 2 && bytes <= 100);
    }
    assert_eq!(sctp.counters().directions_shed, 7);
    let end = packet(9, &[chunk(Head(1, 2, 1, S1AP), &[1; 40])]);
    feed(&mut sctp, &end, 10, &mut found);
    assert_eq!(found.len(), 1, "the newest is still there");
    let mut nothing = Sctp::new(Limits {
        directions: 0,
        ..limits
    });
    feed(&mut nothing, &end, 0, &mut found);
    assert_eq!((found.len(), nothing.counters().directions_shed), (1, 1));
}

/// What a receiver knows: each number once.
fn model(numbers: &[u32]) -> Vec<bool> {
    let mut seen = std::collections::HashSet::new();
    numbers.iter().map(|number| seen.insert(*number)).collect()
}

proptest! {
    #[test]
    fn within_the_window_each_number_is_new_once(
        start: u32,
        steps in proptest::collection::vec(0u32..400, 1..200),
    ) {
        let numbers: Vec<_> = steps.iter().map(|step| start.wrapping_add(*step)).collect();
        let mut seen = Seen::default();
        let found: Vec<_> = numbers.iter().map(|number| seen.is_new(*number)).collect();
        prop_assert_eq!(found, model(&numbers));
    }

    #[test]
    fn a_message_is_the_same_however_it_is_fragmented(
        message in proptest::collection::vec(any::<u8>(), 1..400),
        size in 1usize..200,
        start: u32,
        rotation in 0usize..8,
    ) {
        let pieces: Vec<_> = message.chunks(size.max(message.len() / 100 + 1)).collect();
        let last = pieces.len() - 1;
        let mut packets: Vec<_> = pieces
            .iter()
            .enumerate()
            .map(|(number, bytes)| {
                let flags = u8::from(number == 0) << 1 | u8::from(number == last);
                let tsn = start.wrapping_add(number as u32);
                packet(7, &[chunk(Head(flags, tsn, 1, S1AP), bytes)])
            })
            .collect();
        packets.rotate_left(rotation % (last + 1));
        let (found, counters) = given(&packets);
        prop_assert_eq!(found, vec![(Payload::S1ap, message)]);
        prop_assert_eq!(counters, Counters::default());
    }

    #[test]
    fn no_bytes_cause_a_panic(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
    ) {
        given(&packets);
    }
}

#[test]
fn a_message_that_is_never_whole_is_given_up() {
    const MINUTE_NS: u64 = 60 * 1_000_000_000;
    let (mut sctp, mut found) = (Sctp::new(Limits::default()), Given::new());
    for (number, minute) in [(1, 0), (5, 1)] {
        let first = packet(7, &[chunk(Head(2, number, 1, S1AP), b"begun")]);
        feed(&mut sctp, &first, minute * MINUTE_NS, &mut found);
    }
    sctp.expire(MINUTE_NS);
    assert_eq!(sctp.held(), (1, 2, 10));
    sctp.expire(MINUTE_NS + 1);
    assert_eq!(sctp.held(), (1, 1, 5));
    let rest = packet(7, &[chunk(Head(1, 6, 1, S1AP), b" and ended")]);
    feed(&mut sctp, &rest, MINUTE_NS + 2, &mut found);
    assert_eq!(found, [(Payload::S1ap, b"begun and ended".to_vec())]);
    assert_eq!(sctp.counters().fragments_shed, 1);
    sctp.expire(u64::MAX);
    assert_eq!(sctp.held(), (1, 0, 0));
}
