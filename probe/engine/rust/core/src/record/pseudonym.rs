//! The name under which a subscriber leaves the probe.

use std::fmt::{self, Write};

use crate::decap::Address;
use crate::sha256::{Hmac, Output, SHORT};

/// Turns an identity into a pseudonym: the first 16 bytes of HMAC-SHA-256(site key, identity).
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac,
}

impl Pseudonyms {
    /// `site_key` may have any length, as RFC 2104 allows.
    pub fn new(site_key: &[u8]) -> Self {
        Self {
            mac: Hmac::new(site_key),
        }
    }

    /// `identity` is `imsi:...`, `msisdn:...` or `ip:...`.
    pub fn of(&self, identity: &str) -> [u8; 16] {
        truncated(self.mac.of(identity.as_bytes()))
    }

    /// The pseudonym of an IMSI or MSISDN, whose digits are copied to the stack alone.
    pub fn of_digits(&self, kind: &str, digits: &str) -> [u8; 16] {
        self.of_text(format_args!("{kind}{digits}"))
    }

    /// The pseudonym of someone known by address alone: IPv4 address or IPv6 /64 (RFC 5952 text).
    pub fn of_address(&self, address: Address) -> [u8; 16] {
        match address.as_v4() {
            Some(_) => self.of_text(format_args!("ip:{address}")),
            None => {
                let prefix = Address(address.0 & !u128::from(u64::MAX));
                self.of_text(format_args!("ip:{prefix}/64"))
            }
        }
    }

    fn of_text(&self, text: fmt::Arguments<'_>) -> [u8; 16] {
        let mut short = ShortText::default();
        match short.write_fmt(text) {
            Ok(()) => truncated(self.mac.of(short.as_bytes())),
            Err(_) => self.of(&text.to_string()),
        }
    }
}

/// A text on the stack; a longer one is refused.
struct ShortText {
    bytes: [u8; SHORT],
    length: usize,
}

impl Default for ShortText {
    fn default() -> Self {
        Self {
            bytes: [0; SHORT],
            length: 0,
        }
    }
}

impl ShortText {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn truncated(code: Output) -> [u8; 16] {
    std::array::from_fn(|at| code[at])
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
