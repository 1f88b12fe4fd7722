//! One session: everything the engine keeps about a flow between its first packet and its last.

use std::sync::Arc;

use crate::control::attribution::Attribution;
use crate::decap::{Address, Inner, Layer, MAX_LAYERS, Transport, Tunnel};
use crate::engine::application::Application;
use crate::engine::failure::{Failure, Verdict};
use crate::engine::volume::Volume;
use crate::flow::{Direction, FlowKey};
use crate::record::names::{EndReason, FailureCause, FailureSide, FailureStage};
use crate::tcp::{Connection, Segment};

const SECOND_NS: u64 = 1_000_000_000;

/// Idle times after which a flow ends, by what is known of it.
mod idle {
    use super::SECOND_NS;

    /// SYN retries wait up to 32 s in most stacks; the next would come after 64 s.
    pub const TCP_OPENING_NS: u64 = 65 * SECOND_NS;
    /// Clients keep connections for push and polling; a mobile network forgets them in 5 to 30 min.
    pub const TCP_ESTABLISHED_NS: u64 = 900 * SECOND_NS;
    /// Long enough for stragglers of a closed connection, which must not look like a new one.
    pub const TCP_CLOSED_NS: u64 = 15 * SECOND_NS;
    pub const UDP_NS: u64 = 60 * SECOND_NS;
    /// Resolvers use a port for one question: keep nothing for long.
    pub const DNS_NS: u64 = 10 * SECOND_NS;
    pub const SCTP_NS: u64 = 300 * SECOND_NS;
    pub const ICMP_NS: u64 = 10 * SECOND_NS;
}

/// A connection attempt counts as unanswered only if the client waited this long for an answer.
const CONNECT_PATIENCE_NS: u64 = 3 * SECOND_NS;
/// A request counts as unanswered only if the client waited this long.
const REQUEST_PATIENCE_NS: u64 = 10 * SECOND_NS;

/// Who a flow belongs to and where it is, as far as known.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub subscriber_id: [u8; 16],
    pub subscriber_source: &'static str,
    /// `attribution.subscriber` never leaves the process.
    pub attribution: Attribution,
}

impl Place {
    /// The map, not the address alone, says whose this is.
    pub fn is_known(&self) -> bool {
        self.attribution != Attribution::default()
    }

    /// Both are known by the map, and they are two.
    pub fn is_another_subscriber(&self, before: &Self) -> bool {
        let named = |place: &Self| place.attribution.subscriber.is_some();
        named(self) && named(before) && self.subscriber_id != before.subscriber_id
    }

    /// Both cells are known, and they are two.
    pub fn is_another_cell(&self, before: &Self) -> bool {
        let (now, then) = (&self.attribution.cell_id, &before.attribution.cell_id);
        now.is_some() && then.is_some() && now != then
    }
}

/// The way by which one direction comes: the layers around it, and its innermost tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    pub layers: [Layer; MAX_LAYERS],
    pub tunnel: Option<Tunnel>,
}

impl Path {
    pub fn of(inner: &Inner<'_>) -> Self {
        Self {
            layers: inner.layers,
            tunnel: inner.tunnel,
        }
    }

    /// Whether a packet comes by this way.
    pub fn carries(&self, inner: &Inner<'_>) -> bool {
        self.tunnel == inner.tunnel && self.layers == inner.layers
    }

    pub fn teid(&self) -> Option<u32> {
        self.tunnel.map(|tunnel| tunnel.teid)
    }

    pub fn qfi(&self) -> Option<u8> {
        self.tunnel.and_then(|tunnel| tunnel.qfi)
    }
}

/// The state of one flow.
#[derive(Debug)]
pub struct Session {
    pub id: u64,
    pub flow_start_ns: u64,
    /// Where the interval under way began.
    pub interval_start_ns: u64,
    pub last_ns: u64,
    pub interval_index: u32,
    /// The direction in which the client sends: up.
    pub up: Direction,
    pub initiator: Option<Direction>,
    pub volumes: [Volume; 2],
    pub connection: Option<Connection>,
    pub application: Application,
    pub place: Arc<Place>,
    pub encapsulation: Option<Box<str>>,
    /// By which way each direction came last.
    pub paths: [Option<Path>; 2],
    pub qfi: Option<u8>,
    pub missed_start: bool,
    pub truncated: bool,
    /// Directions in which anything was ever seen.
    seen: [bool; 2],
    failure: Option<Failure>,
    /// The outcome stands in a record already.
    verdict_given: bool,
    /// The handshake fields stand in a record already.
    pub setup_reported: bool,
    /// When the client was last noted as reached (see `clients`).
    pub noted_reached_ns: u64,
    /// When the flow's timer comes up; 0 before it is set.
    pub timer_ns: u64,
}

