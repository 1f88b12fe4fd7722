//! One session: everything the engine keeps about a flow between its first packet and its last.

mod asleep;

use std::sync::Arc;

use crate::control::tunnels::Measured;
use crate::decap::{Address, Inner, Layer, MAX_LAYERS, Transport, Tunnel, encapsulation};
use crate::engine::application::{Application, Quic};
use crate::engine::aside::Aside;
use crate::engine::clients::{Attempt, Client, Target};
use crate::engine::exchange::Exchange;
use crate::engine::failure::{Failure, Verdict};
use crate::engine::icmp::IcmpError;
use crate::engine::notes::{Note, Notes};
use crate::engine::ping::Ping;
use crate::engine::place::Place;
use crate::engine::transport::{Payload, Transported};
use crate::engine::tunnelled::Tunnelled;
use crate::engine::verdict::{self, Around};
use crate::engine::volume::Volume;
use crate::flow::{Direction, FlowKey};
use crate::record::names::{EndReason, FailureCause, FailureSide, FailureStage};
use crate::tcp::{Connection, Segment};
pub use asleep::Sleeper;

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

/// When a new TCP flow is looked at: what is not answered by then is in vain so far.
const FIRST_LOOK_NS: u64 = 2 * SECOND_NS;

/// The way by which one direction comes: the layers around it, and its innermost tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub layers: [Layer; MAX_LAYERS],
    pub tunnel: Option<Tunnel>,
    /// The layers as a record names them; none if there are none.
    pub encapsulation: Option<Arc<str>>,
}

impl Path {
    pub fn of(inner: &Inner<'_>) -> Self {
        let around = inner.encapsulation.copied().unwrap_or_default();
        let text = encapsulation(&around.layers).to_string();
        Self {
            layers: around.layers,
            tunnel: around.tunnel,
            encapsulation: (!text.is_empty()).then(|| text.into()),
        }
    }

