//! Fields from the front of wire bytes; a field that is not wholly there is [`Malformed::Truncated`].

use crate::control::message::Malformed;
use crate::decap::Address;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u24(&mut self) -> Result<u32, Malformed> {
        self.array()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes behind their count in one byte.
    pub fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u8()?;
        self.take(count.into())
    }

    pub fn v4(&mut self) -> Result<Address, Malformed> {
        self.array().map(Address::v4)
    }

    pub fn v6(&mut self) -> Result<Address, Malformed> {
        self.array().map(Address::v6)
    }

    /// An IPv4 address, if a flag says that it is there.
    pub fn v4_if(&mut self, present: bool) -> Result<Option<Address>, Malformed> {
        present.then(|| self.v4()).transpose()
    }

    /// An IPv6 address, if a flag says that it is there.
    pub fn v6_if(&mut self, present: bool) -> Result<Option<Address>, Malformed> {
        present.then(|| self.v6()).transpose()
    }
}