impl Session {
    /// A session of which nothing has been counted yet.
    pub fn new(id: u64, time_ns: u64, up: Direction, place: Arc<Place>) -> Self {
        Self {
            id,
            flow_start_ns: time_ns,
            interval_start_ns: time_ns,
            last_ns: time_ns,
            interval_index: 0,
            up,
            initiator: None,
            volumes: Default::default(),
            connection: None,
            application: Application::default(),
            place,
            encapsulation: None,
            paths: [None; 2],
            qfi: None,
            missed_start: false,
            truncated: false,
            seen: [false; 2],
            failure: None,
            verdict_given: false,
            setup_reported: false,
            noted_reached_ns: 0,
            timer_ns: 0,
        }
    }

    /// Counts a packet of `direction`; `now_ns` is the time that is believed, which keeps a wrong
    /// timestamp from holding the flow alive.
    pub fn count(
        &mut self,
        direction: Direction,
        inner: &Inner<'_>,
        payload_len: u32,
        time_ns: u64,
        now_ns: u64,
    ) {
        self.volumes[direction.index()].add(inner.ip_len, payload_len, time_ns);
        self.seen[direction.index()] = true;
        self.last_ns = self.last_ns.max(time_ns.min(now_ns));
        self.truncated |= (inner.segment.len() as u32) < inner.segment_len;
    }

    /// Takes in a TCP segment that belongs to this connection.
    pub fn on_segment(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        segment: &Segment<'_>,
        time_ns: u64,
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.on_segment(direction, segment, time_ns);
        self.initiator = self.initiator.or(connection.initiator);
        let opener = self.initiator.unwrap_or(self.up);
        if segment.is_reset() {
            let application = &mut self.application;
            application.on_reset(direction == opener, segment, time_ns);
            self.note_application_failure(opener);
            self.on_reset(direction);
            return;
        }
        let server_port = key.sender(opener.opposite()).1;
        self.application
            .on_segment(direction == opener, server_port, segment, time_ns);
        self.note_application_failure(opener);
    }

    fn note_application_failure(&mut self, opener: Direction) {
        if self.failure.is_none()
            && let Some(failure) = self.application.failure()
        {
            self.fail(if opener == self.up {
                failure
            } else {
                failure.seen_from_far_end()
            });
        }
    }

    fn on_reset(&mut self, by: Direction) {
        let Some(connection) = &self.connection else {
            return;
        };
        if connection.is_refused(by) {
            let side = if by == self.up {
                FailureSide::Device
            } else {
                FailureSide::Server
            };
            self.fail(Failure::new(
                FailureCause::ConnectRefused,
                FailureStage::Connect,
                Some(side),
                "syn,reset_before_syn_ack",
            ));
        } else if connection.reset.is_some_and(|reset| reset.unfinished) && by != self.up {
            self.fail(self.broken_by_server());
        }
    }

    fn broken_by_server(&self) -> Failure {
        let server = Some(FailureSide::Server);
        if self.application.is_in_tls_handshake() {
            let evidence = "client_hello,reset_by_server";
            Failure::new(FailureCause::TlsReset, FailureStage::Tls, server, evidence)
        } else {
            let evidence = "reset_by_server,request_outstanding";
            Failure::new(
                FailureCause::ResetByServer,
                FailureStage::Transfer,
                server,
                evidence,
            )
        }
    }

    /// Takes in a UDP payload.
    pub fn on_datagram(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        payload: &[u8],
        time_ns: u64,
    ) {
        let server_port = key.sender(self.up.opposite()).1;
        self.application
            .on_datagram(direction == self.up, server_port, payload, time_ns);
        if self.failure.is_none()
            && let Some(failure) = self.application.failure()
        {
            self.fail(failure);
        }
    }

    /// Remembers the first failure; what follows from it is not another one.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// No packet was counted since the last record.
    pub fn is_interval_empty(&self) -> bool {
        self.volumes.iter().all(|volume| volume.packets == 0)
    }

    pub fn is_one_way(&self) -> bool {
        self.seen[0] != self.seen[1]
    }

    pub fn is_closed(&self) -> bool {
        let tcp = self.connection.as_ref();
        tcp.is_some_and(|connection| connection.reset.is_some() || connection.is_finished())
    }

