//! How a worker fares: its state of shedding, the steps it took, and the share of a core it may use.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use edgeqoe_core::engine::overload::{Change, Shedding};
use edgeqoe_core::source::Pressure;

/// (capture point, what is shed, waiting percent of the ring, lag in ns).
pub type Load = (String, &'static str, u8, u64);
/// (capture point, time in ns, shed before, shed now, why, waiting percent, lag in ns).
pub type Step = (
    String,
    u64,
    &'static str,
    &'static str,
    &'static str,
    u8,
    u64,
);

/// Steps that Python's side has not asked for yet; older ones give way.
const MAX_STEPS: usize = 64;

/// What a worker says of its load.
#[derive(Default)]
pub struct LoadBoard {
    capture_point: OnceLock<String>,
    now: Mutex<(Shedding, Option<Pressure>)>,
    steps: Mutex<VecDeque<Change>>,
}

impl LoadBoard {
    /// Says whose load it is; several workers may share a capture point.
    pub fn name(&self, capture_point: &str) {
        let _ = self.capture_point.set(capture_point.to_owned());
    }

    fn capture_point(&self) -> String {
        self.capture_point.get().cloned().unwrap_or_default()
    }

    pub fn show(&self, shedding: Shedding, pressure: Option<Pressure>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (shedding, pressure);
    }

    pub fn push(&self, change: Change) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == MAX_STEPS {
            steps.pop_front();
        }
        steps.push_back(change);
    }

    pub fn load(&self) -> Load {
        let (shedding, pressure) = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = pressure.map_or(0, |pressure| pressure.waiting_percent);
        let lag_ns = pressure.map_or(0, |pressure| pressure.lag_ns);
        (self.capture_point(), shedding.as_str(), waiting, lag_ns)
    }

    pub fn take_steps(&self) -> Vec<Step> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |change: Change| {
            (
                self.capture_point(),
                change.time_ns,
                change.before.as_str(),
                change.after.as_str(),
                change.reason.as_str(),
                change.waiting_percent,
                change.lag_ns,
            )
        };
        steps.drain(..).map(told).collect()
    }
}

/// Holds a thread to a share of one core: it sleeps for what it used too much, and what it did not use it
/// keeps for a tenth of a second. What comes meanwhile waits in the ring, which overload control looks at.
pub struct Throttle {
    share_percent: u32,
    since: Instant,
    used: Duration,
}

const SPAN: Duration = Duration::from_millis(100);
/// A stop is seen no later than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

impl Throttle {
    /// `share_percent`: of one core; 100 holds nothing back.
    pub fn new(share_percent: u32) -> Self {
        Self {
            share_percent,
            since: Instant::now(),
            used: thread_time(),
        }
    }

    pub fn rest(&mut self) {
        if self.share_percent >= 100 {
            return;
        }
        let used = thread_time().saturating_sub(self.used);
        let due = used * 100 / self.share_percent.max(1);
        let elapsed = self.since.elapsed();
        if due > elapsed {
            std::thread::sleep((due - elapsed).min(LONGEST_REST));
        } else if elapsed - due > SPAN {
            *self = Self::new(self.share_percent);
        }
    }
}

/// CPU time of the calling thread.
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure lives through the call, which writes nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Binds the calling thread to one CPU.
pub fn pin(cpu: usize) -> std::io::Result<()> {
    // SAFETY: a set of CPUs is plain data, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number lies within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set lives through the call; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_without_pause_is_held_to_its_share() {
        let (start, used) = (Instant::now(), thread_time());
        let mut throttle = Throttle::new(25);
        while start.elapsed() < Duration::from_millis(1_000) {
            throttle.rest();
        }
        let share = (thread_time() - used).as_secs_f64() / start.elapsed().as_secs_f64();
        assert!(share < 0.40, "{share}");
    }

    #[test]
    fn steps_that_nobody_asks_for_do_not_pile_up() {
        let board = LoadBoard::default();
        for time_ns in 0..1_000 {
            board.push(Change {
                time_ns,
                before: Shedding::Nothing,
                after: Shedding::Content,
                reason: edgeqoe_core::engine::overload::Reason::Drops,
                waiting_percent: 0,
                lag_ns: 0,
            });
        }
        let steps = board.take_steps();
        assert_eq!(steps.len(), MAX_STEPS);
        assert_eq!(steps.last().map(|step| step.1), Some(999));
    }
}
