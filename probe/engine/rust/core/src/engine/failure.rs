//! What became of a session, and if it failed: where, on whose side, and what shows it.

use crate::engine::evidence::Evidence;
use crate::record::names::{FailureCause, FailureSide, FailureStage, Outcome};

/// A failure, decided once per session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub cause: FailureCause,
    pub stage: FailureStage,
    pub side: Option<FailureSide>,
    pub evidence: Evidence,
}

impl Failure {
    /// `evidence`: codes of what was seen, joined by commas.
    pub const fn new(
        cause: FailureCause,
        stage: FailureStage,
        side: Option<FailureSide>,
        evidence: &'static str,
    ) -> Self {
        Self {
            cause,
            stage,
            side,
            evidence: Evidence::of(evidence),
        }
    }

    /// The same failure, shown by one code more.
    pub const fn and(self, code: &'static str) -> Self {
        let evidence = self.evidence.and(code);
        Self { evidence, ..self }
    }

    /// The same failure where the subscriber is the one who was called.
    pub fn seen_from_far_end(self) -> Self {
        let side = self.side.map(|side| match side {
            FailureSide::Device => FailureSide::Server,
            FailureSide::Server => FailureSide::Device,
            other => other,
        });
        Self { side, ..self }
    }
}

/// What a record says about its session's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided in this interval, or said before.
    Silent,
    Good(Evidence),
    /// The customer got what the session was opened for, after trouble.
    Degraded(Evidence),
    Unknown(Evidence),
    Failed(Failure),
}

impl Verdict {
    pub const fn good(evidence: &'static str) -> Self {
        Self::Good(Evidence::of(evidence))
    }

    pub const fn unknown(evidence: &'static str) -> Self {
        Self::Unknown(Evidence::of(evidence))
    }

    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Silent => None,
            Self::Good(_) => Some(Outcome::Ok),
            Self::Degraded(_) => Some(Outcome::Degraded),
            Self::Unknown(_) => Some(Outcome::Unknown),
            Self::Failed(_) => Some(Outcome::Failed),
        }
    }

    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    pub fn evidence(&self) -> Evidence {
        match self {
            Self::Silent => Evidence::NONE,
            Self::Good(evidence) | Self::Degraded(evidence) | Self::Unknown(evidence) => *evidence,
            Self::Failed(failure) => failure.evidence,
        }
    }
}
