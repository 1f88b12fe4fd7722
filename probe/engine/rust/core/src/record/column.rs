//! Builders of single columns in the layout that `probe/record/codec.py` documents.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rmp::encode;

/// How a column's values are laid out in a batch.
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

/// A column under construction: `rows` values, some of them null.
pub trait Column: Default {
    /// The value of one row, as it is pushed.
    type Value<'a>;
    const WIRE: WireType;
    const NULLABLE: bool;

    fn push(&mut self, value: Self::Value<'_>);
    /// Writes the column as a msgpack map, or nothing where every row is null.
    fn write(&self, name: &str, rows: usize, out: &mut Vec<u8>);
    fn is_absent(&self) -> bool;
    fn clear(&mut self);
}

/// Which rows are null: a bitmap, least significant bit first.
#[derive(Debug, Default)]
struct Nulls {
    bits: Vec<u8>,
    rows: usize,
    count: usize,
}

impl Nulls {
    fn push(&mut self, null: bool) {
        if self.rows.is_multiple_of(8) {
            self.bits.push(0);
        }
        if null && let Some(last) = self.bits.last_mut() {
            *last |= 1 << (self.rows % 8);
            self.count += 1;
        }
        self.rows += 1;
    }

    fn all(&self) -> bool {
        self.count == self.rows
    }

