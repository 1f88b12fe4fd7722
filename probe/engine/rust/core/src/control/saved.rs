//! Contexts as bytes, so that a restart does not forget who is who.
//!
//! Pseudonyms, places, tunnel ends and addresses are saved; requests under way, ends that a handover gave
//! up and links are not: the first are over within seconds, the last are told again. Numbers are
//! big-endian. Bytes are believed whole or not at all, and every list is bounded as where it is learned.

use std::sync::Arc;

use crate::control::bearers::{Bearers, Context, ContextId, KnownBearer, Located, MAX_KEYS, UeKey};
use crate::control::cursor::Cursor;
use crate::control::identity::{Area, Cell, Plmn, RanNode, Rat, Slice};
use crate::control::learner::Learner;
use crate::control::message::{
    BearerEnd, ControlEnd, Location, MAX_BEARERS, MAX_ENDS, MAX_RULES, Malformed, Protocol, Role,
    Rule, TunnelEnd,
};
use crate::control::pfcp::Roles;
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
/// Captures of one probe at most.
const MAX_SECTIONS: usize = 1024;

/// What came of saved contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    pub restored: u64,
    /// Too old, or there is no room for them any more.
    pub outdated: u64,
}

type Read<T> = Result<T, Malformed>;

impl Learner {
    /// All contexts, those that were heard of last in front. `now_ns` is when nobody listens any more.
    pub fn save(&self, now_ns: u64) -> Vec<u8> {
        let mut contexts: Vec<&Context> = self.bearers.iter().collect();
        contexts.sort_by_key(|context| std::cmp::Reverse(context.heard_ns));
        let mut out = Vec::new();
        now_ns.put(&mut out);
        for context in contexts {
            if out.len() >= MAX_SAVED {
                break;
            }
            context.put(&mut out);
        }
        out
    }

    /// Takes in what `save` gave, as far as it still counts at `now_ns`.
    pub fn load(&mut self, saved: &[u8], now_ns: u64) -> Read<Restored> {
        let mut from = Cursor(saved);
        let saved_ns = from.u64()?;
        let mut contexts = Vec::new();
        while !from.0.is_empty() {
            contexts.push(Context::take(&mut from)?);
        }
        let mut outcome = Restored::default();
        let is_recent = now_ns.abs_diff(saved_ns) <= MAX_SILENCE_NS;
        for context in contexts {
            let is_young = now_ns.abs_diff(context.heard_ns) <= MAX_AGE_NS;
            if is_recent && is_young && self.bearers.has_room() {
                self.revive(context);
                outcome.restored += 1;
            } else {
                outcome.outdated += 1;
            }
        }
        Ok(outcome)
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
    /// A context as it was, under all that it was found by.
    fn revive(&mut self, known: Context) -> ContextId {
        let now_ns = known.heard_ns;
        let id = self.add(now_ns);
        known
            .controls
            .iter()
            .for_each(|&(protocol, end)| self.add_control(id, protocol, end));
        known.ue_keys.iter().for_each(|&key| self.add_ue(id, key));
        let addresses = [known.v4, known.v6].into_iter().flatten();
        addresses.for_each(|address| self.set_address(id, address));
        for bearer in &known.bearers {
            self.add_bearer(id, bearer.id);
            if let Some(qos_class) = bearer.qos_class {
                self.set_qos_class(id, bearer.id, qos_class);
            }
            for &end in &bearer.ends {
                self.set_end(id, bearer.id, end, now_ns);
            }
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
}

/// The contexts of several captures in one piece, by capture point.
pub fn pack(sections: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, saved) in sections.iter().take(MAX_SECTIONS) {
        for part in [name.as_bytes(), saved] {
            (part.len() as u64).put(&mut out);
            out.extend_from_slice(part);
        }
    }
    out
}

/// What `pack` was given.
pub fn unpack(packed: &[u8]) -> Read<Vec<(String, Vec<u8>)>> {
    let mut from = Cursor(packed);
    let mut sections = Vec::new();
    while !from.0.is_empty() && sections.len() < MAX_SECTIONS {
        let name = take_part(&mut from)?;
        let name = str::from_utf8(name).map_err(|_| Malformed::Value)?;
        sections.push((name.to_owned(), take_part(&mut from)?.to_vec()));
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
    UeKey { protocol, node, id },
    Slice {
        service_type,
        differentiator
    },
    Location { cell, area, node },
    Located {
        location,
        time_ns,
        by
    },
);

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
    }
    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self {
            id: Saved::take(from)?,
            ends: take_all(from, MAX_ENDS)?,
            qos_class: Saved::take(from)?,
        })
    }
}

impl Saved for Context {
    fn put(&self, out: &mut Vec<u8>) {
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
        put_all(&self.controls, out);
        put_all(&self.ue_keys, out);
    }

    fn take(from: &mut Cursor<'_>) -> Read<Self> {
        Ok(Self {
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
            roles: Roles::of(take_all(from, MAX_RULES)?),
            rules: take_all(from, MAX_RULES)?,
            left: Saved::take(from)?,
            registered: Saved::take(from)?,
            revision: 0,
            controls: take_all(from, MAX_KEYS)?,
            ue_keys: take_all(from, MAX_KEYS)?,
        })
    }
}
