//! Options of an interface description block.

use super::super::bytes::ByteOrder;
use super::clock::DEFAULT_RESOLUTION;

const END_OF_OPTIONS: u16 = 0;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// The options that matter here, with the format's defaults where they are absent.
#[derive(Debug)]
pub(super) struct InterfaceOptions<'a> {
    pub name: &'a [u8],
    pub resolution: u8,
    pub offset_s: i64,
}

impl<'a> InterfaceOptions<'a> {
    /// Reads the options up to their end, or to the first that does not fit.
    pub fn read(order: ByteOrder, mut bytes: &'a [u8]) -> Self {
        let mut options = Self {
            name: &[],
            resolution: DEFAULT_RESOLUTION,
            offset_s: 0,
        };
        while let Some((code, value, rest)) = next_option(order, bytes) {
            options.set(order, code, value);
            bytes = rest;
        }
        options
    }

    fn set(&mut self, order: ByteOrder, code: u16, value: &'a [u8]) {
        match (code, value) {
            (IF_NAME, name) => self.name = name,
            (IF_TSRESOL, [resolution, ..]) => self.resolution = *resolution,
            (IF_TSOFFSET, value) => self.offset_s = order.i64(value, 0).unwrap_or_default(),
            _ => {}
        }
    }
}

/// Returns code, value and what follows the value's padding to four bytes.
fn next_option(order: ByteOrder, bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let code = order.u16(bytes, 0)?;
    let len = usize::from(order.u16(bytes, 2)?);
    if code == END_OF_OPTIONS {
        return None;
    }
    let value = bytes.get(4..4 + len)?;
    let rest = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
    Some((code, value, rest))
}
