//! Sessions in packet time: which one a packet belongs to, and when records are due.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control::attribution::AttributionMap;
use crate::control::bearers::Context;
use crate::control::learner::{Learner, Link};
use crate::control::message::{Message, TunnelEnd};
use crate::control::saved::{Kept, Restored};
use crate::control::transactions::Transaction;
use crate::control::tunnels::Measured;
use crate::decap::{Address, Inner, Transport};
use crate::engine::application::{Application, Quic};
use crate::engine::clients::{Clients, Winners};
use crate::engine::clock::{Clock, Step};
use crate::engine::emit::{IntervalEnd, emit};
use crate::engine::failure::Verdict;
use crate::engine::flows::{Flow, Flows};
use crate::engine::icmp::IcmpError;
use crate::engine::ledger::Untracked;
use crate::engine::names::Names;
use crate::engine::notes::Note;
use crate::engine::options::Limits;
use crate::engine::quic_ids::QuicIds;
use crate::engine::residents::Residents;
use crate::engine::session::{News, Path, Session};
use crate::engine::shared::Ways;
use crate::engine::signalling;
use crate::engine::site::Site;
use crate::engine::transport::{Payload, Transported};
use crate::engine::verdict::Around;
use crate::flow::{Direction, FlowId, FlowKey, Wheel};
use crate::record::Columns;
use crate::record::names::{EndReason, FailureStage};
use crate::tcp::Connection;

const SECOND_NS: u64 = 1_000_000_000;
/// A change of cell or QoS flow ends an interval no sooner than this after its start.
const SHORTEST_INTERVAL_NS: u64 = SECOND_NS;
/// Longer than any flow lives without a packet.
const LONGEST_WALK_NS: u64 = 1024 * SECOND_NS;

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub flows: u64,
    pub flows_evicted: u64,
    pub records: u64,
    /// ICMP errors that quote a packet of no flow, or one that its flow cannot have sent.
    pub icmp_errors_unmatched: u64,
}

