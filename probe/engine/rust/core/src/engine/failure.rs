//! What became of a session, and if it failed: where, on whose side, and what shows it.

use crate::record::names::{FailureCause, FailureSide, FailureStage, Outcome};

/// A failure, decided once per session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub cause: FailureCause,
    pub stage: FailureStage,
    pub side: Option<FailureSide>,
    /// Comma-joined codes of what was seen.
    pub evidence: &'static str,
}

impl Failure {
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
            evidence,
        }
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
    Good,
    Unknown,
    Failed(Failure),
}

impl Verdict {
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Silent => None,
            Self::Good => Some(Outcome::Ok),
            Self::Unknown => Some(Outcome::Unknown),
            Self::Failed(_) => Some(Outcome::Failed),
        }
    }

    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}
