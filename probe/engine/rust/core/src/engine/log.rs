//! What one of several parts writes down of its flows for the thread that takes in all parts'.

use crate::control::PathReport;
use crate::control::learner::Link;
use crate::decap::{Address, Counters, Transport};
use crate::engine::application::DnsEvent;
use crate::engine::clients::{Attempt, Client, Target};
use crate::engine::emit::{IntervalEnd, Open, Rows, Stamp, emit};
use crate::engine::failure::Verdict;
use crate::engine::joint::{Joint, Said};
use crate::engine::ledger::Untracked;
use crate::engine::notes::Notes;
use crate::engine::session::Session;
use crate::flow::{Direction, FlowId, FlowKey};
use crate::record::Record;
use crate::record::names::EndReason;
use crate::source::InterfaceLedger;

/// When something happened: the order of one thread that does all the work.
///
/// By the packet that gave rise to it, then by the step of that packet's way, then, where flows of several
/// parts take the same step, by the name of the flow. Within a part entries are in this order already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    pub packet: u64,
    pub stage: u64,
    /// Start, where the step goes by that, and name of the flow.
    pub flow: (u64, u64),
}

/// Ticks come before the packet that moves time on; no tick has so great a stage.
pub const PACKET_STAGE: u64 = 1 << 62;
/// What closes a body comes behind all of a packet.
pub const CLOSING_STAGE: u64 = u64::MAX;

/// A target whose name need not live on.
#[derive(Debug)]
pub struct OwnTarget {
    client: Client,
    server: Address,
    port: u16,
    /// What the flow itself calls the server.
    name: Option<Box<str>>,
}

impl OwnTarget {
    fn of(target: &Target<'_>) -> Self {
        Self {
            client: target.client,
            server: target.server,
            port: target.port,
            name: target.name.map(Into::into),
        }
    }

    fn with<'a>(&'a self, said: Option<&'a Said>) -> Target<'a> {
        let from_dns = said.and_then(|said| said.name.as_deref());
        Target {
            client: self.client,
            alias: said.and_then(|said| said.alias),
            server: self.server,
            port: self.port,
            name: self.name.as_deref().or(from_dns),
        }
    }
}

/// An attempt whose target's name need not live on.
#[derive(Debug)]
pub struct OwnAttempt {
    by: Client,
    target: OwnTarget,
    transport: Transport,
    start_ns: u64,
    last_try_ns: u64,
    destination: (Address, u16),
}

/// The record of an interval, but for what others' sessions say.
#[derive(Debug)]
pub struct Interval {
    row: Box<[u8]>,
    key: FlowKey,
    up: Direction,
    verdict: Verdict,
    notes: Notes,
}

/// A flow that has ended.
#[derive(Debug)]
pub struct Ended {
    key: FlowKey,
    session: Box<Session>,
    now_ns: u64,
    reason: EndReason,
}

/// What concerns more than one session; times are nanoseconds of packet time.
#[derive(Debug)]
pub enum Entry {
    Began {
        flow: FlowId,
        client: Client,
        server: Address,
        now_ns: u64,
    },
    Heard {
        flow: FlowId,
        client: Client,
        event: DnsEvent,
        now_ns: u64,
    },
    Connected {
        flow: FlowId,
        target: Box<OwnTarget>,
        transport: Transport,
        time_ns: u64,
    },
    InVain {
        flow: FlowId,
        attempt: Box<OwnAttempt>,
        now_ns: u64,
    },
    Reached {
        client: Client,
        time_ns: u64,
    },
    Cut {
        flow: FlowId,
        interval: Box<Interval>,
    },
    Ended {
        flow: FlowId,
        ended: Box<Ended>,
    },
    /// A record that is complete.
    Told(Box<[u8]>),
    Untracked {
        interface: u32,
        why: Untracked,
    },
    /// Two identities of one person.
    Link(Link),
    /// A body is old enough.
    Closing(Box<Closing>),
    /// Nothing follows.
    Over,
}

/// The account of packets at a body's end.
#[derive(Debug)]
pub struct Closing {
    pub source: Vec<InterfaceLedger>,
    pub decoder: Vec<Counters>,
    /// Of mirrors, by interface.
    pub copies: Vec<u64>,
    pub paths: Vec<PathReport>,
}

/// The entries of one part that were not handed over yet.
#[derive(Debug, Default)]
pub struct Log {
    now: Moment,
    entries: Vec<(Moment, Entry)>,
}

impl Log {
    /// A packet begins, counted over all parts from 1 on.
    pub fn at_packet(&mut self, number: u64) {
        self.now = Moment {
            packet: number,
            stage: PACKET_STAGE,
            flow: (0, 0),
        };
    }

    /// Time moves on before a packet.
    pub fn before_packet(&mut self, number: u64) {
        self.at_packet(number);
        self.now.stage = 0;
    }

    pub fn at_tick(&mut self, second: u64) {
        self.now.stage = second
            .saturating_mul(2)
            .saturating_add(1)
            .min(PACKET_STAGE - 4);
    }

