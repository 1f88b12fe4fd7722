//! What can be wrong with a capture, in words for a person.

use super::SourceError;

/// Why a capture cannot be opened or read on. Offsets count decompressed bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the file is empty")]
    Empty,
    #[error("not a capture file (first bytes 0x{0})")]
    NotACapture(String),
    #[error("cannot be opened: {0}")]
    Open(std::io::Error),
    #[error("truncated: {what} at offset {offset} needs {needs} bytes, {left} are left")]
    Truncated {
        what: &'static str,
        offset: u64,
        needs: u64,
        left: u64,
    },
    #[error("corrupt record at offset {offset}: {why}")]
    Corrupt { offset: u64, why: &'static str },
    #[error("{0} is not supported")]
    Unsupported(String),
    #[error("cannot be read on after {offset} bytes: {error}")]
    Read { offset: u64, error: std::io::Error },
    #[error("damaged {coding} data after {offset} decompressed bytes: {error}")]
    Damaged {
        coding: &'static str,
        offset: u64,
        error: std::io::Error,
    },
    #[error("cannot {step}: {error}")]
    Capture {
        step: &'static str,
        error: std::io::Error,
    },
    #[error("{0}")]
    Plain(&'static str),
}

impl Fault {
    /// The fault of a file that begins with `bytes`, of which the first eight are shown.
    pub fn not_a_capture(bytes: &[u8]) -> Self {
        Self::NotACapture(
            bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// Says whether the file is simply something else, as a directory may well hold.
    pub fn is_no_capture(&self) -> bool {
        matches!(self, Self::Empty | Self::NotACapture(_))
    }

    /// The error for the person, naming the file.
    pub fn of(&self, source_name: &str) -> SourceError {
        SourceError {
            source_name: one_line(source_name),
            problem: one_line(&self.to_string()),
        }
    }
}

/// Keeps control characters of names and of foreign messages out of a line for a person.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}
