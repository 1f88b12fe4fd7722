//! Sessions at rest: a flow that is silent for a while is kept in a fifth of its room.
//!
//! Numbers are written short into one block with the few things that are shared or large already;
//! nothing that a record could tell is left out. The next packet, or the end of an interval in which
//! there was something, wakes the session.

use std::sync::Arc;

use super::{Path, SECOND_NS, Session};
use crate::engine::application::{Http, Protocol};
use crate::engine::aside::Aside;
use crate::engine::clients::Client;
use crate::engine::exchange::Farewell;
use crate::engine::failure::Failure;
use crate::engine::ping::Ping;
use crate::engine::place::Place;
use crate::engine::shared::Texts;
use crate::engine::tunnelled::Tunnelled;
use crate::flow::Direction;
use crate::flow::keeper::{Keeper, Reader, Writer, loosen, squeeze};
use crate::tcp::Recovery;

/// What is no number.
#[derive(Debug)]
struct Head {
    place: Arc<Place>,
    /// By which both directions come, or the one that was seen.
    path: Option<Arc<Path>>,
    protocol: Protocol,
    ties: Option<Box<Ties>>,
    rare: Option<Box<Rare>>,
}

/// What flows in tunnels have, and those whose server is known by DNS alone.
#[derive(Debug, Default)]
struct Ties {
    name_from_dns: Option<Arc<str>>,
    encapsulation: Option<Arc<str>>,
    /// If they are two.
    paths: [Option<Arc<Path>>; 2],
}

/// What most sessions have none of.
#[derive(Debug, Default)]
struct Rare {
    ping: Option<Box<Ping>>,
    tunnelled: Option<Box<Tunnelled>>,
    failure: Option<Box<Failure>>,
    refused: Option<Box<Failure>>,
    alias: Option<Box<Client>>,
    aside: Option<Box<Aside>>,
    farewell: Option<Box<Farewell>>,
    recoveries: [Option<Box<Recovery>>; 2],
    before: Option<Box<Http>>,
}

/// A session at rest.
#[derive(Debug)]
struct Asleep<const N: usize> {
    head: Head,
    /// It has something to tell in the interval under way.
    has_counted: bool,
    /// The flow may be an attempt to connect that nobody has answered.
    is_opening: bool,
    /// See `Session::is_unproven`.
    is_unproven: bool,
    numbers: [u8; N],
}

/// Where the numbers stand that are asked for in sleep.
mod place_of {
    use std::ops::Range;

    pub const ID: Range<usize> = 0..8;
    pub const LAST: Range<usize> = 8..16;
}

/// One block size for each 16 bytes, as allocators have them.
macro_rules! sizes {
    ($($name:ident $bytes:literal)+) => {
        /// A session at rest, in the smallest block that holds it.
        #[derive(Debug)]
        pub struct Sleeper(Size);

        #[derive(Debug)]
        enum Size { $($name(Box<Asleep<$bytes>>)),+ }

        impl Sleeper {
            const LARGEST: usize = [$($bytes),+][[$($bytes),+].len() - 1];

            fn of(
                head: Head,
                [has_counted, is_opening, is_unproven]: [bool; 3],
                written: &[u8],
            ) -> Self {
                $(if written.len() <= $bytes || $bytes == Self::LARGEST {
                    let mut numbers = [0; $bytes];
                    numbers[..written.len()].copy_from_slice(written);
                    let asleep = Asleep { head, has_counted, is_opening, is_unproven, numbers };
                    return Self(Size::$name(Box::new(asleep)));
                })+
                unreachable!("the largest size takes all")
            }

            fn open(self) -> Box<Session> {
                match self.0 { $(Size::$name(asleep) => {
                    let Asleep { head, numbers, .. } = *asleep;
                    Session::restored(head, &numbers)
                })+ }
            }

            fn numbers(&self) -> &[u8] {
                match &self.0 { $(Size::$name(asleep) => &asleep.numbers),+ }
            }

            /// It has something to tell in the interval under way.
            pub fn has_counted(&self) -> bool {
                match &self.0 { $(Size::$name(asleep) => asleep.has_counted),+ }
            }

            /// See `Session::is_unproven`.
            pub fn is_unproven(&self) -> bool {
                match &self.0 { $(Size::$name(asleep) => asleep.is_unproven),+ }
            }

            /// The flow may be an attempt to connect that nobody has answered.
            pub fn is_opening(&self) -> bool {
                match &self.0 { $(Size::$name(asleep) => asleep.is_opening),+ }
            }
        }
    };
}

