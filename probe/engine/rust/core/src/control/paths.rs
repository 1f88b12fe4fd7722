//! Paths of GTP-U: whether the tunnels' ends answer each other, how fast, what they complain about
//! (TS 29.281 7.2 and 7.3), and what was lost between them.

use std::collections::{HashMap, VecDeque};

use crate::control::tunnels::Traffic;
use crate::decap::{Address, TunnelSignal};

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;

/// Bounds of what is remembered about paths. Times are nanoseconds of packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLimits {
    /// Paths, each a pair of addresses. What belongs to a further one is counted as shed.
    pub paths: usize,
    /// How long a response may take. TS 29.281 leaves T3-RESPONSE to the operator; 10 s is beyond the
    /// values in use, and echoes are at least 60 s apart (TS 23.007 20.3).
    pub response_ns: u64,
    /// How long a silent path is kept.
    pub idle_ns: u64,
}

impl Default for PathLimits {
    fn default() -> Self {
        Self {
            paths: 16_384,
            response_ns: 10_000_000_000,
            idle_ns: 600_000_000_000,
        }
    }
}

/// What happened on a path since the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathReport {
    /// Who asks (echoes), or who sends (error indications, end markers).
    pub source: Address,
    pub destination: Address,
    /// Echo Requests of `source`, copies by the capture left out, retransmissions included.
    pub echo_requests: u64,
    /// Echo Responses of `destination`.
    pub echo_responses: u64,
    /// Requests (retransmissions left out) whose response did not come in time.
    pub echo_unanswered: u64,
    /// Round trips of echoes from the tap to `destination` and back. No sample is taken of a
    /// retransmitted request, as its response may be to either (Karn).
    pub echo_rtt: RoundTrips,
    /// Error Indications of `source`: packets came for a tunnel that it does not know.
    pub error_indications: u64,
    /// End Markers of `source`: the last packet of a tunnel that a handover moved.
    pub end_markers: u64,
    /// What `source` tunnels to `destination`, and round trips by QoS monitoring.
    pub traffic: Traffic,
}

/// Round trips in microseconds; without a sample minimum and maximum are null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrips {
    pub min_us: Option<u64>,
    pub max_us: Option<u64>,
    pub sum_us: u64,
    pub samples: u64,
}

impl RoundTrips {
    pub fn add(&mut self, rtt_us: u64) {
        self.min_us = Some(self.min_us.map_or(rtt_us, |least| least.min(rtt_us)));
        self.max_us = Some(self.max_us.map_or(rtt_us, |most| most.max(rtt_us)));
        self.sum_us = self.sum_us.saturating_add(rtt_us);
        self.samples += 1;
    }
}

impl PathReport {
    fn new((source, destination): Ends) -> Self {
        Self {
            source,
            destination,
            echo_requests: 0,
            echo_responses: 0,
            echo_unanswered: 0,
            echo_rtt: RoundTrips::default(),
            error_indications: 0,
            end_markers: 0,
            traffic: Traffic::default(),
        }
    }
}

/// Source and destination.
pub type Ends = (Address, Address);

const ECHO_REQUEST: u8 = 1;
const ECHO_RESPONSE: u8 = 2;
/// Of the node that a packet came to for a tunnel that it does not know (TS 29.281 7.3.1).
pub const ERROR_INDICATION: u8 = 26;
/// The last packet of a tunnel that a handover moved (TS 29.281 7.3.2).
pub const END_MARKER: u8 = 254;

/// The same sequence number again within this time is a copy: one packet seen on several interfaces.
/// T3-RESPONSE, after which a request is sent again, is of the order of seconds.
const COPY_NS: u64 = 100_000_000;

/// Most echoes of a path that are waited for. An end has one under way at a time (TS 29.281 7.2.1);
/// further ones are of several processes behind one address.
const MAX_ECHOES: usize = 4;

/// An Echo Request and what became of it.
#[derive(Debug, Clone, Copy)]
struct Echo {
    /// Absent in the unusual request that does not set the S flag.
    sequence: Option<u16>,
    /// Of the first copy of its last transmission.
    sent_ns: u64,
    retransmitted: bool,
    answered: bool,
}

#[derive(Debug)]
struct Path {
    /// Of the last signal.
    seen_ns: u64,
    /// Oldest first; answered ones stay until they are too old to have copies.
    echoes: VecDeque<Echo>,
    /// Not yet drained.
    report: PathReport,
}

impl Path {
    fn new(ends: Ends) -> Self {
        Self {
            seen_ns: 0,
            echoes: VecDeque::new(),
            report: PathReport::new(ends),
        }
    }

    fn on_request(&mut self, sequence: Option<u16>, time_ns: u64) {
        match self
            .echoes
            .iter_mut()
            .find(|echo| echo.sequence == sequence)
        {
            Some(echo) if time_ns.abs_diff(echo.sent_ns) <= COPY_NS => return,
            Some(echo) if !echo.answered => {
                (echo.sent_ns, echo.retransmitted) = (time_ns, true);
            }
            _ => self.await_response(sequence, time_ns),
        }
        self.report.echo_requests += 1;
    }

