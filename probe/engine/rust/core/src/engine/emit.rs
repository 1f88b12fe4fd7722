//! From a session's interval to a record.

use crate::decap::{Address, Transport};
use crate::engine::application::encrypted_dns::{self, Facts};
use crate::engine::application::{Quic, Report};
use crate::engine::failure::Verdict;
use crate::engine::joint::Desk;
use crate::engine::notes::{Note, Notes};
use crate::engine::options::ClientAddress;
use crate::engine::place::Place;
use crate::engine::session::Session;
use crate::engine::tunnelled::Tunnelled;
use crate::engine::volume::Volume;
use crate::flow::samples::{MAX_KEPT, Samples};
use crate::flow::{Direction, FlowKey};
use crate::record::names::{EndReason, FailureSide, Outcome, RecordKind, RttMethod, flag};
use crate::record::{Columns, Record};
use crate::tcp::{HalfReport, Limit, Method};

/// What stands in every record of a capture.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub capture_point: String,
    pub client_address: ClientAddress,
}

/// The end of an interval.
#[derive(Debug, Clone, Copy)]
pub struct IntervalEnd {
    pub end_ns: u64,
    pub verdict: Verdict,
    /// Given for the last interval of a flow only.
    pub end_reason: Option<EndReason>,
}

/// What is still open in a session's record: other sessions have a say in it.
#[derive(Debug, Clone, Copy)]
pub struct Open<'a> {
    pub key: FlowKey,
    pub up: Direction,
    pub verdict: Verdict,
    pub notes: Notes,
    /// What DNS calls the server.
    pub name: Option<&'a str>,
}

impl Open<'_> {
    pub fn evidence(&self) -> Option<String> {
        let evidence = self.verdict.evidence();
        let evidence = (!evidence.is_empty()).then(|| evidence.to_string());
        let evidence = self.notes.behind(evidence.as_deref());
        evidence.map(Into::into)
    }
}

/// What takes records in.
pub trait Rows {
    fn add<'a>(&mut self, record: Record<'a>, open: &Open<'a>);
}

impl Rows for Columns {
    fn add<'a>(&mut self, mut record: Record<'a>, open: &Open<'a>) {
        if record.server_name.is_none() {
            record.server_name = open.name;
            record.server_name_source = open.name.map(|_| "dns");
        }
        let facts = Facts {
            app_protocol: record.app_protocol,
            server_name: record.server_name,
            alpn: record.alpn,
        };
        record.app_protocol = encrypted_dns::settled_protocol(&facts, &open.key, open.up);
        self.push(&record);
    }
}