sizes! {
    S53 53 S69 69 S85 85 S101 101 S117 117 S133 133 S149 149 S165 165 S181 181 S197 197 S213 213
    S229 229 S245 245 S261 261 S277 277 S293 293 S309 309 S325 325 S357 357 S389 389 S421 421
    S485 485 S549 549 S677 677
}

impl Sleeper {
    /// Puts a session to rest; gives it back if it is larger than any that was ever seen.
    /// `is_long_ago`: its last packet came more than a round trip ago.
    pub fn of_session(
        mut session: Box<Session>,
        is_long_ago: bool,
        texts: &mut Texts,
        scratch: &mut Vec<u8>,
    ) -> Result<Self, Box<Session>> {
        scratch.clear();
        session.keep(&mut Writer(scratch), is_long_ago);
        squeeze(scratch, place_of::LAST.end);
        if scratch.len() > Self::LARGEST {
            // What writing has changed is what does not matter any more.
            return Err(session);
        }
        session.application.share(texts);
        if session.application.server_name().is_some() {
            // It has a name of its own for good.
            session.name_from_dns = None;
        }
        let marks = [
            !session.is_interval_empty(),
            session.is_opening(),
            session.is_unproven(),
        ];
        Ok(Self::of(session.take_head(), marks, scratch))
    }

    pub fn wake(self) -> Box<Session> {
        self.open()
    }

    fn long(&self, range: std::ops::Range<usize>) -> u64 {
        let bytes = self.numbers().get(range).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }

    /// The session's identifier.
    pub fn id(&self) -> u64 {
        self.long(place_of::ID)
    }

    /// When the last packet came.
    pub fn last_ns(&self) -> u64 {
        self.long(place_of::LAST)
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.ping.is_none()
            && self.tunnelled.is_none()
            && self.failure.is_none()
            && self.refused.is_none()
            && self.alias.is_none()
            && self.aside.is_none()
            && self.farewell.is_none()
            && self.recoveries.iter().all(Option::is_none)
            && self.before.is_none()
    }
}

impl Session {
    /// Whether it may rest: a session that is closed ends soon.
    pub fn may_rest(&self) -> bool {
        !self.is_closed()
    }

