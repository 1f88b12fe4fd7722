//! The name of a session.

use crate::flow::{FlowKey, protocol_number};
use crate::sha256::{BLOCK, START, State, compress, last_block};

/// Names the sessions of one capture of one probe.
///
/// The first 8 bytes, big-endian, of SHA-256 over: probe_id, 0, capture_point, 0, zeros up to a whole
/// block of 64 bytes (so that all before is hashed once), the lower end's address (16 bytes, IPv4 as
/// `::ffff:a.b.c.d`) and port (2), the higher end's address and port, the IP protocol number (1), the
/// TEID of the first packet (4; 0 without a tunnel), and the time of the first packet in ns (8); numbers
/// are big-endian.
#[derive(Debug, Clone)]
pub struct SessionIds {
    names: State,
    name_blocks: usize,
}

impl SessionIds {
    pub fn new(probe_id: &str, capture_point: &str) -> Self {
        let mut names = [probe_id, "\0", capture_point, "\0"].concat().into_bytes();
        names.resize(names.len().next_multiple_of(BLOCK), 0);
        let (blocks, _) = names.as_chunks();
        let mut state = START;
        blocks.iter().for_each(|block| compress(&mut state, block));
        Self {
            names: state,
            name_blocks: blocks.len(),
        }
    }

    pub fn of(&self, key: &FlowKey, teid: Option<u32>, flow_start_ns: u64) -> u64 {
        let mut bytes = [0; 49];
        bytes[..16].copy_from_slice(&key.low.0.to_be_bytes());
        bytes[16..18].copy_from_slice(&key.low_port.to_be_bytes());
        bytes[18..34].copy_from_slice(&key.high.0.to_be_bytes());
        bytes[34..36].copy_from_slice(&key.high_port.to_be_bytes());
        bytes[36] = protocol_number(key.transport);
        bytes[37..41].copy_from_slice(&teid.unwrap_or(0).to_be_bytes());
        bytes[41..49].copy_from_slice(&flow_start_ns.to_be_bytes());
        let mut state = self.names;
        compress(&mut state, &last_block(&bytes, self.name_blocks));
        u64::from(state[0]) << 32 | u64::from(state[1])
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::decap::{Address, Transport};

    #[test]
    fn a_session_is_named_by_the_sha_256_of_what_tells_it_from_all_others() {
        let ends = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Address::v4);
        let (key, _) = FlowKey::of(ends[0], 1025, ends[1], 443, Transport::Tcp);
        let mut message = b"edge-1\0s1u\0".to_vec();
        message.resize(BLOCK, 0);
        for (end, port) in ends.iter().zip([1025u16, 443]) {
            message.extend(end.0.to_be_bytes());
            message.extend(port.to_be_bytes());
        }
        message.push(6);
        message.extend(7u32.to_be_bytes());
        message.extend(1_700_000_000_000_000_001u64.to_be_bytes());
        let digest = Sha256::digest(&message);
        let expected = u64::from_be_bytes(*digest.first_chunk().unwrap());
        let named = SessionIds::new("edge-1", "s1u");
        assert_eq!(named.of(&key, Some(7), 1_700_000_000_000_000_001), expected);
    }
}
