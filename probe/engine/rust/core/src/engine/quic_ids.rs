//! Connection IDs of QUIC servers: what a connection is called after its client's address changed.
//!
//! A NAT that forgets a client, or a client that changes its network, goes on with the same
//! connection from another address. After a NAT's rebinding the client does not know of it and still
//! uses the ID that the server chose in the handshake; that can be recognised. A client that moves on
//! purpose takes an ID that it was given under encryption (RFC 9000 9.5), so its connection cannot be
//! followed, and neither can that of a server whose IDs are empty.

use std::sync::Arc;

use crate::app::quic::{ConnectionId, Identity, spin_of};
use crate::decap::Address;
use crate::keyed::KeyedMap;

/// Most IDs of each of the two generations: some 15 MB together when full.
const CAPACITY: usize = 32_768;
/// How long a generation lasts. Connections that live longer than two of them are forgotten.
const GENERATION_NS: u64 = 900 * 1_000_000_000;
/// Longest ID (RFC 9000 17.2).
const MAX_ID: usize = 20;

type Key = (Address, u16, ConnectionId);

/// What connections are known by, by their server and the ID it chose.
#[derive(Debug, Default)]
pub struct QuicIds {
    current: KeyedMap<Key, Arc<Identity>>,
    previous: KeyedMap<Key, Arc<Identity>>,
    turned_ns: u64,
    /// A bit for each length that an ID here has: a short header does not tell it.
    lengths: u32,
    /// IDs forgotten before their time because the table was full.
    pub shed: u64,
}

impl QuicIds {
    pub fn remember(
        &mut self,
        server: (Address, u16),
        id: ConnectionId,
        identity: Arc<Identity>,
        now_ns: u64,
    ) {
        let is_full = self.current.len() >= CAPACITY;
        if is_full || now_ns.saturating_sub(self.turned_ns) >= GENERATION_NS {
            self.shed += if is_full {
                self.previous.len() as u64
            } else {
                0
            };
            self.previous = std::mem::take(&mut self.current);
            self.turned_ns = now_ns;
        }
        self.lengths |= 1 << id.as_bytes().len().min(MAX_ID);
        self.current.insert((server.0, server.1, id), identity);
    }

    /// What is known of the connection to which a 1-RTT packet to `server` belongs.
    pub fn find(&self, server: (Address, u16), datagram: &[u8]) -> Option<Arc<Identity>> {
        spin_of(datagram)?;
        let after_first = datagram.get(1..)?;
        (0..=MAX_ID)
            .rev()
            .filter(|length| self.lengths >> length & 1 == 1)
            .filter_map(|length| ConnectionId::new(after_first.get(..length)?))
            .find_map(|id| {
                let key = (server.0, server.1, id);
                self.current.get(&key).or_else(|| self.previous.get(&key))
            })
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: (Address, u16) = (Address(0x0a00_0001), 443);

    fn id(bytes: &[u8]) -> ConnectionId {
        ConnectionId::new(bytes).unwrap()
    }

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity {
            server_name: Some(name.into()),
            ..Identity::default()
        })
    }

    fn name(ids: &QuicIds, server: (Address, u16), datagram: &[u8]) -> Option<String> {
        let identity = ids.find(server, datagram)?;
        identity.server_name.as_deref().map(String::from)
    }

    #[test]
    fn a_connection_is_known_by_its_servers_id() {
        let mut ids = QuicIds::default();
        ids.remember(SERVER, id(b"abcd"), named("four"), 0);
        ids.remember(SERVER, id(b"abcdefgh"), named("eight"), 0);
        assert_eq!(name(&ids, SERVER, b"@abcdefghij").as_deref(), Some("eight"));
        assert_eq!(name(&ids, SERVER, b"`abcdEFGHij").as_deref(), Some("four"));
        assert_eq!(name(&ids, SERVER, b"\xc0abcdefgh"), None, "a long header");
        assert_eq!(name(&ids, SERVER, b"@abc"), None);
        assert_eq!(name(&ids, (SERVER.0, 444), b"@abcdefgh"), None);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_counts_them() {
        let mut ids = QuicIds::default();
        for number in 0..3 * CAPACITY as u32 {
            ids.remember(SERVER, id(&number.to_be_bytes()), named("x"), 5);
        }
        assert!(ids.current.len() <= CAPACITY && ids.previous.len() <= CAPACITY);
        assert_eq!(ids.shed, CAPACITY as u64);
    }
}
