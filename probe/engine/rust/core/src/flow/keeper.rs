//! The state of a flow that rests, in few bytes: each number is as short as it is small.
//!
//! What keeps a state and what gives it back is one function, so the two cannot differ: a [`Writer`]
//! reads each value that it is shown, a [`Reader`] writes over it.

use super::key::Direction;

/// Keeps the values that it is shown, one after the other, or gives them back.
pub trait Keeper {
    fn byte(&mut self, value: &mut u8);

    /// A value of which nothing is known: four bytes.
    fn word(&mut self, value: &mut u32) {
        let mut bytes = value.to_le_bytes();
        bytes.iter_mut().for_each(|byte| self.byte(byte));
        *value = u32::from_le_bytes(bytes);
    }

    /// Eight bytes.
    fn long(&mut self, value: &mut u64) {
        let mut bytes = value.to_le_bytes();
        bytes.iter_mut().for_each(|byte| self.byte(byte));
        *value = u64::from_le_bytes(bytes);
    }

    /// A value that is small in most cases: a byte for each 7 bits (LEB128).
    fn number(&mut self, value: &mut u64) {
        let (mut rest, mut known) = (*value, 0);
        for shift in (0..64).step_by(7) {
            let more = u8::from(rest > 0x7f) << 7;
            let mut byte = (rest & 0x7f) as u8 | more;
            self.byte(&mut byte);
            known |= u64::from(byte & 0x7f) << shift;
            rest >>= 7;
            if byte < 0x80 {
                break;
            }
        }
        *value = known;
    }

    fn small(&mut self, value: &mut u32) {
        let mut wide = u64::from(*value);
        self.number(&mut wide);
        *value = wide as u32;
    }

    fn short(&mut self, value: &mut u16) {
        let mut wide = u64::from(*value);
        self.number(&mut wide);
        *value = wide as u16;
    }

    /// None is 0.
    fn option(&mut self, value: &mut Option<u32>) {
        let mut code = value.map_or(0, |value| u64::from(value) + 1);
        self.number(&mut code);
        *value = code.checked_sub(1).map(|value| value as u32);
    }

    /// A value close to `base`, on either side of it, modulo 2^32.
    fn near(&mut self, base: u32, value: &mut u32) {
        let offset = value.wrapping_sub(base).cast_signed();
        let mut code = ((offset << 1) ^ (offset >> 31)).cast_unsigned();
        self.small(&mut code);
        let offset = (code >> 1).cast_signed() ^ -((code & 1).cast_signed());
        *value = base.wrapping_add(offset.cast_unsigned());
    }

    /// A time in nanoseconds close to `base_ns`; 0 is "none" and stays it.
    fn time(&mut self, base_ns: u64, time_ns: &mut u64) {
        let offset = time_ns.wrapping_sub(base_ns).cast_signed();
        let zigzag = ((offset << 1) ^ (offset >> 63)).cast_unsigned();
        let mut code = if *time_ns == 0 {
            0
        } else {
            zigzag.wrapping_add(1)
        };
        self.number(&mut code);
        let zigzag = code.wrapping_sub(1);
        let offset = (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed());
        *time_ns = if code == 0 {
            0
        } else {
            base_ns.wrapping_add(offset.cast_unsigned())
        };
    }

    /// The same of a time that is a whole second in most cases.
    fn tick(&mut self, base_ns: u64, time_ns: &mut u64) {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut is_whole = time_ns.is_multiple_of(SECOND_NS);
        let mut seconds = *time_ns / SECOND_NS;
        let mut sign = u8::from(is_whole);
        self.byte(&mut sign);
        is_whole = sign != 0;
        if is_whole {
            self.time(base_ns / SECOND_NS, &mut seconds);
            *time_ns = seconds.wrapping_mul(SECOND_NS);
        } else {
            self.time(base_ns, time_ns);
        }
    }

    /// The same of a time that may be missing.
    fn optional_time(&mut self, base_ns: u64, time_ns: &mut Option<u64>) {
        let mut known = time_ns.map_or(0, |time_ns| time_ns.max(1));
        self.time(base_ns, &mut known);
        *time_ns = (known != 0).then_some(known);
    }

