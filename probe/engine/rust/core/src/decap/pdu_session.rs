//! What the PDU session container says beside direction and QoS flow (TS 38.415 5.5.2): the numbers of a
//! QoS flow's packets, and what RAN and UPF measure of each other (QoS monitoring, TS 23.501 5.33.3).

use super::TunnelDirection;

/// Content of a container, without what only concerns the gateway or the base station (paging policy,
/// reflective QoS, multicast).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PduSession {
    pub direction: TunnelDirection,
    /// QoS flow identifier, 0 to 63.
    pub qfi: u8,
    /// Of the QoS flow's packets in this direction, 24 bits.
    pub sequence: Option<u32>,
    pub stamps: Option<Stamps>,
    /// Delay of packets that go down, within the RAN and over the air together, as the RAN measures it
    /// (5.5.3.14). In milliseconds; stated on the way up only.
    pub down_delay_ms: Option<u32>,
    /// The same of packets that go up (5.5.3.16).
    pub up_delay_ms: Option<u32>,
}

/// Times in the format of NTP: seconds since 1900 and their fraction, 32 bits each (RFC 5905 6). Clocks
/// of UPF and RAN need not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// When the UPF sent this packet (5.5.3.9).
    Down { sent: u64 },
    /// When the UPF sent a packet (repeated from it), when the RAN received that one and sent this one
    /// (5.5.3.10 to 5.5.3.12).
    Up {
        down_sent: u64,
        down_received: u64,
        up_sent: u64,
    },
}

/// The container ends before what its flags announce, or its PDU type is none of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedSession;

/// PDU type in the high half of the first byte, QFI in the low six bits of the second, in both
/// directions (TS 38.415 5.5.2.1 and 5.5.2.2).
pub(super) fn direction(first: u8) -> Option<TunnelDirection> {
    match first >> 4 {
        0 => Some(TunnelDirection::Down),
        1 => Some(TunnelDirection::Up),
        _ => None,
    }
}

/// Whether the first byte announces anything that [`PduSession`] holds: QMP and SNP, and on the way up
/// the delay results between them.
pub(super) fn announces_more(first: u8) -> bool {
    match direction(first) {
        Some(TunnelDirection::Down) => first & (down::QMP | down::SNP) != 0,
        Some(TunnelDirection::Up) => first & 0x0f != 0,
        None => false,
    }
}

/// Flags of PDU type 0 (5.5.2.1).
mod down {
    pub const QMP: u8 = 0x08;
    pub const SNP: u8 = 0x04;
    /// In the second byte: a paging policy indicator follows.
    pub const PPP: u8 = 0x80;
}

/// Flags of PDU type 1 (5.5.2.2).
mod up {
    pub const QMP: u8 = 0x08;
    pub const DOWN_DELAY: u8 = 0x04;
    pub const UP_DELAY: u8 = 0x02;
    pub const SNP: u8 = 0x01;
}

impl PduSession {
    /// Reads a container, from its first byte behind the extension header's length on.
    pub fn read(bytes: &[u8]) -> Result<Self, MalformedSession> {
        let mut fields = Fields(bytes);
        let [first, second] = fields.take()?;
        let mut session = Self {
            direction: direction(first).ok_or(MalformedSession)?,
            qfi: second & 0x3f,
            sequence: None,
            stamps: None,
            down_delay_ms: None,
            up_delay_ms: None,
        };
        match session.direction {
            TunnelDirection::Down => session.read_down(first, second, &mut fields)?,
            TunnelDirection::Up => session.read_up(first, &mut fields)?,
        }
        Ok(session)
    }

    fn read_down(
        &mut self,
        first: u8,
        second: u8,
        fields: &mut Fields<'_>,
    ) -> Result<(), MalformedSession> {
        if second & down::PPP != 0 {
            fields.take::<1>()?;
        }
        if first & down::QMP != 0 {
            let sent = fields.stamp()?;
            self.stamps = Some(Stamps::Down { sent });
        }
        if first & down::SNP != 0 {
            self.sequence = Some(fields.u24()?);
        }
        Ok(())
    }

