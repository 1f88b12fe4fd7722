//! Learns from messages of the control plane who and where the users of the data plane are.
//!
//! A message is tied to a context by the keys of its protocol, else by what it shares with others: a
//! tunnel end, the subscriber and access point, the device's address. What a request says counts from
//! then on, since packets may follow its answer at once; a refusal takes a new context back.

use std::sync::Arc;

use crate::control::bearers::{Bearers, Context, ContextId, Located, Pseudonym, UeKey};
use crate::control::message::{
    Bearer, BearerEnd, Cause, Change, ControlEnd, Identity, Location, MAX_RULES, Message, Phase,
    Procedure, Protocol, Role, RuleChange, TunnelEnd, UeAddresses,
};
use crate::control::recovery::Recoveries;
use crate::control::transactions::{About, Transaction, Transactions, cause_of};
use crate::decap::Address;
use crate::keyed::KeyedMap;
use crate::record::pseudonym::Pseudonyms;

/// Most contexts of one subscriber that are found by it: 11 bearers are of as many sessions at most.
const MAX_CONTEXTS: usize = 11;

/// Two identities of one person, of which the first leads to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub from: Pseudonym,
    pub to: Pseudonym,
    pub since_ns: u64,
}

/// What is found of a flow by the data that flows are looked up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataKey {
    Tunnel(TunnelEnd),
    Address(Address),
}

/// What a message changed: the flows found by these keys are to be looked up again.
#[derive(Debug, Default)]
pub struct Changes {
    pub keys: Vec<DataKey>,
    /// A request that has its answer, and whom it was about.
    pub ended: Option<(Transaction, Option<Context>)>,
}

/// The contexts, and what they are learned by.
#[derive(Debug)]
pub struct Learner {
    pub bearers: Bearers,
    transactions: Transactions,
    by_subscriber: KeyedMap<Pseudonym, Vec<ContextId>>,
    links: Vec<Link>,
    linked: KeyedMap<Pseudonym, Pseudonym>,
    pub(super) recoveries: Recoveries,
    limit: usize,
}

impl Learner {
    /// `limit`: contexts, requests under way, and links that are remembered.
    pub fn new(limit: usize) -> Self {
        Self {
            bearers: Bearers::new(limit),
            transactions: Transactions::new(limit),
            by_subscriber: KeyedMap::default(),
            links: Vec::new(),
            linked: KeyedMap::default(),
            recoveries: Recoveries::new(limit),
            limit,
        }
    }

