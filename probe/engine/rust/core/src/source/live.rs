//! Packets of a live interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bpf::Instruction;
use super::fanout::Sharding;
use super::fault::Fault;
use super::frame::{self, Block, Frame};
use super::group::{Group, LinkState, Rings};
use super::ledger::{InterfaceLedger, Ledgers};
use super::ring::{self, BLOCK_LEN, RETIRE_MS, Wait};
use super::watch::Totals;
use super::{Event, LinkType, Packet, Pressure, Source, SourceError};

/// How long to wait for packets before saying that there are none; bounds how late `stop` is seen.
const WAIT_MS: i32 = 100;
const NS_PER_MS: u64 = 1_000_000;
/// How often losses are counted, and an interface that is away is looked for.
const COUNT_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;
/// When the last packets of a ring that gets no more are handed over.
const SETTLE_NS: u64 = (RETIRE_MS as u64 + 25) * NS_PER_MS;

/// So often, 100 ms apart, rings are opened on an interface that is there before that is an error.
const ATTEMPTS: u32 = 50;

/// How to capture from an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveOptions {
    /// Added to the time of each packet, saturating.
    pub time_offset_ns: i64,
    /// See only what the interface receives: for a port that mirrors, where this host's own
    /// packets are not traffic. A loopback interface shows each packet once in any case.
    pub ignore_outgoing: bool,
    /// Among so many sources the packets are shared out; 0 counts as 1.
    pub workers: u32,
    pub sharding: Sharding,
    /// Leave out what this does not take.
    pub filter: Option<Filter>,
    pub clock: Clock,
    /// Bytes of each worker's ring, rounded to whole MiB, at least two; 0 for 64 MiB, a fifth of a second
    /// of a full 2.5 Gb/s port.
    pub ring_bytes: usize,
}

/// What stamps the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    #[default]
    Kernel,
    /// The card. Its clock has to be kept to the system's (phc2sys).
    Hardware,
}

/// A filter, compiled for both kinds of links; an empty program where it makes no sense for one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub ethernet: Vec<Instruction>,
    pub raw_ip: Vec<Instruction>,
}

impl Filter {
    pub(super) fn of(&self, link: LinkType) -> Result<&[Instruction], Fault> {
        let program = match link {
            LinkType::Ethernet => &self.ethernet,
            _ => &self.raw_ip,
        };
        if program.is_empty() {
            return Err(Fault::Plain(
                "the filter does not fit this kind of interface",
            ));
        }
        Ok(program)
    }
}

impl LiveOptions {
    pub(super) fn blocks(&self) -> usize {
        match self.ring_bytes {
            0 => 64,
            bytes => (bytes / BLOCK_LEN).max(2),
        }
    }
}

/// How one worker's part of a live capture fares. All but the first three and `by_hardware` are the
/// interface's, and stand with the lead; they count since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureState {
    pub interface: String,
    pub link: LinkState,
    /// Packets of the control plane that were read a second time, to learn from, and those that were
    /// not for want of room.
    pub control_copies: u64,
    pub control_copies_dropped: u64,
    /// Packets whose time is the card's; the others' is the kernel's.
    pub by_hardware: u64,
    pub interruptions: u64,
    pub offered: u64,
    pub dropped_kernel: u64,
    pub dropped_nic: u64,
    pub dropped_early: u64,
    pub filtered: u64,
    pub unaccounted: u64,
}

/// Captures from a network interface in promiscuous mode, until `stop` is set: one source for each of
/// `options.workers`, the lead first, each for a thread of its own.
///
/// Times are the kernel's or the card's. `Event::Idle` comes after each 100 ms without packets, with a
/// time that no later packet is before. VLAN tags that the card or kernel took out are put back.
/// Receive offload joins segments before they get here: switch it off on a capture port.
///
/// An interface that goes down or away is waited for. After `stop` comes what the rings hold already.
///
/// # Errors
///
/// When there is no such interface, or the process lacks CAP_NET_RAW.
pub fn open_interface(
    name: &str,
    options: LiveOptions,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Box<dyn Source>>, SourceError> {
    let workers = options.workers.max(1) as usize;
    let group = Group::open(name, options).map_err(|fault| fault.of(name))?;
    let group = Arc::new(group);
    let sources = (0..workers).map(|worker| -> Box<dyn Source> {
        Box::new(Live::new(worker, Arc::clone(&group), Arc::clone(stop)))
    });
    Ok(sources.collect())
}

#[derive(Debug)]
struct Live {
    worker: usize,
    group: Arc<Group>,
    /// Which of the rings that the group opened these are.
    generation: u64,
    reader: Option<Reader>,
    state: CaptureState,
    ledgers: Ledgers,
    /// What the watch over the present rings said last.
    totals: Totals,
    time_offset_ns: i64,
    /// The latest time delivered so far.
    latest_ns: u64,
    /// When losses were last counted.
    counted_ns: u64,
    stop: Arc<AtomicBool>,
    /// Read what is there, and go when it is this late.
    leaving_ns: Option<u64>,
    /// How often opening the rings again failed.
    attempts: u32,
}

/// Where the next packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Data(Frame),
    Control(Frame),
}

