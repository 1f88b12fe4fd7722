use super::super::micros;
use super::*;
use crate::flow::Direction::{Forward, Reverse};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const START_NS: u64 = 1_700_000_040_000 * MS;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;
/// What a segment of this size carries is called one segment below.
const MSS: u32 = 1000;

/// A segment; numbers count from the initial ones of its sender and of the other side.
#[derive(Debug, Clone, Default)]
struct Piece {
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
    len: u32,
    window: u16,
    timestamps: Option<(u32, u32)>,
    sack: Vec<(u32, u32)>,
    /// Options as bytes, whole words.
    options: Vec<u8>,
}

impl Piece {
    fn bytes(&self, initial: u32, other_initial: u32) -> Vec<u8> {
        let mut options = self.options.clone();
        if let Some((value, echo)) = self.timestamps {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if !self.sack.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for (start, end) in &self.sack {
                options.extend(other_initial.wrapping_add(*start).to_be_bytes());
                options.extend(other_initial.wrapping_add(*end).to_be_bytes());
            }
        }
        let mut bytes = vec![0x9c, 0x40, 1, 187];
        bytes.extend(initial.wrapping_add(self.sequence).to_be_bytes());
        let acknowledgment = other_initial.wrapping_add(self.acknowledgment);
        bytes.extend(acknowledgment.to_be_bytes());
        bytes.extend([((20 + options.len()) as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes
    }
}

fn piece(flags: u8, sequence: u32, acknowledgment: u32, len: u32) -> Piece {
    Piece {
        flags,
        sequence,
        acknowledgment,
        len,
        window: 60_000,
        ..Piece::default()
    }
}

/// Pure acknowledgment.
fn ack(sequence: u32, acknowledgment: u32) -> Piece {
    piece(ACK, sequence, acknowledgment, 0)
}

fn data(sequence: u32, acknowledgment: u32, len: u32) -> Piece {
    piece(ACK | PSH, sequence, acknowledgment, len)
}

impl Piece {
    fn stamped(self, value: u32, echo: u32) -> Self {
        let timestamps = Some((value, echo));
        Self { timestamps, ..self }
    }

    fn with_window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    fn with_sack(self, sack: &[(u32, u32)]) -> Self {
        let sack = sack.to_vec();
        Self { sack, ..self }
    }
}

/// A connection at the tap: 20 ms round trip to the server, 30 ms to the client.
#[derive(Default)]
struct Talk {
    connection: Connection,
    initial: [u32; 2],
}

impl Talk {
    fn send(&mut self, direction: Direction, ms: u64, piece: &Piece) -> bool {
        let mine = self.initial[direction.index()];
        let other = self.initial[direction.opposite().index()];
        let bytes = piece.bytes(mine, other);
        let wire_len = bytes.len() as u32 + piece.len;
        let segment = Segment::parse(&bytes, wire_len).expect("a whole header");
        self.connection
            .on_segment(direction, &segment, START_NS + ms * MS)
    }

    fn up(&mut self, ms: u64, piece: Piece) -> bool {
        self.send(Forward, ms, &piece)
    }

    fn down(&mut self, ms: u64, piece: Piece) -> bool {
        self.send(Reverse, ms, &piece)
    }

    fn is_reuse(&self, direction: Direction, piece: &Piece) -> bool {
        let bytes = piece.bytes(self.initial[direction.index()], 0);
        let segment = Segment::parse(&bytes, bytes.len() as u32).expect("a whole header");
        self.connection.is_reuse(direction, &segment)
    }

    /// What the client sent, and what the server sent.
    fn report(&mut self, ms: u64) -> [HalfReport; 2] {
        self.connection.take_report(START_NS + ms * MS, true)
    }
}

/// After the handshake, at 50 ms: the next numbers of both sides are 1.
fn opened_at(client: u32, server: u32) -> Talk {
    let initial = [client, server];
    let mut talk = Talk {
        initial,
        ..Talk::default()
    };
    talk.up(0, piece(SYN, 0, 0, 0));
    talk.down(20, piece(SYN | ACK, 0, 1, 0));
    talk.up(50, ack(1, 1));
    talk
}

fn opened() -> Talk {
    opened_at(1000, 9000)
}

/// Samples, and the least of them in microseconds.
fn trips(report: &HalfReport) -> (u32, Option<u32>) {
    let trips = &report.round_trips;
    (trips.count().unwrap_or(0), trips.min_us())
}

/// Retransmitted, lost before the tap, lost after it, out of order.
fn losses(report: &HalfReport) -> [u32; 4] {
    [
        report.retransmitted_packets,
        report.lost_before_tap,
        report.lost_after_tap,
        report.out_of_order_packets,
    ]
}

const NOTHING_LOST: [u32; 4] = [0; 4];

// Round trips.

#[test]
fn the_handshake_is_a_sample_of_each_side_and_the_same_figure_as_in_the_set_up() {
    let mut talk = opened();
    let handshake = talk.connection.handshake;
    assert_eq!(handshake.responder_us, Some(20_000));
    assert_eq!(handshake.initiator_us, Some(30_000));
    assert_eq!(handshake.setup_us, Some(50_000));
    let [to_server, to_client] = talk.report(60);
    assert_eq!(trips(&to_server), (1, Some(20_000)));
    assert_eq!(trips(&to_client), (1, Some(30_000)));
    assert_eq!(to_client.method, Method::Handshake);
}

#[test]
fn a_retransmitted_syn_leaves_its_answer_ambiguous_unless_timestamps_tell() {
    for (echo, sample) in [(None, None), (Some(5), None), (Some(6), Some(20_000))] {
        let mut talk = Talk::default();
        let syn = |value| echo.map_or_else(Piece::default, |_| Piece::default().stamped(value, 0));
        let syn = |value| Piece {
            flags: SYN,
            window: 60_000,
            ..syn(value)
        };
        talk.up(0, syn(5));
        talk.up(1000, syn(6));
        let answer = piece(SYN | ACK, 0, 1, 0);
        talk.down(
            1020,
            echo.map_or(answer.clone(), |echo| answer.stamped(70, echo)),
        );
        talk.up(1050, ack(1, 1));
        let handshake = talk.connection.handshake;
        assert_eq!(handshake.responder_us, sample, "echo {echo:?}");
        assert_eq!(handshake.setup_us, Some(1_050_000));
        let [to_server, _] = talk.report(1060);
        assert_eq!(trips(&to_server).1, sample);
    }
}

#[test]
fn a_final_ack_behind_missed_data_ends_the_handshake_but_times_nobody() {
    let mut talk = Talk::default();
    talk.up(0, piece(SYN, 0, 0, 0));
    talk.down(20, piece(SYN | ACK, 0, 1, 0));
    talk.up(800, data(501, 1, 500));
    let handshake = talk.connection.handshake;
    assert!(talk.connection.is_established());
    assert_eq!(handshake.initiator_us, None);
    assert_eq!(trips(&talk.report(900)[1]).0, 0);
}

#[test]
fn karns_rule_voids_what_a_retransmission_makes_ambiguous_on_either_side() {
    let mut talk = opened();
    talk.up(60, data(1, 1, 100));
    talk.up(360, data(1, 1, 100));
    talk.down(375, data(1, 101, 200));
    talk.down(675, data(1, 101, 200));
    talk.up(705, ack(101, 201));
    let [to_server, to_client] = talk.report(800);
    assert_eq!((trips(&to_server).0, trips(&to_client).0), (1, 1));
    assert_eq!(to_server.method, Method::Handshake);
}

#[test]
fn timestamps_save_the_sample_of_an_original_that_was_answered_late() {
    let mut talk = opened();
    talk.up(60, data(1, 1, 100).stamped(60, 1));
    talk.up(360, data(1, 1, 100).stamped(360, 1));
    talk.down(375, ack(1, 101).stamped(9375, 60));
    let [to_server, _] = talk.report(400);
    assert_eq!(trips(&to_server).0, 2);
    assert_eq!(
        losses(&to_server),
        [1, 0, 0, 0],
        "the copy was needless, by its echo"
    );
}

#[test]
fn timestamps_may_wrap_and_need_not_tick() {
    for (first, second) in [(u32::MAX - 50, 250), (77, 77)] {
        let mut talk = opened();
        talk.up(60, data(1, 1, 100).stamped(first, 1));
        talk.up(360, data(1, 1, 100).stamped(second, 1));
        talk.down(395, ack(1, 101).stamped(5, second));
        talk.up(400, data(101, 1, 100).stamped(second, 5));
        talk.down(420, ack(1, 201).stamped(5, second));
        let [to_server, _] = talk.report(500);
        assert_eq!(
            trips(&to_server),
            (2, Some(20_000)),
            "stamps {first}, {second}"
        );
        assert_eq!(losses(&to_server), [1, 0, 1, 0]);
    }
}

#[test]
fn a_delayed_acknowledgment_is_in_a_lone_segment_s_sample_and_not_in_a_pair_s() {
    let mut talk = opened();
    talk.down(100, data(1, 1, MSS));
    talk.up(230, ack(1, 1 + MSS));
    let [_, lone] = talk.connection.take_report(START_NS + 250 * MS, false);
    assert_eq!(lone.round_trips.min_us(), Some(30_000), "of the handshake");
    assert_eq!(
        trips(&lone).0,
        2,
        "and one of 130 ms, as the acknowledgment was delayed"
    );
    assert_eq!(
        lone.round_trips
            .median_us()
            .map(|us| us.div_ceil(1000).abs_diff(80) <= 1),
        Some(true)
    );
    talk.down(300, data(1 + MSS, 1, MSS));
    talk.down(302, data(1 + 2 * MSS, 1, MSS));
    talk.up(332, ack(1, 1 + 3 * MSS));
    let [_, pair] = talk.report(400);
    assert_eq!(trips(&pair), (1, Some(30_000)));
}

#[test]
fn what_waited_for_an_overtaken_segment_gives_no_sample() {
    let mut talk = opened();
    talk.up(100, data(1001, 1, MSS));
    talk.up(102, data(1, 1, MSS));
    talk.down(122, ack(1, 2001));
    let [to_server, _] = talk.report(200);
    assert_eq!(losses(&to_server), [0, 0, 0, 1]);
    assert_eq!(
        trips(&to_server),
        (1, Some(20_000)),
        "that of the handshake"
    );
}

// How connections begin.

#[test]
fn a_simultaneous_open_is_one_connection_with_a_round_trip_to_either_side() {
    let mut talk = Talk::default();
    talk.up(0, piece(SYN, 0, 0, 0));
    assert!(!talk.is_reuse(Reverse, &piece(SYN, 0, 0, 0)));
    talk.down(5, piece(SYN, 0, 0, 0));
    talk.down(20, piece(SYN | ACK, 0, 1, 0));
    talk.up(35, piece(SYN | ACK, 0, 1, 0));
    let handshake = talk.connection.handshake;
    assert_eq!(talk.connection.initiator, Some(Forward));
    assert_eq!(handshake.responder_us, Some(20_000));
    assert_eq!(handshake.initiator_us, Some(30_000));
    assert_eq!(handshake.setup_us, Some(35_000));
    talk.up(5000, data(1, 1, 100));
    talk.down(5020, ack(1, 101));
    let [to_server, to_client] = talk.report(5100);
    assert_eq!(trips(&to_server), (2, Some(20_000)));
    assert_eq!(
        trips(&to_client),
        (1, Some(30_000)),
        "the pause is no round trip"
    );
    assert_eq!(losses(&to_server), NOTHING_LOST);
}

#[test]
fn an_old_connection_s_acknowledgment_and_reset_say_nothing_of_the_new_one() {
    // The client has lost its state (half-open), or uses a port in TIME-WAIT: RFC 5961 4.
    let mut talk = Talk::default();
    talk.up(0, piece(SYN, 0, 0, 0));
    assert!(!talk.down(20, ack(50_000, 70_000)), "a challenge ACK");
    assert!(!talk.up(50, piece(RST, 70_000, 0, 0)));
    talk.up(1000, piece(SYN, 0, 0, 0));
    talk.down(1020, piece(SYN | ACK, 0, 1, 0));
    talk.up(1050, ack(1, 1));
    assert_eq!(talk.connection.reset, None);
    assert!(talk.connection.is_established());
    let [to_server, to_client] = talk.report(1100);
    assert!(!talk.connection.capture_loss());
    assert_eq!(
        (losses(&to_server), losses(&to_client)),
        (NOTHING_LOST, NOTHING_LOST)
    );
}

#[test]
fn a_syn_that_is_refused_and_then_answered_leaves_no_reset_behind() {
    let mut talk = Talk::default();
    talk.up(0, piece(SYN, 0, 0, 0));
    talk.down(20, piece(RST | ACK, 0, 1, 0));
    assert!(talk.connection.is_refused(Reverse));
    talk.up(500, piece(SYN, 0, 0, 0));
    talk.down(520, piece(SYN | ACK, 0, 1, 0));
    talk.up(550, ack(1, 1));
    assert!(talk.connection.reset.is_none() && talk.connection.is_established());
}

#[test]
fn a_syn_again_is_the_same_connection_and_one_with_another_number_is_not() {
    let mut talk = opened();
    let again = piece(SYN, 0, 0, 0);
    assert!(!talk.is_reuse(Forward, &again));
    talk.up(1000, again);
    talk.down(1020, piece(SYN | ACK, 0, 1, 0));
    talk.down(1021, ack(1, 1));
    talk.up(1100, data(1, 1, 100));
    let [to_server, to_client] = talk.report(1200);
    assert_eq!((trips(&to_server).0, trips(&to_client).0), (1, 1));
    assert_eq!(
        (losses(&to_server), losses(&to_client)),
        (NOTHING_LOST, NOTHING_LOST)
    );
    talk.up(2000, piece(FIN | ACK, 101, 1, 0));
    talk.down(2020, piece(FIN | ACK, 1, 102, 0));
    talk.up(2050, ack(102, 2));
    assert!(talk.is_reuse(Forward, &piece(SYN, 64_000, 0, 0)));
}

#[test]
fn of_two_servers_that_answer_one_syn_the_one_that_is_acknowledged_counts() {
    let mut talk = Talk::default();
    talk.up(0, piece(SYN, 0, 0, 0));
    talk.down(20, piece(SYN | ACK, 3_000_000_000, 1, 0));
    talk.down(1020, piece(SYN | ACK, 0, 1, 0));
    talk.up(1050, ack(1, 1));
    talk.down(1100, data(1, 1, 100));
    talk.up(1130, ack(1, 101));
    let [_, to_client] = talk.report(1200);
    assert_eq!(
        trips(&to_client),
        (1, Some(30_000)),
        "of the data; of the SYN-ACK which?"
    );
    assert!(!talk.connection.capture_loss());
}

#[test]
fn data_on_a_syn_is_sent_again_when_it_is_refused_and_was_not_lost() {
    for (accepted, retransmitted) in [(true, 0), (false, 1)] {
        let mut talk = Talk::default();
        talk.up(0, piece(SYN, 0, 0, 300));
        let up_to = if accepted { 301 } else { 1 };
        talk.down(20, piece(SYN | ACK, 0, up_to, 0));
        talk.up(50, ack(up_to, 1));
        if !accepted {
            talk.up(51, data(1, 1, 300));
        }
        talk.down(71, data(1, 301, 500));
        let [up, _] = talk.report(200);
        assert_eq!(losses(&up), [retransmitted, 0, 0, 0]);
        assert_eq!(up.retransmitted_bytes, 300 * retransmitted);
        assert_eq!(talk.connection.handshake.initiator_us, Some(30_000));
    }
}

#[test]
fn a_connection_seen_from_its_middle_is_measured_from_there() {
    let mut talk = Talk::default();
    talk.down(0, data(500_000, 2000, MSS));
    talk.up(30, ack(2000, 500_000 + MSS));
    talk.up(100, data(2000, 500_000 + MSS, 100));
    talk.down(120, ack(500_000 + MSS, 2100));
    let [to_server, to_client] = talk.report(200);
    assert_eq!(trips(&to_server), (1, Some(20_000)));
    assert_eq!(trips(&to_client), (1, Some(30_000)));
    assert!(!talk.connection.capture_loss() && !talk.connection.is_established());
}

// Keep-alives and probes.

#[test]
fn keep_alives_are_no_retransmissions_and_give_no_samples() {
    for (len, stamped) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut talk = opened();
        talk.up(60, data(1, 1, 100));
        talk.down(80, ack(1, 101));
        for beat in 1..10 {
            let ms = 75_000 * beat;
            let value = ms as u32;
            let (ask, answer) = (data(100, 1, len), ack(1, 101));
            if stamped {
                talk.up(ms, ask.stamped(value, value));
                talk.down(ms + 20, answer.stamped(value + 20, value));
            } else {
                talk.up(ms, ask);
                talk.down(ms + 20, answer);
            }
        }
        let [up, down] = talk.report(800_000);
        assert_eq!(losses(&up), NOTHING_LOST, "{len} bytes, stamped: {stamped}");
        assert_eq!(
            (trips(&up).0, trips(&down).0),
            (2, 1),
            "{len} bytes, stamped: {stamped}"
        );
        assert_eq!((down.duplicate_acks, up.pace.stall_us), (0, Some(0)));
    }
}

#[test]
fn a_connection_first_seen_by_its_keep_alive_has_lost_nothing() {
    for len in [0, 1] {
        let mut talk = Talk::default();
        talk.up(0, data(99, 1, len));
        talk.down(20, ack(1, 100));
        talk.up(1000, data(100, 1, 500));
        talk.down(1020, ack(1, 600));
        let [up, _] = talk.report(2000);
        assert_eq!(losses(&up), NOTHING_LOST);
        assert_eq!(trips(&up), (1, Some(20_000)), "that of the data");
        assert!(!talk.connection.capture_loss(), "{len} bytes");
    }
}

#[test]
fn probes_of_a_closed_window_are_no_retransmissions_whether_taken_in_or_not() {
    // Old number without data; the next byte, refused; the next byte, taken in with the last probe.
    for (sequence, len, taken_in) in [(1000, 0, false), (1001, 1, false), (1001, 1, true)] {
        let mut talk = opened();
        talk.down(100, data(1, 1, MSS));
        talk.up(130, ack(1, 1001).with_window(0));
        for probe in 0..3 {
            talk.down(400 + 300 * probe, data(sequence, 1, len));
            talk.up(430 + 300 * probe, ack(1, 1001).with_window(0));
        }
        let next = 1001 + u32::from(taken_in);
        talk.up(2000, ack(1, next));
        talk.down(2020, data(next, 1, MSS));
        talk.up(2050, ack(1, next + MSS));
        let [up, down] = talk.report(3000);
        assert_eq!(losses(&down), NOTHING_LOST, "{sequence}, {taken_in}");
        assert_eq!(up.zero_windows, 4);
        assert_eq!(
            trips(&down),
            (3, Some(30_000)),
            "handshake and two segments"
        );
        assert!(!talk.connection.capture_loss(), "{sequence}, {taken_in}");
    }
}

#[test]
fn a_window_is_scaled_by_fourteen_at_the_most_and_only_if_both_sides_scale() {
    let scaled = |shift| vec![1, 3, 3, shift];
    for (theirs, window) in [(scaled(0), Some(65_535 << 14)), (vec![], Some(65_535))] {
        let mut talk = Talk::default();
        let options = scaled(20);
        talk.up(
            0,
            Piece {
                options,
                ..piece(SYN, 0, 0, 0)
            },
        );
        let answer = piece(SYN | ACK, 0, 1, 0);
        talk.down(
            20,
            Piece {
                options: theirs,
                ..answer
            },
        );
        let bytes = ack(1, 1).with_window(65_535).bytes(0, 0);
        let segment = Segment::parse(&bytes, 20).expect("a whole header");
        assert_eq!(talk.connection.window(Forward, &segment), window);
    }
}

// Loss, reordering, duplication.

#[test]
fn a_loss_before_the_tap_and_one_behind_it_are_told_apart_in_each_direction() {
    for direction in Direction::BOTH {
        let mut talk = opened();
        let back = direction.opposite();
        talk.send(direction, 100, &data(1, 1, MSS));
        talk.send(direction, 101, &data(2001, 1, MSS));
        talk.send(back, 140, &ack(1, 1001));
        talk.send(direction, 200, &data(1001, 1, MSS));
        talk.send(back, 240, &ack(1, 3001));
        talk.send(direction, 300, &data(3001, 1, MSS));
        talk.send(direction, 600, &data(3001, 1, MSS));
        talk.send(back, 640, &ack(1, 4001));
        let mut reports = talk.report(700);
        reports.rotate_left(direction.index());
        let [lossy, clean] = reports;
        assert_eq!(losses(&lossy), [2, 1, 1, 0]);
        assert_eq!(lossy.retransmitted_bytes, 2 * MSS);
        assert_eq!(losses(&clean), NOTHING_LOST);
    }
}

#[test]
fn a_segment_that_the_network_doubles_is_neither_retransmission_nor_loss() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.up(101, data(1, 1, MSS));
    talk.down(120, ack(1, 1001));
    let [up, _] = talk.report(200);
    assert_eq!(losses(&up), NOTHING_LOST);
    assert_eq!(trips(&up).0, 2, "and it voids no sample");
}

#[test]
fn a_report_of_a_duplicate_takes_the_loss_back_but_not_the_retransmission() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.up(400, data(1, 1, MSS));
    talk.down(420, ack(1, 1001));
    talk.down(421, ack(1, 1001).with_sack(&[(1, 1001)]));
    let [up, _] = talk.report(500);
    assert_eq!(losses(&up), [1, 0, 0, 0]);
}