    /// Links that were learned since the last call.
    pub fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }

    /// Whether there may be requests that nobody answered.
    #[inline]
    pub fn is_look_due(&self, now_ns: u64) -> bool {
        self.transactions.is_look_due(now_ns)
    }

    /// Requests that nobody answered, and whom they were about. A session that was asked for in vain
    /// is none.
    pub fn take_unanswered(&mut self, now_ns: u64) -> Vec<(Transaction, Option<Context>)> {
        let ended = self.transactions.take_unanswered(now_ns);
        let mut told = Vec::with_capacity(ended.len());
        for one in ended {
            let context = self.first_of(&one.about.contexts).or(said_of(&one.about));
            // Accounting says what is; its session does not wait for an answer.
            if one.procedure == Procedure::CreateSession {
                self.forget_unborn(&one.about, &mut Changes::default());
            }
            if one.procedure == Procedure::DeleteSession {
                self.forget_ending(&one.about);
            }
            told.push((one, context));
        }
        told
    }

    /// Sessions whose end was asked for have ended, whatever became of the answer.
    fn forget_ending(&mut self, about: &About) {
        for &id in &about.contexts {
            let context = self.bearers.get(id);
            if context.is_some_and(|context| context.is_ending) {
                self.forget(id, &mut Changes::default());
            }
        }
    }

    fn first_of(&self, contexts: &[ContextId]) -> Option<Context> {
        let mut alive = contexts.iter().filter_map(|&id| self.bearers.get(id));
        alive.next().cloned()
    }

    pub fn shed(&self) -> [(&'static str, u64); 2] {
        [
            ("bearers_shed", self.bearers.shed),
            ("transactions_shed", self.transactions.shed),
        ]
    }

    /// Takes in a message from `ends[0]` to `ends[1]`.
    pub fn on_message(
        &mut self,
        message: &Message,
        ends: [Address; 2],
        time_ns: u64,
        pseudonyms: &Pseudonyms,
    ) -> Changes {
        let said = Said {
            message,
            ends,
            time_ns,
            subscriber: subscriber_of(&message.identity, pseudonyms),
        };
        let mut changes = Changes::default();
        self.hear_recovery(&said, &mut changes);
        self.hear_reset(&said, &mut changes);
        match message.phase {
            Phase::Request => self.on_request(&said, &mut changes),
            Phase::Response => self.on_answer(&said, &mut changes),
            Phase::Indication => {
                let ids = self.contexts_of(&said);
                if is_radio_lost(message) {
                    let context = self.first_of(&ids);
                    changes.ended = Some((Transaction::told(message, ends, time_ns), context));
                }
                self.apply(ids, &said, &mut changes);
            }
        }
        self.learn_links(&said, pseudonyms);
        changes.keys.sort_unstable();
        changes.keys.dedup();
        changes
    }

    fn on_request(&mut self, said: &Said<'_>, changes: &mut Changes) {
        let message = said.message;
        if !self
            .transactions
            .on_request(message, said.ends, said.time_ns)
        {
            return;
        }
        let ids = self.contexts_of(said);
        let mut ids = self.without_ended(ids, said, changes);
        if message.procedure == Procedure::ContextSetup {
            // Each connection has one: the first message of the next was missed.
            ids = self.without_connection(ids, said, |context| context.is_set_up);
            self.take_keys_from_others(&ids, said);
        }
        let known = ids
            .iter()
            .filter_map(|&id| Some((id, self.bearers.get(id)?)));
        let before = known.map(|(id, context)| (id, context.before())).collect();
        let ids = match message.procedure {
            // What is asked for here counts once it is agreed to.
            Procedure::DeleteSession => {
                self.mark_ending(&ids, said);
                ids
            }
            Procedure::DeleteBearer | Procedure::ReleaseAccess => ids,
            // It cannot be refused (TS 36.413 8.3.3, TS 38.413 8.3.3).
            Procedure::ContextRelease => {
                self.end_connection(&ids, said, changes);
                ids
            }
            _ => self.apply(ids, said, changes),
        };
        let about = About {
            is_left: message.procedure == Procedure::DeleteSession && !message.ends_everywhere,
            told: said.ends_of_bearers().map(|end| end.end).collect(),
            removed: said.removed().chain(message.linked_bearer).collect(),
            before,
            said: ids.is_empty().then(|| Box::new(said.alone())),
            contexts: ids,
        };
        self.transactions.set_about(message, said.ends, about);
    }

    /// What is said of a session whose end was asked for is of the next one: the answer was missed.
    fn mark_ending(&mut self, ids: &[ContextId], said: &Said<'_>) {
        for &id in ids {
            if said.message.ends_everywhere
                || !self.bearers.has_left(id, said.message.protocol, said.ends)
            {
                self.bearers
                    .update(id, said.time_ns, |context| context.is_ending = true);
            }
        }
    }

    /// The core says for the first time what it calls a connection: who had that before has it no longer.
    fn take_keys_from_others(&mut self, ids: &[ContextId], said: &Said<'_>) {
        for key in said.ue_keys_of_owners() {
            for other in self.bearers.by_ue(key).to_vec() {
                if !ids.contains(&other) {
                    self.bearers.drop_ues(other, |known| *known == key);
                }
            }
        }
    }

    fn has_connection(&self, id: ContextId, said: &Said<'_>) -> bool {
        let keys = self.bearers.get(id).map_or(&[][..], Context::ue_keys);
        said.ue_keys().any(|key| keys.contains(&key))
    }

    /// Without those whose signalling connection is over, as its identities are another's.
    fn without_connection(
        &mut self,
        ids: Vec<ContextId>,
        said: &Said<'_>,
        which: impl Fn(&Context) -> bool,
    ) -> Vec<ContextId> {
        let is_over = |id: &ContextId| self.bearers.get(*id).is_some_and(&which);
        let (over, going_on): (Vec<_>, Vec<_>) = ids.into_iter().partition(is_over);
        let protocol = said.message.protocol;
        for id in over {
            self.bearers.drop_ues(id, |key| key.protocol == protocol);
        }
        going_on
    }

    fn release_access(&mut self, ids: &[ContextId], changes: &mut Changes) {
        for &id in ids {
            self.note_keys(id, changes);
            self.bearers.release_access(id);
        }
    }

    /// Those of the contexts that go on; the others' keys were given out anew.
    fn without_ended(
        &mut self,
        ids: Vec<ContextId>,
        said: &Said<'_>,
        changes: &mut Changes,
    ) -> Vec<ContextId> {
        let message = said.message;
        let is_of_next = match message.procedure {
            Procedure::CreateSession => true,
            Procedure::ModifySession => message.phase == Phase::Request,
            _ => false,
        };
        let has_ended = |id: &ContextId| {
            let context = self.bearers.get(*id);
            is_of_next && context.is_some_and(|context| context.is_ending)
        };
        let (ended, going_on): (Vec<_>, Vec<_>) = ids.into_iter().partition(has_ended);
        for id in ended {
            self.forget(id, changes);
        }
        going_on
    }

    fn on_answer(&mut self, said: &Said<'_>, changes: &mut Changes) {
        let ended = self
            .transactions
            .on_answer(said.message, said.ends, said.time_ns);
        let about = ended.as_ref().map(|ended| ended.about.clone());
        let about = about.unwrap_or_default();
        let mut ids = about.contexts.clone();
        ids.retain(|&id| self.bearers.get(id).is_some());
        if said.is_of_ran() {
            // Another connection has the identities by now, and the answer to the request was missed.
            ids.retain(|&id| self.has_connection(id, said));
        }
        if ids.is_empty() {
            ids = self.contexts_of(said);
            ids = self.without_ended(ids, said, changes);
        }
        if ended.is_none() && said.message.procedure == Procedure::ContextSetup {
            // The request was missed, and perhaps with it that another device has the connection.
            ids = self.without_connection(ids, said, |context| !context.is_set_up);
        }
        if ended.is_none() && said.message.procedure == Procedure::CreateSession {
            // The key was given to another, whose request was missed: this one's own has no answer yet.
            let is_asked_for = |context: &Context| context.is_asked_for;
            ids.retain(|&id| !self.bearers.get(id).is_some_and(is_asked_for));
            // Or had one, to a request of another number, and its end was missed.
            for id in ids
                .extract_if(.., |id| self.bearers.is_succeeded(*id, said.message))
                .collect::<Vec<_>>()
            {
                self.forget(id, changes);
            }
        }
        let is_unasked = ended.is_none();
        changes.ended = ended.map(|ended| {
            let context = self.first_of(&ids).or(said_of(&ended.about));
            (ended, context)
        });
        if cause_of(said.message).is_some_and(|cause| !cause.accepted) {
            if is_new_session(said.message.procedure) {
                self.forget_unborn(&about, changes);
            }
            for (id, before) in &about.before {
                self.bearers
                    .update(*id, said.time_ns, |context| context.is_ending = false);
                self.note_keys(*id, changes);
                self.bearers.restore(*id, before, &about.told, said.time_ns);
                self.note_keys(*id, changes);
            }
            return;
        }
        match said.message.procedure {
            Procedure::DeleteSession => {
                let [responder, requester] = said.ends;
                for id in ids {
                    let protocol = said.message.protocol;
                    if about.is_left && self.bearers.has_left(id, protocol, [requester, responder])
                    {
                        self.bearers.drop_controls(id, protocol, responder);
                    } else {
                        self.forget(id, changes);
                    }
                }
            }
            Procedure::AssociationRelease => {
                let [one, other] = said
                    .ends
                    .map(|node| self.bearers.kept_by(Protocol::Pfcp, node));
                for id in one.into_iter().filter(|id| other.contains(id)) {
                    self.forget(id, changes);
                }
            }
            Procedure::ContextRelease if changes.ended.is_none() => {
                self.end_connection(&ids, said, changes);
            }
            Procedure::ContextRelease => {}
            Procedure::DeleteBearer => {
                let removed = said.removed().chain(about.removed);
                self.remove_bearers(&ids, &removed.collect::<Vec<_>>(), changes);
            }
            _ => {
                let ids = self.apply(ids, said, changes);
                if is_unasked && said.message.procedure == Procedure::PathSwitch {
                    // Where to was missed, unless the core has told it.
                    let mut unknown = ids.clone();
                    let is_kept = |id: &ContextId| {
                        self.bearers.get(*id).is_some_and(Context::is_kept_by_core)
                    };
                    unknown.retain(|id| !is_kept(id));
                    self.release_access(&unknown, changes);
                }
                for &id in &ids {
                    self.bearers
                        .update(id, said.time_ns, |context| context.located.is_asked = false);
                }
                if said.message.procedure == Procedure::PathSwitch {
                    self.retire_access_keys(&ids, said);
                }
            }
        }
    }

    /// A node that has restarted has forgotten its sessions (TS 23.007 18 and 20).
    fn hear_recovery(&mut self, said: &Said<'_>, changes: &mut Changes) {
        let protocol = said.message.protocol;
        let node = said.ends[0];
        let has_restarted = match (protocol, said.message.recovery) {
            (Protocol::Radius, _) => {
                said.message.procedure == Procedure::Reset && said.message.phase == Phase::Request
            }
            (_, Some(counter)) => {
                let told_ns = said.time_ns;
                self.recoveries
                    .has_restarted(protocol, node, counter, told_ns)
            }
            (_, None) => false,
        };
        if has_restarted {
            for id in self.bearers.kept_by(protocol, node) {
                self.forget(id, changes);
            }
        }
    }

    /// Signalling connections end without a word of each: those that a Reset lists, or all of a base station
    /// (TS 36.413 8.7.1, TS 38.413 8.7.4), also where it sets its interface up anew (TS 36.413 8.7.3.1,
    /// TS 38.413 8.7.1.1). An Error Indication ends none (TS 36.413 8.7.2, TS 38.413 8.7.5).
    fn hear_reset(&mut self, said: &Said<'_>, changes: &mut Changes) {
        let message = said.message;
        let is_reset = matches!(message.procedure, Procedure::Reset | Procedure::Setup);
        if !said.is_of_ran() || !is_reset || message.phase != Phase::Request {
            return;
        }
        let ids = if message.connections.is_empty() {
            self.all_between(said.ends, message.protocol)
        } else {
            let listed = message.connections.iter();
            let found = listed.flat_map(|&ue_ids| {
                let alone = Message {
                    ue_ids,
                    ..Message::new(message.protocol, Procedure::Reset, Phase::Request)
                };
                let said = Said {
                    message: &alone,
                    ..*said
                };
                self.by_ue_keys(&said)
            });
            found.collect()
        };
        self.end_connection(&ids, said, changes);
    }

    /// All devices with a connection between a base station and the core: either may speak, and the core
    /// has others.
    fn all_between(&self, ends: [Address; 2], protocol: Protocol) -> Vec<ContextId> {
        let [one, other] = ends.map(|node| self.bearers.connected_by(protocol, node));
        let is_between = |id: &ContextId| {
            let known = self.bearers.get(*id).map_or(&[][..], Context::ue_keys);
            let mut of_access = known.iter().filter(|key| key.is_access());
            of_access.any(|key| key.protocol == protocol && ends.contains(&key.node))
        };
        let mut ids: Vec<ContextId> = one.into_iter().filter(is_between).collect();
        let others = other.into_iter().filter(is_between);
        ids.extend(others.filter(|id| !ids.contains(id)).collect::<Vec<_>>());
        ids
    }

    /// A signalling connection is over, and its identities are free. The sessions go on, idle.
    fn end_connection(&mut self, ids: &[ContextId], said: &Said<'_>, changes: &mut Changes) {
        let protocol = said.message.protocol;
        for &id in ids {
            self.note_keys(id, changes);
            self.bearers.release_access(id);
            self.bearers.drop_ues(id, |key| key.protocol == protocol);
            let is_empty = |context: &Context| context.is_connection_only();
            if self.bearers.get(id).is_some_and(is_empty) {
                self.forget(id, changes);
            }
        }
    }

    /// After a handover the device's identity at the base station before is free.
    fn retire_access_keys(&mut self, ids: &[ContextId], said: &Said<'_>) {
        let protocol = said.message.protocol;
        let present: Vec<UeKey> = said.ue_keys().filter(UeKey::is_access).collect();
        if present.is_empty() {
            return;
        }
        for &id in ids {
            let is_old =
                |key: &UeKey| key.protocol == protocol && key.is_access() && !present.contains(key);
            self.bearers.drop_ues(id, is_old);
        }
    }

    /// Does what a message says, for all contexts that it is about; of none it may make one.
    fn apply(
        &mut self,
        mut ids: Vec<ContextId>,
        said: &Said<'_>,
        changes: &mut Changes,
    ) -> Vec<ContextId> {
        let is_new = ids.is_empty() && said.is_worth_keeping();
        if is_new {
            ids.push(self.bearers.add(said.time_ns));
        }
        let asks = (Procedure::CreateSession, Phase::Request);
        let is_asked_for = is_new && (said.message.procedure, said.message.phase) == asks;
        let message = said.message;
        let begins = message.procedure == Procedure::CreateSession;
        let asked_by = begins.then_some((message.protocol, message.sequence));
        let before: Vec<Option<u64>> = ids.iter().map(|&id| self.revision_of(id)).collect();
        for &id in &ids {
            self.bearers.update(id, said.time_ns, |context| {
                context.is_asked_for = is_asked_for;
                context.is_set_up |= message.procedure == Procedure::ContextSetup;
                context.asked_by = asked_by.or(context.asked_by);
            });
        }
        for &id in &ids {
            self.learn(id, said, &ids, changes);
        }
        for (&id, before) in ids.iter().zip(before) {
            if self.revision_of(id) != before {
                self.note_keys(id, changes);
            }
        }
        match said.message.procedure {
            Procedure::AccountingStop => {
                ids.iter().for_each(|&id| self.forget(id, changes));
            }
            Procedure::HandoverNotify => self.retire_access_keys(&ids, said),
            Procedure::ReleaseAccess | Procedure::ContextRelease => {
                self.release_access(&ids, changes);
            }
            _ => {
                let removed: Vec<u8> = said.removed().collect();
                self.remove_bearers(&ids, &removed, changes);
            }
        }
        ids
    }

    /// Forgets the sessions that a request asked for and nothing else has told of.
    fn forget_unborn(&mut self, about: &About, changes: &mut Changes) {
        for &id in &about.contexts {
            let is_new = about.before.iter().all(|(known, _)| *known != id);
            let context = self.bearers.get(id);
            if is_new && context.is_some_and(|context| context.is_asked_for) {
                self.forget(id, changes);
            }
        }
    }

    /// The contexts that a message is about, as far as its keys tell: all sessions of a device where
    /// it names none of them.
    fn contexts_of(&mut self, said: &Said<'_>) -> Vec<ContextId> {
        if said.message.procedure == Procedure::InitialUe {
            return self.new_connection(said);
        }
        let mut found = self.by_keys(said);
        if said.is_of_ran() && !found.is_empty() {
            found = self.joined(found, said);
        }
        if found.is_empty() {
            let one = self
                .by_ends(said)
                .or_else(|| self.by_subscriber(said))
                .or_else(|| self.by_addresses(said));
            found.extend(one);
        }
        // Keys are used again: who says that it is another subscriber is another context.
        found.retain(|&id| {
            let known = self.bearers.get(id).and_then(|context| context.subscriber);
            known.is_none() || said.subscriber.is_none() || known == said.subscriber
        });
        found
    }

    /// A device begins a signalling connection: who had its identity before has it no longer.
    fn new_connection(&mut self, said: &Said<'_>) -> Vec<ContextId> {
        let keys: Vec<UeKey> = said.ue_keys_of_owners().collect();
        for key in keys {
            for id in self.bearers.by_ue(key).to_vec() {
                self.bearers.drop_ues(id, |known| *known == key);
            }
        }
        Vec::new()
    }

    /// A signalling connection, and the sessions of the core whose tunnels its messages name: the
    /// sessions learn who and where from the connection, which is them from now on.
    fn joined(&mut self, connection: Vec<ContextId>, said: &Said<'_>) -> Vec<ContextId> {
        let ends = said.message.bearers.iter().flat_map(|bearer| &bearer.ends);
        let core = ends.filter(|end| end.role == Role::Core);
        let mut owners: Vec<ContextId> = core
            .filter_map(|end| self.bearers.by_tunnel(end.end))
            .filter(|owner| !connection.contains(owner))
            .collect();
        owners.dedup();
        let Some(known) = connection
            .first()
            .and_then(|&id| self.bearers.get(id))
            .cloned()
        else {
            return connection;
        };
        owners.retain(|&owner| self.may_join(&known, owner));
        if owners.is_empty() {
            return connection;
        }
        for &owner in &owners {
            self.hand_over_facts(&known, owner, said.time_ns);
        }
        for id in connection {
            if self
                .bearers
                .get(id)
                .is_some_and(Context::is_connection_only)
            {
                self.bearers.remove(id);
            } else {
                owners.push(id);
            }
        }
        owners
    }

    /// Whether a session found by a tunnel end can be of a connection's device. An end is used again: a
    /// device that registers anew has none from before, unless the core has just made it.
    fn may_join(&self, connection: &Context, owner: ContextId) -> bool {
        let Some(session) = self.bearers.get(owner) else {
            return false;
        };
        match (connection.subscriber, session.subscriber) {
            (Some(one), Some(other)) => one == other,
            // Somebody had the end before, of whom nothing is to be learned.
            (Some(_), None) => session.is_kept_by_core(),
            _ => !connection.registered || session.is_kept_by_core(),
        }
    }

    fn hand_over_facts(&mut self, known: &Context, to: ContextId, time_ns: u64) {
        self.bearers.update(to, time_ns, |session| {
            session.subscriber = session.subscriber.or(known.subscriber);
            session.named_by = session.named_by.or(known.named_by);
            session.imei_tac = session.imei_tac.or(known.imei_tac);
            session.rat = session.rat.or(known.rat);
            if known.subscriber.is_some() || known.registered {
                // It has attached anew, and may have another address.
                session.forget_seen();
            }
            if known.located.by.is_some() && known.located.time_ns >= session.located.time_ns {
                session.located = known.located;
            }
        });
        for &key in known.ue_keys() {
            self.bearers.add_ue(to, key);
        }
        if let Some(subscriber) = known.subscriber {
            self.note_subscriber(to, subscriber);
        }
    }

    /// By the identities of the signalling connection. That at the base station was given out anew with
    /// the device's first message, while what is known of the other may be left from before; except
    /// where the device comes to another base station.
    fn by_ue_keys(&self, said: &Said<'_>) -> Vec<ContextId> {
        let of_kind = |access: bool| {
            let mut keys = said.ue_keys().filter(move |key| key.is_access() == access);
            let found = keys.find_map(|key| match self.bearers.by_ue(key) {
                [] => None,
                ids => Some(ids.to_vec()),
            });
            found.unwrap_or_default()
        };
        let (by_core, by_access) = (of_kind(false), of_kind(true));
        let both = by_core.iter().copied().filter(|id| by_access.contains(id));
        let both: Vec<ContextId> = both.collect();
        let procedure = said.message.procedure;
        let arrives = matches!(
            procedure,
            Procedure::PathSwitch | Procedure::HandoverAllocation | Procedure::HandoverNotify
        );
        let is_same = |id: &ContextId| !self.is_of_another_connection(*id, said);
        let by_access: Vec<ContextId> = by_access.into_iter().filter(is_same).collect();
        if !both.is_empty() {
            both
        } else if by_access.is_empty() || arrives {
            let mut found = by_core;
            found.retain(|id| arrives || is_same(id));
            if procedure == Procedure::ContextRelease && said.message.ue_ids.access.is_some() {
                // The base station that the device has left gives up its part.
                found.retain(|&id| {
                    let context = self.bearers.get(id);
                    !context.is_some_and(|one| one.ue_keys().iter().any(UeKey::is_access))
                });
            }
            found
        } else {
            by_access
        }
    }

    /// Whether a node that speaks has another identity for a context than the one it names: that one was
    /// given out anew, and the message that said so was missed.
    fn is_of_another_connection(&self, id: ContextId, said: &Said<'_>) -> bool {
        let known = self.bearers.get(id).map_or(&[][..], Context::ue_keys);
        let named: Vec<UeKey> = said.ue_keys().collect();
        let is_contradicted = |key: &UeKey| {
            let mut others = named.iter().filter(|other| other.is_of_same_node(key));
            !named.contains(key) && others.next().is_some()
        };
        known.iter().any(is_contradicted)
    }

    fn by_keys(&self, said: &Said<'_>) -> Vec<ContextId> {
        if said.is_of_ran() {
            return self.narrowed(&self.by_ue_keys(said), said);
        }
        let protocol = said.message.protocol;
        let ends = said.control_ends();
        let mut by_control = ends.map(|end| self.bearers.by_control(protocol, end));
        let found = by_control.find(|ids| !ids.is_empty()).unwrap_or_default();
        self.narrowed(found, said)
    }

    /// Those of a device's sessions that a message means: by access point where it asks for one, by the
    /// bearers it names, else all.
    fn narrowed(&self, ids: &[ContextId], said: &Said<'_>) -> Vec<ContextId> {
        let message = said.message;
        let alive = ids.iter().copied();
        let known = |id: &ContextId| self.bearers.get(*id);
        if is_new_session(message.procedure) && message.phase == Phase::Request {
            let same = |id: &ContextId| known(id).is_some_and(|one| one.apn == said.apn());
            return alive.filter(same).collect();
        }
        let named: Vec<u8> = message
            .linked_bearer
            .into_iter()
            .chain(said.bearer_ids())
            .collect();
        let has_one = |id: &ContextId| {
            known(id).is_some_and(|one| one.bearers.iter().any(|one| named.contains(&one.id)))
        };
        let narrowed: Vec<ContextId> = alive.clone().filter(has_one).collect();
        if narrowed.is_empty() {
            alive.filter(|id| known(id).is_some()).collect()
        } else {
            narrowed
        }
    }

    fn by_ends(&self, said: &Said<'_>) -> Option<ContextId> {
        let ends = said.message.bearers.iter().flat_map(|bearer| &bearer.ends);
        let lasting = ends.filter(|end| end.role != Role::Forwarding);
        let mut owners = lasting.filter_map(|end| self.bearers.by_tunnel(end.end));
        // The first message of its connection, which was missed, may have said that it is another's.
        let may_be_anothers = |id: &ContextId| {
            let context = self.bearers.get(*id);
            context.is_some_and(Context::may_have_ended)
        };
        owners.find(|id| !may_be_anothers(id))
    }

    /// The same subscriber's session to the same access point.
    fn by_subscriber(&self, said: &Said<'_>) -> Option<ContextId> {
        let ids = self.by_subscriber.get(&said.subscriber?)?;
        let apn = said.message.apn.as_deref()?;
        let is_it = |id: &&ContextId| {
            let context = self.bearers.get(**id);
            context.is_some_and(|context| context.apn.as_deref() == Some(apn))
        };
        ids.iter().rev().find(is_it).copied()
    }

    /// A session of the same address, where one of the two does not know its subscriber, or both
    /// know the same.
    fn by_addresses(&self, said: &Said<'_>) -> Option<ContextId> {
        let UeAddresses { v4, v6 } = said.message.ue;
        let addresses = [v4, v6.map(|(prefix, _)| prefix)];
        let found = addresses
            .into_iter()
            .flatten()
            .find_map(|address| self.bearers.at_address(address))?;
        let known = (&found.context.apn, &said.message.apn);
        let is_other = matches!(known, (Some(one), Some(other)) if **one != **other);
        (!is_other).then_some(found.id)
    }

    /// Takes over what a message says of a context.
    fn learn(
        &mut self,
        id: ContextId,
        said: &Said<'_>,
        among: &[ContextId],
        changes: &mut Changes,
    ) {
        if said.message.protocol == Protocol::Pfcp {
            // The roles of its tunnels were told by earlier messages, its own request among them.
            let mut settled = said.message.clone();
            self.bearers.update(id, said.time_ns, |context| {
                context.roles.settle(&mut settled)
            });
            let said = Said {
                message: &settled,
                ..*said
            };
            return self.take_over(id, &said, among, changes);
        }
        self.take_over(id, said, among, changes);
    }

    fn take_over(
        &mut self,
        id: ContextId,
        said: &Said<'_>,
        among: &[ContextId],
        changes: &mut Changes,
    ) {
        self.learn_keys(id, said, changes);
        self.learn_bearers(id, said, among, changes);
        self.learn_rules(id, said, changes);
        self.learn_facts(id, said);
    }

    fn revision_of(&self, id: ContextId) -> Option<u64> {
        self.bearers.get(id).map(Context::revision)
    }

    fn learn_keys(&mut self, id: ContextId, said: &Said<'_>, changes: &mut Changes) {
        let message = said.message;
        let known = self.bearers.get(id).and_then(|context| context.subscriber);
        let subscriber = said.subscriber.or(known);
        for end in said.control_ends() {
            self.bearers.add_control(id, message.protocol, end);
            // A node gives a key to another only after the end of who had it, which was missed.
            let others = subscriber.map(|one| self.bearers.others_of(one, message.protocol, end));
            for other in others.unwrap_or_default() {
                self.forget(other, changes);
            }
        }
        for key in said.ue_keys_of_owners() {
            self.bearers.add_ue(id, key);
        }
        let UeAddresses { v4, v6 } = message.ue;
        for address in [v4, v6.map(|(prefix, _)| prefix)].into_iter().flatten() {
            self.bearers.set_address(id, address);
        }
    }

    /// Whose a bearer is, of several sessions of a device that a message is about.
    fn owner_of(&self, bearer: &Bearer, among: &[ContextId]) -> Option<ContextId> {
        let mut ends = bearer.ends.iter();
        let by_end = ends.find_map(|end| self.bearers.by_tunnel(end.end));
        let has_it = |id: &ContextId| {
            let context = self.bearers.get(*id);
            context.is_some_and(|one| one.bearers.iter().any(|known| known.id == bearer.id))
        };
        by_end
            .filter(|owner| among.contains(owner))
            .or_else(|| among.iter().copied().find(has_it))
    }

    fn learn_bearers(
        &mut self,
        id: ContextId,
        said: &Said<'_>,
        among: &[ContextId],
        changes: &mut Changes,
    ) {
        for bearer in &said.message.bearers {
            if bearer.removed || bearer.cause.is_some_and(|cause| !cause.accepted) {
                continue;
            }
            if among.len() > 1
                && self
                    .owner_of(bearer, among)
                    .is_some_and(|owner| owner != id)
            {
                continue;
            }
            let ends = bearer.ends.iter();
            let ends = ends.filter(|end| end.role != Role::Forwarding);
            let new = ends
                .clone()
                .filter(|end| !self.bearers.has_end(id, bearer.id, **end));
            changes.keys.extend(new.map(|end| DataKey::Tunnel(end.end)));
            if is_unnumbered(said.message, bearer) {
                ends.for_each(|&end| self.bearers.ask(id, end, bearer.qos_class));
                continue;
            }
            self.bearers.add_bearer(id, bearer.id);
            for &end in ends {
                self.bearers.set_end(id, bearer.id, end, said.time_ns);
            }
            self.learn_class(id, bearer);
        }
    }

    fn learn_class(&mut self, id: ContextId, bearer: &Bearer) {
        let asked = || self.bearers.asked_class(id, &bearer.ends);
        if let Some(qos_class) = bearer.qos_class.or_else(asked) {
            self.bearers.set_qos_class(id, bearer.id, qos_class);
        }
        self.bearers.set_flows(id, bearer.id, &bearer.flows);
    }

    fn learn_facts(&mut self, id: ContextId, said: &Said<'_>) {
        let message = said.message;
        let protocol = message.protocol;
        self.bearers.update(id, said.time_ns, |context| {
            if let Some(subscriber) = said.subscriber {
                context.subscriber = Some(subscriber);
                context.named_by.get_or_insert(protocol);
            }
            let device = message.identity.imei.as_ref();
            let code = device.and_then(|imei| imei.type_allocation_code());
            context.imei_tac = code.or(context.imei_tac);
            context.rat = message.rat.or(context.rat);
            context.slice = message.slice.or(context.slice);
            if message.apn.is_some() && context.apn.as_deref() != message.apn.as_deref() {
                context.apn = said.apn();
            }
            context.registered =
                (context.registered || message.registers) && said.subscriber.is_none();
            locate(context, said);
        });
        if let Some(subscriber) = said.subscriber {
            self.note_subscriber(id, subscriber);
        }
    }

    /// Takes in that a context is a subscriber's.
    pub(super) fn note_subscriber(&mut self, id: ContextId, subscriber: Pseudonym) {
        let ids = self.by_subscriber.entry(subscriber).or_default();
        ids.retain(|known| *known != id && self.bearers.get(*known).is_some());
        ids.push(id);
        if ids.len() > MAX_CONTEXTS {
            ids.remove(0);
        }
        if self.by_subscriber.len() > 2 * self.limit {
            let bearers = &self.bearers;
            self.by_subscriber
                .retain(|_, ids| ids.iter().any(|id| bearers.get(*id).is_some()));
        }
    }

    /// All by which flows of a context are found: whatever changed may concern them all.
    fn note_keys(&self, id: ContextId, changes: &mut Changes) {
        if let Some(context) = self.bearers.get(id) {
            changes.keys.extend(keys_of(context));
        }
    }

    /// What changes of a session's rules (PFCP) does to its tunnels.
    fn learn_rules(&mut self, id: ContextId, said: &Said<'_>, changes: &mut Changes) {
        for &RuleChange { rule, change } in &said.message.rules {
            let context = self.bearers.get(id);
            let known = context.and_then(|context| {
                let mut rules = context.rules.iter();
                rules.find(|(one, _)| *one == rule).map(|(_, end)| *end)
            });
            match change {
                Change::Leads(end) => self.bearers.update(id, said.time_ns, |context| {
                    context.rules.retain(|(one, _)| *one != rule);
                    if context.rules.len() < MAX_RULES {
                        context.rules.push((rule, end));
                    }
                }),
                Change::Ends => {
                    let Some(known) = known else {
                        continue;
                    };
                    changes.keys.push(DataKey::Tunnel(known.end));
                    self.bearers.remove_end(id, known.end);
                }
                Change::Awaits(_) | Change::Moves(_) => {}
            }
        }
    }

    fn remove_bearers(&mut self, ids: &[ContextId], removed: &[u8], changes: &mut Changes) {
        if removed.is_empty() {
            return;
        }
        for &id in ids {
            self.note_keys(id, changes);
            for &bearer in removed {
                self.bearers.remove_bearer(id, bearer);
            }
            let is_empty = |context: &Context| context.bearers.is_empty();
            if self.bearers.get(id).is_some_and(is_empty) {
                self.forget(id, changes);
            }
        }
    }

    fn forget(&mut self, id: ContextId, changes: &mut Changes) {
        if let Some(context) = self.bearers.remove(id) {
            changes.keys.extend(keys_of(&context));
        }
    }

    /// No more packets come to a tunnel end that was given up.
    pub fn on_end_marker(&mut self, end: TunnelEnd) {
        self.bearers.on_end_marker(end);
    }

    /// The node at a tunnel end says that it does not know it (Error Indication, TS 29.281 7.3.1): the
    /// bearer has it no more. An end that was given up already waits on for its late packets.
    pub fn on_error_indication(&mut self, end: TunnelEnd) {
        if let Some(id) = self.bearers.by_tunnel(end) {
            self.bearers.remove_end(id, end);
        }
    }

    /// Both names of one person lead to the same history: MSISDN and address to the IMSI.
    fn learn_links(&mut self, said: &Said<'_>, pseudonyms: &Pseudonyms) {
        let (Some(imsi), Some(to)) = (&said.message.identity.imsi, said.subscriber) else {
            return;
        };
        debug_assert!(!imsi.as_str().is_empty());
        let msisdn = said.message.identity.msisdn.as_ref();
        let named = msisdn.map(|msisdn| pseudonyms.of_digits("msisdn:", msisdn.as_str()));
        let UeAddresses { v4, v6 } = said.message.ue;
        let addresses = [v4, v6.map(|(prefix, _)| prefix)];
        let addresses = addresses.into_iter().flatten();
        for from in named
            .into_iter()
            .chain(addresses.map(|one| pseudonyms.of_address(one)))
        {
            self.link(from, to, said.time_ns);
        }
    }

    fn link(&mut self, from: Pseudonym, to: Pseudonym, since_ns: u64) {
        if self.linked.get(&from) == Some(&to) || from == to {
            return;
        }
        if self.linked.len() >= self.limit {
            // Said again when they are heard of again.
            self.linked.clear();
        }
        self.linked.insert(from, to);
        self.links.push(Link { from, to, since_ns });
    }
}

