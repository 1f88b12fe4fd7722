use super::*;
use proptest::prelude::*;

const NS_PER_S: u64 = 1_000_000_000;

fn segment(sequence: u32, data: &[u8], time_ns: u64) -> Segment<'_> {
    Segment {
        sequence,
        data,
        wire_len: u32::try_from(data.len()).unwrap(),
        time_ns,
    }
}

fn push(stream: &mut Reassembler, got: &mut Vec<u8>, segment: Segment<'_>) -> Status {
    stream.push(segment, |bytes| got.extend_from_slice(bytes))
}

#[test]
fn in_order_payload_is_handed_through_in_place() {
    let mut stream = Reassembler::default();
    stream.start_at(u32::MAX - 1);
    let payload = [1, 2, 3, 4, 5];
    let mut handed_over = None;
    stream.push(segment(u32::MAX - 1, &payload, 0), |bytes| {
        handed_over = Some(bytes.as_ptr())
    });
    assert_eq!(handed_over, Some(payload.as_ptr()));
}

#[test]
fn bytes_behind_a_hole_come_after_the_hole_is_filled() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(100);
    assert_eq!(
        push(&mut stream, &mut got, segment(103, b"def", 0)),
        Status::Open
    );
    assert!(got.is_empty());
    push(&mut stream, &mut got, segment(100, b"abc", 1));
    assert_eq!(got, b"abcdef");
}

#[test]
fn a_keep_alive_and_a_retransmission_add_nothing() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(100);
    push(&mut stream, &mut got, segment(100, b"abc", 0));
    push(&mut stream, &mut got, segment(100, b"abc", 1));
    push(&mut stream, &mut got, segment(102, b"\0", 2));
    assert_eq!(got, b"abc");
}

#[test]
fn mid_stream_starts_at_the_first_byte_seen() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    push(&mut stream, &mut got, segment(7_000, b"", 0));
    push(&mut stream, &mut got, segment(5_000, b"ab", 1));
    push(&mut stream, &mut got, segment(4_999, b"!ab", 2));
    push(&mut stream, &mut got, segment(5_002, b"cd", 3));
    assert_eq!(got, b"abcd");
}

#[test]
fn only_the_prefix_is_handed_over() {
    let (mut stream, mut got) = (Reassembler::new(4), Vec::new());
    stream.start_at(0);
    push(&mut stream, &mut got, segment(2, b"cdef", 0));
    assert_eq!(
        push(&mut stream, &mut got, segment(0, b"ab", 0)),
        Status::Complete
    );
    assert_eq!(
        push(&mut stream, &mut got, segment(6, b"gh", 0)),
        Status::Complete
    );
    assert_eq!(got, b"abcd");
}

#[test]
fn too_much_behind_a_hole_is_lost() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    let data = vec![0; MAX_BUFFERED - 1];
    assert_eq!(
        push(&mut stream, &mut got, segment(1, &data, 0)),
        Status::Open
    );
    let beyond = u32::try_from(MAX_BUFFERED).unwrap();
    let status = push(&mut stream, &mut got, segment(beyond, b"x", 0));
    assert_eq!(status, Status::Lost(Lost::BufferFull));
    push(&mut stream, &mut got, segment(0, b"x", 0));
    assert!(got.is_empty());
}

#[test]
fn too_many_stretches_behind_holes_are_lost() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    let stretches = u32::try_from(MAX_STRETCHES).unwrap();
    for index in 1..=stretches {
        assert_eq!(
            push(&mut stream, &mut got, segment(index * 2, b"x", 0)),
            Status::Open
        );
    }
    let status = push(&mut stream, &mut got, segment(stretches * 2 + 2, b"x", 0));
    assert_eq!(status, Status::Lost(Lost::BufferFull));
}

#[test]
fn a_hole_that_stands_too_long_is_lost() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    push(&mut stream, &mut got, segment(5, b"x", 0));
    assert_eq!(
        push(&mut stream, &mut got, segment(6, b"y", HOLE_TIMEOUT_NS)),
        Status::Open
    );
    let status = push(&mut stream, &mut got, segment(7, b"z", HOLE_TIMEOUT_NS + 1));
    assert_eq!(status, Status::Lost(Lost::HoleTimeout));
}