    fn await_response(&mut self, sequence: Option<u16>, time_ns: u64) {
        self.echoes.retain(|echo| echo.sequence != sequence);
        if self.echoes.len() >= MAX_ECHOES {
            self.forget_oldest();
        }
        let (retransmitted, answered) = (false, false);
        self.echoes.push_back(Echo {
            sequence,
            sent_ns: time_ns,
            retransmitted,
            answered,
        });
    }

    fn forget_oldest(&mut self) {
        if self.echoes.pop_front().is_some_and(|echo| !echo.answered) {
            self.report.echo_unanswered += 1;
        }
    }

    fn on_response(&mut self, sequence: Option<u16>, time_ns: u64) {
        if let Some(echo) = self
            .echoes
            .iter_mut()
            .find(|echo| echo.sequence == sequence)
        {
            if echo.answered {
                return;
            }
            echo.answered = true;
            if let Some(rtt_ns) = time_ns
                .checked_sub(echo.sent_ns)
                .filter(|_| !echo.retransmitted)
            {
                self.report.echo_rtt.add(rtt_ns / 1000);
            }
        }
        self.report.echo_responses += 1;
    }

    /// Forgets the echoes that are older than `response_ns`, or from a time that was taken back.
    fn expire(&mut self, now_ns: u64, response_ns: u64) {
        let is_old = |echo: &Echo| now_ns.abs_diff(echo.sent_ns) > response_ns;
        let unanswered = self
            .echoes
            .iter()
            .filter(|echo| is_old(echo) && !echo.answered);
        self.report.echo_unanswered += unanswered.count() as u64;
        self.echoes.retain(|echo| !is_old(echo));
    }

    /// Takes the report, unless nothing happened.
    fn take_report(&mut self) -> Option<PathReport> {
        let empty = PathReport::new((self.report.source, self.report.destination));
        let report = std::mem::replace(&mut self.report, empty);
        (report != self.report).then_some(report)
    }
}

/// All paths seen.
#[derive(Debug)]
pub struct Paths {
    limits: PathLimits,
    /// Keyed by a hash with a random seed: addresses are the sender's choice.
    paths: HashMap<Ends, Path>,
    shed: u64,
}

impl Default for Paths {
    fn default() -> Self {
        Self::new(PathLimits::default())
    }
}

impl Paths {
    pub fn new(limits: PathLimits) -> Self {
        Self {
            limits,
            paths: HashMap::new(),
            shed: 0,
        }
    }

    /// Takes note of a message; types other than those reported are ignored.
    pub fn on_signal(&mut self, signal: &TunnelSignal, time_ns: u64) {
        let (sender, receiver) = (signal.source, signal.destination);
        match signal.message_type {
            ECHO_REQUEST => self.with((sender, receiver), time_ns, |path, limits| {
                path.expire(time_ns, limits.response_ns);
                path.on_request(signal.sequence, time_ns);
            }),
            ECHO_RESPONSE => self.with((receiver, sender), time_ns, |path, limits| {
                path.expire(time_ns, limits.response_ns);
                path.on_response(signal.sequence, time_ns);
            }),
            ERROR_INDICATION => self.with((sender, receiver), time_ns, |path, _| {
                path.report.error_indications += 1;
            }),
            END_MARKER => self.with((sender, receiver), time_ns, |path, _| {
                path.report.end_markers += 1;
            }),
            _ => {}
        }
    }

    /// Takes in what was tunnelled on a path; to be told before `drain`, once an interval.
    pub fn on_traffic(&mut self, ends: Ends, traffic: Traffic, now_ns: u64) {
        self.with(ends, now_ns, |path, _| path.report.traffic = traffic);
    }

    fn with(&mut self, ends: Ends, time_ns: u64, act: impl FnOnce(&mut Path, &PathLimits)) {
        if self.paths.len() >= self.limits.paths && !self.paths.contains_key(&ends) {
            self.shed += 1;
            return;
        }
        let path = self.paths.entry(ends).or_insert_with(|| Path::new(ends));
        path.seen_ns = time_ns;
        act(path, &self.limits);
    }

    /// What happened since the last call, by source and destination; paths without news are left
    /// out, and forgotten after `PathLimits::idle_ns`.
    pub fn drain(&mut self, now_ns: u64) -> Vec<PathReport> {
        let PathLimits {
            response_ns,
            idle_ns,
            ..
        } = self.limits;
        let mut reports = Vec::new();
        self.paths.retain(|_, path| {
            path.expire(now_ns, response_ns);
            reports.extend(path.take_report());
            now_ns.abs_diff(path.seen_ns) <= idle_ns || !path.echoes.is_empty()
        });
        reports.sort_unstable_by_key(|report| (report.source, report.destination));
        reports
    }

    /// Paths remembered.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Messages that were not counted because there were too many paths.
    pub fn shed(&self) -> u64 {
        self.shed
    }
}