/// Writes the record of the interval that ends now, and starts the next one.
pub fn emit(
    stamp: &Stamp,
    key: &FlowKey,
    session: &mut Session,
    end: IntervalEnd,
    rows: &mut impl Rows,
) {
    let last = end.end_reason.is_some();
    let (up, down) = (session.up, session.up.opposite());
    let ends = Ends::of(key, up, stamp.client_address);
    let reports = session.connection.as_mut().map(|connection| {
        let halves = connection.take_report(end.end_ns, last);
        if up == Direction::Forward {
            halves
        } else {
            let [forward, reverse] = halves;
            [reverse, forward]
        }
    });
    // Data that goes down is acknowledged by the client: its round trips are the client's.
    let latency = reports
        .as_ref()
        .map(|[up, down]| [Latency::of(down), Latency::of(up)]);
    let quic = session.application.quic_mut().map(Quic::take_round_trips);
    let quic = quic.map(|taken| {
        (
            taken.methods,
            taken.samples.each_ref().map(Latency::of_samples),
        )
    });
    let ping = session.ping.as_mut().map(|ping| ping.take_report());
    // Whoever is asked replies: requests that go up measure the way to the server.
    let echoes = ping.as_ref().map(|report| {
        [down, up].map(|asked| Latency::of_samples(&report.round_trips[asked.index()]))
    });
    let tunnelled = session.tunnelled.take();
    let ran_delay = tunnelled
        .as_ref()
        .map(|tunnelled| tunnelled.ran_delay.each_ref().map(Latency::of_samples));
    let setup = Setup::take(session, last);
    let place = session.place.clone();
    let mut record = Record {
        session_id: session.id,
        record_kind: if last {
            RecordKind::Final
        } else {
            RecordKind::Interim
        }
        .as_str(),
        interval_index: session.interval_index,
        capture_point: &stamp.capture_point,
        flow_start_time: session.flow_start_ns,
        start_time: session.interval_start_ns,
        end_time: end.end_ns,
        transport: transport_name(key.transport),
        initiator: session
            .initiator
            .map(|who| if who == up { "client" } else { "server" }),
        encapsulation: session.encapsulation.as_deref(),
        qfi: session.qfi,
        flags: flags(session),
        ..Record::default()
    };
    endpoint_fields(&mut record, &ends);
    attribution_fields(&mut record, &place, end.end_ns);
    setup_fields(&mut record, &setup);
    volume_fields(
        &mut record,
        &session.volumes[up.index()],
        &session.volumes[down.index()],
    );
    if let (Some([up, down]), Some([client, server])) = (&reports, &latency) {
        loss_fields(&mut record, up, down);
        pace_fields(&mut record, up, down);
        latency_fields(&mut record, client, server, [down, up].map(rtt_method));
    }
    if let Some((methods, [client, server])) = &quic {
        latency_fields(&mut record, client, server, *methods);
    }
    if let Some([client, server]) = &echoes {
        latency_fields(&mut record, client, server, [RttMethod::Echo; 2]);
    }
    if let (Some(tunnelled), Some(ran_delay)) = (&tunnelled, &ran_delay) {
        tunnel_fields(&mut record, tunnelled, ran_delay);
    }
    let report = session.application.take_report();
    if report.dns_truncated {
        session.notes.add(Note::DnsTruncated);
    }
    application_fields(&mut record, &report);
    if let Some(ping) = &ping {
        record.requests = Some(ping.requests);
        record.requests_failed = Some(ping.unanswered);
    }
    outcome_fields(&mut record, &end);
    let open = Open {
        key: *key,
        up,
        verdict: end.verdict,
        notes: std::mem::take(&mut session.notes),
        name: session.name_from_dns.as_deref(),
    };
    let evidence = open.evidence();
    record.evidence = evidence.as_deref();
    rows.add(record, &open);
    session.volumes = Default::default();
    session.interval_index += 1;
    session.interval_start_ns = end.end_ns;
}

/// Writes a record that has volumes alone, of another place than the session's.
pub fn write_volume(
    stamp: &Stamp,
    key: &FlowKey,
    session: &Session,
    place: &Place,
    volumes: &[Volume; 2],
    end_ns: u64,
    desk: &mut Desk,
) {
    let (up, down) = (session.up, session.up.opposite());
    let ends = Ends::of(key, up, stamp.client_address);
    let mut record = Record {
        session_id: session.id,
        record_kind: RecordKind::Interim.as_str(),
        interval_index: session.interval_index,
        capture_point: &stamp.capture_point,
        flow_start_time: session.flow_start_ns,
        start_time: session.interval_start_ns,
        end_time: end_ns,
        transport: transport_name(key.transport),
        encapsulation: session.encapsulation.as_deref(),
        qfi: session.qfi,
        flags: flags(session),
        ..Record::default()
    };
    endpoint_fields(&mut record, &ends);
    attribution_fields(&mut record, place, end_ns);
    volume_fields(&mut record, &volumes[up.index()], &volumes[down.index()]);
    desk.tell_of(session, &record);
}

fn endpoint_fields<'a>(record: &mut Record<'a>, ends: &'a Ends) {
    record.client_ip = ends.client.as_ref().map(Octets::as_bytes);
    record.client_port = ends.ports.map(|(client, _)| client);
    record.server_ip = Some(ends.server.as_bytes());
    record.server_port = ends.ports.map(|(_, server)| server);
}

