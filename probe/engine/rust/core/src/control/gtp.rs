//! GTP-C (TS 29.060, TS 29.274): which datagrams are of it, and what both versions code alike.

use crate::control::identity::Digits;
use crate::control::message::{Malformed, Message};
use crate::control::{gtpv1, gtpv2};
use crate::decap::Address;

/// Requests go to this UDP port, and answers come from it (TS 29.060 10.1.1, TS 29.274 4.2).
pub const PORT: u16 = 2123;

/// Does this UDP payload between these ports hold messages of GTP-C? Other versions, GTP' and other
/// protocols that use this port do not.
pub fn is_control(ports: [u16; 2], payload: &[u8]) -> bool {
    ports.contains(&PORT) && Version::of(payload).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// By the first three bits; in version 1 the fifth tells GTP from GTP' (TS 29.060 6).
    fn of(payload: &[u8]) -> Option<Self> {
        match payload.first()? {
            flags if flags >> 5 == 2 => Some(Self::Two),
            flags if flags >> 4 == 0b0011 => Some(Self::One),
            _ => None,
        }
    }
}

/// The messages of one UDP payload: one, or in version 2 two, of which the first carries the other
/// piggyback (TS 29.274 5.5.1). What is wrong with the second takes nothing from the first.
pub fn messages(payload: &[u8]) -> Messages<'_> {
    Messages {
        rest: Some(payload),
        left: 2,
    }
}

#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: Option<&'a [u8]>,
    /// Messages that may still come: bounds what a chain of piggyback flags can ask for.
    left: u8,
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest.take().filter(|_| self.left > 0)?;
        self.left -= 1;
        Some(match Version::of(bytes) {
            Some(Version::One) => gtpv1::read(bytes),
            Some(Version::Two) => gtpv2::read_first(bytes).map(|(message, piggybacked)| {
                self.rest = piggybacked;
                message
            }),
            None if bytes.is_empty() => Err(Malformed::Truncated),
            None => Err(Malformed::Version),
        })
    }
}

/// The elements of a message or a group, each taken from the front by `split`; ends with the first that
/// does not fit in.
pub(super) fn elements<'a, T>(
    mut rest: &'a [u8],
    split: impl Fn(&mut &'a [u8]) -> Result<T, Malformed>,
) -> impl Iterator<Item = Result<T, Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let element = split(&mut rest);
        if element.is_err() {
            rest = &[];
        }
        Some(element)
    })
}

/// The next `N` bytes of an element, which ends too early if they are not there.
pub(super) fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Malformed> {
    let (taken, behind) = rest.split_first_chunk().ok_or(Malformed::Length)?;
    *rest = behind;
    Ok(taken)
}

/// The next bytes, as many as were announced.
pub(super) fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, behind) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
    *rest = behind;
    Ok(taken)
}

/// The first byte of an element.
pub(super) fn byte(value: &[u8]) -> Result<u8, Malformed> {
    value.first().copied().ok_or(Malformed::Length)
}

/// Keeps the first of repeated elements (TS 29.060 11.1.12, TS 29.274 7.7.10).
pub(super) fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// An IMSI of up to 15 digits. A message with another is not believed: whose session would it be?
pub(super) fn imsi(bcd: &[u8]) -> Result<Digits, Malformed> {
    Digits::from_bcd(bcd)
        .filter(|digits| digits.as_str().len() <= 15)
        .ok_or(Malformed::Value)
}

/// Priority level of an allocation and retention priority (TS 29.274 8.15, TS 29.060 7.7.91): 0 is none.
pub(super) fn priority(arp: u8) -> Option<u8> {
    Some(arp >> 2 & 0xf).filter(|&level| level > 0)
}

/// A device's IPv4 address; none is given yet where it is 0.0.0.0.
pub(super) fn device_v4(octets: [u8; 4]) -> Option<Address> {
    (octets != [0; 4]).then_some(Address::v4(octets))
}

/// A device's IPv6 prefix without the bits behind it; none is given yet where it is `::`.
pub(super) fn device_v6(octets: [u8; 16], length: u8) -> Option<(Address, u8)> {
    let behind = 128_u32.checked_sub(u32::from(length))?;
    let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
    let prefix = Address(u128::from_be_bytes(octets) & mask);
    (prefix.0 != 0).then_some((prefix, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::Procedure;

    /// Echo Request of version 2 without TEID, sequence 1, restart counter 7.
    const ECHO_V2: &[u8] = &[0x40, 1, 0, 9, 0, 0, 1, 0, 3, 0, 1, 0, 7];
    /// Echo Request of version 1, sequence 1.
    const ECHO_V1: &[u8] = &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0];

    #[test]
    fn the_control_plane_is_told_by_port_and_version() {
        for echo in [ECHO_V1, ECHO_V2] {
            assert!(is_control([PORT, 40000], echo));
            assert!(is_control([40000, PORT], echo));
            assert!(!is_control([2152, 2152], echo));
        }
        // GTP', version 0, a version to come, nothing.
        for other in [&[0x22, 1][..], &[0x1e], &[0x60], &[]] {
            assert!(!is_control([PORT, PORT], other), "{other:x?}");
        }
    }

    #[test]
    fn each_version_has_its_reader() {
        for echo in [ECHO_V1, ECHO_V2] {
            let all: Vec<_> = messages(echo).collect();
            let [Ok(message)] = &all[..] else {
                panic!("{all:?}")
            };
            assert_eq!(message.procedure, Procedure::Echo);
            assert_eq!(message.sequence, 1);
        }
        let faults: Vec<_> = [&[][..], &[0x60, 1, 0, 0]]
            .map(|bytes| messages(bytes).next())
            .into();
        assert_eq!(
            faults,
            [
                Some(Err(Malformed::Truncated)),
                Some(Err(Malformed::Version))
            ]
        );
    }

    #[test]
    fn a_chain_of_piggyback_flags_ends_after_the_second_message() {
        let flagged = [&[0x50], &ECHO_V2[1..]].concat();
        assert_eq!(messages(&flagged.repeat(9)).count(), 2);
    }

    #[test]
    fn a_damaged_second_message_leaves_the_first() {
        let flagged = [&[0x50], &ECHO_V2[1..]].concat();
        let damaged = [&flagged[..], &ECHO_V2[..9]].concat();
        let all: Vec<_> = messages(&damaged).collect();
        assert!(
            matches!(all[..], [Ok(_), Err(Malformed::Truncated)]),
            "{all:?}"
        );
        let missing: Vec<_> = messages(&flagged).collect();
        assert!(matches!(missing[..], [Ok(_), Err(Malformed::Truncated)]));
    }

    #[test]
    fn a_prefix_has_no_bits_behind_its_length() {
        let octets = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        let (prefix, length) = device_v6(octets, 64).expect("a prefix");
        assert_eq!(
            (prefix.0 as u64, prefix.0 >> 64, length),
            (0, 0x2001_0db8_0000_0001, 64)
        );
        assert_eq!(device_v6(octets, 0), None);
        assert_eq!(device_v6(octets, 129), None);
        assert!(device_v6(octets, 128).is_some());
    }
}
