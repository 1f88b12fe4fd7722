//! Whose a flow is and where: by the control plane, else by the operator's map, else by address.

use std::sync::Arc;

use crate::control::attribution::Attribution;
use crate::control::bearers::{Bearers, Context, Found, Located, host};
use crate::control::message::{Protocol, Role, TunnelEnd};
use crate::decap::{Address, Tunnel};
use crate::record::pseudonym::Pseudonyms;

/// By the client address alone.
const BY_ADDRESS: &str = "address";
/// By the operator's map.
const BY_MAP: &str = "map";

/// How long a message may come after the packets that it explains.
const TOLD_WITHIN_NS: u64 = 1_000_000_000;

/// Who a flow belongs to and where it is, as far as known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub subscriber_id: [u8; 16],
    pub subscriber_source: &'static str,
    pub cell_id: Option<Box<str>>,
    pub cell_source: Option<&'static str>,
    /// When the control plane said where the device is.
    pub located_ns: Option<u64>,
    /// The control plane, not a map, knows the cell or the base station.
    pub is_learned: bool,
    /// Where it is was only asked for, and may be refused.
    is_asked: bool,
    /// The base station, as packets show it.
    access: Option<Address>,
    pub ran_node_id: Option<Box<str>>,
    pub tracking_area: Option<Box<str>>,
    pub rat: Option<Box<str>>,
    pub apn: Option<Box<str>>,
    pub imei_tac: Option<Box<str>>,
    pub slice: Option<Box<str>>,
    pub qos_class: Option<u8>,
}

impl Place {
    /// More is known than the client's address.
    pub fn is_known(&self) -> bool {
        self.is_named() || self.cell_id.is_some() || self.ran_node_id.is_some()
    }

    /// There is anybody at all; a request of the control plane may be about nobody known.
    pub fn has_subscriber(&self) -> bool {
        !self.subscriber_source.is_empty()
    }

    /// Where a context's subscriber is.
    pub fn of_context(context: &Context) -> Self {
        learned(context, context.located, None, context.access_address())
    }

    /// Somebody is known by more than an address.
    pub fn is_named(&self) -> bool {
        self.subscriber_source != BY_ADDRESS
    }

    /// Both are known by more than an address, and they are two.
    pub fn is_another_subscriber(&self, before: &Self) -> bool {
        self.is_named() && before.is_named() && self.subscriber_id != before.subscriber_id
    }

    /// Both cells (or base stations, where no cell is known) are known, and they are two.
    pub fn is_another_cell(&self, before: &Self) -> bool {
        let differ = |now: &Option<Box<str>>, then: &Option<Box<str>>| {
            now.is_some() && then.is_some() && now != then
        };
        differ(&self.cell_id, &before.cell_id) || differ(&self.ran_node_id, &before.ran_node_id)
    }

    /// The control plane knows both, and they are two cells, or base stations.
    pub fn is_apart(&self, from: &Self) -> bool {
        self.is_learned && from.is_learned && self.is_another_cell(from)
    }

    /// What began `since_ns` in `before` was here all the while: messages follow the packets that come from
    /// a new base station, and refusals follow requests.
    pub fn is_told_late(&self, before: &Self, since_ns: u64, now_ns: u64) -> bool {
        let is_recent = now_ns.saturating_sub(since_ns) < TOLD_WITHIN_NS;
        let was_nowhere = before.located_ns.is_none() && self.located_ns.is_some();
        let is_same_node = self.access.is_some() && self.access == before.access;
        let is_back = self.located_ns <= before.located_ns;
        let is_refused = before.is_asked && !self.is_asked && is_back;
        let began_asked = before
            .located_ns
            .is_some_and(|asked_ns| asked_ns <= since_ns);
        is_recent && (was_nowhere && is_same_node || is_refused && began_asked)
    }

    /// Both classes of service are known, and they are two: another bearer carries it.
    pub fn is_another_class(&self, before: &Self) -> bool {
        let classes = self.qos_class.zip(before.qos_class);
        classes.is_some_and(|(now, then)| now != then)
    }

