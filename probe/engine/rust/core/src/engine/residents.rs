//! Which flows live in a tunnel or behind an address, so that they hear when that becomes another's.

use std::collections::{BTreeSet, HashMap};

use crate::control::learner::DataKey;
use crate::control::message::TunnelEnd;
use crate::decap::Address;
use crate::engine::session::Path;
use crate::flow::FlowId;

/// Flows by what the control plane could know them by. Nothing is kept before the control plane says
/// something; from then on at most three entries a flow, of 12 bytes in a tree.
#[derive(Debug, Default)]
pub struct Residents(Option<Houses>);

#[derive(Debug, Default)]
struct Houses {
    /// What the houses are called in short, and how many flows live there.
    numbers: HashMap<DataKey, House>,
    next_number: u32,
    residents: BTreeSet<(u32, FlowId)>,
}

#[derive(Debug, Clone, Copy)]
struct House {
    number: u32,
    residents: u32,
}

impl Residents {
    /// Begins to keep them; true if they were not kept before, so that those who live now are to enter.
    pub fn begin(&mut self) -> bool {
        let is_new = self.0.is_none();
        self.0.get_or_insert_default();
        is_new
    }

    pub fn enter_address(&mut self, client: Address, id: FlowId) {
        if let Some(houses) = &mut self.0 {
            houses.enter(address_key(client), id);
        }
    }

    pub fn leave_address(&mut self, client: Address, id: FlowId) {
        if let Some(houses) = &mut self.0 {
            houses.leave(address_key(client), id);
        }
    }

    pub fn enter_tunnel(&mut self, path: &Path, id: FlowId) {
        if let (Some(houses), Some(key)) = (&mut self.0, tunnel_key(path)) {
            houses.enter(key, id);
        }
    }

    pub fn leave_tunnel(&mut self, path: &Path, id: FlowId) {
        if let (Some(houses), Some(key)) = (&mut self.0, tunnel_key(path)) {
            houses.leave(key, id);
        }
    }

    /// All flows behind any of the keys, each once, in order.
    pub fn behind(&self, keys: &[DataKey]) -> Vec<FlowId> {
        let Some(houses) = &self.0 else {
            return Vec::new();
        };
        let mut found: Vec<FlowId> = keys.iter().flat_map(|key| houses.behind(key)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Houses {
    fn enter(&mut self, key: DataKey, id: FlowId) {
        // Numbers are taken again only after 4 billion houses; none of the first is left by then.
        let next_number = &mut self.next_number;
        let house = self.numbers.entry(key).or_insert_with(|| {
            *next_number = next_number.wrapping_add(1);
            House {
                number: *next_number,
                residents: 0,
            }
        });
        house.residents += u32::from(self.residents.insert((house.number, id)));
    }

    fn leave(&mut self, key: DataKey, id: FlowId) {
        let Some(house) = self.numbers.get_mut(&key) else {
            return;
        };
        house.residents -= u32::from(self.residents.remove(&(house.number, id)));
        if house.residents == 0 {
            self.numbers.remove(&key);
        }
    }

    fn behind(&self, key: &DataKey) -> impl Iterator<Item = FlowId> {
        let house = self.numbers.get(key);
        house.into_iter().flat_map(|house| {
            let ids = (house.number, FlowId::MIN)..=(house.number, FlowId::MAX);
            self.residents.range(ids).map(|&(_, id)| id)
        })
    }
}

/// As the control plane knows a device: by its IPv4 address or the /64 of its IPv6 address.
fn address_key(client: Address) -> DataKey {
    DataKey::Address(match client.as_v4() {
        Some(_) => client,
        None => Address(client.0 & !u128::from(u64::MAX)),
    })
}

fn tunnel_key(path: &Path) -> Option<DataKey> {
    let tunnel = path.tunnel?;
    Some(DataKey::Tunnel(TunnelEnd {
        address: tunnel.destination,
        teid: tunnel.teid,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(slot: u32) -> FlowId {
        FlowId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn flows_are_found_by_their_address_until_they_leave() {
        let [one, other] = [Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2])];
        let mut residents = Residents::default();
        residents.enter_address(one, id(9));
        assert!(residents.behind(&[address_key(one)]).is_empty());
        assert!(residents.begin() && !residents.begin());
        for slot in [3, 1, 2] {
            residents.enter_address(one, id(slot));
        }
        residents.enter_address(other, id(1));
        let both = [address_key(other), address_key(one)];
        assert_eq!(residents.behind(&both), [id(1), id(2), id(3)]);
        for slot in [1, 2, 3] {
            residents.leave_address(one, id(slot));
        }
        assert_eq!(residents.behind(&both), [id(1)]);
        residents.leave_address(other, id(1));
        assert!(residents.0.is_some_and(|houses| houses.numbers.is_empty()));
    }
}
