//! Builders of single columns in the layout that `probe/record/codec.py` documents.

use rmp::encode;

use super::packed::{Present, write_planes, write_planes_as};

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    U8,
    U16,
    U32,
    U64,
    F32,
    Dictionary,
    Binary,
}

impl WireType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::Dictionary => "dictionary",
            Self::Binary => "binary",
        }
    }
}

/// A column under construction. A row of which nothing is pushed is null, and costs nothing.
pub trait Column: Default {
    /// The value of one row, as it is pushed.
    type Value<'a>;
    const WIRE: WireType;
    const NULLABLE: bool;

    /// Rows come in order, each once.
    fn push(&mut self, row: usize, value: Self::Value<'_>);
    /// Writes the column of so many rows as a msgpack map.
    fn write(&self, name: &str, rows: usize, out: &mut Vec<u8>);
    /// Whether every row is null: such a column is left out.
    fn is_absent(&self) -> bool;
    fn clear(&mut self);
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail.
    let _ = encode::write_str(out, text);
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = encode::write_bin(out, bytes);
}

/// Writes a column's name, the head of its map of `type` and so many other entries, and `type`.
pub(super) fn write_head(out: &mut Vec<u8>, name: &str, wire: WireType, entries: u32) {
    write_text(out, name);
    let _ = encode::write_map_len(out, entries + 1);
    write_text(out, "type");
    write_text(out, wire.as_str());
}

fn write_entry(out: &mut Vec<u8>, name: &str, value: u64) {
    write_text(out, name);
    let _ = encode::write_uint(out, value);
}

/// A number of fixed width.
pub trait Number: Copy + Default {
    const WIRE: WireType;
    fn bits(self) -> u64;
}

macro_rules! number {
    ($($type:ty => $wire:ident, $bits:path;)+) => {$(
        impl Number for $type {
            const WIRE: WireType = WireType::$wire;
            #[inline]
            fn bits(self) -> u64 {
                $bits(self)
            }
        }
    )+};
}
number!(
    u8 => U8, u64::from;
    u16 => U16, u64::from;
    u32 => U32, u64::from;
    u64 => U64, std::convert::identity;
    f32 => F32, float_bits;
);

fn float_bits(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// Numbers that are never null.
#[derive(Debug, Default)]
pub struct Required<T>(Vec<T>);

impl<T: Number> Column for Required<T> {
    type Value<'a> = T;
    const WIRE: WireType = T::WIRE;
    const NULLABLE: bool = false;

    #[inline]
    fn push(&mut self, _row: usize, value: T) {
        self.0.push(value);
    }

    fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
        write_head(out, name, T::WIRE, 2);
        write_planes(&self.0, T::bits, out);
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Numbers that may be null.
#[derive(Debug, Default)]
pub struct Optional<T> {
    values: Vec<T>,
    present: Present,
}

impl<T: Number> Column for Optional<T> {
    type Value<'a> = Option<T>;
    const WIRE: WireType = T::WIRE;
    const NULLABLE: bool = true;

    #[inline]
    fn push(&mut self, row: usize, value: Option<T>) {
        if let Some(value) = value {
            self.present.mark(row);
            self.values.push(value);
        }
    }

    fn write(&self, name: &str, rows: usize, out: &mut Vec<u8>) {
        let nulls = u32::from(self.present.has_nulls(rows));
        write_head(out, name, T::WIRE, 2 + nulls);
        write_planes(&self.values, T::bits, out);
        self.present.write_nulls(rows, out);
    }

    fn is_absent(&self) -> bool {
        self.present.is_empty()
    }

    fn clear(&mut self) {
        self.values.clear();
        self.present.clear();
    }
}

/// Numbers that are never null and lie near those of another column, or near each other: what is
/// written are differences, modulo 2^64.
#[derive(Debug, Default)]
pub struct Near {
    values: Vec<u64>,
    /// What the differences are from, once they are.
    from: Option<&'static str>,
}

impl Near {
    /// From here on the values are differences from `origin`, the column `name` in the same rows.
    pub fn count_from(&mut self, name: &'static str, origin: &Self) {
        for (value, origin) in self.values.iter_mut().zip(&origin.values) {
            *value = value.wrapping_sub(*origin);
        }
        self.from = Some(name);
    }

    /// From here on the values are differences from the row before of the same column, `name`.
    pub fn count_on(&mut self, name: &'static str) {
        let mut before = 0;
        for value in &mut self.values {
            let difference = value.wrapping_sub(before);
            before = std::mem::replace(value, difference);
        }
        self.from = Some(name);
    }
}

impl Column for Near {
    type Value<'a> = u64;
    const WIRE: WireType = WireType::U64;
    const NULLABLE: bool = false;

    #[inline]
    fn push(&mut self, _row: usize, value: u64) {
        self.values.push(value);
    }

    fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
        let base = self.values.iter().copied().min().unwrap_or(0);
        let step = step_of(self.values.iter().map(|value| value - base));
        write_head(out, name, Self::WIRE, 4 + u32::from(self.from.is_some()));
        if let Some(from) = self.from {
            write_text(out, "from");
            write_text(out, from);
        }
        write_entry(out, "base", base);
        write_entry(out, "step", step);
        write_planes(&self.values, |value| (value - base) / step, out);
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn clear(&mut self) {
        self.values.clear();
        self.from = None;
    }
}

/// The greatest number that divides all of `values`; 1 where all are 0. Times of most captures are
/// whole microseconds.
fn step_of(mut values: impl Iterator<Item = u64>) -> u64 {
    let step = values.try_fold(0, |step, value| {
        Some(common_divisor(value, step)).filter(|&step| step != 1)
    });
    step.unwrap_or(1).max(1)
}

fn common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// Byte strings that do not repeat.
#[derive(Debug, Default)]
pub struct Binary {
    data: Vec<u8>,
    lengths: Vec<u16>,
    present: Present,
}

impl Column for Binary {
    type Value<'a> = Option<&'a [u8]>;
    const WIRE: WireType = WireType::Binary;
    const NULLABLE: bool = true;

    #[inline]
    fn push(&mut self, row: usize, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.present.mark(row);
            self.lengths.push(value.len() as u16);
            self.data.extend_from_slice(value);
        }
    }

    fn write(&self, name: &str, rows: usize, out: &mut Vec<u8>) {
        let nulls = u32::from(self.present.has_nulls(rows));
        write_head(out, name, WireType::Binary, 3 + nulls);
        write_planes_as(["width", "lengths"], &self.lengths, u64::from, out);
        write_text(out, "data");
        write_bytes(out, &self.data);
        self.present.write_nulls(rows, out);
    }

    fn is_absent(&self) -> bool {
        self.present.is_empty()
    }

    fn clear(&mut self) {
        self.data.clear();
        self.lengths.clear();
        self.present.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_of_times_is_their_common_divisor() {
        assert_eq!(step_of([0, 3_000, 0, 5_000].into_iter()), 1_000);
        assert_eq!(step_of([0, 3_000, 5_003].into_iter()), 1);
        assert_eq!(step_of([0, 0].into_iter()), 1);
        assert_eq!(step_of(std::iter::empty()), 1);
    }

    #[test]
    fn a_session_that_began_before_its_origin_keeps_its_time() {
        let (mut end, start) = (near(&[5, 90]), near(&[10, 80]));
        end.count_from("start", &start);
        assert_eq!(end.values, [5u64.wrapping_sub(10), 10]);
        let mut ids = near(&[7, 9, 4]);
        ids.count_on("id");
        assert_eq!(ids.values, [7, 2, 4u64.wrapping_sub(9)]);
    }

    fn near(values: &[u64]) -> Near {
        let mut column = Near::default();
        values.iter().for_each(|&value| column.push(0, value));
        column
    }
}
