//! The time that captures cover.

use std::path::PathBuf;
use std::sync::Arc;

use super::SourceError;
use super::capture_file::CaptureFile;
use super::fault::Fault;
use super::ledger::Ledgers;
use super::paths::{self, CapturePath};

/// Returns the earliest and the latest packet time, in nanoseconds since the Unix epoch, and the
/// number of packets that have a time.
///
/// Takes the same paths as `open_files`, but not standard input, and reads the files once. A file
/// that is truncated or damaged counts up to there: reading it for good tells.
///
/// # Errors
///
/// When a file cannot be opened or is no capture, or no packet has a time.
pub fn capture_span(paths: &[PathBuf]) -> Result<(u64, u64, u64), SourceError> {
    let mut span = Span::default();
    for path in paths::expand(paths)? {
        match open(&path) {
            Ok((file, ledgers)) => span.add_file(file, ledgers),
            Err(fault) if path.found && fault.is_no_capture() => {}
            Err(fault) => return Err(fault.of(&path.display())),
        }
    }
    let first = paths
        .first()
        .map_or_else(String::new, |path| path.display().to_string());
    let nothing = || Fault::Plain("there is no packet with a time in it").of(&first);
    span.whole().ok_or_else(nothing)
}

fn open(path: &CapturePath) -> Result<(CaptureFile, Ledgers), Fault> {
    if path.is_a_stream() {
        return Err(Fault::Plain(
            "can be read only once, so its span is not known before",
        ));
    }
    let mut ledgers = Ledgers::default();
    let file = path.open(&mut ledgers, &Arc::default())?;
    Ok((file, ledgers))
}

#[derive(Default)]
struct Span {
    bounds: Option<(u64, u64)>,
    packets: u64,
}

impl Span {
    fn add_file(&mut self, mut file: CaptureFile, mut ledgers: Ledgers) {
        while let Ok(true) = file.advance(&mut ledgers) {
            self.add(file.record().time_ns);
        }
    }

    fn add(&mut self, time_ns: u64) {
        let (first, last) = self.bounds.unwrap_or((time_ns, time_ns));
        self.bounds = Some((first.min(time_ns), last.max(time_ns)));
        self.packets += 1;
    }

    fn whole(self) -> Option<(u64, u64, u64)> {
        let (first, last) = self.bounds?;
        Some((first, last, self.packets))
    }
}
