//! What is kept of all sessions together: what they say about each other, and their records in order.
//!
//! Where one thread does all the work, its tracker has this at hand (`Desk::Here`). Where several share a
//! capture, each measures its own flows and writes down, in order, what concerns others (`Desk::Away`);
//! one thread takes all of it in, by the packet that gave rise to it (`log`, `merge`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::decap::{Address, Transport};
use crate::engine::application::DnsEvent;
use crate::engine::clients::{Attempt, Client, Clients, Target, Winners};
use crate::engine::emit::{IntervalEnd, Stamp, emit};
use crate::engine::failure::Verdict;
use crate::engine::log::Log;
use crate::engine::names::Names;
use crate::engine::notes::{Note, Notes};
use crate::engine::options::Limits;
use crate::engine::session::Session;
use crate::engine::verdict::Around;
use crate::flow::{FlowId, FlowKey};
use crate::record::names::{EndReason, FailureStage};
use crate::record::{Columns, Record};

/// What the others' sessions say of one.
#[derive(Debug, Default)]
pub struct Said {
    /// By which name the client knows the server.
    pub name: Option<Arc<str>>,
    /// Who else asked for that name.
    pub alias: Option<Client>,
    pub notes: Notes,
}

impl Said {
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.alias.is_none() && self.notes == Notes::default()
    }
}

/// The knowledge of all sessions, and the records that are not in a body yet.
pub struct Joint {
    clients: Clients,
    names: Names,
    stamp: Stamp,
    pub columns: Columns,
    batch_rows: usize,
    /// Bodies begun with columns that were full; one tick can fill several.
    full: VecDeque<Vec<u8>>,
    pub records: u64,
}

impl Joint {
    pub fn new(stamp: Stamp, limits: &Limits, batch_rows: usize) -> Self {
        Self {
            clients: Clients::new(limits),
            names: Names::new(limits.names as usize),
            stamp,
            columns: Columns::default(),
            batch_rows,
            full: VecDeque::new(),
            records: 0,
        }
    }

    /// What was not remembered because a table was full, by table.
    pub fn shed(&self) -> [(&'static str, u64); 4] {
        let [clients, attempts, pairs] = self.clients.shed();
        [clients, attempts, pairs, ("names_shed", self.names.shed())]
    }

    /// Takes the next body whose columns are full; see [`Columns::begin_body`].
    pub fn take_full(&mut self) -> Option<Vec<u8>> {
        self.full.pop_front()
    }

    pub fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Begins a body with the columns under construction.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.columns.begin_body()
    }

    /// Counts a record just written, and sets full columns aside.
    pub fn on_record(&mut self) {
        self.records += 1;
        if self.columns.rows() >= self.batch_rows {
            let full = self.take_rest();
            self.full.push_back(full);
        }
    }

    /// Writes a record that is complete, from a row.
    pub fn tell_row(&mut self, row: &[u8]) {
        self.columns.push(&Record::take(row));
        self.on_record();
    }

    /// What is known of a flow of `client` to `server` that begins.
    pub fn of_new(&self, client: Client, server: Address, now_ns: u64) -> Said {
        let name = self.names.lookup(client, server, now_ns);
        Said {
            name: name.map(|name| Arc::clone(&name.text)),
            alias: self.names.other_asker(client, server, now_ns),
            notes: Notes::default(),
        }
    }

    /// Takes in what a DNS message said; returns what is remarkable about its flow.
    pub fn hear(&mut self, client: Client, event: DnsEvent, now_ns: u64) -> Notes {
        let mut notes = Notes::default();
        if self.names.hear(client, event, now_ns) {
            notes.add(Note::DnsQueryRepeated);
        }
        notes
    }

    pub fn connected(&mut self, target: &Target<'_>, transport: Transport, time_ns: u64) {
        self.clients.connected(target, transport, time_ns);
    }

    pub fn tried_in_vain(&mut self, attempt: &Attempt<'_>, now_ns: u64) {
        self.clients.tried_in_vain(attempt, now_ns);
    }

    pub fn reached(&mut self, client: Client, time_ns: u64) {
        self.clients.reached(client, time_ns);
    }

    /// Judges a flow that has ended, and writes its last record.
    pub fn conclude(
        &mut self,
        key: &FlowKey,
        session: &mut Session,
        now_ns: u64,
        reason: EndReason,
    ) {
        if reason != EndReason::Evicted
            && session.take_unanswered()
            && let Some(attempt) = session.attempt(key)
        {
            self.clients.tried_in_vain(&attempt, now_ns);
        }
        let verdict = self.verdict_at_end(key, session, now_ns, reason);
        if session.is_interval_empty() {
            // The record says how the flow ended, and stands where its last packet was.
            session.interval_start_ns = session.last_ns;
        }
        self.note_the_end(key, session);
        let end = IntervalEnd {
            end_ns: session.last_ns.max(session.interval_start_ns),
            verdict,
            end_reason: Some(reason),
        };
        emit(&self.stamp, key, session, end, &mut self.columns);
        self.on_record();
    }

