//! Captures merged into one stream by packet time.
//!
//! A k-way merge on the time of each file's next packet; equal times go by the order of the files,
//! so the same files always give the same stream. Times that go back within a file are delivered in
//! the file's own order. A file of several is opened when its first packet is due and closed at its
//! end: a directory of a day's files needs one open file at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::capture_file::CaptureFile;
use super::fault::Fault;
use super::ledger::{InterfaceLedger, Ledgers};
use super::paths::{self, CapturePath};
use super::{Event, Packet, Source, SourceError};

/// Opens capture files as one source, merged by packet time.
///
/// A path is a file, a directory (the capture files in it; others are passed over) or "-" for
/// standard input. `time_offset_ns` is added to the time of each packet, saturating.
/// A file that turns out damaged ends with its last whole packet; the others are read to their
/// end, and the error follows the last packet.
///
/// # Errors
///
/// When a named file cannot be opened or is no capture file, or a directory holds none.
pub fn open_files(paths: &[PathBuf], time_offset_ns: i64) -> Result<Box<dyn Source>, SourceError> {
    let files = paths::expand(paths)?;
    let mut merge = Merge::new(time_offset_ns);
    let only = files.len() == 1;
    for file in &files {
        merge.add_file(file, only)?;
    }
    if merge.slots.is_empty() {
        let directory = paths
            .first()
            .map_or_else(String::new, |path| path.display().to_string());
        return Err(Fault::Plain("there is no capture file in it").of(&directory));
    }
    Ok(Box::new(merge))
}

/// Opens one capture from a stream of bytes; `name` stands for it in errors and in the ledger.
///
/// # Errors
///
/// When the stream does not begin as a capture does.
pub fn open_reader(
    name: &str,
    reader: Box<dyn Read + Send>,
    time_offset_ns: i64,
) -> Result<Box<dyn Source>, SourceError> {
    let mut merge = Merge::new(time_offset_ns);
    let file = CaptureFile::open(reader, name, &mut merge.ledgers);
    let file = file.map_err(|fault| fault.of(name))?;
    merge.add(State::Open(Box::new(file)), CapturePath::file(name), 0);
    merge.total = None;
    Ok(Box::new(merge))
}

struct Merge {
    slots: Vec<Slot>,
    /// Time of the next packet of each waiting file, 0 where it is not known, and its slot.
    queue: BinaryHeap<Reverse<Place>>,
    /// The file of the packet that was delivered last; its slot is empty meanwhile.
    current: Option<Current>,
    ledgers: Ledgers,
    time_offset_ns: i64,
    /// The latest time delivered so far.
    latest_ns: u64,
    fault: Option<SourceError>,
    later_faults: u64,
    done: Arc<AtomicU64>,
    total: Option<u64>,
}

/// A packet's place in the merged stream: its time, then its file's slot.
type Place = (u64, usize);

struct Current {
    slot: usize,
    file: Box<CaptureFile>,
}

struct Slot {
    path: CapturePath,
    state: State,
}

enum State {
    /// To be opened when it is due.
    Waiting,
    /// Open, before its first packet.
    Open(Box<CaptureFile>),
    /// Open, at a packet that is not delivered yet.
    Ready(Box<CaptureFile>),
    /// Current, or at its end.
    Empty,
}

impl Current {
    #[inline]
    fn place(&self) -> Place {
        (self.file.record().time_ns, self.slot)
    }
}

impl Merge {
    fn new(time_offset_ns: i64) -> Self {
        Self {
            slots: Vec::new(),
            queue: BinaryHeap::new(),
            current: None,
            ledgers: Ledgers::default(),
            time_offset_ns,
            latest_ns: 0,
            fault: None,
            later_faults: 0,
            done: Arc::default(),
            total: Some(0),
        }
    }

    /// Adds a file, unless it was found in a directory and is no capture.
    fn add_file(&mut self, path: &CapturePath, only: bool) -> Result<(), SourceError> {
        let opened = if only || path.is_a_stream() {
            self.open_now(path)
        } else {
            first_time(path).map(|time_ns| (State::Waiting, time_ns))
        };
        match opened {
            Ok((state, time_ns)) => self.add(state, path.clone(), time_ns),
            Err(fault) if path.found && fault.is_no_capture() => return Ok(()),
            Err(fault) => return Err(fault.of(&path.display())),
        }
        let len = path.stored_len();
        self.total = self.total.zip(len).map(|(total, len)| total + len);
        Ok(())
    }

