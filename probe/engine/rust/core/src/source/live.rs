//! Packets of a live interface.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::fault::Fault;
use super::frame::{Block, Frame};
use super::ledger::{InterfaceLedger, Ledgers};
use super::ring::{self, RETIRE_MS, Ring, Wait};
use super::{Event, LinkType, Packet, Pressure, Source, SourceError};

/// 64 MiB: a fifth of a second of a full 2.5 Gb/s port.
const BLOCKS: usize = 64;
/// How long to wait for packets before saying that there are none; bounds how late `stop` is seen.
const WAIT_MS: i32 = 100;
const NS_PER_MS: u64 = 1_000_000;
/// How often losses are counted.
const COUNT_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

/// ARPHRD_RAWIP, which libc does not name.
const HARDWARE_RAW_IP: u16 = 519;

/// How to capture from an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveOptions {
    /// Added to the time of each packet, saturating.
    pub time_offset_ns: i64,
    /// See only what the interface receives: for a port that mirrors, where this host's own
    /// packets are not traffic. A loopback interface shows each packet once in any case.
    pub ignore_outgoing: bool,
}

/// Captures from a network interface in promiscuous mode, until `stop` is set.
///
/// Times are the kernel's. `Event::Idle` comes after each 100 ms without packets, with a time that
/// no later packet is before. VLAN tags that the card or kernel took out are put back. Receive
/// offload joins segments before they get here: switch it off on a capture port.
///
/// # Errors
///
/// When there is no such interface, it is down, or the process lacks CAP_NET_RAW. Later, when the
/// interface disappears; one that goes down is waited for.
pub fn open_interface(
    name: &str,
    options: LiveOptions,
    stop: Arc<AtomicBool>,
) -> Result<Box<dyn Source>, SourceError> {
    let live = Live::open(name, options, stop, BLOCKS).map_err(|fault| fault.of(name))?;
    Ok(Box::new(live))
}

#[derive(Debug)]
pub(super) struct Live {
    name: String,
    interface: u32,
    link: LinkType,
    ring: Ring,
    /// The block that is being read or awaited, and what is left of it.
    index: usize,
    block: Option<Block>,
    nic: NicDrops,
    ledgers: Ledgers,
    time_offset_ns: i64,
    /// The latest time delivered so far.
    latest_ns: u64,
    /// When losses were last counted.
    counted_ns: u64,
    stop: Arc<AtomicBool>,
}

impl Live {
    pub(super) fn open(
        name: &str,
        options: LiveOptions,
        stop: Arc<AtomicBool>,
        blocks: usize,
    ) -> Result<Self, Fault> {
        let missing = Fault::Plain("there is no such interface");
        let interface = ring::interface_index(name).ok_or(missing)?;
        let step = "read the interface's type";
        let hardware = ring::hardware_type(name).map_err(|error| Fault::Capture { step, error })?;
        let ignore_outgoing = options.ignore_outgoing || hardware == libc::ARPHRD_LOOPBACK;
        let mut ledgers = Ledgers::default();
        ledgers.interface(name);
        Ok(Self {
            name: name.to_owned(),
            interface,
            link: link_type(hardware)?,
            ring: Ring::open(interface, blocks, ignore_outgoing)?,
            index: 0,
            block: None,
            nic: NicDrops::open(name),
            ledgers,
            time_offset_ns: options.time_offset_ns,
            latest_ns: 0,
            counted_ns: 0,
            stop,
        })
    }

