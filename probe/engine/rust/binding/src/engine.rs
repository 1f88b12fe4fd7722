//! `Engine`: starts a worker per capture and gives their bodies to Python.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgeqoe_core::control::saved::{Kept, pack, unpack};
use edgeqoe_core::control::vault::{self, Refused};
use edgeqoe_core::engine::Pipeline;
use edgeqoe_core::engine::crew::Crew;
use edgeqoe_core::engine::options::{Capture, Options, parse_attribution};
use edgeqoe_core::engine::overload::Shedding;
use edgeqoe_core::engine::shard::Part;
use edgeqoe_core::source::CaptureState;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::EngineError;
use crate::confine;
use crate::load::{Load, Step};
use crate::maps::MapInForce;
use crate::shared::Shared;
use crate::worker::{Board, Bounds, Delivery, Worker, open_files_of, open_live};

/// Bodies that wait for Python at most; then the workers wait.
const QUEUED_BODIES: usize = 8;

/// The longest wait of one call, so that a thread in `next_body` notices a shutdown.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Capture point, worker, link, numbers and interface of one worker of a live capture.
type Told = (
    String,
    usize,
    &'static str,
    BTreeMap<&'static str, u64>,
    String,
);

/// What a thread does.
type Run = Box<dyn FnOnce() + Send>;

struct Queue {
    deliveries: Receiver<Delivery>,
    /// All workers have ended and everything they delivered was taken.
    drained: bool,
}

/// One thread per capture, or several; each capture hands over bodies as it fills them.
#[pyclass(frozen)]
pub struct Engine {
    options: Options,
    site_key: Vec<u8>,
    stop: Arc<AtomicBool>,
    maps: Arc<MapInForce>,
    /// What an earlier run saved, by capture point.
    remembered: Mutex<Vec<(String, Kept)>>,
    boards: Mutex<Vec<Arc<Board>>>,
    queue: Mutex<Option<Queue>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A worker that panicked leaves valid numbers behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn numbers(state: &CaptureState) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("control_copies", state.control_copies),
        ("control_copies_dropped", state.control_copies_dropped),
        ("hardware_timestamps", state.by_hardware),
        ("interruptions", state.interruptions),
        ("offered", state.offered),
        ("dropped_kernel", state.dropped_kernel),
        ("dropped_nic", state.dropped_nic),
        ("dropped_early", state.dropped_early),
        ("filtered", state.filtered),
        ("unaccounted", state.unaccounted),
    ])
}

#[pymethods]
impl Engine {
    #[new]
    fn new(options: &str, site_key: &[u8]) -> PyResult<Self> {
        let options = Options::parse(options)
            .map_err(|problem| EngineError::new_err(format!("engine options: {problem}")))?;
        Ok(Self {
            options,
            site_key: site_key.to_vec(),
            stop: Arc::default(),
            maps: Arc::default(),
            remembered: Mutex::default(),
            boards: Mutex::default(),
            queue: Mutex::default(),
        })
    }