    /// Where the device is has become known, or is not known any more.
    pub fn is_found_or_lost(&self, before: &Self) -> bool {
        (self.cell_id.is_some(), self.ran_node_id.is_some())
            != (before.cell_id.is_some(), before.ran_node_id.is_some())
    }

    /// With what the operator's map says where the control plane said nothing.
    pub fn completed(
        mut self,
        client: Address,
        mapped: Attribution,
        pseudonyms: &Pseudonyms,
    ) -> Self {
        name(&mut self, client, &mapped, pseudonyms);
        if self.cell_id.is_none() && self.ran_node_id.is_none() {
            self.cell_source = mapped.cell_id.as_ref().map(|_| BY_MAP);
            self.cell_id = boxed(mapped.cell_id);
            self.ran_node_id = boxed(mapped.ran_node_id);
            self.tracking_area = self.tracking_area.or(boxed(mapped.tracking_area));
        }
        self.rat = self.rat.or(boxed(mapped.rat));
        self.apn = self.apn.or(boxed(mapped.apn));
        self
    }
}

/// What was put together last of the contexts, for their next flows: writing texts costs more than all
/// the rest of a look-up, and most flows of a device find what the one before found.
#[derive(Debug, Default)]
pub struct Places {
    /// [`PLACES_KEPT`] from the first context on, by the context's slot.
    kept: Vec<Option<(Seen, Arc<Place>)>>,
    /// Of clients known by their address alone: [`ADDRESS_SETS`] from the first on, by the address. The
    /// one asked for last stands first in its set.
    by_address: Vec<[Kept; WAYS]>,
}

/// Contexts whose place is kept, some 150 bytes each; a further one takes another's room.
const PLACES_KEPT: usize = 4096;

/// A client known by its address alone, and its place.
type Kept = Option<(Address, Arc<Place>)>;

/// Sets of clients known by their address whose place is kept, 32,768 in all of some 300 bytes each; a
/// further one takes the room of the one of its set that was not asked for the longest. A pseudonym
/// costs as much as ten packets.
const ADDRESS_SETS: usize = 1 << 13;
const WAYS: usize = 4;

/// All that a place is made of.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    revision: u64,
    located: Located,
    qos_class: Option<u8>,
    access: Option<Address>,
}

impl Places {
    /// The place of a client of whom nothing but the address is known.
    pub fn of_address(&mut self, client: Address, pseudonyms: &Pseudonyms) -> Arc<Place> {
        let host = host(client);
        if self.by_address.is_empty() {
            self.by_address.resize_with(ADDRESS_SETS, Default::default);
        }
        let set = &mut self.by_address[set_of(host)];
        let is_host = |kept: &Kept| matches!(kept, Some((known, _)) if *known == host);
        let at = set.iter().position(is_host);
        set[..=at.unwrap_or(WAYS - 1)].rotate_right(1);
        if at.is_none() {
            let nobody = Place::default();
            let place = nobody.completed(client, Attribution::default(), pseudonyms);
            set[0] = Some((host, Arc::new(place)));
        }
        let (_, place) = set[0].get_or_insert_with(|| (host, Arc::default()));
        Arc::clone(place)
    }

    /// What the control plane says of a place.
    pub fn of(&mut self, found: &Found<'_>) -> Arc<Place> {
        let seen = Seen {
            revision: found.context.revision(),
            located: found.located,
            qos_class: found.qos_class,
            access: found.access,
        };
        if self.kept.is_empty() {
            self.kept.resize_with(PLACES_KEPT, || None);
        }
        let kept = &mut self.kept[found.id.slot() % PLACES_KEPT];
        match kept {
            Some((known, place)) if *known == seen => Arc::clone(place),
            _ => {
                let place = Arc::new(of_found(found));
                *kept = Some((seen, Arc::clone(&place)));
                place
            }
        }
    }
}

