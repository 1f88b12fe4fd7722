//! Who and where: what is known of the mobile network's sessions, found by tunnel end or by address.
//!
//! A *context* is one session of one subscriber (PDN connection, PDP context, PDU session). Messages of
//! different interfaces speak of the same context by different keys, and share a tunnel end, an
//! address or an identity by which they are put together. All of it is bounded by `limits.bearers`;
//! the context that was not heard of for the longest time goes first, and is counted.

use std::sync::Arc;

use crate::control::identity::{Rat, Slice};
use crate::control::message::{
    BearerEnd, ControlEnd, Location, MAX_BEARERS, MAX_ENDS, MAX_FLOWS, Message, Protocol, QosFlow,
    Role, Rule, TunnelEnd,
};
use crate::control::pfcp::Roles;
use crate::decap::Address;
use crate::keyed::KeyedMap;

const SECOND_NS: u64 = 1_000_000_000;
/// How long the old end of a tunnel is remembered after a handover: what was under way still arrives
/// there, up to an End Marker (TS 29.281 7.3.2).
const HANDED_OVER_NS: u64 = 10 * SECOND_NS;

/// A context's place in the table, and which of those that had this place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextId {
    index: u32,
    generation: u32,
}

impl ContextId {
    /// Of the table: another one for each context that there is, but used again.
    pub fn slot(self) -> usize {
        self.index as usize
    }
}

/// Pseudonyms; the identities themselves are never kept.
pub type Pseudonym = [u8; 16];

/// Where a context was said to be, when and by whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Located {
    pub location: Location,
    pub time_ns: u64,
    pub by: Option<Protocol>,
    /// By a request that may be refused yet.
    pub is_asked: bool,
}

/// One bearer of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownBearer {
    pub id: u8,
    /// [`MAX_ENDS`] at most.
    pub ends: Vec<BearerEnd>,
    /// QCI of an EPS bearer, 5QI of a PDU session with one QoS flow.
    pub qos_class: Option<u8>,
    /// QoS flows of a PDU session and their 5QI, [`MAX_FLOWS`] at most.
    pub flows: Vec<(u8, u8)>,
    /// From which addresses packets came up (IPv6: /64), [`MAX_SEEN`] at most.
    pub(super) seen: Vec<Address>,
}

/// Most addresses of a device that packets show; of IPv6 it may have been delegated many (RFC 8415 6.3).
const MAX_SEEN: usize = 8;

impl KnownBearer {
    fn class_of_flow(&self, qfi: u8) -> Option<u8> {
        let mut flows = self.flows.iter();
        flows.find(|(id, _)| *id == qfi).map(|&(_, class)| class)
    }
}

/// What is known of one session of a subscriber.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub subscriber: Option<Pseudonym>,
    /// Which protocol named the subscriber.
    pub named_by: Option<Protocol>,
    pub imei_tac: Option<[u8; 8]>,
    pub apn: Option<Arc<str>>,
    pub rat: Option<Rat>,
    pub slice: Option<Slice>,
    pub located: Located,
    pub v4: Option<Address>,
    /// First address of the /64, or of the longer prefix.
    pub v6: Option<Address>,
    /// [`MAX_BEARERS`] at most.
    pub bearers: Vec<KnownBearer>,
    /// Ends that were given up at handovers.
    pub(super) handed_over: Vec<TunnelEnd>,
    /// The gateway's ends of bearers that were asked for before they had a number, and their class;
    /// [`MAX_BEARERS`] at most.
    pub(super) asked: Vec<(TunnelEnd, Option<u8>)>,
    /// What its rules are for (PFCP).
    pub roles: Roles,
    /// The tunnel ends that its rules lead to.
    pub rules: Vec<(Rule, BearerEnd)>,
    /// The base station that the device has left, where it was there, and until when that counts.
    pub(super) left: Option<(Address, Located, u64)>,
    /// Began with a registration whose subscriber is not known.
    pub registered: bool,
    pub(super) controls: Vec<(Protocol, ControlEnd)>,
    pub(super) ue_keys: Vec<UeKey>,
    /// Its signalling connection has been given a context: that happens once.
    pub(super) is_set_up: bool,
    /// Its signalling connection is over.
    pub(super) is_disconnected: bool,
    /// It began with a request for it.
    pub is_asked_for: bool,
    /// By which number the protocol asked for it last; of each request another one.
    pub(super) asked_by: Option<(Protocol, u32)>,
    /// Its end was asked for.
    pub(super) is_ending: bool,
    /// When it was heard of first, and last.
    pub(super) added_ns: u64,
    pub(super) heard_ns: u64,
    pub(super) revision: u64,
}

