//! Sessions in packet time: which one a packet belongs to, and when records are due.

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
use crate::engine::aside::emit_aside;
use crate::engine::clock::{Clock, Step};
use crate::engine::emit::IntervalEnd;
use crate::engine::eviction::Eviction;
use crate::engine::flows::{Flow, Flows};
use crate::engine::icmp::IcmpError;
use crate::engine::joint::{Desk, Joint};
use crate::engine::ledger::Untracked;
use crate::engine::log::Log;
use crate::engine::options::Limits;
use crate::engine::overload::Shedding;
use crate::engine::overloaded::{Overloaded, Unseen};
use crate::engine::quic_ids::QuicIds;
use crate::engine::residents::Residents;
use crate::engine::session::{News, Path, Session};
use crate::engine::shard::Sharing;
use crate::engine::shared::Ways;
use crate::engine::signalling;
use crate::engine::site::Site;
use crate::engine::transport::{Payload, Transported};
use crate::flow::{Direction, FlowId, FlowKey, Wheel};
use crate::record::names::EndReason;
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
    /// Which flows are other parts'; none where a subscriber's are all here.
    sharing: Option<Sharing>,
    desk: Desk,
    quic_ids: QuicIds,
    learner: Learner,
    residents: Residents,
    pub totals: Totals,
    due: Vec<FlowId>,
    eviction: Eviction,
    flows_limit: usize,
    overloaded: Overloaded,
}

impl Tracker {
    pub fn new(site: Site, limits: &Limits, batch_rows: usize, hash_seed: u64) -> Self {
        let joint = Joint::new(site.stamp.clone(), limits, batch_rows);
        Self::with(Desk::Here(Box::new(joint)), site, limits, hash_seed)
    }

    /// The sessions of one of several parts, which writes down what concerns those of the others.
    pub fn of_part(site: Site, sharing: Sharing, limits: &Limits, hash_seed: u64) -> Self {
        let mut tracker = Self::with(Desk::Away(Box::default()), site, limits, hash_seed);
        tracker.sharing = Some(sharing);
        tracker
    }