    /// Opens the sources and starts the threads.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.start_workers())
            .map_err(EngineError::new_err)
    }

    /// Waits, without the GIL, for the next body; None after the time-out or when finished.
    fn next_body<'py>(
        &self,
        py: Python<'py>,
        timeout_s: f64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let timeout = Duration::try_from_secs_f64(timeout_s.max(0.0)).unwrap_or(LONGEST_WAIT);
        match py.detach(|| self.receive(timeout.min(LONGEST_WAIT))) {
            None => Ok(None),
            Some(Delivery::Body(body)) => Ok(Some(PyBytes::new(py, &body))),
            Some(Delivery::Failure(problem)) => Err(EngineError::new_err(problem)),
        }
    }

    /// Says whether all threads have ended and every body has been taken.
    fn finished(&self) -> bool {
        lock(&self.queue)
            .as_ref()
            .is_some_and(|queue| queue.drained)
    }

    /// Asks the threads to end their flows, hand over what they hold, and finish.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Replaces the attribution map, started or not; a faulty text changes nothing.
    fn set_attribution(&self, py: Python<'_>, rules: &str) -> PyResult<()> {
        let map = py
            .detach(|| parse_attribution(rules))
            .map_err(|problem| EngineError::new_err(format!("attribution: {problem}")))?;
        self.maps.replace(map);
        Ok(())
    }

    /// Returns what is known of the mobile network's sessions, sealed; the captures have to have ended.
    fn save_bearers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = py.detach(|| self.sealed_bearers());
        let sealed =
            sealed.map_err(|problem| EngineError::new_err(format!("bearers: {problem}")))?;
        Ok(PyBytes::new(py, &sealed))
    }

    /// Takes in what an earlier run saved, before the start. What cannot be used changes nothing.
    fn load_bearers(&self, py: Python<'_>, sealed: &[u8]) -> PyResult<()> {
        let sections = py.detach(|| self.opened_bearers(sealed));
        let refused = |why: Refused| EngineError::new_err(why.to_string());
        *lock(&self.remembered) = sections.map_err(refused)?;
        Ok(())
    }

    /// Returns totals since the start: packets, bytes, flows, records, and drops by reason.
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for board in lock(&self.boards).iter() {
            for &(name, value) in lock(&board.counters).iter() {
                *sums.entry(name).or_insert(0) += value;
            }
        }
        sums
    }

    /// Returns (capture point, what is shed, percent of the ring that waits, lag in ns) of each capture.
    fn loads(&self) -> Vec<Load> {
        lock(&self.boards).iter().map(|it| it.load.load()).collect()
    }

    /// Returns the steps of shedding since the last call: (capture point, Unix ns, shed before, shed
    /// after, why, percent of the ring that waits, lag in ns).
    fn take_load_steps(&self) -> Vec<Step> {
        let boards = lock(&self.boards);
        boards.iter().flat_map(|it| it.load.take_steps()).collect()
    }

    /// While memory is short, tables of flows stay as large as they are.
    fn hold_memory(&self, is_short: bool) {
        for board in lock(&self.boards).iter() {
            board.is_memory_short.store(is_short, Ordering::Relaxed);
        }
    }

    /// Returns how each live capture fares, by worker; see the stub.
    fn captures(&self) -> Vec<Told> {
        let boards = lock(&self.boards);
        let told = boards.iter().filter_map(|board| {
            let state = lock(&board.capture).clone()?;
            let capture_point = self.options.captures[board.capture_number]
                .capture_point
                .clone();
            let (number, link) = (board.part.number.into(), state.link.name());
            let numbers = numbers(&state);
            Some((capture_point, number, link, numbers, state.interface))
        });
        told.collect()
    }

    /// Returns (bytes read, bytes in all) of the captures, or None where the end is not known.
    fn progress(&self) -> Option<(u64, u64)> {
        let boards = lock(&self.boards);
        boards.iter().try_fold((0, 0), |(done, total), board| {
            let (more_done, more_total) = (*lock(&board.progress))?;
            Some((done + more_done, total + more_total))
        })
    }
}

impl Engine {
    fn bounds(&self, worker: usize) -> Bounds {
        let limits = &self.options.limits;
        let cpus = &self.options.cpus;
        Bounds {
            cpu_share_percent: limits.cpu_share_percent,
            cpu: cpus.get(worker % cpus.len().max(1)).copied(),
        }
    }

    fn sealed_bearers(&self) -> Result<Vec<u8>, String> {
        let boards = lock(&self.boards);
        let mut sections = Vec::new();
        // All parts of a capture know the same.
        for board in boards.iter().filter(|board| board.part.is_lead()) {
            let capture = &self.options.captures[board.capture_number];
            let saved = lock(&board.bearers).clone();
            let saved = saved.ok_or("a capture has not ended")?;
            sections.push((capture.capture_point.clone(), saved));
        }
        let salt = vault::fresh_salt().map_err(|error| error.to_string())?;
        let packed = pack(&sections);
        Ok(vault::seal(
            &packed,
            &self.site_key,
            &self.options.probe_id,
            &salt,
        ))
    }

    fn opened_bearers(&self, sealed: &[u8]) -> Result<Vec<(String, Kept)>, Refused> {
        let packed = vault::open(sealed, &self.site_key, &self.options.probe_id)?;
        unpack(&packed).map_err(|_| Refused::Malformed)
    }

    /// Takes what an earlier run saved at a capture point.
    fn take_remembered(&self, capture_point: &str) -> Option<Kept> {
        let mut remembered = lock(&self.remembered);
        let at = remembered
            .iter()
            .position(|(name, _)| name == capture_point)?;
        Some(remembered.swap_remove(at).1)
    }

