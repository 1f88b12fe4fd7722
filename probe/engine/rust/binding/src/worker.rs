//! One thread per capture: reads its source, drives its pipeline, hands over bodies.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use edgeqoe_core::engine::options::Capture;
use edgeqoe_core::engine::{Counters, Pipeline};
use edgeqoe_core::source::{Event, LiveOptions, Source, SourceError, open_files, open_interface};

use crate::maps::MapInForce;

/// What a worker hands to Python's side.
pub enum Delivery {
    Body(Vec<u8>),
    /// The source failed; the records of all packets before were delivered.
    Failure(String),
}

/// What the Python side may look at while a worker runs.
#[derive(Default)]
pub struct Board {
    pub counters: Mutex<Counters>,
    pub progress: Mutex<Option<(u64, u64)>>,
    /// What is known of the mobile network's sessions, once the worker has ended.
    pub bearers: Mutex<Option<Vec<u8>>>,
}

/// How many packets pass between two looks at the stop flag and at the map in force, and between
/// two notes on the board.
const PACKETS_PER_ROUND: u32 = 4096;

pub struct Worker {
    source: Box<dyn Source>,
    pipeline: Pipeline,
    stop: Arc<AtomicBool>,
    maps: Arc<MapInForce>,
    /// Which of the maps the pipeline has.
    map_seen: u64,
    board: Arc<Board>,
    deliveries: SyncSender<Delivery>,
}

/// Opens a capture's source; live ones end within a fraction of a second once `stop` is set.
pub fn open_source(
    capture: &Capture,
    stop: &Arc<AtomicBool>,
) -> Result<Box<dyn Source>, SourceError> {
    match &capture.interface {
        Some(interface) => {
            let options = LiveOptions {
                time_offset_ns: capture.time_offset_ns,
                ignore_outgoing: capture.ignore_outgoing,
            };
            open_interface(interface, options, Arc::clone(stop))
        }
        None => {
            let paths: Vec<PathBuf> = capture.files.iter().map(PathBuf::from).collect();
            open_files(&paths, capture.time_offset_ns)
        }
    }
}

impl Worker {
    pub fn new(
        source: Box<dyn Source>,
        pipeline: Pipeline,
        stop: Arc<AtomicBool>,
        maps: Arc<MapInForce>,
        board: Arc<Board>,
        deliveries: SyncSender<Delivery>,
    ) -> Self {
        Self {
            source,
            pipeline,
            stop,
            maps,
            map_seen: 0,
            board,
            deliveries,
        }
    }

    /// Runs until the source ends, fails or is stopped, or until nobody takes the bodies.
    pub fn run(mut self) {
        let failure = self.read();
        self.pipeline.finish(self.source.ledger());
        self.note();
        if let Ok(mut bearers) = self.board.bearers.lock() {
            *bearers = Some(self.pipeline.save_bearers());
        }
        if self.deliver().is_ok()
            && let Some(error) = failure
        {
            let _ = self.deliveries.send(Delivery::Failure(error.to_string()));
        }
    }

    fn read(&mut self) -> Option<SourceError> {
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(map) = self.maps.newer_than(&mut self.map_seen) {
                self.pipeline.set_attribution(map);
            }
            match self.round() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(error),
            }
            self.note();
            if self.deliver().is_err() {
                return None;
            }
        }
        None
    }

    /// Reads some packets; returns whether there may be more.
    fn round(&mut self) -> Result<bool, SourceError> {
        for _ in 0..PACKETS_PER_ROUND {
            match &self.source.next()? {
                Event::Packet(packet) => self.pipeline.on_packet(packet),
                Event::Idle(now_ns) => {
                    self.pipeline.on_time(*now_ns);
                    self.close_due_bodies();
                    return Ok(true);
                }
                Event::End => return Ok(false),
            }
            self.close_due_bodies();
        }
        Ok(true)
    }

    fn close_due_bodies(&mut self) {
        if self.pipeline.is_body_due() {
            self.pipeline.close_bodies(self.source.ledger());
        }
    }

    /// Hands over closed bodies; waits while the queue is full. An error means nobody listens.
    fn deliver(&mut self) -> Result<(), ()> {
        while let Some(body) = self.pipeline.take_body() {
            self.deliveries.send(Delivery::Body(body)).map_err(|_| ())?;
        }
        Ok(())
    }

    fn note(&self) {
        if let Ok(mut counters) = self.board.counters.lock() {
            *counters = self.pipeline.counters();
        }
        if let Ok(mut progress) = self.board.progress.lock() {
            *progress = self.source.progress();
        }
    }
}
