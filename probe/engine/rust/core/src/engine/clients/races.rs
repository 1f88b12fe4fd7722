//! Who connected to what, and when: what tells the loser of a race from a failure.
//!
//! Clients try several ways to one server at once: IPv6 and IPv4 (Happy Eyeballs, RFC 8305), QUIC
//! and TCP, a second socket where the first is slow. The first that answers wins, the others are
//! given up. So an attempt is measured against the client's other connections to the same server:
//! by its name where that is known, else by its address.

use ahash::RandomState;

use super::Client;
use super::generations::Generations;
use crate::decap::{Address, Transport};
use crate::flow::protocol_number;

const SECOND_NS: u64 = 1_000_000_000;
/// A race may be on before this attempt joins in: the winner may be so much older.
const BEFORE_NS: u64 = 2 * SECOND_NS;
/// The winner may still answer so long after the loser's last try.
const AFTER_NS: u64 = 5 * SECOND_NS;
/// A loser is given up when the winner is there (RFC 8305 5): who sends SYNs for longer than this
/// after another connection came up is not racing it. QUIC is often left to go on for a while.
const GIVEN_UP_NS: u64 = 3 * SECOND_NS;
/// Attempts that start within this time of each other are one try of the customer's.
const ONE_TRY_NS: u64 = 3 * SECOND_NS;
/// Longer than an attempt waits for its verdict: SYN retries for 63 s, and 65 s of silence.
const MEMORY_NS: u64 = 130 * SECOND_NS;

/// What a client reaches for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub client: Client,
    /// Another identity of the client, as far as known: who asked for the server's name. A client's
    /// IPv4 and IPv6 identity differ where no map names the subscriber.
    pub alias: Option<Client>,
    pub server: Address,
    pub port: u16,
    /// The server's name: from TLS or QUIC, else from the answer that gave its address.
    pub name: Option<&'a str>,
}

/// By which transports a client connected to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Winners {
    pub tcp: bool,
    pub quic: bool,
    /// By another transport or to another address than the attempt's own: what refuses the one says
    /// nothing of the other.
    pub another_way: bool,
}

impl Winners {
    pub fn any(self) -> bool {
        self.tcp || self.quic
    }
}

/// The seconds in which something happened.
#[derive(Debug, Clone, Copy, Default)]
struct Seconds {
    newest: u64,
    /// Bit n of these 128 stands for n seconds before the newest; the low half first, which packs
    /// them better than a u128.
    halves: [u64; 2],
}

impl Seconds {
    fn bits(&self) -> u128 {
        u128::from(self.halves[1]) << 64 | u128::from(self.halves[0])
    }

    fn add(&mut self, time_ns: u64) {
        let second = time_ns / SECOND_NS;
        let mut bits = self.bits();
        if bits == 0 || second > self.newest {
            bits = shifted(bits, second.saturating_sub(self.newest));
            self.newest = second;
        }
        bits |= shifted(1, self.newest - second);
        self.halves = [bits as u64, (bits >> 64) as u64];
    }

    /// Those of a span of at most 128 seconds: bit n stands for n seconds before its end.
    fn between(&self, from_ns: u64, to_ns: u64) -> u128 {
        let (from, to) = (from_ns / SECOND_NS, to_ns / SECOND_NS);
        // All bits where the span reaches beyond them.
        let span = shifted(1, (to + 1).saturating_sub(from)).wrapping_sub(1);
        let bits = if to >= self.newest {
            shifted(self.bits(), to - self.newest)
        } else {
            let later = u32::try_from(self.newest - to).unwrap_or(u32::MAX);
            self.bits().checked_shr(later).unwrap_or(0)
        };
        bits & span
    }
}

fn shifted(bits: u128, by: u64) -> u128 {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    bits.checked_shl(by).unwrap_or(0)
}

/// The last attempt that was said to have failed.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    start_ns: u64,
    /// A hash of address and transport.
    way: u64,
}

/// The seconds in which a client connected to a target by one transport.
#[derive(Debug, Clone, Copy)]
struct Won {
    /// To this very address.
    here: u128,
    /// To this name, at whatever address.
    by_name: u128,
}

/// The connections of all clients.
#[derive(Debug)]
pub struct Races {
    connected: Generations<u64, Seconds>,
    failed: Generations<u64, Said>,
    hasher: RandomState,
}

impl Races {
    /// `capacity` bounds the pairs of client and target of each of two generations.
    pub fn new(capacity: usize) -> Self {
        Self {
            connected: Generations::new(capacity, MEMORY_NS),
            failed: Generations::new(capacity, MEMORY_NS),
            hasher: RandomState::new(),
        }
    }

