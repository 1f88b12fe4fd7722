//! One thread per capture: reads its source, drives its pipeline, hands over bodies.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use edgeqoe_core::engine::options::{Capture, Options};
use edgeqoe_core::engine::shard::Part;
use edgeqoe_core::engine::{Counters, Pipeline};
use edgeqoe_core::source::{CaptureState, Event, Source, SourceError, open_files, open_interface};

use crate::load::{LoadBoard, Throttle, pin};
use crate::maps::MapInForce;

/// What a worker hands to Python's side.
pub enum Delivery {
    Body(Vec<u8>),
    /// The source failed; the records of all packets before were delivered.
    Failure(String),
}

/// What the Python side may look at while a worker runs.
pub struct Board {
    /// Which of the options' captures this is of, and which part of it.
    pub capture_number: usize,
    pub part: Part,
    pub counters: Mutex<Counters>,
    pub progress: Mutex<Option<(u64, u64)>>,
    /// How a live capture fares.
    pub capture: Mutex<Option<CaptureState>>,
    /// What is known of the mobile network's sessions, once the worker has ended.
    pub bearers: Mutex<Option<Vec<u8>>>,
    pub load: LoadBoard,
    /// Set by Python's side while the process takes more memory than it may.
    pub is_memory_short: AtomicBool,
}

impl Board {
    pub fn of(capture_number: usize, part: Part) -> Self {
        Self {
            capture_number,
            part,
            counters: Mutex::default(),
            progress: Mutex::default(),
            capture: Mutex::default(),
            bearers: Mutex::default(),
            load: LoadBoard::default(),
            is_memory_short: AtomicBool::default(),
        }
    }
}

/// How many packets pass between two looks at the stop flag and at the map in force, and between
/// two notes on the board.
const PACKETS_PER_ROUND: u32 = 4096;

/// What of the processors a worker may use.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of one core.
    pub cpu_share_percent: u32,
    /// The CPU that the worker stays on.
    pub cpu: Option<usize>,
}

pub struct Worker {
    source: Box<dyn Source>,
    pipeline: Pipeline,
    stop: Arc<AtomicBool>,
    maps: Arc<MapInForce>,
    /// Which of the maps the pipeline has.
    map_seen: u64,
    board: Arc<Board>,
    deliveries: SyncSender<Delivery>,
    throttle: Throttle,
    cpu: Option<usize>,
}

/// Opens an interface, with a source for each worker; they end within a fraction of a second once `stop`
/// is set. The error is one line.
pub fn open_live(
    options: &Options,
    capture: &Capture,
    interface: &str,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Box<dyn Source>>, String> {
    let opened = open_interface(interface, options.live(capture)?, stop);
    opened.map_err(|error| error.to_string())
}

/// Opens a capture's files.
pub fn open_files_of(capture: &Capture) -> Result<Box<dyn Source>, SourceError> {
    let paths: Vec<PathBuf> = capture.files.iter().map(PathBuf::from).collect();
    open_files(&paths, capture.time_offset_ns)
}

impl Worker {
    pub fn new(
        source: Box<dyn Source>,
        pipeline: Pipeline,
        stop: Arc<AtomicBool>,
        maps: Arc<MapInForce>,
        board: Arc<Board>,
        deliveries: SyncSender<Delivery>,
        bounds: Bounds,
    ) -> Self {
        let worker = Self {
            source,
            pipeline,
            stop,
            maps,
            map_seen: 0,
            board,
            deliveries,
            throttle: Throttle::new(bounds.cpu_share_percent),
            cpu: bounds.cpu,
        };
        worker.note();
        worker
    }

    /// Runs until the source ends, fails or is stopped, or until nobody takes the bodies.
    pub fn run(mut self) {
        if let Some(cpu) = self.cpu {
            // Checked at the start; one that was taken away since leaves the thread where it may run.
            let _ = pin(cpu);
        }
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
        // A live source ends by itself, after what the kernel holds for it.
        let is_live = self.source.capture().is_some();
        while is_live || !self.stop.load(Ordering::Relaxed) {
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
            self.look_at_load();
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

    /// Looks how far the source is behind; the pipeline leaves out more or less from now on.
    fn look_at_load(&mut self) {
        let pressure = self.source.pressure();
        if let Some(change) = pressure.and_then(|it| self.pipeline.on_pressure(&it)) {
            self.board.load.push(change);
        }
        self.board.load.show(self.pipeline.shedding(), pressure);
        self.pipeline
            .hold_memory(self.board.is_memory_short.load(Ordering::Relaxed));
        if pressure.is_some() {
            self.throttle.rest();
        }
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
        if let Ok(mut capture) = self.board.capture.lock() {
            *capture = self.source.capture();
        }
    }
}