pub fn attribution_fields<'a>(record: &mut Record<'a>, place: &'a Place, end_ns: u64) {
    if place.has_subscriber() {
        record.subscriber_id = Some(&place.subscriber_id);
        record.subscriber_source = Some(place.subscriber_source);
    }
    record.cell_id = place.cell_id.as_deref();
    record.cell_source = place.cell_source;
    record.cell_age_s = place.located_ns.map(|since_ns| {
        let seconds = end_ns.saturating_sub(since_ns) / 1_000_000_000;
        u32::try_from(seconds).unwrap_or(u32::MAX)
    });
    record.ran_node_id = place.ran_node_id.as_deref();
    record.tracking_area = place.tracking_area.as_deref();
    record.rat = place.rat.as_deref();
    record.apn = place.apn.as_deref();
    record.imei_tac = place.imei_tac.as_deref();
    record.slice = place.slice.as_deref();
    record.qos_class = place.qos_class;
}

fn setup_fields(record: &mut Record<'_>, setup: &Setup) {
    record.handshake_rtt_client_us = setup.client_us;
    record.handshake_rtt_server_us = setup.server_us;
    record.setup_us = setup.setup_us;
    record.syn_retransmissions = setup.syn_retransmissions;
}

fn volume_fields(record: &mut Record<'_>, up: &Volume, down: &Volume) {
    (record.bytes_up, record.bytes_down) = (up.bytes, down.bytes);
    (record.payload_up, record.payload_down) = (up.payload, down.payload);
    (record.packets_up, record.packets_down) = (up.packets, down.packets);
    (record.active_us_up, record.active_us_down) = (up.active_us(), down.active_us());
    (record.peak_bytes_up, record.peak_bytes_down) = (up.peak_bytes(), down.peak_bytes());
}

fn application_fields<'a>(record: &mut Record<'a>, report: &Report<'a>) {
    record.app_protocol = report.app_protocol;
    record.server_name = report.server_name;
    record.server_name_source = report.server_name_source;
    record.alpn = report.alpn;
    record.tls_version = report.tls_version;
    record.ech = report.ech.map(u8::from);
    record.certificate_not_after = report.certificate_not_after_ns;
    record.dns_query = report.dns_query;
    record.tls_setup_us = report.tls_setup_us;
    record.dns_response_us = report.dns_response_us;
    record.dns_rcode = report.dns_rcode;
    record.http_status = report.http_status;
    record.time_to_first_byte_us = report.time_to_first_byte_us;
    record.requests = report.requests;
    record.requests_failed = report.requests_failed;
}

fn outcome_fields(record: &mut Record<'_>, end: &IntervalEnd) {
    record.outcome = end.verdict.outcome().map(Outcome::as_str);
    record.end_reason = end.end_reason.map(EndReason::as_str);
    if let Some(failure) = end.verdict.failure() {
        record.failure_cause = Some(failure.cause.as_str());
        record.failure_stage = Some(failure.stage.as_str());
        record.failure_side = failure.side.map(FailureSide::as_str);
    }
}

/// Who spoke with whom, as far as it may leave the probe.
struct Ends {
    client: Option<Octets>,
    server: Octets,
    /// The client's and the server's; ICMP has none.
    ports: Option<(u16, u16)>,
}

impl Ends {
    fn of(key: &FlowKey, up: Direction, shown: ClientAddress) -> Self {
        let (client, client_port) = key.sender(up);
        let (server, server_port) = key.sender(up.opposite());
        let has_ports = !matches!(key.transport, Transport::Icmp);
        Self {
            client: shown_client(client, shown).map(Octets::of),
            server: Octets::of(server),
            ports: has_ports.then_some((client_port, server_port)),
        }
    }
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Sctp => "sctp",
        Transport::Icmp | Transport::Other(_) => "icmp",
    }
}

