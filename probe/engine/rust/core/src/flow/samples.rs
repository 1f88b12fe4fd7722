//! Latency samples of one side and interval: count, minimum, and at most 16 samples spread over it.

use super::keeper::Keeper;

/// Most samples kept for one interval and side: one download must not outvote a cell.
pub const MAX_KEPT: usize = 16;

const FLOOR_US: f64 = 50.0;
const GROWTH: f64 = 1.05;

/// Parts of a bucket that the median is told by: a bucket alone would leave it 2.5 % off.
const FINE_LOG2: u32 = 5;

/// A bucket and the part of it, 0 to 8191.
fn fine(us: u32) -> u16 {
    let position = (f64::from(us.max(1)) / FLOOR_US).ln() / GROWTH.ln();
    let parts = position * f64::from(1u32 << FINE_LOG2);
    // A float-to-integer cast saturates; the last part of the last bucket holds all that is longer.
    (parts.floor() as u16).min((256 << FINE_LOG2) - 1)
}

/// Returns the bucket of a latency: floor(ln(us / 50) / ln 1.05), clamped to 0..=255.
///
/// 50 microseconds to 12.6 s; a bucket's geometric middle is within 2.5 % of all its values.
pub fn bucket(us: u32) -> u8 {
    (fine(us) >> FINE_LOG2) as u8
}

/// Returns the value in microseconds that stands for a bucket: its geometric middle.
pub fn bucket_middle_us(bucket: u8) -> u32 {
    middle_us(f64::from(bucket) + 0.5)
}

fn fine_middle_us(fine: u16) -> u32 {
    middle_us((f64::from(fine) + 0.5) / f64::from(1u32 << FINE_LOG2))
}

fn middle_us(position: f64) -> u32 {
    (FLOOR_US * GROWTH.powf(position)).round() as u32
}

/// Round-trip samples of one side in one interval.
///
/// All samples count in `samples` and `min_us`. For the histogram one of each `stride` in a row is
/// kept, drawn by lot; when 16 are held one of each two is dropped and the stride doubles, so what is
/// kept stays spread evenly over the samples of the interval, and a pattern that repeats (long, short,
/// long, short) is not kept by one of its phases. The lots are the same in every run. The median is
/// of the kept ones (each 0.1 % off at most; of many samples 16 are a poll, whose median is most often
/// within the middle quarter).
///
/// Most intervals have a handful, so that many take no room of their own.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    count: u32,
    min_us: u32,
    list: List,
}

/// As many are kept beside the count.
const FEW: usize = 7;

/// The samples that are kept.
#[derive(Debug, Clone)]
enum List {
    /// All that there were.
    Few {
        kept: u8,
        list: [u16; FEW],
    },
    Many(Box<Many>),
}

#[derive(Debug, Clone, Default)]
struct Many {
    kept: u8,
    stride_log2: u8,
    list: [u16; MAX_KEPT],
}

impl Default for List {
    fn default() -> Self {
        Self::Few {
            kept: 0,
            list: [0; FEW],
        }
    }
}

impl List {
    fn of(kept: &[u16], stride_log2: u8) -> Self {
        if kept.len() <= FEW && stride_log2 == 0 {
            let mut list = [0; FEW];
            list[..kept.len()].copy_from_slice(kept);
            let kept = kept.len() as u8;
            return Self::Few { kept, list };
        }
        let mut list = [0; MAX_KEPT];
        list[..kept.len()].copy_from_slice(kept);
        Self::Many(Box::new(Many {
            kept: kept.len() as u8,
            stride_log2,
            list,
        }))
    }

    fn kept(&self) -> &[u16] {
        match self {
            Self::Few { kept, list } => &list[..usize::from(*kept)],
            Self::Many(many) => &many.list[..usize::from(many.kept)],
        }
    }

    fn stride_log2(&self) -> u8 {
        match self {
            Self::Few { .. } => 0,
            Self::Many(many) => many.stride_log2,
        }
    }

    /// Replaces the newest.
    fn replace_last(&mut self, sample: u16) {
        let list = match self {
            Self::Few { kept, list } => &mut list[..usize::from(*kept)],
            Self::Many(many) => &mut many.list[..usize::from(many.kept)],
        };
        if let Some(last) = list.last_mut() {
            *last = sample;
        }
    }

