//! Sessions at rest: a flow that is silent for a while is kept in a fifth of its room.
//!
//! Numbers are written short into one block with the few things that are shared or large already;
//! nothing that a record could tell is left out. The next packet, or the end of an interval in which
//! there was something, wakes the session.

use std::sync::Arc;

use super::{Path, Session};
use crate::engine::application::{Http, Protocol};
use crate::engine::clients::Client;
use crate::engine::exchange::Farewell;
use crate::engine::failure::Failure;
use crate::engine::ping::Ping;
use crate::engine::place::Place;
use crate::engine::shared::Texts;
use crate::engine::tunnelled::Tunnelled;
use crate::flow::Direction;
use crate::flow::keeper::{Keeper, Reader, Writer};
use crate::tcp::Recovery;

/// What is no number.
#[derive(Debug)]
struct Head {
    place: Arc<Place>,
    name_from_dns: Option<Arc<str>>,
    paths: [Option<Arc<Path>>; 2],
    protocol: Protocol,
    rare: Option<Box<Rare>>,
}

/// What most sessions have none of.
#[derive(Debug, Default)]
struct Rare {
    ping: Option<Box<Ping>>,
    tunnelled: Option<Box<Tunnelled>>,
    failure: Option<Box<Failure>>,
    refused: Option<Box<Failure>>,
    alias: Option<Box<Client>>,
    encapsulation: Option<Arc<str>>,
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
    numbers: [u8; N],
}

/// Where the numbers stand that are asked for in sleep.
mod place_of {
    use std::ops::Range;

    pub const ID: Range<usize> = 0..8;
    pub const FLOW_START: Range<usize> = 8..16;
    pub const LAST: Range<usize> = 16..24;
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

            fn of(head: Head, has_counted: bool, is_opening: bool, written: &[u8]) -> Self {
                $(if written.len() <= $bytes || $bytes == Self::LARGEST {
                    let mut numbers = [0; $bytes];
                    numbers[..written.len()].copy_from_slice(written);
                    let asleep = Asleep { head, has_counted, is_opening, numbers };
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

            /// The flow may be an attempt to connect that nobody has answered.
            pub fn is_opening(&self) -> bool {
                match &self.0 { $(Size::$name(asleep) => asleep.is_opening),+ }
            }
        }
    };
}

sizes! {
    S54 54 S70 70 S86 86 S102 102 S118 118 S134 134 S150 150 S166 166 S182 182 S198 198 S214 214
    S230 230 S246 246 S262 262 S278 278 S294 294 S310 310 S326 326 S358 358 S390 390 S422 422
    S486 486 S550 550 S678 678
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
        if scratch.len() > Self::LARGEST {
            // What writing has changed is what does not matter any more.
            return Err(session);
        }
        session.application.share(texts);
        let (has_counted, is_opening) = (!session.is_interval_empty(), session.is_opening());
        let head = session.take_head();
        Ok(Self::of(head, has_counted, is_opening, scratch))
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

    pub fn flow_start_ns(&self) -> u64 {
        self.long(place_of::FLOW_START)
    }

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
            && self.encapsulation.is_none()
            && self.farewell.is_none()
            && self.recoveries.iter().all(Option::is_none)
            && self.before.is_none()
    }
}

impl Session {
    /// Whether it may rest: a session that was reset ends soon.
    pub fn may_rest(&self) -> bool {
        self.connection
            .as_ref()
            .is_none_or(|connection| connection.reset.is_none())
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
            encapsulation: self.encapsulation.take(),
            farewell: self.exchange.farewell_mut().take(),
            recoveries,
            before,
        };
        Head {
            place: Arc::clone(&self.place),
            name_from_dns: self.name_from_dns.take(),
            paths: std::mem::take(&mut self.paths),
            protocol,
            rare: (!rare.is_empty()).then(|| Box::new(rare)),
        }
    }

    fn restored(head: Head, numbers: &[u8]) -> Box<Self> {
        let mut session = Box::new(Self::new(0, 0, Direction::Forward, head.place));
        session.keep(&mut Reader(numbers), false);
        session.name_from_dns = head.name_from_dns;
        session.paths = head.paths;
        *session.application.protocol_mut().0 = head.protocol;
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
        self.encapsulation = rare.encapsulation;
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
        keeper.long(&mut self.flow_start_ns);
        keeper.long(&mut self.last_ns);
        let last_ns = self.last_ns;
        let mut is_long_ago = is_long_ago;
        let mut is_tcp = self.connection.is_some();
        let mut is_reverse = self.up == Direction::Reverse;
        let mut has_qfi = self.qfi.is_some();
        let [seen_forward, seen_reverse] = &mut self.seen;
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
        ]);
        if is_reverse {
            self.up = Direction::Reverse;
        }
        keeper.direction(&mut self.initiator);
        if has_qfi {
            keeper.byte(self.qfi.get_or_insert_default());
        }
        keeper.byte(&mut self.naps);
        keeper.time(last_ns, &mut self.interval_start_ns);
        keeper.small(&mut self.interval_index);
        self.notes.keep(keeper);
        keeper.time(last_ns, &mut self.noted_reached_ns);
        keeper.time(last_ns, &mut self.timer_ns);
        self.application.keep(keeper, last_ns);
        for volume in &mut self.volumes {
            volume.keep(keeper, last_ns);
        }
        if is_tcp {
            self.exchange.keep(keeper, last_ns);
            let connection = self.connection.get_or_insert_default();
            connection.keep(keeper, last_ns, is_long_ago);
        }
    }
}