#[test]
fn what_the_receiver_reports_to_hold_was_not_lost_when_it_is_sent_again() {
    let mut talk = opened();
    for start in [1, 1001, 2001] {
        talk.up(100, data(start, 1, MSS));
    }
    talk.down(120, ack(1, 1).with_sack(&[(1001, 3001)]));
    talk.up(400, data(1, 1, MSS));
    talk.up(401, data(1001, 1, MSS));
    talk.down(421, ack(1, 3001));
    let [up, _] = talk.report(500);
    assert_eq!(losses(&up), [2, 0, 1, 0]);
}

#[test]
fn a_hole_across_the_wrap_of_sequence_numbers_is_a_hole_like_any_other() {
    for before_wrap in [1, 500, 1000, 1500, 2500] {
        let mut talk = opened_at(0_u32.wrapping_sub(before_wrap), u32::MAX);
        talk.up(100, data(1, 1, MSS));
        talk.up(101, data(2001, 1, MSS));
        talk.down(121, ack(1, 1001).with_sack(&[(2001, 3001)]));
        talk.up(400, data(1001, 1, MSS));
        talk.down(420, ack(1, 3001));
        let [up, _] = talk.report(500);
        assert_eq!(losses(&up), [1, 1, 0, 0], "{before_wrap} before the wrap");
        assert!(!talk.connection.capture_loss());
    }
}

