//! Sessions in packet time: which one a packet belongs to, and when records are due.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control::attribution::{AttributionMap, FlowFacts, Prefix};
use crate::decap::{Address, Inner, Layer, Transport, TunnelDirection, encapsulation};
use crate::engine::clients::Clients;
use crate::engine::emit::{IntervalEnd, Stamp, emit};
use crate::engine::ledger::Untracked;
use crate::engine::options::Limits;
use crate::engine::session::{Place, Session, TunnelEnds};
use crate::flow::{Direction, FlowId, FlowKey, Table, Wheel};
use crate::record::names::EndReason;
use crate::record::pseudonym::Pseudonyms;
use crate::record::{Columns, session_id::SessionIds};
use crate::tcp::{Connection, Segment};

const SECOND_NS: u64 = 1_000_000_000;

/// What the tracker knows of the place it watches.
pub struct Site {
    pub session_ids: SessionIds,
    pub pseudonyms: Pseudonyms,
    pub map: AttributionMap,
    pub subscriber_prefixes: Vec<Prefix>,
    pub ran_prefixes: Vec<Prefix>,
    pub stamp: Stamp,
    pub active_timeout_ns: u64,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub flows: u64,
    pub flows_evicted: u64,
    pub records: u64,
}

/// A packet's transport header, read.
enum Payload<'a> {
    Segment(Segment<'a>),
    Datagram(&'a [u8]),
    Opaque,
}

struct Transported<'a> {
    source_port: u16,
    destination_port: u16,
    payload: Payload<'a>,
    payload_len: u32,
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
        let packet = Self::read_transport(inner)?;
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

    fn read_transport<'a>(inner: &Inner<'a>) -> Result<Transported<'a>, Untracked> {
        let read = match inner.transport {
            Transport::Tcp => read_tcp(inner),
            Transport::Udp => read_udp(inner),
            Transport::Sctp => read_sctp(inner),
            Transport::Icmp => read_icmp(inner),
            Transport::Other(_) => return Err(Untracked::Unsupported),
        };
        read.ok_or(Untracked::Truncated)
    }

    /// Ends the flow of a five-tuple that another connection or subscriber took over, and splits
    /// its interval where it moved to another cell.
    fn still_the_same(
        &mut self,
        id: FlowId,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> Option<FlowId> {
        let now_ns = self.clock_ns;
        let (key, session) = self.table.get_mut(id)?;
        let reused = match (&packet.payload, &session.connection) {
            (Payload::Segment(segment), Some(tcp)) => tcp.is_reuse(direction, segment),
            _ => false,
        };
        if reused {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        let tunnel = tunnel_ends(inner);
        if tunnel.is_none() || tunnel == session.tunnels[direction.index()] {
            return Some(id);
        }
        session.tunnels[direction.index()] = tunnel;
        let place = self
            .site
            .place_of(session.client(key), &session.layers, &session.tunnels);
        let before = &session.place;
        if place.subscriber_id != before.subscriber_id && before.subscriber_source == "map" {
            self.end(id, now_ns, EndReason::PortReused);
            return None;
        }
        let moved = before.attribution.cell_id.is_some()
            && place.attribution.cell_id != before.attribution.cell_id;
        if moved {
            self.cut(id, now_ns);
        }
        let (_, session) = self.table.get_mut(id)?;
        session.place = Arc::new(place);
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
        let tunnel = tunnel_ends(inner);
        let mut tunnels = [None; 2];
        tunnels[direction.index()] = tunnel;
        let place = self
            .site
            .place_of(key.sender(up).0, &inner.layers, &tunnels);
        let session_id = self
            .site
            .session_ids
            .of(&key, tunnel.map(|ends| ends.teid), time_ns);
        let mut session = Session::new(session_id, time_ns, up, Arc::new(place));
        session.initiator = initiator;
        session.tunnels = tunnels;
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
        if let Some(qfi) = inner.tunnel.and_then(|tunnel| tunnel.qfi) {
            session.qfi = Some(qfi);
        }
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

fn tunnel_ends(inner: &Inner<'_>) -> Option<TunnelEnds> {
    inner.tunnel.map(|tunnel| TunnelEnds {
        teid: tunnel.teid,
        source: tunnel.source,
        destination: tunnel.destination,
    })
}

fn read_tcp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let segment = Segment::parse(inner.segment, inner.segment_len)?;
    Some(Transported {
        source_port: segment.source_port,
        destination_port: segment.destination_port,
        payload_len: segment.payload_len,
        payload: Payload::Segment(segment),
    })
}

const UDP_HEADER: u32 = 8;

fn read_udp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let header: &[u8; UDP_HEADER as usize] = inner.segment.first_chunk()?;
    // The length field of a super-segment or a jumbogram is 0 (RFC 2675 4): the IP length counts.
    let stated = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let length = if stated < UDP_HEADER {
        inner.segment_len
    } else {
        stated.min(inner.segment_len)
    };
    let payload_len = length.saturating_sub(UDP_HEADER);
    let captured = inner.segment.get(UDP_HEADER as usize..)?;
    let payload = captured.get(..payload_len as usize).unwrap_or(captured);
    Some(Transported {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        payload_len,
        payload: Payload::Datagram(payload),
    })
}

const SCTP_HEADER: u32 = 12;

fn read_sctp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    let ports: &[u8; 4] = inner.segment.first_chunk()?;
    Some(Transported {
        source_port: u16::from_be_bytes([ports[0], ports[1]]),
        destination_port: u16::from_be_bytes([ports[2], ports[3]]),
        payload_len: inner.segment_len.saturating_sub(SCTP_HEADER),
        payload: Payload::Opaque,
    })
}

