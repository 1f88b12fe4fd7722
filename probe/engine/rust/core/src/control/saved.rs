//! Contexts as bytes, so that a restart does not forget who is who.
//!
//! Pseudonyms, places, tunnel ends and addresses are saved, and the restart counters of nodes; requests
//! under way, tunnel ends that a handover gave up and links are not: the first two are over within
//! seconds, the last are told again. Numbers are big-endian. Bytes are believed whole or not at all, and
//! every list is bounded as where it is learned.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::control::bearers::{Bearers, Context, ContextId, KnownBearer, Located, MAX_KEYS, UeKey};
use crate::control::cursor::Cursor;
use crate::control::identity::{Area, Cell, Plmn, RanNode, Rat, Slice};
use crate::control::learner::Learner;
use crate::control::message::{
    BearerEnd, ControlEnd, Location, MAX_BEARERS, MAX_ENDS, MAX_FLOWS, MAX_RULES, Malformed,
    Protocol, QosFlow, Role, Rule, TunnelEnd,
};
use crate::control::pfcp::Roles;
use crate::control::recovery::Recovery;
use crate::decap::Address;

const MINUTE_NS: u64 = 60 * 1_000_000_000;
/// Nobody listened for longer than this: addresses and tunnels that ended meanwhile are others' by now.
/// A restart of the machine takes less.
pub const MAX_SILENCE_NS: u64 = 15 * MINUTE_NS;
/// Contexts that were not heard of for longer are left behind: a device in use is heard of each hour
/// (periodic tracking area update, T3412 of TS 24.301 10.2: 54 minutes).
pub const MAX_AGE_NS: u64 = 24 * 60 * MINUTE_NS;
/// Bytes of one capture's contexts at most; those heard of last are written first.
const MAX_SAVED: usize = 256 << 20;
/// Bytes of all captures' contexts at most: what a vault opens, less what seals it.
const MAX_PACKED: usize = crate::control::vault::MAX_FILE - 1024;
/// Captures of one probe at most.
const MAX_SECTIONS: usize = 1024;

/// What came of saved contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    pub restored: u64,
    /// Too old, or there is no room for them any more.
    pub outdated: u64,
}

/// What a capture's control plane told, as it is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// When nobody listened any more.
    saved_ns: u64,
    /// Restart counters by node.
    recoveries: Vec<(Protocol, Address, Recovery)>,
    /// Those heard of last in front.
    contexts: Vec<Context>,
}

type Read<T> = Result<T, Malformed>;

impl Kept {
    /// As bytes, which [`Self::read`] understands.
    pub fn write(&self) -> Vec<u8> {
        let (mut contexts, mut count) = (Vec::new(), 0u32);
        for context in &self.contexts {
            if contexts.len() >= MAX_SAVED {
                break;
            }
            context.put(&mut contexts);
            count += 1;
        }
        let mut out = Vec::with_capacity(contexts.len() + 64 + 32 * self.recoveries.len());
        self.saved_ns.put(&mut out);
        // As many as contexts at most, which is a u32.
        (self.recoveries.len() as u32).put(&mut out);
        self.recoveries.iter().for_each(|one| one.put(&mut out));
        count.put(&mut out);
        out.extend_from_slice(&contexts);
        out
    }

    /// All of it, or nothing where a byte is missing, left over or wrong. What is allocated is at most
    /// some times the bytes that are there.
    pub fn read(saved: &[u8]) -> Read<Self> {
        let mut from = Cursor(saved);
        let kept = Self {
            saved_ns: from.u64()?,
            recoveries: take_many(&mut from)?,
            contexts: take_many(&mut from)?,
        };
        if from.0.is_empty() {
            Ok(kept)
        } else {
            Err(Malformed::Length)
        }
    }

    /// Leaves what still counts at `now_ns`, in a table with `room`.
    fn still_counting(mut self, now_ns: u64, room: usize) -> Self {
        let is_recent = |past_ns: u64, limit_ns| now_ns.abs_diff(past_ns) <= limit_ns;
        if !is_recent(self.saved_ns, MAX_SILENCE_NS) {
            return Self::default();
        }
        self.contexts
            .retain(|context| is_recent(context.heard_ns, MAX_AGE_NS));
        self.contexts.truncate(room);
        self
    }
}

