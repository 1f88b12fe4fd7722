//! A bounded hash table of flows whose entries keep their place while they live.

use hashbrown::HashTable;

use super::key::FlowKey;

/// Names a flow's place in the table, and which of its successive tenants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    pub slot: u32,
    pub generation: u32,
}

impl FlowId {
    pub const MIN: Self = Self {
        slot: 0,
        generation: 0,
    };
    pub const MAX: Self = Self {
        slot: u32::MAX,
        generation: u32::MAX,
    };
}

#[derive(Debug)]
struct Slot<E> {
    key: FlowKey,
    generation: u32,
    entry: Option<E>,
}

/// Flows by five-tuple. Memory is bounded by `capacity` entries; the caller evicts when it is full.
#[derive(Debug)]
pub struct Table<E> {
    index: HashTable<u32>,
    slots: Vec<Slot<E>>,
    free: Vec<u32>,
    capacity: usize,
    seed: u64,
    /// Where the search for a victim goes on.
    hand: usize,
}

/// How many entries are compared to find one to evict.
const EVICTION_SAMPLE: usize = 16;

impl<E> Table<E> {
    /// What a flow takes in the table, but for its four or five bytes in each place of the index.
    pub const SLOT_BYTES: usize = size_of::<Slot<E>>();

    /// A table of at most `capacity` flows (at least one). `seed` makes the hash unpredictable.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            capacity: capacity.clamp(1, u32::MAX as usize),
            seed,
            hand: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.index.len() >= self.capacity
    }

    /// Bounds the table anew; what is in it stays until it is evicted or ends.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.clamp(1, u32::MAX as usize);
    }

    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let slot = *self.index.find(key.hash(self.seed), |&slot| {
            self.slots
                .get(slot as usize)
                .is_some_and(|found| found.key == *key)
        })?;
        Some(FlowId {
            slot,
            generation: self.slots.get(slot as usize)?.generation,
        })
    }

    /// Adds a flow whose key is not in the table. The caller has made room (`is_full`).
    pub fn insert(&mut self, key: FlowKey, entry: E) -> FlowId {
        let slot = self.take_slot(key, entry);
        let Self {
            index, slots, seed, ..
        } = self;
        index.insert_unique(key.hash(*seed), slot, |&slot| {
            slots[slot as usize].key.hash(*seed)
        });
        FlowId {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    fn take_slot(&mut self, key: FlowKey, entry: E) -> u32 {
        if let Some(slot) = self.free.pop() {
            let place = &mut self.slots[slot as usize];
            place.key = key;
            place.entry = Some(entry);
            return slot;
        }
        self.slots.push(Slot {
            key,
            generation: 0,
            entry: Some(entry),
        });
        (self.slots.len() - 1) as u32
    }

    /// The entry, if the flow still lives.
    pub fn get_mut(&mut self, id: FlowId) -> Option<(&FlowKey, &mut E)> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let key = &slot.key;
        (slot.generation == id.generation).then_some(())?;
        slot.entry.as_mut().map(|entry| (key, entry))
    }

    /// The same, to be looked at.
    pub fn get(&self, id: FlowId) -> Option<&E> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation).then_some(())?;
        slot.entry.as_ref()
    }

    pub fn remove(&mut self, id: FlowId) -> Option<(FlowKey, E)> {
        let place = self.slots.get_mut(id.slot as usize)?;
        if place.generation != id.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        let key = place.key;
        if let Ok(found) = self
            .index
            .find_entry(key.hash(self.seed), |&slot| slot == id.slot)
        {
            found.remove();
        }
        self.free.push(id.slot);
        Some((key, entry))
    }

    /// How many places there are, taken or free.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// The entry at a place, if it is taken.
    pub fn at_mut(&mut self, place: usize) -> Option<&mut E> {
        self.slots.get_mut(place)?.entry.as_mut()
    }

    /// Every live flow, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &FlowKey, &E)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let id = FlowId {
                slot: slot as u32,
                generation: place.generation,
            };
            place.entry.as_ref().map(|entry| (id, &place.key, entry))
        })
    }

    /// Chooses whom to evict: the lowest `rank` among the next few live entries behind the hand.
    ///
    /// A sampled approximation of "the least recently used" that costs nothing per packet.
    pub fn victim<R: Ord>(&mut self, rank: impl Fn(&E) -> R) -> Option<FlowId> {
        let mut best: Option<(R, FlowId)> = None;
        let mut compared = 0;
        for _ in 0..self.slots.len() {
            if compared == EVICTION_SAMPLE {
                break;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let place = &self.slots[self.hand];
            if let Some(entry) = &place.entry {
                compared += 1;
                let id = FlowId {
                    slot: self.hand as u32,
                    generation: place.generation,
                };
                let candidate = (rank(entry), id);
                best = Some(match best {
                    Some(known) => known.min(candidate),
                    None => candidate,
                });
            }
        }
        best.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decap::{Address, Transport};
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(number: u16) -> FlowKey {
        FlowKey::of(Address(1), number, Address(2), 443, Transport::Tcp).0
    }

    #[test]
    fn an_old_name_does_not_reach_the_next_tenant() {
        let mut table = Table::new(4, 1);
        let first = table.insert(key(1), "first");
        table.remove(first);
        let second = table.insert(key(2), "second");
        assert_eq!(first.slot, second.slot);
        assert!(table.get_mut(first).is_none());
        assert!(table.remove(first).is_none());
        assert_eq!(
            table.get_mut(second).map(|(_, entry)| *entry),
            Some("second")
        );
    }

    #[test]
    fn the_victim_is_the_stalest_of_the_sample() {
        let mut table = Table::new(8, 1);
        for number in 0..8u16 {
            table.insert(key(number), u64::from(number) + 10);
        }
        let victim = table.victim(|&last| last).and_then(|id| table.remove(id));
        assert_eq!(victim.map(|(_, last)| last), Some(10));
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map(steps: Vec<(bool, u8)>) {
            let mut table = Table::new(1000, 3);
            let mut model: HashMap<u8, u8> = HashMap::new();
            for (add, number) in steps {
                let found = table.find(&key(number.into()));
                prop_assert_eq!(found.is_some(), model.contains_key(&number));
                match (add, found) {
                    (true, None) => {
                        table.insert(key(number.into()), number);
                        model.insert(number, number);
                    }
                    (false, Some(id)) => {
                        prop_assert_eq!(table.remove(id).map(|(_, entry)| entry), model.remove(&number));
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert_eq!(table.iter().count(), model.len());
        }
    }
}
