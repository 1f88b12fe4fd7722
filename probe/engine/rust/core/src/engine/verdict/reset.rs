//! Resets that neither end sent.

use super::{Case, FailureCause, FailureSide, FailureStage};
use crate::engine::evidence::Evidence;
use crate::engine::failure::{Failure, Verdict};

/// Judges a reset that somebody between the two ends made up, on whatever stage: it is the cause of
/// all that the other rules would see. One that left nothing unfinished did no harm.
pub fn injected(case: &Case<'_>) -> Option<Verdict> {
    let reset = case.tcp.reset.filter(|reset| reset.is_injected())?;
    if !(reset.unfinished || reset.sender_continues) {
        return None;
    }
    let (cause, side) = (
        FailureCause::NetworkInjectedReset,
        Some(FailureSide::Network),
    );
    Some(Verdict::Failed(Failure {
        cause,
        stage: stage(case),
        side,
        evidence: reset.codes().fold(Evidence::NONE, Evidence::and),
    }))
}

fn stage(case: &Case<'_>) -> FailureStage {
    if !case.tcp.is_established() && case.tcp.handshake.first_syn_ns.is_some() {
        FailureStage::Connect
    } else if case.session.application.is_in_tls_handshake() {
        FailureStage::Tls
    } else {
        FailureStage::Transfer
    }
}
