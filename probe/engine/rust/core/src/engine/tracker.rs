//! Sessions in packet time: which one a packet belongs to, and when records are due.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::decap::{Inner, Transport, encapsulation};
use crate::engine::clients::Clients;
use crate::engine::emit::{IntervalEnd, emit};
use crate::engine::ledger::Untracked;
use crate::engine::options::Limits;
use crate::engine::session::{Bearer, Session};
use crate::engine::site::Site;
use crate::engine::transport::{Payload, Transported};
use crate::flow::{Direction, FlowId, FlowKey, Table, Wheel};
use crate::record::Columns;
use crate::record::names::EndReason;
use crate::tcp::Connection;

const SECOND_NS: u64 = 1_000_000_000;
/// A change of cell or QoS flow ends an interval no sooner than this after its start.
const SHORTEST_INTERVAL_NS: u64 = SECOND_NS;

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub flows: u64,
    pub flows_evicted: u64,
    pub records: u64,
}

/// All sessions of one capture.
pub struct Tracker {
    table: Table<Session>,
    wheel: Option<Wheel>,
    clock_ns: u64,
    site: Site,
    clients: Clients,
    columns: Columns,
    batch_rows: usize,
    /// Columns that are full, with their rows; one tick can fill several.
    full: VecDeque<(usize, Vec<u8>)>,
    pub totals: Totals,
    due: Vec<FlowId>,
}

impl Tracker {
    pub fn new(site: Site, limits: &Limits, batch_rows: usize, hash_seed: u64) -> Self {
        Self {
            table: Table::new(limits.flows as usize, hash_seed),
            wheel: None,
            clock_ns: 0,
            site,
            clients: Clients::new(limits.clients as usize),
            columns: Columns::default(),
            batch_rows,
            full: VecDeque::new(),
            totals: Totals::default(),
            due: Vec::new(),
        }
    }

    /// The latest packet time seen.
    pub fn clock_ns(&self) -> u64 {
        self.clock_ns
    }

    pub fn live_flows(&self) -> usize {
        self.table.len()
    }

    pub fn clients_shed(&self) -> u64 {
        self.clients.shed
    }

    /// Moves the clock on to `now_ns` and writes every record that came due; a time in the past
    /// changes nothing.
    pub fn advance(&mut self, now_ns: u64) {
        let next_ns = match &self.wheel {
            Some(wheel) => wheel.next_ns(),
            None => self.wheel.insert(Wheel::new(now_ns)).next_ns(),
        };
        if now_ns >= next_ns {
            self.tick_until(now_ns);
        }
        self.clock_ns = self.clock_ns.max(now_ns);
    }

    fn tick_until(&mut self, now_ns: u64) {
        while let Some(wheel) = &mut self.wheel {
            let tick_ns = wheel.next_ns();
            if now_ns < tick_ns {
                return;
            }
            let mut due = std::mem::take(&mut self.due);
            wheel.turn(&mut due);
            self.tick(tick_ns, &due);
            due.clear();
            self.due = due;
            if self.table.is_empty() {
                self.skip(now_ns);
            }
        }
    }

    /// With no flow alive nothing can come due: a capture may be silent for years.
    fn skip(&mut self, now_ns: u64) {
        self.wheel = Some(Wheel::new(now_ns));
    }

    fn tick(&mut self, tick_ns: u64, due: &[FlowId]) {
        let mut ends: Vec<(u64, FlowId, Option<EndReason>)> = Vec::new();
        for &id in due {
            let Some((key, session)) = self.table.get_mut(id) else {
                continue;
            };
            if session.timer_ns != tick_ns {
                continue;
            }
            let deadline_ns = session.deadline_ns(key.transport);
            if deadline_ns <= tick_ns {
                ends.push((session.id, id, Some(session.end_reason())));
            } else {
                self.set_timer(id, deadline_ns);
            }
        }
        if tick_ns.is_multiple_of(self.site.active_timeout_ns) {
            let ending: std::collections::HashSet<FlowId> =
                ends.iter().map(|&(_, id, _)| id).collect();
            let active = self.table.iter().filter(|(id, _, _)| !ending.contains(id));
            ends.extend(active.map(|(id, _, session)| (session.id, id, None)));
        }
        ends.sort_unstable_by_key(|&(session_id, id, _)| (session_id, id));
        for (_, id, reason) in ends {
            match reason {
                Some(reason) => self.end(id, tick_ns, reason),
                None => self.cut(id, tick_ns),
            }
        }
    }