/// Neighbours in an address range have slots of their own (Fibonacci hashing, Knuth vol. 3, 6.4).
fn set_of(host: Address) -> usize {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let folded = (host.0 >> 64) as u64 ^ host.0 as u64;
    (folded.wrapping_mul(GOLDEN_RATIO) >> 32) as usize % ADDRESS_SETS
}

fn of_found(found: &Found<'_>) -> Place {
    learned(found.context, found.located, found.qos_class, found.access)
}

fn name(place: &mut Place, client: Address, mapped: &Attribution, pseudonyms: &Pseudonyms) {
    if !place.subscriber_source.is_empty() {
        return;
    }
    (place.subscriber_id, place.subscriber_source) = match &mapped.subscriber {
        Some(identity) => (pseudonyms.of(identity), BY_MAP),
        None => (pseudonyms.of_address(client), BY_ADDRESS),
    };
}

fn boxed(text: Option<String>) -> Option<Box<str>> {
    text.map(Into::into)
}

/// `base_station`: its address, as packets show it.
fn learned(
    context: &Context,
    located: Located,
    qos_class: Option<u8>,
    base_station: Option<Address>,
) -> Place {
    let location = located.location;
    let text = |shown: Option<&dyn std::fmt::Display>| shown.map(|one| one.to_string().into());
    let cell = location.cell.as_ref().map(|cell| cell as _);
    let node = location.node.as_ref().map(|node| node as _);
    let area = location.area.as_ref().map(|area| area as _);
    let access = base_station.as_ref().map(|address| address as _);
    let is_placed = location.cell.is_some() || location.node.is_some();
    Place {
        subscriber_id: context.subscriber.unwrap_or_default(),
        subscriber_source: source_of(context.subscriber.and(context.named_by)),
        cell_id: text(cell),
        cell_source: Some(source_of(located.by)).filter(|source| !source.is_empty()),
        located_ns: is_placed.then_some(located.time_ns),
        is_learned: is_placed || base_station.is_some(),
        is_asked: located.is_asked,
        access: base_station,
        // N4 alone tells of the base station no more than its address.
        ran_node_id: text(node).or_else(|| text(access)),
        tracking_area: text(area),
        rat: context.rat.map(|rat| rat.as_str().into()),
        apn: context.apn.as_deref().map(Into::into),
        imei_tac: context
            .imei_tac
            .and_then(|code| str::from_utf8(&code).ok().map(Into::into)),
        slice: text(context.slice.as_ref().map(|slice| slice as _)),
        qos_class,
    }
}

fn source_of(protocol: Option<Protocol>) -> &'static str {
    protocol.map_or("", |protocol| match protocol {
        Protocol::Gtpv1 => "gtpv1",
        Protocol::Gtpv2 => "gtpv2",
        Protocol::Pfcp => "pfcp",
        Protocol::Radius => "radius",
        Protocol::S1ap => "s1ap",
        Protocol::Ngap => "ngap",
    })
}

/// What the control plane says of a flow: by its tunnels, the newest first, else by the client's
/// address. Access points may give the same address to two subscribers: a packet in a tunnel that is
/// not known is none of a client whose own tunnels are.
pub fn find<'a>(
    bearers: &'a Bearers,
    client: Address,
    tunnels: impl Iterator<Item = Tunnel>,
    now_ns: u64,
) -> Option<Found<'a>> {
    let mut is_tunnelled = false;
    for tunnel in tunnels {
        is_tunnelled = true;
        let end = TunnelEnd {
            address: tunnel.destination,
            teid: tunnel.teid,
        };
        let found = bearers.at_tunnel(end, tunnel.qfi, now_ns);
        let is_its = |found: &Found<'_>| !bearers.is_anothers(found, client);
        if let Some(found) = found.filter(is_its) {
            return Some(seen_from(found, &tunnel, now_ns));
        }
    }
    let found = bearers.at_address(client)?;
    (!is_tunnelled || !has_own_tunnels(found.context)).then_some(found)
}

