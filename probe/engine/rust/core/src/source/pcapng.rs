//! The pcapng format (draft-ietf-opsawg-pcapng).
//!
//! Packets come from enhanced packet blocks and from the obsolete packet blocks. A simple packet
//! block has no time: it is counted and not delivered. Every other block is skipped.

mod clock;
mod options;

use self::clock::Clock;
use self::options::InterfaceOptions;
use super::LinkType;
use super::bytes::ByteOrder;
use super::fault::{Fault, one_line};
use super::ledger::Ledgers;
use super::record::{MAX_CAPTURED, Record};
use super::window::Window;

/// Type of a section header block; the same in both byte orders.
const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type, total length and the total length again at the end.
const BLOCK_OVERHEAD: u32 = 12;
/// Type and total length; then the body begins.
const BODY_AT: usize = 8;
/// Of a packet block's body, before the packet.
const PACKET_HEADER_LEN: usize = 20;
/// Longest block that is looked into: a packet of 256 KiB and its options. Bounds the buffer.
const MAX_BLOCK_LEN: u32 = 1024 * 1024;
/// Most interface descriptions of a file, bounding what a hostile file can make us keep.
const MAX_INTERFACES: usize = 65_536;
/// Longest interface name that is kept, in characters.
const MAX_NAME_LEN: usize = 64;

/// Reads the blocks of one pcapng file.
#[derive(Debug)]
pub(super) struct Pcapng {
    file_name: String,
    order: ByteOrder,
    /// Of the current section.
    interfaces: Vec<Interface>,
    /// Interface descriptions of all sections so far.
    described: usize,
}

/// What packets need to know of their interface description.
#[derive(Debug)]
struct Interface {
    ledger: u32,
    link: LinkType,
    clock: Clock,
}

/// Type and total length of the block that begins at the window.
#[derive(Debug, Clone, Copy)]
struct Block {
    kind: u32,
    len: u32,
}

/// Says whether a file that begins with these bytes may be a pcapng file.
pub(super) fn recognizes(first: &[u8]) -> bool {
    first.starts_with(&MAGIC)
}

impl Pcapng {
    /// Checks that a section header begins the file; `file_name` names interfaces without a name.
    pub fn open(window: &mut Window, file_name: &str) -> Result<Self, Fault> {
        window.require(BLOCK_OVERHEAD as usize, "the section header")?;
        let order =
            section_order(window.bytes()).ok_or_else(|| Fault::not_a_capture(window.bytes()))?;
        Ok(Self {
            file_name: file_name.to_owned(),
            order,
            interfaces: Vec::new(),
            described: 0,
        })
    }

    /// Reads the next packet that has a time into `record`; false at the end of the file.
    #[inline(never)]
    pub fn next(
        &mut self,
        window: &mut Window,
        ledgers: &mut Ledgers,
        record: &mut Record,
    ) -> Result<bool, Fault> {
        while let Some(block) = self.block(window)? {
            if block.kind == ENHANCED_PACKET {
                *record = self.enhanced_packet(window, block)?;
                return Ok(true);
            }
            if block.kind == OBSOLETE_PACKET {
                *record = self.obsolete_packet(window, block, ledgers)?;
                return Ok(true);
            }
            self.other_block(window, block, ledgers)?;
        }
        Ok(false)
    }

    /// Reads the head of the next block, taking over the byte order of a new section.
    #[inline]
    fn block(&mut self, window: &mut Window) -> Result<Option<Block>, Fault> {
        if !window.has(BLOCK_OVERHEAD as usize)? {
            if window.bytes().is_empty() {
                return Ok(None);
            }
            return Err(window.truncated(u64::from(BLOCK_OVERHEAD), "block"));
        }
        if window.bytes().starts_with(&MAGIC) {
            self.order = section_order(window.bytes())
                .ok_or_else(|| window.corrupt("a section header without byte-order magic"))?;
        }
        let block = Block::read(self.order, window.bytes())
            .ok_or_else(|| window.truncated(u64::from(BLOCK_OVERHEAD), "block"))?;
        if block.len < BLOCK_OVERHEAD || block.len % 4 != 0 {
            return Err(window.corrupt("an impossible block length"));
        }
        Ok(Some(block))
    }

