//! Packets within a unit of the kernel's rings: a block of them, or a single one.

use std::mem::offset_of;

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket_hdr_variant1, tpacket2_hdr, tpacket3_hdr};

use super::LinkType;
use super::ring::VLAN_TAG_LEN;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Destination and source address, before the EtherType.
const ETHERNET_ADDRESSES_LEN: usize = 12;
/// EtherType of the tag where the kernel does not say: 802.1Q.
const ETHERTYPE_VLAN: u16 = 0x8100;

/// What is left of a block that the kernel has filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    packets: u32,
    at: usize,
}

/// One packet of a unit: `start..end` of the unit's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub time_ns: u64,
    pub wire_len: u32,
    pub start: usize,
    pub end: usize,
    /// Its time is the card's.
    pub by_hardware: bool,
}

impl Block {
    /// Reads the header of a block.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(offset_of!(tpacket_block_desc, hdr)..)?;
        Some(Self {
            packets: u32_at(header, offset_of!(tpacket_hdr_v1, num_pkts))?,
            at: u32_at(header, offset_of!(tpacket_hdr_v1, offset_to_first_pkt))? as usize,
        })
    }

    /// Goes to the next packet, putting the VLAN tag that was taken out of it back into the bytes.
    #[inline]
    pub fn next(&mut self, bytes: &mut [u8], link: LinkType) -> Option<Frame> {
        self.packets = self.packets.checked_sub(1)?;
        let header = Header::read(bytes.get(self.at..)?)?;
        let frame = header.whole_frame(self.at, bytes, link);
        self.at = self.at.checked_add(header.next)?;
        Some(frame)
    }
}

/// The packet of a unit that holds one, with its VLAN tag.
pub(super) fn single(bytes: &mut [u8], link: LinkType) -> Option<Frame> {
    Some(Header::read_single(bytes)?.whole_frame(0, bytes, link))
}

/// What the kernel says of a packet, `tpacket3_hdr` or `tpacket2_hdr`.
#[derive(Debug, Clone, Copy)]
struct Header {
    next: usize,
    status: u32,
    time_ns: u64,
    captured: u32,
    wire_len: u32,
    /// Where the packet begins, from the header on.
    mac: u16,
    /// EtherType and content of the tag that was taken out.
    vlan: Option<(u16, u16)>,
}

impl Header {
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; size_of::<tpacket3_hdr>()] = bytes.first_chunk()?;
        let seconds = u64::from(u32_at(header, offset_of!(tpacket3_hdr, tp_sec))?);
        let nanoseconds = u64::from(u32_at(header, offset_of!(tpacket3_hdr, tp_nsec))?);
        Some(Self {
            next: u32_at(header, offset_of!(tpacket3_hdr, tp_next_offset))? as usize,
            status: u32_at(header, offset_of!(tpacket3_hdr, tp_status))?,
            time_ns: seconds * NS_PER_SECOND + nanoseconds,
            captured: u32_at(header, offset_of!(tpacket3_hdr, tp_snaplen))?,
            wire_len: u32_at(header, offset_of!(tpacket3_hdr, tp_len))?,
            mac: u16_at(header, offset_of!(tpacket3_hdr, tp_mac))?,
            vlan: vlan(header),
        })
    }

    fn read_single(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; size_of::<tpacket2_hdr>()] = bytes.first_chunk()?;
        let status = u32_at(header, offset_of!(tpacket2_hdr, tp_status))?;
        let seconds = u64::from(u32_at(header, offset_of!(tpacket2_hdr, tp_sec))?);
        let nanoseconds = u64::from(u32_at(header, offset_of!(tpacket2_hdr, tp_nsec))?);
        let tci = u16_at(header, offset_of!(tpacket2_hdr, tp_vlan_tci))?;
        let tpid = u16_at(header, offset_of!(tpacket2_hdr, tp_vlan_tpid))?;
        Some(Self {
            next: 0,
            status,
            time_ns: seconds * NS_PER_SECOND + nanoseconds,
            captured: u32_at(header, offset_of!(tpacket2_hdr, tp_snaplen))?,
            wire_len: u32_at(header, offset_of!(tpacket2_hdr, tp_len))?,
            mac: u16_at(header, offset_of!(tpacket2_hdr, tp_mac))?,
            vlan: tag(status, tpid, tci),
        })
    }

    #[inline]
    fn whole_frame(&self, at: usize, bytes: &mut [u8], link: LinkType) -> Frame {
        let mut frame = self.frame(at);
        if link == LinkType::Ethernet
            && let Some(tag) = self.vlan
        {
            frame.put_back(bytes, tag);
        }
        frame
    }

    #[inline]
    fn frame(&self, at: usize) -> Frame {
        let start = at.saturating_add(usize::from(self.mac));
        Frame {
            time_ns: self.time_ns,
            wire_len: self.wire_len.max(self.captured),
            start,
            end: start.saturating_add(self.captured as usize),
            by_hardware: self.status & libc::TP_STATUS_TS_RAW_HARDWARE != 0,
        }
    }
}

#[inline]
fn vlan(header: &[u8]) -> Option<(u16, u16)> {
    let status = u32_at(header, offset_of!(tpacket3_hdr, tp_status))?;
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let part = header.get(offset_of!(tpacket3_hdr, hv1)..)?;
    let tci = u32_at(part, offset_of!(tpacket_hdr_variant1, tp_vlan_tci))? as u16;
    let tpid = u16_at(part, offset_of!(tpacket_hdr_variant1, tp_vlan_tpid))?;
    tag(status, tpid, tci)
}

