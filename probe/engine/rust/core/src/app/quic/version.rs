//! Version numbers: which are QUIC, and how each seals its Initial packets.

use std::sync::OnceLock;

use crate::sha256::Hmac;

/// How a version derives the keys of its Initial packets (RFC 9001 5.2).
#[derive(Debug)]
pub struct Sealing {
    salt: [u8; 20],
    /// The code under the salt, which is the same for all connections.
    extract: OnceLock<Hmac>,
    pub key_label: &'static [u8],
    pub iv_label: &'static [u8],
    pub header_label: &'static [u8],
}

impl Sealing {
    /// HKDF-Extract (RFC 5869 2.2) with the version's salt.
    pub fn extract(&self) -> &Hmac {
        self.extract.get_or_init(|| Hmac::new(&self.salt))
    }
}

const fn sealing(salt: [u8; 20]) -> Sealing {
    Sealing {
        salt,
        extract: OnceLock::new(),
        key_label: b"quic key",
        iv_label: b"quic iv",
        header_label: b"quic hp",
    }
}

/// RFC 9001 5.2; drafts 33 and 34 have the same salt.
static V1: Sealing = sealing([
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
]);
/// RFC 9369 3.3.1 and 3.3.2.
static V2: Sealing = Sealing {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    extract: OnceLock::new(),
    key_label: b"quicv2 key",
    iv_label: b"quicv2 iv",
    header_label: b"quicv2 hp",
};
/// draft-ietf-quic-tls-29 5.2, unchanged up to draft 32.
static DRAFT_29: Sealing = sealing([
    0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0,
    0x43, 0x90, 0xa8, 0x99,
]);
/// draft-ietf-quic-tls-23 5.2, unchanged up to draft 28.
static DRAFT_23: Sealing = sealing([
    0xc3, 0xee, 0xf7, 0x12, 0xc7, 0x2e, 0xbb, 0x5a, 0x11, 0xa7, 0xd2, 0x43, 0x2b, 0xb4, 0x63, 0x65,
    0xbe, 0xf9, 0xf5, 0x02,
]);
/// draft-ietf-quic-tls-22 5.2.
static DRAFT_22: Sealing = sealing([
    0x7f, 0xbc, 0xdb, 0x0e, 0x7c, 0x66, 0xbb, 0xe9, 0x19, 0x3a, 0x96, 0xcd, 0x21, 0x51, 0x9e, 0xbd,
    0x7a, 0x02, 0x64, 0x4a,
]);
/// Google's T050 and T051, as Chromium's QUIC library and Wireshark publish them.
static GOOGLE_T050: Sealing = sealing([
    0x7f, 0xf5, 0x79, 0xe5, 0xac, 0xd0, 0x72, 0x91, 0x55, 0x80, 0x30, 0x4c, 0x43, 0xa2, 0x36, 0x7c,
    0x60, 0x48, 0x83, 0x10,
]);
static GOOGLE_T051: Sealing = sealing([
    0x7a, 0x4e, 0xde, 0xf4, 0xe7, 0xcc, 0xee, 0x5f, 0xa4, 0x50, 0x6c, 0x19, 0x12, 0x4f, 0xc8, 0xcc,
    0xda, 0x6e, 0x03, 0x3d,
]);

/// A list of sealings.
macro_rules! those {
    ($($sealing:ident),+) => {{
        static THOSE: &[&Sealing] = &[$(&$sealing),+];
        THOSE
    }};
}

/// What a version whose number does not tell may use; the authentication tag says which it is.
static ANY: &[&Sealing] = &[&V1, &DRAFT_29, &DRAFT_23, &V2, &DRAFT_22];

pub const VERSION_1: u32 = 1;
pub const VERSION_2: u32 = 0x6b33_43cf;
const T050: u32 = u32::from_be_bytes(*b"T050");
const T051: u32 = u32::from_be_bytes(*b"T051");

/// The sealings that a version may use, likeliest first; empty where none is known.
///
/// Facebook's mvfst (`quic/QuicConstants.h`) numbers its versions 0xfaceb0xx: 01 is draft 22, 02
/// and 0e are drafts 23 to 28, 03 is version 1; later ones seal like one of those. Numbers of the
/// form 0x?a?a?a?a are reserved to force version negotiation (RFC 9000 15).
pub fn sealings(version: u32) -> &'static [&'static Sealing] {
    match version {
        VERSION_1 | 0xff00_0021..=0xff00_0022 | 0xface_b003 => those!(V1),
        VERSION_2 => those!(V2),
        0xff00_001d..=0xff00_0020 => those!(DRAFT_29),
        0xff00_0017..=0xff00_001c => those!(DRAFT_23),
        0xff00_0015..=0xff00_0016 | 0xface_b001 => those!(DRAFT_22),
        0xface_b002 | 0xface_b00e => those!(DRAFT_23, DRAFT_29, V1),
        0xface_b000..=0xface_b0ff => ANY,
        T050 => those!(GOOGLE_T050),
        T051 => those!(GOOGLE_T051),
        _ if is_reserved(version) => ANY,
        _ => &[],
    }
}

/// Reserved to force version negotiation (RFC 9000 15).
pub fn is_reserved(version: u32) -> bool {
    version & 0x0f0f_0f0f == 0x0a0a_0a0a
}

/// Google's own QUIC from before the IETF's: Q followed by three digits.
pub fn is_google(version: u32) -> bool {
    let [letter, digits @ ..] = version.to_be_bytes();
    letter == b'Q' && digits.iter().all(u8::is_ascii_digit)
}

/// Whether the number names a QUIC that is or was in use.
pub fn is_known(version: u32) -> bool {
    !sealings(version).is_empty() || is_google(version) || version >> 8 == 0x00ff_0000
}

/// What a packet with a long header is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongType {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

impl LongType {
    /// RFC 9000 17.2; version 2 numbers them differently (RFC 9369 3.2).
    pub fn of(first_byte: u8, version: u32) -> Self {
        let types = [Self::Initial, Self::ZeroRtt, Self::Handshake, Self::Retry];
        let shift = u8::from(version == VERSION_2) * 3;
        types[usize::from(((first_byte >> 4) + shift) & 3)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_counts_its_packet_types_from_retry() {
        let types = |version| [0xc0, 0xd0, 0xe0, 0xf0].map(|byte| LongType::of(byte, version));
        use LongType::{Handshake, Initial, Retry, ZeroRtt};
        assert_eq!(types(VERSION_1), [Initial, ZeroRtt, Handshake, Retry]);
        assert_eq!(types(VERSION_2), [Retry, Initial, ZeroRtt, Handshake]);
    }

    #[test]
    fn each_version_in_use_has_its_salt() {
        let salts = |version| {
            sealings(version)
                .iter()
                .map(|one| one.salt)
                .collect::<Vec<_>>()
        };
        assert_eq!(salts(0xff00_001d), [DRAFT_29.salt]);
        assert_eq!(salts(0xff00_001b), [DRAFT_23.salt]);
        assert_eq!(salts(0xff00_0022), [V1.salt]);
        assert_eq!(salts(0xface_b001), [DRAFT_22.salt]);
        assert_eq!(salts(0xbaba_baba).len(), ANY.len());
        assert!(sealings(2).is_empty());
        assert!(is_known(u32::from_be_bytes(*b"Q046")) && !is_known(0x1603_0100));
    }
}
