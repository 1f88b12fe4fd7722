//! Requests of the control plane and their answers: how long each took, and how it ended.

use std::collections::HashSet;

use crate::control::bearers::{Before, Context, ContextId};
use crate::control::message::{
    Cause, ControlEnd, Message, Phase, Procedure, Protocol, TunnelEnd, UeIds,
};
use crate::decap::Address;
use crate::keyed::{KeyedMap, KeyedSet};

const SECOND_NS: u64 = 1_000_000_000;
/// A request is unanswered after this time: three transmissions of GTP (T3-RESPONSE, N3-REQUESTS of TS
/// 29.274 7.6) at the values in use; RADIUS clients give up after about as long (RFC 2865 2.5).
const ANSWER_NS: u64 = 20 * SECOND_NS;

/// Who asked whom what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    protocol: Protocol,
    procedure: Procedure,
    requester: Address,
    responder: Address,
    sequence: u32,
    /// S1AP and NGAP number nothing: one procedure of a device at a time.
    device: UeIds,
}

impl Key {
    fn of(message: &Message, requester: Address, responder: Address) -> Self {
        let is_accounting = matches!(
            message.procedure,
            Procedure::AccountingStart
                | Procedure::AccountingInterim
                | Procedure::AccountingStop
                | Procedure::Reset
        ) && message.protocol == Protocol::Radius;
        Self {
            protocol: message.protocol,
            // An answer of RADIUS does not say again what is accounted.
            procedure: if is_accounting {
                Procedure::Accounting
            } else {
                message.procedure
            },
            requester,
            responder,
            sequence: message.sequence,
            device: if has_sequence(message) {
                UeIds::default()
            } else {
                identities(message)
            },
        }
    }
}

fn has_sequence(message: &Message) -> bool {
    !matches!(message.protocol, Protocol::S1ap | Protocol::Ngap)
}

/// The identities of a device that a request and its answer both name: the target of a handover gives
/// its own with its answer, a release may name the core's alone (TS 36.413 9.1.4.6, TS 38.413 9.2.2.5), and
/// the core's may become another with the path (TS 36.413 9.1.5.9, TS 38.413 9.2.3.9).
fn identities(message: &Message) -> UeIds {
    let UeIds { core, access } = message.ue_ids;
    match message.procedure {
        Procedure::HandoverAllocation | Procedure::ContextRelease => UeIds { core, access: None },
        Procedure::PathSwitch => UeIds { core: None, access },
        _ => UeIds { core, access },
    }
}

/// What a request is about, of which a repetition says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subject {
    procedure: Procedure,
    receiver_key: u64,
    sender_end: Option<ControlEnd>,
}

impl Subject {
    fn of(message: &Message) -> Self {
        Self {
            procedure: message.procedure,
            receiver_key: message.receiver_key,
            sender_end: message.sender_end,
        }
    }
}

#[derive(Debug, Clone)]
struct Pending {
    first_ns: u64,
    subject: Subject,
    retransmissions: u32,
    about: About,
}

/// What an answer needs to know of its request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Contexts that the request turned out to be about.
    pub contexts: Vec<ContextId>,
    /// A session is to go, but perhaps only here (TS 29.274 7.2.9.1): see [`Message::ends_everywhere`].
    pub is_left: bool,
    /// Tunnel ends that the request named.
    pub told: Vec<TunnelEnd>,
    /// Bearers that are to go.
    pub removed: Vec<u8>,
    /// What its contexts were before: a refusal leaves all as it was.
    pub before: Vec<(ContextId, Before)>,
    /// What the request itself said, where it is about no context that is kept.
    pub said: Option<Box<Context>>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub protocol: Protocol,
    pub procedure: Procedure,
    pub requester: Address,
    pub responder: Address,
    pub start_ns: u64,
    /// None if no answer came.
    pub answered_ns: Option<u64>,
    pub retransmissions: u32,
    pub cause: Option<Cause>,
    pub about: About,
    /// Nothing was ever heard of the responder towards the requester: silence says nothing.
    pub is_one_way: bool,
    /// By which an answer found its request.
    pub sequence: u32,
}

impl Transaction {
    /// What a node said unasked, and why: it has a cause and no answer.
    pub fn told(message: &Message, ends: [Address; 2], time_ns: u64) -> Self {
        let pending = Pending {
            first_ns: time_ns,
            subject: Subject::of(message),
            retransmissions: 0,
            about: About::default(),
        };
        Self {
            cause: message.cause,
            ..Key::of(message, ends[0], ends[1]).ended(&pending)
        }
    }
}

