use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn address(last: u8) -> Address {
    Address::v4([172, 16, 0, last])
}

fn signal(message_type: u8, from: u8, to: u8, sequence: u16) -> TunnelSignal {
    TunnelSignal {
        source: address(from),
        destination: address(to),
        message_type,
        teid: 0,
        sequence: Some(sequence),
        peer: None,
    }
}

fn round_trips<const N: usize>(all_us: [u64; N]) -> RoundTrips {
    let mut round_trips = RoundTrips::default();
    all_us.into_iter().for_each(|us| round_trips.add(us));
    round_trips
}

/// A path 1 -> 2 on which nothing happened.
fn quiet() -> PathReport {
    PathReport::new((address(1), address(2)))
}

/// What is reported at `now_ns` after the given (type, from, to, sequence, time).
fn reports(signals: &[(u8, u8, u8, u16, u64)], now_ns: u64) -> Vec<PathReport> {
    let mut paths = Paths::default();
    for &(message_type, from, to, sequence, time_ns) in signals {
        paths.on_signal(&signal(message_type, from, to, sequence), time_ns);
    }
    paths.drain(now_ns)
}

#[test]
fn a_response_gives_the_round_trip_of_its_request() {
    let signals = [
        (ECHO_REQUEST, 1, 2, 7, 0),
        (ECHO_RESPONSE, 2, 1, 7, 3 * MS),
        (ECHO_REQUEST, 1, 2, 8, 60 * SECOND),
        (ECHO_RESPONSE, 2, 1, 8, 60 * SECOND + 5 * MS),
    ];
    let expected = PathReport {
        echo_requests: 2,
        echo_responses: 2,
        echo_rtt: round_trips([3_000, 5_000]),
        ..quiet()
    };
    assert_eq!(reports(&signals, 61 * SECOND), [expected]);
}

#[test]
fn each_direction_is_a_path_of_its_own_in_a_fixed_order() {
    let signals = [
        (ECHO_REQUEST, 2, 1, 7, 0),
        (ECHO_REQUEST, 1, 2, 7, 0),
        (ECHO_RESPONSE, 2, 1, 7, MS),
        (ECHO_RESPONSE, 1, 2, 7, 4 * MS),
    ];
    let found = reports(&signals, SECOND);
    let ends: Vec<_> = found
        .iter()
        .map(|report| (report.source, report.destination))
        .collect();
    assert_eq!(ends, [(address(1), address(2)), (address(2), address(1))]);
    assert_eq!(found[0].echo_rtt.sum_us, 1_000);
    assert_eq!(found[1].echo_rtt.sum_us, 4_000);
}

#[test]
fn a_retransmitted_request_gives_no_round_trip() {
    let signals = [
        (ECHO_REQUEST, 1, 2, 7, 0),
        (ECHO_REQUEST, 1, 2, 7, 3 * SECOND),
        (ECHO_RESPONSE, 2, 1, 7, 3 * SECOND + MS),
    ];
    let expected = PathReport {
        echo_requests: 2,
        echo_responses: 1,
        ..quiet()
    };
    assert_eq!(reports(&signals, 20 * SECOND), [expected]);
}

#[test]
fn copies_by_the_capture_are_counted_once() {
    let signals = [
        (ECHO_REQUEST, 1, 2, 7, 0),
        (ECHO_REQUEST, 1, 2, 7, 1000),
        (ECHO_RESPONSE, 2, 1, 7, MS),
        (ECHO_REQUEST, 1, 2, 7, MS),
        (ECHO_RESPONSE, 2, 1, 7, 2 * MS),
    ];
    let expected = PathReport {
        echo_requests: 1,
        echo_responses: 1,
        echo_rtt: round_trips([1_000]),
        ..quiet()
    };
    assert_eq!(reports(&signals, SECOND), [expected]);
}

#[test]
fn a_request_without_response_is_unanswered_once_it_is_late() {
    let signals = [(ECHO_REQUEST, 1, 2, 7, 0)];
    let waiting = PathReport {
        echo_requests: 1,
        ..quiet()
    };
    assert_eq!(
        reports(&signals, 10 * SECOND),
        std::slice::from_ref(&waiting)
    );
    let late = PathReport {
        echo_unanswered: 1,
        ..waiting
    };
    assert_eq!(reports(&signals, 10 * SECOND + 1), [late]);
}