/// The place of a worker in its rings.
#[derive(Debug)]
struct Reader {
    rings: Rings,
    /// The block that is being read or awaited, and what is left of it.
    index: usize,
    block: Option<Block>,
    /// A packet of the block that waits for one of the control plane.
    head: Option<Frame>,
    /// The same in the ring of the control plane.
    control_index: usize,
    control_head: Option<Frame>,
    /// That packet was delivered: it is to be handed back.
    control_read: bool,
}

impl Reader {
    fn new(rings: Rings) -> Self {
        Self {
            rings,
            index: 0,
            block: None,
            head: None,
            control_index: 0,
            control_head: None,
            control_read: false,
        }
    }

    /// The next packet that is there. The control plane is merged by time: its packets are there at
    /// once, those of a block later, so what was said before a packet is known when that comes.
    #[inline]
    fn next(&mut self) -> Option<From> {
        if self.rings.control.is_none() {
            return self.next_data().map(From::Data);
        }
        self.next_merged()
    }

    fn next_merged(&mut self) -> Option<From> {
        self.find_control();
        if self.head.is_none() {
            self.head = self.next_data();
        }
        match (self.head, self.control_head) {
            (Some(data), Some(control)) if control.time_ns <= data.time_ns => {
                self.control_read = true;
                Some(From::Control(control))
            }
            (Some(data), _) => {
                self.head = None;
                Some(From::Data(data))
            }
            // Older packets may wait in a block that is not full.
            (None, Some(control)) if control.time_ns.saturating_add(2 * SETTLE_NS) < now_ns() => {
                self.control_read = true;
                Some(From::Control(control))
            }
            (None, _) => None,
        }
    }

    /// Hands back the packet of the control plane that was read, and finds the next one.
    fn find_control(&mut self) {
        let Some(ring) = &mut self.rings.control else {
            return;
        };
        if self.control_read {
            ring.release(self.control_index);
            self.control_index = (self.control_index + 1) % ring.units();
            self.control_read = false;
            self.control_head = None;
        }
        if self.control_head.is_none() {
            let link = self.rings.link;
            let unit = ring.unit(self.control_index);
            self.control_head = unit.and_then(|bytes| frame::single(bytes, link));
        }
    }

    #[inline]
    fn next_data(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frame_of_block() {
                return Some(frame);
            }
            if !self.next_block() {
                return None;
            }
        }
    }

    #[inline]
    fn frame_of_block(&mut self) -> Option<Frame> {
        let block = self.block.as_mut()?;
        let bytes = self.rings.data.unit(self.index)?;
        block.next(bytes, self.rings.link)
    }

    /// Hands back the block that was read, and takes the next one where it is filled.
    fn next_block(&mut self) -> bool {
        let ring = &mut self.rings.data;
        if self.block.take().is_some() {
            ring.release(self.index);
            self.index = (self.index + 1) % ring.units();
        }
        let bytes = ring.unit(self.index);
        self.block = bytes.and_then(|bytes| Block::read(bytes));
        self.block.is_some()
    }

    fn wait(&self) -> Result<Wait, Fault> {
        match self.control_head {
            // It is known, and waits for the block.
            Some(_) => self.rings.data.wait(None, RETIRE_MS as i32),
            None => self.rings.data.wait(self.rings.control.as_ref(), WAIT_MS),
        }
    }

    fn bytes(&mut self, from: From) -> &[u8] {
        let (unit, frame) = match from {
            From::Data(frame) => (self.rings.data.unit(self.index), frame),
            From::Control(frame) => {
                let index = self.control_index;
                let ring = self.rings.control.as_mut();
                (ring.and_then(|ring| ring.unit(index)), frame)
            }
        };
        let unit = unit.unwrap_or_default();
        unit.get(frame.start..frame.end).unwrap_or_default()
    }
}