impl Learner {
    /// What is known; `now_ns` is when nobody listens any more.
    pub fn save(&self, now_ns: u64) -> Kept {
        let mut contexts = self.bearers.to_be_kept();
        contexts.sort_by_key(|context| Reverse(context.heard_ns));
        Kept {
            saved_ns: now_ns,
            recoveries: self.recoveries.all(),
            contexts,
        }
    }

    /// Takes in what `save` gave, as far as it still counts at `now_ns`.
    pub fn load(&mut self, kept: Kept, now_ns: u64) -> Restored {
        let all = kept.contexts.len() as u64;
        let kept = kept.still_counting(now_ns, self.bearers.room());
        let restored = kept.contexts.len() as u64;
        for (protocol, node, recovery) in kept.recoveries {
            self.recoveries.set(protocol, node, recovery);
        }
        // The latest last, as they were learned.
        for context in kept.contexts.into_iter().rev() {
            self.revive(context);
        }
        Restored {
            restored,
            outdated: all - restored,
        }
    }

    fn revive(&mut self, context: Context) {
        let subscriber = context.subscriber;
        let id = self.bearers.revive(context);
        if let Some(subscriber) = subscriber {
            self.note_subscriber(id, subscriber);
        }
    }
}

impl Bearers {
    /// The contexts, each with what it is found by alone: an address that went to another is the
    /// other's.
    fn to_be_kept(&self) -> Vec<Context> {
        let own = |(id, context): (ContextId, &Context)| {
            let is_own = |address: &Address| self.at_address(*address).is_some_and(|f| f.id == id);
            Context {
                v4: context.v4.filter(is_own),
                v6: context.v6.filter(is_own),
                handed_over: Vec::new(),
                asked: Vec::new(),
                revision: 0,
                ..context.clone()
            }
        };
        self.iter().map(own).collect()
    }

    /// A context as it was, under all that it was found by.
    fn revive(&mut self, known: Context) -> ContextId {
        let now_ns = known.heard_ns;
        let id = self.add(now_ns);
        for &(protocol, end) in &known.controls {
            self.add_control(id, protocol, end);
        }
        known.ue_keys.iter().for_each(|&key| self.add_ue(id, key));
        let addresses = [known.v4, known.v6].into_iter().flatten();
        addresses.for_each(|address| self.set_address(id, address));
        for bearer in &known.bearers {
            self.revive_bearer(id, bearer, now_ns);
        }
        self.update(id, now_ns, |context| {
            *context = Context {
                v4: context.v4,
                v6: context.v6,
                bearers: std::mem::take(&mut context.bearers),
                handed_over: std::mem::take(&mut context.handed_over),
                controls: std::mem::take(&mut context.controls),
                ue_keys: std::mem::take(&mut context.ue_keys),
                revision: context.revision,
                ..known
            };
        });
        id
    }

    fn revive_bearer(&mut self, id: ContextId, bearer: &KnownBearer, now_ns: u64) {
        self.add_bearer(id, bearer.id);
        if let Some(qos_class) = bearer.qos_class {
            self.set_qos_class(id, bearer.id, qos_class);
        }
        let flows = bearer.flows.iter();
        let flows: Vec<QosFlow> = flows
            .map(|&(id, class)| QosFlow {
                id,
                qos_class: Some(class),
                priority: None,
            })
            .collect();
        self.set_flows(id, bearer.id, &flows);
        for &end in &bearer.ends {
            self.set_end(id, bearer.id, end, now_ns);
        }
    }
}

/// What several captures keep, in one piece by capture point. What would be too much is left out.
pub fn pack(sections: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, saved) in sections.iter().take(MAX_SECTIONS) {
        if out.len() + name.len() + saved.len() > MAX_PACKED {
            continue;
        }
        for part in [name.as_bytes(), saved] {
            (part.len() as u64).put(&mut out);
            out.extend_from_slice(part);
        }
    }
    out
}

/// What `pack` was given.
pub fn unpack(packed: &[u8]) -> Read<Vec<(String, Kept)>> {
    let mut from = Cursor(packed);
    let mut sections = Vec::new();
    while !from.0.is_empty() {
        if sections.len() == MAX_SECTIONS {
            return Err(Malformed::Length);
        }
        let name = take_part(&mut from)?;
        let name = str::from_utf8(name).map_err(|_| Malformed::Value)?;
        sections.push((name.to_owned(), Kept::read(take_part(&mut from)?)?));
    }
    Ok(sections)
}

