//! What an engine knows of the place it watches: which way is up, who and where.

use std::sync::Arc;

use crate::control::attribution::{Attribution, AttributionMap, FlowFacts, Prefix, TunnelFacts};
use crate::control::bearers::Bearers;
use crate::control::message::{Role, TunnelEnd};
use crate::decap::{Address, Inner, Layer, Tunnel, TunnelDirection};
use crate::engine::emit::Stamp;
use crate::engine::place::{self, Place, Places};
use crate::engine::session::Path;
use crate::engine::shard::Part;
use crate::engine::transport::{Payload, Transported};
use crate::flow::{Direction, FlowKey};
use crate::record::pseudonym::Pseudonyms;
use crate::record::session_id::SessionIds;

/// The names, keys and maps of one capture.
pub struct Site {
    pub session_ids: SessionIds,
    pub pseudonyms: Pseudonyms,
    pub map: Arc<AttributionMap>,
    pub subscriber_prefixes: Vec<Prefix>,
    pub ran_prefixes: Vec<Prefix>,
    pub stamp: Stamp,
    pub part: Part,
    pub active_timeout_ns: u64,
    pub places: Places,
}

impl Site {
    /// Decides which way is up, and who opened the flow where that shows.
    ///
    /// In this order: the tunnel's direction, the subscribers' prefixes, the SYN, the well-known
    /// port, `hint`; what says nothing of these starts at its first sender.
    ///
    /// `tunnel` is what the tunnel says, see `tunnel_direction`.
    pub fn orientation(
        &self,
        key: &FlowKey,
        direction: Direction,
        packet: &Transported<'_>,
        tunnel: Option<Direction>,
        hint: Option<Direction>,
    ) -> (Direction, Option<Direction>) {
        let opener = opener(direction, packet);
        let missed_start =
            matches!(&packet.payload, Payload::Segment(segment) if !segment.has_syn());
        let up = tunnel
            .or_else(|| self.by_prefix(key))
            .or(opener)
            .or_else(|| by_port(direction, packet))
            .or(hint)
            .unwrap_or(direction);
        (up, opener.or((!missed_start).then_some(direction)))
    }

    /// Which way is up by the tunnel around a packet: by what it says itself, by who waits at its end, by
    /// the prefixes of the RAN.
    pub fn tunnel_direction(
        &self,
        direction: Direction,
        inner: &Inner<'_>,
        bearers: &Bearers,
        now_ns: u64,
    ) -> Option<Direction> {
        let tunnel = inner.tunnel()?;
        let stated = tunnel.direction.or_else(|| {
            let end = TunnelEnd {
                address: tunnel.destination,
                teid: tunnel.teid,
            };
            match bearers.at_tunnel(end, None, now_ns)?.role? {
                Role::Core | Role::TransitUp => Some(TunnelDirection::Up),
                Role::Access | Role::TransitDown => Some(TunnelDirection::Down),
                Role::Forwarding => None,
            }
        });
        match stated {
            Some(TunnelDirection::Up) => return Some(direction),
            Some(TunnelDirection::Down) => return Some(direction.opposite()),
            None => {}
        }
        let from_ran = |address| {
            self.ran_prefixes
                .iter()
                .any(|prefix| prefix.contains(address))
        };
        match (from_ran(tunnel.source), from_ran(tunnel.destination)) {
            (true, false) => Some(direction),
            (false, true) => Some(direction.opposite()),
            _ => None,
        }
    }

    /// Whether the operator's prefixes say that an address is a subscriber's.
    pub fn is_subscriber(&self, address: Address) -> bool {
        let mut prefixes = self.subscriber_prefixes.iter();
        prefixes.any(|prefix| prefix.contains(address))
    }

    fn by_prefix(&self, key: &FlowKey) -> Option<Direction> {
        match (self.is_subscriber(key.low), self.is_subscriber(key.high)) {
            (true, false) => Some(Direction::Forward),
            (false, true) => Some(Direction::Reverse),
            _ => None,
        }
    }

    /// Looks up whose a flow is and where; `paths` has the one seen last first.
    pub fn place_of(
        &mut self,
        client: Address,
        paths: [Option<&Path>; 2],
        bearers: &Bearers,
        now_ns: u64,
    ) -> Arc<Place> {
        let found = place::find(bearers, client, tunnels_of(paths), now_ns);
        let learned = found.map(|found| self.places.of(&found));
        match learned {
            Some(learned) if self.map.is_empty() && learned.has_subscriber() => learned,
            None if self.map.is_empty() => self.places.of_address(client, &self.pseudonyms),
            learned => {
                let learned = learned.map(Arc::unwrap_or_clone).unwrap_or_default();
                let mapped = self.mapped(client, paths);
                Arc::new(learned.completed(client, mapped, &self.pseudonyms))
            }
        }
    }

    /// What the operator's map says.
    fn mapped(&self, client: Address, paths: [Option<&Path>; 2]) -> Attribution {
        if self.map.is_empty() {
            return Attribution::default();
        }
        let layers = paths.into_iter().flatten().flat_map(|path| &path.layers);
        let vlans: Vec<u16> = layers
            .filter_map(|layer| match layer {
                Layer::Vlan(vlan) => Some(*vlan),
                _ => None,
            })
            .collect();
        let tunnels: Vec<TunnelFacts> = tunnels_of(paths)
            .map(|tunnel| TunnelFacts {
                teid: tunnel.teid,
                addresses: [tunnel.source, tunnel.destination],
            })
            .collect();
        self.map.look_up(&FlowFacts {
            client,
            vlans: &vlans,
            tunnels: &tunnels,
        })
    }
}

fn tunnels_of(paths: [Option<&Path>; 2]) -> impl Iterator<Item = Tunnel> {
    paths.into_iter().flatten().filter_map(|path| path.tunnel)
}

/// Who opened the flow, where the packet says so.
fn opener(direction: Direction, packet: &Transported<'_>) -> Option<Direction> {
    match &packet.payload {
        Payload::Segment(segment) if segment.is_syn() => Some(direction),
        Payload::Segment(segment) if segment.is_syn_ack() => Some(direction.opposite()),
        _ => None,
    }
}

/// The side with the well-known port (below 1024, RFC 6335 6) is the server.
fn by_port(direction: Direction, packet: &Transported<'_>) -> Option<Direction> {
    match (packet.source_port < 1024, packet.destination_port < 1024) {
        (false, true) => Some(direction),
        (true, false) => Some(direction.opposite()),
        _ => None,
    }
}
