//! The sessions of all flows, those at rest among them (see `session::asleep`).
//!
//! To wake and to rest costs as much as a few packets, so it is done only where there are many flows,
//! and less and less readily with those that wake up again. No record depends on it.

use crate::engine::session::{Session, Sleeper};
use crate::engine::shared::Texts;
use crate::flow::{FlowId, FlowKey, Table};

/// So many sessions stay awake in any case.
const MOST_AWAKE: usize = 1 << 15;
/// A session that never woke again rests after so long a silence; it doubles with each waking. Longer
/// than the round trips of nearly all flows.
const PATIENCE_NS: u64 = 1_000_000_000;
const MOST_NAPS: u8 = 8;

/// A flow, awake or at rest.
#[derive(Debug)]
pub enum Flow {
    Awake(Box<Session>),
    Asleep(Sleeper),
    /// On its way from the one to the other: seen by nobody.
    Turning,
}

impl Flow {
    /// The session's identifier.
    pub fn id(&self) -> u64 {
        match self {
            Self::Awake(session) => session.id,
            Self::Asleep(sleeper) => sleeper.id(),
            Self::Turning => 0,
        }
    }

    /// When the last packet came.
    pub fn last_ns(&self) -> u64 {
        match self {
            Self::Awake(session) => session.last_ns,
            Self::Asleep(sleeper) => sleeper.last_ns(),
            Self::Turning => 0,
        }
    }

    /// When it began; of one at rest no later than this.
    pub fn start_ns(&self) -> u64 {
        match self {
            Self::Awake(session) => session.flow_start_ns,
            _ => self.last_ns(),
        }
    }

    /// None at rest is.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Awake(session) if session.is_closed())
    }

    /// See `Session::is_unproven`.
    pub fn is_unproven(&self) -> bool {
        match self {
            Self::Awake(session) => session.is_unproven(),
            Self::Asleep(sleeper) => sleeper.is_unproven(),
            Self::Turning => false,
        }
    }
}

/// All flows, by five-tuple. Bounded by its capacity; the caller evicts when it is full.
#[derive(Debug)]
pub struct Flows {
    table: Table<Flow>,
    awake: usize,
    /// When the intervals of all flows ended last.
    cut_ns: u64,
    texts: Texts,
    scratch: Vec<u8>,
}

impl Flows {
    /// See `Table::new`.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            table: Table::new(capacity, seed),
            awake: 0,
            cut_ns: 0,
            texts: Texts::default(),
            scratch: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.table.is_full()
    }

    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        self.table.find(key)
    }

    /// Adds a flow whose key is not in the table. The caller has made room (`is_full`).
    pub fn insert(&mut self, key: FlowKey, session: Session) -> FlowId {
        self.awake += 1;
        self.table.insert(key, Flow::Awake(Box::new(session)))
    }

    /// The session, if the flow still lives; it is awake then.
    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> Option<(&FlowKey, &mut Session)> {
        let (key, flow) = self.table.get_mut(id)?;
        if !matches!(flow, Flow::Awake(_)) {
            wake(flow, self.cut_ns);
            self.awake += 1;
        }
        match flow {
            Flow::Awake(session) => Some((key, session)),
            _ => None,
        }
    }

    pub fn remove(&mut self, id: FlowId) -> Option<(FlowKey, Box<Session>)> {
        let (key, flow) = self.table.remove(id)?;
        match flow {
            Flow::Awake(session) => {
                self.awake -= 1;
                Some((key, session))
            }
            Flow::Asleep(sleeper) => Some((key, woken(sleeper, self.cut_ns))),
            Flow::Turning => None,
        }
    }

    /// Every live flow, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &FlowKey, &Flow)> {
        self.table.iter()
    }

    /// The flow as it is, awake or not.
    pub fn peek(&self, id: FlowId) -> Option<&Flow> {
        self.table.get(id)
    }

    /// Chooses whom to evict: see `Table::victim`.
    pub fn victim<R: Ord>(&mut self, rank: impl Fn(&Flow) -> R) -> Option<FlowId> {
        self.table.victim(rank)
    }

    /// Bounds the table anew; see `Table::set_capacity`.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.table.set_capacity(capacity);
    }

    /// All intervals ended at `now_ns`, those of flows at rest without anything to tell among them.
    pub fn on_cut(&mut self, now_ns: u64) {
        self.cut_ns = now_ns;
    }

    /// Lets the flow rest again that was woken without a packet.
    pub fn doze(&mut self, id: FlowId, now_ns: u64) {
        if self.awake > MOST_AWAKE
            && let Some((_, flow)) = self.table.get_mut(id)
            && put_to_rest(flow, now_ns, &mut self.texts, &mut self.scratch)
        {
            self.awake -= 1;
        }
    }

    /// Lets all flows rest, be they silent or not.
    pub fn rest(&mut self, now_ns: u64) {
        for place in 0..self.table.places() {
            if let Some(flow) = self.table.at_mut(place)
                && put_to_rest(flow, now_ns, &mut self.texts, &mut self.scratch)
            {
                self.awake -= 1;
            }
        }
    }

    /// Lets flows rest that have been silent for a while. To be called each second.
    pub fn sweep(&mut self, now_ns: u64) {
        if self.awake <= MOST_AWAKE {
            return;
        }
        for place in 0..self.table.places() {
            if let Some(flow) = self.table.at_mut(place)
                && is_tired(flow, now_ns)
                && put_to_rest(flow, now_ns, &mut self.texts, &mut self.scratch)
            {
                self.awake -= 1;
            }
        }
    }
}

fn is_tired(flow: &Flow, now_ns: u64) -> bool {
    let Flow::Awake(session) = flow else {
        return false;
    };
    let patience_ns = PATIENCE_NS << session.naps.min(MOST_NAPS);
    now_ns.saturating_sub(session.last_ns) >= patience_ns && session.may_rest()
}

/// Whether it rests now, and did not before.
fn put_to_rest(flow: &mut Flow, now_ns: u64, texts: &mut Texts, scratch: &mut Vec<u8>) -> bool {
    let session = match std::mem::replace(flow, Flow::Turning) {
        Flow::Awake(session) if session.may_rest() => session,
        other => {
            *flow = other;
            return false;
        }
    };
    let is_long_ago = now_ns.saturating_sub(session.last_ns) >= PATIENCE_NS;
    *flow = match Sleeper::of_session(session, is_long_ago, texts, scratch) {
        Ok(sleeper) => Flow::Asleep(sleeper),
        Err(session) => Flow::Awake(session),
    };
    matches!(flow, Flow::Asleep(_))
}

#[cold]
#[inline(never)]
fn wake(flow: &mut Flow, cut_ns: u64) {
    if let Flow::Asleep(sleeper) = std::mem::replace(flow, Flow::Turning) {
        *flow = Flow::Awake(woken(sleeper, cut_ns));
    }
}

/// Empty intervals ended while it slept.
fn woken(sleeper: Sleeper, cut_ns: u64) -> Box<Session> {
    let has_counted = sleeper.has_counted();
    let mut session = sleeper.wake();
    if !has_counted {
        session.interval_start_ns = session.interval_start_ns.max(cut_ns);
    }
    session.naps = session.naps.saturating_add(1);
    session
}
