//! Who tries address after address: more than 20 destinations in 10 s that did not answer.
//!
//! An attempt is counted when it turns out to be in vain: refused, given up on the SYN-ACK, or still
//! unanswered after two seconds. So a browser that opens thirty connections at once is no scan. The
//! attempts before the twenty-first are still undecided when the scan shows: an unanswered one ends
//! after 65 s, a refused one after 15 s.

use super::Client;
use super::generations::Generations;
use crate::decap::Address;

/// More destinations than this in one window are a scan (DESIGN: 20).
const MOST_DESTINATIONS: usize = 20;
const WINDOW_NS: u64 = 10_000_000_000;
/// Longer than an attempt waits for its verdict: SYN retries for 63 s, and 65 s of silence.
const MEMORY_NS: u64 = 130_000_000_000;

/// An address and a port.
type Destination = (Address, u16);

/// The vain attempts of one client.
#[derive(Debug, Default)]
struct Tries {
    /// First start and destination of the latest ones, distinct, none older than a window before
    /// the newest. Bound: `MOST_DESTINATIONS` + 2.
    latest: Vec<(u64, Destination)>,
    /// The first and the last attempt of the scan under way, or of the last one.
    scan: Option<(u64, u64)>,
}

impl Tries {
    fn add(&mut self, start_ns: u64, destination: Destination) {
        self.latest
            .retain(|&(first, _)| start_ns.saturating_sub(first) <= WINDOW_NS);
        let mut known = self.latest.iter_mut().filter(|(_, to)| *to == destination);
        match known.next() {
            Some((first, _)) => *first = start_ns.min(*first),
            None => self.latest.push((start_ns, destination)),
        }
        if self.latest.len() > MOST_DESTINATIONS + 1 {
            self.drop_earliest();
        }
        if self.latest.len() > MOST_DESTINATIONS {
            self.note_scan(start_ns);
        }
    }

    fn note_scan(&mut self, start_ns: u64) {
        let starts = self.latest.iter().map(|&(first, _)| first);
        let (first, last) = starts.fold((start_ns, start_ns), |(first, last), start| {
            (first.min(start), last.max(start))
        });
        if last - first <= WINDOW_NS {
            self.extend_scan(first, last);
        }
    }

    fn extend_scan(&mut self, first: u64, last: u64) {
        let known = self
            .scan
            .filter(|&(_, until)| first <= until.saturating_add(WINDOW_NS));
        self.scan = Some(known.map_or((first, last), |(from, until)| {
            (from.min(first), until.max(last))
        }));
    }

    fn drop_earliest(&mut self) {
        let starts = self.latest.iter().enumerate();
        if let Some((earliest, _)) = starts.min_by_key(|&(_, &(start, _))| start) {
            self.latest.swap_remove(earliest);
        }
    }
}

/// The vain attempts of all clients.
#[derive(Debug)]
pub struct Scans {
    tries: Generations<Client, Tries>,
}

impl Scans {
    /// `capacity` bounds the clients of each of two generations.
    pub fn new(capacity: usize) -> Self {
        Self {
            tries: Generations::new(capacity, MEMORY_NS),
        }
    }

    /// Counts a vain attempt. A flood of invented clients is kept to one half of the room: the other
    /// is for clients that are known to be there (`is_real`).
    pub fn add(
        &mut self,
        client: Client,
        destination: Destination,
        start_ns: u64,
        now_ns: u64,
        is_real: bool,
    ) {
        let admits = |known: usize, room: usize| {
            if is_real {
                known < room
            } else {
                known < room / 2
            }
        };
        if let Some(tries) = self.tries.touch(client, now_ns, admits) {
            tries.add(start_ns, destination);
        }
    }

    /// Whether an attempt that began at `start_ns` was one of a scan.
    pub fn holds(&self, client: Client, start_ns: u64) -> bool {
        let tries = self.tries.get(&client);
        tries
            .and_then(|tries| tries.scan)
            .is_some_and(|(from, until)| (from..=until).contains(&start_ns))
    }

    /// Vain attempts that were not counted, or were forgotten before their time.
    pub fn shed(&self) -> u64 {
        self.tries.shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const CLIENT: Client = [7; 16];

    fn host(number: u64) -> Destination {
        (Address(number.into()), 443)
    }

    /// `count` attempts, one each `step_ns`, to `distinct` destinations in turn.
    fn tried(count: u64, step_ns: u64, distinct: u64) -> Scans {
        let mut scans = Scans::new(100);
        for number in 0..count {
            let start_ns = 100 * SECOND + number * step_ns;
            scans.add(CLIENT, host(number % distinct), start_ns, start_ns, true);
        }
        scans
    }

    #[test]
    fn twenty_one_destinations_in_ten_seconds_are_a_scan_from_the_first_on() {
        let scans = tried(21, SECOND / 2, 1000);
        assert!(scans.holds(CLIENT, 100 * SECOND));
        assert!(scans.holds(CLIENT, 110 * SECOND));
        assert!(!scans.holds(CLIENT, 99 * SECOND));
        assert!(!scans.holds([8; 16], 105 * SECOND));
    }

    #[test]
    fn twenty_destinations_are_none() {
        assert!(!tried(20, SECOND / 10, 1000).holds(CLIENT, 100 * SECOND));
    }

    #[test]
    fn one_destination_tried_often_is_none() {
        assert!(!tried(500, SECOND / 10, 3).holds(CLIENT, 101 * SECOND));
    }

    #[test]
    fn a_scan_that_tries_everything_twice_holds_all_of_its_attempts() {
        let scans = tried(42, SECOND / 10, 21);
        assert!(scans.holds(CLIENT, 100 * SECOND));
        assert!(scans.holds(CLIENT, 100 * SECOND + 41 * SECOND / 10));
    }

    #[test]
    fn a_slow_series_is_none() {
        assert!(!tried(200, SECOND, 1000).holds(CLIENT, 150 * SECOND));
    }

    #[test]
    fn a_long_scan_is_one_scan_with_little_memory() {
        let scans = tried(100_000, SECOND / 1000, u64::MAX);
        assert!(scans.holds(CLIENT, 100 * SECOND) && scans.holds(CLIENT, 199 * SECOND));
        let kept = scans.tries.get(&CLIENT).map(|tries| tries.latest.len());
        assert_eq!(kept, Some(MOST_DESTINATIONS + 1));
    }

    #[test]
    fn attempts_counted_out_of_order_are_one_scan() {
        let mut scans = Scans::new(100);
        for number in (0..30).rev() {
            let start_ns = 100 * SECOND + number * SECOND / 5;
            scans.add(CLIENT, host(number), start_ns, 110 * SECOND, true);
        }
        assert!((0..30).all(|number| scans.holds(CLIENT, 100 * SECOND + number * SECOND / 5)));
    }

    #[test]
    fn invented_clients_do_not_keep_a_real_one_out() {
        let mut scans = Scans::new(100);
        for number in 0..10_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            let invented = [a, b, c, d, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
            scans.add(invented, host(1), 100 * SECOND, 100 * SECOND, false);
        }
        assert_eq!(scans.shed(), 9950);
        for number in 0..30 {
            scans.add(CLIENT, host(number), 101 * SECOND, 101 * SECOND, true);
        }
        assert!(scans.holds(CLIENT, 101 * SECOND));
    }
}