    #[inline]
    fn enhanced_packet(&self, window: &mut Window, block: Block) -> Result<Record, Fault> {
        self.complete(window, block)?;
        let body = block.body(window);
        let header = EnhancedHeader::read(self.order, body)
            .ok_or_else(|| window.corrupt("a packet block without its header"))?;
        self.packet(window, block, header)
    }

    #[cold]
    fn obsolete_packet(
        &self,
        window: &mut Window,
        block: Block,
        ledgers: &mut Ledgers,
    ) -> Result<Record, Fault> {
        self.complete(window, block)?;
        let body = block.body(window);
        let (header, drops) = obsolete_header(self.order, body)
            .ok_or_else(|| window.corrupt("a packet block without its header"))?;
        let record = self.packet(window, block, header)?;
        ledgers.add_dropped_kernel(record.interface, u64::from(drops));
        Ok(record)
    }

    #[inline]
    fn packet(
        &self,
        window: &mut Window,
        block: Block,
        header: EnhancedHeader,
    ) -> Result<Record, Fault> {
        let Some(interface) = self.interfaces.get(header.interface as usize) else {
            return Err(window.corrupt("a packet of an interface that is not described"));
        };
        if header.captured > MAX_CAPTURED {
            return Err(window.corrupt("longer than 256 KiB"));
        }
        let room = block.len - BLOCK_OVERHEAD;
        if header.captured + PACKET_HEADER_LEN as u32 > room {
            return Err(window.corrupt("a packet longer than its block"));
        }
        Ok(Record {
            time_ns: interface.clock.time_ns(header.ticks),
            interface: interface.ledger,
            link: interface.link,
            wire_len: header.original.max(header.captured),
            data: window.take(
                BODY_AT + PACKET_HEADER_LEN,
                header.captured as usize,
                block.len as usize,
            ),
        })
    }

    /// Deals with a block that holds no packet with a time, and consumes it.
    #[cold]
    fn other_block(
        &mut self,
        window: &mut Window,
        block: Block,
        ledgers: &mut Ledgers,
    ) -> Result<(), Fault> {
        match block.kind {
            SECTION_HEADER => self.section(window, block)?,
            INTERFACE_DESCRIPTION => self.interface(window, block, ledgers)?,
            SIMPLE_PACKET => self.simple_packet(window, ledgers)?,
            _ => {}
        }
        self.skip(window, block)
    }

    /// Begins a section: its interfaces are numbered from 0 again.
    fn section(&mut self, window: &mut Window, block: Block) -> Result<(), Fault> {
        self.complete(window, block)?;
        let body = block.body(window);
        let major = self
            .order
            .u16(body, 4)
            .ok_or_else(|| window.corrupt("a section header without its version"))?;
        if major != 1 {
            return Err(Fault::Unsupported(format!("version {major} of pcapng")));
        }
        self.interfaces.clear();
        Ok(())
    }

    fn interface(
        &mut self,
        window: &mut Window,
        block: Block,
        ledgers: &mut Ledgers,
    ) -> Result<(), Fault> {
        if self.described == MAX_INTERFACES {
            return Err(window.corrupt("more than 65,536 interface descriptions"));
        }
        self.complete(window, block)?;
        let body = block.body(window);
        let link = self
            .order
            .u16(body, 0)
            .ok_or_else(|| window.corrupt("an interface description without link type"))?;
        let options = InterfaceOptions::read(self.order, body.get(8..).unwrap_or_default());
        let ledger = ledgers.interface(&self.interface_name(options.name));
        self.described += 1;
        self.interfaces.push(Interface {
            ledger,
            link: LinkType::from_registry(u32::from(link)),
            clock: Clock::new(options.resolution, options.offset_s),
        });
        Ok(())
    }

