//! Captures merged into one stream by packet time.
//!
//! A k-way merge on the time of each file's next packet; equal times go by the order of the files,
//! so the same files always give the same stream. Times that go back within a file are delivered in
//! the file's own order. A file of several is opened when its first packet is due and closed at its
//! end: a directory of a day's files needs one open file at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::capture_file::CaptureFile;
use super::fault::Fault;
use super::ledger::{InterfaceLedger, Ledgers};
use super::paths::{self, CapturePath};
use super::record::Record;
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
        return Err(Fault::Usage("there is no capture file in it").of(&directory));
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
    merge.add(State::Open(file), CapturePath::file(name), 0);
    merge.total = None;
    Ok(Box::new(merge))
}

struct Merge {
    slots: Vec<Slot>,
    /// Time of the next packet of each slot, where it is known, and 0 where it is not.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    /// The slot of the packet that was delivered last: it is not in the queue.
    current: Option<usize>,
    ledgers: Ledgers,
    time_offset_ns: i64,
    /// The latest time delivered so far.
    latest_ns: u64,
    fault: Option<SourceError>,
    later_faults: u64,
    done: Arc<AtomicU64>,
    total: Option<u64>,
}

struct Slot {
    path: CapturePath,
    state: State,
    /// A packet that was read and is not due yet.
    head: Option<Record>,
}

enum State {
    Waiting,
    Open(CaptureFile),
    Closed,
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
        let len = path.stored_len();
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
        self.total = self.total.zip(len).map(|(total, len)| total + len);
        Ok(())
    }

    /// Opens a file that is the only one, or that cannot be opened twice.
    fn open_now(&mut self, path: &CapturePath) -> Result<(State, u64), Fault> {
        let file = path.open(&mut self.ledgers, &self.done)?;
        Ok((State::Open(file), 0))
    }

    fn add(&mut self, state: State, path: CapturePath, time_ns: u64) {
        self.queue.push(Reverse((time_ns, self.slots.len())));
        self.slots.push(Slot {
            path,
            state,
            head: None,
        });
    }

    /// Finds the packet that is due, and its slot.
    #[inline]
    fn due(&mut self) -> Option<(usize, Record)> {
        loop {
            let index = match self.current.take() {
                Some(index) => index,
                None => self.queue.pop()?.0.1,
            };
            let Some(record) = self.head(index) else {
                continue;
            };
            let place = (record.time_ns, index);
            if self
                .queue
                .peek()
                .is_none_or(|Reverse(first)| place < *first)
            {
                return Some((index, record));
            }
            self.put_back(index, record);
        }
    }

    /// Takes the next packet of a slot; at its end, or a fault, the slot is closed.
    #[inline]
    fn head(&mut self, index: usize) -> Option<Record> {
        let slot = self.slots.get_mut(index)?;
        if let Some(record) = slot.head.take() {
            return Some(record);
        }
        match slot.read(&mut self.ledgers, &self.done) {
            Ok(Some(record)) => Some(record),
            Ok(None) => self.close(index, None),
            Err(fault) => self.close(index, Some(fault)),
        }
    }

    fn put_back(&mut self, index: usize, record: Record) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.head = Some(record);
            self.queue.push(Reverse((record.time_ns, index)));
        }
    }

    #[cold]
    fn close(&mut self, index: usize, fault: Option<Fault>) -> Option<Record> {
        let slot = self.slots.get_mut(index)?;
        slot.state = State::Closed;
        if let Some(fault) = fault {
            let fault = fault.of(&slot.path.display());
            self.later_faults += u64::from(self.fault.is_some());
            self.fault.get_or_insert(fault);
        }
        None
    }

    #[inline]
    fn deliver(&mut self, index: usize, record: &Record) -> Event<'_> {
        let time_ns = record.time_ns.saturating_add_signed(self.time_offset_ns);
        self.ledgers
            .count_packet(record.interface, time_ns < self.latest_ns);
        self.latest_ns = self.latest_ns.max(time_ns);
        self.current = Some(index);
        let slot = self.slots.get(index);
        Event::Packet(Packet {
            time_ns,
            interface: record.interface,
            link: record.link,
            wire_len: record.wire_len,
            data: slot.map(|slot| slot.data(record)).unwrap_or_default(),
        })
    }

    /// The end, or the first fault of the files.
    #[cold]
    fn end(&mut self) -> Result<Event<'_>, SourceError> {
        let Some(mut fault) = self.fault.take() else {
            return Ok(Event::End);
        };
        if self.later_faults > 0 {
            fault.problem += &format!(" (and {} more files are damaged)", self.later_faults);
        }
        Err(fault)
    }
}

impl Source for Merge {
    fn next(&mut self) -> Result<Event<'_>, SourceError> {
        match self.due() {
            Some((index, record)) => Ok(self.deliver(index, &record)),
            None => self.end(),
        }
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

impl Slot {
    #[inline]
    fn read(
        &mut self,
        ledgers: &mut Ledgers,
        done: &Arc<AtomicU64>,
    ) -> Result<Option<Record>, Fault> {
        if let State::Waiting = self.state {
            self.state = State::Open(self.path.open(ledgers, done)?);
        }
        match &mut self.state {
            State::Open(file) => file.next(ledgers),
            State::Waiting | State::Closed => Ok(None),
        }
    }

    #[inline]
    fn data(&self, record: &Record) -> &[u8] {
        match &self.state {
            State::Open(file) => file.data(record),
            State::Waiting | State::Closed => &[],
        }
    }
}

/// Time of the first packet of a file; 0 where it has none, or is damaged before it, so that the
/// file is opened first and what is wrong is found then.
fn first_time(path: &CapturePath) -> Result<u64, Fault> {
    let mut ledgers = Ledgers::default();
    let mut file = path.open(&mut ledgers, &Arc::default())?;
    let first = file.next(&mut ledgers).ok().flatten();
    Ok(first.map_or(0, |record| record.time_ns))
}