    /// By the flow's own facts and by the client's other sessions.
    fn verdict_at_end(
        &mut self,
        key: &FlowKey,
        session: &mut Session,
        now_ns: u64,
        reason: EndReason,
    ) -> Verdict {
        if let Some(quic) = session.application.quic_mut() {
            quic.tracker.refresh_identity();
        }
        let client = session.place.subscriber_id;
        let attempt = session.attempt(key);
        let around = Around {
            now_ns,
            client_reached: self.clients.was_reached(client, session.last_ns),
            is_scan: attempt.is_some_and(|attempt| self.clients.is_scan(&attempt)),
            winners: attempt
                .map_or_else(Winners::default, |attempt| self.clients.winners(&attempt)),
            is_cut_short: reason == EndReason::Evicted,
        };
        let verdict = session.final_verdict(&around);
        match (verdict.failure(), session.attempt(key)) {
            (Some(failure), Some(attempt))
                if failure.stage == FailureStage::Connect
                    && !self.clients.is_first_failure(&attempt, now_ns) =>
            {
                Verdict::unknown("failed_another_way")
            }
            _ => verdict,
        }
    }

    /// Notes what only shows when a flow is over.
    fn note_the_end(&self, key: &FlowKey, session: &mut Session) {
        if session.is_unanswered_udp(key) {
            session.notes.add(Note::UdpUnanswered);
        }
        if let Some((name, qtype)) = session.application.dns_given_up() {
            let client = session.place.subscriber_id;
            let digest = self.names.digest(client, name, qtype);
            if self.names.is_answered(digest) {
                session.notes.add(Note::DnsAnsweredElsewhere);
            }
        }
    }
}

/// Where a tracker takes what concerns more than one of its sessions.
pub enum Desk {
    Here(Box<Joint>),
    Away(Box<Log>),
}

impl Desk {
    /// A flow begins. What is known of it is said to the session here, and at its end elsewhere.
    pub fn began(&mut self, id: FlowId, session: &mut Session, server: Address, now_ns: u64) {
        let client = session.place.subscriber_id;
        match self {
            Self::Here(joint) => {
                let said = joint.of_new(client, server, now_ns);
                (session.name_from_dns, session.alias) = (said.name, said.alias.map(Box::new));
            }
            Self::Away(log) => log.began(id, client, server, now_ns),
        }
    }

    pub fn hear(&mut self, id: FlowId, session: &mut Session, event: DnsEvent, now_ns: u64) {
        let client = session.place.subscriber_id;
        match self {
            Self::Here(joint) => session.notes.add_all(joint.hear(client, event, now_ns)),
            Self::Away(log) => log.heard(id, client, event, now_ns),
        }
    }

    pub fn connected(
        &mut self,
        id: FlowId,
        target: &Target<'_>,
        transport: Transport,
        time_ns: u64,
    ) {
        match self {
            Self::Here(joint) => joint.connected(target, transport, time_ns),
            Self::Away(log) => log.connected(id, target, transport, time_ns),
        }
    }

    pub fn tried_in_vain(&mut self, id: FlowId, attempt: &Attempt<'_>, now_ns: u64) {
        match self {
            Self::Here(joint) => joint.tried_in_vain(attempt, now_ns),
            Self::Away(log) => log.tried_in_vain(id, attempt, now_ns),
        }
    }

    pub fn reached(&mut self, client: Client, time_ns: u64) {
        match self {
            Self::Here(joint) => joint.reached(client, time_ns),
            Self::Away(log) => log.reached(client, time_ns),
        }
    }

    /// Writes the record of an interval of a flow that lives on.
    pub fn cut(
        &mut self,
        id: FlowId,
        stamp: &Stamp,
        key: &FlowKey,
        session: &mut Session,
        end: IntervalEnd,
    ) {
        match self {
            Self::Here(joint) => {
                emit(stamp, key, session, end, &mut joint.columns);
                joint.on_record();
            }
            Self::Away(log) => log.cut(id, stamp, key, session, end),
        }
    }

    /// Writes the last record of a flow.
    pub fn conclude(
        &mut self,
        id: FlowId,
        key: FlowKey,
        mut session: Box<Session>,
        now_ns: u64,
        reason: EndReason,
    ) {
        match self {
            Self::Here(joint) => joint.conclude(&key, &mut session, now_ns, reason),
            Self::Away(log) => log.ended(id, key, session, now_ns, reason),
        }
    }

    /// Writes a record that is complete.
    pub fn tell(&mut self, record: &Record<'_>) {
        match self {
            Self::Here(joint) => {
                joint.columns.push(record);
                joint.on_record();
            }
            Self::Away(log) => log.told(record),
        }
    }

    /// Writes a record of a session's that is complete.
    pub fn tell_of(&mut self, session: &Session, record: &Record<'_>) {
        match self {
            Self::Here(_) => self.tell(record),
            Self::Away(log) => log.told_of(session, record),
        }
    }

    /// Goes on to what comes behind all that was said of the packet so far, in all parts.
    pub fn next_stage(&mut self) {
        if let Self::Away(log) = self {
            log.next_stage();
        }
    }

    /// Says at which tick, in seconds, what follows happens.
    pub fn at_tick(&mut self, second: u64) {
        if let Self::Away(log) = self {
            log.at_tick(second);
        }
    }
}