    /// Opens a file that is the only one, or that cannot be opened twice.
    fn open_now(&mut self, path: &CapturePath) -> Result<(State, u64), Fault> {
        let file = path.open(&mut self.ledgers, &self.done)?;
        Ok((State::Open(Box::new(file)), 0))
    }

    fn add(&mut self, state: State, path: CapturePath, time_ns: u64) {
        self.queue.push(Reverse((time_ns, self.slots.len())));
        self.slots.push(Slot { path, state });
    }

    /// Goes to the current file's next packet; where it has none, there is no current file then.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        match current.file.advance(&mut self.ledgers) {
            Ok(true) => true,
            Ok(false) => self.close(None),
            Err(fault) => self.close(Some(fault)),
        }
    }

    /// Says whether the current file's packet comes before those of all other files.
    #[inline]
    fn is_due(&self) -> bool {
        let Some(Reverse(next)) = self.queue.peek() else {
            return true;
        };
        self.current
            .as_ref()
            .is_some_and(|current| current.place() < *next)
    }

    /// Makes current the file whose packet is due; false when no packet is left.
    #[cold]
    fn switch(&mut self) -> bool {
        loop {
            self.put_back();
            let Some(Reverse((_, slot))) = self.queue.pop() else {
                return false;
            };
            if self.take_up(slot) && self.is_due() {
                return true;
            }
        }
    }

    /// Puts the current file, which is at a packet, back among the others.
    fn put_back(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.queue.push(Reverse(current.place()));
        if let Some(slot) = self.slots.get_mut(current.slot) {
            slot.state = State::Ready(current.file);
        }
    }

    /// Makes the file of a slot current, at a packet; false where it has none.
    fn take_up(&mut self, slot: usize) -> bool {
        let Some(taken) = self.slots.get_mut(slot) else {
            return false;
        };
        let (file, ready) = match mem::replace(&mut taken.state, State::Empty) {
            State::Ready(file) => (file, true),
            State::Open(file) => (file, false),
            State::Waiting => match taken.path.open(&mut self.ledgers, &self.done) {
                Ok(file) => (Box::new(file), false),
                Err(fault) => return self.note(slot, fault),
            },
            State::Empty => return false,
        };
        self.current = Some(Current { slot, file });
        ready || self.advance()
    }

    /// Closes the current file, keeping what was wrong with it.
    #[cold]
    fn close(&mut self, fault: Option<Fault>) -> bool {
        match (self.current.take(), fault) {
            (Some(current), Some(fault)) => self.note(current.slot, fault),
            _ => false,
        }
    }

    fn note(&mut self, slot: usize, fault: Fault) -> bool {
        if self.fault.is_some() {
            self.later_faults += 1;
        } else if let Some(slot) = self.slots.get(slot) {
            self.fault = Some(fault.of(&slot.path.display()));
        }
        false
    }

    /// The current file's packet.
    #[inline]
    fn deliver(&mut self) -> Event<'_> {
        let Some(current) = &self.current else {
            return Event::End;
        };
        let record = current.file.record();
        let time_ns = record.time_ns.saturating_add_signed(self.time_offset_ns);
        self.ledgers
            .count_packet(record.interface, time_ns < self.latest_ns);
        self.latest_ns = self.latest_ns.max(time_ns);
        Event::Packet(Packet {
            time_ns,
            interface: record.interface,
            link: record.link,
            wire_len: record.wire_len,
            data: current.file.data(),
        })
    }

    /// The end, or the first fault of the files.
    #[cold]
    fn end(&mut self) -> Result<Event<'_>, SourceError> {
        let Some(mut fault) = self.fault.take() else {
            return Ok(Event::End);
        };
        if self.later_faults > 0 {
            fault.problem += &format!(" (damaged files besides: {})", self.later_faults);
        }
        Err(fault)
    }
}

impl Source for Merge {
    fn next(&mut self) -> Result<Event<'_>, SourceError> {
        let ready = self.advance() && self.is_due();
        if ready || self.switch() {
            return Ok(self.deliver());
        }
        self.end()
    }

    fn ledger(&self) -> &[InterfaceLedger] {
        self.ledgers.entries()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let total = self.total?;
        // A file may have grown since it was measured.
        Some((self.done.load(Ordering::Relaxed).min(total), total))
    }
}

/// Time of the first packet of a file; 0 where it has none, or is damaged before it, so that the
/// file is opened first and what is wrong is found then.
fn first_time(path: &CapturePath) -> Result<u64, Fault> {
    let mut ledgers = Ledgers::default();
    let mut file = path.open(&mut ledgers, &Arc::default())?;
    let found = file.advance(&mut ledgers).unwrap_or(false);
    Ok(if found { file.record().time_ns } else { 0 })
}
