//! Names of servers from DNS answers, and who asked for them.
//!
//! A flow without a server name of its own (QUIC behind an encrypted ClientHello, plain UDP, TCP of
//! some other protocol) was mostly begun after its client asked for a name. The table holds what was
//! answered, by subscriber and server address, and by server address alone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::app::dns::Resolution;
use crate::decap::Address;
use crate::engine::application::DnsEvent;
use crate::engine::clients::Client;
use crate::keyed::KeyedMap;

const SECOND_NS: u64 = 1_000_000_000;
/// An answer counts for this long at least: browsers keep names for a minute whatever their time to
/// live, and a connection often follows long after its name.
const SHORTEST_LIFE_NS: u64 = 60 * SECOND_NS;
/// And for no longer: addresses of clouds change hands.
const LONGEST_LIFE_NS: u64 = 3600 * SECOND_NS;
/// A connection follows the answer that it waited for within this time.
const JUST_NOW_NS: u64 = SECOND_NS;
/// A question is the retry of one that was asked between so long ago: in less a client asks several
/// resolvers at once, and after more it has given up (RFC 1035 7.2; stubs wait 1 to 5 s).
const SOONEST_RETRY_NS: u64 = SECOND_NS / 2;
const LATEST_RETRY_NS: u64 = 20 * SECOND_NS;

/// A name that an answer gave to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// As it was asked, in lower case.
    pub text: Arc<str>,
    /// When it was last answered.
    pub answered_ns: u64,
    expires_ns: u64,
}

/// What all subscribers were told of one server.
#[derive(Debug, Clone)]
struct Server {
    name: Name,
    /// Another name is in use for this address too: without the subscriber it cannot be told which.
    several: bool,
    /// Who was told last.
    asker: Client,
}

/// A question under way, by its digest.
#[derive(Debug, Clone, Copy)]
struct Asked {
    first_ns: u64,
    answered: bool,
}

/// A table in two generations, so that ageing costs nothing per entry: after `life_ns`, or when the
/// younger one is full, the older one goes.
#[derive(Debug)]
struct Generations<K, V> {
    current: KeyedMap<K, V>,
    previous: KeyedMap<K, V>,
    turned_ns: u64,
    life_ns: u64,
    /// Of each generation.
    capacity: usize,
    /// Entries that went before their time.
    shed: u64,
}

impl<K: Eq + std::hash::Hash, V> Generations<K, V> {
    fn new(limit: usize, life_ns: u64) -> Self {
        Self {
            current: KeyedMap::default(),
            previous: KeyedMap::default(),
            turned_ns: 0,
            life_ns,
            capacity: (limit / 2).max(1),
            shed: 0,
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.current.get(key).or_else(|| self.previous.get(key))
    }

    fn insert(&mut self, key: K, value: V, now_ns: u64) {
        let is_full = self.current.len() >= self.capacity && !self.current.contains_key(&key);
        if is_full {
            self.shed += self.previous.len() as u64;
        }
        if is_full || now_ns.saturating_sub(self.turned_ns) >= self.life_ns {
            self.previous = std::mem::take(&mut self.current);
            self.turned_ns = now_ns;
        }
        self.current.insert(key, value);
    }
}

/// What DNS said lately. At most `limit` names of subscribers, as many of servers and as many
/// questions: some 300 bytes for each of `limit`, and twice that if all names are long.
#[derive(Debug)]
pub struct Names {
    of_clients: Generations<(Client, Address), Name>,
    of_servers: Generations<Address, Server>,
    questions: Generations<u64, Asked>,
    /// Unpredictable, so that nobody can choose names with the same digest.
    digests: RandomState,
}

impl Names {
    pub fn new(limit: usize) -> Self {
        Self {
            of_clients: Generations::new(limit, LONGEST_LIFE_NS),
            of_servers: Generations::new(limit, LONGEST_LIFE_NS),
            questions: Generations::new(limit, LATEST_RETRY_NS),
            digests: RandomState::new(),
        }
    }

    /// Entries given up before their time because the table was full.
    pub fn shed(&self) -> u64 {
        self.of_clients.shed + self.of_servers.shed + self.questions.shed
    }

    /// Takes in what a flow of `client` asked or was answered; returns whether the question was
    /// asked before in vain.
    pub fn hear(&mut self, client: Client, event: DnsEvent, now_ns: u64) -> bool {
        match event {
            DnsEvent::Asked { name, qtype } => {
                let digest = self.digest(client, &name, qtype);
                self.ask(digest, now_ns)
            }
            DnsEvent::Answered {
                name,
                qtype,
                resolution,
            } => {
                let digest = self.digest(client, &name, qtype);
                self.answer(digest, now_ns);
                if let Some(resolution) = resolution {
                    self.learn(client, &resolution, now_ns);
                }
                false
            }
        }
    }