impl Context {
    /// Where the user plane of the device's base station waits.
    pub fn access_address(&self) -> Option<Address> {
        let mut ends = self.bearers.iter().flat_map(|bearer| &bearer.ends);
        ends.find(|end| end.role == Role::Access)
            .map(|end| end.end.address)
    }

    /// Whether the device is known to be at a base station, by its address of the user plane. One may have
    /// several.
    pub fn is_at(&self, node: Address) -> bool {
        let mut ends = self.bearers.iter().flat_map(|bearer| &bearer.ends);
        ends.any(|end| end.role == Role::Access && end.end.address == node)
    }

    /// Whatever addresses packets came from, others may follow.
    pub(super) fn forget_seen(&mut self) {
        for bearer in &mut self.bearers {
            bearer.seen.clear();
        }
    }

    /// Packets have come up a bearer from other addresses of that family alone. What has no number (PFCP) is
    /// of the whole session.
    fn contradicts(&self, bearer: u8, host: Address) -> bool {
        let is_its = |known: &&KnownBearer| bearer == 0 || [0, bearer].contains(&known.id);
        let mut seen = self
            .bearers
            .iter()
            .filter(is_its)
            .flat_map(|known| &known.seen);
        let is_v4 = |one: &Address| one.as_v4().is_some();
        let is_same_family = |one: &&Address| is_v4(one) == is_v4(&host);
        seen.clone().any(|one| is_same_family(&one)) && !seen.any(|one| *one == host)
    }

    /// The class of a bearer's packet: of its QoS flow if it names one, else of the bearer. A flow whose
    /// class was not told has none: its identifier is a number of the session's own. The protocols give
    /// one session different numbers, so that another one may have told of its flows.
    fn class_of(&self, bearer: u8, qfi: Option<u8>) -> Option<u8> {
        let own = self.bearers.iter().find(|known| known.id == bearer);
        let Some(qfi) = qfi else {
            return own?.qos_class;
        };
        let of_own = own.and_then(|own| own.class_of_flow(qfi));
        of_own.or_else(|| {
            let mut told = self.bearers.iter().filter_map(|one| one.class_of_flow(qfi));
            let first = told.next()?;
            told.all(|other| other == first).then_some(first)
        })
    }

    fn asked_class(&self, end: TunnelEnd) -> Option<u8> {
        let mut asked = self.asked.iter();
        asked.find(|(known, _)| *known == end)?.1
    }

    /// All that a place is made of, beside tunnels and addresses.
    fn facts(&self) -> impl PartialEq + use<> {
        let apn = self.apn.as_ref().map(|apn| Arc::as_ptr(apn).addr());
        (
            (self.subscriber, self.named_by, self.imei_tac, apn),
            (self.rat, self.slice, self.located),
            (self.is_asked_for, self.is_disconnected),
        )
    }

    /// Another one for each context and each time that flows may find it otherwise.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

/// The identity of a device's signalling connection at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UeKey {
    pub protocol: Protocol,
    /// Of the node that gave the identity.
    pub node: Address,
    pub id: u64,
}

impl UeKey {
    /// Given by the base station, not by the core.
    pub fn is_access(&self) -> bool {
        self.id & 1 == 1
    }

    /// The same node gave both, for its own side: of one connection it has one.
    pub fn is_of_same_node(&self, other: &Self) -> bool {
        (self.protocol, self.node, self.is_access())
            == (other.protocol, other.node, other.is_access())
    }
}

/// Most keys of one kind that a context keeps: several interfaces of one session, and those before a
/// relocation. The oldest goes.
pub(super) const MAX_KEYS: usize = 8;

/// What a request may change of a context, as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    located: Located,
    /// By bearer.
    ends: Vec<(u8, BearerEnd)>,
    rules: Vec<(Rule, BearerEnd)>,
}

/// Who waits at a tunnel end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    context: ContextId,
    bearer: u8,
    role: Role,
    /// The end was given up at a handover; where the device was until then, and until when it counts.
    before: Option<(Located, u64)>,
}

/// What is found of a packet's tunnel or address.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub id: ContextId,
    pub context: &'a Context,
    /// 0 without a tunnel.
    pub bearer: u8,
    pub located: Located,
    pub qos_class: Option<u8>,
    pub role: Option<Role>,
    /// The base station that a packet goes to or comes from, by its address.
    pub access: Option<Address>,
}