#[test]
fn a_super_segment_over_bytes_seen_before_counts_only_those_as_sent_again() {
    let mut talk = opened();
    talk.down(100, data(1, 1, MSS));
    talk.down(101, data(1 + MSS, 1, MSS));
    // The first is sent again, then all of it in one piece with 58 kB of new data behind it.
    talk.down(400, data(1, 1, MSS));
    talk.down(700, data(1, 1, 60_000));
    talk.up(730, ack(1, 60_001));
    let [_, down] = talk.report(800);
    assert_eq!(
        (down.retransmitted_packets, down.retransmitted_bytes),
        (2, 3 * MSS)
    );
    assert!(down.lost_after_tap <= 2 && down.lost_before_tap == 0);
    assert_eq!(
        trips(&down),
        (2, Some(30_000)),
        "its new end was sent once only"
    );
    assert!(!talk.connection.capture_loss());
}

#[test]
fn a_super_segment_that_fills_a_hole_is_one_loss_before_the_tap() {
    let mut talk = opened();
    talk.down(100, data(1, 1, MSS));
    talk.down(101, data(2001, 1, MSS));
    talk.down(102, data(4001, 1, MSS));
    talk.down(400, data(1001, 1, 60_000));
    talk.up(430, ack(1, 61_001));
    let [_, down] = talk.report(500);
    assert_eq!(losses(&down), [1, 1, 0, 0]);
    assert!(down.retransmitted_bytes <= 4000);
}