    fn direction(&mut self, value: &mut Option<Direction>) {
        let mut code = value.map_or(0, |direction| 1 + direction.index() as u8);
        self.byte(&mut code);
        *value = match code {
            1 => Some(Direction::Forward),
            2 => Some(Direction::Reverse),
            _ => None,
        };
    }

    /// Eight in a byte.
    fn bits<const N: usize>(&mut self, mut flags: [&mut bool; N]) {
        for eight in flags.chunks_mut(8) {
            let mut byte = 0;
            for (position, flag) in eight.iter().enumerate() {
                byte |= u8::from(**flag) << position;
            }
            self.byte(&mut byte);
            for (position, flag) in eight.iter_mut().enumerate() {
                **flag = byte >> position & 1 == 1;
            }
        }
    }
}

/// Keeps values.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Keeper for Writer<'_> {
    #[inline]
    fn byte(&mut self, value: &mut u8) {
        self.0.push(*value);
    }
}

/// Gives them back in the same order; zeros where nothing is left.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Keeper for Reader<'_> {
    #[inline]
    fn byte(&mut self, value: &mut u8) {
        *value = 0;
        if let Some((first, rest)) = self.0.split_first() {
            *value = *first;
            self.0 = rest;
        }
    }
}

/// Leaves out the zeros behind the first `fixed` bytes: a bit for each byte says whether it is there.
pub fn squeeze(bytes: &mut Vec<u8>, fixed: usize) {
    let loose = bytes.split_off(fixed.min(bytes.len()));
    for eight in loose.chunks(8) {
        let mask_at = bytes.len();
        bytes.push(0);
        for (position, &byte) in eight.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            bytes[mask_at] |= 1 << position;
            bytes.push(byte);
        }
    }
}

/// Puts the zeros back in; where nothing is left they go on without end.
pub fn loosen(bytes: &[u8], fixed: usize) -> Vec<u8> {
    let (head, mut rest) = bytes.split_at(fixed.min(bytes.len()));
    let mut loose = head.to_vec();
    while let Some((&mask, behind)) = rest.split_first() {
        rest = behind;
        for position in 0..8 {
            let mut byte = 0;
            if mask >> position & 1 == 1 {
                Reader(rest).byte(&mut byte);
                rest = rest.get(1..).unwrap_or_default();
            }
            loose.push(byte);
        }
    }
    loose
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, Clone, PartialEq)]
    struct State {
        flags: [bool; 11],
        numbers: (u64, u32, u16, u32),
        option: Option<u32>,
        times: [u64; 2],
    }

    fn keep(state: &mut State, base: (u32, u64), keeper: &mut impl Keeper) {
        keeper.bits(state.flags.each_mut());
        keeper.number(&mut state.numbers.0);
        keeper.small(&mut state.numbers.1);
        keeper.short(&mut state.numbers.2);
        keeper.near(base.0, &mut state.numbers.3);
        keeper.option(&mut state.option);
        for time_ns in &mut state.times {
            keeper.time(base.1, time_ns);
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_given_back(
            flags: [bool; 11], numbers: (u64, u32, u16, u32), option: Option<u32>,
            times in [0..1u64 << 62, 0..1u64 << 62], base in (any::<u32>(), 0..1u64 << 62),
        ) {
            let state = State { flags, numbers, option, times };
            let mut bytes = Vec::new();
            keep(&mut state.clone(), base, &mut Writer(&mut bytes));
            let mut back = State::default();
            keep(&mut back, base, &mut Reader(&bytes));
            prop_assert_eq!(back, state);
        }
    }

    proptest! {
        #[test]
        fn zeros_are_put_back_where_they_were(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..80),
            fixed in 0usize..20,
        ) {
            let mut squeezed = bytes.clone();
            squeeze(&mut squeezed, fixed);
            let loose = loosen(&squeezed, fixed);
            prop_assert!(loose.starts_with(&bytes));
            prop_assert!(loose[bytes.len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn what_lies_close_is_short() {
        let mut bytes = Vec::new();
        let mut writer = Writer(&mut bytes);
        writer.near(u32::MAX, &mut 5);
        writer.time(1 << 60, &mut ((1 << 60) - 60));
        writer.time(1 << 60, &mut 0);
        assert_eq!(bytes.len(), 3);
    }
}
