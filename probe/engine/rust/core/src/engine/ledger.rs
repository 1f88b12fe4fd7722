//! The account of every packet: what became of it, per interface.

use rmp::encode;

use crate::decap::{Counters, Undecodable};
use crate::engine::overloaded::Unseen;
use crate::source::{InterfaceLedger, Packet};

/// Why a decoded packet gave no measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untracked {
    /// Its transport header was cut or malformed.
    Truncated,
    /// It is of a transport that has no record.
    Unsupported,
}

/// The engine's own reasons, in the order of `Untracked`.
const OWN_REASONS: [&str; 2] = ["transport_truncated", "transport_unsupported"];
const NO_TIMESTAMP: &str = "no_timestamp";
const MIRROR_COPY: &str = "mirror_copy";
/// Packets that are counted and tracked like any, of which a part was left out under overload.
const CONTENT: &str = "content";
const ROUND_TRIPS: &str = "round_trips";

/// Interfaces beyond this many share the last account: a pcapng file may declare any number.
const MAX_INTERFACES: usize = 4096;

/// All that is known of one interface's packets, since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    received: u64,
    dropped_kernel: u64,
    dropped_nic: u64,
    filtered: u64,
    offered: u64,
    unaccounted: u64,
    interruptions: u64,
    no_timestamp: u64,
    time_went_back: u64,
    decoded: u64,
    undecodable: [u64; Undecodable::ALL.len()],
    untracked: [u64; OWN_REASONS.len()],
    copies: u64,
    content: u64,
    round_trips: u64,
}

/// Packets that were learned from, and are counted elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Learned {
    pub packets: u64,
    pub bytes: u64,
}

/// Totals per interface, and what of them was reported.
#[derive(Debug, Default)]
pub struct Ledger {
    untracked: Vec<[u64; OWN_REASONS.len()]>,
    copies: Vec<u64>,
    unseen: Vec<[u64; 2]>,
    /// What another part counts.
    learned: Vec<Learned>,
    reported: Vec<Account>,
}

impl Ledger {
    pub fn untracked(&mut self, interface: u32, why: Untracked) {
        entry(&mut self.untracked, interface)[why as usize] += 1;
    }

    /// Counts a packet that the mirror had shown already.
    pub fn copy(&mut self, interface: u32) {
        *entry(&mut self.copies, interface) += 1;
    }

    /// Counts what was left out of packets under overload.
    #[cold]
    pub fn unseen(&mut self, interface: u32, unseen: Unseen) {
        let [content, round_trips] = entry(&mut self.unseen, interface);
        *content += u64::from(unseen.content);
        *round_trips += u64::from(unseen.round_trips);
    }

