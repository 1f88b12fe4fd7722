//! Keys of Initial packets, and their opening (RFC 9001 5).
//!
//! Anyone who saw the client's first packet can derive these keys: they protect against accident,
//! not against readers. That a packet opens proves that it is QUIC, of this version, and whole.

use std::ops::Range;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Nonce, Tag};

use super::packet::{ConnectionId, Long};
use super::version::Sealing;
use crate::sha256::Hmac;

const KEY_LENGTH: usize = 16;
const IV_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;
const SAMPLE_LENGTH: usize = 16;
const MAX_NUMBER_LENGTH: usize = 4;
/// The longest label, of eleven bytes, and what stands around it.
const MAX_INFO: usize = 32;

/// Who sealed a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// What one side seals its Initial packets with.
///
/// Kept as keys, not as ciphers: a key schedule takes less time than a packet, and its 1.5 kB would
/// be most of what a connection costs while its handshake lasts.
#[derive(Debug)]
pub struct Keys {
    key: [u8; KEY_LENGTH],
    iv: [u8; IV_LENGTH],
    header_key: [u8; KEY_LENGTH],
}

/// Longest Initial packet that is opened. Clients and servers send them before they know that a path
/// carries more than 1,200 bytes (RFC 9000 14), and Ethernet's 1,500 are the most in use.
pub const MAX_INITIAL: usize = 2048;
/// Where a packet is opened.
pub type Scratch = [u8; MAX_INITIAL];

/// A packet that opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub number: u64,
    /// Where its frames stand in the scratch space.
    pub frames: Range<usize>,
}

impl Keys {
    /// The keys of `sender` where the client's first Destination Connection ID is `id`
    /// (RFC 9001 5.2); after a Retry it is the one that the Retry asked for.
    pub fn derive(sealing: &Sealing, id: ConnectionId, sender: Sender) -> Self {
        let label: &[u8] = match sender {
            Sender::Client => b"client in",
            Sender::Server => b"server in",
        };
        // HKDF (RFC 5869): Extract is a code under the salt, Expand one under what was extracted.
        let initial = Hmac::new(&sealing.extract().of(id.as_bytes()));
        let secret = Hmac::new(&expand::<32>(&initial, label));
        Self {
            key: expand(&secret, sealing.key_label),
            iv: expand(&secret, sealing.iv_label),
            header_key: expand(&secret, sealing.header_label),
        }
    }

    /// Opens a packet in `scratch`; none if it does not open or does not fit.
    ///
    /// `expected` is the packet number that would follow the highest one opened so far.
    pub fn open(&self, packet: &Long<'_>, expected: u64, scratch: &mut Scratch) -> Option<Opened> {
        if !packet.is_whole {
            return None;
        }
        let scratch = scratch.get_mut(..packet.bytes.len())?;
        scratch.copy_from_slice(packet.bytes);
        let (truncated, length) = self.unmask(scratch, packet.number_at)?;
        let number = full_number(expected, truncated, 8 * length as u32);
        let start = packet.number_at.checked_add(length)?;
        let (header, sealed) = scratch.split_at_mut_checked(start)?;
        let (payload, tag) = sealed.split_at_mut_checked(sealed.len().checked_sub(TAG_LENGTH)?)?;
        let tag = Tag::try_from(&*tag).ok()?;
        Aes128Gcm::new(&self.key.into())
            .decrypt_inout_detached(&self.nonce(number), header, (&mut *payload).into(), &tag)
            .ok()?;
        let end = start.checked_add(payload.len())?;
        Some(Opened {
            number,
            frames: start..end,
        })
    }

    /// Takes the protection off a header (RFC 9001 5.4); returns the packet number as sent, and its
    /// length in bytes.
    fn unmask(&self, packet: &mut [u8], number_at: usize) -> Option<(u64, usize)> {
        let mask = self.mask(packet, number_at)?;
        let (first, _) = packet.split_first_mut()?;
        *first ^= mask[0] & 0x0f;
        let length = usize::from(*first & 3) + 1;
        let field = packet.get_mut(number_at..number_at.checked_add(length)?)?;
        field
            .iter_mut()
            .zip(&mask[1..])
            .for_each(|(byte, mask)| *byte ^= mask);
        let number = field
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        Some((number, length))
    }

    /// The sample starts where the payload would start behind the longest packet number.
    fn mask(&self, packet: &[u8], number_at: usize) -> Option<[u8; 16]> {
        let sampled = packet.get(number_at.checked_add(MAX_NUMBER_LENGTH)?..)?;
        let sample: [u8; SAMPLE_LENGTH] = *sampled.first_chunk()?;
        let mut block = sample.into();
        Aes128::new(&self.header_key.into()).encrypt_block(&mut block);
        Some(block.into())
    }

    fn nonce(&self, number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = self.iv;
        nonce
            .iter_mut()
            .skip(IV_LENGTH - 8)
            .zip(number.to_be_bytes())
            .for_each(|(byte, number)| *byte ^= number);
        nonce.into()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 7.1), for at most 32 bytes: one block of Expand.
fn expand<const N: usize>(secret: &Hmac, label: &[u8]) -> [u8; N] {
    const PREFIX: &[u8] = b"tls13 ";
    let lengths = [0, N as u8, (PREFIX.len() + label.len()) as u8];
    let mut info = [0; MAX_INFO];
    let mut end = 0;
    // Behind HkdfLabel comes the number of the block.
    for part in [&lengths[..], PREFIX, label, &[0, 1]] {
        info[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    let code = secret.of(&info[..end]);
    std::array::from_fn(|at| code[at])
}

/// The packet number nearest to the expected one that ends in the bits sent (RFC 9000 A.3).
fn full_number(expected: u64, truncated: u64, bits: u32) -> u64 {
    let window = 1u64 << bits;
    let candidate = (expected & !(window - 1)) | truncated;
    if candidate + window / 2 <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// Sealing, for tests that need packets of their own.
#[cfg(any(test, feature = "seal"))]
impl Keys {
    /// Seals `frames` behind an unprotected header that ends in a packet number of four bytes.
    pub fn seal(&self, header: &[u8], number: u32, frames: &[u8]) -> Vec<u8> {
        let mut payload = frames.to_vec();
        let nonce = self.nonce(u64::from(number));
        let tag = Aes128Gcm::new(&self.key.into())
            .encrypt_inout_detached(&nonce, header, payload.as_mut_slice().into())
            .expect("the payload is shorter than AES-GCM's limit");
        let mut packet = [header, &payload, &tag].concat();
        let number_at = header.len() - MAX_NUMBER_LENGTH;
        let mask = self
            .mask(&packet, number_at)
            .expect("the payload is long enough to be sampled");
        packet[0] ^= mask[0] & 0x0f;
        for (byte, mask) in packet[number_at..].iter_mut().zip(&mask[1..5]) {
            *byte ^= mask;
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_numbers_are_completed_as_in_rfc_9000_a_3() {
        assert_eq!(full_number(0xa82f_30eb, 0x9b32, 16), 0xa82f_9b32);
        assert_eq!(full_number(0, 7, 8), 7);
        assert_eq!(full_number(256, 255, 8), 255);
        assert_eq!(full_number(255, 0, 8), 256);
    }
}