    /// Notes that the client is connected to the target.
    pub fn connected(&mut self, target: &Target<'_>, transport: Transport, now_ns: u64) {
        for key in self.keys(target, protocol_number(transport)) {
            if let Some(seconds) = self.connected.touch(key, now_ns, |_, _| true) {
                seconds.add(now_ns);
            }
        }
    }

    /// Which connections of the client to the target came up around an attempt by `transport`.
    pub fn winners(
        &self,
        target: &Target<'_>,
        transport: Transport,
        start_ns: u64,
        last_try_ns: u64,
    ) -> Winners {
        let mut from_ns = start_ns.saturating_sub(BEFORE_NS);
        if transport == Transport::Tcp {
            from_ns = from_ns.max(last_try_ns.saturating_sub(GIVEN_UP_NS));
        }
        let to_ns = last_try_ns.saturating_add(AFTER_NS);
        let won = |by: Transport| self.seconds(target, by, from_ns, to_ns);
        let (tcp, quic) = (won(Transport::Tcp), won(Transport::Udp));
        let (own, other) = if transport == Transport::Tcp {
            (tcp, quic)
        } else {
            (quic, tcp)
        };
        Winners {
            tcp: tcp.here | tcp.by_name != 0,
            quic: quic.here | quic.by_name != 0,
            another_way: other.here | other.by_name | (own.by_name & !own.here) != 0,
        }
    }

    fn seconds(&self, target: &Target<'_>, by: Transport, from_ns: u64, to_ns: u64) -> Won {
        let between = |key: u64| {
            let seconds = self.connected.get(&key);
            seconds.map_or(0, |seconds| seconds.between(from_ns, to_ns))
        };
        let mut keys = self.keys(target, protocol_number(by));
        Won {
            here: keys.next().map_or(0, between),
            by_name: keys.map(between).fold(0, |all, bits| all | bits),
        }
    }

    /// Notes a failed attempt; false if another way to the same target was said to have failed in
    /// the same try.
    pub fn is_first_failure(
        &mut self,
        target: &Target<'_>,
        transport: Transport,
        start_ns: u64,
        now_ns: u64,
    ) -> bool {
        const ANY_TRANSPORT: u8 = 0;
        let way = (target.server.0, protocol_number(transport));
        let way = self.hasher.hash_one(way);
        let is_same_try =
            |said: &Said| said.way != way && start_ns.abs_diff(said.start_ns) <= ONE_TRY_NS;
        let mut keys = self.keys(target, ANY_TRANSPORT);
        if keys.any(|key| self.failed.get(&key).is_some_and(is_same_try)) {
            return false;
        }
        for key in self.keys(target, ANY_TRANSPORT) {
            if let Some(said) = self.failed.touch(key, now_ns, |_, _| true) {
                *said = Said { start_ns, way };
            }
        }
        true
    }

    /// What the target is known by: client and address first, client and name, alias and name.
    fn keys(&self, target: &Target<'_>, transport: u8) -> impl Iterator<Item = u64> + use<> {
        let (client, port) = (target.client, target.port);
        let by_address = (client, target.server.0, port, transport);
        let by_name = |client: Client| {
            let name = target.name?;
            Some(self.hasher.hash_one((client, name, port, transport)))
        };
        let alias = target.alias.filter(|alias| *alias != client);
        let keys = [
            Some(self.hasher.hash_one(by_address)),
            by_name(client),
            alias.and_then(by_name),
        ];
        keys.into_iter().flatten()
    }

    /// Pairs that were forgotten before their time.
    pub fn shed(&self) -> u64 {
        self.connected.shed + self.failed.shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1_000 * SECOND_NS;
    const V4: Client = [4; 16];
    const V6: Client = [6; 16];

    fn target(client: Client, server: u128, name: Option<&str>) -> Target<'_> {
        Target {
            client,
            alias: None,
            server: Address(server),
            port: 443,
            name,
        }
    }

    fn races_with(winner: &Target<'_>, transport: Transport, at_ns: u64) -> Races {
        let mut races = Races::new(100);
        races.connected(winner, transport, at_ns);
        races
    }

    fn won_in(races: &Races, loser: &Target<'_>, start_ns: u64, last_ns: u64) -> bool {
        races
            .winners(loser, Transport::Tcp, start_ns, last_ns)
            .any()
    }

    #[test]
    fn who_tries_on_long_after_another_connection_came_up_is_not_racing_it() {
        let server = target(V4, 1, None);
        let races = races_with(&server, Transport::Tcp, START + SECOND_NS);
        assert!(won_in(&races, &server, START, START + 4 * SECOND_NS));
        assert!(!won_in(&races, &server, START, START + 7 * SECOND_NS));
        let quic = races.winners(&server, Transport::Udp, START, START + 7 * SECOND_NS);
        assert!(quic.tcp);
    }

