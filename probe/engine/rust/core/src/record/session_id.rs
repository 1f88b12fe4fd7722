//! The name of a session.

use sha2::{Digest, Sha256};

use crate::flow::{FlowKey, protocol_number};

/// Names the sessions of one capture of one probe.
///
/// The first 8 bytes, big-endian, of SHA-256 over: probe_id, 0, capture_point, 0, zeros up to a whole
/// block of 64 bytes (so that all before is hashed once), the lower end's address (16 bytes, IPv4 as
/// `::ffff:a.b.c.d`) and port (2), the higher end's address and port, the IP protocol number (1), the
/// TEID of the first packet (4; 0 without a tunnel), and the time of the first packet in ns (8); numbers
/// are big-endian.
#[derive(Debug, Clone)]
pub struct SessionIds {
    start: Sha256,
}

/// Bytes that SHA-256 takes at once (FIPS 180-4 1).
const BLOCK: usize = 64;

impl SessionIds {
    pub fn new(probe_id: &str, capture_point: &str) -> Self {
        let start = Sha256::new()
            .chain_update(probe_id)
            .chain_update([0])
            .chain_update(capture_point)
            .chain_update([0]);
        let names = probe_id.len() + capture_point.len() + 2;
        let start = start.chain_update(&[0; BLOCK][..names.next_multiple_of(BLOCK) - names]);
        Self { start }
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
        let digest = self.start.clone().chain_update(bytes).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }
}
