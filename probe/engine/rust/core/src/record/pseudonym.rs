//! The name under which a subscriber leaves the probe.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::decap::Address;

/// Turns an identity into a pseudonym: the first 16 bytes of HMAC-SHA-256(site key, identity).
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac<Sha256>,
}

impl Pseudonyms {
    /// `site_key` may have any length, as RFC 2104 allows.
    pub fn new(site_key: &[u8]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(site_key).expect("HMAC takes keys of any length");
        Self { mac }
    }

    /// `identity` is `imsi:...`, `msisdn:...` or `ip:...`.
    pub fn of(&self, identity: &str) -> [u8; 16] {
        self.of_digits("", identity)
    }

    /// The pseudonym of an IMSI or MSISDN, whose digits are not copied.
    pub fn of_digits(&self, kind: &str, digits: &str) -> [u8; 16] {
        let mut mac = self.mac.clone();
        mac.update(kind.as_bytes());
        mac.update(digits.as_bytes());
        truncated(mac)
    }

    /// The pseudonym of someone known by address alone: IPv4 address or IPv6 /64 (RFC 5952 text).
    pub fn of_address(&self, address: Address) -> [u8; 16] {
        let subscriber = match address.as_v4() {
            Some(_) => format!("ip:{address}"),
            None => format!("ip:{}/64", Address(address.0 & !u128::from(u64::MAX))),
        };
        self.of(&subscriber)
    }
}

fn truncated(mac: Hmac<Sha256>) -> [u8; 16] {
    let digest = mac.finalize().into_bytes();
    let mut pseudonym = [0; 16];
    pseudonym.copy_from_slice(&digest[..16]);
    pseudonym
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonym_is_the_truncated_hmac() {
        // printf 'imsi:001010000000001' | openssl dgst -sha256 -hmac 'key' | cut -c -32
        let pseudonyms = Pseudonyms::new(b"key");
        let hex: String = pseudonyms
            .of("imsi:001010000000001")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "3819a364e97fc75b59b3b098e0436cc8");
    }

    #[test]
    fn addresses_of_one_slash_64_are_one_subscriber() {
        let pseudonyms = Pseudonyms::new(b"key");
        let prefix = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut other = prefix;
        other[15] = 9;
        assert_eq!(
            pseudonyms.of_address(Address::v6(prefix)),
            pseudonyms.of_address(Address::v6(other))
        );
        assert_ne!(
            pseudonyms.of_address(Address::v4([10, 0, 0, 1])),
            pseudonyms.of_address(Address::v4([10, 0, 0, 2]))
        );
    }
}
