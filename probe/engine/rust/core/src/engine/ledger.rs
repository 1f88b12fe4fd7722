//! The account of every packet: what became of it, per interface.

use rmp::encode;

use crate::decap::Undecodable;
use crate::source::InterfaceLedger;

/// Reasons that are the engine's own, after those of the decoder.
const TRANSPORT_TRUNCATED: &str = "transport_truncated";
const TRANSPORT_UNSUPPORTED: &str = "transport_unsupported";
const NO_TIMESTAMP: &str = "no_timestamp";
const OWN_REASONS: [&str; 2] = [TRANSPORT_TRUNCATED, TRANSPORT_UNSUPPORTED];
const REASONS: usize = Undecodable::ALL.len() + OWN_REASONS.len();

/// Why a packet gave no measurement.
#[derive(Debug, Clone, Copy)]
pub enum Reason {
    Undecodable(Undecodable),
    TransportTruncated,
    TransportUnsupported,
}

impl Reason {
    fn index(self) -> usize {
        let own = Undecodable::ALL.len();
        match self {
            Self::Undecodable(why) => why as usize,
            Self::TransportTruncated => own,
            Self::TransportUnsupported => own + 1,
        }
    }
}

/// Totals of one interface.
#[derive(Debug, Clone, Copy)]
struct Account {
    decoded: u64,
    undecodable: [u64; REASONS],
}

impl Default for Account {
    fn default() -> Self {
        Self { decoded: 0, undecodable: [0; REASONS] }
    }
}

/// Totals per interface, and what of them was reported.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    reported: Vec<(Account, SourceTotals)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct SourceTotals {
    received: u64,
    dropped_kernel: u64,
    dropped_nic: u64,
    no_timestamp: u64,
    time_went_back: u64,
}

impl SourceTotals {
    fn of(source: &InterfaceLedger) -> Self {
        Self {
            received: source.received,
            dropped_kernel: source.dropped_kernel,
            dropped_nic: source.dropped_nic,
            no_timestamp: source.no_timestamp,
            time_went_back: source.time_went_back,
        }
    }
}

/// Interfaces beyond this many share the last account: a pcapng file may declare any number.
const MAX_INTERFACES: usize = 1024;

impl Ledger {
    pub fn decoded(&mut self, interface: u32) {
        self.account(interface).decoded += 1;
    }

    pub fn undecodable(&mut self, interface: u32, reason: Reason) {
        self.account(interface).undecodable[reason.index()] += 1;
    }

    /// Packets counted as decoded when they were held, and now given up.
    pub fn lost_after_decoding(&mut self, interface: u32, reason: Undecodable, packets: u64) {
        let account = self.account(interface);
        account.decoded = account.decoded.saturating_sub(packets);
        account.undecodable[reason as usize] += packets;
    }

    fn account(&mut self, interface: u32) -> &mut Account {
        let index = (interface as usize).min(MAX_INTERFACES - 1);
        if index >= self.accounts.len() {
            self.accounts.resize(index + 1, Account::default());
        }
        &mut self.accounts[index]
    }

    /// (reason, packets) over all interfaces since the start; only reasons that occurred.
    pub fn undecodable_totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        (0..REASONS)
            .map(|index| {
                let sum = self.accounts.iter().map(|account| account.undecodable[index]).sum();
                (reason_name(index), sum)
            })
            .filter(|&(_, packets)| packets > 0)
    }

    pub fn decoded_total(&self) -> u64 {
        self.accounts.iter().map(|account| account.decoded).sum()
    }

    /// Writes what happened since the last report: a list with a map per interface that changed.
    pub fn report(&mut self, capture_point: &str, source: &[InterfaceLedger], out: &mut Vec<u8>) {
        let interfaces = source.len().max(self.accounts.len()).min(MAX_INTERFACES);
        self.accounts.resize(interfaces, Account::default());
        self.reported.resize(interfaces, Default::default());
        let mut entries = 0;
        let mut body = Vec::new();
        for index in 0..interfaces {
            let totals = source.get(index).map(SourceTotals::of).unwrap_or_default();
            let now = (self.accounts[index], totals);
            let before = std::mem::replace(&mut self.reported[index], now);
            let name = source.get(index).map_or("", |interface| interface.name.as_str());
            entries += u32::from(write_entry(capture_point, name, &before, &now, &mut body));
        }
        let _ = encode::write_array_len(out, entries);
        out.extend_from_slice(&body);
    }
}

fn reason_name(index: usize) -> &'static str {
    match index.checked_sub(Undecodable::ALL.len()) {
        Some(own) => OWN_REASONS[own],
        None => Undecodable::ALL[index].reason(),
    }
}

type Reported = (Account, SourceTotals);

/// Writes the difference of two reports, if there is one; returns whether.
fn write_entry(
    capture_point: &str,
    interface: &str,
    before: &Reported,
    now: &Reported,
    out: &mut Vec<u8>,
) -> bool {
    let source = |of: fn(&SourceTotals) -> u64| of(&now.1).saturating_sub(of(&before.1));
    let numbers = [
        ("received", source(|totals| totals.received)),
        // A fragment given up later turns from decoded to undecodable: never below zero here.
        ("decoded", now.0.decoded.saturating_sub(before.0.decoded)),
        ("filtered", 0),
        ("dropped_kernel", source(|totals| totals.dropped_kernel)),
        ("dropped_nic", source(|totals| totals.dropped_nic)),
        ("time_went_back", source(|totals| totals.time_went_back)),
    ];
    let mut reasons: Vec<(&str, u64)> = (0..REASONS)
        .map(|index| {
            let delta = now.0.undecodable[index].saturating_sub(before.0.undecodable[index]);
            (reason_name(index), delta)
        })
        .collect();
    reasons.push((NO_TIMESTAMP, source(|totals| totals.no_timestamp)));
    reasons.retain(|&(_, packets)| packets > 0);
    if numbers.iter().all(|&(_, number)| number == 0) && reasons.is_empty() {
        return false;
    }
    let _ = encode::write_map_len(out, numbers.len() as u32 + 4);
    write_text_entry(out, "capture_point", capture_point);
    write_text_entry(out, "interface", interface);
    for (name, number) in numbers {
        write_number_entry(out, name, number);
    }
    write_reasons(out, "shed", &[]);
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

fn write_reasons(out: &mut Vec<u8>, name: &str, reasons: &[(&str, u64)]) {
    let _ = encode::write_str(out, name);
    let _ = encode::write_map_len(out, reasons.len() as u32);
    for &(reason, packets) in reasons {
        write_number_entry(out, reason, packets);
    }
}
