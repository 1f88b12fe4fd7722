//! Which clients have lately received anything: without that, silence says nothing of the server.
//!
//! A client is a subscriber, by whatever address: one that has IPv4 and IPv6 is reached by either.

use super::Client;

use crate::keyed::KeyedMap;

/// How long a packet to the client counts as proof that its return path is visible (DESIGN: 60 s).
const MEMORY_NS: u64 = 60_000_000_000;

/// When each client was last sent a packet. Two generations, so that ageing costs nothing per entry.
#[derive(Debug)]
pub struct Reached {
    current: KeyedMap<Client, u64>,
    previous: KeyedMap<Client, u64>,
    turned_ns: u64,
    capacity: usize,
    /// Clients that were not remembered because the table was full.
    pub shed: u64,
}

impl Reached {
    /// `capacity` bounds each of the two generations.
    pub fn new(capacity: usize) -> Self {
        let (current, previous) = (KeyedMap::default(), KeyedMap::default());
        Self {
            current,
            previous,
            turned_ns: 0,
            capacity,
            shed: 0,
        }
    }

    /// Notes a packet to `client`.
    pub fn note(&mut self, client: Client, now_ns: u64) {
        if now_ns.saturating_sub(self.turned_ns) >= MEMORY_NS {
            self.previous = std::mem::take(&mut self.current);
            self.turned_ns = now_ns;
        }
        if self.current.len() < self.capacity || self.current.contains_key(&client) {
            self.current.insert(client, now_ns);
        } else {
            self.shed += 1;
        }
    }

    /// Whether a packet to `client` was seen at or after `since_ns`, or up to 60 s before it.
    pub fn was_reached(&self, client: Client, since_ns: u64) -> bool {
        [&self.current, &self.previous]
            .into_iter()
            .filter_map(|generation| generation.get(&client))
            .any(|&last| last.saturating_add(MEMORY_NS) >= since_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const CLIENT: Client = [7; 16];

    #[test]
    fn a_client_reached_in_the_last_minute_is_remembered() {
        let mut clients = Reached::new(10);
        clients.note(CLIENT, 100 * SECOND);
        assert!(clients.was_reached(CLIENT, 159 * SECOND));
        assert!(!clients.was_reached(CLIENT, 161 * SECOND));
        assert!(!clients.was_reached([8; 16], 100 * SECOND));
    }

    #[test]
    fn a_flood_of_clients_is_shed_and_counted() {
        let mut clients = Reached::new(10);
        (0..100).for_each(|number| clients.note([number; 16], SECOND));
        assert_eq!(clients.shed, 90);
    }

    #[test]
    fn clients_outlive_one_turn_of_the_generations() {
        let mut clients = Reached::new(10);
        clients.note(CLIENT, 100 * SECOND);
        clients.note([8; 16], 161 * SECOND);
        assert!(clients.was_reached(CLIENT, 155 * SECOND));
    }
}
