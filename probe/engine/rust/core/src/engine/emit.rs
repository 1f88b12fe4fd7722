//! From a session's interval to a record.

use crate::decap::{Address, Transport};
use crate::engine::failure::Verdict;
use crate::engine::options::ClientAddress;
use crate::engine::session::Session;
use crate::flow::FlowKey;
use crate::flow::samples::MAX_KEPT;
use crate::record::names::{
    EndReason, FailureCause, FailureSide, FailureStage, Outcome, RecordKind,
};
use crate::record::names::{RttMethod, flag};
use crate::record::{Columns, Record};
use crate::tcp::HalfReport;

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

/// Writes the record of the interval that ends now, and starts the next one.
pub fn emit(
    stamp: &Stamp,
    key: &FlowKey,
    session: &mut Session,
    end: IntervalEnd,
    columns: &mut Columns,
) {
    let last = end.end_reason.is_some();
    let (up, down) = (session.up, session.up.opposite());
    let (client, client_port) = key.sender(up);
    let (server, server_port) = key.sender(down);
    let client_octets = shown_client(client, stamp.client_address).map(Octets::of);
    let server_octets = Octets::of(server);
    let has_ports = !matches!(key.transport, Transport::Icmp);
    let reports = session
        .connection
        .as_mut()
        .map(|connection| [connection.take_report(up), connection.take_report(down)]);
    let latency = reports.map(|[up, down]| [Latency::of(&down), Latency::of(&up)]);
    let setup = Setup::take(session, last);
    let flags = flags(session);
    let place = session.place.clone();
    let at = &place.attribution;
    let report = session.application.take_report();
    let (volume_up, volume_down) = (&session.volumes[up.index()], &session.volumes[down.index()]);
    let failure = end.verdict.failure();
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
        client_ip: client_octets.as_ref().map(Octets::as_bytes),
        client_port: has_ports.then_some(client_port),
        server_ip: Some(server_octets.as_bytes()),
        server_port: has_ports.then_some(server_port),
        initiator: session
            .initiator
            .map(|who| if who == up { "client" } else { "server" }),
        encapsulation: session.encapsulation.as_deref(),
        subscriber_id: Some(&place.subscriber_id),
        subscriber_source: Some(place.subscriber_source),
        cell_id: at.cell_id.as_deref(),
        cell_source: at.cell_id.as_ref().map(|_| "map"),
        ran_node_id: at.ran_node_id.as_deref(),
        tracking_area: at.tracking_area.as_deref(),
        rat: at.rat.as_deref(),
        apn: at.apn.as_deref(),
        qos_class: session.qfi,
        app_protocol: report.app_protocol,
        server_name: report.server_name,
        alpn: report.alpn,
        tls_version: report.tls_version,
        ech: report.ech.map(u8::from),
        certificate_not_after: report.certificate_not_after_ns,
        dns_query: report.dns_query,
        handshake_rtt_client_us: setup.client_us,
        handshake_rtt_server_us: setup.server_us,
        setup_us: setup.setup_us,
        syn_retransmissions: setup.syn_retransmissions,
        tls_setup_us: report.tls_setup_us,
        dns_response_us: report.dns_response_us,
        dns_rcode: report.dns_rcode,
        time_to_first_byte_us: report.time_to_first_byte_us,
        requests: report.requests,
        requests_failed: report.requests_failed,
        bytes_up: volume_up.bytes,
        bytes_down: volume_down.bytes,
        payload_up: volume_up.payload,
        payload_down: volume_down.payload,
        packets_up: volume_up.packets,
        packets_down: volume_down.packets,
        active_us_up: volume_up.active_us(),
        active_us_down: volume_down.active_us(),
        peak_bytes_up: volume_up.peak_bytes(),
        peak_bytes_down: volume_down.peak_bytes(),
        outcome: end.verdict.outcome().map(Outcome::as_str),
        failure_cause: failure.map(|failure| FailureCause::as_str(failure.cause)),
        failure_stage: failure.map(|failure| FailureStage::as_str(failure.stage)),
        failure_side: failure
            .and_then(|failure| failure.side)
            .map(FailureSide::as_str),
        evidence: failure.map(|failure| failure.evidence),
        end_reason: end.end_reason.map(EndReason::as_str),
        flags,
        ..Record::default()
    };
    if let Some([up, down]) = &reports {
        loss_fields(&mut record, up, down);
    }
    if let (Some([client, server]), Some(connection)) = (&latency, &session.connection) {
        latency_fields(&mut record, client, server, connection.uses_timestamps());
    }
    columns.push(&record);
    session.volumes = Default::default();
    session.interval_index += 1;
    session.interval_start_ns = end.end_ns;
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
        .is_some_and(|tcp| tcp.capture_loss);
    [
        (session.missed_start, flag::MISSED_START),
        (session.is_one_way(), flag::ONE_WAY),
        (session.truncated, flag::TRUNCATED),
        (capture_loss, flag::CAPTURE_LOSS),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .sum()
}

/// An address as bytes on the wire: 4 or 16 of them.
struct Octets {
    bytes: [u8; 16],
    start: usize,
}

impl Octets {
    fn of(address: Address) -> Self {
        let start = if address.as_v4().is_some() { 12 } else { 0 };
        Self {
            bytes: address.0.to_be_bytes(),
            start,
        }
    }

    fn as_bytes(&self) -> &[u8] {
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
            return Self::default();
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
        let samples = &towards.round_trips;
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
    timestamps: bool,
) {
    let method = if timestamps {
        RttMethod::Timestamp
    } else {
        RttMethod::Sequence
    }
    .as_str();
    record.rtt_client_min_us = client.min_us;
    record.rtt_client_median_us = client.median_us;
    record.rtt_client_samples = client.samples;
    record.rtt_client_histogram = client.histogram();
    record.rtt_client_method = client.samples.map(|_| method);
    record.rtt_server_min_us = server.min_us;
    record.rtt_server_median_us = server.median_us;
    record.rtt_server_samples = server.samples;
    record.rtt_server_histogram = server.histogram();
    record.rtt_server_method = server.samples.map(|_| method);
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