    fn set_timer(&mut self, id: FlowId, deadline_ns: u64) {
        let Some(wheel) = &mut self.wheel else { return };
        let timer_ns = wheel.set(id, deadline_ns);
        if let Some((_, session)) = self.table.get_mut(id) {
            session.timer_ns = timer_ns;
        }
    }

    /// Takes the next full columns and their rows.
    pub fn take_full(&mut self) -> Option<(usize, Vec<u8>)> {
        self.full.pop_front()
    }

    pub fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Takes the columns under construction and their rows.
    pub fn take_rest(&mut self) -> (usize, Vec<u8>) {
        let rows = self.columns.rows();
        let mut bytes = Vec::new();
        self.columns.drain(&mut bytes);
        (rows, bytes)
    }

    /// Counts a record just written, and sets full columns aside.
    fn on_record(&mut self) {
        self.totals.records += 1;
        if self.columns.rows() >= self.batch_rows {
            let full = self.take_rest();
            self.full.push_back(full);
        }
    }

    /// Ends an interval of a flow that lives on. Intervals without packets leave no record.
    fn cut(&mut self, id: FlowId, end_ns: u64) {
        let Self {
            table,
            site,
            columns,
            ..
        } = self;
        let Some((key, session)) = table.get_mut(id) else {
            return;
        };
        if session.volumes.iter().all(|volume| volume.packets == 0) {
            session.interval_start_ns = end_ns;
            return;
        }
        let verdict = session.interim_verdict();
        let end = IntervalEnd {
            end_ns,
            verdict,
            end_reason: None,
        };
        emit(&site.stamp, key, session, end, columns);
        self.on_record();
    }

    /// Ends a flow and writes its last record.
    fn end(&mut self, id: FlowId, now_ns: u64, reason: EndReason) {
        let Some((key, mut session)) = self.table.remove(id) else {
            return;
        };
        let reached = self
            .clients
            .was_reached(session.place.subscriber_id, session.last_ns);
        let end = IntervalEnd {
            end_ns: session.last_ns.max(session.interval_start_ns),
            verdict: session.final_verdict(now_ns, reached),
            end_reason: Some(reason),
        };
        emit(&self.site.stamp, &key, &mut session, end, &mut self.columns);
        self.on_record();
    }

    /// Ends every flow: nothing more will be captured.
    pub fn finish(&mut self) {
        let mut ends: Vec<(u64, FlowId)> = self
            .table
            .iter()
            .map(|(id, _, session)| (session.id, id))
            .collect();
        ends.sort_unstable();
        for (_, id) in ends {
            let reason = match self
                .table
                .get_mut(id)
                .map(|(_, session)| session.end_reason())
            {
                Some(EndReason::Idle) | None => EndReason::CaptureEnd,
                Some(reason) => reason,
            };
            self.end(id, self.clock_ns, reason);
        }
    }

    /// Gives a packet to its flow.
    pub fn on_packet(&mut self, inner: &Inner<'_>, time_ns: u64) -> Result<(), Untracked> {
        let packet = Transported::read(inner)?;
        let (key, direction) = FlowKey::of(
            inner.source,
            packet.source_port,
            inner.destination,
            packet.destination_port,
            inner.transport,
        );
        let found = self.table.find(&key);
        let found = found.and_then(|id| self.still_the_same(id, direction, &packet, inner));
        let (id, new) = match found {
            Some(id) => (id, false),
            None => (self.begin(key, direction, &packet, inner, time_ns), true),
        };
        self.count(id, direction, inner, &packet, time_ns);
        let closing = matches!(&packet.payload, Payload::Segment(segment)
            if segment.has_fin() || segment.is_reset());
        if new || closing {
            self.bring_timer_forward(id, key.transport);
        }
        Ok(())
    }

