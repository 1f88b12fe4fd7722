//! DNS on one flow, over UDP or TCP: queries, their answers, and those that never came.

use super::{Report, reassemblers};
use crate::app::dns::{
    self, DnsMessage, DnsTcpFramer, DnsTracker, LLMNR_PORT, MDNS_PORT, Resolution, Transaction,
};
use crate::engine::failure::Failure;
use crate::record::names::{FailureCause, FailureSide, FailureStage};
use crate::tcp::stream::{self, Reassembler};

/// Most events of one packet that are told: a TCP segment can hold many messages.
const MAX_EVENTS: usize = 32;
/// NetBIOS names (RFC 1002 4.2) have the form of DNS messages.
const NETBIOS_PORT: u16 = 137;

/// What other flows may want to know of this one.
#[derive(Debug)]
pub enum DnsEvent {
    Asked {
        name: Box<str>,
        qtype: u16,
    },
    Answered {
        name: Box<str>,
        qtype: u16,
        resolution: Option<Box<Resolution>>,
    },
}

/// How it is known that a flow carries DNS.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By its port, as soon as a message has the form of one.
    #[default]
    Port,
    /// By the form of its first message only: sure once a query has its answer.
    Form,
    /// Asked of everyone on the link: whoever has nothing to say is silent.
    Multicast(&'static str),
}

/// DNS on one flow.
#[derive(Debug, Default)]
pub struct Dns {
    kind: Kind,
    tracker: DnsTracker,
    /// Over TCP: the bytes of each side, opener first.
    tcp: Option<Box<[(Reassembler, DnsTcpFramer); 2]>>,
    query: Option<Box<str>>,
    /// Most have none.
    failure: Option<Box<Failure>>,
    /// What was seen proves that this is DNS, or that it is not.
    proof: Option<bool>,
    answered: bool,
    /// Queries that went unanswered before any answer was seen on this flow.
    silent: u32,
    /// The first question that was given up.
    given_up: Option<(Box<str>, u16)>,
    /// Bounded by `MAX_EVENTS`; taken after each packet.
    events: Vec<DnsEvent>,
    /// Of the tracker's queries, those that stand in a record.
    queries_said: u64,
    interval: DnsInterval,
}

/// The answers of one interval.
#[derive(Debug, Default)]
struct DnsInterval {
    failed: u32,
    worst_rcode: Option<u16>,
    slowest_us: Option<u32>,
    truncated: bool,
}

impl Dns {
    pub fn over_tcp(starts: [Option<u32>; 2]) -> Self {
        let tcp = reassemblers(starts).map(|stream| (stream, DnsTcpFramer::default()));
        Self {
            tcp: Some(Box::new(tcp)),
            ..Self::default()
        }
    }

    /// DNS over UDP, if port or first message say so.
    pub fn over_udp(server_port: u16, payload: &[u8]) -> Option<Self> {
        let kind = match server_port {
            dns::PORT => Kind::Port,
            MDNS_PORT => Kind::Multicast("mdns"),
            LLMNR_PORT => Kind::Multicast("llmnr"),
            NETBIOS_PORT => return None,
            _ if DnsMessage::parse(payload).is_ok_and(|first| first.is_plain_query()) => Kind::Form,
            _ => return None,
        };
        Some(Self {
            kind,
            ..Self::default()
        })
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
        let plausible = DnsMessage::begins_plausibly(bytes);
        if self.kind != Kind::Form || !plausible {
            self.proof.get_or_insert(plausible);
        }
        if let Ok(message) = DnsMessage::parse(bytes) {
            self.on_parsed(&message, time_ns);
        }
    }

    fn on_parsed(&mut self, message: &DnsMessage<'_>, time_ns: u64) {
        if let (false, Some(question)) = (message.is_response, &message.question) {
            let name = question.name.to_text();
            self.query.get_or_insert_with(|| name.clone());
            let qtype = question.qtype;
            self.tell(|| DnsEvent::Asked { name, qtype });
        }
        if self.is_multicast() {
            return;
        }
        self.answered |= message.is_response;
        if let Some(transaction) = self.tracker.on_message(message, time_ns) {
            self.on_answer(message, &transaction);
            self.on_transaction(transaction);
        }
    }

