//! A capture whose work several threads share: hands its crew's bodies over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use edgeqoe_core::control::attribution::AttributionMap;
use edgeqoe_core::engine::Counters;
use edgeqoe_core::engine::crew::{Crew, Employer};
use edgeqoe_core::source::Source;

use crate::maps::MapInForce;
use crate::worker::{Board, Delivery};

/// Runs a crew; the thread that calls reads the source.
pub struct Shared {
    source: Box<dyn Source>,
    crew: Crew,
    office: Office,
}

/// What a crew has to do with Python's side.
struct Office {
    stop: Arc<AtomicBool>,
    maps: Arc<MapInForce>,
    /// Which of the maps the crew has.
    map_seen: Mutex<u64>,
    board: Arc<Board>,
    deliveries: SyncSender<Delivery>,
}

impl Shared {
    pub fn new(
        source: Box<dyn Source>,
        crew: Crew,
        stop: Arc<AtomicBool>,
        maps: Arc<MapInForce>,
        board: Arc<Board>,
        deliveries: SyncSender<Delivery>,
    ) -> Self {
        let office = Office {
            stop,
            maps,
            map_seen: Mutex::new(0),
            board,
            deliveries,
        };
        Self {
            source,
            crew,
            office,
        }
    }

    /// Runs until the source ends, fails or is stopped, or until nobody takes the bodies.
    pub fn run(mut self) {
        let outcome = self.crew.run(&mut *self.source, &self.office);
        if let Ok(mut bearers) = self.office.board.bearers.lock() {
            *bearers = Some(outcome.bearers);
        }
        if let Some(failure) = outcome.failure {
            let _ = self.office.deliveries.send(Delivery::Failure(failure));
        }
    }
}

impl Employer for Office {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn newer_map(&self) -> Option<Arc<AttributionMap>> {
        let mut seen = self.map_seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.maps.newer_than(&mut seen)
    }

    fn take_body(&self, body: Vec<u8>) -> bool {
        self.deliveries.send(Delivery::Body(body)).is_ok()
    }

    fn note(&self, counters: Counters, progress: Option<(u64, u64)>) {
        if let Ok(mut board) = self.board.counters.lock() {
            *board = counters;
        }
        if let Ok(mut board) = self.board.progress.lock() {
            *board = progress;
        }
    }
}