    /// Ends the flow of a five-tuple that another connection or subscriber took over.
    fn still_the_same(
        &mut self,
        id: FlowId,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let now_ns = self.clock_ns;
        let (_, session) = self.table.get_mut(id)?;
        let reused = match (&packet.payload, &session.connection) {
            (Payload::Segment(segment), Some(tcp)) => tcp.is_reuse(direction, segment),
            _ => false,
        };
        if reused {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        self.follow_bearer(id, direction, inner)
    }

    /// Follows a flow into another tunnel or QoS flow: another subscriber ends it, another cell or
    /// QoS flow ends the interval. What the map does not know changes nothing.
    fn follow_bearer(
        &mut self,
        id: FlowId,
        direction: Direction,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let now_ns = self.clock_ns;
        let (key, session) = self.table.get_mut(id)?;
        let known = session.bearers[direction.index()];
        let bearer = Bearer::of(inner);
        if bearer.is_none() || bearer == known {
            return Some(id);
        }
        // A mirror that shows a packet at two hops alternates between their tunnels: without a
        // limit each packet would end an interval.
        let too_soon = now_ns.saturating_sub(session.interval_start_ns) < SHORTEST_INTERVAL_NS;
        if known.is_some() && too_soon {
            return Some(id);
        }
        session.bearers[direction.index()] = bearer;
        let place = self
            .site
            .place_of(session.client(key), &session.layers, &session.bearers);
        let before = Arc::clone(&session.place);
        if place.is_another_subscriber(&before) {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        let qfi = bearer.and_then(|bearer| bearer.qfi).or(session.qfi);
        let other_qos_flow = session.qfi.is_some() && qfi != session.qfi;
        if other_qos_flow || place.is_another_cell(&before) {
            self.cut(id, now_ns);
        }
        let (_, session) = self.table.get_mut(id)?;
        session.qfi = qfi;
        if place.is_known() || !before.is_known() {
            session.place = Arc::new(place);
        }
        Some(id)
    }

    /// Starts a session with its first packet at hand.
    fn begin(
        &mut self,
        key: FlowKey,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
        time_ns: u64,
    ) -> FlowId {
        if self.table.is_full()
            && let Some(victim) = self.table.victim(|session| session.last_ns)
        {
            self.totals.flows_evicted += 1;
            self.end(victim, self.clock_ns, EndReason::Evicted);
        }
        let (up, initiator) = self.site.orientation(&key, direction, packet, inner);
        let bearer = Bearer::of(inner);
        let mut bearers = [None; 2];
        bearers[direction.index()] = bearer;
        let place = self
            .site
            .place_of(key.sender(up).0, &inner.layers, &bearers);
        let session_id = self
            .site
            .session_ids
            .of(&key, bearer.map(|bearer| bearer.teid), time_ns);
        let mut session = Session::new(session_id, time_ns, up, Arc::new(place));
        session.initiator = initiator;
        session.bearers = bearers;
        session.qfi = bearer.and_then(|bearer| bearer.qfi);
        session.layers = inner.layers;
        let path = encapsulation(&inner.layers).to_string();
        session.encapsulation = (!path.is_empty()).then(|| path.into());
        if let Payload::Segment(segment) = &packet.payload {
            session.connection = Some(Connection::default());
            session.missed_start = !segment.is_syn();
        }
        self.totals.flows += 1;
        self.table.insert(key, session)
    }

    fn count(
        &mut self,
        id: FlowId,
        direction: Direction,
        inner: &Inner<'_>,
        packet: &Transported<'_>,
        time_ns: u64,
    ) {
        let Some((key, session)) = self.table.get_mut(id) else {
            return;
        };
        session.count(direction, inner, packet.payload_len, time_ns);
        match &packet.payload {
            Payload::Segment(segment) => session.on_segment(key, direction, segment, time_ns),
            Payload::Datagram(payload) => session.on_datagram(key, direction, payload, time_ns),
            Payload::Opaque => {}
        }
        let down = direction != session.up;
        if down && time_ns.saturating_sub(session.noted_reached_ns) >= SECOND_NS {
            session.noted_reached_ns = time_ns;
            let client = session.place.subscriber_id;
            self.clients.reached(client, time_ns);
        }
    }

    fn bring_timer_forward(&mut self, id: FlowId, transport: Transport) {
        let Some((_, session)) = self.table.get_mut(id) else {
            return;
        };
        let deadline_ns = session.deadline_ns(transport);
        if session.timer_ns == 0 || deadline_ns < session.timer_ns {
            self.set_timer(id, deadline_ns);
        }
    }
}