impl Live {
    fn new(worker: usize, group: Arc<Group>, stop: Arc<AtomicBool>) -> Self {
        let mut ledgers = Ledgers::default();
        ledgers.interface(&group.name);
        let mut live = Self {
            worker,
            generation: 0,
            reader: None,
            state: CaptureState {
                interface: group.name.clone(),
                ..CaptureState::default()
            },
            ledgers,
            totals: Totals::default(),
            time_offset_ns: group.options.time_offset_ns,
            latest_ns: 0,
            counted_ns: 0,
            stop,
            leaving_ns: None,
            attempts: 0,
            group,
        };
        live.take_rings();
        live.look_at_link();
        live
    }

    fn is_lead(&self) -> bool {
        self.worker == 0
    }

    fn take_rings(&mut self) {
        if let Some((generation, rings)) = self.group.take(self.worker, self.generation) {
            self.generation = generation;
            self.totals = Totals::default();
            self.reader = Some(Reader::new(rings));
        }
    }

    /// Finds the next packet in the rings; None when none came for a while, and at the end.
    #[inline]
    fn frame(&mut self) -> Result<Option<From>, Fault> {
        loop {
            if self.stop.load(Ordering::Relaxed) && self.leaving_ns.is_none() {
                self.stop_rings()?;
            }
            let Some(reader) = &mut self.reader else {
                return self.without_rings();
            };
            if let Some(found) = reader.next() {
                return Ok(Some(found));
            }
            if !self.wait()? {
                return Ok(None);
            }
        }
    }

    /// Waits for packets; returns whether to look for them.
    fn wait(&mut self) -> Result<bool, Fault> {
        let Some(reader) = &self.reader else {
            return Ok(false);
        };
        if let Some(leaving_ns) = self.leaving_ns {
            return self.wait_to_leave(leaving_ns);
        }
        match reader.wait()? {
            Wait::Ready => Ok(true),
            Wait::TimedOut => Ok(false),
            Wait::Disturbed => {
                self.disturbed();
                Ok(true)
            }
        }
    }

    /// What is in a block comes in time, though nothing is added to it any more.
    fn wait_to_leave(&mut self, leaving_ns: u64) -> Result<bool, Fault> {
        if now_ns() < leaving_ns {
            thread::sleep(Duration::from_millis(5));
            return Ok(true);
        }
        self.count_losses_now()?;
        self.reader = None;
        self.leaving_ns = None;
        Ok(false)
    }

    fn stop_rings(&mut self) -> Result<(), Fault> {
        if let Some(Reader { rings, .. }) = &mut self.reader {
            match &mut rings.watch {
                Some(watch) => watch.close()?,
                None => ring::deafen(rings.data.fd())?,
            }
            if let Some(control) = &rings.control {
                ring::deafen(control.fd())?;
            }
        }
        self.leaving_ns = Some(now_ns().saturating_add(SETTLE_NS));
        Ok(())
    }

    /// An interface that is down gets its packets by the same rings when it comes back; of one that
    /// went away, only what they hold is left.
    fn disturbed(&mut self) {
        let known = self.reader.as_ref().map(|reader| reader.rings.interface);
        if super::socket::index(&self.group.name) != known {
            self.leaving_ns = Some(now_ns().saturating_add(SETTLE_NS));
        }
        if self.is_lead() {
            self.state.interruptions += 1;
            if let Some(entry) = self.ledgers.entry(0) {
                entry.interruptions += 1;
            }
        }
        self.look_at_link();
    }

