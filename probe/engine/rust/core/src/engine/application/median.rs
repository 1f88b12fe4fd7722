//! The median of an interval's values.

/// Most values that are kept.
const MAX_KEPT: usize = 16;

/// Values in microseconds, of which at most 16 are kept, spread evenly over all.
///
/// Up to 16 values the median is exact (the lower middle one of an even number); of more it is that
/// of the kept ones: every second, fourth, ... in the order in which they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Median {
    count: u32,
    kept: [u32; MAX_KEPT],
    kept_len: u8,
    stride_log2: u8,
}

impl Median {
    pub fn add(&mut self, us: u32) {
        let stride_mask = (1u32 << self.stride_log2.min(31)) - 1;
        if self.count & stride_mask == 0 {
            self.keep(us);
        }
        self.count = self.count.saturating_add(1);
    }

    fn keep(&mut self, us: u32) {
        if usize::from(self.kept_len) == MAX_KEPT {
            for position in 0..MAX_KEPT / 2 {
                self.kept[position] = self.kept[2 * position];
            }
            self.kept_len = MAX_KEPT as u8 / 2;
            self.stride_log2 += 1;
            // The value at hand is a multiple of 16 strides, hence of the doubled stride too.
        }
        self.kept[usize::from(self.kept_len)] = us;
        self.kept_len += 1;
    }

    pub fn value(&self) -> Option<u32> {
        let mut kept = self.kept;
        let kept = &mut kept[..usize::from(self.kept_len)];
        kept.sort_unstable();
        kept.get(kept.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn median(values: impl IntoIterator<Item = u32>) -> Option<u32> {
        let mut median = Median::default();
        values.into_iter().for_each(|us| median.add(us));
        median.value()
    }

    #[test]
    fn few_values_give_the_exact_median() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1, 5]), Some(5));
        assert_eq!(median([9, 1, 5, 2]), Some(2));
        assert_eq!(median((0..16).rev()), Some(7));
    }

    proptest! {
        #[test]
        fn the_median_of_a_trend_is_near_its_middle(count in 17u32..5000) {
            let middle = f64::from(median(0..count).unwrap()) / f64::from(count);
            prop_assert!((0.35..0.6).contains(&middle), "{middle}");
        }
    }
}
