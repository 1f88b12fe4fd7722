//! The file in which a probe keeps what it knows of subscribers between two runs.
//!
//! Sealed with AES-256-GCM (NIST SP 800-38D) under a key of its own: HKDF-SHA256 (RFC 5869) of the site
//! key, a random salt that stands in the file, and the probe's name. The tag vouches for every bit, the
//! header included.
//!
//! ```text
//! "EQBEARER", version u8, salt 32 bytes, ciphertext, tag 16 bytes
//! ```

use std::fmt;
use std::io::Read;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

const MAGIC: &[u8; 8] = b"EQBEARER";
const VERSION: u8 = 1;
const SALT: usize = 32;
const HEADER: usize = MAGIC.len() + 1 + SALT;
const TAG: usize = 16;
const KEY: usize = 32;
/// Longest file that is opened, and more than is ever written.
pub const MAX_FILE: usize = 512 << 20;

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not a file of this kind, or cut short within its header.
    Foreign,
    /// Of a version that this probe does not know.
    Version(u8),
    /// Damaged, or sealed under another site key or probe's name: nobody can tell which.
    Unsealed,
    TooLong,
    /// Sealed with the right key, and yet not what is expected.
    Malformed,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => out.write_str("it is not a file of bearers"),
            Self::Version(version) => write!(out, "its version {version} is unknown"),
            Self::Unsealed => out.write_str("it is damaged, or of another probe_id or site key"),
            Self::TooLong => out.write_str("it is too long"),
            Self::Malformed => out.write_str("its content is malformed"),
        }
    }
}

/// A salt that was never used before.
pub fn fresh_salt() -> std::io::Result<[u8; SALT]> {
    let mut salt = [0; SALT];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut salt)?;
    Ok(salt)
}

/// `salt` is to be fresh for each file: the key follows from it.
pub fn seal(plain: &[u8], site_key: &[u8], probe_id: &str, salt: &[u8; SALT]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + plain.len() + TAG);
    file.extend_from_slice(MAGIC);
    file.push(VERSION);
    file.extend_from_slice(salt);
    file.extend_from_slice(plain);
    let (cipher, nonce) = cipher(site_key, probe_id, salt);
    let (header, content) = file.split_at_mut(HEADER);
    // AES-GCM takes 64 GiB, which is more than memory is given to bearers.
    let tag = cipher.encrypt_inout_detached(&nonce, header, content.into());
    match tag {
        Ok(tag) => file.extend_from_slice(&tag),
        Err(_) => file.clear(),
    }
    file
}

/// What `seal` was given.
pub fn open(file: &[u8], site_key: &[u8], probe_id: &str) -> Result<Vec<u8>, Refused> {
    if file.len() > MAX_FILE {
        return Err(Refused::TooLong);
    }
    let (header, sealed) = file.split_at_checked(HEADER).ok_or(Refused::Foreign)?;
    let behind = header.strip_prefix(MAGIC).ok_or(Refused::Foreign)?;
    let (&version, salt) = behind.split_first().ok_or(Refused::Foreign)?;
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let (content, tag) = sealed.split_last_chunk::<TAG>().ok_or(Refused::Unsealed)?;
    let mut plain = content.to_vec();
    let (cipher, nonce) = cipher(site_key, probe_id, salt);
    let tag = Tag::from(*tag);
    cipher
        .decrypt_inout_detached(&nonce, header, plain.as_mut_slice().into(), &tag)
        .map_err(|_| Refused::Unsealed)?;
    Ok(plain)
}

fn cipher(site_key: &[u8], probe_id: &str, salt: &[u8]) -> (Aes256Gcm, Nonce<U12>) {
    let (mut key, mut nonce) = ([0; KEY], [0; 12]);
    let derived = Hkdf::<Sha256>::new(Some(salt), site_key);
    for (what, out) in [("key", &mut key[..]), ("nonce", &mut nonce[..])] {
        let info = [
            b"edgeqoe bearers ",
            what.as_bytes(),
            b" ",
            probe_id.as_bytes(),
        ];
        // Far less than HKDF can give.
        let _ = derived.expand_multi_info(&info, out);
    }
    let cipher = Aes256Gcm::new(&key.into());
    zeroize::Zeroize::zeroize(&mut key);
    (cipher, nonce.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALTED: [u8; SALT] = [7; SALT];

    #[test]
    fn what_is_sealed_opens_for_the_same_probe_alone() {
        let file = seal(b"who is who", b"key", "probe-1", &SALTED);
        assert_eq!(
            open(&file, b"key", "probe-1").as_deref(),
            Ok(&b"who is who"[..])
        );
        assert_eq!(open(&file, b"other", "probe-1"), Err(Refused::Unsealed));
        assert_eq!(open(&file, b"key", "probe-2"), Err(Refused::Unsealed));
        assert!(!file.windows(3).any(|bytes| bytes == b"who"));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let file = seal(b"who is who", b"key", "probe-1", &SALTED);
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&damaged, b"key", "probe-1").is_err(), "bit {bit}");
        }
        for cut in 0..file.len() {
            assert!(
                open(&file[..cut], b"key", "probe-1").is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn another_version_and_another_kind_of_file_are_told() {
        let mut file = seal(b"", b"key", "probe-1", &SALTED);
        file[MAGIC.len()] = 9;
        assert_eq!(open(&file, b"key", "probe-1"), Err(Refused::Version(9)));
        assert_eq!(open(&[b'x'; 99], b"key", "probe-1"), Err(Refused::Foreign));
        assert_eq!(open(b"", b"key", "probe-1"), Err(Refused::Foreign));
    }

    #[test]
    fn two_files_of_the_same_content_have_nothing_in_common() {
        let [one, other] = [0; 2].map(|_| fresh_salt().expect("a source of random numbers"));
        let files = [one, other].map(|salt| seal(&[0; 64], b"key", "probe-1", &salt));
        assert_ne!(files[0][HEADER..], files[1][HEADER..]);
    }
}
