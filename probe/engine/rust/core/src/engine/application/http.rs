//! HTTP/1.x on one connection: from segments to requests, statuses and failures.

use super::Report;
use super::median::Median;
use crate::app::http::{Event, HttpTracker, Opening, Response, Switch};
use crate::engine::evidence::Evidence;
use crate::engine::failure::Failure;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::stream::{Reassembler, Segment, Status};

/// HTTP/1.x on one connection.
#[derive(Debug)]
pub struct Http {
    tracker: HttpTracker,
    /// The opener's bytes, then the other side's.
    streams: [Reassembler; 2],
    /// One more than the highest sequence number seen of each side.
    ends: [Option<u32>; 2],
    /// Where a message begins among the bytes that wait behind a hole.
    heads_behind: [Option<u32>; 2],
    facts: Facts,
}

/// What the messages said.
#[derive(Debug, Default)]
struct Facts {
    host: Option<Box<str>>,
    failure: Option<Box<Failure>>,
    is_http: bool,
    interval: HttpInterval,
}

/// The messages of one interval.
#[derive(Debug, Default)]
struct HttpInterval {
    requests: u32,
    failed: u32,
    worst_status: Option<u16>,
    first_bytes: Median,
}

impl Http {
    pub fn new(starts: [Option<u32>; 2]) -> Self {
        Self {
            tracker: HttpTracker::default(),
            streams: starts.map(stream_from),
            ends: [None; 2],
            heads_behind: [None; 2],
            facts: Facts::default(),
        }
    }

    /// A connection whose first bytes came out of order: `streams` hold those that wait.
    pub fn taking_over(streams: [Reassembler; 2]) -> Self {
        Self {
            streams: streams.map(Reassembler::without_end),
            ..Self::new([None; 2])
        }
    }

    /// A connection that is read from the next head of each side on.
    pub fn under_way() -> Self {
        let mut http = Self::new([None; 2]);
        http.tracker.lose(true);
        http.tracker.lose(false);
        http
    }

    /// Takes in a segment's payload, and its acknowledgment of the other side's bytes.
    pub fn on_segment(&mut self, by_opener: bool, piece: Segment<'_>, acknowledged: Option<u32>) {
        if let Some(number) = acknowledged {
            self.acknowledge(!by_opener, number, piece.time_ns);
        }
        if piece.wire_len == 0 {
            return;
        }
        let is_new = self.note_end(by_opener, &piece);
        if is_new && self.tracker.is_lost(by_opener) && begins_message(by_opener, piece.data) {
            self.streams[usize::from(!by_opener)] = stream_from(Some(piece.sequence));
            self.tracker.resume(by_opener);
        }
        if !self.tracker.is_deaf(by_opener) {
            self.read(by_opener, piece);
        }
    }

    fn acknowledge(&mut self, of_opener: bool, number: u32, time_ns: u64) {
        if self.tracker.is_deaf(of_opener) {
            return;
        }
        let status = self.streams[usize::from(!of_opener)].acknowledge(number, time_ns);
        if matches!(status, Status::Lost(_)) {
            self.go_on_behind_hole(of_opener, time_ns);
        }
    }

    fn read(&mut self, by_opener: bool, piece: Segment<'_>) {
        let Self {
            tracker,
            streams,
            facts,
            ..
        } = self;
        let side = usize::from(!by_opener);
        let stream = &mut streams[side];
        let status = stream.push_skipping(piece, |bytes| {
            tracker.feed(by_opener, bytes, piece.time_ns, &mut |event| {
                facts.note(event);
            })
        });
        let waits = stream.waits() || matches!(status, Status::Lost(_));
        if !waits {
            self.heads_behind[side] = None;
        } else if begins_message(by_opener, piece.data) && stream.is_ahead(piece.sequence) {
            self.heads_behind[side].get_or_insert(piece.sequence);
        }
        if matches!(status, Status::Lost(_)) {
            self.go_on_behind_hole(by_opener, piece.time_ns);
        }
    }

    /// Gives up the bytes that are missing. When the message behind them came is not known any more,
    /// so no wait is taken from it.
    fn go_on_behind_hole(&mut self, by_opener: bool, time_ns: u64) {
        let Self {
            tracker,
            streams,
            heads_behind,
            facts,
            ..
        } = self;
        tracker.lose(by_opener);
        let side = usize::from(!by_opener);
        let Some(sequence) = heads_behind[side].take() else {
            streams[side] = stream_from(None);
            return;
        };
        tracker.resume(by_opener);
        streams[side].resume_at(sequence, |bytes| {
            tracker.feed(by_opener, bytes, time_ns, &mut |event| facts.note(event))
        });
    }

