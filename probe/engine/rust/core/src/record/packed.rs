//! Numbers as they lie in a batch: only the bytes that any of them needs, byte by byte.
//!
//! The lowest bytes of all values come first, then the next ones: what compresses stands apart from
//! what does not. `probe/record/codec.py` documents the layout.

use rmp::encode;

/// Bytes that hold every one of `values`: 0 where all are 0.
pub fn width_of(values: impl Iterator<Item = u64>) -> usize {
    let any = values.fold(0, |any, value| any | value);
    (u64::BITS - any.leading_zeros()).div_ceil(8) as usize
}

/// Writes the entries `width` and `data` of a column's map.
pub fn write_planes<T: Copy>(values: &[T], bits: impl Fn(T) -> u64, out: &mut Vec<u8>) {
    write_planes_as(["width", "data"], values, bits, out);
}

/// Writes a width and planes under names of their own.
pub fn write_planes_as<T: Copy>(
    [width_name, data_name]: [&str; 2],
    values: &[T],
    bits: impl Fn(T) -> u64,
    out: &mut Vec<u8>,
) {
    let width = width_of(values.iter().map(|&value| bits(value)));
    // Writing to a Vec cannot fail.
    let _ = encode::write_str(out, width_name);
    let _ = encode::write_uint(out, width as u64);
    let _ = encode::write_str(out, data_name);
    let _ = encode::write_bin_len(out, (width * values.len()) as u32);
    for plane in 0..width {
        let start = out.len();
        out.resize(start + values.len(), 0);
        // A loop over two slices takes many values at a time.
        for (byte, &value) in out[start..].iter_mut().zip(values) {
            *byte = (bits(value) >> (8 * plane)) as u8;
        }
    }
}

/// The rows that hold a value: a bitmap that ends with the last of them, and their number.
#[derive(Debug, Default)]
pub struct Present {
    bits: Vec<u8>,
    count: usize,
}

impl Present {
    #[inline]
    pub fn mark(&mut self, row: usize) {
        let byte = row / 8;
        if byte >= self.bits.len() {
            self.bits.resize(byte + 1, 0);
        }
        self.bits[byte] |= 1 << (row % 8);
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether some of the first `rows` rows are null.
    pub fn has_nulls(&self, rows: usize) -> bool {
        self.count < rows
    }

    /// Writes the entry `nulls`, the opposite of what is kept, unless there is none.
    pub fn write_nulls(&self, rows: usize, out: &mut Vec<u8>) {
        if !self.has_nulls(rows) {
            return;
        }
        let _ = encode::write_str(out, "nulls");
        let _ = encode::write_bin_len(out, rows.div_ceil(8) as u32);
        out.extend((0..rows).step_by(8).map(|first| {
            let present = self.bits.get(first / 8).copied().unwrap_or(0);
            let exist = 0xff >> (8 - (rows - first).min(8));
            !present & exist
        }));
    }

    pub fn clear(&mut self) {
        self.bits.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_behind_the_last_value_are_null_and_those_behind_the_last_row_are_nothing() {
        let mut present = Present::default();
        present.mark(0);
        present.mark(9);
        let mut out = Vec::new();
        present.write_nulls(18, &mut out);
        assert_eq!(out[out.len() - 3..], [0xfe, 0xfd, 0x03]);
    }

    #[test]
    fn only_the_bytes_in_use_are_written_lowest_first() {
        let mut out = Vec::new();
        write_planes(&[0x0102u64, 0x03, 0x0400], |value| value, &mut out);
        assert_eq!(out[out.len() - 6..], [0x02, 0x03, 0x00, 0x01, 0x00, 0x04]);
        assert_eq!(width_of([0, 0].into_iter()), 0);
        assert_eq!(width_of([u64::MAX].into_iter()), 8);
    }
}
