//! The snoop format of Solaris, version 2 (RFC 1761).

use super::LinkType;
use super::bytes::ByteOrder;
use super::fault::Fault;
use super::ledger::Ledgers;
use super::record::{MAX_CAPTURED, Record};
use super::window::Window;

const PATTERN: &[u8] = b"snoop\0\0\0";
const FILE_HEADER_LEN: usize = 16;
const RECORD_HEADER_LEN: usize = 24;
const ORDER: ByteOrder = ByteOrder::Big;

/// Reads the records of one snoop file.
#[derive(Debug)]
pub(super) struct Snoop {
    link: LinkType,
    interface: u32,
    /// The cumulative drops of the last record.
    drops: u32,
}

/// Says whether a file that begins with these bytes is a snoop file.
pub(super) fn recognizes(first: &[u8]) -> bool {
    first.starts_with(PATTERN)
}

impl Snoop {
    /// Reads the file header. `interface` is the ledger that the file's packets count in.
    pub fn open(window: &mut Window, interface: u32) -> Result<Self, Fault> {
        window.require(FILE_HEADER_LEN, "the file header")?;
        let link = file_header(window.bytes())?;
        window.take(0, 0, FILE_HEADER_LEN);
        Ok(Self {
            link,
            interface,
            drops: 0,
        })
    }

    /// Reads the next one into `record`; false at the end of the file.
    #[inline(never)]
    pub fn next(
        &mut self,
        window: &mut Window,
        ledgers: &mut Ledgers,
        record: &mut Record,
    ) -> Result<bool, Fault> {
        if !window.has(RECORD_HEADER_LEN)? && window.bytes().is_empty() {
            return Ok(false);
        }
        let Some(header) = RecordHeader::read(window.bytes()) else {
            return Err(window.truncated(RECORD_HEADER_LEN as u64, "record"));
        };
        header.check().map_err(|why| window.corrupt(why))?;
        let total = header.record_len as usize;
        window.require(total, "record")?;
        self.count_drops(header.drops, ledgers);
        *record = Record {
            time_ns: header.time_ns,
            interface: self.interface,
            link: self.link,
            wire_len: header.original.max(header.captured),
            data: window.take(RECORD_HEADER_LEN, header.captured as usize, total),
        };
        Ok(true)
    }

    /// Adds what the cumulative count grew by; a count that falls was reset.
    fn count_drops(&mut self, drops: u32, ledgers: &mut Ledgers) {
        let grown = drops.saturating_sub(self.drops);
        self.drops = drops;
        ledgers.add_dropped_kernel(self.interface, u64::from(grown));
    }
}

fn file_header(bytes: &[u8]) -> Result<LinkType, Fault> {
    let version = ORDER.u32(bytes, 8).unwrap_or_default();
    if version != 2 {
        return Err(Fault::Unsupported(format!("version {version} of snoop")));
    }
    let datalink = ORDER.u32(bytes, 12).unwrap_or_default();
    link_type(datalink)
        .ok_or_else(|| Fault::Unsupported(format!("datalink type {datalink} of snoop")))
}

/// Datalink types of RFC 1761 in terms of the LINKTYPE_ registry.
fn link_type(datalink: u32) -> Option<LinkType> {
    match datalink {
        0 | 4 => Some(LinkType::Ethernet),
        2 => Some(LinkType::Other(6)),
        8 => Some(LinkType::Other(10)),
        _ => None,
    }
}

struct RecordHeader {
    original: u32,
    captured: u32,
    /// With header and padding.
    record_len: u32,
    drops: u32,
    time_ns: u64,
}

impl RecordHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [original, captured, record_len, drops, seconds, microseconds] = ORDER.words(bytes)?;
        Some(Self {
            original,
            captured,
            record_len,
            drops,
            // At most (2^32 - 1) s + (2^32 - 1) us: below 2^63 ns.
            time_ns: u64::from(seconds) * 1_000_000_000 + u64::from(microseconds) * 1_000,
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.captured > MAX_CAPTURED {
            return Err("longer than 256 KiB");
        }
        let least = self.captured + RECORD_HEADER_LEN as u32;
        if self.record_len < least {
            return Err("shorter than its packet");
        }
        // Padding beyond a few bytes has no use; this bounds the buffer.
        if self.record_len - least > 4096 {
            return Err("more than 4 KiB of padding");
        }
        Ok(())
    }
}