    fn with(desk: Desk, site: Site, limits: &Limits, hash_seed: u64) -> Self {
        Self {
            flows: Flows::new(limits.flows as usize, hash_seed),
            ways: Ways::default(),
            wheel: None,
            clock: Clock::default(),
            site,
            sharing: None,
            desk,
            quic_ids: QuicIds::default(),
            learner: Learner::new(limits.bearers as usize),
            residents: Residents::default(),
            totals: Totals::default(),
            due: Vec::new(),
            eviction: Eviction::new(limits.flows as usize),
            flows_limit: limits.flows as usize,
            overloaded: Overloaded::new(limits.shedding.at_first()),
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

    /// Leaves out what `shedding` says from now on.
    pub fn set_shedding(&mut self, shedding: Shedding) {
        self.overloaded.set(shedding);
    }

    /// What was left unseen of the packet before.
    #[inline]
    pub fn take_unseen(&mut self) -> Unseen {
        self.overloaded.take()
    }

    /// While memory is short the table does not grow: who comes takes the place of another.
    pub fn hold_flows(&mut self, is_short: bool) {
        let limit = self.flows_limit;
        let held = self.flows.len().clamp(1, limit);
        self.flows.set_capacity(if is_short { held } else { limit });
    }

    pub fn evictions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.eviction.counts()
    }

    /// What is kept of all sessions together; none where that is elsewhere.
    pub fn joint(&self) -> Option<&Joint> {
        match &self.desk {
            Desk::Here(joint) => Some(joint),
            Desk::Away(_) => None,
        }
    }

    pub fn joint_mut(&mut self) -> Option<&mut Joint> {
        match &mut self.desk {
            Desk::Here(joint) => Some(joint),
            Desk::Away(_) => None,
        }
    }

    /// What one of several parts writes down.
    pub fn log_mut(&mut self) -> Option<&mut Log> {
        match &mut self.desk {
            Desk::Here(_) => None,
            Desk::Away(log) => Some(log),
        }
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

    /// Tells the time of a packet, and writes every record that came due; see `Clock` for what is
    /// believed.
    #[inline]
    pub fn advance(&mut self, packet_ns: u64) {
        if !self.clock.runs_on(packet_ns) {
            self.observe(packet_ns);
        }
    }

    #[inline(never)]
    fn observe(&mut self, packet_ns: u64) {
        let step = self.clock.observe(packet_ns);
        if self.clock.is_another_second() {
            self.take_step(step);
        }
    }

    /// Goes with a clock that is kept elsewhere, to a time within the second.
    #[inline]
    pub fn follow(&mut self, now_ns: u64) {
        self.clock.follow(now_ns);
    }

    /// Goes with a clock that is kept elsewhere, to another second.
    pub fn follow_step(&mut self, step: Step) {
        if let Step::Forward(now_ns) | Step::Back(now_ns) = step {
            self.clock.follow(now_ns);
        }
        self.take_step(step);
    }

    fn take_step(&mut self, step: Step) {
        self.tell_unanswered(self.clock.now_ns());
        match step {
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
        self.desk.next_stage();
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
        let mut flows = Vec::with_capacity(self.flows.len());
        flows.extend(self.flows.iter().map(|(id, _, flow)| (flow.id(), id)));
        flows.sort_unstable();
        flows
    }

    fn tick(&mut self, tick_ns: u64, due: &[FlowId]) {
        let mut ends: Vec<(u64, FlowId, Option<EndReason>)> = Vec::new();
        let mut unanswered: Vec<(u64, u64, FlowId)> = Vec::new();
        self.desk.at_tick(tick_ns / SECOND_NS);
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
            if session.take_unanswered() {
                unanswered.push((session.flow_start_ns, session.id, id));
            }
            self.set_timer(id, wake_ns);
        }
        self.note_unanswered(unanswered, tick_ns);
        self.desk.next_stage();
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

    /// Ends an interval of a flow that lives on. Intervals without packets leave no record.
    fn cut(&mut self, id: FlowId, end_ns: u64) {
        self.cut_aside(id, end_ns);
        self.cut_main(id, end_ns);
    }

    /// Ends the interval of the direction that is in another cell, if one is.
    fn cut_aside(&mut self, id: FlowId, end_ns: u64) {
        let Self {
            flows, site, desk, ..
        } = self;
        if let Some((key, session)) = flows.get_mut(id)
            && session.aside.is_some()
        {
            emit_aside(&site.stamp, key, session, end_ns, desk);
        }
    }

    fn cut_main(&mut self, id: FlowId, end_ns: u64) {
        let Self {
            flows, site, desk, ..
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
        desk.cut(id, &site.stamp, key, session, end);
    }

    /// Ends a flow and writes its last record.
    fn end(&mut self, id: FlowId, now_ns: u64, reason: EndReason) {
        self.cut_aside(id, now_ns);
        let Some((key, mut session)) = self.flows.remove(id) else {
            return;
        };
        self.residents.leave_address(session.client(&key), id);
        for path in session.paths.iter().flatten() {
            self.residents.leave_tunnel(path, id);
        }
        session.read_to_the_end();
        self.desk.conclude(id, key, session, now_ns, reason);
    }

    /// Ends every flow: nothing more will be captured.
    pub fn finish(&mut self) {
        self.finish_at(self.clock.closing_ns());
    }

    /// The same by a clock that is kept elsewhere.
    pub fn finish_at(&mut self, now_ns: u64) {
        self.desk.next_stage();
        self.note_all_unanswered(now_ns);
        self.desk.next_stage();
        for (_, id) in self.flows_by_session_id() {
            let reason = match self
                .flows
                .get_mut(id)
                .map(|(_, session)| session.end_reason())
            {
                Some(EndReason::Idle) | None => EndReason::CaptureEnd,
                Some(reason) => reason,
            };
            self.end(id, now_ns, reason);
        }
    }

    /// Gives a packet to its flow, with what its tunnel's header measured, if anything.
    pub fn on_packet(
        &mut self,
        inner: &Inner<'_>,
        measured: Option<&Measured>,
        time_ns: u64,
    ) -> Result<(), Untracked> {
        let mut packet = Transported::read(inner)?;
        self.overloaded.mark(&mut packet.payload);
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
        if inner.tunnel().is_some() {
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

    /// Takes in what an ICMP error says of the packet that it quotes, and nothing else: its own flow is
    /// another part's.
    pub fn on_quote(&mut self, inner: &Inner<'_>) {
        if let Some(error) = IcmpError::read(inner) {
            self.on_icmp_error(&error, inner);
        }
    }

    /// Tells the flow of the quoted packet. The error itself is a packet of its own flow.
    fn on_icmp_error(&mut self, error: &IcmpError, inner: &Inner<'_>) {
        let (key, quoted) = error.subject();
        let sharing = self.sharing.as_ref();
        if sharing.is_some_and(|sharing| sharing.of_flow(&key) != self.site.part.number) {
            return;
        }
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
        if inner.tunnel().is_none() && has_tunnel(known) {
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
        if direction == session.up {
            self.witness(&path, client);
        }
        // The newer way decides; the other direction completes what is not known of it.
        let bearers = &self.learner.bearers;
        let mut look_up = |paths| self.site.place_of(client, paths, bearers, now_ns);
        let alone = look_up([Some(&path), None]);
        let place = match &back {
            Some(back) => look_up([Some(&path), Some(back)]),
            None => Arc::clone(&alone),
        };
        let (_, session) = self.flows.get_mut(id)?;
        let [before, other] =
            [direction, direction.opposite()].map(|one| session.place_of(one).clone());
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
        let since_ns = session.interval_start_ns;
        let age_ns = now_ns.saturating_sub(since_ns);
        let too_soon = age_ns < SHORTEST_INTERVAL_NS && !place.is_learned;
        if moves && too_soon {
            return Some(id);
        }
        let is_told_late = !other_qos_flow && place.is_told_late(&before, since_ns, now_ns);
        let is_new = known.is_none() && place.is_apart(&other);
        if !is_told_late
            && !is_new
            && (moves || place.is_learned && place.is_found_or_lost(&before))
        {
            let mut moved = [false; 2];
            moved[direction.index()] = true;
            self.cut_moved(
                id,
                moved,
                !other_qos_flow && !place.is_apart(&other),
                now_ns,
            );
        }
        let (_, session) = self.flows.get_mut(id)?;
        session.paths[direction.index()] = Some(Arc::clone(&path));
        let unsettled = std::mem::take(&mut session.is_unsettled);
        let left = session.paths[direction.opposite().index()].take_if(|_| unsettled);
        if other_qos_flow || session.qfi.is_none() {
            session.qfi = path.qfi().or(session.qfi);
        }
        if place.is_known() || !before.is_known() {
            // The first packet of its direction tells no more of the flow than of itself.
            if is_new {
                session.set_places(direction.opposite(), [other, place]);
            } else {
                session.set_places(direction, [place, other]);
            }
        }
        let known = known.filter(|known| known.tunnel != path.tunnel);
        for left in known.iter().chain(&left) {
            self.residents.leave_tunnel(left, id);
        }
        self.residents.enter_tunnel(&path, id);
        Some(id)
    }

    /// Takes in from which address a packet comes up a tunnel.
    fn witness(&mut self, path: &Path, client: Address) {
        if let Some(tunnel) = path.tunnel {
            let end = TunnelEnd {
                address: tunnel.destination,
                teid: tunnel.teid,
            };
            self.learner.bearers.witness(end, client);
        }
    }

    /// Whether the operator's prefixes say that an address is a subscriber's.
    pub fn is_subscriber(&self, address: Address) -> bool {
        self.site.is_subscriber(address)
    }

    /// Takes in what a message of the control plane said, and tells the flows that it is about.
    pub fn on_control(&mut self, message: &Message, ends: [Address; 2], time_ns: u64) {
        let pseudonyms = &self.site.pseudonyms;
        self.desk.next_stage();
        let changes = self.learner.on_message(message, ends, time_ns, pseudonyms);
        if let Some((transaction, context)) = &changes.ended {
            self.tell(transaction, context.as_ref());
        }
        self.desk.next_stage();
        if !changes.keys.is_empty() && self.residents.begin() {
            self.settle_residents();
        }
        for id in self.by_name(self.residents.behind(&changes.keys)) {
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

    /// In the order of the sessions' names: places in the table are nobody's business.
    fn by_name(&mut self, ids: Vec<FlowId>) -> Vec<FlowId> {
        if ids.len() < 2 {
            return ids;
        }
        let mut name = |id: &FlowId| self.flows.get_mut(*id).map(|(_, session)| session.id);
        let mut named: Vec<_> = ids.into_iter().map(|id| (name(&id), id)).collect();
        named.sort_unstable();
        named.into_iter().map(|(_, id)| id).collect()
    }

    /// Writes the record of a request of the control plane, if it is to have one.
    fn tell(&mut self, transaction: &Transaction, context: Option<&Context>) {
        if !self.site.part.is_lead() {
            return;
        }
        let verdict = signalling::judge(transaction);
        if signalling::is_told(transaction, &verdict) {
            let (stamp, ids) = (&self.site.stamp, &self.site.session_ids);
            signalling::emit(transaction, context, &verdict, stamp, ids, &mut self.desk);
        }
    }

    /// Gives up the requests that wait for too long.
    fn tell_unanswered(&mut self, now_ns: u64) {
        if !self.learner.is_look_due(now_ns) {
            return;
        }
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
        let paths = session.paths.each_ref().map(Option::as_deref);
        let bearers = &self.learner.bearers;
        let mut look_up = |paths| self.site.place_of(client, paths, bearers, now_ns);
        let places = [look_up(paths), look_up([paths[1], paths[0]])];
        let is_same = |one: Direction| Arc::ptr_eq(&places[one.index()], session.place_of(one));
        if Direction::BOTH.into_iter().all(is_same) {
            return;
        }
        let main = session.main_of(&places);
        let place = &places[main.index()];
        let before = Arc::clone(&session.place);
        // Who has its tunnel or address from now on need not have had it when the flow fell silent.
        if place.is_named() && place.subscriber_id != before.subscriber_id {
            session.is_unsettled = true;
            return;
        }
        // What is left of the flow of a session that ended is still that subscriber's.
        if before.is_named() && !place.is_named() {
            return;
        }
        let since_ns = session.interval_start_ns;
        let has_moved = |direction: Direction| {
            let (place, before) = (&places[direction.index()], session.place_of(direction));
            let moves = place.is_another_cell(before)
                || place.is_found_or_lost(before)
                || direction == main && place.is_another_class(before);
            moves && !place.is_told_late(before, since_ns, now_ns)
        };
        let moved = [Direction::Forward, Direction::Reverse].map(has_moved);
        if moved != [false; 2] {
            self.cut_moved(id, moved, !places[0].is_apart(&places[1]), now_ns);
        }
        if let Some((_, session)) = self.flows.get_mut(id) {
            let other = main.opposite().index();
            session.set_places(
                main,
                [&places[main.index()], &places[other]].map(Arc::clone),
            );
        }
    }

    /// Ends the intervals of directions that have moved; `agree`: both are in one cell now.
    fn cut_moved(&mut self, id: FlowId, moved: [bool; 2], agree: bool, now_ns: u64) {
        let session = self.flows.get_mut(id).map(|(_, session)| session);
        if session.is_some_and(|session| session.only_follows(moved, agree)) {
            self.cut_aside(id, now_ns);
        } else {
            self.cut(id, now_ns);
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
            && let Some(victim) = self.eviction.choose(&mut self.flows, self.clock.now_ns())
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
        if direction == up {
            self.witness(&path, client);
        }
        let place = self
            .site
            .place_of(client, paths, &self.learner.bearers, now_ns);
        let session_id = self.site.session_ids.of(&key, path.teid(), time_ns);
        let mut session = Session::new(session_id, time_ns, up, place);
        session.initiator = initiator;
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
        } else {
            self.overloaded
                .begin(&mut session, &key, direction, &packet.payload);
        }
        self.totals.flows += 1;
        let server = key.sender(up.opposite()).0;
        let id = self.flows.insert(key, session);
        self.eviction.on_begin(id, self.flows.len());
        if let Some((_, session)) = self.flows.get_mut(id) {
            self.desk.began(id, session, server, now_ns);
        }
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
            Payload::Datagram(payload) if self.overloaded.passes_over(session, payload) => {}
            Payload::Datagram(payload) => session.on_datagram(key, direction, payload, time_ns),
            Payload::Echo(echo) => {
                let ping = session.ping.get_or_insert_default();
                ping.on_echo(direction, *echo, time_ns);
            }
            Payload::IcmpError(error) => session.notes.add(error.note),
            Payload::Opaque => {}
        }
        self.overloaded.note(session, &packet.payload);
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
            self.desk.hear(id, session, event, now_ns);
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
                self.desk.connected(id, &target, key.transport, time_ns);
            }
            News::InVain => {
                let attempt = session.attempt(key);
                attempt.inspect(|attempt| self.desk.tried_in_vain(id, attempt, now_ns));
            }
        }
    }

    #[inline(never)]
    fn note_reached(&mut self, id: FlowId, time_ns: u64) {
        if let Some((_, session)) = self.flows.get_mut(id) {
            session.noted_reached_ns = time_ns;
            self.desk.reached(session.place.subscriber_id, time_ns);
        }
    }

    /// What is unanswered at the end of a capture is counted before any of it is judged.
    fn note_all_unanswered(&mut self, now_ns: u64) {
        let flows = self.flows.iter();
        let unanswered = flows.filter(|(_, _, flow)| may_be_unanswered(flow));
        let ids: Vec<FlowId> = unanswered.map(|(id, _, _)| id).collect();
        let mut unanswered = Vec::new();
        for id in ids {
            if let Some((_, session)) = self.flows.get_mut(id)
                && session.take_unanswered()
            {
                unanswered.push((session.flow_start_ns, session.id, id));
            }
            self.flows.doze(id, now_ns);
        }
        self.note_unanswered(unanswered, now_ns);
    }

    /// Counts attempts that are unanswered so far, by their start.
    fn note_unanswered(&mut self, mut flows: Vec<(u64, u64, FlowId)>, now_ns: u64) {
        flows.sort_unstable();
        for (_, _, id) in flows {
            if let Some((key, session)) = self.flows.get_mut(id)
                && let Some(attempt) = session.attempt(key)
            {
                self.desk.tried_in_vain(id, &attempt, now_ns);
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

/// Whether a flow may be an attempt that nobody has answered, which was not noted yet.
fn may_be_unanswered(flow: &Flow) -> bool {
    match flow {
        Flow::Awake(session) => session.is_newly_unanswered(),
        Flow::Asleep(sleeper) => sleeper.is_opening(),
        Flow::Turning => false,
    }
}

fn has_tunnel(path: &Option<Arc<Path>>) -> bool {
    path.as_ref().is_some_and(|path| path.tunnel.is_some())
}