#[test]
fn a_fin_sent_again_is_a_packet_without_payload_sent_again() {
    let mut talk = opened();
    talk.up(100, piece(FIN | ACK, 1, 1, 0));
    talk.up(400, piece(FIN | ACK, 1, 1, 0));
    talk.down(420, ack(1, 2));
    talk.up(700, piece(FIN | ACK, 1, 1, 0));
    let [up, _] = talk.report(800);
    assert_eq!((up.retransmitted_packets, up.retransmitted_bytes), (2, 0));
    assert_eq!(up.lost_after_tap, 1, "the third had arrived");
    let mut talk = opened();
    talk.up(100, piece(FIN | ACK, 1, 1, 500));
    talk.up(400, piece(FIN | ACK, 1, 1, 500));
    let [up, _] = talk.report(800);
    assert_eq!((up.retransmitted_packets, up.retransmitted_bytes), (1, 500));
}

#[test]
fn urgent_data_is_data() {
    let mut talk = opened();
    talk.up(100, piece(ACK | URG, 1, 1, 1));
    talk.down(120, ack(1, 2));
    talk.up(200, piece(ACK | URG, 2, 1, 100));
    talk.down(220, ack(1, 102));
    let [up, _] = talk.report(300);
    assert_eq!((trips(&up), losses(&up)), ((3, Some(20_000)), NOTHING_LOST));
}