/// A message, with where it goes and whom it names.
#[derive(Clone, Copy)]
struct Said<'a> {
    message: &'a Message,
    ends: [Address; 2],
    time_ns: u64,
    subscriber: Option<Pseudonym>,
}

impl Said<'_> {
    /// What the message says by itself of whom it is about.
    fn alone(&self) -> Context {
        let message = self.message;
        let device = message.identity.imei.as_ref();
        let mut context = Context {
            subscriber: self.subscriber,
            named_by: self.subscriber.map(|_| message.protocol),
            imei_tac: device.and_then(|imei| imei.type_allocation_code()),
            apn: self.apn(),
            rat: message.rat,
            slice: message.slice,
            ..Context::default()
        };
        locate(&mut context, self);
        context
    }

    /// Of a base station and the core: sessions are told by signalling connections.
    fn is_of_ran(&self) -> bool {
        matches!(self.message.protocol, Protocol::S1ap | Protocol::Ngap)
    }

    /// The session's keys at the receiver and at the sender.
    fn control_ends(&self) -> impl Iterator<Item = ControlEnd> + use<> {
        let receiver = (self.message.receiver_key != 0).then_some(ControlEnd {
            address: self.ends[1],
            key: self.message.receiver_key,
        });
        [receiver, self.message.sender_end].into_iter().flatten()
    }

    fn apn(&self) -> Option<Arc<str>> {
        self.message.apn.as_deref().map(Arc::from)
    }

    fn ends_of_bearers(&self) -> impl Iterator<Item = &BearerEnd> {
        self.message.bearers.iter().flat_map(|bearer| &bearer.ends)
    }

    fn bearer_ids(&self) -> impl Iterator<Item = u8> {
        self.message.bearers.iter().map(|bearer| bearer.id)
    }

    /// Bearers that go.
    fn removed(&self) -> impl Iterator<Item = u8> {
        let refused = |cause: Option<Cause>| cause.is_some_and(|cause| !cause.accepted);
        let gone = self.message.bearers.iter();
        gone.filter(move |bearer| bearer.removed && !refused(bearer.cause))
            .map(|bearer| bearer.id)
    }

    /// Identities of the signalling connection, at whichever end gave them.
    fn ue_keys(&self) -> impl Iterator<Item = UeKey> {
        let ids = [
            (self.message.ue_ids.core, 0),
            (self.message.ue_ids.access, 1),
        ];
        let (protocol, ends) = (self.message.protocol, self.ends);
        ids.into_iter().flat_map(move |(id, kind)| {
            ends.into_iter().filter_map(move |node| {
                Some(UeKey {
                    protocol,
                    node,
                    id: id? << 1 | kind,
                })
            })
        })
    }

    /// The same, each at the node that gave it: which of the two ends is the base station shows by
    /// the procedure; where it does not, both are kept.
    fn ue_keys_of_owners(&self) -> impl Iterator<Item = UeKey> {
        let sent_by_access = match (self.message.procedure, self.message.phase) {
            (Procedure::InitialUe | Procedure::PathSwitch, Phase::Indication | Phase::Request)
            | (Procedure::HandoverNotify, _) => Some(true),
            (Procedure::PathSwitch, Phase::Response) => Some(false),
            (
                Procedure::ContextSetup | Procedure::ResourceSetup | Procedure::HandoverAllocation,
                phase,
            ) => Some(phase == Phase::Response),
            _ => None,
        };
        let [source, _] = self.ends;
        self.ue_keys().filter(move |key| {
            let is_access_id = key.id & 1 == 1;
            match sent_by_access {
                Some(by_access) => (key.node == source) == (by_access == is_access_id),
                None => false,
            }
        })
    }

    /// A context needs something to be found by, and something to tell.
    fn is_worth_keeping(&self) -> bool {
        let message = self.message;
        let says = self.subscriber.is_some()
            || message.location.cell.is_some()
            || message.location.node.is_some()
            || message.apn.is_some();
        let is_start = !matches!(
            message.procedure,
            Procedure::DeleteSession | Procedure::DeleteBearer | Procedure::AccountingStop
        );
        let has_ends = message.bearers.iter().any(|bearer| !bearer.ends.is_empty());
        let has_keys = message.sender_end.is_some()
            || message.ue_ids.access.is_some()
            || message.ue.v4.is_some()
            || message.ue.v6.is_some();
        is_start && (says || has_ends) && (has_ends || has_keys)
    }
}

