//! Counters that account for every packet a source saw.

use std::collections::HashMap;

/// What one interface of a source delivered and lost since the source was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceLedger {
    /// The interface's name in the capture, else the name of the file.
    pub name: String,
    /// Packets that the capture holds: those delivered, and those of `no_timestamp`.
    pub received: u64,
    /// Packets that the kernel, or the capturing program, says it lost.
    pub dropped_kernel: u64,
    /// Packets that the network card says it lost.
    pub dropped_nic: u64,
    /// Packets that the configured filter kept out.
    pub filtered: u64,
    /// Packets that a live interface received, those it had no room for included; 0 where it does not tell.
    pub offered: u64,
    /// Packets that a live interface received and nothing else here accounts for.
    pub unaccounted: u64,
    /// Times that a live interface was down or away.
    pub interruptions: u64,
    /// Packets without a time (pcapng simple packet blocks): not delivered.
    pub no_timestamp: u64,
    /// Packets delivered with a time before the latest one that the source delivered earlier.
    pub time_went_back: u64,
}

/// The ledgers of a source, one per interface name.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    entries: Vec<InterfaceLedger>,
    by_name: HashMap<String, u32>,
}

impl Ledgers {
    /// Returns the index of the interface called `name`, adding an entry for a new name.
    pub fn interface(&mut self, name: &str) -> u32 {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let index = self.entries.len() as u32;
        self.entries.push(InterfaceLedger {
            name: name.to_owned(),
            ..InterfaceLedger::default()
        });
        self.by_name.insert(name.to_owned(), index);
        index
    }

    pub fn entries(&self) -> &[InterfaceLedger] {
        &self.entries
    }

    /// Counts a packet that is delivered.
    #[inline]
    pub fn count_packet(&mut self, interface: u32, went_back: bool) {
        if let Some(entry) = self.entries.get_mut(interface as usize) {
            entry.received += 1;
            entry.time_went_back += u64::from(went_back);
        }
    }

    /// Counts a packet that has no time and is not delivered.
    pub fn count_no_timestamp(&mut self, interface: u32) {
        if let Some(entry) = self.entries.get_mut(interface as usize) {
            entry.received += 1;
            entry.no_timestamp += 1;
        }
    }

    /// The account of an interface.
    pub fn entry(&mut self, interface: u32) -> Option<&mut InterfaceLedger> {
        self.entries.get_mut(interface as usize)
    }

    /// Adds packets that the capturing side reports as lost.
    pub fn add_dropped_kernel(&mut self, interface: u32, packets: u64) {
        if let Some(entry) = self.entries.get_mut(interface as usize) {
            entry.dropped_kernel = entry.dropped_kernel.saturating_add(packets);
        }
    }
}