#[test]
fn bytes_that_are_acknowledged_but_were_never_seen_are_the_capture_s_loss() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.down(120, ack(1, 5001));
    talk.up(200, data(5001, 1, MSS));
    talk.down(220, ack(1, 6001));
    let [up, _] = talk.report(300);
    assert!(talk.connection.capture_loss());
    assert_eq!(losses(&up), NOTHING_LOST);
    assert_eq!(
        trips(&up),
        (2, Some(20_000)),
        "of the handshake and the last"
    );
}

#[test]
fn a_challenge_ack_amid_a_transfer_is_no_progress_and_no_sample() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.down(110, ack(1, 1));
    talk.down(120, ack(1, 1001));
    talk.down(500, ack(1, 1));
    talk.up(510, data(1001, 1, MSS));
    talk.down(530, ack(1, 2001));
    let [up, down] = talk.report(600);
    assert_eq!((trips(&up), losses(&up)), ((3, Some(20_000)), NOTHING_LOST));
    assert_eq!(down.duplicate_acks, 1);
    assert!(!talk.connection.capture_loss());
}

#[test]
fn a_gap_of_gigabytes_in_the_capture_is_passed_and_said() {
    for gap in [1_500_000_000, 2_500_000_000_u32] {
        let mut talk = opened();
        let mut next = 1;
        for ms in 0..100 {
            talk.down(100 + 100 * ms, data(next, 1, MSS));
            next = next.wrapping_add(MSS);
            talk.up(130 + 100 * ms, ack(1, next));
            if ms == 50 {
                next = next.wrapping_add(gap);
            }
        }
        let [_, down] = talk.report(20_000);
        assert!(talk.connection.capture_loss());
        assert_eq!(losses(&down), NOTHING_LOST, "gap of {gap}");
        assert!(trips(&down).0 > 85, "{} samples", trips(&down).0);
    }
}