#[test]
fn a_hole_that_is_filled_starts_no_clock_for_the_next_one() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    push(&mut stream, &mut got, segment(1, b"b", 0));
    push(&mut stream, &mut got, segment(0, b"a", NS_PER_S));
    let late = HOLE_TIMEOUT_NS + 2 * NS_PER_S;
    assert_eq!(
        push(&mut stream, &mut got, segment(3, b"d", late)),
        Status::Open
    );
    push(&mut stream, &mut got, segment(2, b"c", late));
    assert_eq!(got, b"abcd");
}

#[test]
fn bytes_acknowledged_but_never_captured_are_given_up_early() {
    let mut stream = Reassembler::default();
    stream.start_at(0);
    assert_eq!(stream.acknowledge(50, 0), Status::Open);
    assert_eq!(
        stream.acknowledge(60, ACKNOWLEDGED_HOLE_TIMEOUT_NS),
        Status::Open
    );
    let status = stream.acknowledge(60, ACKNOWLEDGED_HOLE_TIMEOUT_NS + 1);
    assert_eq!(status, Status::Lost(Lost::HoleTimeout));
}

#[test]
fn an_acknowledgement_of_a_fin_or_of_reordered_bytes_is_no_loss() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    stream.acknowledge(3, 0);
    push(&mut stream, &mut got, segment(0, b"abc", 1_000));
    stream.acknowledge(4, 2_000);
    assert_eq!(stream.acknowledge(4, 60 * NS_PER_S), Status::Open);
    assert_eq!(got, b"abc");
}

#[test]
fn a_cut_segment_gives_its_bytes_and_ends_the_stream() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    let cut = Segment {
        wire_len: 100,
        ..segment(0, b"abc", 0)
    };
    assert_eq!(push(&mut stream, &mut got, cut), Status::Lost(Lost::Cut));
    assert_eq!(got, b"abc");
}

#[test]
fn a_cut_behind_a_hole_ends_the_stream_when_it_is_reached() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    let cut = Segment {
        wire_len: 100,
        ..segment(3, b"def", 0)
    };
    assert_eq!(push(&mut stream, &mut got, cut), Status::Open);
    let status = push(&mut stream, &mut got, segment(0, b"abc", 0));
    assert_eq!(status, Status::Lost(Lost::Cut));
    assert_eq!(got, b"abcdef");
}

#[test]
fn a_cut_that_a_retransmission_makes_good_is_forgotten() {
    let (mut stream, mut got) = (Reassembler::default(), Vec::new());
    stream.start_at(0);
    let cut = Segment {
        wire_len: 3,
        ..segment(1, b"b", 0)
    };
    push(&mut stream, &mut got, cut);
    assert_eq!(
        push(&mut stream, &mut got, segment(0, b"abcd", 0)),
        Status::Open
    );
    assert_eq!(
        push(&mut stream, &mut got, segment(4, b"ef", 0)),
        Status::Open
    );
    assert_eq!(got, b"abcdef");
}

/// A stream and the pieces that it is sent in: all of it, some of it twice, in any order.
fn shuffled_stream() -> impl Strategy<Value = (Vec<u8>, Vec<Range<usize>>)> {
    let stream = prop::collection::vec(any::<u8>(), 1..4000);
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..24);
    let again = prop::collection::vec(any::<[prop::sample::Index; 2]>(), 0..8);
    (stream, cuts, again)
        .prop_map(|(stream, cuts, again)| {
            let pieces = pieces(stream.len(), &cuts, &again);
            (stream, pieces)
        })
        .prop_flat_map(|(stream, pieces)| (Just(stream), Just(pieces).prop_shuffle()))
}

fn pieces(
    length: usize,
    cuts: &[prop::sample::Index],
    again: &[[prop::sample::Index; 2]],
) -> Vec<Range<usize>> {
    let mut edges: Vec<usize> = cuts.iter().map(|cut| cut.index(length)).collect();
    edges.extend([0, length]);
    edges.sort_unstable();
    let once = edges.windows(2).map(|pair| pair[0]..pair[1]);
    let twice = again.iter().map(|[a, b]| {
        let (a, b) = (a.index(length), b.index(length));
        a.min(b)..a.max(b)
    });
    once.chain(twice).collect()
}