#[test]
fn a_response_out_of_nowhere_is_counted_without_a_round_trip() {
    let signals = [
        (ECHO_RESPONSE, 2, 1, 7, 5),
        (ECHO_REQUEST, 1, 2, 8, 9),
        (2, 2, 1, 8, 3),
    ];
    let expected = PathReport {
        echo_requests: 1,
        echo_responses: 2,
        ..quiet()
    };
    assert_eq!(reports(&signals, 10), [expected]);
}

#[test]
fn more_echoes_than_are_waited_for_count_as_unanswered() {
    let mut paths = Paths::default();
    for sequence in 0..10 {
        paths.on_signal(&signal(ECHO_REQUEST, 1, 2, sequence), 0);
    }
    let expected = PathReport {
        echo_requests: 10,
        echo_unanswered: 6,
        ..quiet()
    };
    assert_eq!(paths.drain(0), [expected]);
}

#[test]
fn error_indications_and_end_markers_are_their_senders() {
    let signals = [
        (ERROR_INDICATION, 1, 2, 0, 5),
        (END_MARKER, 1, 2, 0, 6),
        (31, 1, 2, 0, 7),
    ];
    let expected = PathReport {
        error_indications: 1,
        end_markers: 1,
        ..quiet()
    };
    assert_eq!(reports(&signals, 10), [expected]);
}

#[test]
fn a_report_holds_only_what_happened_since_the_last() {
    let mut paths = Paths::default();
    paths.on_signal(&signal(END_MARKER, 1, 2, 0), 0);
    assert_eq!(
        paths.drain(1),
        [PathReport {
            end_markers: 1,
            ..quiet()
        }]
    );
    assert_eq!(paths.drain(2), []);
    paths.on_signal(&signal(END_MARKER, 1, 2, 0), 3);
    paths.on_signal(&signal(END_MARKER, 1, 2, 0), 3);
    assert_eq!(
        paths.drain(4),
        [PathReport {
            end_markers: 2,
            ..quiet()
        }]
    );
}

#[test]
fn silent_paths_are_forgotten_and_full_tables_refuse_new_ones() {
    let mut paths = Paths::new(PathLimits {
        paths: 2,
        ..PathLimits::default()
    });
    for destination in 2..7 {
        paths.on_signal(&signal(END_MARKER, 1, destination, 0), SECOND);
    }
    assert_eq!((paths.len(), paths.shed()), (2, 3));
    assert_eq!(paths.drain(601 * SECOND).len(), 2);
    assert_eq!(paths.len(), 2);
    assert!(paths.drain(601 * SECOND + 1).is_empty());
    assert!(paths.is_empty());
}

#[test]
fn a_path_with_a_time_far_ahead_does_not_stay_for_ever() {
    let mut paths = Paths::default();
    paths.on_signal(&signal(ECHO_REQUEST, 1, 2, 7), u64::MAX);
    let expected = PathReport {
        echo_requests: 1,
        echo_unanswered: 1,
        ..quiet()
    };
    assert_eq!(paths.drain(SECOND), [expected]);
    assert!(paths.is_empty());
}

proptest! {
    #[test]
    fn any_signals_in_any_time_order_keep_the_sums_consistent(
        signals in prop::collection::vec((0..40_u8, 0..3_u8, 0..3_u8, 0..6_u16, any::<u64>()), 0..100),
    ) {
        let mut paths = Paths::new(PathLimits { paths: 4, ..PathLimits::default() });
        for &(message_type, from, to, sequence, time_ns) in &signals {
            paths.on_signal(&signal(message_type, from, to, sequence), time_ns);
        }
        for report in paths.drain(u64::MAX) {
            prop_assert!(report.echo_rtt.samples <= report.echo_responses);
            prop_assert!(report.echo_rtt.samples + report.echo_unanswered <= report.echo_requests);
            prop_assert_eq!(report.echo_rtt.min_us.is_some(), report.echo_rtt.samples > 0);
        }
    }
}

#[test]
fn what_was_tunnelled_is_told_once_and_alone_makes_a_report() {
    let mut paths = Paths::default();
    let mut traffic = Traffic::default();
    traffic.counted.packets = 5;
    paths.on_traffic((address(1), address(2)), traffic, 0);
    let told = paths.drain(0);
    assert_eq!(told, [PathReport { traffic, ..quiet() }]);
    assert!(paths.drain(0).is_empty());
}