#[test]
fn one_segment_from_outside_of_any_window_changes_nothing() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.up(101, piece(FIN | ACK, 3_000_000_000, 1, 100));
    talk.down(120, ack(1, 1001));
    talk.up(200, data(1001, 1, MSS));
    talk.down(220, ack(1, 2001));
    let [up, _] = talk.report(300);
    assert_eq!((trips(&up), losses(&up)), ((3, Some(20_000)), NOTHING_LOST));
    assert!(!talk.connection.any_fin() && !talk.connection.capture_loss());
}

// One direction alone.

#[test]
fn of_data_alone_retransmissions_are_counted_and_neither_time_nor_stall_is_guessed() {
    let mut talk = Talk::default();
    talk.down(0, data(1, 1, MSS));
    talk.down(1, data(2001, 1, MSS));
    talk.down(300, data(1001, 1, MSS));
    talk.down(20_000, data(3001, 1, MSS));
    talk.down(21_000, data(3001, 1, MSS));
    let [up, down] = talk.report(60_000);
    assert_eq!(losses(&down), [2, 1, 1, 0]);
    assert_eq!((trips(&up).0, trips(&down).0), (0, 0));
    assert_eq!(down.pace.stall_us, None);
    assert!(!talk.connection.capture_loss());
}

#[test]
fn of_acknowledgments_alone_no_stall_and_no_loss_is_invented() {
    for initial in [5, 0x9000_0000] {
        let mut talk = Talk {
            initial: [1, initial],
            ..Talk::default()
        };
        for step in 0..10 {
            talk.up(5000 * u64::from(step), ack(1, 1 + step * MSS));
        }
        let [up, down] = talk.report(60_000);
        assert_eq!((up.pace.stall_us, down.pace.stall_us), (Some(0), Some(0)));
        assert_eq!((losses(&up), losses(&down)), (NOTHING_LOST, NOTHING_LOST));
        assert!(!talk.connection.capture_loss());
    }
}