    /// Packets of which something was left out, over all interfaces since the start, by what.
    pub fn unseen_totals(&self) -> [(&'static str, u64); 2] {
        let total = |place: usize| self.unseen.iter().map(|counts| counts[place]).sum();
        [("shed_content", total(0)), ("shed_round_trips", total(1))]
    }

    /// Takes back a packet that the decoder counted, and another part of the engine counts.
    ///
    /// Bias: of one in fragments, the fragment that completed it.
    #[cold]
    pub fn learned(&mut self, packet: &Packet<'_>) {
        let learned = entry(&mut self.learned, packet.interface);
        learned.packets += 1;
        learned.bytes += u64::from(packet.wire_len);
    }

    /// What was taken back over all interfaces since the start.
    pub fn all_learned(&self) -> Learned {
        let mut all = Learned::default();
        for learned in &self.learned {
            all.packets += learned.packets;
            all.bytes += learned.bytes;
        }
        all
    }

    /// Packets that the mirror had shown already, over all interfaces since the start.
    pub fn copies(&self) -> u64 {
        self.copies.iter().sum()
    }

    /// Takes over the counts of packets that the mirror had shown already.
    pub fn set_copies(&mut self, copies: Vec<u64>) {
        self.copies = copies;
    }

    /// (reason, packets) over all interfaces since the start; only reasons that occurred.
    pub fn untracked_totals(&self) -> Vec<(&'static str, u64)> {
        let counts_of = |index: usize| self.untracked.iter().map(move |counts| counts[index]);
        let totals = OWN_REASONS.iter().enumerate();
        let totals = totals.map(|(index, &reason)| (reason, counts_of(index).sum()));
        totals.filter(|&(_, packets)| packets > 0).collect()
    }

    /// Writes what happened since the last report: a list with a map per interface that changed.
    pub fn report(
        &mut self,
        capture_point: &str,
        source: &[InterfaceLedger],
        decoder: &[Counters],
        out: &mut Vec<u8>,
    ) {
        let interfaces = source.len().max(decoder.len()).min(MAX_INTERFACES);
        self.reported.resize(interfaces, Account::default());
        let mut entries = 0;
        let mut body = Vec::new();
        for index in 0..interfaces {
            let now = self.account(source.get(index), decoder.get(index), index);
            let before = std::mem::replace(&mut self.reported[index], now);
            let name = source
                .get(index)
                .map_or("", |interface| interface.name.as_str());
            entries += u32::from(write_entry(capture_point, name, &before, &now, &mut body));
        }
        let _ = encode::write_array_len(out, entries);
        out.extend_from_slice(&body);
    }

    fn account(
        &self,
        source: Option<&InterfaceLedger>,
        decoder: Option<&Counters>,
        index: usize,
    ) -> Account {
        let mut account = Account::default();
        if let Some(source) = source {
            account.received = source.received;
            account.dropped_kernel = source.dropped_kernel;
            account.dropped_nic = source.dropped_nic;
            account.filtered = source.filtered;
            account.offered = source.offered;
            account.unaccounted = source.unaccounted;
            account.interruptions = source.interruptions;
            account.no_timestamp = source.no_timestamp;
            account.time_went_back = source.time_went_back;
        }
        if let Some(decoder) = decoder {
            account.decoded = decoder.decoded;
            account.undecodable = decoder.undecodable;
        }
        account.untracked = self.untracked.get(index).copied().unwrap_or_default();
        account.copies = self.copies.get(index).copied().unwrap_or_default();
        [account.content, account.round_trips] =
            self.unseen.get(index).copied().unwrap_or_default();
        // What the decoder passed on and nobody could follow, or need not, counts as that alone.
        let lost: u64 = account.untracked.iter().sum::<u64>() + account.copies;
        let learned = self.learned.get(index).map_or(0, |learned| learned.packets);
        account.decoded = account.decoded.saturating_sub(lost + learned);
        account
    }
}

/// (reason, packets) over all interfaces since the start; only reasons that occurred.
pub fn undecodable_totals(decoder: &[Counters]) -> Vec<(&'static str, u64)> {
    let total = |why| {
        decoder
            .iter()
            .map(|counters| counters.undecodable_for(why))
            .sum()
    };
    let totals = Undecodable::ALL
        .iter()
        .map(|&why| (why.reason(), total(why)));
    totals.filter(|&(_, packets)| packets > 0).collect()
}

/// The counter of an interface.
pub fn entry<T: Default + Clone>(counters: &mut Vec<T>, interface: u32) -> &mut T {
    let index = (interface as usize).min(MAX_INTERFACES - 1);
    if index >= counters.len() {
        counters.resize(index + 1, T::default());
    }
    &mut counters[index]
}

/// Writes the difference of two accounts, if there is one; returns whether.
fn write_entry(
    capture_point: &str,
    interface: &str,
    before: &Account,
    now: &Account,
    out: &mut Vec<u8>,
) -> bool {
    let delta = |of: fn(&Account) -> u64| of(now).saturating_sub(of(before));
    let numbers = [
        ("received", delta(|account| account.received)),
        ("decoded", delta(|account| account.decoded)),
        ("filtered", delta(|account| account.filtered)),
        ("dropped_kernel", delta(|account| account.dropped_kernel)),
        ("dropped_nic", delta(|account| account.dropped_nic)),
        ("time_went_back", delta(|account| account.time_went_back)),
    ];
    // Of live interfaces only.
    let mut live = vec![
        ("offered", delta(|account| account.offered)),
        ("unaccounted", delta(|account| account.unaccounted)),
        ("interruptions", delta(|account| account.interruptions)),
    ];
    live.retain(|&(_, number)| number > 0);
    let mut reasons = vec![(NO_TIMESTAMP, delta(|account| account.no_timestamp))];
    for (index, why) in Undecodable::ALL.iter().enumerate() {
        reasons.push((
            why.reason(),
            now.undecodable[index] - before.undecodable[index],
        ));
    }
    for (index, &reason) in OWN_REASONS.iter().enumerate() {
        reasons.push((reason, now.untracked[index] - before.untracked[index]));
    }
    reasons.retain(|&(_, packets)| packets > 0);
    let mut shed = vec![
        (MIRROR_COPY, now.copies - before.copies),
        (CONTENT, now.content - before.content),
        (ROUND_TRIPS, now.round_trips - before.round_trips),
    ];
    shed.retain(|&(_, packets)| packets > 0);
    let nothing = reasons.is_empty() && shed.is_empty() && live.is_empty();
    if nothing && numbers.iter().all(|&(_, number)| number == 0) {
        return false;
    }
    let _ = encode::write_map_len(out, (numbers.len() + live.len()) as u32 + 4);
    write_text_entry(out, "capture_point", capture_point);
    write_text_entry(out, "interface", interface);
    for (name, number) in numbers.into_iter().chain(live) {
        write_number_entry(out, name, number);
    }
    write_reasons(out, "shed", &shed);
    write_reasons(out, "undecodable", &reasons);
    true
}

pub fn write_text_entry(out: &mut Vec<u8>, name: &str, text: &str) {
    let _ = encode::write_str(out, name);
    let _ = encode::write_str(out, text);
}

pub fn write_number_entry(out: &mut Vec<u8>, name: &str, number: u64) {
    let _ = encode::write_str(out, name);
    let _ = encode::write_uint(out, number);
}

pub fn write_optional_entry(out: &mut Vec<u8>, name: &str, number: Option<u64>) {
    match number {
        Some(number) => write_number_entry(out, name, number),
        None => {
            let _ = encode::write_str(out, name);
            let _ = encode::write_nil(out);
        }
    }
}

fn write_reasons(out: &mut Vec<u8>, name: &str, reasons: &[(&str, u64)]) {
    let _ = encode::write_str(out, name);
    let _ = encode::write_map_len(out, reasons.len() as u32);
    for &(reason, packets) in reasons {
        write_number_entry(out, reason, packets);
    }
}
