//! Requests of the control plane as records: how long a session's set-up took, and why it was refused.

use crate::control::bearers::Context;
use crate::control::message::{Cause, Procedure, Protocol};
use crate::control::transactions::Transaction;
use crate::decap::Transport;
use crate::engine::emit::{Octets, Stamp, attribution_fields};
use crate::engine::evidence::Evidence;
use crate::engine::failure::{Failure, Verdict};
use crate::engine::joint::Desk;
use crate::engine::place::Place;
use crate::flow::FlowKey;
use crate::record::Record;
use crate::record::names::{FailureCause, FailureSide, FailureStage, Outcome, RecordKind};
use crate::record::session_id::SessionIds;

/// Whether a request has a record: each that a subscriber waited for, and all others that failed.
pub fn is_told(transaction: &Transaction, verdict: &Verdict) -> bool {
    let is_upkeep = matches!(
        transaction.procedure,
        Procedure::Echo
            | Procedure::Association
            | Procedure::Setup
            | Procedure::Reset
            | Procedure::Other(_)
    );
    let is_attempt = matches!(
        transaction.procedure,
        Procedure::CreateSession
            | Procedure::CreateBearer
            | Procedure::Access
            | Procedure::ContextSetup
            | Procedure::ResourceSetup
            | Procedure::PathSwitch
            | Procedure::HandoverPreparation
            | Procedure::HandoverAllocation
    );
    !is_upkeep && (is_attempt || verdict.failure().is_some())
}

/// How a request ended.
pub fn judge(transaction: &Transaction) -> Verdict {
    match (transaction.answered_ns, transaction.cause) {
        (None, Some(cause)) => Verdict::Failed(radio_lost(cause)),
        (None, _) if transaction.is_one_way => Verdict::unknown("one_way"),
        (None, _) => Verdict::Failed(unanswered(transaction)),
        (Some(_), Some(cause)) if !cause.accepted => Verdict::Failed(refused(transaction, cause)),
        (Some(_), _) => Verdict::Good(Evidence::NONE),
    }
}

fn unanswered(transaction: &Transaction) -> Failure {
    let cause = match transaction.protocol {
        Protocol::Gtpv1 | Protocol::Gtpv2 => FailureCause::GtpPeerNotResponding,
        Protocol::Radius => FailureCause::RadiusTimeout,
        Protocol::Pfcp => FailureCause::PfcpRejected,
        Protocol::S1ap => FailureCause::S1apRejected,
        Protocol::Ngap => FailureCause::NgapRejected,
    };
    let side = Some(FailureSide::Network);
    let failure = Failure::new(cause, FailureStage::Signalling, side, "request_unanswered");
    Failure {
        evidence: match transaction.retransmissions {
            0 => failure.evidence,
            again => failure.evidence.and_number("retransmissions", again),
        },
        ..failure
    }
}

/// A base station says unasked that it has lost a device.
fn radio_lost(cause: Cause) -> Failure {
    Failure {
        cause: FailureCause::RadioConnectionLost,
        stage: FailureStage::Signalling,
        side: Some(FailureSide::Access),
        evidence: Evidence::of("radio_lost").and_number("cause", cause.number.into()),
    }
}

fn refused(transaction: &Transaction, cause: Cause) -> Failure {
    let is_handover = matches!(
        transaction.procedure,
        Procedure::HandoverPreparation | Procedure::HandoverAllocation | Procedure::PathSwitch
    );
    let (named, side) = match transaction.protocol {
        _ if is_handover => (FailureCause::HandoverFailed, FailureSide::Access),
        Protocol::Gtpv2 => gtpv2(cause.number),
        Protocol::Gtpv1 => gtpv1(cause.number),
        Protocol::Pfcp => (FailureCause::PfcpRejected, FailureSide::Network),
        Protocol::Radius => (FailureCause::RadiusReject, FailureSide::Network),
        Protocol::S1ap => (FailureCause::S1apRejected, FailureSide::Access),
        Protocol::Ngap => (FailureCause::NgapRejected, FailureSide::Access),
    };
    Failure {
        cause: named,
        stage: FailureStage::Signalling,
        side: Some(side),
        evidence: Evidence::of("refused").and_number("cause", cause.number.into()),
    }
}