    /// When the flow ends if nothing more is seen of it.
    pub fn deadline_ns(&self, transport: Transport) -> u64 {
        let idle = match (transport, &self.connection) {
            (Transport::Tcp, _) if self.is_closed() => idle::TCP_CLOSED_NS,
            (Transport::Tcp, Some(connection)) if connection.handshake.first_syn_ns.is_some() => {
                if connection.is_established() {
                    idle::TCP_ESTABLISHED_NS
                } else {
                    idle::TCP_OPENING_NS
                }
            }
            (Transport::Tcp, _) => idle::TCP_ESTABLISHED_NS,
            (Transport::Udp, _) if self.application.is_dns() => idle::DNS_NS,
            (Transport::Udp | Transport::Other(_), _) => idle::UDP_NS,
            (Transport::Sctp, _) => idle::SCTP_NS,
            (Transport::Icmp, _) => idle::ICMP_NS,
        };
        self.last_ns.saturating_add(idle)
    }

    /// Why the flow ends, if it ends because its time is up.
    pub fn end_reason(&self) -> EndReason {
        match &self.connection {
            Some(connection) if connection.reset.is_some() => EndReason::Reset,
            Some(connection) if connection.is_finished() => EndReason::Fin,
            _ => EndReason::Idle,
        }
    }

    /// The client's address by the flow's key.
    pub fn client(&self, key: &FlowKey) -> Address {
        key.sender(self.up).0
    }

    /// What an interim record says of the outcome.
    pub fn interim_verdict(&mut self) -> Verdict {
        match self.failure {
            Some(failure) if !self.verdict_given => {
                self.verdict_given = true;
                Verdict::Failed(failure)
            }
            _ => Verdict::Silent,
        }
    }

    /// What the last record says of the outcome.
    ///
    /// `client_reached`: a packet to this client was seen lately, so silence is the server's.
    pub fn final_verdict(&mut self, now_ns: u64, client_reached: bool) -> Verdict {
        if self.verdict_given {
            return Verdict::Silent;
        }
        self.verdict_given = true;
        if let Some(failure) = self
            .failure
            .or_else(|| self.silence(now_ns, client_reached))
        {
            return Verdict::Failed(failure);
        }
        let undecided = self.is_half_open() || self.application.is_in_tls_handshake();
        if self.is_one_way() || undecided {
            Verdict::Unknown
        } else {
            Verdict::Good
        }
    }

    fn is_half_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.handshake.first_syn_ns.is_some() && !connection.is_established()
        })
    }

    /// Failures that show by what did not come.
    fn silence(&mut self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        if let Some(failure) = self.application.silence(now_ns, client_reached) {
            return Some(failure);
        }
        let connection = self.connection.as_ref()?;
        if connection.handshake.first_syn_ns.is_some() && !connection.syn_ack_seen() {
            return self.unanswered_syn(now_ns, client_reached);
        }
        let waited = now_ns.saturating_sub(self.last_ns) >= REQUEST_PATIENCE_NS;
        let open = !connection.any_fin() && connection.reset.is_none() && !self.missed_start;
        if !(waited && open && connection.is_established()) || self.is_one_way() {
            return None;
        }
        self.unanswered_request(connection)
    }

    fn unanswered_syn(&self, now_ns: u64, client_reached: bool) -> Option<Failure> {
        let connection = self.connection.as_ref()?;
        let patient = now_ns.saturating_sub(self.flow_start_ns) >= CONNECT_PATIENCE_NS;
        // Anything but a SYN from the initiator means that the answer passed elsewhere.
        let only_syns = connection.initiator == Some(self.up)
            && self.is_one_way()
            && connection.last_payload().is_none()
            && connection.reset.is_none();
        (patient && only_syns && client_reached).then_some(Failure::new(
            FailureCause::ConnectTimeout,
            FailureStage::Connect,
            Some(FailureSide::Server),
            "syn_unanswered,client_reached",
        ))
    }

    fn unanswered_request(&self, connection: &Connection) -> Option<Failure> {
        let client_waits = connection.last_payload() == Some(self.up);
        if self.application.is_in_tls_handshake() && client_waits {
            let (cause, stage) = (FailureCause::TlsTimeout, FailureStage::Tls);
            return Some(Failure::new(cause, stage, None, "client_hello_unanswered"));
        }
        if connection.retransmits_in_vain(self.up.opposite()) {
            let (cause, stage) = (FailureCause::RetransmissionTimeout, FailureStage::Transfer);
            let side = Some(FailureSide::Access);
            return Some(Failure::new(
                cause,
                stage,
                side,
                "data_down_retransmitted,unacknowledged",
            ));
        }
        (client_waits && self.application.expects_answer()).then_some(Failure::new(
            FailureCause::RequestTimeout,
            FailureStage::Request,
            Some(FailureSide::Server),
            "request_unanswered",
        ))
    }
}