fn take_part<'a>(from: &mut Cursor<'a>) -> Read<&'a [u8]> {
    let len = usize::try_from(from.u64()?).map_err(|_| Malformed::Length)?;
    from.take(len)
}

/// Something that is saved.
trait Saved: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Cursor<'_>) -> Read<Self>;
}

macro_rules! saved_numbers {
    ($($number:ty),*) => {$(
        impl Saved for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take(from: &mut Cursor<'_>) -> Read<Self> {
                from.array().map(Self::from_be_bytes)
            }
        }
    )*};
}
saved_numbers!(u8, u16, u32, u64, u128);

/// Structures are saved field by field.
macro_rules! saved_fields {
    ($($of:ident { $($field:ident),* }),* $(,)?) => {$(
        impl Saved for $of {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(from: &mut Cursor<'_>) -> Read<Self> {
                $(let $field = Saved::take(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}
saved_fields!(
    TunnelEnd { address, teid },
    BearerEnd { role, end },
    ControlEnd { address, key },
    Recovery { counter, told_ns },
    UeKey { protocol, node, id },
    Slice {
        service_type,
        differentiator
    },
    Location { cell, area, node },
);

/// A request under way at the end is none at the next start.
impl Saved for Located {
    fn put(&self, out: &mut Vec<u8>) {
        self.location.put(out);
        self.time_ns.put(out);
        self.by.put(out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self {
            location: Saved::take(from)?,
            time_ns: Saved::take(from)?,
            by: Saved::take(from)?,
            is_asked: false,
        })
    }
}

/// Values without content are saved as their place in a list, which only grows at its end.
macro_rules! saved_names {
    ($($of:ident [ $($name:ident),* ]),* $(,)?) => {$(
        impl Saved for $of {
            fn put(&self, out: &mut Vec<u8>) {
                let all = [$(Self::$name),*];
                let place = all.iter().position(|one| one == self);
                out.push(place.map_or(u8::MAX, |place| place as u8));
            }
            fn take(from: &mut Cursor<'_>) -> Read<Self> {
                let all = [$(Self::$name),*];
                all.get(usize::from(from.u8()?)).copied().ok_or(Malformed::Value)
            }
        }
    )*};
}
saved_names!(
    Protocol [Gtpv1, Gtpv2, Pfcp, Radius, S1ap, Ngap],
    Role [Access, Core, TransitDown, TransitUp, Forwarding],
    Rat [Utran, Geran, Wlan, Gan, HspaEvolution, Eutran, Virtual, NbIot, LteM, Nr],
);

/// Values with content are saved as their number and their fields.
macro_rules! saved_kinds {
    ($($of:ident { $($number:literal => $kind:ident { $($field:ident),* }),* $(,)? }),* $(,)?) => {$(
        impl Saved for $of {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$kind { $($field),* } => {
                        out.push($number);
                        $($field.put(out);)*
                    })*
                }
            }
            fn take(from: &mut Cursor<'_>) -> Read<Self> {
                Ok(match from.u8()? {
                    $($number => Self::$kind { $($field: Saved::take(from)?),* },)*
                    _ => return Err(Malformed::Value),
                })
            }
        }
    )*};
}
saved_kinds!(
    Cell {
        0 => Cgi { plmn, area, cell },
        1 => Sai { plmn, area, service_area },
        2 => Ecgi { plmn, cell },
        3 => Ncgi { plmn, cell },
    },
    Area {
        0 => Lai { plmn, code },
        1 => Tai { plmn, code },
        2 => Tai5 { plmn, code },
    },
    RanNode {
        0 => Enb { plmn, id, bits },
        1 => Gnb { plmn, id, bits },
    },
);

impl Saved for Plmn {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Self::read(from.array()?).ok_or(Malformed::Value)
    }
}

impl Saved for Address {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        u128::take(from).map(Self)
    }
}

impl<const N: usize> Saved for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        from.array()
    }
}

impl<T: Saved> Saved for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        self.iter().for_each(|value| value.put(out));
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        match from.u8()? {
            0 => Ok(None),
            1 => T::take(from).map(Some),
            _ => Err(Malformed::Value),
        }
    }
}

impl Saved for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value),
        }
    }
}

