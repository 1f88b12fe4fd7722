//! DNS on one flow, over UDP or TCP: queries, their answers, and those that never came.

use super::{Report, reassemblers};
use crate::app::dns::{self, DnsMessage, DnsTcpFramer, DnsTracker, Transaction};
use crate::engine::failure::Failure;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::stream::{self, Reassembler};

/// DNS on one flow.
#[derive(Debug, Default)]
pub struct Dns {
    tracker: DnsTracker,
    /// Over TCP: the bytes of each side, opener first.
    tcp: Option<[(Reassembler, DnsTcpFramer); 2]>,
    query: Option<Box<str>>,
    pub failure: Option<Failure>,
    answered: bool,
    /// Queries that went unanswered before any answer was seen on this flow.
    silent: u32,
    interval: DnsInterval,
}

/// The answers of one interval.
#[derive(Debug, Default)]
struct DnsInterval {
    requests: u32,
    failed: u32,
    worst_rcode: Option<u16>,
    slowest_us: Option<u32>,
}

impl Dns {
    pub fn over_tcp(starts: [Option<u32>; 2]) -> Self {
        let tcp = reassemblers(starts).map(|stream| (stream, DnsTcpFramer::default()));
        Self {
            tcp: Some(tcp),
            ..Self::default()
        }
    }

    pub fn on_segment(&mut self, by_opener: bool, piece: stream::Segment<'_>) {
        // The sides are taken out while their messages are read.
        let Some(mut sides) = self.tcp.take() else {
            return;
        };
        let (stream, framer) = &mut sides[usize::from(!by_opener)];
        stream.push(piece, |bytes| {
            framer.feed(bytes, |message| self.on_message(message, piece.time_ns));
        });
        self.tcp = Some(sides);
    }

    pub fn on_message(&mut self, bytes: &[u8], time_ns: u64) {
        while let Some(overdue) = self.tracker.expire(time_ns) {
            self.on_transaction(overdue);
        }
        let Ok(message) = DnsMessage::parse(bytes) else {
            return;
        };
        if let (false, Some(question)) = (message.is_response, &message.question) {
            self.query.get_or_insert_with(|| question.name.to_text());
        }
        self.answered |= message.is_response;
        if let Some(transaction) = self.tracker.on_message(&message, time_ns) {
            self.on_transaction(transaction);
        }
    }

    fn on_transaction(&mut self, transaction: Transaction) {
        let interval = &mut self.interval;
        interval.requests += 1;
        interval.worst_rcode = worse_rcode(interval.worst_rcode, transaction.rcode);
        interval.slowest_us = interval.slowest_us.max(transaction.response_us);
        match transaction
            .failure_cause()
            .and_then(FailureCause::from_text)
        {
            Some(FailureCause::DnsTimeout) if !self.answered => self.silent += 1,
            Some(cause) => {
                interval.failed += 1;
                self.failure.get_or_insert(dns_failure(cause));
            }
            None => {}
        }
        self.query = Some(transaction.name);
    }

    pub fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        while let Some(overdue) = self.tracker.expire(now_ns) {
            self.on_transaction(overdue);
        }
        if client_reached && self.silent > 0 {
            self.interval.failed += std::mem::take(&mut self.silent);
            self.failure
                .get_or_insert(dns_failure(FailureCause::DnsTimeout));
        }
        self.failure
    }

    pub fn take_report<'a>(&'a mut self, report: &mut Report<'a>) {
        let interval = std::mem::take(&mut self.interval);
        report.app_protocol = Some("dns");
        report.dns_query = self.query.as_deref();
        report.dns_rcode = interval.worst_rcode;
        report.dns_response_us = interval.slowest_us;
        report.requests = Some(interval.requests);
        report.requests_failed = Some(interval.failed);
    }
}

fn dns_failure(cause: FailureCause) -> Failure {
    let evidence = match cause {
        FailureCause::DnsServfail => "rcode_servfail",
        FailureCause::DnsRefused => "rcode_refused",
        _ => "query_unanswered",
    };
    Failure::new(
        cause,
        FailureStage::Dns,
        Some(FailureSide::Server),
        evidence,
    )
}

/// The worse of two answers: a failure before NXDOMAIN, that before any other, NOERROR last.
fn worse_rcode(known: Option<u16>, new: Option<u16>) -> Option<u16> {
    let badness = |rcode: u16| match rcode {
        dns::RCODE_SERVFAIL | dns::RCODE_REFUSED => 3,
        3 => 1,
        0 => 0,
        _ => 2,
    };
    match (known, new) {
        (Some(known), Some(new)) if badness(new) <= badness(known) => Some(known),
        (known, new) => new.or(known),
    }
}