    /// The name given, else the file's, numbered from its second interface on.
    fn interface_name(&self, given: &[u8]) -> String {
        let given = String::from_utf8_lossy(given);
        let given = given.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        match (given, self.interfaces.len()) {
            ("", 0) => self.file_name.clone(),
            ("", index) => format!("{}:{index}", self.file_name),
            (name, _) => one_line(name).chars().take(MAX_NAME_LEN).collect(),
        }
    }

    /// Counts a packet without a time: it belongs to the section's first interface.
    fn simple_packet(&self, window: &Window, ledgers: &mut Ledgers) -> Result<(), Fault> {
        let first = self
            .interfaces
            .first()
            .ok_or_else(|| window.corrupt("a packet of an interface that is not described"))?;
        ledgers.count_no_timestamp(first.ledger);
        Ok(())
    }

    /// Brings a block that is to be looked into wholly into the window.
    #[inline]
    fn complete(&self, window: &mut Window, block: Block) -> Result<(), Fault> {
        if block.len > MAX_BLOCK_LEN {
            return Err(window.corrupt("a block longer than 1 MiB"));
        }
        window.require(block.len as usize, "block")?;
        if self.order.u32(window.bytes(), block.trailer_at()) != Some(block.len) {
            return Err(window.corrupt("the block's two lengths differ"));
        }
        Ok(())
    }

    /// Consumes a block of any length without keeping it.
    fn skip(&self, window: &mut Window, block: Block) -> Result<(), Fault> {
        let offset = window.offset();
        let until_trailer = u64::from(block.len) - 4;
        let skipped = window.skip(until_trailer)?;
        if skipped < until_trailer || !window.has(4)? {
            return Err(Fault::Truncated {
                what: "block",
                offset,
                needs: u64::from(block.len),
                left: skipped + window.bytes().len() as u64,
            });
        }
        if self.order.u32(window.bytes(), 0) != Some(block.len) {
            let why = "the block's two lengths differ";
            return Err(Fault::Corrupt { offset, why });
        }
        window.take(0, 0, 4);
        Ok(())
    }
}

impl Block {
    #[inline]
    fn read(order: ByteOrder, bytes: &[u8]) -> Option<Self> {
        let [kind, len] = order.words(bytes)?;
        Some(Self { kind, len })
    }

    /// Where the total length stands again; it is at least 8.
    #[inline]
    fn trailer_at(self) -> usize {
        (self.len - 4) as usize
    }

    #[inline]
    fn body(self, window: &Window) -> &[u8] {
        let bytes = window.bytes();
        bytes.get(BODY_AT..self.trailer_at()).unwrap_or_default()
    }
}

/// What the header of a packet block says.
#[derive(Debug, Clone, Copy)]
struct EnhancedHeader {
    interface: u32,
    ticks: u64,
    captured: u32,
    original: u32,
}

impl EnhancedHeader {
    #[inline]
    fn read(order: ByteOrder, body: &[u8]) -> Option<Self> {
        let [interface, high, low, captured, original] = order.words(body)?;
        Some(Self {
            interface,
            ticks: (u64::from(high) << 32) | u64::from(low),
            captured,
            original,
        })
    }
}

/// Reads the header of the obsolete packet block: the same length, with a 16-bit interface and the
/// packets dropped since the one before, 0xFFFF where that is not known.
fn obsolete_header(order: ByteOrder, body: &[u8]) -> Option<(EnhancedHeader, u16)> {
    let mut header = EnhancedHeader::read(order, body)?;
    header.interface = u32::from(order.u16(body, 0)?);
    let drops = order.u16(body, 2)?;
    Some((header, if drops == u16::MAX { 0 } else { drops }))
}

/// The byte order that the magic of a section header states, if these bytes begin one.
fn section_order(bytes: &[u8]) -> Option<ByteOrder> {
    match bytes.get(BODY_AT..BODY_AT + 4)? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        _ => None,
    }
}