    /// Remembers what `client` was answered.
    pub fn learn(&mut self, client: Client, resolution: &Resolution, now_ns: u64) {
        let life_ns = u64::from(resolution.ttl_s) * SECOND_NS;
        let life_ns = life_ns.clamp(SHORTEST_LIFE_NS, LONGEST_LIFE_NS);
        let name = Name {
            text: Arc::from(&*resolution.name),
            answered_ns: now_ns,
            expires_ns: now_ns.saturating_add(life_ns),
        };
        for &address in resolution.addresses() {
            let server = Address::from(address);
            self.learn_server(client, server, &name);
            self.of_clients
                .insert((client, server), name.clone(), now_ns);
        }
    }

    fn learn_server(&mut self, client: Client, address: Address, name: &Name) {
        let now_ns = name.answered_ns;
        let known = self.of_servers.get(&address);
        let other = known
            .filter(|known| known.name.expires_ns > now_ns)
            .filter(|known| known.several || known.name.text != name.text);
        let expires_ns = name
            .expires_ns
            .max(other.map_or(0, |known| known.name.expires_ns));
        let server = Server {
            several: other.is_some(),
            name: Name {
                expires_ns,
                ..name.clone()
            },
            asker: client,
        };
        self.of_servers.insert(address, server, now_ns);
    }

    /// The name by which `client` knows `server`: what it was last answered, else what all others
    /// were, if that is one name only.
    ///
    /// Bias: of two names that the client itself asked for and that share an address, the later one.
    pub fn lookup(&self, client: Client, server: Address, now_ns: u64) -> Option<&Name> {
        let own = self.of_clients.get(&(client, server));
        own.filter(|name| name.expires_ns > now_ns)
            .or_else(|| self.of(server, now_ns))
    }

    /// The one name in use for `server`, whoever asked.
    pub fn of(&self, server: Address, now_ns: u64) -> Option<&Name> {
        let known = self.of_servers.get(&server)?;
        (known.name.expires_ns > now_ns && !known.several).then_some(&known.name)
    }

    /// Who else was told of `server` just now, if `client` did not ask itself: a device with IPv4
    /// and IPv6 asks by one of its identities and may connect by the other.
    ///
    /// Bias: another subscriber who asks for the same server within [`JUST_NOW_NS`].
    pub fn other_asker(&self, client: Client, server: Address, now_ns: u64) -> Option<Client> {
        let own = self.of_clients.get(&(client, server));
        let Server { name, asker, .. } = self.of_servers.get(&server)?;
        let is_recent = now_ns.saturating_sub(name.answered_ns) <= JUST_NOW_NS;
        (own.is_none() && is_recent && *asker != client).then_some(*asker)
    }

    /// A number for a subscriber's question, the same in every flow.
    pub fn digest(&self, client: Client, name: &str, qtype: u16) -> u64 {
        self.digests.hash_one((client, name, qtype))
    }

    /// Notes a question; returns whether it was asked before, here or in another flow, so long ago
    /// that its client must have waited in vain.
    pub fn ask(&mut self, digest: u64, now_ns: u64) -> bool {
        let waiting = self.questions.get(&digest).filter(|asked| !asked.answered);
        let waited_ns = waiting.map(|asked| now_ns.saturating_sub(asked.first_ns));
        if waited_ns.is_none_or(|waited| waited > LATEST_RETRY_NS) {
            let asked = Asked {
                first_ns: now_ns,
                answered: false,
            };
            self.questions.insert(digest, asked, now_ns);
        }
        waited_ns.is_some_and(|waited| (SOONEST_RETRY_NS..=LATEST_RETRY_NS).contains(&waited))
    }

    /// Notes that a question has its answer.
    pub fn answer(&mut self, digest: u64, now_ns: u64) {
        if let Some(&asked) = self.questions.get(&digest) {
            let asked = Asked {
                answered: true,
                ..asked
            };
            self.questions.insert(digest, asked, now_ns);
        }
    }

    /// Whether a question that was asked lately has its answer, from whatever flow.
    pub fn is_answered(&self, digest: u64) -> bool {
        let asked = self.questions.get(&digest);
        asked.is_some_and(|asked| asked.answered)
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