/// TS 29.274 8.4. What the device asked for and may not have is on its side: its settings, its
/// subscription.
fn gtpv2(cause: u16) -> (FailureCause, FailureSide) {
    match cause {
        78 => (FailureCause::GtpApnUnknown, FailureSide::Device),
        92 => (FailureCause::GtpAuthFailed, FailureSide::Device),
        93 => (FailureCause::GtpSubscriptionDenied, FailureSide::Device),
        73 | 84 | 91 | 113 | 120 => (FailureCause::GtpNoResources, FailureSide::Network),
        100 => (FailureCause::GtpPeerNotResponding, FailureSide::Network),
        _ => (FailureCause::GtpOther, FailureSide::Network),
    }
}

/// TS 29.060 7.7.1.
fn gtpv1(cause: u16) -> (FailureCause, FailureSide) {
    match cause {
        219 => (FailureCause::GtpApnUnknown, FailureSide::Device),
        208 | 209 => (FailureCause::GtpAuthFailed, FailureSide::Device),
        222 => (FailureCause::GtpSubscriptionDenied, FailureSide::Device),
        199 | 211 | 212 => (FailureCause::GtpNoResources, FailureSide::Network),
        _ => (FailureCause::GtpOther, FailureSide::Network),
    }
}

/// Writes the record of a request. It has no volumes: its packets are those of a flow between the two
/// nodes. `server_ip` is who was asked; `setup_us` is how long the answer took, repetitions included.
pub fn emit(
    transaction: &Transaction,
    context: Option<&Context>,
    verdict: &Verdict,
    stamp: &Stamp,
    session_ids: &SessionIds,
    desk: &mut Desk,
) {
    let end_ns = transaction.answered_ns.unwrap_or(transaction.start_ns);
    let place = context.map(Place::of_context).unwrap_or_default();
    let (transport, protocol) = names(transaction.protocol);
    let evidence = verdict.evidence();
    let evidence = (!evidence.is_empty()).then(|| evidence.to_string());
    let key = FlowKey::of(
        transaction.requester,
        0,
        transaction.responder,
        0,
        transport,
    );
    let mut record = Record {
        session_id: session_ids.of(&key.0, Some(transaction.sequence), transaction.start_ns),
        record_kind: RecordKind::Transaction.as_str(),
        capture_point: &stamp.capture_point,
        flow_start_time: transaction.start_ns,
        start_time: transaction.start_ns,
        end_time: end_ns,
        transport: if transport == Transport::Sctp {
            "sctp"
        } else {
            "udp"
        },
        app_protocol: Some(protocol),
        requests: Some(1),
        requests_failed: Some(verdict.failure().is_some().into()),
        outcome: verdict.outcome().map(Outcome::as_str),
        evidence: evidence.as_deref(),
        ..Record::default()
    };
    let took_ns = transaction
        .answered_ns
        .map(|answered_ns| answered_ns.saturating_sub(transaction.start_ns));
    record.setup_us = took_ns.map(|ns| u32::try_from(ns / 1000).unwrap_or(u32::MAX));
    if let Some(failure) = verdict.failure() {
        record.failure_cause = Some(failure.cause.as_str());
        record.failure_stage = Some(failure.stage.as_str());
        record.failure_side = failure.side.map(FailureSide::as_str);
    }
    let responder = Octets::of(transaction.responder);
    record.server_ip = Some(responder.as_bytes());
    attribution_fields(&mut record, &place, end_ns);
    desk.tell(&record);
}

fn names(protocol: Protocol) -> (Transport, &'static str) {
    match protocol {
        Protocol::Gtpv1 => (Transport::Udp, "gtpv1"),
        Protocol::Gtpv2 => (Transport::Udp, "gtpv2"),
        Protocol::Pfcp => (Transport::Udp, "pfcp"),
        Protocol::Radius => (Transport::Udp, "radius"),
        Protocol::S1ap => (Transport::Sctp, "s1ap"),
        Protocol::Ngap => (Transport::Sctp, "ngap"),
    }
}