    /// Whether all bytes of the segment are newer than those seen before it.
    fn note_end(&mut self, by_opener: bool, piece: &Segment<'_>) -> bool {
        let known = &mut self.ends[usize::from(!by_opener)];
        let end = piece.sequence.wrapping_add(piece.wire_len);
        let is_after = |from: u32, to: u32| to.wrapping_sub(from).cast_signed() >= 0;
        let is_new = known.is_none_or(|known| is_after(known, piece.sequence));
        if known.is_none_or(|known| is_after(known, end)) {
            *known = Some(end);
        }
        is_new
    }

    /// The first bytes of the client looked like a request and were none.
    pub fn is_something_else(&self) -> bool {
        !self.facts.is_http && self.tracker.is_lost(true)
    }

    /// What the connection carries from now on, and where that begins: the sequence numbers of each
    /// side's first byte, opener first.
    pub fn switch(&self, by_opener: bool) -> Option<(Switch, [Option<u32>; 2])> {
        let switch = self.tracker.switch()?;
        let mut starts = [0, 1].map(|side: usize| self.streams[side].next());
        // Less than a segment's payload.
        let unread = self.tracker.unread() as u32;
        let side = usize::from(!by_opener);
        starts[side] = starts[side].map(|next| next.wrapping_sub(unread));
        Some((switch, starts))
    }

    pub fn failure(&self) -> Option<Failure> {
        self.facts.failure.as_deref().copied()
    }

    /// A request was sent whose answer has not begun.
    pub fn is_waiting(&self) -> bool {
        self.tracker.is_waiting()
    }

    /// Bytes are missing of an answer whose length was stated.
    pub fn owes_bytes(&self) -> bool {
        let end = self.ends[1];
        end.is_some_and(|end| self.streams[1].skips_beyond(end))
    }

    /// An answer has begun, and its end was not seen.
    pub fn is_answer_incomplete(&self) -> bool {
        self.owes_bytes() || self.tracker.is_amid_answer()
    }

    pub fn take_report<'a>(&'a mut self, report: &mut Report<'a>) {
        let interval = std::mem::take(&mut self.facts.interval);
        report.app_protocol = Some("http");
        report.server_name = self.facts.host.as_deref();
        report.server_name_source = report.server_name.map(|_| "host");
        report.time_to_first_byte_us = interval.first_bytes.value();
        report.http_status = interval.worst_status;
        report.requests = Some(interval.requests);
        report.requests_failed = Some(interval.failed);
    }
}

impl Facts {
    fn note(&mut self, event: Event) {
        self.is_http = true;
        match event {
            Event::Request => self.interval.requests += 1,
            Event::Host(host) => {
                self.host.get_or_insert(host);
            }
            Event::Response(response) => self.note_response(response),
        }
    }

    fn note_response(&mut self, response: Response) {
        let interval = &mut self.interval;
        interval.worst_status = worse_status(interval.worst_status, response.status);
        if let Some(us) = response.first_byte_us {
            interval.first_bytes.add(us);
        }
        if let Some(failure) = failure_of(response) {
            interval.failed += 1;
            self.failure.get_or_insert_with(|| Box::new(failure));
        }
    }
}

/// Whether a segment begins with a request of the opener, or a response of the other side.
pub fn begins_message(by_opener: bool, bytes: &[u8]) -> bool {
    match Opening::of(bytes) {
        Some(Opening::Request) => by_opener,
        Some(Opening::Response) => !by_opener,
        _ => false,
    }
}

fn stream_from(start: Option<u32>) -> Reassembler {
    let mut stream = Reassembler::endless();
    if let Some(start) = start {
        stream.start_at(start);
    }
    stream
}

/// Statuses that are steps of ordinary use: log in (401, 407), not allowed or not there (403, 404,
/// 410), changed meanwhile (412), already there to the last byte (416).
fn is_ordinary(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 407 | 410 | 412 | 416)
}

/// The worse of two statuses: a server's error before a client's, that before one of ordinary use,
/// a redirection before success; of two as bad the first.
fn worse_status(known: Option<u16>, new: u16) -> Option<u16> {
    let badness = |status: u16| match status {
        500..=599 => 5,
        400..=499 if !is_ordinary(status) => 4,
        400..=499 => 3,
        300..=399 => 2,
        200..=299 => 1,
        _ => 0,
    };
    known
        .filter(|&known| badness(known) >= badness(new))
        .or(Some(new))
}

