//! The attribution map in force: set by Python's side, taken over by each worker between rounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use edgeqoe_core::control::attribution::AttributionMap;

/// Holds the map that replaces the one of the options; none until the first replacement.
#[derive(Default)]
pub struct MapInForce {
    /// How many maps there have been, so that a look costs a worker one load.
    version: AtomicU64,
    map: Mutex<Option<Arc<AttributionMap>>>,
}

impl MapInForce {
    pub fn replace(&self, map: AttributionMap) {
        let mut held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::new(map));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns the map if it is another one than at `seen`, which moves on.
    pub fn newer_than(&self, seen: &mut u64) -> Option<Arc<AttributionMap>> {
        if self.version.load(Ordering::Acquire) == *seen {
            return None;
        }
        let held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock no replacement is half done: this version belongs to this map.
        *seen = self.version.load(Ordering::Acquire);
        held.clone()
    }
}