// Waiting.

#[test]
fn a_transfer_that_stands_still_stalls_and_an_unanswered_syn_or_fin_does_not() {
    let mut talk = opened();
    talk.down(100, data(1, 1, MSS));
    talk.down(2000, data(1, 1, MSS));
    talk.up(4100, ack(1, 1001));
    assert_eq!(talk.report(9000)[1].pace.stall_us, Some(4_000_000));
    let mut talk = Talk::default();
    for ms in [0, 1000, 3000] {
        talk.up(ms, piece(SYN, 0, 0, 0));
    }
    assert_eq!(talk.report(60_000)[0].pace.stall_us, Some(0));
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.up(101, piece(FIN | ACK, 1001, 1, 0));
    talk.down(120, ack(1, 1001));
    talk.up(5000, piece(FIN | ACK, 1001, 1, 0));
    assert_eq!(talk.report(60_000)[0].pace.stall_us, Some(0));
}

// Resets.

#[test]
fn what_a_reset_carries_is_no_payload_and_no_sample() {
    let mut talk = opened();
    talk.up(100, data(1, 1, MSS));
    talk.down(120, piece(RST | ACK, 1, 1001, 40));
    let [up, down] = talk.report(200);
    assert_eq!((trips(&up).0, losses(&down)), (1, NOTHING_LOST));
    let reset = talk.connection.reset.expect("there was one");
    assert!(reset.by == Reverse && reset.unfinished && !reset.is_injected());
}

