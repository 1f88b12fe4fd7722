//! Which flows live in a tunnel or behind an address, so that they hear when that becomes another's.

use std::collections::BTreeSet;

use crate::control::learner::DataKey;
use crate::control::message::TunnelEnd;
use crate::decap::Address;
use crate::engine::session::Path;
use crate::flow::FlowId;

/// Flows by what the control plane could know them by. As large as the flow table, at three entries a
/// flow.
#[derive(Debug, Default)]
pub struct Residents(BTreeSet<(DataKey, FlowId)>);

impl Residents {
    pub fn enter_address(&mut self, client: Address, id: FlowId) {
        self.0.insert((address_key(client), id));
    }

    pub fn enter_tunnel(&mut self, path: &Path, id: FlowId) {
        self.0.extend(tunnel_key(path).map(|key| (key, id)));
    }

    pub fn leave_tunnel(&mut self, path: &Path, id: FlowId) {
        if let Some(key) = tunnel_key(path) {
            self.0.remove(&(key, id));
        }
    }

    pub fn leave(&mut self, client: Address, paths: &[Option<Path>; 2], id: FlowId) {
        self.0.remove(&(address_key(client), id));
        for path in paths.iter().flatten() {
            self.leave_tunnel(path, id);
        }
    }

    /// All flows behind any of the keys, each once, in order.
    pub fn behind(&self, keys: &[DataKey]) -> Vec<FlowId> {
        let all = |&key: &DataKey| self.0.range((key, FlowId::MIN)..=(key, FlowId::MAX));
        let mut found: Vec<FlowId> = keys.iter().flat_map(all).map(|&(_, id)| id).collect();
        found.sort_unstable();
        found.dedup();
        found
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
