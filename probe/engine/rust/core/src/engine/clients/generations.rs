//! A bounded map that forgets what has not been touched for a while.

use std::hash::Hash;

use crate::keyed::KeyedMap;

/// Two generations of at most `capacity` entries each. An entry lives for one to two lifetimes
/// after it was last touched; ageing costs nothing per entry.
#[derive(Debug)]
pub struct Generations<K, V> {
    current: KeyedMap<K, V>,
    previous: KeyedMap<K, V>,
    turned_ns: u64,
    lifetime_ns: u64,
    capacity: usize,
    /// Entries refused, or forgotten before their time, because a generation was full.
    pub shed: u64,
}

impl<K: Eq + Hash, V: Default> Generations<K, V> {
    pub fn new(capacity: usize, lifetime_ns: u64) -> Self {
        let (current, previous) = (KeyedMap::default(), KeyedMap::default());
        Self {
            current,
            previous,
            turned_ns: 0,
            lifetime_ns,
            capacity: capacity.max(1),
            shed: 0,
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.current.get(key).or_else(|| self.previous.get(key))
    }

    /// The entry of `key`, new if need be; None where `admits` (of how many entries there are, and
    /// how many there may be) keeps a new one out.
    pub fn touch(
        &mut self,
        key: K,
        now_ns: u64,
        admits: impl FnOnce(usize, usize) -> bool,
    ) -> Option<&mut V> {
        if now_ns.saturating_sub(self.turned_ns) >= self.lifetime_ns {
            self.turn(now_ns);
        }
        if !self.current.contains_key(&key) {
            let known = self.previous.remove(&key);
            if known.is_none() && !admits(self.current.len(), self.capacity) {
                self.shed += 1;
                return None;
            }
            self.make_room(now_ns);
            return Some(self.current.entry(key).or_insert(known.unwrap_or_default()));
        }
        self.current.get_mut(&key)
    }

    /// A full generation makes way for the next before its time.
    fn make_room(&mut self, now_ns: u64) {
        if self.current.len() >= self.capacity {
            self.shed += self.previous.len() as u64;
            self.turn(now_ns);
        }
    }

    fn turn(&mut self, now_ns: u64) {
        self.previous = std::mem::take(&mut self.current);
        self.turned_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFETIME: u64 = 100;

    fn always(_: usize, _: usize) -> bool {
        true
    }

    #[test]
    fn what_is_touched_lives_for_a_lifetime_and_no_longer_than_two() {
        let mut map: Generations<u8, u8> = Generations::new(10, LIFETIME);
        *map.touch(1, 1000, always).unwrap() = 7;
        map.touch(2, 1099, always);
        assert_eq!(map.get(&1), Some(&7));
        map.touch(2, 1100, always);
        assert_eq!(map.get(&1), Some(&7));
        map.touch(2, 1200, always);
        assert_eq!(map.get(&1), None);
    }

    #[test]
    fn a_full_map_forgets_the_oldest_and_counts_them() {
        let mut map: Generations<u32, u8> = Generations::new(4, LIFETIME);
        (0..12).for_each(|key| {
            map.touch(key, 5, always);
        });
        assert_eq!(map.shed, 4);
        assert!((4..12).all(|key| map.get(&key).is_some()));
    }

    #[test]
    fn who_is_not_admitted_is_counted_and_takes_no_room() {
        let mut map: Generations<u32, u8> = Generations::new(4, LIFETIME);
        map.touch(1, 5, always);
        assert!(map.touch(2, 5, |_, _| false).is_none());
        assert!(map.touch(1, 5, |_, _| false).is_some());
        assert_eq!((map.shed, map.get(&2)), (1, None));
    }

    proptest! {
        #[test]
        fn memory_is_bounded(keys: Vec<u16>, capacity in 1usize..20) {
            let mut map: Generations<u16, ()> = Generations::new(capacity, LIFETIME);
            for (time, key) in keys.into_iter().enumerate() {
                map.touch(key, time as u64, always);
                prop_assert!(map.current.len() <= capacity && map.previous.len() <= capacity);
                prop_assert!(map.get(&key).is_some());
            }
        }
    }
}
