//! Where capture files are, and how they are opened.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SourceError;
use super::capture_file::CaptureFile;
use super::fault::Fault;
use super::ledger::Ledgers;

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// One file to read.
#[derive(Debug, Clone)]
pub(super) struct CapturePath {
    pub path: PathBuf,
    /// Found in a directory, where other kinds of file may lie as well.
    pub found: bool,
}

impl CapturePath {
    /// A file that was named.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            found: false,
        }
    }

    /// The path in full, for messages.
    pub fn display(&self) -> String {
        if self.is_standard_input() {
            return "standard input".to_owned();
        }
        self.path.display().to_string()
    }

    /// The name of the file's ledger.
    fn ledger_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(OsStr::new("capture"));
        name.to_string_lossy().into_owned()
    }

    pub fn is_standard_input(&self) -> bool {
        self.path.as_os_str() == STANDARD_INPUT
    }

    /// Says whether the bytes can be read only once: standard input, a pipe.
    pub fn is_a_stream(&self) -> bool {
        self.is_standard_input()
            || fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file())
    }

    /// Bytes as stored; None for a stream.
    pub fn stored_len(&self) -> Option<u64> {
        if self.is_a_stream() {
            return None;
        }
        fs::metadata(&self.path).ok().map(|metadata| metadata.len())
    }

    /// Opens the capture; `done` counts the stored bytes that are read from it.
    pub fn open(&self, ledgers: &mut Ledgers, done: &Arc<AtomicU64>) -> Result<CaptureFile, Fault> {
        let reader = Counted {
            inner: self.open_bytes().map_err(Fault::Open)?,
            done: Arc::clone(done),
        };
        CaptureFile::open(Box::new(reader), &self.ledger_name(), ledgers)
    }

    fn open_bytes(&self) -> io::Result<Box<dyn Read + Send>> {
        if self.is_standard_input() {
            // Not through the standard library's own buffer, in which the first packets would stay.
            let input = io::stdin().as_fd().try_clone_to_owned()?;
            return Ok(Box::new(File::from(input)));
        }
        Ok(Box::new(File::open(&self.path)?))
    }
}

/// Lists the files meant by `paths`: each file, and for a directory the files in it by name.
pub(super) fn expand(paths: &[PathBuf]) -> Result<Vec<CapturePath>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let listed = files_in(path).map_err(Fault::Open);
            files.extend(listed.map_err(|fault| fault.of(&path.display().to_string()))?);
        } else {
            files.push(CapturePath::file(path));
        }
    }
    check(&files)?;
    Ok(files)
}

fn check(files: &[CapturePath]) -> Result<(), SourceError> {
    let inputs = files.iter().filter(|file| file.is_standard_input());
    if inputs.count() > 1 {
        return Err(Fault::Plain("can be read only once").of("standard input"));
    }
    if files.is_empty() {
        return Err(Fault::Plain("there is no file to read").of("capture"));
    }
    Ok(())
}

fn files_in(directory: &Path) -> io::Result<Vec<CapturePath>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(CapturePath { path, found: true });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// A reader that counts what passes, for progress.
struct Counted<R> {
    inner: R,
    done: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