/// Requests under way. At most `limit`; further ones are not waited for, and counted.
#[derive(Debug)]
pub struct Transactions {
    pending: KeyedMap<Key, Pending>,
    /// Who was ever heard answering whom.
    heard: KeyedSet<(Address, Address)>,
    limit: usize,
    /// When the oldest is looked at next.
    next_look_ns: u64,
    pub shed: u64,
}

impl Transactions {
    pub fn new(limit: usize) -> Self {
        Self {
            pending: KeyedMap::default(),
            heard: HashSet::default(),
            limit,
            next_look_ns: 0,
            shed: 0,
        }
    }

    /// Takes in a request; returns whether it is the first of its kind, not a repetition. SCTP repeats
    /// nothing, and numbers are used again: another request takes the place of one whose answer was
    /// missed.
    pub fn on_request(&mut self, message: &Message, ends: [Address; 2], time_ns: u64) -> bool {
        let key = Key::of(message, ends[0], ends[1]);
        let subject = Subject::of(message);
        let is_full = self.pending.len() >= self.limit && !self.pending.contains_key(&key);
        let known = self.pending.get_mut(&key);
        if let Some(pending) = known.filter(|one| has_sequence(message) && one.subject == subject) {
            pending.retransmissions = pending.retransmissions.saturating_add(1);
            return false;
        }
        if is_full {
            self.shed += 1;
            return true;
        }
        let pending = Pending {
            first_ns: time_ns,
            subject,
            retransmissions: 0,
            about: About::default(),
        };
        self.pending.insert(key, pending);
        true
    }

    /// Says what a request turned out to be about.
    pub fn set_about(&mut self, message: &Message, ends: [Address; 2], about: About) {
        let key = Key::of(message, ends[0], ends[1]);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.about = about;
        }
    }

    /// Takes in an answer; None if its request was not seen, or was answered before.
    pub fn on_answer(
        &mut self,
        message: &Message,
        ends: [Address; 2],
        time_ns: u64,
    ) -> Option<Transaction> {
        debug_assert!(message.phase == Phase::Response);
        if self.heard.len() < self.limit {
            self.heard.insert((ends[0], ends[1]));
        }
        let key = Key::of(message, ends[1], ends[0]);
        let pending = self.pending.remove(&key)?;
        Some(Transaction {
            answered_ns: Some(time_ns),
            cause: cause_of(message),
            ..key.ended(&pending)
        })
    }

    /// Whether it is time to look for what waited for too long: asked for each packet, true once a
    /// second.
    #[inline]
    pub fn is_look_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_look_ns
    }

    /// Gives up what waited for too long, oldest first.
    pub fn take_unanswered(&mut self, now_ns: u64) -> Vec<Transaction> {
        if !self.is_look_due(now_ns) {
            return Vec::new();
        }
        self.next_look_ns = now_ns.saturating_add(SECOND_NS);
        let too_old =
            |_: &Key, pending: &mut Pending| now_ns.saturating_sub(pending.first_ns) >= ANSWER_NS;
        self.take(too_old)
    }

    fn take(&mut self, which: impl FnMut(&Key, &mut Pending) -> bool) -> Vec<Transaction> {
        let mut ended: Vec<(Key, Pending)> = self.pending.extract_if(which).collect();
        // The order in a hash table is nobody's business.
        ended.sort_by_key(|(key, pending)| (pending.first_ns, *key));
        let heard = |key: &Key| self.heard.contains(&(key.responder, key.requester));
        let all = ended.iter();
        all.map(|(key, pending)| Transaction {
            is_one_way: !heard(key),
            ..key.ended(pending)
        })
        .collect()
    }
}

/// Why an answer refuses, or that it accepts. NGAP, and S1AP for a set-up, say why of each session alone:
/// where none was agreed to, the first reason is the answer's.
pub fn cause_of(message: &Message) -> Option<Cause> {
    let is_told = |cause: &Cause| cause.number != 0;
    let refused = |cause: &Cause| !cause.accepted;
    let mut causes = message.bearers.iter().map(|bearer| bearer.cause);
    let all_refused = causes.all(|cause| cause.as_ref().is_some_and(refused));
    let mut each = message.bearers.iter().filter_map(|bearer| bearer.cause);
    let first = each.next().filter(|_| all_refused);
    message.cause.filter(is_told).or(first).or(message.cause)
}

impl Key {
    fn ended(&self, pending: &Pending) -> Transaction {
        Transaction {
            protocol: self.protocol,
            procedure: self.procedure,
            requester: self.requester,
            responder: self.responder,
            start_ns: pending.first_ns,
            answered_ns: None,
            retransmissions: pending.retransmissions,
            cause: None,
            about: pending.about.clone(),
            is_one_way: false,
            sequence: self.sequence,
        }
    }
}