#[test]
fn a_reset_that_its_receiver_discards_ends_nothing() {
    let mut talk = opened();
    talk.up(100, data(1, 1, 100));
    talk.down(110, piece(RST, 2_000_000_000, 0, 0));
    assert!(talk.connection.reset.is_some_and(|r| r.sequence_mismatch));
    talk.down(120, data(1, 101, MSS));
    talk.up(150, ack(101, 1001));
    assert!(
        talk.connection.reset.is_some_and(|r| r.sender_continues),
        "what was under way proves nothing"
    );
    talk.down(1500, data(1001, 101, MSS));
    talk.up(1530, ack(101, 2001));
    assert_eq!(talk.connection.reset, None);
}

// Whatever comes.

fn any_piece() -> impl Strategy<Value = (bool, u64, Piece)> {
    let number = prop_oneof![0..5000_u32, any::<u32>(), Just(u32::MAX), Just(1 << 30)];
    let stamps = prop::option::of((any::<u32>(), any::<u32>()));
    let sack = prop::collection::vec((0..9000_u32, 0..9000_u32), 0..3);
    let len = prop_oneof![
        Just(0),
        Just(1),
        0..3000_u32,
        Just(60_000),
        Just(u32::MAX / 2)
    ];
    let time = prop_oneof![0..3000_u64, any::<u32>().prop_map(u64::from)];
    let numbers = (number.clone(), number, len);
    let rest = (any::<u8>(), any::<u16>(), stamps, sack);
    (any::<bool>(), time, numbers, rest).prop_map(|(up, ms, numbers, rest)| {
        let (sequence, acknowledgment, len) = numbers;
        let (flags, window, timestamps, sack) = rest;
        let mut made = piece(flags, sequence, acknowledgment, len).with_sack(&sack);
        made.timestamps = timestamps.filter(|_| sack.is_empty());
        (up, ms, made.with_window(window & 0x3))
    })
}

proptest! {
    #[test]
    fn whatever_segments_come_counters_never_exceed_packets(
        pieces in prop::collection::vec(any_piece(), 1..120),
        initial: [u32; 2],
        shake_hands: bool,
    ) {
        let mut talk = Talk { initial, ..Talk::default() };
        if shake_hands {
            talk = opened_at(initial[0], initial[1]);
        }
        let mut packets = [2, 1];
        let mut payload = [0_u64; 2];
        for (up, ms, piece) in &pieces {
            let direction = if *up { Forward } else { Reverse };
            talk.send(direction, *ms, piece);
            packets[direction.index()] += 1;
            payload[direction.index()] += u64::from(piece.len);
        }
        let reports = talk.report(5_000_000_000);
        for (index, report) in reports.iter().enumerate() {
            let sent = packets[index];
            let lost = report.lost_before_tap + report.lost_after_tap;
            prop_assert!(lost <= report.retransmitted_packets);
            prop_assert!(report.retransmitted_packets + report.out_of_order_packets <= sent);
            prop_assert!(u64::from(report.retransmitted_bytes) <= payload[index]);
            prop_assert!(report.duplicate_acks <= sent && report.zero_windows <= sent);
            let samples = report.round_trips.count().unwrap_or(0);
            prop_assert!(samples <= packets[1 - index], "a packet ends one round trip at most");
        }
    }

    #[test]
    fn no_time_and_no_cut_header_is_too_much(
        segments in prop::collection::vec((prop::collection::vec(any::<u8>(), 20..60), any::<u32>(), any::<u64>(), any::<bool>()), 1..60),
    ) {
        let mut connection = Connection::default();
        for (bytes, wire_len, time_ns, up) in &segments {
            if let Some(segment) = Segment::parse(bytes, *wire_len) {
                let direction = if *up { Forward } else { Reverse };
                let _ = connection.is_reuse(direction, &segment);
                connection.on_segment(direction, &segment, *time_ns);
                let _ = (connection.is_stalled(direction, *time_ns), connection.is_finished());
            }
        }
        let [one, other] = connection.take_report(u64::MAX, true);
        prop_assert!(one.lost_after_tap + other.lost_after_tap <= segments.len() as u32);
        prop_assert_eq!(micros(1, 0), 0);
    }
}