    /// An answer to a question that was seen: others could be anyone's, to give a server any name.
    fn on_answer(&mut self, message: &DnsMessage<'_>, transaction: &Transaction) {
        self.proof = Some(true);
        self.interval.truncated |= message.truncated;
        let resolution = Resolution::of(message).map(Box::new);
        self.tell(|| DnsEvent::Answered {
            name: transaction.name.clone(),
            qtype: transaction.qtype,
            resolution,
        });
    }

    fn tell(&mut self, event: impl FnOnce() -> DnsEvent) {
        if self.events.len() < MAX_EVENTS && !self.is_multicast() {
            self.events.push(event());
        }
    }

    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub fn take_events(&mut self) -> Vec<DnsEvent> {
        std::mem::take(&mut self.events)
    }

    fn on_transaction(&mut self, transaction: Transaction) {
        let interval = &mut self.interval;
        interval.worst_rcode = worse_rcode(interval.worst_rcode, transaction.rcode);
        interval.slowest_us = interval.slowest_us.max(transaction.response_us);
        let cause = transaction.failure_cause();
        match cause.and_then(FailureCause::from_text) {
            Some(FailureCause::DnsTimeout) if !self.answered => self.silent += 1,
            Some(cause) => {
                interval.failed += 1;
                self.failure
                    .get_or_insert_with(|| Box::new(dns_failure(cause)));
            }
            None => {}
        }
        if transaction.rcode.is_none() && self.given_up.is_none() {
            self.given_up = Some((transaction.name.clone(), transaction.qtype));
        }
        self.query = Some(transaction.name);
    }

    fn is_multicast(&self) -> bool {
        matches!(self.kind, Kind::Multicast(_))
    }

    /// A resolver's client uses a port for one question.
    pub fn is_brief(&self) -> bool {
        self.is_certain() && !self.is_multicast()
    }

    pub fn is_certain(&self) -> bool {
        self.proof == Some(true)
    }

    /// What the port or the first message promised is not what came.
    pub fn is_something_else(&self) -> bool {
        self.proof == Some(false)
    }

    pub fn is_waiting(&self) -> bool {
        self.tracker.pending() > 0
    }

    pub fn failure(&self) -> Option<Failure> {
        let failure = self.failure.as_deref().copied();
        failure.filter(|_| self.is_certain())
    }

    pub fn given_up(&self) -> Option<(&str, u16)> {
        let (name, qtype) = self.given_up.as_ref()?;
        Some((name, *qtype))
    }

    pub fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        while let Some(overdue) = self.tracker.expire(now_ns) {
            self.on_transaction(overdue);
        }
        if client_reached && self.silent > 0 {
            self.interval.failed += std::mem::take(&mut self.silent);
            self.failure
                .get_or_insert_with(|| Box::new(dns_failure(FailureCause::DnsTimeout)));
        }
        self.failure()
    }

    pub fn take_report<'a>(&'a mut self, report: &mut Report<'a>) {
        let interval = std::mem::take(&mut self.interval);
        let queries = self.tracker.queries();
        let new = queries.saturating_sub(std::mem::replace(&mut self.queries_said, queries));
        if !self.is_certain() {
            return;
        }
        report.dns_query = self.query.as_deref();
        if let Kind::Multicast(protocol) = self.kind {
            report.app_protocol = Some(protocol);
            return;
        }
        report.app_protocol = Some("dns");
        report.dns_rcode = interval.worst_rcode;
        report.dns_response_us = interval.slowest_us;
        report.dns_truncated = interval.truncated;
        report.requests = Some(u32::try_from(new).unwrap_or(u32::MAX));
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

/// The worse of two answers: SERVFAIL and REFUSED, then any other error, then NXDOMAIN, NOERROR last.
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