/// The tag as far as the status says that there is one.
fn tag(status: u32, tpid: u16, tci: u16) -> Option<(u16, u16)> {
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let told = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    Some((if told { tpid } else { ETHERTYPE_VLAN }, tci))
}

impl Frame {
    /// Moves the addresses into the room before the packet, and the tag behind them.
    fn put_back(&mut self, bytes: &mut [u8], (tpid, tci): (u16, u16)) {
        let Some(head) = self.head_with_tag(bytes) else {
            return;
        };
        head.copy_within(VLAN_TAG_LEN.., 0);
        let tag = (u32::from(tpid) << 16 | u32::from(tci)).to_be_bytes();
        if let Some(place) = head.last_chunk_mut() {
            *place = tag;
        }
        self.start -= VLAN_TAG_LEN;
        self.wire_len = self.wire_len.saturating_add(VLAN_TAG_LEN as u32);
    }

    /// The bytes that the addresses and the tag are to take, if the packet has its addresses.
    fn head_with_tag<'a>(&self, bytes: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let start = self.start.checked_sub(VLAN_TAG_LEN)?;
        let packet = bytes.get_mut(start..self.end)?;
        packet.get_mut(..ETHERNET_ADDRESSES_LEN + VLAN_TAG_LEN)
    }
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER_AT: usize = 64;
    const MAC: usize = 96;

    fn set(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
        bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }

    /// A block of one packet as the kernel lays it out.
    fn block(packet: &[u8], status: u32, tag: (u16, u16)) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_AT + MAC];
        bytes.extend(packet);
        let block = offset_of!(tpacket_block_desc, hdr);
        set(&mut bytes, block + offset_of!(tpacket_hdr_v1, num_pkts), 1);
        let first = block + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);
        set(&mut bytes, first, HEADER_AT as u32);
        let len = packet.len() as u32;
        let header = &mut bytes[HEADER_AT..];
        set(header, offset_of!(tpacket3_hdr, tp_sec), 7);
        set(header, offset_of!(tpacket3_hdr, tp_nsec), 9);
        set(header, offset_of!(tpacket3_hdr, tp_snaplen), len);
        set(header, offset_of!(tpacket3_hdr, tp_len), len + 50);
        set(header, offset_of!(tpacket3_hdr, tp_status), status);
        set_u16(header, offset_of!(tpacket3_hdr, tp_mac), MAC as u16);
        let vlan = &mut header[offset_of!(tpacket3_hdr, hv1)..];
        let tpid = offset_of!(tpacket_hdr_variant1, tp_vlan_tpid);
        set_u16(vlan, tpid, tag.0);
        let tci = offset_of!(tpacket_hdr_variant1, tp_vlan_tci);
        set(vlan, tci, u32::from(tag.1));
        bytes
    }

    fn only_frame(bytes: &mut [u8], link: LinkType) -> (Vec<u8>, u32) {
        let mut block = Block::read(bytes).expect("a block");
        let frame = block.next(bytes, link).expect("a frame");
        assert_eq!(frame.time_ns, 7_000_000_009);
        assert_eq!(block.next(bytes, link), None);
        (bytes[frame.start..frame.end].to_vec(), frame.wire_len)
    }

    #[test]
    fn a_packet_is_found_where_its_header_says() {
        let mut bytes = block(b"aaaaaabbbbbbTTpayload", 0, (0, 0));
        let (data, wire_len) = only_frame(&mut bytes, LinkType::Ethernet);
        assert_eq!((&data[..], wire_len), (&b"aaaaaabbbbbbTTpayload"[..], 71));
    }

    #[test]
    fn a_tag_that_was_taken_out_is_put_back() {
        let valid = libc::TP_STATUS_VLAN_VALID;
        let both = valid | libc::TP_STATUS_VLAN_TPID_VALID;
        for (status, ethertype) in [(valid, [0x81, 0x00]), (both, [0x88, 0xa8])] {
            let mut bytes = block(b"aaaaaabbbbbbTTpayload", status, (0x88a8, 0x2064));
            let (data, wire_len) = only_frame(&mut bytes, LinkType::Ethernet);
            let tag = [ethertype, [0x20, 0x64]].concat();
            assert_eq!(data, [&b"aaaaaabbbbbb"[..], &tag, b"TTpayload"].concat());
            assert_eq!(wire_len, 75);
        }
    }

    #[test]
    fn a_tag_is_put_back_only_where_there_are_addresses() {
        let status = libc::TP_STATUS_VLAN_VALID;
        let mut short = block(b"aaaaaabbbbb", status, (0, 100));
        assert_eq!(only_frame(&mut short, LinkType::Ethernet).0, b"aaaaaabbbbb");
        let mut raw = block(b"aaaaaabbbbbbTT", status, (0, 100));
        assert_eq!(only_frame(&mut raw, LinkType::RawIp).0, b"aaaaaabbbbbbTT");
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(mut block) = Block::read(&bytes) {
                for _ in 0..5 {
                    block.next(&mut bytes, LinkType::Ethernet);
                }
            }
        }
    }
}