fn has_own_tunnels(context: &Context) -> bool {
    let mut ends = context.bearers.iter().flat_map(|bearer| &bearer.ends);
    ends.any(|end| matches!(end.role, Role::Access | Role::Core))
}

/// A packet that goes up from another base station than the one known is still on its way from the one
/// before, or the device has moved, and it was not said yet where to.
fn seen_from<'a>(found: Found<'a>, tunnel: &Tunnel, now_ns: u64) -> Found<'a> {
    if found.role != Some(Role::Core) {
        return found;
    }
    let moved = found.access.is_some() && !found.context.is_at(tunnel.source);
    let located = if moved {
        let before = found.context.located_at(tunnel.source, now_ns);
        before.unwrap_or_default()
    } else {
        found.located
    };
    Found {
        located,
        access: Some(tunnel.source),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::BearerEnd;

    const CLIENT: Address = Address(0xffff_0a2d_0007);

    fn tunnel(teid: u32) -> Tunnel {
        Tunnel {
            source: Address::v4([10, 0, 0, 1]),
            destination: Address::v4([10, 0, 0, 9]),
            teid,
            direction: None,
            qfi: None,
        }
    }

    fn known_by(role: Option<Role>) -> Bearers {
        let mut bearers = Bearers::new(10);
        let id = bearers.add(0);
        bearers.set_address(id, CLIENT);
        if let Some(role) = role {
            let end = TunnelEnd {
                address: Address::v4([10, 0, 0, 9]),
                teid: 7,
            };
            bearers.set_end(id, 5, BearerEnd { role, end }, 0);
        }
        bearers
    }

    fn placed(cell: Option<&str>, located_ns: Option<u64>, access: u8) -> Place {
        Place {
            cell_id: cell.map(Into::into),
            located_ns,
            is_learned: true,
            access: Some(Address::v4([10, 0, 0, access])),
            ..Place::default()
        }
    }

    #[test]
    fn what_came_from_a_new_base_station_was_in_the_cell_that_is_told_soon_after() {
        const MS: u64 = 1_000_000;
        let nowhere = placed(None, None, 2);
        let told = placed(Some("b"), Some(1000 * MS), 2);
        assert!(told.is_told_late(&nowhere, 998 * MS, 1000 * MS));
        assert!(
            !told.is_told_late(&nowhere, 0, 1000 * MS),
            "a second is long"
        );
        let elsewhere = placed(Some("c"), Some(1000 * MS), 3);
        assert!(!elsewhere.is_told_late(&nowhere, 998 * MS, 1000 * MS));
        let known = placed(Some("a"), Some(0), 2);
        assert!(!told.is_told_late(&known, 998 * MS, 1000 * MS), "it moved");
    }

    #[test]
    fn what_was_only_asked_for_and_refused_was_where_it_had_been() {
        const MS: u64 = 1_000_000;
        let before = placed(Some("a"), Some(0), 2);
        let asked = Place {
            is_asked: true,
            ..placed(Some("b"), Some(500 * MS), 2)
        };
        assert!(before.is_told_late(&asked, 500 * MS, 505 * MS));
        // The interval holds what came before the request.
        assert!(!before.is_told_late(&asked, 400 * MS, 505 * MS));
        // It moved on instead.
        let next = placed(Some("c"), Some(505 * MS), 2);
        assert!(!next.is_told_late(&asked, 500 * MS, 505 * MS));
    }

    #[test]
    fn an_address_in_a_tunnel_of_nobody_known_is_not_a_subscriber_with_tunnels() {
        let found = |bearers: &Bearers, teid: Option<u32>| {
            find(bearers, CLIENT, teid.map(tunnel).into_iter(), 0).is_some()
        };
        let with_tunnel = known_by(Some(Role::Core));
        assert!(found(&with_tunnel, Some(7)) && found(&with_tunnel, None));
        assert!(!found(&with_tunnel, Some(8)));
        assert!(found(&known_by(None), Some(8)), "known by RADIUS");
        assert!(found(&known_by(Some(Role::TransitUp)), Some(8)), "by S5");
    }
}