/// The failure that a status stands for, if it stands for one.
///
/// 408 is also what servers say to a connection that was opened ahead of need and carried nothing.
/// Where a request was there, it did not come in whole: whether for the device or for the way, the
/// status does not say.
fn failure_of(response: Response) -> Option<Failure> {
    let status = response.status;
    let (cause, side) = match status {
        500..=599 => (FailureCause::HttpServerError, Some(FailureSide::Server)),
        408 if response.is_awaited => (FailureCause::HttpClientError, None),
        408 => return None,
        400..=499 if !is_ordinary(status) => {
            (FailureCause::HttpClientError, Some(FailureSide::Device))
        }
        _ => return None,
    };
    Some(Failure {
        cause,
        stage: FailureStage::Request,
        side,
        evidence: Evidence::NONE.and_number("http_status", status.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPENER: bool = true;
    const OTHER: bool = false;
    const NS_PER_MS: u64 = 1_000_000;
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A connection under test: both sides' sequence numbers start at 0.
    struct Wire {
        http: Http,
        sent: [u32; 2],
        ms: u64,
    }

    impl Wire {
        fn new() -> Self {
            Self {
                http: Http::new([Some(0); 2]),
                sent: [0; 2],
                ms: 0,
            }
        }

        /// Sends a payload that the capture cut to `captured` bytes, a millisecond later.
        fn send_cut(&mut self, by_opener: bool, payload: &[u8], captured: usize) {
            let side = usize::from(!by_opener);
            let sequence = self.sent[side];
            self.sent[side] = sequence.wrapping_add(payload.len() as u32);
            self.ms += 1;
            let piece = Segment {
                sequence,
                data: &payload[..captured.min(payload.len())],
                wire_len: payload.len() as u32,
                time_ns: self.ms * NS_PER_MS,
            };
            let acknowledged = Some(self.sent[1 - side]);
            self.http.on_segment(by_opener, piece, acknowledged);
        }

        fn send(&mut self, by_opener: bool, payload: &[u8]) {
            self.send_cut(by_opener, payload, usize::MAX);
        }

        /// Sends bytes that the capture misses.
        fn miss(&mut self, by_opener: bool, count: u32) {
            let side = usize::from(!by_opener);
            self.sent[side] = self.sent[side].wrapping_add(count);
        }

        /// (requests, failed, worst status, median wait in ms)
        fn told(&mut self) -> (u32, u32, Option<u16>, Option<u32>) {
            let mut report = Report::default();
            self.http.take_report(&mut report);
            (
                report.requests.unwrap(),
                report.requests_failed.unwrap(),
                report.http_status,
                report.time_to_first_byte_us.map(|us| us / 1000),
            )
        }
    }

    #[test]
    fn each_interval_tells_its_own_requests() {
        let mut wire = Wire::new();
        for answer in [OK, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", OK] {
            wire.send(OPENER, GET);
            wire.send(OTHER, answer);
        }
        assert_eq!(wire.told(), (3, 0, Some(404), Some(1)));
        assert_eq!(wire.told(), (0, 0, None, None));
        wire.send(OPENER, GET);
        wire.ms += 9;
        wire.send(OTHER, OK);
        assert_eq!(wire.told(), (1, 0, Some(200), Some(10)));
    }

    #[test]
    fn the_worst_status_is_the_one_that_hurts_most() {
        let worst = |statuses: &[u16]| {
            let fold = |known, status: &u16| worse_status(known, *status);
            statuses.iter().fold(None, fold)
        };
        assert_eq!(worst(&[200, 304, 200]), Some(304));
        assert_eq!(worst(&[404, 302, 401]), Some(404));
        assert_eq!(worst(&[404, 400, 403]), Some(400));
        assert_eq!(worst(&[429, 502, 503, 404]), Some(502));
        assert_eq!(worst(&[101, 204]), Some(204));
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn ordinary_statuses_are_no_failures() {
        let failure = |status| {
            failure_of(Response {
                status,
                first_byte_us: None,
                is_awaited: true,
            })
        };
        for status in [101, 200, 206, 301, 304, 401, 403, 404, 407, 410, 412, 416] {
            assert_eq!(failure(status), None, "{status}");
        }
        for (status, cause, side) in [
            (
                400,
                FailureCause::HttpClientError,
                Some(FailureSide::Device),
            ),
            (408, FailureCause::HttpClientError, None),
            (
                429,
                FailureCause::HttpClientError,
                Some(FailureSide::Device),
            ),
            (
                500,
                FailureCause::HttpServerError,
                Some(FailureSide::Server),
            ),
            (
                577,
                FailureCause::HttpServerError,
                Some(FailureSide::Server),
            ),
        ] {
            let found = failure(status).expect("it is one");
            assert_eq!((found.cause, found.side), (cause, side), "{status}");
            assert_eq!(found.evidence.to_string(), format!("http_status_{status}"));
        }
    }

    #[test]
    fn a_server_that_gives_up_an_idle_connection_has_not_failed() {
        let mut wire = Wire::new();
        wire.send(OTHER, b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(wire.told(), (0, 0, Some(408), None));
        assert_eq!(wire.http.failure(), None);
    }

    #[test]
    fn a_body_that_the_capture_missed_hides_nothing_behind_it() {
        let mut wire = Wire::new();
        wire.send(OPENER, GET);
        wire.send(OTHER, b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n");
        wire.miss(OTHER, 90_000);
        wire.send(OPENER, GET);
        wire.send(OTHER, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(wire.told(), (2, 1, Some(503), Some(1)));
    }

    #[test]
    fn heads_that_the_capture_cut_are_read_as_far_as_they_go() {
        let mut wire = Wire::new();
        for status in ["200", "500"] {
            wire.send_cut(OPENER, GET, 24);
            let answer = format!("HTTP/1.1 {status} OK\r\nContent-Length: 4000\r\n\r\n");
            wire.ms += 4;
            wire.send_cut(OTHER, answer.as_bytes(), 24);
            for _ in 0..4 {
                wire.send_cut(OTHER, &[b'x'; 1000], 24);
            }
        }
        assert_eq!(wire.told(), (2, 1, Some(500), Some(5)));
    }

    #[test]
    fn behind_a_hole_reading_goes_on_where_a_segment_begins_a_message() {
        let mut wire = Wire::new();
        wire.send(OPENER, GET);
        wire.miss(OTHER, 500);
        wire.send(OTHER, b"the rest of a body");
        wire.send(OPENER, GET);
        wire.send(OTHER, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        wire.ms += 200;
        // The answer waited behind the hole: it counts, but when it came is not known.
        wire.send(OPENER, GET);
        assert_eq!(wire.told(), (3, 1, Some(503), None));
        wire.send(OTHER, OK);
        assert_eq!(wire.told(), (0, 0, Some(200), Some(1)));
    }

    #[test]
    fn an_answer_that_is_sent_again_is_counted_once() {
        let mut wire = Wire::new();
        wire.send(OPENER, GET);
        let (at, answer) = (wire.sent[1], b"HTTP/1.1 500 No\r\n\r\n");
        wire.send(OTHER, answer);
        wire.sent[1] = at;
        wire.send(OTHER, answer);
        assert_eq!(wire.told(), (1, 1, Some(500), Some(1)));
    }

    #[test]
    fn what_only_begins_like_a_request_is_something_else() {
        let mut wire = Wire::new();
        wire.send(OPENER, b"GET ");
        assert!(!wire.http.is_something_else());
        wire.send(OPENER, b"\x00\x01 what a pity\n");
        assert!(wire.http.is_something_else());
    }

    #[test]
    fn a_tunnel_begins_behind_the_bytes_that_granted_it() {
        let mut wire = Wire::new();
        wire.send(OPENER, b"CONNECT a.example:443 HTTP/1.1\r\n\r\n");
        wire.send(OTHER, b"HTTP/1.1 200 Go\r\n\r\nhello");
        let starts = [34, 19].map(Some);
        assert_eq!(wire.http.switch(OTHER), Some((Switch::Tunnel, starts)));
    }

    /// A stream in segments of these lengths: where each begins, and what it holds.
    fn segments(stream: &[u8], lengths: &[usize]) -> Vec<(u32, Vec<u8>)> {
        let (mut rest, mut at, mut found) = (stream, 0, Vec::new());
        for length in lengths.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*length));
            found.push((at, piece.to_vec()));
            at += piece.len() as u32;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        found
    }

    /// Two requests, and two answers of which the second failed, in segments in an order of their own.
    fn shuffled() -> impl Strategy<Value = [Vec<(u32, Vec<u8>)>; 2]> {
        let requests = [GET, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"].concat();
        let answers = [OK, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"].concat();
        let shuffle = |stream: Vec<u8>| {
            prop::collection::vec(8..90usize, 1..6)
                .prop_flat_map(move |lengths| Just(segments(&stream, &lengths)).prop_shuffle())
        };
        [shuffle(requests), shuffle(answers)]
    }

    proptest! {
        #[test]
        fn segments_in_any_order_tell_the_same(sides in shuffled()) {
            let mut wire = Wire::new();
            for (by_opener, segments) in [OPENER, OTHER].into_iter().zip(sides) {
                for (sequence, data) in segments {
                    wire.http.on_segment(by_opener, Segment {
                        sequence,
                        data: &data,
                        wire_len: data.len() as u32,
                        time_ns: if by_opener { 0 } else { 5 * NS_PER_MS },
                    }, None);
                }
            }
            prop_assert_eq!(wire.told(), (2, 1, Some(503), Some(5)));
        }
    }
}