/// The contexts, and what they are found by.
#[derive(Debug)]
pub struct Bearers {
    slots: Vec<(u32, Option<Context>)>,
    free: Vec<u32>,
    limit: usize,
    /// Where the search for the stalest goes on.
    hand: usize,
    /// Of what changed last.
    revision: u64,
    by_tunnel: KeyedMap<TunnelEnd, Waiting>,
    by_address: KeyedMap<Address, ContextId>,
    by_control: KeyedMap<(Protocol, ControlEnd), Vec<ContextId>>,
    by_ue: KeyedMap<UeKey, Vec<ContextId>>,
    /// Contexts that went before their end was heard.
    pub shed: u64,
}

impl Context {
    /// What a refusal is to bring back.
    pub fn before(&self) -> Before {
        let ends = self.bearers.iter().flat_map(|bearer| {
            let ends = bearer.ends.iter();
            ends.map(|&end| (bearer.id, end))
        });
        Before {
            located: self.located,
            ends: ends.collect(),
            rules: self.rules.clone(),
        }
    }

    /// What a session leaves no trace of but in signalling connections.
    pub fn is_connection_only(&self) -> bool {
        let has_ends = self.bearers.iter().any(|bearer| !bearer.ends.is_empty());
        !has_ends && self.v4.is_none() && self.v6.is_none() && self.controls.is_empty()
    }

    /// Only base stations have told of it, and its connection is over: whether it is idle, or has ended
    /// and its tunnel is another's, they do not say.
    pub fn may_have_ended(&self) -> bool {
        self.is_disconnected && !self.is_kept_by_core()
    }

    /// A node of the core keeps it, and is heard when it ends.
    pub fn is_kept_by_core(&self) -> bool {
        !self.controls.is_empty()
    }

    /// Where the device was until it left a base station not long ago.
    pub fn located_at(&self, node: Address, now_ns: u64) -> Option<Located> {
        let (left, located, until_ns) = self.left?;
        (left == node && now_ns <= until_ns).then_some(located)
    }

    pub fn ue_keys(&self) -> &[UeKey] {
        &self.ue_keys
    }
}

impl Bearers {
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limit: limit.max(1),
            hand: 0,
            revision: 0,
            by_tunnel: KeyedMap::default(),
            by_address: KeyedMap::default(),
            by_control: KeyedMap::default(),
            by_ue: KeyedMap::default(),
            shed: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more go in without another going.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    pub fn iter(&self) -> impl Iterator<Item = (ContextId, &Context)> {
        (0u32..)
            .zip(&self.slots)
            .filter_map(|(index, (generation, context))| {
                let generation = *generation;
                Some((ContextId { index, generation }, context.as_ref()?))
            })
    }

    pub fn get(&self, id: ContextId) -> Option<&Context> {
        let (generation, context) = self.slots.get(id.index as usize)?;
        context.as_ref().filter(|_| *generation == id.generation)
    }

    fn get_mut(&mut self, id: ContextId) -> Option<&mut Context> {
        let (generation, context) = self.slots.get_mut(id.index as usize)?;
        let context = context.as_mut().filter(|_| *generation == id.generation)?;
        self.revision += 1;
        context.revision = self.revision;
        Some(context)
    }

    /// For changes that flows need not hear of.
    fn get_quietly(&mut self, id: ContextId) -> Option<&mut Context> {
        let (generation, context) = self.slots.get_mut(id.index as usize)?;
        context.as_mut().filter(|_| *generation == id.generation)
    }