fn flags(session: &Session) -> u8 {
    let capture_loss = session
        .connection
        .as_ref()
        .is_some_and(|tcp| tcp.capture_loss());
    [
        (session.missed_start, flag::MISSED_START),
        (session.is_one_way(), flag::ONE_WAY),
        (session.truncated, flag::TRUNCATED),
        (capture_loss, flag::CAPTURE_LOSS),
        (session.is_scan, flag::SCAN),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .sum()
}

/// An address as bytes on the wire: 4 or 16 of them.
pub struct Octets {
    bytes: [u8; 16],
    start: usize,
}

impl Octets {
    pub fn of(address: Address) -> Self {
        let start = if address.as_v4().is_some() { 12 } else { 0 };
        Self {
            bytes: address.0.to_be_bytes(),
            start,
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// The client's address as far as it may leave the probe.
fn shown_client(client: Address, shown: ClientAddress) -> Option<Address> {
    let hidden_bits = if client.as_v4().is_some() { 8 } else { 72 };
    match shown {
        ClientAddress::Full => Some(client),
        ClientAddress::Prefix => Some(Address(client.0 >> hidden_bits << hidden_bits)),
        ClientAddress::None => None,
    }
}

/// The handshake's fields, which stand in one record only: where they were decided.
#[derive(Default)]
struct Setup {
    client_us: Option<u32>,
    server_us: Option<u32>,
    setup_us: Option<u32>,
    syn_retransmissions: Option<u16>,
}

impl Setup {
    fn take(session: &mut Session, last: bool) -> Self {
        let Some(connection) = &session.connection else {
            return Self::take_of_quic(session, last);
        };
        let decided = last || connection.is_established() || connection.reset.is_some();
        if session.setup_reported || !decided {
            return Self::default();
        }
        session.setup_reported = true;
        let handshake = &connection.handshake;
        let (initiator, responder) = (handshake.initiator_us, handshake.responder_us);
        let by_client = connection.initiator == Some(session.up);
        let (client_us, server_us) = if by_client {
            (initiator, responder)
        } else {
            (responder, initiator)
        };
        let syn_retransmissions = handshake
            .first_syn_ns
            .map(|_| handshake.syn_retransmissions);
        Self {
            client_us,
            server_us,
            setup_us: handshake.setup_us,
            syn_retransmissions,
        }
    }
}

impl Setup {
    fn take_of_quic(session: &mut Session, last: bool) -> Self {
        let Some(quic) = session
            .application
            .quic()
            .filter(|_| !session.setup_reported)
        else {
            return Self::default();
        };
        let Some(setup) = quic.setup().or_else(|| last.then(|| quic.setup_so_far())) else {
            return Self::default();
        };
        session.setup_reported = true;
        Self {
            client_us: setup.client_us,
            server_us: setup.server_us,
            setup_us: setup.setup_us,
            syn_retransmissions: None,
        }
    }
}

/// One side's round trips, ready to be written.
struct Latency {
    min_us: Option<u32>,
    median_us: Option<u32>,
    samples: Option<u32>,
    histogram: [u8; 2 * MAX_KEPT],
    histogram_len: usize,
}

impl Latency {
    /// `towards` is the direction whose receiver is the side in question.
    fn of(towards: &HalfReport) -> Self {
        Self::of_samples(&towards.round_trips)
    }

    fn of_samples(samples: &Samples) -> Self {
        let mut histogram = [0; 2 * MAX_KEPT];
        let histogram_len = samples.histogram(&mut histogram);
        Self {
            min_us: samples.min_us(),
            median_us: samples.median_us(),
            samples: samples.count(),
            histogram,
            histogram_len,
        }
    }

    fn histogram(&self) -> Option<&[u8]> {
        (self.histogram_len > 0).then_some(&self.histogram[..self.histogram_len])
    }
}

fn latency_fields<'a>(
    record: &mut Record<'a>,
    client: &'a Latency,
    server: &'a Latency,
    methods: [RttMethod; 2],
) {
    let [client_method, server_method] = methods.map(RttMethod::as_str);
    record.rtt_client_min_us = client.min_us;
    record.rtt_client_median_us = client.median_us;
    record.rtt_client_samples = client.samples;
    record.rtt_client_histogram = client.histogram();
    record.rtt_client_method = client.samples.map(|_| client_method);
    record.rtt_server_min_us = server.min_us;
    record.rtt_server_median_us = server.median_us;
    record.rtt_server_samples = server.samples;
    record.rtt_server_histogram = server.histogram();
    record.rtt_server_method = server.samples.map(|_| server_method);
}

/// Null where no packet of the direction had a number, and without a sample.
fn tunnel_fields<'a>(record: &mut Record<'a>, tunnelled: &Tunnelled, ran_delay: &'a [Latency; 2]) {
    let [up, down] = tunnelled
        .counted
        .map(|counted| Some(counted).filter(|counted| counted.packets > 0));
    record.tunnel_packets_up = up.map(|up| up.packets);
    record.tunnel_packets_down = down.map(|down| down.packets);
    record.tunnel_missing_up = up.map(|up| up.missing);
    record.tunnel_missing_down = down.map(|down| down.missing);
    record.tunnel_late_up = up.map(|up| up.late);
    record.tunnel_late_down = down.map(|down| down.late);
    record.n3_rtt_median_us = tunnelled.n3_rtt.median_us();
    record.n3_rtt_samples = tunnelled.n3_rtt.count();
    let [up, down] = ran_delay;
    record.ran_delay_up_median_us = up.median_us;
    record.ran_delay_up_samples = up.samples;
    record.ran_delay_up_histogram = up.histogram();
    record.ran_delay_down_median_us = down.median_us;
    record.ran_delay_down_samples = down.samples;
    record.ran_delay_down_histogram = down.histogram();
    let is_told = up.samples.or(down.samples).is_some();
    record.ran_delay_source = is_told.then_some("qos_monitoring");
}

fn rtt_method(towards: &HalfReport) -> RttMethod {
    match towards.method {
        Method::Timestamp => RttMethod::Timestamp,
        Method::Sequence => RttMethod::Sequence,
        Method::Handshake => RttMethod::Handshake,
    }
}

/// The limit is that of the direction that carried more new data. Both directions can stall at
/// once: the time counts as the longer of the two. Null where one of them is not known.
fn pace_fields(record: &mut Record<'_>, up: &HalfReport, down: &HalfReport) {
    let (up, down) = (up.pace, down.pace);
    let busier = if up.payload > down.payload { up } else { down };
    record.limited_by = busier.limit.map(|limit| match limit {
        Limit::Network => "network",
        Limit::ReceiverWindow => "receiver_window",
        Limit::Application => "application",
    });
    record.stall_us = up
        .stall_us
        .zip(down.stall_us)
        .map(|(up, down)| up.max(down));
}

fn loss_fields(record: &mut Record<'_>, up: &HalfReport, down: &HalfReport) {
    record.retransmitted_packets_up = Some(up.retransmitted_packets);
    record.retransmitted_packets_down = Some(down.retransmitted_packets);
    record.retransmitted_bytes_up = Some(up.retransmitted_bytes);
    record.retransmitted_bytes_down = Some(down.retransmitted_bytes);
    record.lost_before_tap_up = Some(up.lost_before_tap);
    record.lost_before_tap_down = Some(down.lost_before_tap);
    record.lost_after_tap_up = Some(up.lost_after_tap);
    record.lost_after_tap_down = Some(down.lost_after_tap);
    record.out_of_order_packets_up = Some(up.out_of_order_packets);
    record.out_of_order_packets_down = Some(down.out_of_order_packets);
    record.duplicate_acks_up = Some(up.duplicate_acks);
    record.duplicate_acks_down = Some(down.duplicate_acks);
    record.zero_windows_up = Some(up.zero_windows);
    record.zero_windows_down = Some(down.zero_windows);
}
