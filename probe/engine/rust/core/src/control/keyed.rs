//! Hash tables of the control plane. Their keys are for others to choose: without the seed nobody can aim
//! them at one bucket (as in the flow table). The standard library's hash costs five times as much.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A hash table with a seed of its own.
pub type KeyedMap<K, V> = HashMap<K, V, Seed>;

#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded {
            seed: self.0 | 1,
            state: self.0,
        }
    }
}

/// Products of 64 bits, folded (compare Knuth vol. 3, 6.4).
#[derive(Debug)]
pub struct Folded {
    seed: u64,
    state: u64,
}

impl Folded {
    #[inline]
    fn mix(&mut self, word: u64) {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.state ^ word) * u128::from(self.seed ^ MULTIPLIER);
        self.state = (product as u64 ^ (product >> 64) as u64).wrapping_add(self.seed);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    #[inline]
    fn write_u128(&mut self, number: u128) {
        self.mix(number as u64);
        self.mix((number >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state ^ self.state >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_one_bit_falls_elsewhere() {
        let seed = Seed::default();
        let mut found: Vec<u64> = (0..64).map(|bit| seed.hash_one(1_u64 << bit)).collect();
        found.extend((0..64).map(|bit| seed.hash_one(1_u128 << (64 + bit))));
        for bits in [u64::MAX, 0x7f << 57, 0xffff] {
            let mut places: Vec<u64> = found.iter().map(|hash| hash & bits).collect();
            places.sort_unstable();
            places.dedup();
            let least = if bits == 0x7f << 57 { 50 } else { 120 };
            assert!(places.len() > least, "{} of {bits:x}", places.len());
        }
    }

    #[test]
    fn each_table_has_another_seed() {
        let hashes = [Seed::default(), Seed::default()].map(|seed| seed.hash_one(7_u64));
        assert_ne!(hashes[0], hashes[1]);
    }
}