    /// Opened by a SYN, and not established.
    fn is_opening(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.handshake.first_syn_ns.is_some() && !connection.is_established()
        })
    }

    fn take_head(&mut self) -> Head {
        let (protocol, before) = self.application.protocol_mut();
        let (protocol, before) = (std::mem::take(protocol), before.take());
        let recoveries = match &mut self.connection {
            Some(connection) => connection.recoveries_mut().map(Option::take),
            None => [None, None],
        };
        let rare = Rare {
            ping: self.ping.take(),
            tunnelled: self.tunnelled.take(),
            failure: self.failure.take(),
            refused: self.refused.take(),
            alias: self.alias.take(),
            aside: self.aside.take(),
            farewell: self.exchange.farewell_mut().take(),
            recoveries,
            before,
        };
        let (path, ties) = self.take_ties();
        Head {
            place: Arc::clone(&self.place),
            path,
            protocol,
            ties,
            rare: (!rare.is_empty()).then(|| Box::new(rare)),
        }
    }

    fn take_ties(&mut self) -> (Option<Arc<Path>>, Option<Box<Ties>>) {
        let (path, paths) = match std::mem::take(&mut self.paths) {
            [Some(one), Some(other)] if one != other => (None, [Some(one), Some(other)]),
            [one, other] => (one.or(other), [None, None]),
        };
        let ties = Ties {
            name_from_dns: self.name_from_dns.take(),
            encapsulation: self.encapsulation.take(),
            paths,
        };
        let is_tied =
            ties.name_from_dns.is_some() || ties.encapsulation.is_some() || ties.paths[0].is_some();
        (path, is_tied.then(|| Box::new(ties)))
    }

    fn restored(head: Head, numbers: &[u8]) -> Box<Self> {
        let mut session = Box::new(Self::new(0, 0, Direction::Forward, head.place));
        *session.application.protocol_mut().0 = head.protocol;
        // The flags say which of the directions come by it.
        session.paths = [head.path.clone(), head.path];
        let numbers = loosen(numbers, place_of::LAST.end);
        session.keep(&mut Reader(&numbers), false);
        if let Some(ties) = head.ties {
            session.name_from_dns = ties.name_from_dns;
            session.encapsulation = ties.encapsulation;
            if ties.paths[0].is_some() {
                session.paths = ties.paths;
            }
        }
        if let Some(rare) = head.rare {
            session.give_back(*rare);
        }
        session
    }

    #[cold]
    fn give_back(&mut self, rare: Rare) {
        self.ping = rare.ping;
        self.tunnelled = rare.tunnelled;
        self.failure = rare.failure;
        self.refused = rare.refused;
        self.alias = rare.alias;
        self.aside = rare.aside;
        *self.exchange.farewell_mut() = rare.farewell;
        *self.application.protocol_mut().1 = rare.before;
        if let Some(connection) = &mut self.connection {
            for (place, known) in connection.recoveries_mut().into_iter().zip(rare.recoveries) {
                *place = known;
            }
        }
    }

    /// Keeps all numbers, or gives them back.
    fn keep(&mut self, keeper: &mut impl Keeper, is_long_ago: bool) {
        keeper.long(&mut self.id);
        keeper.long(&mut self.last_ns);
        let last_ns = self.last_ns;
        keeper.time(last_ns, &mut self.flow_start_ns);
        let mut is_long_ago = is_long_ago;
        let mut is_tcp = self.connection.is_some();
        let mut is_reverse = self.up == Direction::Reverse;
        let mut has_qfi = self.qfi.is_some();
        let [seen_forward, seen_reverse] = &mut self.seen;
        let [mut by_path, mut back_by_path] = self.paths.each_ref().map(Option::is_some);
        keeper.bits([
            &mut is_long_ago,
            &mut is_tcp,
            &mut is_reverse,
            &mut has_qfi,
            seen_forward,
            seen_reverse,
            &mut self.is_unsettled,
            &mut self.missed_start,
            &mut self.truncated,
            &mut self.is_scan,
            &mut self.news.connected,
            &mut self.news.named,
            &mut self.news.in_vain,
            &mut self.verdict_given,
            &mut self.setup_reported,
            &mut by_path,
        ]);
        let mut is_opened = self.initiator == Some(Direction::Forward);
        let mut is_opened_back = self.initiator == Some(Direction::Reverse);
        keeper.bits([
            &mut back_by_path,
            &mut is_opened,
            &mut is_opened_back,
            &mut self.exchange.spoken_after_farewell,
            &mut self.exchange.answered,
        ]);
        self.initiator = match (is_opened, is_opened_back) {
            (true, _) => Some(Direction::Forward),
            (_, true) => Some(Direction::Reverse),
            _ => None,
        };
        for (path, is_here) in self.paths.iter_mut().zip([by_path, back_by_path]) {
            path.take_if(|_| !is_here);
        }
        if is_reverse {
            self.up = Direction::Reverse;
        }
        if has_qfi {
            keeper.byte(self.qfi.get_or_insert_default());
        }
        keeper.byte(&mut self.naps);
        keeper.tick(last_ns, &mut self.interval_start_ns);
        keeper.small(&mut self.interval_index);
        self.notes.keep(keeper);
        keeper.time(last_ns, &mut self.noted_reached_ns);
        let mut timer_s = self.timer_ns / SECOND_NS;
        keeper.time(last_ns / SECOND_NS, &mut timer_s);
        self.timer_ns = timer_s * SECOND_NS;
        self.application.keep(keeper, last_ns);
        for volume in &mut self.volumes {
            volume.keep(keeper, last_ns);
        }
        if is_tcp {
            self.exchange.keep(keeper, self.flow_start_ns, last_ns);
            let connection = self.connection.get_or_insert_default();
            connection.keep(keeper, last_ns, is_long_ago, self.setup_reported);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flows::Flow;
    use crate::flow::Table;

    /// What a million flows take follows from these: whoever adds a field sees what it costs.
    #[test]
    fn states_are_as_small_as_they_are_said_to_be() {
        assert_eq!(Table::<Flow>::SLOT_BYTES, 64, "one cache line");
        assert_eq!(size_of::<Head>(), 48, "it stands before the numbers");
        assert_eq!(
            size_of::<Asleep<133>>(),
            184,
            "with the allocator's 8 bytes a block of 192"
        );
        assert!(size_of::<Session>() <= 440, "{}", size_of::<Session>());
        let connection = size_of::<crate::tcp::Connection>();
        assert!(connection <= 856, "{connection}");
    }
}
