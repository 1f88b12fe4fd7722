//! What is known of clients across their sessions: who was reached, who scans, who won a race.
//!
//! A client is a subscriber, by whatever address. All of it is bounded and ages in packet time.

mod generations;
mod races;
mod reached;
mod scans;

use crate::decap::{Address, Transport};
use crate::engine::options::Limits;
use races::Races;
pub use races::{Target, Winners};
use reached::Reached;
use scans::Scans;

/// A subscriber's pseudonym, or what stands for another host.
pub type Client = [u8; 16];

/// An attempt to connect.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The session's name.
    pub session: u64,
    /// Who tries: the client, or a host outside.
    pub by: Client,
    /// The client reached for this server.
    pub target: Target<'a>,
    pub transport: Transport,
    pub start_ns: u64,
    pub last_try_ns: u64,
    /// Where it goes.
    pub destination: (Address, u16),
}

/// The knowledge of all clients.
#[derive(Debug)]
pub struct Clients {
    reached: Reached,
    scans: Scans,
    races: Races,
}

impl Clients {
    pub fn new(limits: &Limits) -> Self {
        Self {
            reached: Reached::new(limits.clients as usize),
            scans: Scans::new(limits.clients as usize),
            races: Races::new(limits.pairs as usize),
        }
    }

    /// Notes a packet to `client`.
    pub fn reached(&mut self, client: Client, now_ns: u64) {
        self.reached.note(client, now_ns);
    }

    /// Whether a packet to `client` was seen at or after `since_ns`, or up to 60 s before it.
    pub fn was_reached(&self, client: Client, since_ns: u64) -> bool {
        self.reached.was_reached(client, since_ns)
    }

    /// Notes that a client is connected.
    pub fn connected(&mut self, target: &Target<'_>, transport: Transport, now_ns: u64) {
        self.races.connected(target, transport, now_ns);
    }

    /// Notes an attempt that is in vain so far.
    pub fn tried_in_vain(&mut self, attempt: &Attempt<'_>, now_ns: u64) {
        let is_real = self.reached.was_reached(attempt.by, attempt.start_ns);
        let (destination, start_ns) = (attempt.destination, attempt.start_ns);
        self.scans
            .add(attempt.by, destination, start_ns, now_ns, is_real);
    }

    pub fn is_scan(&self, attempt: &Attempt<'_>) -> bool {
        self.scans.holds(attempt.by, attempt.start_ns)
    }

    pub fn winners(&self, attempt: &Attempt<'_>) -> Winners {
        let (target, transport) = (&attempt.target, attempt.transport);
        self.races
            .winners(target, transport, attempt.start_ns, attempt.last_try_ns)
    }

    /// Whether a failed attempt is the first of its try; see `Races::is_first_failure`.
    pub fn is_first_failure(&mut self, attempt: &Attempt<'_>, now_ns: u64) -> bool {
        let (target, transport) = (&attempt.target, attempt.transport);
        self.races
            .is_first_failure(target, transport, attempt.start_ns, now_ns)
    }

    /// What was not remembered because a table was full, by table.
    pub fn shed(&self) -> [(&'static str, u64); 3] {
        [
            ("clients_shed", self.reached.shed),
            ("attempts_shed", self.scans.shed()),
            ("pairs_shed", self.races.shed()),
        ]
    }
}
