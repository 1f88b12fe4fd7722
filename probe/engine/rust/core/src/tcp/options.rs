//! TCP options that a bystander can use: timestamps, SACK, window scale.

/// What every segment may carry.
type PerSegment<'a> = (Option<(u32, u32)>, Sack<'a>);

const END: u8 = 0;
const NOP: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// NOP, NOP, Timestamps: how nearly every segment of an established connection starts (RFC 7323 A).
const TIMESTAMPS_ALONE: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];
/// The largest shift that counts (RFC 7323 2.3).
const MAX_SCALE: u8 = 14;

/// The blocks of a SACK option (RFC 2018 3): at most four, each [left edge, right edge).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sack<'a>(&'a [u8]);

impl Sack<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn blocks(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.chunks_exact(8).filter_map(pair)
    }
}

/// What a SYN offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SynOptions {
    pub maximum_segment_size: Option<u16>,
    /// Shift of the sender's windows from then on, if the other side offers one too (RFC 7323 2.2).
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
}

/// The timestamps and SACK blocks among `options`.
#[inline]
pub fn per_segment(options: &[u8]) -> PerSegment<'_> {
    if options.len() == 12 && options.starts_with(&TIMESTAMPS_ALONE) {
        return (pair(&options[4..]), Sack::default());
    }
    let (mut timestamps, mut sack) = (None, Sack::default());
    for (kind, value) in Options(options) {
        match kind {
            TIMESTAMPS if value.len() == 8 => timestamps = pair(value),
            SACK => sack = Sack(value),
            _ => {}
        }
    }
    (timestamps, sack)
}

pub fn of_syn(options: &[u8]) -> SynOptions {
    let mut found = SynOptions::default();
    for (kind, value) in Options(options) {
        match (kind, value) {
            (MAXIMUM_SEGMENT_SIZE, &[high, low]) => {
                found.maximum_segment_size = Some(u16::from_be_bytes([high, low]));
            }
            (WINDOW_SCALE, &[shift]) => found.window_scale = Some(shift.min(MAX_SCALE)),
            (SACK_PERMITTED, []) => found.sack_permitted = true,
            _ => {}
        }
    }
    found
}

/// Kind and value of each option, up to the end of the list or to where it is broken or cut.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [NOP, rest @ ..] = self.0 {
            self.0 = rest;
        }
        let (kind, length) = match self.0 {
            [] | [END, ..] => return None,
            [kind, length, ..] => (*kind, usize::from(*length)),
            [_] => return None,
        };
        let value = self.0.get(2..length)?;
        self.0 = self.0.get(length..)?;
        Some((kind, value))
    }
}

fn pair(bytes: &[u8]) -> Option<(u32, u32)> {
    let bytes: &[u8; 8] = bytes.first_chunk()?;
    let first = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let second = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_are_found_behind_other_options() {
        let alone: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let behind: &[u8] = &[
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7,
        ];
        for options in [alone, behind] {
            assert_eq!(per_segment(options).0, Some((1, 2)));
        }
    }

    #[test]
    fn a_broken_option_list_is_a_segment_without_timestamps() {
        for options in [
            [8, 1, 0, 0],
            [254, 0, 0, 0],
            [3, 40, 0, 0],
            [8, 10, 0, 0],
            [1, 1, 1, 8],
        ] {
            assert_eq!(per_segment(&options).0, None);
        }
    }

    #[test]
    fn sack_blocks_are_read_beside_timestamps() {
        let options = [
            1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 18, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5,
            0, 0, 0, 6,
        ];
        let (timestamps, sack) = per_segment(&options);
        assert_eq!(timestamps, Some((1, 2)));
        assert_eq!(sack.blocks().collect::<Vec<_>>(), [(3, 4), (5, 6)]);
    }

    #[test]
    fn a_syn_says_its_segment_size_scale_and_sack() {
        let found = of_syn(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 20]);
        let wanted = SynOptions {
            maximum_segment_size: Some(1460),
            window_scale: Some(14),
            sack_permitted: true,
        };
        assert_eq!(found, wanted);
    }

    proptest! {
        #[test]
        fn no_options_panic(options: Vec<u8>) {
            let (_, sack) = per_segment(&options);
            prop_assert!(sack.blocks().count() <= options.len() / 8);
            let _ = of_syn(&options);
        }
    }
}