/// All sessions of one capture.
pub struct Tracker {
    flows: Flows,
    ways: Ways,
    wheel: Option<Wheel>,
    clock: Clock,
    site: Site,
    clients: Clients,
    quic_ids: QuicIds,
    names: Names,
    learner: Learner,
    residents: Residents,
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
            flows: Flows::new(limits.flows as usize, hash_seed),
            ways: Ways::default(),
            wheel: None,
            clock: Clock::default(),
            site,
            clients: Clients::new(limits),
            quic_ids: QuicIds::default(),
            names: Names::new(limits.names as usize),
            learner: Learner::new(limits.bearers as usize),
            residents: Residents::default(),
            columns: Columns::default(),
            batch_rows,
            full: VecDeque::new(),
            totals: Totals::default(),
            due: Vec::new(),
        }
    }

    /// Replaces the attribution map for what is looked up from now on.
    pub fn set_attribution(&mut self, map: Arc<AttributionMap>) {
        self.site.map = map;
    }

    /// The packet time that is believed.
    pub fn clock_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub fn live_flows(&self) -> usize {
        self.flows.len()
    }

    /// Lets all flows rest; see `Flows::rest`.
    pub fn rest(&mut self) {
        self.flows.rest(self.clock.now_ns());
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What was not remembered of clients, by table.
    pub fn clients_shed(&self) -> [(&'static str, u64); 3] {
        self.clients.shed()
    }

    pub fn quic_ids_shed(&self) -> u64 {
        self.quic_ids.shed
    }

    /// What was not remembered of the control plane, by table.
    pub fn control_shed(&self) -> [(&'static str, u64); 2] {
        self.learner.shed()
    }

    /// Identities of one person that were learned since the last call.
    pub fn take_links(&mut self) -> Vec<Link> {
        self.learner.take_links()
    }

    /// What the control plane told, to be kept over a restart.
    pub fn save_bearers(&self) -> Kept {
        self.learner.save(self.clock.now_ns())
    }

    /// Takes in what an earlier run kept, as far as it still counts now.
    pub fn load_bearers(&mut self, kept: Kept) -> Restored {
        self.learner.load(kept, self.clock.now_ns())
    }

    pub fn names_shed(&self) -> u64 {
        self.names.shed()
    }

    /// Tells the time of a packet, and writes every record that came due; see `Clock` for what is
    /// believed.
    pub fn advance(&mut self, packet_ns: u64) {
        if self.learner.is_look_due(self.clock.now_ns()) {
            self.tell_unanswered(self.clock.now_ns());
        }
        match self.clock.observe(packet_ns) {
            Step::Stay => {}
            Step::Forward(now_ns) => self.go_on_to(now_ns),
            Step::Back(now_ns) => self.go_back_to(now_ns),
        }
    }

    fn go_on_to(&mut self, now_ns: u64) {
        let next_ns = match &self.wheel {
            Some(wheel) => wheel.next_ns(),
            None => self.wheel.insert(Wheel::new(now_ns)).next_ns(),
        };
        if now_ns < next_ns {
            return;
        }
        // In so many ticks every idle flow has ended; the rest of a long silence is skipped.
        self.tick_until(now_ns.min(next_ns.saturating_add(LONGEST_WALK_NS)));
        if self
            .wheel
            .as_ref()
            .is_some_and(|wheel| wheel.next_ns() <= now_ns)
        {
            self.start_wheel(now_ns);
        }
    }

    fn tick_until(&mut self, last_ns: u64) {
        while let Some(wheel) = &mut self.wheel {
            let tick_ns = wheel.next_ns();
            if last_ns < tick_ns || self.flows.is_empty() {
                return;
            }
            let mut due = std::mem::take(&mut self.due);
            wheel.turn(&mut due);
            self.tick(tick_ns, &due);
            due.clear();
            self.due = due;
        }
    }

    /// The capturing clock was set back: intervals end, and what is alive goes on from here.
    fn go_back_to(&mut self, now_ns: u64) {
        for (_, id) in self.flows_by_session_id() {
            let Some((_, session)) = self.flows.get_mut(id) else {
                continue;
            };
            let end_ns = session.last_ns;
            self.cut(id, end_ns);
            if let Some((_, session)) = self.flows.get_mut(id) {
                session.last_ns = session.last_ns.min(now_ns);
                session.interval_start_ns = session.interval_start_ns.min(now_ns);
            }
        }
        self.flows.on_cut(0);
        self.start_wheel(now_ns);
    }

    /// Starts a wheel at `now_ns` with the timers of all that lives.
    fn start_wheel(&mut self, now_ns: u64) {
        self.wheel = Some(Wheel::new(now_ns));
        for (_, id) in self.flows_by_session_id() {
            let Some((key, session)) = self.flows.get_mut(id) else {
                continue;
            };
            let wake_ns = session.wake_ns(key.transport, now_ns);
            self.set_timer(id, wake_ns);
        }
    }

    fn flows_by_session_id(&self) -> Vec<(u64, FlowId)> {
        let flows = self.flows.iter().map(|(id, _, flow)| (flow.id(), id));
        let mut flows: Vec<(u64, FlowId)> = flows.collect();
        flows.sort_unstable();
        flows
    }

    fn tick(&mut self, tick_ns: u64, due: &[FlowId]) {
        let mut ends: Vec<(u64, FlowId, Option<EndReason>)> = Vec::new();
        for &id in due {
            let Some((key, session)) = self.flows.get_mut(id) else {
                continue;
            };
            if session.timer_ns != tick_ns {
                continue;
            }
            if session.deadline_ns(key.transport) <= tick_ns {
                ends.push((session.id, id, Some(session.end_reason())));
                continue;
            }
            let wake_ns = session.wake_ns(key.transport, tick_ns);
            note_unanswered(&mut self.clients, key, session, tick_ns);
            self.set_timer(id, wake_ns);
        }
        if tick_ns.is_multiple_of(self.site.active_timeout_ns) {
            let ending: std::collections::HashSet<FlowId> =
                ends.iter().map(|&(_, id, _)| id).collect();
            let flows = self.flows.iter();
            let active = flows.filter(|(id, _, flow)| !ending.contains(id) && may_be_cut(flow));
            ends.extend(active.map(|(id, _, flow)| (flow.id(), id, None)));
            self.flows.on_cut(tick_ns);
        }
        ends.sort_unstable_by_key(|&(session_id, id, _)| (session_id, id));
        for (_, id, reason) in ends {
            match reason {
                Some(reason) => self.end(id, tick_ns, reason),
                None => self.cut_by_time(id, tick_ns),
            }
        }
        self.flows.sweep(tick_ns);
    }

    /// Ends the interval of a flow. A session that begins later than now was started by a time that is
    /// not believed.
    fn cut_by_time(&mut self, id: FlowId, tick_ns: u64) {
        let flow = self.flows.get_mut(id);
        if flow.is_some_and(|(_, session)| session.interval_start_ns < tick_ns) {
            self.cut(id, tick_ns);
        }
        self.flows.doze(id, tick_ns);
    }

    fn set_timer(&mut self, id: FlowId, deadline_ns: u64) {
        let Some(wheel) = &mut self.wheel else { return };
        let timer_ns = wheel.set(id, deadline_ns);
        if let Some((_, session)) = self.flows.get_mut(id) {
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
            flows,
            site,
            columns,
            ..
        } = self;
        let Some((key, session)) = flows.get_mut(id) else {
            return;
        };
        if session.is_interval_empty() {
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
        let Some((key, mut session)) = self.flows.remove(id) else {
            return;
        };
        self.residents.leave_address(session.client(&key), id);
        for path in session.paths.iter().flatten() {
            self.residents.leave_tunnel(path, id);
        }
        if reason != EndReason::Evicted {
            note_unanswered(&mut self.clients, &key, &mut session, now_ns);
        }
        let verdict = self.verdict_at_end(&key, &mut session, now_ns, reason);
        if session.is_interval_empty() {
            // The record says how the flow ended, and stands where its last packet was.
            session.interval_start_ns = session.last_ns;
        }
        self.note_the_end(&key, &mut session);
        let end = IntervalEnd {
            end_ns: session.last_ns.max(session.interval_start_ns),
            verdict,
            end_reason: Some(reason),
        };
        emit(&self.site.stamp, &key, &mut session, end, &mut self.columns);
        self.on_record();
    }

    /// Judges a flow that ends, by its own facts and by the client's other sessions.
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

    /// Ends every flow: nothing more will be captured.
    pub fn finish(&mut self) {
        self.note_all_unanswered();
        for (_, id) in self.flows_by_session_id() {
            let reason = match self
                .flows
                .get_mut(id)
                .map(|(_, session)| session.end_reason())
            {
                Some(EndReason::Idle) | None => EndReason::CaptureEnd,
                Some(reason) => reason,
            };
            self.end(id, self.clock.closing_ns(), reason);
        }
    }

    /// Gives a packet to its flow, with what its tunnel's header measured, if anything.
    pub fn on_packet(
        &mut self,
        inner: &Inner<'_>,
        measured: Option<&Measured>,
        time_ns: u64,
    ) -> Result<(), Untracked> {
        let packet = Transported::read(inner)?;
        let (key, direction) = FlowKey::of(
            inner.source,
            packet.source_port,
            inner.destination,
            packet.destination_port,
            inner.transport,
        );
        let (id, new) = match self.flows.find(&key) {
            Some(id) if self.goes_on(id, direction, &packet, inner) => (id, false),
            found => self.turn(found, key, direction, &packet, inner, time_ns),
        };
        self.count(id, direction, inner, &packet, time_ns);
        if let Some(measured) = measured
            && let Some((_, session)) = self.flows.get_mut(id)
        {
            session.on_measured(direction, measured);
        }
        if let Payload::IcmpError(error) = &packet.payload {
            self.on_icmp_error(error, inner);
        }
        let closing = matches!(&packet.payload, Payload::Segment(segment)
            if segment.has_fin() || segment.is_reset());
        if new || closing {
            self.bring_timer_forward(id, key.transport);
        }
        Ok(())
    }

    #[inline]
    fn goes_on(
        &mut self,
        id: FlowId,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> bool {
        let found = self.flows.get_mut(id);
        found.is_some_and(|(_, session)| session.goes_on(direction, packet, inner))
    }

    /// The flow of a packet that may begin one, or come by another way than those before it; whether it
    /// is new.
    #[inline(never)]
    fn turn(
        &mut self,
        found: Option<FlowId>,
        key: FlowKey,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
        time_ns: u64,
    ) -> (FlowId, bool) {
        match found.and_then(|id| self.still_the_same(id, direction, packet, inner)) {
            Some(id) => (id, false),
            None => (self.begin(key, direction, packet, inner, time_ns), true),
        }
    }

    /// Takes in the way of a packet that the mirror had shown already, and nothing else. Where the first
    /// copy came without a tunnel (the core's side of a gateway), the tunnel of a later one (its radio
    /// side) still tells which way is up, and by the map whose the flow is and where.
    #[cold]
    pub fn on_copy(&mut self, inner: &Inner<'_>) {
        if inner.tunnel.is_some() {
            self.offer_path(inner);
        }
    }

    #[cold]
    #[inline(never)]
    fn offer_path(&mut self, inner: &Inner<'_>) -> Option<()> {
        let packet = Transported::read(inner).ok()?;
        let (key, direction) = FlowKey::of(
            inner.source,
            packet.source_port,
            inner.destination,
            packet.destination_port,
            inner.transport,
        );
        let id = self.flows.find(&key)?;
        let up = self.tunnel_direction(direction, inner);
        let (_, session) = self.flows.get_mut(id)?;
        if has_tunnel(&session.paths[direction.index()]) {
            return None;
        }
        let tunnelled_before = session.paths.iter().any(has_tunnel);
        if let Some(up) = up
            && !tunnelled_before
            && session.interval_index == 0
            && key.transport == Transport::Tcp
            && session.up != up
        {
            let before = session.client(&key);
            session.up = up;
            self.residents.leave_address(before, id);
            self.residents.enter_address(session.client(&key), id);
        }
        self.change_path(id, direction, inner)?;
        Some(())
    }

    /// Tells the flow of the quoted packet. The error itself is a packet of its own flow.
    fn on_icmp_error(&mut self, error: &IcmpError, inner: &Inner<'_>) {
        let (key, quoted) = error.subject();
        let subject = self.flows.find(&key);
        let subject = subject.and_then(|id| self.flows.get_mut(id));
        let is_its_packet =
            subject.is_some_and(|(_, session)| session.on_icmp_error(quoted, error, inner.source));
        self.totals.icmp_errors_unmatched += u64::from(!is_its_packet);
    }

    /// Which way is up in the flow of an ICMP error: its client is that of the flow it is about, and
    /// either the receiver or on the sender's side.
    fn up_of_error(&mut self, direction: Direction, error: &IcmpError) -> Direction {
        let (key, quoted) = error.subject();
        let subject = self.flows.find(&key);
        let subject = subject.and_then(|id| self.flows.get_mut(id));
        let quotes_a_client = match subject {
            Some((_, session)) => session.up == quoted,
            None => error.quotes_a_client(),
        };
        if quotes_a_client {
            direction.opposite()
        } else {
            direction
        }
    }

    /// Ends the flow of a five-tuple that another connection or subscriber took over.
    fn still_the_same(
        &mut self,
        id: FlowId,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let now_ns = self.clock.now_ns();
        let (_, session) = self.flows.get_mut(id)?;
        let reused = match (&packet.payload, &session.connection) {
            (Payload::Segment(segment), Some(tcp)) => tcp.is_reuse(direction, segment),
            (Payload::Datagram(payload), _) => session.is_succeeded_by(direction, payload),
            _ => false,
        };
        if reused {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        self.follow_path(id, direction, inner)
    }

    /// Follows a flow to the way by which a packet comes; see `change_path`.
    #[inline]
    fn follow_path(
        &mut self,
        id: FlowId,
        direction: Direction,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let (_, session) = self.flows.get_mut(id)?;
        let known = &session.paths[direction.index()];
        if known.as_ref().is_some_and(|known| known.carries(inner)) && !session.is_unsettled {
            return Some(id);
        }
        self.change_path(id, direction, inner)
    }

    /// Follows a flow to another way (VLAN, tunnel, QoS flow): another subscriber ends it, another
    /// cell or QoS flow ends the interval. What the map does not know changes nothing.
    #[inline(never)]
    fn change_path(
        &mut self,
        id: FlowId,
        direction: Direction,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let now_ns = self.clock.now_ns();
        let path = self.ways.of(inner);
        let (key, session) = self.flows.get_mut(id)?;
        let known = &session.paths[direction.index()];
        // On a mirror of both sides of a gateway the tunnel shows in copies alone (see `on_copy`).
        if inner.tunnel.is_none() && has_tunnel(known) {
            return Some(id);
        }
        let known = known.clone();
        let client = session.client(key);
        let back = session.paths[direction.opposite().index()].clone();
        let back = back.filter(|_| !session.is_unsettled);
        if known.is_none() && path.tunnel.is_none() && back.as_ref() == Some(&path) {
            // The answer comes by the way of the question: that says nothing new.
            session.paths[direction.index()] = Some(path);
            return Some(id);
        }
        // The newer way decides; the other direction completes what is not known of it.
        let bearers = &self.learner.bearers;
        let mut look_up = |paths| self.site.place_of(client, paths, bearers, now_ns);
        let alone = look_up([Some(&path), None]);
        let place = match &back {
            Some(back) => look_up([Some(&path), Some(back)]),
            None => Arc::clone(&alone),
        };
        let before = Arc::clone(&session.place);
        if alone.is_another_subscriber(&before) {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        let other_qos_flow = known.as_ref().is_some_and(|known| {
            let (then, now) = (known.qfi(), path.qfi());
            then.is_some() && now.is_some() && then != now && now != session.qfi
        });
        let moves =
            other_qos_flow || place.is_another_cell(&before) || place.is_another_class(&before);
        // A mirror that shows a packet at two hops alternates between their tunnels: without a
        // limit each packet would end an interval. The control plane does not alternate.
        let age_ns = now_ns.saturating_sub(session.interval_start_ns);
        let too_soon = age_ns < SHORTEST_INTERVAL_NS && !place.is_learned;
        if moves && too_soon {
            return Some(id);
        }
        if moves || place.is_learned && place.is_found_or_lost(&before) {
            self.cut(id, now_ns);
        }
        let (_, session) = self.flows.get_mut(id)?;
        session.paths[direction.index()] = Some(Arc::clone(&path));
        let unsettled = std::mem::take(&mut session.is_unsettled);
        let left = session.paths[direction.opposite().index()].take_if(|_| unsettled);
        if other_qos_flow || session.qfi.is_none() {
            session.qfi = path.qfi().or(session.qfi);
        }
        if place.is_known() || !before.is_known() {
            session.place = place;
        }
        let known = known.filter(|known| known.tunnel != path.tunnel);
        for left in known.iter().chain(&left) {
            self.residents.leave_tunnel(left, id);
        }
        self.residents.enter_tunnel(&path, id);
        Some(id)
    }

    /// Whether an end of a packet is a subscriber's: such a packet is none of the control plane,
    /// whatever its ports.
    pub fn is_of_subscriber(&self, inner: &Inner<'_>) -> bool {
        [inner.source, inner.destination]
            .into_iter()
            .any(|address| self.site.is_subscriber(address))
    }

    /// The same of one address.
    pub fn is_subscriber(&self, address: Address) -> bool {
        self.site.is_subscriber(address)
    }

    /// Takes in what a message of the control plane said, and tells the flows that it is about.
    pub fn on_control(&mut self, message: &Message, ends: [Address; 2], time_ns: u64) {
        let pseudonyms = &self.site.pseudonyms;
        let changes = self.learner.on_message(message, ends, time_ns, pseudonyms);
        if let Some((transaction, context)) = &changes.ended {
            self.tell(transaction, context.as_ref());
        }
        if !changes.keys.is_empty() && self.residents.begin() {
            self.settle_residents();
        }
        for id in self.residents.behind(&changes.keys) {
            self.look_up_again(id);
        }
    }

    /// Those who live already enter their houses.
    #[cold]
    fn settle_residents(&mut self) {
        let now_ns = self.clock.now_ns();
        for (_, id) in self.flows_by_session_id() {
            let Some((key, session)) = self.flows.get_mut(id) else {
                continue;
            };
            self.residents.enter_address(session.client(key), id);
            for path in session.paths.iter().flatten() {
                self.residents.enter_tunnel(path, id);
            }
            self.flows.doze(id, now_ns);
        }
    }

    /// Writes the record of a request of the control plane, if it is to have one.
    fn tell(&mut self, transaction: &Transaction, context: Option<&Context>) {
        let verdict = signalling::judge(transaction);
        if signalling::is_told(transaction, &verdict) {
            let (stamp, ids) = (&self.site.stamp, &self.site.session_ids);
            signalling::emit(
                transaction,
                context,
                &verdict,
                stamp,
                ids,
                &mut self.columns,
            );
            self.on_record();
        }
    }

    /// Gives up the requests that wait for too long.
    fn tell_unanswered(&mut self, now_ns: u64) {
        for (transaction, context) in self.learner.take_unanswered(now_ns) {
            self.tell(&transaction, context.as_ref());
        }
    }

    /// No more packets come to a tunnel end that a handover gave up.
    pub fn on_end_marker(&mut self, end: TunnelEnd) {
        self.learner.on_end_marker(end);
    }

    /// A tunnel end is unknown to the node that it was said to be at.
    pub fn on_error_indication(&mut self, end: TunnelEnd) {
        self.learner.on_error_indication(end);
    }

    /// What is known of a flow's tunnels or address has changed: another subscriber ends it, another
    /// cell ends the interval.
    fn look_up_again(&mut self, id: FlowId) {
        let now_ns = self.clock.now_ns();
        let Some((key, session)) = self.flows.get_mut(id) else {
            return;
        };
        let client = session.client(key);
        let [one, other] = session.paths.each_ref().map(Option::as_deref);
        let bearers = &self.learner.bearers;
        let place = self.site.place_of(client, [one, other], bearers, now_ns);
        if place == session.place {
            return;
        }
        let before = Arc::clone(&session.place);
        // Who has its tunnel or address from now on need not have had it when the flow fell silent.
        if !before.is_named() && place.is_named() {
            session.is_unsettled = true;
            return;
        }
        if place.is_another_subscriber(&before) {
            self.end(id, now_ns, EndReason::PortReused);
            return;
        }
        // What is left of the flow of a session that ended is still that subscriber's.
        if before.is_named() && !place.is_named() {
            return;
        }
        if place.is_another_cell(&before)
            || place.is_another_class(&before)
            || place.is_found_or_lost(&before)
        {
            self.cut(id, now_ns);
        }
        if let Some((_, session)) = self.flows.get_mut(id) {
            session.place = place;
        }
    }

    fn tunnel_direction(&self, direction: Direction, inner: &Inner<'_>) -> Option<Direction> {
        let (bearers, now_ns) = (&self.learner.bearers, self.clock.now_ns());
        self.site
            .tunnel_direction(direction, inner, bearers, now_ns)
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
        if self.flows.is_full()
            && let Some(victim) = self.flows.victim()
        {
            self.totals.flows_evicted += 1;
            self.end(victim, self.clock.now_ns(), EndReason::Evicted);
        }
        let hint = match &packet.payload {
            Payload::IcmpError(error) => Some(self.up_of_error(direction, error)),
            _ => None,
        };
        let tunnel = self.tunnel_direction(direction, inner);
        let (up, initiator) = self.site.orientation(&key, direction, packet, tunnel, hint);
        let path = self.ways.of(inner);
        let client = key.sender(up).0;
        let now_ns = self.clock.now_ns();
        let paths = [Some(&*path), None];
        let place = self
            .site
            .place_of(client, paths, &self.learner.bearers, now_ns);
        let session_id = self.site.session_ids.of(&key, path.teid(), time_ns);
        let mut session = Session::new(session_id, time_ns, up, place);
        session.initiator = initiator;
        let subscriber = session.place.subscriber_id;
        let server = key.sender(up.opposite()).0;
        let name = self.names.lookup(subscriber, server, now_ns);
        session.name_from_dns = name.map(|name| Arc::clone(&name.text));
        let alias = self.names.other_asker(subscriber, server, now_ns);
        session.alias = alias.map(Box::new);
        session.qfi = path.qfi();
        session.encapsulation = path.encapsulation.clone();
        session.paths[direction.index()] = Some(Arc::clone(&path));
        if let Payload::Segment(segment) = &packet.payload {
            session.connection = Some(Box::<Connection>::default());
            session.missed_start = !segment.is_syn();
        }
        if let Payload::Datagram(payload) = &packet.payload
            && direction == up
            && let Some(identity) = self.quic_ids.find(key.sender(up.opposite()), payload)
        {
            session.application = Application::resumed(Quic::resumed(identity));
            session.missed_start = true;
        }
        self.totals.flows += 1;
        let id = self.flows.insert(key, session);
        self.residents.enter_address(client, id);
        self.residents.enter_tunnel(&path, id);
        id
    }

    fn count(
        &mut self,
        id: FlowId,
        direction: Direction,
        inner: &Inner<'_>,
        packet: &Transported<'_>,
        time_ns: u64,
    ) {
        let now_ns = self.clock.now_ns();
        let Some((key, session)) = self.flows.get_mut(id) else {
            return;
        };
        session.count(direction, inner, packet.payload_len, time_ns, now_ns);
        match &packet.payload {
            Payload::Segment(segment) => session.on_segment(key, direction, segment, time_ns),
            Payload::Datagram(payload) => session.on_datagram(key, direction, payload, time_ns),
            Payload::Echo(echo) => {
                let ping = session.ping.get_or_insert_default();
                ping.on_echo(direction, *echo, time_ns);
            }
            Payload::IcmpError(error) => session.notes.add(error.note),
            Payload::Opaque => {}
        }
        let has_word = session.application.has_word();
        let news = session.take_news();
        let down = direction != session.up;
        let reached = down && time_ns.saturating_sub(session.noted_reached_ns) >= SECOND_NS;
        if has_word {
            self.hear(id);
        }
        if let Some(news) = news {
            self.spread(news, id, time_ns);
        }
        if reached {
            self.note_reached(id, time_ns);
        }
    }

    /// Remembers what a packet's DNS or QUIC told of its client's other sessions.
    #[inline(never)]
    fn hear(&mut self, id: FlowId) {
        let now_ns = self.clock.now_ns();
        let Some((key, session)) = self.flows.get_mut(id) else {
            return;
        };
        for event in session.application.take_dns_events() {
            let client = session.place.subscriber_id;
            if self.names.hear(client, event, now_ns) {
                session.notes.add(Note::DnsQueryRepeated);
            }
        }
        if let Some(quic) = session.application.quic_mut()
            && let Some((id, identity)) = quic.tracker.take_news()
            && !quic.tracker.is_swapped()
        {
            let server = session.up.opposite();
            self.quic_ids
                .remember(key.sender(server), id, identity, now_ns);
        }
    }

    /// Tells the client's other sessions of this one.
    #[inline(never)]
    fn spread(&mut self, news: News, id: FlowId, time_ns: u64) {
        let now_ns = self.clock.now_ns();
        let Some((key, session)) = self.flows.get_mut(id) else {
            return;
        };
        match news {
            News::Connected => {
                let target = session.target(key);
                self.clients.connected(&target, key.transport, time_ns);
            }
            News::InVain => {
                let attempt = session.attempt(key);
                attempt.inspect(|attempt| self.clients.tried_in_vain(attempt, now_ns));
            }
        }
    }

    #[inline(never)]
    fn note_reached(&mut self, id: FlowId, time_ns: u64) {
        if let Some((_, session)) = self.flows.get_mut(id) {
            session.noted_reached_ns = time_ns;
            self.clients.reached(session.place.subscriber_id, time_ns);
        }
    }

    /// What is unanswered at the end of a capture is counted before any of it is judged.
    fn note_all_unanswered(&mut self) {
        let now_ns = self.clock.closing_ns();
        let flows = self.flows.iter();
        let mut flows: Vec<(u64, u64, FlowId)> = flows
            .filter(|(_, _, flow)| flow.may_be_unanswered())
            .map(|(id, _, flow)| (flow.flow_start_ns(), flow.id(), id))
            .collect();
        flows.sort_unstable();
        for (_, _, id) in flows {
            if let Some((key, session)) = self.flows.get_mut(id) {
                note_unanswered(&mut self.clients, key, session, now_ns);
            }
            self.flows.doze(id, now_ns);
        }
    }

    fn bring_timer_forward(&mut self, id: FlowId, transport: Transport) {
        let now_ns = self.clock.now_ns();
        let Some((_, session)) = self.flows.get_mut(id) else {
            return;
        };
        let wake_ns = session.wake_ns(transport, now_ns);
        if session.timer_ns == 0 || wake_ns < session.timer_ns {
            self.set_timer(id, wake_ns);
        }
    }
}

/// Whether an interval of a flow may have something to tell.
fn may_be_cut(flow: &Flow) -> bool {
    match flow {
        Flow::Awake(_) => true,
        Flow::Asleep(sleeper) => sleeper.has_counted(),
        Flow::Turning => false,
    }
}

fn has_tunnel(path: &Option<Arc<Path>>) -> bool {
    path.as_ref().is_some_and(|path| path.tunnel.is_some())
}

/// Counts an attempt that is unanswered so far.
fn note_unanswered(clients: &mut Clients, key: &FlowKey, session: &mut Session, now_ns: u64) {
    if session.take_unanswered()
        && let Some(attempt) = session.attempt(key)
    {
        clients.tried_in_vain(&attempt, now_ns);
    }
}
