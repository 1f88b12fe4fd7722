//! One TCP segment (RFC 9293 3.1) with the options that a bystander can use.

use super::options::{self, Sack, SynOptions};

/// The parts of a segment that the analysis needs.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    /// Time to live or hop limit of the packet that carried it; 0 if not known.
    pub hop_limit: u8,
    /// IPv4 identification of that packet; 0 if it has none.
    pub identification: u16,
    /// No sample of a round trip is to be taken from it, but for that of the handshake.
    pub is_unsampled: bool,
    /// Timestamp value and echo reply (RFC 7323 3.2).
    pub timestamps: Option<(u32, u32)>,
    /// Blocks of data that the receiver holds out of order (RFC 2018 3).
    pub sack: Sack<'a>,
    /// The options as far as they were captured.
    options: &'a [u8],
    /// Payload bytes on the wire.
    pub payload_len: u32,
    /// The payload as far as it was captured.
    pub payload: &'a [u8],
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const MIN_HEADER: usize = 20;

impl<'a> Segment<'a> {
    /// Reads a segment of `wire_len` bytes of which `bytes` were captured; None if the fixed
    /// header is cut or malformed.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8], wire_len: u32) -> Option<Self> {
        let fixed: &[u8; MIN_HEADER] = bytes.first_chunk()?;
        let header_len = usize::from(fixed[12] >> 4) * 4;
        if header_len < MIN_HEADER {
            return None;
        }
        // Where the capture cut the options, what is left of them has to do.
        let options = bytes
            .get(MIN_HEADER..header_len.min(bytes.len()))
            .unwrap_or_default();
        let (timestamps, sack) = options::per_segment(options);
        Some(Self {
            source_port: u16::from_be_bytes([fixed[0], fixed[1]]),
            destination_port: u16::from_be_bytes([fixed[2], fixed[3]]),
            sequence: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            acknowledgment: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            flags: fixed[13],
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            hop_limit: 0,
            identification: 0,
            is_unsampled: false,
            timestamps,
            sack,
            options,
            payload_len: wire_len.saturating_sub(header_len as u32),
            payload: bytes.get(header_len..).unwrap_or_default(),
        })
    }

    /// What a SYN or SYN-ACK offers.
    pub fn syn_options(&self) -> SynOptions {
        options::of_syn(self.options)
    }

    /// Takes sequence numbers: SYN, FIN or payload.
    pub fn takes_sequence(&self) -> bool {
        self.payload_len > 0 || self.flags & (SYN | FIN) != 0
    }

    /// Neither opens a connection nor ends one.
    #[inline]
    pub fn is_ordinary(&self) -> bool {
        self.flags & (SYN | FIN | RST) == 0
    }

    pub fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    pub fn is_syn_ack(&self) -> bool {
        self.flags & (SYN | ACK) == SYN | ACK
    }

    pub fn has_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    pub fn has_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    pub fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    pub fn has_fin(&self) -> bool {
        self.flags & FIN != 0
    }

    /// The sequence number behind the segment; SYN and FIN take one each (RFC 9293 3.4).
    pub fn sequence_end(&self) -> u32 {
        self.sequence
            .wrapping_add(self.payload_len)
            .wrapping_add(u32::from(self.has_syn()) + u32::from(self.has_fin()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; MIN_HEADER];
        bytes[12] = (((MIN_HEADER + options.len()) / 4) << 4) as u8;
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn a_header_cut_in_its_options_is_read_as_far_as_it_goes() {
        let bytes = header(&[
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7,
        ]);
        let segment = Segment::parse(&bytes[..30], 1440).expect("the fixed header is whole");
        assert_eq!((segment.timestamps, segment.payload_len), (None, 1400));
        assert!(Segment::parse(&bytes[..19], 1440).is_none());
    }

    #[test]
    fn a_cut_payload_keeps_its_length_on_the_wire() {
        let mut bytes = header(&[]);
        bytes.extend_from_slice(b"abc");
        let segment = Segment::parse(&bytes, 1420).expect("the header is whole");
        assert_eq!((segment.payload_len, segment.payload), (1400, &b"abc"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, wire_len: u32) {
            let _ = Segment::parse(&bytes, wire_len).map(|segment| segment.sequence_end());
        }
    }
}