    /// Adds the first of a stride, which is the sample of this number.
    fn add(&mut self, number: u32, sample: u16) {
        match self {
            Self::Few { kept, list } if usize::from(*kept) < FEW => {
                list[usize::from(*kept)] = sample;
                *kept += 1;
            }
            Self::Few { list, .. } => {
                let mut many = Box::<Many>::default();
                many.list[..FEW].copy_from_slice(list);
                many.kept = FEW as u8;
                many.add(number, sample);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.add(number, sample),
        }
    }
}

impl Many {
    fn add(&mut self, number: u32, sample: u16) {
        if usize::from(self.kept) == MAX_KEPT {
            for position in 0..MAX_KEPT / 2 {
                let either = (lot(number) >> position) & 1;
                self.list[position] = self.list[2 * position + either as usize];
            }
            self.kept = MAX_KEPT as u8 / 2;
            self.stride_log2 += 1;
            // The sample at hand is a multiple of 16 strides, hence of the doubled stride too.
        }
        self.list[usize::from(self.kept)] = sample;
        self.kept += 1;
    }
}

/// A number that looks drawn by lot (the finalizer of MurmurHash3, which is in the public domain).
fn lot(number: u32) -> u32 {
    let mut mixed = (number ^ (number >> 16)).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

impl Samples {
    pub fn add(&mut self, us: u32) {
        if self.count == 0 || us < self.min_us {
            self.min_us = us;
        }
        let stride_mask = (1u32 << self.list.stride_log2().min(31)) - 1;
        let place = self.count & stride_mask;
        if place == 0 {
            self.list.add(self.count, fine(us));
        } else if lot(self.count).is_multiple_of(place + 1) {
            // The n-th of a stride takes the place of the one kept with probability 1/n, which
            // leaves each the same chance.
            self.list.replace_last(fine(us));
        }
        self.count = self.count.saturating_add(1);
    }

    /// Keeps them, or gives them back.
    pub fn keep(&mut self, keeper: &mut impl Keeper) {
        keeper.small(&mut self.count);
        if self.count == 0 {
            return;
        }
        keeper.small(&mut self.min_us);
        let known = self.list.kept();
        let (mut kept, mut stride_log2) = (known.len() as u8, self.list.stride_log2());
        let mut list = [0; MAX_KEPT];
        list[..known.len()].copy_from_slice(known);
        keeper.byte(&mut kept);
        keeper.byte(&mut stride_log2);
        let list = &mut list[..usize::from(kept).min(MAX_KEPT)];
        // Those of one path lie close to each other.
        let mut before = 0;
        for sample in list.iter_mut() {
            let mut wide = u32::from(*sample);
            keeper.near(before, &mut wide);
            before = wide;
            *sample = wide as u16;
        }
        self.list = List::of(list, stride_log2);
    }

    pub fn count(&self) -> Option<u32> {
        (self.count > 0).then_some(self.count)
    }

    pub fn min_us(&self) -> Option<u32> {
        (self.count > 0).then_some(self.min_us)
    }

    fn sorted(&self) -> ([u16; MAX_KEPT], usize) {
        let kept = self.list.kept();
        let mut list = [0; MAX_KEPT];
        list[..kept.len()].copy_from_slice(kept);
        list[..kept.len()].sort_unstable();
        (list, kept.len())
    }

    /// The median of the kept samples (of an even number the mean of the two in the middle), at
    /// least the minimum.
    pub fn median_us(&self) -> Option<u32> {
        let (list, kept) = self.sorted();
        let low = list[kept.checked_sub(1)? / 2];
        let high = list[kept / 2];
        Some(
            fine_middle_us(low)
                .midpoint(fine_middle_us(high))
                .max(self.min_us),
        )
    }

    /// Writes (bucket, count) pairs in order of bucket; returns the bytes used.
    pub fn histogram(&self, out: &mut [u8; 2 * MAX_KEPT]) -> usize {
        let (list, kept) = self.sorted();
        let mut used = 0;
        for bucket in list[..kept].iter().map(|&fine| (fine >> FINE_LOG2) as u8) {
            if used > 0 && out[used - 2] == bucket {
                out[used - 1] += 1;
            } else {
                out[used] = bucket;
                out[used + 1] = 1;
                used += 2;
            }
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_those_of_the_definition() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(50), 0);
        assert_eq!(bucket(52), 0);
        assert_eq!(bucket(53), 1);
        assert_eq!(bucket(100_000), 155);
        assert_eq!(bucket(u32::MAX), 255);
    }

    #[test]
    fn no_more_than_sixteen_samples_are_kept_and_all_are_counted() {
        let mut samples = Samples::default();
        (0..1000).for_each(|step| samples.add(1000 + step));
        let mut out = [0; 32];
        let used = samples.histogram(&mut out);
        let kept: u32 = out[..used].chunks(2).map(|pair| u32::from(pair[1])).sum();
        assert!((8..=16).contains(&kept));
        assert_eq!(samples.count(), Some(1000));
        assert_eq!(samples.min_us(), Some(1000));
    }

    #[test]
    fn a_pattern_that_repeats_is_kept_in_its_proportions() {
        let mut samples = Samples::default();
        (0..2048).for_each(|step| samples.add(if step % 4 == 0 { 100_000 } else { 1000 }));
        let (list, kept) = samples.sorted();
        let long = list[..kept]
            .iter()
            .filter(|&&kept| kept > fine(50_000))
            .count();
        assert!((1..=8).contains(&long), "{long} of {kept}");
        assert!(samples.median_us().is_some_and(|us| us < 1100));
    }

    #[test]
    fn no_sample_means_null() {
        let samples = Samples::default();
        assert_eq!(
            (samples.count(), samples.min_us(), samples.median_us()),
            (None, None, None)
        );
    }

    #[test]
    fn the_median_of_few_samples_is_theirs() {
        for (list, median) in [
            (&[900_000, 100_000][..], 500_000.0),
            (&[30, 333, 20_000], 333.0),
        ] {
            let mut samples = Samples::default();
            list.iter().for_each(|&us| samples.add(us));
            let found = f64::from(samples.median_us().expect("there are samples"));
            assert!((found / median - 1.0).abs() < 0.002, "{found} and {median}");
        }
    }

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_within_two_and_a_half_percent(us in 50u32..12_000_000) {
            let middle = f64::from(bucket_middle_us(bucket(us)));
            prop_assert!((middle / f64::from(us) - 1.0).abs() <= 0.025 + 0.5 / f64::from(us));
        }

        #[test]
        fn kept_samples_are_spread_over_the_interval(count in 16u32..5000) {
            // Latency grows with time, so the kept buckets show where in time they come from.
            let mut samples = Samples::default();
            (0..count).for_each(|step| samples.add(50 + step * 100));
            let (list, kept) = samples.sorted();
            let last_middle = f64::from(fine_middle_us(list[kept - 1]));
            prop_assert!(last_middle > 0.8 * f64::from(50 + count * 100));
        }
    }
}
