//! SHA-256 (FIPS 180-4) of messages of a few bytes, and HMAC (RFC 2104) with keys prepared once.
//!
//! Every session has a name and each QUIC connection keys, so the engine hashes for each of them. The
//! rounds are those of `sha2`, which uses the processor's instructions where it has them; here nothing is
//! hashed twice that several messages begin with, and nothing is copied.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

/// Bytes that SHA-256 takes in at once.
pub const BLOCK: usize = 64;
/// Bytes of a message that fit into one block with the padding behind them.
pub const SHORT: usize = BLOCK - 9;

pub type Block = [u8; BLOCK];
pub type Output = [u8; 32];

/// What has been taken in so far, in whole blocks.
pub type State = [u32; 8];

/// FIPS 180-4 5.3.3.
pub const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Takes in a block.
pub fn compress(state: &mut State, block: &Block) {
    compress256(state, std::slice::from_ref(block));
}

/// The last block of a message: what is left of it, at most [`SHORT`] bytes, behind so many whole blocks.
pub fn last_block(rest: &[u8], blocks_before: usize) -> Block {
    debug_assert!(rest.len() <= SHORT);
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 0x80;
    let bits = 8 * (blocks_before * BLOCK + rest.len()) as u64;
    block[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
    block
}

pub fn output(state: &State) -> Output {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

/// HMAC-SHA-256 under one key, whose pads have been taken in.
#[derive(Debug, Clone)]
pub struct Hmac {
    inner: State,
    outer: State,
}

impl Hmac {
    /// `key` may have any length: a long one is hashed first.
    pub fn new(key: &[u8]) -> Self {
        let mut padded = [0; BLOCK];
        match padded.get_mut(..key.len()) {
            Some(place) => place.copy_from_slice(key),
            None => padded[..32].copy_from_slice(&Sha256::digest(key)),
        }
        let [inner, outer] = [0x36, 0x5c].map(|pad| {
            let mut state = START;
            compress(&mut state, &padded.map(|byte| byte ^ pad));
            state
        });
        Self { inner, outer }
    }

    /// The code of a message.
    pub fn of(&self, message: &[u8]) -> Output {
        let (blocks, rest) = message.as_chunks();
        let mut state = self.inner;
        blocks.iter().for_each(|block| compress(&mut state, block));
        // The key's block is the first.
        let before = 1 + blocks.len();
        if rest.len() <= SHORT {
            compress(&mut state, &last_block(rest, before));
        } else {
            let mut split = [0; BLOCK];
            split[..rest.len()].copy_from_slice(rest);
            split[rest.len()] = 0x80;
            compress(&mut state, &split);
            let mut last = last_block(&[], before);
            last[0] = 0;
            let bits = 8 * (before * BLOCK + rest.len()) as u64;
            last[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
            compress(&mut state, &last);
        }
        let mut outer = self.outer;
        compress(&mut outer, &last_block(&output(&state), 1));
        output(&outer)
    }
}

#[cfg(test)]
mod tests {
    use hmac::{KeyInit, Mac};

    use super::*;

    fn reference(key: &[u8], message: &[u8]) -> Output {
        let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    #[test]
    fn messages_of_every_length_have_the_code_that_another_library_gives() {
        let message: Vec<u8> = (0..200).collect();
        for key in [&b""[..], b"key", &[7; 64], &[9; 65]] {
            let ours = Hmac::new(key);
            for length in 0..message.len() {
                let message = &message[..length];
                assert_eq!(ours.of(message), reference(key, message), "{length}");
            }
        }
    }
}
