//! The pcap format (draft-ietf-opsawg-pcap), with its nanosecond and "modified" variants.

use super::LinkType;
use super::bytes::ByteOrder;
use super::fault::Fault;
use super::record::{MAX_CAPTURED, Record};
use super::window::Window;

const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
/// Of the "modified" format that Alexey Kuznetzov's patched libpcap wrote: the usual header, then
/// interface index, protocol and packet type.
const MODIFIED_RECORD_HEADER_LEN: usize = 24;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// The link type without the length of the frame check sequence and its flag (bits 26 to 31).
const LINK_TYPE_MASK: u32 = 0x03ff_ffff;

/// Reads the records of one pcap file.
#[derive(Debug)]
pub(super) struct Pcap {
    variant: Variant,
    link: LinkType,
    interface: u32,
}

/// What the magic number says.
#[derive(Debug, Clone, Copy)]
struct Variant {
    order: ByteOrder,
    record_header_len: usize,
    /// Nanoseconds per unit of the second half of a time.
    fraction_ns: u64,
}

impl Variant {
    fn of(first: &[u8]) -> Option<Self> {
        let magic = *first.first_chunk()?;
        Self::in_order(u32::from_le_bytes(magic), ByteOrder::Little)
            .or_else(|| Self::in_order(u32::from_be_bytes(magic), ByteOrder::Big))
    }

    fn in_order(magic: u32, order: ByteOrder) -> Option<Self> {
        let (record_header_len, fraction_ns) = match magic {
            0xa1b2_c3d4 => (RECORD_HEADER_LEN, 1_000),
            0xa1b2_3c4d => (RECORD_HEADER_LEN, 1),
            0xa1b2_cd34 => (MODIFIED_RECORD_HEADER_LEN, 1_000),
            _ => return None,
        };
        Some(Self {
            order,
            record_header_len,
            fraction_ns,
        })
    }
}

/// Says whether a file that begins with these bytes is a pcap file.
pub(super) fn recognizes(first: &[u8]) -> bool {
    Variant::of(first).is_some()
}

impl Pcap {
    /// Reads the file header. `interface` is the ledger that the file's packets count in.
    pub fn open(window: &mut Window, interface: u32) -> Result<Self, Fault> {
        window.require(FILE_HEADER_LEN, "the file header")?;
        let (variant, version, network) = file_header(window.bytes())
            .ok_or_else(|| window.truncated(FILE_HEADER_LEN as u64, "the file header"))?;
        if version != 2 {
            return Err(Fault::Unsupported(format!("version {version} of pcap")));
        }
        window.take(0, 0, FILE_HEADER_LEN);
        Ok(Self {
            variant,
            link: LinkType::from_registry(network & LINK_TYPE_MASK),
            interface,
        })
    }

    /// Reads the next one into `record`; false at the end of the file.
    #[inline(always)]
    pub fn next(&mut self, window: &mut Window, record: &mut Record) -> Result<bool, Fault> {
        let header_len = self.variant.record_header_len;
        if !window.has(header_len)? && window.bytes().is_empty() {
            return Ok(false);
        }
        let Some(header) = self.record_header(window.bytes()) else {
            return Err(window.truncated(header_len as u64, "record"));
        };
        if header.captured > MAX_CAPTURED {
            return Err(window.corrupt("longer than 256 KiB"));
        }
        let total = header_len + header.captured as usize;
        window.require(total, "record")?;
        *record = Record {
            time_ns: header.time_ns,
            interface: self.interface,
            link: self.link,
            wire_len: header.original.max(header.captured),
            data: window.take(header_len, header.captured as usize, total),
        };
        Ok(true)
    }

    #[inline]
    fn record_header(&self, bytes: &[u8]) -> Option<RecordHeader> {
        let [seconds, fraction, captured, original] = self.variant.order.words(bytes)?;
        let fraction_ns = u64::from(fraction) * self.variant.fraction_ns;
        Some(RecordHeader {
            // At most (2^32 - 1) s + (2^32 - 1) us: below 2^63 ns.
            time_ns: u64::from(seconds) * NS_PER_SECOND + fraction_ns,
            captured,
            original,
        })
    }
}

struct RecordHeader {
    time_ns: u64,
    captured: u32,
    original: u32,
}

/// Returns the variant, the major version and the link type field.
fn file_header(bytes: &[u8]) -> Option<(Variant, u16, u32)> {
    let variant = Variant::of(bytes)?;
    let version = variant.order.u16(bytes, 4)?;
    let network = variant.order.u32(bytes, 20)?;
    Some((variant, version, network))
}