proptest! {
    #[test]
    fn any_split_order_and_repetition_gives_the_same_stream(
        (stream, pieces) in shuffled_stream(),
        before_wrap in 0..4000u32,
    ) {
        let start = 0u32.wrapping_sub(before_wrap);
        let (mut reassembler, mut got) = (Reassembler::default(), Vec::new());
        reassembler.start_at(start);
        for piece in pieces {
            let sequence = start.wrapping_add(u32::try_from(piece.start).unwrap());
            let status = push(&mut reassembler, &mut got, segment(sequence, &stream[piece], 0));
            prop_assert_eq!(status, Status::Open);
        }
        prop_assert_eq!(got, stream);
    }

    #[test]
    fn hostile_segments_keep_the_bounds(
        prefix in 0..40_000u32,
        segments in prop::collection::vec(
            (any::<u32>(), 0..3000usize, 0..4000u32, any::<u64>(), any::<Option<u32>>()), 0..80),
    ) {
        let payload = vec![7; 3000];
        let (mut reassembler, mut got) = (Reassembler::new(prefix), Vec::new());
        for (sequence, length, wire_len, time_ns, acknowledgement) in segments {
            let sequence = sequence % 70_000;
            let data = &payload[..length];
            let hostile = Segment { sequence, data, wire_len, time_ns };
            reassembler.push(hostile, |bytes| got.extend_from_slice(bytes));
            if let Some(number) = acknowledgement {
                reassembler.acknowledge(number, time_ns);
            }
            prop_assert!(reassembler.held.bytes.len() <= MAX_BUFFERED);
            prop_assert!(reassembler.held.stretches.len() <= MAX_STRETCHES);
        }
        prop_assert!(got.len() <= prefix as usize);
        prop_assert!(got.iter().all(|byte| *byte == 7), "a hole was handed over as bytes");
    }
}

/// Reads lengths: a byte says how many bytes behind it are not wanted, until 255 ends the stream.
fn read_skipping(got: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while let Some(&length) = bytes.get(at) {
        got.push(length);
        at += 1 + usize::from(length);
    }
    at.saturating_sub(bytes.len()) as u64
}

#[test]
fn a_skip_longer_than_sequence_numbers_reach_ends_where_it_should() {
    const FIVE_GIB: u64 = 5 << 30;
    let (mut reassembler, mut got) = (Reassembler::endless(), Vec::new());
    let push = |reassembler: &mut Reassembler, at: u64, data: &[u8], got: &mut Vec<Vec<u8>>| {
        let piece = segment(at as u32, data, 0);
        reassembler.push_skipping(piece, |bytes| {
            got.push(bytes.to_vec());
            if got.len() == 1 { FIVE_GIB } else { 0 }
        })
    };
    push(&mut reassembler, 0, b"head", &mut got);
    for position in (0..FIVE_GIB).step_by(1 << 26) {
        push(&mut reassembler, 4 + position, &[0; 1000], &mut got);
    }
    let status = push(&mut reassembler, 4 + FIVE_GIB - 2, b"xxnext", &mut got);
    assert_eq!(got, [&b"head"[..], b"next"]);
    assert_eq!(status, Status::Open);
}

#[test]
fn what_is_skipped_may_be_missing_or_cut() {
    let (mut reassembler, mut got) = (Reassembler::endless(), Vec::new());
    let mut push = |sequence: u32, data: &[u8], wire_len: u32| {
        let piece = Segment {
            sequence,
            data,
            wire_len,
            time_ns: 0,
        };
        reassembler.push_skipping(piece, |bytes| {
            got.extend_from_slice(bytes);
            if bytes == b"head" { 2000 } else { 0 }
        })
    };
    assert_eq!(push(0, b"head", 1004), Status::Open);
    // 500 bytes are never seen.
    assert_eq!(push(1504, b"", 500), Status::Open);
    assert_eq!(push(2004, b"next", 4), Status::Open);
    assert_eq!(got, b"headnext");
}

proptest! {
    #[test]
    fn what_is_skipped_does_not_depend_on_split_or_order(
        lengths in prop::collection::vec(0..200u8, 1..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        before_wrap in 0..4000u32,
    ) {
        let stream: Vec<u8> = lengths
            .iter()
            .flat_map(|&length| std::iter::once(length).chain(vec![99; usize::from(length)]))
            .collect();
        let start = 0u32.wrapping_sub(before_wrap);
        let (mut reassembler, mut got) = (Reassembler::endless(), Vec::new());
        reassembler.start_at(start);
        let mut ranges = pieces(stream.len(), &cuts, &[]);
        ranges.reverse();
        for range in ranges {
            let sequence = start.wrapping_add(u32::try_from(range.start).unwrap());
            let piece = segment(sequence, &stream[range], 0);
            reassembler.push_skipping(piece, |bytes| read_skipping(&mut got, bytes));
        }
        prop_assert_eq!(got, lengths);
    }
}