fn subscriber_of(identity: &Identity, pseudonyms: &Pseudonyms) -> Option<Pseudonym> {
    let imsi = identity.imsi.as_ref();
    let by_imsi = imsi.map(|imsi| pseudonyms.of_digits("imsi:", imsi.as_str()));
    let msisdn = identity.msisdn.as_ref();
    by_imsi.or_else(|| Some(pseudonyms.of_digits("msisdn:", msisdn?.as_str())))
}

/// A cell, area or node that a message says takes the place of what was known; what it leaves out is
/// kept only where it belongs to the same place.
fn locate(context: &mut Context, said: &Said<'_>) {
    let location = &said.message.location;
    if *location == Location::default() {
        return;
    }
    let known = context.located.location;
    let same_cell = location.cell.is_none() || location.cell == known.cell;
    let node = location.node.or(known.node.filter(|_| same_cell));
    context.located = Located {
        location: Location {
            cell: location
                .cell
                .or(known.cell.filter(|_| location.node.is_none())),
            area: location.area.or(known.area.filter(|_| same_cell)),
            node,
        },
        time_ns: said.time_ns,
        by: Some(said.message.protocol),
        is_asked: said.message.phase == Phase::Request,
    };
}

fn keys_of(context: &Context) -> impl Iterator<Item = DataKey> {
    let ends = context.bearers.iter().flat_map(|bearer| &bearer.ends);
    let tunnels = ends.map(|&BearerEnd { end, .. }| DataKey::Tunnel(end));
    let addresses = [context.v4, context.v6].into_iter().flatten();
    tunnels.chain(addresses.map(DataKey::Address))
}

fn said_of(about: &About) -> Option<Context> {
    about.said.as_deref().cloned()
}

/// Asked for with number 0, as the device's network gives it one in the answer.
fn is_unnumbered(message: &Message, bearer: &Bearer) -> bool {
    bearer.id == 0
        && message.procedure == Procedure::CreateBearer
        && message.phase == Phase::Request
}

/// A base station asks to release a device that it has lost (radio network cause 21 of TS 36.413 9.2.1.3
/// and of TS 38.413 9.3.1.2).
fn is_radio_lost(message: &Message) -> bool {
    const RADIO_CONNECTION_LOST: u16 = 1021;
    let is_lost = |cause: Cause| cause.number == RADIO_CONNECTION_LOST;
    message.procedure == Procedure::ContextRelease && message.cause.is_some_and(is_lost)
}

fn is_new_session(procedure: Procedure) -> bool {
    matches!(
        procedure,
        Procedure::CreateSession | Procedure::AccountingStart | Procedure::InitialUe
    )
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