    /// Whether a packet comes by this way.
    #[inline]
    pub fn carries(&self, inner: &Inner<'_>) -> bool {
        match inner.encapsulation {
            // Layers begin with the first place, and a tunnel is one of them.
            None => self.layers[0] == Layer::None,
            Some(around) => self.tunnel == around.tunnel && self.layers == around.layers,
        }
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
    /// Large, and none of other transports than TCP.
    pub connection: Option<Box<Connection>>,
    pub application: Application,
    pub ping: Option<Box<Ping>>,
    /// By which name the client knows the server, if it asked DNS for it.
    pub name_from_dns: Option<Arc<str>>,
    /// Another identity of the client, as far as DNS shows: who asked for the server's name.
    pub alias: Option<Box<Client>>,
    /// What was remarkable in this interval.
    pub notes: Notes,
    pub place: Arc<Place>,
    /// The direction that is in another cell, while the device moves.
    pub aside: Option<Box<Aside>>,
    /// The layers around its first packet.
    pub encapsulation: Option<Arc<str>>,
    /// By which way each direction came last; shared by all that come by it.
    pub paths: [Option<Arc<Path>>; 2],
    /// Somebody turned out to have its way or address since its last packet: the next one tells whether
    /// the flow is theirs.
    pub is_unsettled: bool,
    pub qfi: Option<u8>,
    /// What the headers of its tunnels say; most have nothing to say.
    pub tunnelled: Option<Box<Tunnelled>>,
    pub missed_start: bool,
    pub truncated: bool,
    /// Directions in which anything was ever seen.
    seen: [bool; 2],
    /// The first failure that was shown; rare, so it takes no room in the others.
    pub failure: Option<Box<Failure>>,
    /// Who spoke last, who left first.
    pub exchange: Exchange,
    /// One of many attempts in vain by the same client.
    pub is_scan: bool,
    news: NewsSaid,
    /// What an ICMP error told of the opener's packets: a failure if no answer comes after all.
    refused: Option<Box<Failure>>,
    /// The outcome stands in a record already.
    verdict_given: bool,
    /// The handshake fields stand in a record already.
    pub setup_reported: bool,
    /// When the client was last noted as reached (see `clients`).
    pub noted_reached_ns: u64,
    /// When the flow's timer comes up; 0 before it is set.
    pub timer_ns: u64,
    /// How often it rested and woke again.
    pub naps: u8,
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
            ping: None,
            name_from_dns: None,
            alias: None,
            notes: Notes::default(),
            place,
            aside: None,
            encapsulation: None,
            paths: [None, None],
            is_unsettled: false,
            qfi: None,
            tunnelled: None,
            missed_start: false,
            truncated: false,
            seen: [false; 2],
            failure: None,
            exchange: Exchange::default(),
            is_scan: false,
            news: NewsSaid::default(),
            refused: None,
            verdict_given: false,
            setup_reported: false,
            noted_reached_ns: 0,
            timer_ns: 0,
            naps: 0,
        }
    }

    /// Whether a packet plainly goes on with this flow: it comes by the known way and opens nothing.
    #[inline]
    pub fn goes_on(
        &self,
        direction: Direction,
        packet: &Transported<'_>,
        inner: &Inner<'_>,
    ) -> bool {
        let known = &self.paths[direction.index()];
        let by_known_way = known.as_ref().is_some_and(|known| known.carries(inner));
        by_known_way
            && !self.is_unsettled
            && match &packet.payload {
                Payload::Segment(segment) => !segment.has_syn(),
                Payload::Datagram(payload) => !self.is_succeeded_by(direction, payload),
                _ => true,
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

    /// Takes in what the header of a packet's tunnel said.
    #[cold]
    pub fn on_measured(&mut self, direction: Direction, measured: &Measured) {
        let tunnelled = self.tunnelled.get_or_insert_default();
        tunnelled.add(direction != self.up, measured);
    }

    /// Takes in a TCP segment that belongs to this connection.
    #[inline]
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
        if !(connection.is_under_way() && segment.is_ordinary()) {
            return self.on_turn(key, direction, segment, time_ns);
        }
        connection.on_ordinary(direction, segment, time_ns);
        if segment.payload_len > 0 {
            self.exchange.on_payload(direction, time_ns);
        }
        if !self.application.is_settled(segment.payload_len) {
            let opener = self.initiator.unwrap_or(self.up);
            self.read_segment(key, opener, direction, segment, time_ns);
        }
    }

    /// A segment that opens or ends the connection, or one of a connection that is not open.
    #[inline(never)]
    fn on_turn(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        segment: &Segment<'_>,
        time_ns: u64,
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let syn_ack_seen = connection.syn_ack_seen();
        let was_reset = connection.reset.is_some();
        let was_established = connection.is_established();
        if !connection.on_segment(direction, segment, time_ns) {
            return;
        }
        if was_reset && connection.reset.is_none() {
            // It ended nothing: it missed its mark, or the client asked again.
            self.exchange.forget_farewell();
            if connection.is_established() {
                self.notes.add(Note::ResetIgnored);
            }
        }
        self.exchange
            .on_segment(direction, segment, syn_ack_seen, time_ns);
        self.initiator = self.initiator.or(connection.initiator);
        let opener = self.initiator.unwrap_or(self.up);
        if !was_established && (segment.has_syn() || connection.is_established()) {
            let sides = [opener, opener.opposite()];
            self.application
                .begins_at(sides.map(|side| connection.first_byte(side)));
        }
        if segment.is_reset() {
            self.application.on_reset(direction == opener, segment);
            self.note_application_failure(opener);
            return;
        }
        self.read_segment(key, opener, direction, segment, time_ns);
    }

    /// Reads what a segment carries, or what it acknowledges, as the application's.
    fn read_segment(
        &mut self,
        key: &FlowKey,
        opener: Direction,
        direction: Direction,
        segment: &Segment<'_>,
        time_ns: u64,
    ) {
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
        if self.initiator.is_none()
            && let Some(quic) = self.application.quic()
        {
            let by_subscriber = quic.is_opened_by_subscriber();
            let opener = |up| if up { self.up } else { self.up.opposite() };
            self.initiator = by_subscriber.map(opener);
        }
        if self.failure.is_none()
            && let Some(failure) = self.application.failure()
        {
            self.fail(failure);
        }
    }

    /// Whether a datagram begins another QUIC connection between the same addresses and ports.
    pub fn is_succeeded_by(&self, direction: Direction, datagram: &[u8]) -> bool {
        let by_subscriber = direction == self.up;
        self.application
            .quic()
            .is_some_and(|quic| quic.tracker.is_succeeded_by(by_subscriber, datagram))
    }

    /// Takes in an ICMP error that quotes a packet of this flow. Returns false if the flow cannot
    /// have sent that packet: then somebody made it up.
    ///
    /// To an established connection an error is no more than a hint (RFC 5927 5): it fails only
    /// what never had an answer, and is told as evidence in any case.
    pub fn on_icmp_error(&mut self, quoted: Direction, error: &IcmpError, from: Address) -> bool {
        let sent = self.seen[quoted.index()];
        let in_flight = match (&self.connection, error.quote.sequence) {
            (Some(tcp), Some(sequence)) => tcp.is_in_flight(quoted, sequence),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if !sent || !in_flight {
            return false;
        }
        let opener = self.initiator.unwrap_or(self.up);
        if quoted != opener && error.cause().is_some() {
            self.notes.add(Note::IcmpAnswerUndelivered);
            return true;
        }
        self.notes.add(error.note);
        if let Some(cause) = error.cause() {
            let refusal = self.refusal(cause, error, from);
            self.refused.get_or_insert_with(|| Box::new(refusal));
        }
        true
    }

    fn refusal(&self, cause: FailureCause, error: &IcmpError, from: Address) -> Failure {
        let side = if from == error.quote.destination {
            FailureSide::Server
        } else {
            FailureSide::Network
        };
        let evidence = error.note.as_str();
        let failure = Failure::new(cause, FailureStage::Connect, Some(side), evidence);
        if self.initiator == Some(self.up.opposite()) {
            failure.seen_from_far_end()
        } else {
            failure
        }
    }

    /// The failure that an ICMP error told of, if the opener had no answer at all.
    pub fn unanswered_refusal(&self) -> Option<Failure> {
        let opener = self.initiator.unwrap_or(self.up);
        let refused = self.refused.as_deref().copied();
        refused.filter(|_| !self.seen[opener.opposite().index()])
    }

    /// Whether the client went on sending in a flow of datagrams to which nothing came back.
    pub fn is_unanswered_udp(&self, key: &FlowKey) -> bool {
        let only_up = self.seen[self.up.index()] && self.is_one_way();
        let is_other = !self.is_unanswered_quic();
        let went_on = self.last_ns.saturating_sub(self.flow_start_ns) >= SECOND_NS;
        let server = key.sender(self.up.opposite()).0;
        key.transport == Transport::Udp && only_up && went_on && is_other && !server.is_group()
    }

    /// Reads what was kept aside of the handshake, now that the flow ends: it may hold a failure.
    pub fn read_to_the_end(&mut self) {
        let Some(quic) = self.application.quic_mut() else {
            return;
        };
        quic.tracker.refresh_identity();
        if self.failure.is_none()
            && let Some(failure) = self.application.failure()
        {
            self.fail(failure);
        }
    }

    /// Remembers the first failure; what follows from it is not another one.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert_with(|| Box::new(failure));
    }

    /// No packet was counted since the last record.
    pub fn is_interval_empty(&self) -> bool {
        self.volumes.iter().all(|volume| volume.packets == 0)
    }

    pub fn is_one_way(&self) -> bool {
        self.seen[0] != self.seen[1]
    }

    /// Nothing shows yet that the flow is more than an attempt: it was opened and not answered, or a few
    /// packets went one way.
    pub fn is_unproven(&self) -> bool {
        const FEW: u32 = 3;
        let tcp = self.connection.as_deref();
        let opening =
            |tcp: &Connection| tcp.handshake.first_syn_ns.is_some() && !tcp.is_established();
        let packets: u32 = self.volumes.iter().map(|volume| volume.packets).sum();
        let few = self.interval_index == 0 && packets <= FEW;
        tcp.is_some_and(opening) || self.is_one_way() && few
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

    /// What an interim record says of the outcome. A failure to connect waits for the last record,
    /// which is near: until then it may turn out that the client scanned, or came in another way.
    pub fn interim_verdict(&mut self) -> Verdict {
        match self.failure.as_deref() {
            Some(&failure) if !self.verdict_given && failure.stage != FailureStage::Connect => {
                self.verdict_given = true;
                Verdict::Failed(failure)
            }
            _ => Verdict::Silent,
        }
    }

    /// Until when the asker waited for answers: no longer than until it left.
    pub fn awaited_until_ns(&self, now_ns: u64) -> u64 {
        let asker = self.initiator.unwrap_or(self.up);
        let farewell = self.exchange.farewell();
        let left = farewell.filter(|farewell| farewell.by == asker);
        left.map_or(now_ns, |farewell| farewell.time_ns)
    }

    /// What the last record says of the outcome.
    pub fn final_verdict(&mut self, around: &Around) -> Verdict {
        // What was asked in vain is counted whether or not the outcome was said before.
        self.application
            .silence(self.awaited_until_ns(around.now_ns), around.client_reached);
        if let Some(ping) = &mut self.ping {
            ping.silence(around.now_ns, around.client_reached);
        }
        if self.verdict_given {
            return Verdict::Silent;
        }
        self.verdict_given = true;
        self.is_scan = around.is_scan;
        verdict::judge(self, around)
    }

    /// The client asked for a QUIC connection and nothing came back.
    pub fn is_unanswered_quic(&self) -> bool {
        self.application.is_unanswered_quic()
    }

    /// The handshake is over, and the session can carry what it was opened for.
    fn is_connected(&self) -> bool {
        match &self.connection {
            Some(tcp) => tcp.is_established(),
            None => {
                let quic = self.application.quic().filter(|_| !self.is_one_way());
                quic.is_some_and(Quic::is_connected)
            }
        }
    }

    /// What the client's other sessions are to know of this one; said once.
    #[inline]
    pub fn take_news(&mut self) -> Option<News> {
        if self.news.named || self.news.connected && self.application.server_name().is_none() {
            return None;
        }
        self.news_now()
    }

    #[inline(never)]
    fn news_now(&mut self) -> Option<News> {
        if self.is_connected() {
            let is_named = self.application.server_name().is_some();
            let is_new = !self.news.connected || is_named;
            self.news.connected = true;
            self.news.named = is_named;
            return is_new.then_some(News::Connected);
        }
        let in_vain = !self.news.in_vain && self.is_turned_away();
        self.news.in_vain |= in_vain;
        in_vain.then_some(News::InVain)
    }

    /// Reset before it came up, by either side.
    fn is_turned_away(&self) -> bool {
        self.connection.as_ref().is_some_and(|tcp| {
            tcp.reset.is_some() && tcp.handshake.first_syn_ns.is_some() && !tcp.is_established()
        })
    }

    /// Whether nothing has come back to the SYN; said once.
    pub fn take_unanswered(&mut self) -> bool {
        let is_new = self.is_newly_unanswered();
        self.news.in_vain |= is_new;
        is_new
    }

    /// Whether nothing has come back to the SYN, and that was not said.
    pub fn is_newly_unanswered(&self) -> bool {
        let unanswered = self.connection.as_ref().is_some_and(|tcp| {
            let opening = tcp.handshake.first_syn_ns.is_some() && !tcp.is_established();
            opening && !tcp.syn_ack_seen() && self.is_one_way()
        });
        unanswered && !self.news.in_vain
    }

    /// The session as an attempt to connect; none if it carried anything.
    pub fn attempt(&self, key: &FlowKey) -> Option<Attempt<'_>> {
        let is_attempt = match &self.connection {
            Some(tcp) => {
                tcp.handshake.first_syn_ns.is_some() && self.exchange.last_speaker.is_none()
            }
            None => self.application.quic().is_some() && !self.is_connected(),
        };
        let opener = self.initiator.unwrap_or(self.up);
        let by = if opener == self.up {
            self.place.subscriber_id
        } else {
            key.sender(opener).0.0.to_be_bytes()
        };
        is_attempt.then(|| Attempt {
            session: self.id,
            by,
            target: self.target(key),
            transport: key.transport,
            start_ns: self.flow_start_ns,
            last_try_ns: self.last_ns,
            destination: key.sender(opener.opposite()),
        })
    }

    /// Whom the client reaches for.
    pub fn target(&self, key: &FlowKey) -> Target<'_> {
        let (server, port) = key.sender(self.up.opposite());
        Target {
            client: self.place.subscriber_id,
            alias: self.alias.as_deref().copied(),
            server,
            port,
            name: self
                .application
                .server_name()
                .or(self.name_from_dns.as_deref()),
        }
    }

    /// When the session is to be looked at: at its end, or early on to see if it was answered.
    pub fn wake_ns(&self, transport: Transport, now_ns: u64) -> u64 {
        let deadline_ns = self.deadline_ns(transport);
        let look_ns = self.flow_start_ns.saturating_add(FIRST_LOOK_NS);
        if matches!(transport, Transport::Tcp) && now_ns < look_ns {
            deadline_ns.min(look_ns)
        } else {
            deadline_ns
        }
    }
}

/// What a session's course means to the client's other sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is connected, or its server has a name now.
    Connected,
    /// It was turned away.
    InVain,
}

/// What was said of the news.
#[derive(Debug, Clone, Copy, Default)]
struct NewsSaid {
    connected: bool,
    named: bool,
    in_vain: bool,
}