    #[test]
    fn a_connection_to_the_same_name_wins_whatever_its_address() {
        let winner = target(V4, 1, Some("a.example"));
        let races = races_with(&winner, Transport::Tcp, START + SECOND_NS);
        let won = |loser| won_in(&races, &loser, START, START);
        assert!(won(target(V4, 2, Some("a.example"))));
        assert!(!won(target(V4, 2, Some("b.example"))));
        assert!(!won(target(V4, 2, None)));
        assert!(won(target(V4, 1, None)));
        assert!(!won(target(V6, 1, Some("a.example"))));
    }

    #[test]
    fn another_port_is_another_service() {
        let races = races_with(&target(V4, 1, Some("a")), Transport::Tcp, START);
        let other = Target {
            port: 80,
            ..target(V4, 1, Some("a"))
        };
        assert!(!won_in(&races, &other, START, START));
    }

    #[test]
    fn who_asked_for_the_name_links_both_families_of_a_client() {
        let races = races_with(&target(V4, 1, Some("a.example")), Transport::Tcp, START);
        let loser = Target {
            alias: Some(V4),
            ..target(V6, 2, Some("a.example"))
        };
        assert!(won_in(&races, &loser, START, START));
    }

    #[test]
    fn a_race_lasts_from_two_seconds_before_the_start_to_five_after_the_last_try() {
        let server = target(V4, 1, None);
        for (offset, won) in [(7, false), (8, true), (11, true), (16, true), (17, false)] {
            let races = races_with(&server, Transport::Tcp, START + offset * SECOND_NS);
            let (start, last) = (START + 10 * SECOND_NS, START + 11 * SECOND_NS);
            assert_eq!(won_in(&races, &server, start, last), won, "{offset}");
        }
    }

    #[test]
    fn a_winner_is_remembered_though_others_followed() {
        let server = target(V4, 1, None);
        let mut races = races_with(&server, Transport::Tcp, START);
        (20..120)
            .for_each(|later| races.connected(&server, Transport::Tcp, START + later * SECOND_NS));
        assert!(won_in(&races, &server, START, START));
        assert!(!won_in(
            &races,
            &server,
            START + 8 * SECOND_NS,
            START + 9 * SECOND_NS
        ));
    }

    #[test]
    fn what_refuses_says_nothing_of_another_address_or_transport() {
        let refused = target(V4, 1, Some("a.example"));
        let another_way = |winner: &Target<'_>, transport| {
            let races = races_with(winner, transport, START);
            let winners = races.winners(&refused, Transport::Tcp, START, START);
            assert!(winners.any());
            winners.another_way
        };
        assert!(!another_way(&refused, Transport::Tcp));
        assert!(another_way(&refused, Transport::Udp));
        assert!(another_way(
            &target(V4, 2, Some("a.example")),
            Transport::Tcp
        ));
    }

    #[test]
    fn transports_are_told_apart() {
        let races = races_with(&target(V4, 1, None), Transport::Udp, START);
        let winners = races.winners(&target(V4, 1, None), Transport::Tcp, START, START);
        assert_eq!((winners.tcp, winners.quic), (false, true));
    }

    #[test]
    fn where_every_way_fails_it_is_said_once() {
        let mut races = Races::new(100);
        let mut first = |server, start| {
            let target = target(V4, server, Some("a.example"));
            races.is_first_failure(&target, Transport::Tcp, start, START + 70 * SECOND_NS)
        };
        assert!(first(1, START));
        assert!(!first(2, START + SECOND_NS / 4));
        // The same way tried again is another try, and so is one much later.
        assert!(first(1, START + SECOND_NS));
        assert!(first(2, START + 30 * SECOND_NS));
    }

    proptest! {
        #[test]
        fn seconds_agree_with_a_list(times in prop::collection::vec(0u64..126, 1..20), from in 0u64..130, length in 0u64..100) {
            let mut seconds = Seconds::default();
            times.iter().for_each(|second| seconds.add(second * SECOND_NS));
            let expected = times.iter().any(|&second| (from..=from + length).contains(&second));
            let found = seconds.between(from * SECOND_NS, (from + length) * SECOND_NS);
            prop_assert_eq!(found != 0, expected);
        }

        #[test]
        fn any_times_are_taken(times: Vec<u64>, from: u64, to: u64) {
            let mut seconds = Seconds::default();
            times.iter().for_each(|&time| seconds.add(time));
            seconds.between(from, to);
        }
    }
}