    /// Finds the next packet in the ring; None when none came for a while, or on `stop`.
    fn frame(&mut self) -> Result<Option<Frame>, Fault> {
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(frame) = self.frame_of_block() {
                return Ok(Some(frame));
            }
            if self.next_block() {
                continue;
            }
            match self.ring.wait(WAIT_MS)? {
                Wait::Ready => {}
                Wait::TimedOut => return Ok(None),
                Wait::Disturbed => self.check_interface()?,
            }
        }
        Ok(None)
    }

    #[inline]
    fn frame_of_block(&mut self) -> Option<Frame> {
        let bytes = self.ring.block(self.index)?;
        self.block.as_mut()?.next(bytes, self.link)
    }

    /// Hands back the block that was read, and takes the next one where it is filled.
    fn next_block(&mut self) -> bool {
        if self.block.take().is_some() {
            self.ring.release(self.index);
            self.index = (self.index + 1) % self.ring.blocks();
        }
        self.block = self
            .ring
            .block(self.index)
            .and_then(|bytes| Block::read(bytes));
        self.block.is_some()
    }

    /// An interface that is down may come back; one that is gone does not.
    fn check_interface(&self) -> Result<(), Fault> {
        if ring::interface_index(&self.name) == Some(self.interface) {
            return Ok(());
        }
        Err(Fault::Plain("the interface has disappeared"))
    }

    /// Adds up what was lost, now and then: both figures cost a system call.
    fn count_losses(&mut self, now_ns: u64) -> Result<(), Fault> {
        if now_ns.abs_diff(self.counted_ns) < COUNT_INTERVAL_NS {
            return Ok(());
        }
        self.counted_ns = now_ns;
        self.count_losses_now()
    }

    fn count_losses_now(&mut self) -> Result<(), Fault> {
        let drops = u64::from(self.ring.take_drops()?);
        self.ledgers.add_dropped_kernel(0, drops);
        self.ledgers.add_dropped_nic(0, self.nic.take());
        Ok(())
    }

    /// What to say when there is no packet: the end, or the time.
    fn nothing(&mut self) -> Result<Event<'static>, Fault> {
        if self.stop.load(Ordering::Relaxed) {
            self.count_losses_now()?;
            return Ok(Event::End);
        }
        let now_ns = now_ns();
        self.count_losses(now_ns)?;
        // A packet may wait this long in a block that is not full.
        let settled_ns = now_ns.saturating_sub(2 * u64::from(RETIRE_MS) * NS_PER_MS);
        Ok(Event::Idle(self.shifted(settled_ns)))
    }

    #[inline]
    fn deliver(&mut self, frame: Frame) -> Event<'_> {
        let time_ns = self.shifted(frame.time_ns);
        self.ledgers.count_packet(0, time_ns < self.latest_ns);
        self.latest_ns = self.latest_ns.max(time_ns);
        let block = self.ring.block(self.index).unwrap_or_default();
        Event::Packet(Packet {
            time_ns,
            interface: 0,
            link: self.link,
            wire_len: frame.wire_len,
            data: block.get(frame.start..frame.end).unwrap_or_default(),
        })
    }

    #[inline]
    fn shifted(&self, time_ns: u64) -> u64 {
        time_ns.saturating_add_signed(self.time_offset_ns)
    }

    /// Finds the next packet, or else what there is to say.
    #[inline]
    fn advance(&mut self) -> Result<Result<Frame, Event<'static>>, Fault> {
        match self.frame()? {
            Some(frame) => {
                self.count_losses(frame.time_ns)?;
                Ok(Ok(frame))
            }
            None => self.nothing().map(Err),
        }
    }
}

impl Source for Live {
    fn next(&mut self) -> Result<Event<'_>, SourceError> {
        match self.advance() {
            Ok(Ok(frame)) => Ok(self.deliver(frame)),
            Ok(Err(event)) => Ok(event),
            Err(fault) => Err(fault.of(&self.name)),
        }
    }

    fn ledger(&self) -> &[InterfaceLedger] {
        self.ledgers.entries()
    }

    /// Drops are those counted so far, up to a second ago.
    fn pressure(&self) -> Option<Pressure> {
        let clock_ns = now_ns();
        let waiting = self.ring.waiting();
        // The block under way is ours: only those behind it wait.
        let behind = waiting.saturating_sub(self.block.is_some().into());
        let age_ns = self.shifted(clock_ns).saturating_sub(self.latest_ns);
        Some(Pressure {
            clock_ns,
            waiting_percent: (behind * 100 / self.ring.blocks().max(1)) as u8,
            dropped: self
                .ledgers
                .entries()
                .iter()
                .map(|it| it.dropped_kernel)
                .sum(),
            lag_ns: if behind > 0 { age_ns } else { 0 },
        })
    }
}

fn link_type(hardware: u16) -> Result<LinkType, Fault> {
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkType::Ethernet),
        libc::ARPHRD_NONE | HARDWARE_RAW_IP => Ok(LinkType::RawIp),
        other => Err(Fault::Unsupported(format!("hardware type {other}"))),
    }
}

/// The time by the kernel's clock that stamps packets; nothing else in the core reads a clock.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// Packets that the card had no room for, as its driver counts them.
#[derive(Debug)]
struct NicDrops {
    counter: Option<File>,
    last: u64,
}

impl NicDrops {
    fn open(name: &str) -> Self {
        let path = format!("/sys/class/net/{name}/statistics/rx_missed_errors");
        let mut drops = Self {
            counter: File::open(path).ok(),
            last: 0,
        };
        drops.take();
        drops
    }

    /// How many there were since this was last called; 0 where the system does not tell.
    fn take(&mut self) -> u64 {
        let now = self.read().unwrap_or(self.last);
        let grown = now.saturating_sub(self.last);
        self.last = now;
        grown
    }

    fn read(&self) -> Option<u64> {
        let mut text = [0; 24];
        let len = self.counter.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(text.get(..len)?).ok()?;
        text.trim().parse().ok()
    }
}