    /// Whose a packet is that goes to a tunnel end.
    ///
    /// `qfi` is the QoS flow that the packet names.
    pub fn at_tunnel(&self, end: TunnelEnd, qfi: Option<u8>, now_ns: u64) -> Option<Found<'_>> {
        let waiting = self.by_tunnel.get(&end)?;
        let context = self.get(waiting.context)?;
        if waiting.role == Role::Core && context.may_have_ended() {
            return None;
        }
        let located = match waiting.before {
            Some((_, until_ns)) if now_ns > until_ns => return None,
            Some((located, _)) => located,
            None => context.located,
        };
        Some(Found {
            id: waiting.context,
            context,
            bearer: waiting.bearer,
            located,
            qos_class: match waiting.bearer {
                0 => context.asked_class(end).or(context.class_of(0, qfi)),
                numbered => context.class_of(numbered, qfi),
            },
            role: Some(waiting.role),
            access: match waiting.role {
                Role::Access => Some(end.address),
                _ => context.access_address(),
            },
        })
    }

    /// Whose a device's address is.
    pub fn at_address(&self, address: Address) -> Option<Found<'_>> {
        let id = *self.by_address.get(&host(address))?;
        let context = self.get(id)?;
        // Asked for in vain, as far as is known: the address may be the next one's.
        if context.is_asked_for {
            return None;
        }
        Some(Found {
            id,
            context,
            bearer: 0,
            located: context.located,
            qos_class: None,
            role: None,
            access: context.access_address(),
        })
    }

    /// Whether a packet's address within a tunnel contradicts that the tunnel is a context's: the device has
    /// another, or another device has it. Of IPv6 the device may have been delegated more than it is
    /// known by (RFC 8415 6.3), but nothing comes down to what it never sent from.
    pub fn is_anothers(&self, found: &Found<'_>, client: Address) -> bool {
        let (host, context) = (host(client), found.context);
        let is_v4 = host.as_v4().is_some();
        match if is_v4 { context.v4 } else { context.v6 } {
            Some(own) if own == host => return false,
            Some(_) if is_v4 => return true,
            // A gateway tells all addresses of a session at once.
            None if !is_v4 && context.v4.is_some() && context.is_kept_by_core() => return true,
            _ => {}
        }
        let is_strict = is_v4 || found.role == Some(Role::Access);
        if is_strict && context.contradicts(found.bearer, host) {
            return true;
        }
        let other = self.by_address.get(&host);
        let other = other.filter(|other| **other != found.id);
        let other = other.and_then(|&other| self.get(other)?.subscriber);
        other.is_some_and(|other| context.subscriber.is_some_and(|own| own != other))
    }

    /// Takes in from which address a packet came up a tunnel.
    pub fn witness(&mut self, end: TunnelEnd, client: Address) {
        let host = host(client);
        let waiting = self.by_tunnel.get(&end);
        let Some(&Waiting {
            context, bearer, ..
        }) = waiting.filter(|one| one.role == Role::Core)
        else {
            return;
        };
        let (index, generation) = (context.index as usize, context.generation);
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.0 == generation);
        let Some(known) = slot.and_then(|slot| slot.1.as_mut()) else {
            return;
        };
        let Some(known) = known.bearers.iter_mut().find(|known| known.id == bearer) else {
            return;
        };
        let is_other_v4 = |seen: &Address| host.as_v4().is_some() && seen.as_v4().is_some();
        let seen = &mut known.seen;
        if seen.len() < MAX_SEEN && !seen.contains(&host) && !seen.iter().any(is_other_v4) {
            seen.push(host);
        }
    }

    /// All contexts of a key: on S11 and Gn a device has one for all its sessions.
    pub fn by_control(&self, protocol: Protocol, end: ControlEnd) -> &[ContextId] {
        self.by_control.get(&(protocol, end)).map_or(&[], |ids| ids)
    }

    pub fn by_ue(&self, key: UeKey) -> &[ContextId] {
        self.by_ue.get(&key).map_or(&[], |ids| ids)
    }

    pub fn by_tunnel(&self, end: TunnelEnd) -> Option<ContextId> {
        let waiting = self.by_tunnel.get(&end)?;
        self.alive(Some(&waiting.context).filter(|_| waiting.before.is_none()))
    }

    fn alive(&self, id: Option<&ContextId>) -> Option<ContextId> {
        id.copied().filter(|&id| self.get(id).is_some())
    }

    /// A new context of which nothing is known yet.
    pub fn add(&mut self, now_ns: u64) -> ContextId {
        if self.len() >= self.limit {
            self.shed_stalest();
        }
        self.revision += 1;
        let context = Some(Context {
            heard_ns: now_ns,
            revision: self.revision,
            ..Context::default()
        });
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.1 = context;
            return ContextId {
                index,
                generation: slot.0,
            };
        }
        // At most `limit` slots, which is a u32.
        let index = self.slots.len() as u32;
        self.slots.push((0, context));
        ContextId {
            index,
            generation: 0,
        }
    }

    /// The one of the next contexts that was not heard of for the longest time.
    fn shed_stalest(&mut self) {
        const LOOKED_AT: usize = 16;
        let count = self.slots.len();
        let stalest = (0..LOOKED_AT.min(count))
            .map(|step| (self.hand + step) % count)
            .filter_map(|index| {
                let (generation, context) = &self.slots[index];
                let heard_ns = context.as_ref()?.heard_ns;
                let id = ContextId {
                    index: index as u32,
                    generation: *generation,
                };
                Some((heard_ns, id))
            })
            .min_by_key(|(heard_ns, _)| *heard_ns);
        self.hand = (self.hand + LOOKED_AT) % count.max(1);
        if let Some((_, id)) = stalest {
            self.remove(id);
            self.shed += 1;
        }
    }

    /// Forgets a context and all that it is found by.
    pub fn remove(&mut self, id: ContextId) -> Option<Context> {
        let (generation, slot) = self.slots.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let context = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        let ends = context.bearers.iter().flat_map(|bearer| &bearer.ends);
        for end in ends
            .map(|end| end.end)
            .chain(context.handed_over.iter().copied())
            .chain(context.asked.iter().map(|(end, _)| *end))
        {
            remove_waiting(&mut self.by_tunnel, end, id);
        }
        for address in [context.v4, context.v6].into_iter().flatten() {
            remove_if(&mut self.by_address, &address, id);
        }
        for key in &context.controls {
            remove_from(&mut self.by_control, key, id);
        }
        for key in &context.ue_keys {
            remove_from(&mut self.by_ue, key, id);
        }
        Some(context)
    }

    /// Takes in that a control-plane key is the context's.
    pub fn add_control(&mut self, id: ContextId, protocol: Protocol, end: ControlEnd) {
        let key = (protocol, end);
        let known = self.get_quietly(id).map(|context| &context.controls);
        if known.is_none_or(|known| known.contains(&key)) {
            return;
        }
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let gone = push_key(&mut context.controls, key);
        add_to(&mut self.by_control, key, id);
        if let Some(gone) = gone {
            remove_from(&mut self.by_control, &gone, id);
        }
    }

    /// Takes in that an identity of a signalling connection is the context's.
    pub fn add_ue(&mut self, id: ContextId, key: UeKey) {
        let Some(context) = self.get_mut(id) else {
            return;
        };
        context.is_disconnected = false;
        let gone = push_key(&mut context.ue_keys, key);
        add_to(&mut self.by_ue, key, id);
        if let Some(gone) = gone {
            remove_from(&mut self.by_ue, &gone, id);
        }
    }

    /// The keys of a signalling connection, or of those of its keys that `which` names, are free again.
    pub fn drop_ues(&mut self, id: ContextId, which: impl Fn(&UeKey) -> bool) {
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let gone: Vec<UeKey> = context.ue_keys.extract_if(.., |key| which(key)).collect();
        let is_over = !gone.is_empty() && context.ue_keys.is_empty();
        context.is_disconnected |= is_over;
        context.is_set_up &= !is_over;
        for key in gone {
            remove_from(&mut self.by_ue, &key, id);
        }
    }

    /// Who else than a subscriber was said to have a control-plane key.
    pub fn others_of(
        &self,
        subscriber: Pseudonym,
        protocol: Protocol,
        end: ControlEnd,
    ) -> Vec<ContextId> {
        let is_other = |one: &ContextId| {
            let known = self.get(*one).and_then(|context| context.subscriber);
            known.is_some_and(|known| known != subscriber)
        };
        let ids = self.by_control(protocol, end).iter().copied();
        ids.filter(is_other).collect()
    }

    /// Whether an answer to a request for a session is of another one than a context, that has its key.
    pub fn is_succeeded(&self, id: ContextId, answer: &Message) -> bool {
        let asked_by = self.get(id).and_then(|context| context.asked_by);
        asked_by.is_some_and(|(protocol, sequence)| {
            protocol == answer.protocol && sequence != answer.sequence
        })
    }

    /// Whether a session was given a key by a third node after it had one of this one: another SGW has
    /// taken it over.
    pub fn has_left(&self, id: ContextId, protocol: Protocol, ends: [Address; 2]) -> bool {
        let controls = self.get(id).map_or(&[][..], |context| &context.controls);
        let mut later = controls.iter().rev().filter(|(one, _)| *one == protocol);
        let mut later = later.by_ref().map(|(_, end)| end.address);
        let newest = later.find(|address| *address != ends[0]);
        newest.is_some_and(|address| address != ends[1]) && later.any(|address| address == ends[1])
    }

    /// A node keeps a session no longer; another does.
    pub fn drop_controls(&mut self, id: ContextId, protocol: Protocol, node: Address) {
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let is_its =
            |(one, end): &mut (Protocol, ControlEnd)| *one == protocol && end.address == node;
        let gone: Vec<_> = context.controls.extract_if(.., is_its).collect();
        for key in gone {
            remove_from(&mut self.by_control, &key, id);
        }
    }

    /// All devices that have a signalling connection through a node.
    pub fn connected_by(&self, protocol: Protocol, node: Address) -> Vec<ContextId> {
        let keys = self.by_ue.iter();
        let of_node = keys.filter(|(key, _)| key.protocol == protocol && key.node == node);
        in_order(of_node.flat_map(|(_, ids)| ids.iter().copied()))
    }

    /// All sessions that a node of the core keeps.
    pub fn kept_by(&self, protocol: Protocol, node: Address) -> Vec<ContextId> {
        let keys = self.by_control.iter();
        let of_node = keys.filter(|((one, end), _)| *one == protocol && end.address == node);
        in_order(of_node.flat_map(|(_, ids)| ids.iter().copied()))
    }

    /// Takes in an address of the device; who had it before has it no longer.
    pub fn set_address(&mut self, id: ContextId, address: Address) {
        let address = host(address);
        if self.by_address.get(&address) == Some(&id) {
            return;
        }
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let place = match address.as_v4() {
            Some(_) => &mut context.v4,
            None => &mut context.v6,
        };
        let before = place.replace(address).filter(|before| *before != address);
        if let Some(before) = before {
            remove_if(&mut self.by_address, &before, id);
        }
        self.by_address.insert(address, id);
    }

    /// Takes in one end of a bearer's tunnel. A new end for the same role takes the place of the one
    /// before; where that led to the device (a handover), it counts for a while yet, with where the
    /// device was.
    pub fn set_end(&mut self, id: ContextId, bearer: u8, end: BearerEnd, now_ns: u64) {
        if self.has_end(id, bearer, end) {
            return;
        }
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let located = context.located;
        let Some(known) = bearer_of(&mut context.bearers, bearer) else {
            return;
        };
        // A node may wait at an IPv4 and at an IPv6 address.
        let takes_place = |known: &BearerEnd| {
            let families = [known.end, end.end].map(|one| one.address.as_v4().is_some());
            known.role == end.role && families[0] == families[1]
        };
        let before = known.ends.iter().position(takes_place);
        context.handed_over.retain(|known| *known != end.end);
        match before {
            Some(position) if known.ends[position].end == end.end => {}
            Some(position) => {
                let old = std::mem::replace(&mut known.ends[position], end);
                if end.role == Role::Core {
                    known.seen.clear();
                }
                if end.role == Role::Access && old.end.address != end.end.address {
                    // Nobody has told yet where the device is at the other base station.
                    context.located = Located::default();
                }
                self.give_up(id, bearer, old, located, now_ns);
            }
            None if known.ends.len() < MAX_ENDS => known.ends.push(end),
            None => return,
        }
        let waiting = Waiting {
            context: id,
            bearer,
            role: end.role,
            before: None,
        };
        let owner = self.by_tunnel.insert(end.end, waiting);
        if let Some(other) = owner.filter(|owner| owner.context != id) {
            self.forget_end(other, end.end);
        }
    }

    /// An end is a bearer's already, and nobody else's.
    pub fn has_end(&self, id: ContextId, bearer: u8, end: BearerEnd) -> bool {
        let waiting = Waiting {
            context: id,
            bearer,
            role: end.role,
            before: None,
        };
        let is_its = |known: &KnownBearer| known.id == bearer && known.ends.contains(&end);
        self.by_tunnel.get(&end.end) == Some(&waiting)
            && self
                .get(id)
                .is_some_and(|context| context.bearers.iter().any(is_its))
    }

    /// The radio side of all bearers goes: the device is idle. Nothing is under way to it, and its ends,
    /// those before a handover as well, are the next one's.
    pub fn release_access(&mut self, id: ContextId) {
        self.remove_ends(id, |end| end.role == Role::Access);
        let context = self.get_mut(id);
        let left = context.map(|context| std::mem::take(&mut context.handed_over));
        for end in left.unwrap_or_default() {
            remove_waiting(&mut self.by_tunnel, end, id);
        }
    }

    fn remove_ends(&mut self, id: ContextId, which: impl Fn(&BearerEnd) -> bool) {
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let bearers = context.bearers.iter_mut();
        let gone = bearers.flat_map(|bearer| bearer.ends.extract_if(.., |end| which(end)));
        for end in gone.collect::<Vec<_>>() {
            remove_waiting(&mut self.by_tunnel, end.end, id);
        }
    }

    /// A bearer is gone, with its tunnels.
    pub fn remove_bearer(&mut self, id: ContextId, bearer: u8) {
        let Some(context) = self.get_mut(id) else {
            return;
        };
        let Some(position) = context.bearers.iter().position(|known| known.id == bearer) else {
            return;
        };
        for end in context.bearers.swap_remove(position).ends {
            remove_waiting(&mut self.by_tunnel, end.end, id);
        }
    }

    /// No more packets come to an end that was given up (End Marker).
    pub fn on_end_marker(&mut self, end: TunnelEnd) {
        if self
            .by_tunnel
            .get(&end)
            .is_some_and(|waiting| waiting.before.is_some())
        {
            self.by_tunnel.remove(&end);
        }
    }

    fn give_up(&mut self, id: ContextId, bearer: u8, old: BearerEnd, was: Located, now_ns: u64) {
        let waiting = Waiting {
            context: id,
            bearer,
            role: old.role,
            before: Some((was, now_ns.saturating_add(HANDED_OVER_NS))),
        };
        // Another bearer of the same session may have given it up before, and another session have it.
        if let Some(known) = self.by_tunnel.get_mut(&old.end)
            && known.context == id
        {
            *known = waiting;
        }
        let Some(context) = self.get_mut(id) else {
            return;
        };
        // Protocols number one tunnel differently: whoever tells of the move later leaves it as it was.
        for bearer in &mut context.bearers {
            bearer.ends.retain(|known| known.end != old.end);
        }
        if old.role == Role::Access {
            let until_ns = now_ns.saturating_add(HANDED_OVER_NS);
            context.left = Some((old.end.address, was, until_ns));
        }
        if let Some(oldest) = push_key(&mut context.handed_over, old.end) {
            remove_waiting(&mut self.by_tunnel, oldest, id);
        }
    }

    /// An end belongs to another context now.
    fn forget_end(&mut self, owner: Waiting, end: TunnelEnd) {
        let Some(context) = self.get_mut(owner.context) else {
            return;
        };
        context.handed_over.retain(|known| *known != end);
        context.asked.retain(|(known, _)| *known != end);
        for bearer in &mut context.bearers {
            bearer.ends.retain(|known| known.end != end);
        }
    }

    /// Changes what is known of a context beside its keys.
    pub fn update(&mut self, id: ContextId, now_ns: u64, change: impl FnOnce(&mut Context)) {
        let next = self.revision + 1;
        let Some(context) = self.get_quietly(id) else {
            return;
        };
        let before = context.facts();
        context.heard_ns = context.heard_ns.max(now_ns);
        change(context);
        if context.facts() != before {
            context.revision = next;
            self.revision = next;
        }
    }

    /// Takes in that there is a bearer of this number.
    pub fn add_bearer(&mut self, id: ContextId, bearer: u8) {
        if let Some(context) = self.get_quietly(id) {
            bearer_of(&mut context.bearers, bearer);
        }
    }

    /// The end of a tunnel is gone, with nothing in its place.
    pub fn remove_end(&mut self, id: ContextId, end: TunnelEnd) {
        self.remove_ends(id, |known| known.end == end);
    }

    /// What a request asked for was refused: the device is where it was, and the ends that the request told
    /// of are not its.
    pub fn restore(&mut self, id: ContextId, before: &Before, told: &[TunnelEnd], now_ns: u64) {
        let was_there = |end: &BearerEnd| before.ends.iter().any(|(_, known)| known == end);
        self.remove_ends(id, |end| {
            (end.role == Role::Access || told.contains(&end.end)) && !was_there(end)
        });
        for &(bearer, end) in &before.ends {
            if end.role == Role::Access {
                self.set_end(id, bearer, end, now_ns);
            }
        }
        self.update(id, now_ns, |context| {
            context.located = before.located;
            context.rules.clone_from(&before.rules);
        });
    }

    /// A bearer is asked for, whose number the answer will give (TS 29.274 7.2.3). Its end waits from now on;
    /// several may be asked for at once, so it takes the place of no other.
    pub fn ask(&mut self, id: ContextId, asked: BearerEnd, qos_class: Option<u8>) {
        let end = asked.end;
        let Some(context) = self.get_mut(id) else {
            return;
        };
        context.asked.retain(|(known, _)| *known != end);
        context.asked.push((end, qos_class));
        let is_full = context.asked.len() > MAX_BEARERS;
        let oldest = is_full.then(|| context.asked.remove(0).0);
        let waiting = Waiting {
            context: id,
            bearer: 0,
            role: asked.role,
            before: None,
        };
        let owner = self.by_tunnel.insert(end, waiting);
        if let Some(other) = owner.filter(|owner| owner.context != id) {
            self.forget_end(other, end);
        }
        if let Some(oldest) = oldest {
            let is_unnumbered = |owner: &Waiting| owner.context == id && owner.bearer == 0;
            if self.by_tunnel.get(&oldest).is_some_and(is_unnumbered) {
                self.by_tunnel.remove(&oldest);
            }
        }
    }

    /// The class that was asked for a bearer with one of these ends.
    pub fn asked_class(&self, id: ContextId, ends: &[BearerEnd]) -> Option<u8> {
        let context = self.get(id)?;
        ends.iter().find_map(|one| context.asked_class(one.end))
    }

    /// Takes in QoS flows of a PDU session; what is told anew takes the place of what was.
    pub fn set_flows(&mut self, id: ContextId, bearer: u8, told: &[QosFlow]) {
        if told.is_empty() {
            return;
        }
        let context = self.get_mut(id);
        let Some(known) = context.and_then(|context| bearer_of(&mut context.bearers, bearer))
        else {
            return;
        };
        for flow in told {
            let Some(class) = flow.qos_class else {
                continue;
            };
            known.flows.retain(|(id, _)| *id != flow.id);
            if known.flows.len() < MAX_FLOWS {
                known.flows.push((flow.id, class));
            }
        }
    }

    /// Sets what class of service a bearer has.
    pub fn set_qos_class(&mut self, id: ContextId, bearer: u8, qos_class: u8) {
        let context = self.get_quietly(id);
        let known = context.and_then(|context| bearer_of(&mut context.bearers, bearer));
        if known.is_some_and(|known| known.qos_class.replace(qos_class) != Some(qos_class)) {
            self.get_mut(id);
        }
    }
}