    pub fn next_stage(&mut self) {
        self.now.stage += 1;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Hands over what was written down, in order.
    pub fn take(&mut self) -> Vec<(Moment, Entry)> {
        std::mem::take(&mut self.entries)
    }

    pub fn add(&mut self, flow: (u64, u64), entry: Entry) {
        self.entries.push((Moment { flow, ..self.now }, entry));
    }

    pub fn began(&mut self, flow: FlowId, client: Client, server: Address, now_ns: u64) {
        let entry = Entry::Began {
            flow,
            client,
            server,
            now_ns,
        };
        self.add((0, 0), entry);
    }

    pub fn heard(&mut self, flow: FlowId, client: Client, event: DnsEvent, now_ns: u64) {
        let entry = Entry::Heard {
            flow,
            client,
            event,
            now_ns,
        };
        self.add((0, 0), entry);
    }

    pub fn connected(
        &mut self,
        flow: FlowId,
        target: &Target<'_>,
        transport: Transport,
        time_ns: u64,
    ) {
        let entry = Entry::Connected {
            flow,
            target: Box::new(OwnTarget::of(target)),
            transport,
            time_ns,
        };
        self.add((0, 0), entry);
    }

    pub fn tried_in_vain(&mut self, flow: FlowId, attempt: &Attempt<'_>, now_ns: u64) {
        let own = OwnAttempt {
            by: attempt.by,
            target: OwnTarget::of(&attempt.target),
            transport: attempt.transport,
            start_ns: attempt.start_ns,
            last_try_ns: attempt.last_try_ns,
            destination: attempt.destination,
        };
        let entry = Entry::InVain {
            flow,
            attempt: Box::new(own),
            now_ns,
        };
        self.add((attempt.start_ns, attempt.session), entry);
    }

    pub fn reached(&mut self, client: Client, time_ns: u64) {
        self.add((0, 0), Entry::Reached { client, time_ns });
    }

    pub fn cut(
        &mut self,
        flow: FlowId,
        stamp: &Stamp,
        key: &FlowKey,
        session: &mut Session,
        end: IntervalEnd,
    ) {
        let name = session.id;
        let mut row = Row(None);
        emit(stamp, key, session, end, &mut row);
        if let Row(Some(interval)) = row {
            self.add((0, name), Entry::Cut { flow, interval });
        }
    }

    pub fn ended(
        &mut self,
        flow: FlowId,
        key: FlowKey,
        session: Box<Session>,
        now_ns: u64,
        reason: EndReason,
    ) {
        let name = session.id;
        let ended = Box::new(Ended {
            key,
            session,
            now_ns,
            reason,
        });
        self.add((0, name), Entry::Ended { flow, ended });
    }

    pub fn told(&mut self, record: &Record<'_>) {
        self.add((0, 0), Entry::Told(bytes_of(record)));
    }

    pub fn told_of(&mut self, session: &Session, record: &Record<'_>) {
        self.add((0, session.id), Entry::Told(bytes_of(record)));
    }

    pub fn untracked(&mut self, interface: u32, why: Untracked) {
        self.add((0, 0), Entry::Untracked { interface, why });
    }
}

fn bytes_of(record: &Record<'_>) -> Box<[u8]> {
    let mut row = Vec::with_capacity(512);
    record.put(&mut row);
    row.into()
}

/// Takes one interval's record in.
struct Row(Option<Box<Interval>>);

impl Rows for Row {
    fn add<'a>(&mut self, record: Record<'a>, open: &Open<'a>) {
        self.0 = Some(Box::new(Interval {
            row: bytes_of(&record),
            key: open.key,
            up: open.up,
            verdict: open.verdict,
            notes: open.notes,
        }));
    }
}

impl Interval {
    /// Writes the record with what others' sessions said.
    pub fn write(&self, said: Option<&mut Said>, joint: &mut Joint) {
        let mut open = Open {
            key: self.key,
            up: self.up,
            verdict: self.verdict,
            notes: self.notes,
            name: None,
        };
        let mut name = None;
        if let Some(said) = said {
            open.notes.add_all(std::mem::take(&mut said.notes));
            name = said.name.clone();
        }
        let evidence = open.evidence();
        let mut record = Record::take(&self.row);
        record.evidence = evidence.as_deref();
        let open = Open {
            name: name.as_deref(),
            ..open
        };
        joint.columns.add(record, &open);
        joint.on_record();
    }
}

impl OwnAttempt {
    pub fn note(&self, said: Option<&Said>, now_ns: u64, joint: &mut Joint) {
        let attempt = Attempt {
            session: 0,
            by: self.by,
            target: self.target.with(said),
            transport: self.transport,
            start_ns: self.start_ns,
            last_try_ns: self.last_try_ns,
            destination: self.destination,
        };
        joint.tried_in_vain(&attempt, now_ns);
    }
}

impl OwnTarget {
    pub fn note(&self, said: Option<&Said>, by: Transport, time_ns: u64, joint: &mut Joint) {
        joint.connected(&self.with(said), by, time_ns);
    }
}

impl Ended {
    /// Judges the flow with what others' sessions said, and writes its last record.
    pub fn conclude(mut self, said: Option<Said>, joint: &mut Joint) {
        let session = &mut self.session;
        if let Some(said) = said {
            (session.name_from_dns, session.alias) = (said.name, said.alias.map(Box::new));
            session.notes.add_all(said.notes);
        }
        joint.conclude(&self.key, session, self.now_ns, self.reason);
    }
}