impl<T: Saved, U: Saved, V: Saved> Saved for (T, U, V) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok((T::take(from)?, U::take(from)?, V::take(from)?))
    }
}

impl<T: Saved, U: Saved> Saved for (T, U) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok((T::take(from)?, U::take(from)?))
    }
}

impl Saved for Rule {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Detection(number) => (0u8, u32::from(number)),
            Self::Forwarding(number) => (1, number),
            Self::Endpoint(number) => (2, u32::from(number)),
        }
        .put(out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        let (kind, number) = <(u8, u32)>::take(from)?;
        let wrong = |_| Malformed::Value;
        match kind {
            0 => number.try_into().map(Self::Detection).map_err(wrong),
            1 => Ok(Self::Forwarding(number)),
            2 => number.try_into().map(Self::Endpoint).map_err(wrong),
            _ => Err(Malformed::Value),
        }
    }
}

impl Saved for Arc<str> {
    fn put(&self, out: &mut Vec<u8>) {
        // Access point names have 100 bytes at most.
        let bytes = &self.as_bytes()[..self.len().min(u8::MAX.into())];
        out.push(bytes.len() as u8);
        out.extend_from_slice(bytes);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        let text = str::from_utf8(from.counted()?);
        text.map(Self::from).map_err(|_| Malformed::Value)
    }
}

/// A list behind its number in four bytes. Room is made as its members are found, not as it says.
fn take_many<T: Saved>(from: &mut Cursor<'_>) -> Read<Vec<T>> {
    (0..from.u32()?).map(|_| T::take(from)).collect()
}

/// A list of at most 255.
fn put_all<T: Saved>(list: &[T], out: &mut Vec<u8>) {
    let list = &list[..list.len().min(u8::MAX.into())];
    out.push(list.len() as u8);
    list.iter().for_each(|one| one.put(out));
}

fn take_all<T: Saved>(from: &mut Cursor<'_>, limit: usize) -> Read<Vec<T>> {
    let count = usize::from(from.u8()?);
    if count > limit {
        return Err(Malformed::Value);
    }
    (0..count).map(|_| T::take(from)).collect()
}

impl Saved for KnownBearer {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        put_all(&self.ends, out);
        self.qos_class.put(out);
        put_all(&self.flows, out);
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self {
            id: Saved::take(from)?,
            ends: take_all(from, MAX_ENDS)?,
            qos_class: Saved::take(from)?,
            flows: take_all(from, MAX_FLOWS)?,
            seen: Vec::new(),
        })
    }
}

impl Saved for Context {
    fn put(&self, out: &mut Vec<u8>) {
        self.added_ns.put(out);
        self.heard_ns.put(out);
        self.subscriber.put(out);
        self.named_by.put(out);
        self.imei_tac.put(out);
        self.apn.put(out);
        self.rat.put(out);
        self.slice.put(out);
        self.located.put(out);
        self.v4.put(out);
        self.v6.put(out);
        put_all(&self.bearers, out);
        put_all(self.roles.known(), out);
        put_all(&self.rules, out);
        self.left.put(out);
        self.registered.put(out);
        self.is_disconnected.put(out);
        self.is_asked_for.put(out);
        put_all(&self.controls, out);
        put_all(&self.ue_keys, out);
    }

    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self {
            added_ns: Saved::take(from)?,
            heard_ns: Saved::take(from)?,
            subscriber: Saved::take(from)?,
            named_by: Saved::take(from)?,
            imei_tac: Saved::take(from)?,
            apn: Saved::take(from)?,
            rat: Saved::take(from)?,
            slice: Saved::take(from)?,
            located: Saved::take(from)?,
            v4: Saved::take(from)?,
            v6: Saved::take(from)?,
            bearers: take_all(from, MAX_BEARERS)?,
            handed_over: Vec::new(),
            asked: Vec::new(),
            roles: Roles::of(take_all(from, MAX_RULES)?),
            rules: take_all(from, MAX_RULES)?,
            left: Saved::take(from)?,
            registered: Saved::take(from)?,
            is_disconnected: Saved::take(from)?,
            is_asked_for: Saved::take(from)?,
            asked_by: None,
            is_set_up: false,
            is_ending: false,
            revision: 0,
            controls: take_all(from, MAX_KEYS)?,
            ue_keys: take_all(from, MAX_KEYS)?,
        })
    }
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