/// The order in a hash table is nobody's business.
fn in_order(ids: impl Iterator<Item = ContextId>) -> Vec<ContextId> {
    let mut ids: Vec<ContextId> = ids.collect();
    ids.sort_unstable_by_key(|id| id.index);
    ids.dedup();
    ids
}

fn bearer_of(bearers: &mut Vec<KnownBearer>, id: u8) -> Option<&mut KnownBearer> {
    let position = match bearers.iter().position(|known| known.id == id) {
        Some(position) => position,
        None if bearers.len() < MAX_BEARERS => {
            bearers.push(KnownBearer {
                id,
                ..KnownBearer::default()
            });
            bearers.len() - 1
        }
        None => return None,
    };
    bearers.get_mut(position)
}

/// Adds a key that is not there yet; returns the oldest if there are too many.
fn push_key<K: PartialEq>(keys: &mut Vec<K>, key: K) -> Option<K> {
    if keys.contains(&key) {
        return None;
    }
    keys.push(key);
    (keys.len() > MAX_KEYS).then(|| keys.remove(0))
}

fn remove_if<K: Eq + std::hash::Hash>(map: &mut KeyedMap<K, ContextId>, key: &K, id: ContextId) {
    if map.get(key) == Some(&id) {
        map.remove(key);
    }
}

fn add_to<K: Eq + std::hash::Hash>(map: &mut KeyedMap<K, Vec<ContextId>>, key: K, id: ContextId) {
    let ids = map.entry(key).or_default();
    if !ids.contains(&id) {
        ids.push(id);
    }
}

fn remove_from<K: Eq + std::hash::Hash>(
    map: &mut KeyedMap<K, Vec<ContextId>>,
    key: &K,
    id: ContextId,
) {
    if let Some(ids) = map.get_mut(key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

fn remove_waiting(map: &mut KeyedMap<TunnelEnd, Waiting>, end: TunnelEnd, id: ContextId) {
    if map.get(&end).is_some_and(|waiting| waiting.context == id) {
        map.remove(&end);
    }
}

/// What stands for a device: its IPv4 address, or the /64 of its IPv6 address.
pub fn host(address: Address) -> Address {
    match address.as_v4() {
        Some(_) => address,
        None => Address(address.0 & !u128::from(u64::MAX)),
    }
}

#[cfg(test)]
#[path = "bearers_tests.rs"]
mod tests;
