//! What became of an interface's packets before they reached a ring.
//!
//! The interface's own counters, those of a socket that only counts, and those of the rings are read one
//! after the other, so between them are packets on their way. Each figure is one that later readings
//! cannot take back.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

use super::fault::Fault;
use super::ledger::InterfaceLedger;
use super::nic::{Counters, Nic};
use super::ring::{self, Counted, Port, Ring};

/// So many readings that packets on their way are not taken for lost.
const READINGS: usize = 5;

/// Counts for all rings of an interface, since they were opened.
#[derive(Debug)]
pub(super) struct Watch {
    nic: Option<Nic>,
    begin: Counters,
    counts_sent: bool,
    /// A handle of each ring, in the order of workers.
    rings: Vec<OwnedFd>,
    /// Sees what the rings' filter keeps from them.
    unfiltered: Option<OwnedFd>,
    offered: Offered,
    seen: u64,
    taken: Counted,
    /// The last readings of what nothing accounts for.
    open: VecDeque<u64>,
    totals: Totals,
    closed: bool,
}

/// What the interface says, since the rings were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Offered {
    packets: u64,
    missed: u64,
    dropped: u64,
}

/// What became of packets, since the rings were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub offered: u64,
    pub dropped_kernel: u64,
    pub dropped_nic: u64,
    pub filtered: u64,
    pub unaccounted: u64,
    /// By the host, before anybody saw them; may be in `unaccounted` too (see `nic`).
    pub dropped_early: u64,
}

impl Watch {
    /// Begins to count for rings that listen already. `filtered`: a filter keeps packets from them.
    pub fn open(
        port: Port,
        rings: &[Ring],
        counts_sent: bool,
        filtered: bool,
    ) -> Result<Self, Fault> {
        let handles: Result<Vec<_>, Fault> = rings.iter().map(Ring::handle).collect();
        let unfiltered = filtered.then(|| ring::open_counter(port)).transpose()?;
        if let Some(counter) = &unfiltered {
            ring::listen(counter.as_raw_fd(), None)?;
        }
        let nic = Nic::open(port.interface).ok();
        let begin = nic.as_ref().and_then(Nic::read);
        Ok(Self {
            nic: nic.filter(|_| begin.is_some()),
            begin: begin.unwrap_or_default(),
            counts_sent,
            rings: handles?,
            unfiltered,
            offered: Offered::default(),
            seen: 0,
            taken: Counted::default(),
            open: VecDeque::with_capacity(READINGS),
            totals: Totals::default(),
            closed: false,
        })
    }

    /// Reads all counters, in the order in which packets pass them.
    pub fn read(&mut self) -> Result<Totals, Fault> {
        if !self.closed {
            self.read_offered();
            self.read_seen()?;
        }
        for ring in &self.rings {
            let more = ring::take_counted(ring.as_raw_fd())?;
            self.taken.packets += more.packets;
            self.taken.dropped += more.dropped;
        }
        self.add_up();
        Ok(self.totals)
    }

    fn read_offered(&mut self) {
        let Some(now) = self.nic.as_ref().and_then(Nic::read) else {
            return;
        };
        let sent = if self.counts_sent {
            now.sent.saturating_sub(self.begin.sent)
        } else {
            0
        };
        self.offered = Offered {
            packets: now.received.saturating_sub(self.begin.received) + sent,
            missed: now.missed.saturating_sub(self.begin.missed),
            dropped: now.dropped.saturating_sub(self.begin.dropped),
        };
    }

    fn read_seen(&mut self) -> Result<(), Fault> {
        if let Some(counter) = &self.unfiltered {
            self.seen += ring::take_counted_singly(counter.as_raw_fd())?.packets;
        }
        Ok(())
    }

    fn add_up(&mut self) {
        let seen = match self.unfiltered {
            Some(_) => self.seen.max(self.taken.packets),
            None => self.taken.packets,
        };
        if self.open.len() == READINGS {
            self.open.pop_front();
        }
        self.open
            .push_back(self.offered.packets.saturating_sub(seen));
        let least = self.open.iter().copied().min().unwrap_or(0);
        let settled = self.closed || self.open.len() == READINGS;
        let totals = &mut self.totals;
        totals.offered = self.offered.packets + self.offered.missed;
        totals.dropped_kernel = self.taken.dropped;
        totals.dropped_nic = self.offered.missed;
        totals.dropped_early = self.offered.dropped;
        totals.filtered = totals.filtered.max(seen - self.taken.packets);
        if settled {
            totals.unaccounted = totals.unaccounted.max(least);
        }
    }

    /// Ends the capture: no ring gets another packet, and what counts is what was until now.
    pub fn close(&mut self) -> Result<(), Fault> {
        if self.closed {
            return Ok(());
        }
        self.read_offered();
        self.read_seen()?;
        for ring in &self.rings {
            ring::deafen(ring.as_raw_fd())?;
        }
        self.closed = true;
        self.open.clear();
        Ok(())
    }
}

impl Totals {
    /// Adds to the account of the interface what is new since `before`.
    pub fn add_to(&self, before: &Self, ledger: &mut InterfaceLedger) {
        ledger.offered += self.offered.saturating_sub(before.offered);
        ledger.dropped_kernel += self.dropped_kernel.saturating_sub(before.dropped_kernel);
        ledger.dropped_nic += self.dropped_nic.saturating_sub(before.dropped_nic);
        ledger.filtered += self.filtered.saturating_sub(before.filtered);
        ledger.unaccounted += self.unaccounted.saturating_sub(before.unaccounted);
    }
}