    fn start_workers(&self) -> Result<(), String> {
        let mut queue = lock(&self.queue);
        if queue.is_some() {
            return Err("the engine was started before".into());
        }
        let (sender, deliveries) = sync_channel(QUEUED_BODIES);
        let mut runs: Vec<Run> = Vec::new();
        for (number, capture) in self.options.captures.iter().enumerate() {
            match &capture.interface {
                Some(interface) => runs.extend(self.live(number, interface, &sender)?),
                None => runs.push(self.replay(number, capture, sender.clone())?),
            }
        }
        if self.options.drop_capabilities {
            // The sockets are open, and threads have what the one has that starts them.
            confine::drop_capabilities(self.options.keep_net_raw)
                .map_err(|error| format!("capabilities: {error}"))?;
        }
        for (number, run) in runs.into_iter().enumerate() {
            std::thread::Builder::new()
                .name(format!("capture-{number}"))
                .spawn(run)
                .map_err(|error| format!("cannot start a capture thread: {error}"))?;
        }
        *queue = Some(Queue {
            deliveries,
            drained: false,
        });
        Ok(())
    }

    /// Opens an interface; what is returned runs its workers.
    fn live(
        &self,
        number: usize,
        interface: &str,
        deliveries: &SyncSender<Delivery>,
    ) -> Result<Vec<Run>, String> {
        let capture = &self.options.captures[number];
        let sources = open_live(&self.options, capture, interface, &self.stop)?;
        let kept = self.take_remembered(&capture.capture_point);
        let of = sources.len() as u16;
        let first = lock(&self.boards).len();
        let mut runs: Vec<Run> = Vec::new();
        for (part, source) in (0..of).zip(sources) {
            let part = Part { number: part, of };
            let mut pipeline = self.pipeline(part, &capture.capture_point)?;
            if let Some(kept) = &kept {
                pipeline.remember(kept.clone());
            }
            let board = self.board(number, part);
            let (stop, maps) = (Arc::clone(&self.stop), Arc::clone(&self.maps));
            let bounds = self.bounds(first + usize::from(part.number));
            let worker = Worker::new(
                source,
                pipeline,
                stop,
                maps,
                board,
                deliveries.clone(),
                bounds,
            );
            runs.push(Box::new(move || worker.run()));
        }
        Ok(runs)
    }

    /// Opens files; what is returned reads them.
    fn replay(
        &self,
        number: usize,
        capture: &Capture,
        deliveries: SyncSender<Delivery>,
    ) -> Result<Run, String> {
        let point = &capture.capture_point;
        let source = open_files_of(capture).map_err(|error| error.to_string())?;
        let kept = self.take_remembered(point);
        let (stop, maps) = (Arc::clone(&self.stop), Arc::clone(&self.maps));
        // What is left out is counted where a packet is read and measured in one place.
        let sheds = self.options.limits.shedding.at_first() != Shedding::Nothing;
        if capture.workers > 1 && !sheds {
            let crew = Crew::new(&self.options, point, &self.site_key, capture.workers, kept)?;
            let board = self.board(number, Part::WHOLE);
            let shared = Shared::new(source, crew, stop, maps, board, deliveries);
            return Ok(Box::new(move || shared.run()));
        }
        let mut pipeline = self.pipeline(Part::WHOLE, point)?;
        if let Some(kept) = kept {
            pipeline.remember(kept);
        }
        let board = self.board(number, Part::WHOLE);
        let bounds = self.bounds(number);
        let worker = Worker::new(source, pipeline, stop, maps, board, deliveries, bounds);
        Ok(Box::new(move || worker.run()))
    }

    fn board(&self, number: usize, part: Part) -> Arc<Board> {
        let board = Arc::new(Board::of(number, part));
        board
            .load
            .name(&self.options.captures[number].capture_point);
        let shedding = self.options.limits.shedding.at_first();
        board.load.show(shedding, None);
        lock(&self.boards).push(Arc::clone(&board));
        board
    }

    fn pipeline(&self, part: Part, capture_point: &str) -> Result<Pipeline, String> {
        let seed = RandomState::new().hash_one(capture_point);
        Pipeline::for_part(part, &self.options, capture_point, &self.site_key, seed)
    }

    fn receive(&self, timeout: Duration) -> Option<Delivery> {
        let mut queue = lock(&self.queue);
        let queue = queue.as_mut()?;
        match queue.deliveries.recv_timeout(timeout) {
            Ok(delivery) => Some(delivery),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                queue.drained = true;
                None
            }
        }
    }
}
