//! Time units of a pcapng interface.

const NS_PER_SECOND: u64 = 1_000_000_000;
/// `if_tsresol` where the option is absent: microseconds.
pub(super) const DEFAULT_RESOLUTION: u8 = 6;

/// Turns the ticks of an interface into nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    unit: Unit,
    /// `if_tsoffset` in nanoseconds.
    offset_ns: i64,
}

/// How long a tick is.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Nanoseconds(u64),
    /// So many ticks are a nanosecond.
    PartOfNanosecond(u128),
    /// 2^-n seconds.
    BinaryPartOfSecond(u32),
}

impl Clock {
    /// `resolution` is `if_tsresol`: the exponent of 10^-n, or of 2^-n with the top bit set.
    pub fn new(resolution: u8, offset_s: i64) -> Self {
        Self {
            unit: Unit::new(resolution),
            offset_ns: offset_s.saturating_mul(NS_PER_SECOND as i64),
        }
    }

    /// Saturates where the time does not fit; parts of a nanosecond are cut off.
    #[inline]
    pub fn time_ns(self, ticks: u64) -> u64 {
        self.unit
            .nanoseconds(ticks)
            .saturating_add_signed(self.offset_ns)
    }
}

impl Unit {
    fn new(resolution: u8) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            return Self::BinaryPartOfSecond(exponent);
        }
        match exponent {
            0..=9 => Self::Nanoseconds(10_u64.pow(9 - exponent)),
            // 64 bits of ticks finer than 10^-28 s are less than a nanosecond.
            _ => Self::PartOfNanosecond(10_u128.pow((exponent - 9).min(20))),
        }
    }

    #[inline]
    fn nanoseconds(self, ticks: u64) -> u64 {
        match self {
            Self::Nanoseconds(each) => ticks.saturating_mul(each),
            Self::PartOfNanosecond(ticks_each) => saturate(u128::from(ticks) / ticks_each),
            Self::BinaryPartOfSecond(exponent) => {
                saturate((u128::from(ticks) * u128::from(NS_PER_SECOND)) >> exponent)
            }
        }
    }
}

fn saturate(nanoseconds: u128) -> u64 {
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_units_become_nanoseconds() {
        assert_eq!(Clock::new(0, 0).time_ns(7), 7 * NS_PER_SECOND);
        assert_eq!(Clock::new(6, 0).time_ns(1_500_001), 1_500_001_000);
        assert_eq!(Clock::new(9, 0).time_ns(1_500_000_001), 1_500_000_001);
        assert_eq!(Clock::new(12, 0).time_ns(1_999), 1);
    }

    #[test]
    fn binary_units_become_nanoseconds() {
        assert_eq!(Clock::new(0x80, 0).time_ns(3), 3 * NS_PER_SECOND);
        assert_eq!(Clock::new(0x80 | 1, 0).time_ns(3), 1_500_000_000);
        assert_eq!(Clock::new(0x80 | 32, 0).time_ns(1 << 31), 500_000_000);
    }

    #[test]
    fn an_offset_moves_the_time_either_way() {
        assert_eq!(Clock::new(6, 2).time_ns(1_000_000), 3 * NS_PER_SECOND);
        assert_eq!(Clock::new(6, -1).time_ns(1_500_000), 500_000_000);
    }

    #[test]
    fn every_resolution_saturates_and_never_overflows() {
        for resolution in 0..=u8::MAX {
            for offset in [i64::MIN, 0, i64::MAX] {
                Clock::new(resolution, offset).time_ns(u64::MAX);
            }
        }
        assert_eq!(Clock::new(0, i64::MAX).time_ns(u64::MAX), u64::MAX);
        assert_eq!(Clock::new(6, i64::MIN).time_ns(1), 0);
        assert_eq!(Clock::new(127, 0).time_ns(u64::MAX), 0);
        assert_eq!(Clock::new(255, 0).time_ns(u64::MAX), 0);
    }
}