    fn clear(&mut self) {
        self.bits.clear();
        self.rows = 0;
        self.count = 0;
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail.
    let _ = encode::write_str(out, text);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = encode::write_bin(out, bytes);
}

fn write_map_header(out: &mut Vec<u8>, name: &str, wire: WireType, entries: u32) {
    write_text(out, name);
    let _ = encode::write_map_len(out, entries + 1);
    write_text(out, "type");
    write_text(out, wire.as_str());
}

fn write_nulls(out: &mut Vec<u8>, nulls: &Nulls) {
    if nulls.count > 0 {
        write_text(out, "nulls");
        write_bytes(out, &nulls.bits);
    }
}

/// A number of fixed width.
pub trait Number: Copy + Default {
    const WIRE: WireType;
    fn extend(self, out: &mut Vec<u8>);
}

macro_rules! number {
    ($($type:ty => $wire:ident),+) => {$(
        impl Number for $type {
            const WIRE: WireType = WireType::$wire;
            fn extend(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}
number!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, f32 => F32);

/// Numbers that are never null.
#[derive(Debug, Default)]
pub struct Required<T> {
    data: Vec<u8>,
    number: std::marker::PhantomData<T>,
}

impl<T: Number> Column for Required<T> {
    type Value<'a> = T;
    const WIRE: WireType = T::WIRE;
    const NULLABLE: bool = false;

    fn push(&mut self, value: T) {
        value.extend(&mut self.data);
    }

    fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
        write_map_header(out, name, T::WIRE, 1);
        write_text(out, "data");
        write_bytes(out, &self.data);
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn clear(&mut self) {
        self.data.clear();
    }
}

/// Numbers that may be null.
#[derive(Debug, Default)]
pub struct Optional<T> {
    data: Vec<u8>,
    nulls: Nulls,
    number: std::marker::PhantomData<T>,
}

impl<T: Number> Column for Optional<T> {
    type Value<'a> = Option<T>;
    const WIRE: WireType = T::WIRE;
    const NULLABLE: bool = true;

    fn push(&mut self, value: Option<T>) {
        self.nulls.push(value.is_none());
        value.unwrap_or_default().extend(&mut self.data);
    }

    fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
        write_map_header(out, name, T::WIRE, 1 + u32::from(self.nulls.count > 0));
        write_text(out, "data");
        write_bytes(out, &self.data);
        write_nulls(out, &self.nulls);
    }

    fn is_absent(&self) -> bool {
        self.nulls.all()
    }

    fn clear(&mut self) {
        self.data.clear();
        self.nulls.clear();
    }
}

/// Distinct values of a dictionary column, in the order they came, end to end in one buffer.
#[derive(Debug, Default)]
struct Distinct {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    table: HashTable<u32>,
}

impl Distinct {
    fn get(&self, index: u32) -> &[u8] {
        slice_of(&self.bytes, &self.ends, index)
    }

    fn intern(&mut self, value: &[u8]) -> u32 {
        let Self { bytes, ends, table } = self;
        let entry = table.entry(
            hash(value),
            |&index| slice_of(bytes, ends, index) == value,
            |&index| hash(slice_of(bytes, ends, index)),
        );
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let index = ends.len() as u32;
                vacant.insert(index);
                bytes.extend_from_slice(value);
                ends.push(bytes.len() as u32);
                index
            }
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.table.clear();
    }
}

fn slice_of<'a>(bytes: &'a [u8], ends: &[u32], index: u32) -> &'a [u8] {
    let index = index as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &bytes[start as usize..ends[index] as usize]
}

/// FNV-1a: the values are short, and the table lives for one batch.
fn hash(value: &[u8]) -> u64 {
    value.iter().fold(0xcbf2_9ce4_8422_2325, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Values that repeat: each row holds an index into the distinct ones.
#[derive(Debug, Default)]
struct Dictionary {
    distinct: Distinct,
    indexes: Vec<u32>,
    nulls: Nulls,
}

impl Dictionary {
    fn push(&mut self, value: Option<&[u8]>) {
        self.nulls.push(value.is_none());
        let index = match value {
            None => 0,
            // Neighbouring rows often agree: compare before hashing.
            Some(value) => match self.indexes.last() {
                Some(&last)
                    if (last as usize) < self.distinct.ends.len()
                        && self.distinct.get(last) == value =>
                {
                    last
                }
                _ => self.distinct.intern(value),
            },
        };
        self.indexes.push(index);
    }

    fn write(&self, name: &str, text: bool, out: &mut Vec<u8>) {
        write_map_header(
            out,
            name,
            WireType::Dictionary,
            2 + u32::from(self.nulls.count > 0),
        );
        write_text(out, "values");
        let _ = encode::write_array_len(out, self.distinct.ends.len() as u32);
        for index in 0..self.distinct.ends.len() as u32 {
            let value = self.distinct.get(index);
            match std::str::from_utf8(value) {
                Ok(value) if text => write_text(out, value),
                _ => write_bytes(out, value),
            }
        }
        write_text(out, "data");
        write_bytes(out, &self.index_bytes());
        write_nulls(out, &self.nulls);
    }

    fn index_bytes(&self) -> Vec<u8> {
        let indexes = self.indexes.iter();
        match self.distinct.ends.len() {
            0..=0x100 => indexes.map(|&index| index as u8).collect(),
            0x101..=0x1_0000 => indexes
                .flat_map(|&index| (index as u16).to_le_bytes())
                .collect(),
            _ => indexes.flat_map(|&index| index.to_le_bytes()).collect(),
        }
    }

    fn clear(&mut self) {
        self.distinct.clear();
        self.indexes.clear();
        self.nulls.clear();
    }
}

macro_rules! dictionary {
    ($(#[$doc:meta])* $name:ident, $value:ty, $nullable:literal, $text:literal, $bytes:path) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name(Dictionary);

        impl Column for $name {
            type Value<'a> = $value;
            const WIRE: WireType = WireType::Dictionary;
            const NULLABLE: bool = $nullable;

            fn push(&mut self, value: Self::Value<'_>) {
                self.0.push($bytes(value));
            }

            fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
                self.0.write(name, $text, out);
            }

            fn is_absent(&self) -> bool {
                $nullable && self.0.nulls.all()
            }

            fn clear(&mut self) {
                self.0.clear();
            }
        }
    };
}
fn text_bytes(value: &str) -> Option<&[u8]> {
    Some(value.as_bytes())
}

fn optional_text_bytes(value: Option<&str>) -> Option<&[u8]> {
    value.map(str::as_bytes)
}

dictionary!(
    /// Text that is never null.
    RequiredText, &'a str, false, true, text_bytes
);
dictionary!(
    /// Text that may be null.
    Text, Option<&'a str>, true, true, optional_text_bytes
);
dictionary!(
    /// Addresses and pseudonyms: byte strings that repeat.
    Bytes, Option<&'a [u8]>, true, false, std::convert::identity
);

/// Byte strings that do not repeat.
#[derive(Debug, Default)]
pub struct Binary {
    data: Vec<u8>,
    lengths: Vec<u8>,
    nulls: Nulls,
}

impl Column for Binary {
    type Value<'a> = Option<&'a [u8]>;
    const WIRE: WireType = WireType::Binary;
    const NULLABLE: bool = true;

    fn push(&mut self, value: Option<&[u8]>) {
        self.nulls.push(value.is_none());
        let value = value.unwrap_or_default();
        self.lengths
            .extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.data.extend_from_slice(value);
    }

    fn write(&self, name: &str, _rows: usize, out: &mut Vec<u8>) {
        write_map_header(
            out,
            name,
            WireType::Binary,
            2 + u32::from(self.nulls.count > 0),
        );
        write_text(out, "lengths");
        write_bytes(out, &self.lengths);
        write_text(out, "data");
        write_bytes(out, &self.data);
        write_nulls(out, &self.nulls);
    }

    fn is_absent(&self) -> bool {
        self.nulls.all()
    }

    fn clear(&mut self) {
        self.data.clear();
        self.lengths.clear();
        self.nulls.clear();
    }
}