/// Echo requests and replies of one identifier are one flow; all other messages between two hosts
/// are another (identifier 0).
fn read_icmp<'a>(inner: &Inner<'a>) -> Option<Transported<'a>> {
    const ECHO_TYPES: [u8; 4] = [0, 8, 128, 129];
    let header: &[u8; 4] = inner.segment.first_chunk()?;
    let identifier = match inner.segment.get(4..6) {
        Some(&[high, low]) if ECHO_TYPES.contains(&header[0]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    Some(Transported {
        source_port: identifier,
        destination_port: identifier,
        payload_len: inner.segment_len.saturating_sub(8),
        payload: Payload::Opaque,
    })
}

impl Site {
    /// Decides which way is up, and who opened the flow where that shows.
    ///
    /// In this order: the tunnel's direction, the subscribers' prefixes, the SYN, the well-known
    /// port; what says nothing of these starts at its first sender.
    fn orientation(
        &self,
        key: &FlowKey,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> (Direction, Option<Direction>) {
        let opener = opener(direction, packet);
        let missed_start =
            matches!(&packet.payload, Payload::Segment(segment) if !segment.has_syn());
        let up = self
            .tunnel_direction(direction, inner)
            .or_else(|| self.by_prefix(key))
            .or(opener)
            .or_else(|| by_port(direction, packet))
            .unwrap_or(direction);
        (up, opener.or((!missed_start).then_some(direction)))
    }

    fn tunnel_direction(&self, direction: Direction, inner: &Inner<'_>) -> Option<Direction> {
        let tunnel = inner.tunnel?;
        match tunnel.direction {
            Some(TunnelDirection::Up) => return Some(direction),
            Some(TunnelDirection::Down) => return Some(direction.opposite()),
            None => {}
        }
        let from_ran = |address| {
            self.ran_prefixes
                .iter()
                .any(|prefix| prefix.contains(address))
        };
        match (from_ran(tunnel.source), from_ran(tunnel.destination)) {
            (true, false) => Some(direction),
            (false, true) => Some(direction.opposite()),
            _ => None,
        }
    }

    fn by_prefix(&self, key: &FlowKey) -> Option<Direction> {
        let ours = |address| {
            self.subscriber_prefixes
                .iter()
                .any(|prefix| prefix.contains(address))
        };
        match (ours(key.low), ours(key.high)) {
            (true, false) => Some(Direction::Forward),
            (false, true) => Some(Direction::Reverse),
            _ => None,
        }
    }

    fn place_of(
        &self,
        client: Address,
        layers: &[Layer],
        tunnels: &[Option<TunnelEnds>; 2],
    ) -> Place {
        let mut vlans = [0; crate::decap::MAX_LAYERS];
        let mut vlan_count = 0;
        for layer in layers {
            if let Layer::Vlan(vlan) = layer
                && let Some(place) = vlans.get_mut(vlan_count)
            {
                *place = *vlan;
                vlan_count += 1;
            }
        }
        let ends = tunnels.iter().flatten();
        let teids: Vec<u32> = ends.clone().map(|ends| ends.teid).collect();
        let gtpu_addresses: Vec<Address> = ends
            .flat_map(|ends| [ends.source, ends.destination])
            .collect();
        let attribution = self.map.look_up(&FlowFacts {
            client,
            vlans: &vlans[..vlan_count],
            teids: &teids,
            gtpu_addresses: &gtpu_addresses,
        });
        let (subscriber_id, subscriber_source) = match &attribution.subscriber {
            Some(identity) => (self.pseudonyms.of(identity), "map"),
            None => (self.pseudonyms.of_address(client), "address"),
        };
        Place {
            subscriber_id,
            subscriber_source,
            attribution,
        }
    }
}

/// Who opened the flow, where the packet says so.
fn opener(direction: Direction, packet: &Transported<'_>) -> Option<Direction> {
    match &packet.payload {
        Payload::Segment(segment) if segment.is_syn() => Some(direction),
        Payload::Segment(segment) if segment.is_syn_ack() => Some(direction.opposite()),
        _ => None,
    }
}

/// The side with the well-known port (below 1024, RFC 6335 6) is the server.
fn by_port(direction: Direction, packet: &Transported<'_>) -> Option<Direction> {
    match (packet.source_port < 1024, packet.destination_port < 1024) {
        (false, true) => Some(direction),
        (true, false) => Some(direction.opposite()),
        _ => None,
    }
}