    fn read_up(&mut self, first: u8, fields: &mut Fields<'_>) -> Result<(), MalformedSession> {
        if first & up::QMP != 0 {
            self.stamps = Some(Stamps::Up {
                down_sent: fields.stamp()?,
                down_received: fields.stamp()?,
                up_sent: fields.stamp()?,
            });
        }
        if first & up::DOWN_DELAY != 0 {
            self.down_delay_ms = Some(fields.u32()?);
        }
        if first & up::UP_DELAY != 0 {
            self.up_delay_ms = Some(fields.u32()?);
        }
        if first & up::SNP != 0 {
            self.sequence = Some(fields.u24()?);
        }
        Ok(())
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedSession> {
        let (taken, behind) = self.0.split_first_chunk().ok_or(MalformedSession)?;
        self.0 = behind;
        Ok(*taken)
    }

    fn u24(&mut self) -> Result<u32, MalformedSession> {
        let [a, b, c] = self.take()?;
        Ok(u32::from_be_bytes([0, a, b, c]))
    }

    fn u32(&mut self) -> Result<u32, MalformedSession> {
        self.take().map(u32::from_be_bytes)
    }

    fn stamp(&mut self) -> Result<u64, MalformedSession> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that goes down: PPP with its indicator, QMP, SNP (5.5.2.1), then padding.
    const DOWN: [u8; 15] = [
        0x0c,
        0x80 | 9,
        0x60,
        0xe9,
        0,
        0,
        1,
        0x80,
        0,
        0,
        0,
        0,
        0x01,
        0x02,
        0,
    ];

    /// All that goes up: QMP, both delays, SNP, N3/N9 delay and further elements (5.5.2.2).
    fn up() -> Vec<u8> {
        let mut bytes = vec![0x1f, 0xc0 | 5];
        for stamp in [1_u64, 2, 3] {
            bytes.extend(stamp.to_be_bytes());
        }
        bytes.extend([0, 0, 0, 11, 0, 0, 0, 12, 0xff, 0xff, 0xfe]);
        bytes.extend([0, 0, 0, 99, 0x01, 0x01]);
        bytes
    }

    #[test]
    fn what_the_upf_sends_down_is_read() {
        let session = PduSession::read(&DOWN).unwrap();
        let sent = 0xe900_0001_8000_0000;
        assert_eq!(session.direction, TunnelDirection::Down);
        assert_eq!((session.qfi, session.sequence), (9, Some(0x0102)));
        assert_eq!(session.stamps, Some(Stamps::Down { sent }));
        assert_eq!((session.down_delay_ms, session.up_delay_ms), (None, None));
    }

    #[test]
    fn what_the_ran_measures_is_read() {
        let session = PduSession::read(&up()).unwrap();
        let stamps = Stamps::Up {
            down_sent: 1,
            down_received: 2,
            up_sent: 3,
        };
        assert_eq!(session.direction, TunnelDirection::Up);
        assert_eq!((session.qfi, session.sequence), (5, Some(0xff_fffe)));
        assert_eq!(session.stamps, Some(stamps));
        assert_eq!(session.down_delay_ms, Some(11));
        assert_eq!(session.up_delay_ms, Some(12));
    }

    #[test]
    fn one_field_alone_stands_where_the_others_are_left_out() {
        let only = |first: u8, rest: &[u8]| {
            PduSession::read(&[&[first, 1], rest].concat()).expect("whole")
        };
        assert_eq!(only(0x14, &[0, 0, 0, 7]).down_delay_ms, Some(7));
        assert_eq!(only(0x12, &[0, 0, 0, 7]).up_delay_ms, Some(7));
        assert_eq!(only(0x11, &[0, 0, 7]).sequence, Some(7));
        assert_eq!(only(0x04, &[0, 0, 7]).sequence, Some(7));
        assert_eq!(only(0x10, &[]).stamps, None);
    }

    #[test]
    fn a_container_without_what_it_announces_is_malformed() {
        let whole = up();
        for length in 0..37 {
            assert_eq!(PduSession::read(&whole[..length]), Err(MalformedSession));
        }
        assert!(PduSession::read(&whole[..37]).is_ok());
        assert_eq!(PduSession::read(&[0x20, 1, 0, 0]), Err(MalformedSession));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_container_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(session) = PduSession::read(&bytes) {
                prop_assert!(session.qfi < 64);
                prop_assert!(session.sequence.is_none_or(|number| number < 1 << 24));
                let more = session.sequence.is_some() || session.stamps.is_some()
                    || session.down_delay_ms.is_some() || session.up_delay_ms.is_some();
                prop_assert_eq!(announces_more(bytes[0]), more);
            }
        }
    }
}