    /// Waits for the interface, which the lead opens for all when it is there.
    fn without_rings(&mut self) -> Result<Option<From>, Fault> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(WAIT_MS as u64));
        self.look_at_link();
        if self.is_lead() && matches!(self.state.link, LinkState::Up | LinkState::NoCarrier) {
            self.open_again()?;
        }
        self.take_rings();
        Ok(None)
    }

    /// Opens rings on an interface that came back, which may take some attempts: it may go again, or be
    /// on its way to another name.
    fn open_again(&mut self) -> Result<(), Fault> {
        match self.group.open_rings() {
            Ok(()) => self.attempts = 0,
            Err(_) if self.attempts < ATTEMPTS => self.attempts += 1,
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn look_at_link(&mut self) {
        self.state.link = LinkState::of(&self.group.name);
    }

    /// Adds up what was lost, now and then: each figure costs a system call.
    #[inline]
    fn count_losses(&mut self, now_ns: u64) -> Result<(), Fault> {
        if now_ns.abs_diff(self.counted_ns) < COUNT_INTERVAL_NS {
            return Ok(());
        }
        self.counted_ns = now_ns;
        self.look_at_link();
        self.count_losses_now()
    }

    fn count_losses_now(&mut self) -> Result<(), Fault> {
        let Some(Reader { rings, .. }) = &mut self.reader else {
            return Ok(());
        };
        if let Some(control) = &rings.control {
            let counted = ring::take_counted_singly(control.fd())?;
            self.state.control_copies_dropped += counted.dropped;
        }
        let Some(watch) = &mut rings.watch else {
            return Ok(());
        };
        let totals = watch.read()?;
        if let Some(entry) = self.ledgers.entry(0) {
            totals.add_to(&self.totals, entry);
        }
        self.state.dropped_early += totals
            .dropped_early
            .saturating_sub(self.totals.dropped_early);
        self.totals = totals;
        Ok(())
    }

    /// What to say when there is no packet: the end, or the time.
    fn nothing(&mut self) -> Result<Event<'static>, Fault> {
        if self.reader.is_none() && self.stop.load(Ordering::Relaxed) {
            return Ok(Event::End);
        }
        let now_ns = now_ns();
        self.count_losses(now_ns)?;
        // A packet may wait this long in a block that is not full.
        let settled_ns = now_ns.saturating_sub(2 * u64::from(RETIRE_MS) * NS_PER_MS);
        Ok(Event::Idle(self.shifted(settled_ns)))
    }

    #[inline]
    fn deliver(&mut self, from: From) -> Event<'_> {
        let frame = match from {
            From::Data(frame) => {
                let time_ns = self.shifted(frame.time_ns);
                self.ledgers.count_packet(0, time_ns < self.latest_ns);
                self.state.by_hardware += u64::from(frame.by_hardware);
                frame
            }
            // The lead counts it.
            From::Control(frame) => {
                self.state.control_copies += 1;
                frame
            }
        };
        let time_ns = self.shifted(frame.time_ns);
        self.latest_ns = self.latest_ns.max(time_ns);
        let (link, data) = match &mut self.reader {
            Some(reader) => (reader.rings.link, reader.bytes(from)),
            None => Default::default(),
        };
        Event::Packet(Packet {
            time_ns,
            interface: 0,
            link,
            wire_len: frame.wire_len,
            data,
        })
    }

    #[inline]
    fn shifted(&self, time_ns: u64) -> u64 {
        time_ns.saturating_add_signed(self.time_offset_ns)
    }

    /// Finds the next packet, or else what there is to say.
    #[inline]
    fn advance(&mut self) -> Result<Result<From, Event<'static>>, Fault> {
        match self.frame()? {
            Some(found) => {
                let (From::Data(frame) | From::Control(frame)) = found;
                self.count_losses(frame.time_ns)?;
                Ok(Ok(found))
            }
            None => self.nothing().map(Err),
        }
    }
}

impl Source for Live {
    fn next(&mut self) -> Result<Event<'_>, SourceError> {
        match self.advance() {
            Ok(Ok(found)) => Ok(self.deliver(found)),
            Ok(Err(event)) => Ok(event),
            Err(fault) => Err(fault.of(&self.group.name)),
        }
    }

    fn ledger(&self) -> &[InterfaceLedger] {
        self.ledgers.entries()
    }

    /// Drops are those counted so far, up to a second ago; those of all rings of an interface are the
    /// lead's, whose thread is as late as the others.
    fn pressure(&self) -> Option<Pressure> {
        let clock_ns = now_ns();
        let (waiting, units) = match &self.reader {
            // The block under way is ours: only those behind it wait.
            Some(Reader { rings, block, .. }) => {
                let behind = rings.data.waiting();
                let behind = behind.saturating_sub(block.is_some().into());
                (behind, rings.data.units())
            }
            None => (0, 1),
        };
        let age_ns = self.shifted(clock_ns).saturating_sub(self.latest_ns);
        let dropped = self.ledgers.entries().iter().map(|it| it.dropped_kernel);
        Some(Pressure {
            clock_ns,
            waiting_percent: (waiting * 100 / units.max(1)) as u8,
            dropped: dropped.sum(),
            lag_ns: if waiting > 0 { age_ns } else { 0 },
        })
    }

    fn capture(&self) -> Option<CaptureState> {
        let mut state = self.state.clone();
        if let Some(entry) = self.ledgers.entries().first() {
            state.offered = entry.offered;
            state.dropped_kernel = entry.dropped_kernel;
            state.dropped_nic = entry.dropped_nic;
            state.filtered = entry.filtered;
            state.unaccounted = entry.unaccounted;
        }
        Some(state)
    }
}

/// The time by the kernel's clock that stamps packets; nothing else in the core reads a clock.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
