//! Values that repeat: each row holds an index into the distinct ones.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rmp::encode;

use super::column::{Column, WireType, write_bytes, write_head, write_text};
use super::packed::{Present, write_planes};

/// Distinct values, in the order they came, end to end in one buffer.
#[derive(Debug, Default)]
struct Distinct {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    table: HashTable<u32>,
    /// With a seed of its own: names come off the wire.
    hasher: RandomState,
}

impl Distinct {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: u32) -> &[u8] {
        slice_of(&self.bytes, &self.ends, index)
    }

    fn intern(&mut self, value: &[u8]) -> u32 {
        let Self {
            bytes,
            ends,
            table,
            hasher,
        } = self;
        let entry = table.entry(
            hasher.hash_one(value),
            |&index| slice_of(bytes, ends, index) == value,
            |&index| hasher.hash_one(slice_of(bytes, ends, index)),
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

#[derive(Debug, Default)]
struct Dictionary {
    distinct: Distinct,
    /// Of the rows that are not null.
    indexes: Vec<u32>,
    present: Present,
}

impl Dictionary {
    fn push(&mut self, row: usize, value: &[u8]) {
        // Neighbouring rows often agree: compare before hashing.
        let index = match self.indexes.last() {
            Some(&last) if self.distinct.get(last) == value => last,
            _ => self.distinct.intern(value),
        };
        self.push_index(row, index);
    }

    fn push_index(&mut self, row: usize, index: u32) {
        self.present.mark(row);
        self.indexes.push(index);
    }

    fn write(&self, name: &str, text: bool, rows: usize, out: &mut Vec<u8>) {
        let nulls = u32::from(self.present.has_nulls(rows));
        write_head(out, name, WireType::Dictionary, 3 + nulls);
        write_text(out, "values");
        // Writing to a Vec cannot fail.
        let _ = encode::write_array_len(out, self.distinct.len() as u32);
        for index in 0..self.distinct.len() as u32 {
            let value = self.distinct.get(index);
            match std::str::from_utf8(value) {
                Ok(value) if text => write_text(out, value),
                _ => write_bytes(out, value),
            }
        }
        write_planes(&self.indexes, u64::from, out);
        self.present.write_nulls(rows, out);
    }

    fn clear(&mut self) {
        self.distinct.clear();
        self.indexes.clear();
        self.present.clear();
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

            #[inline]
            fn push(&mut self, row: usize, value: Self::Value<'_>) {
                if let Some(value) = $bytes(value) {
                    self.0.push(row, value);
                }
            }

            fn write(&self, name: &str, rows: usize, out: &mut Vec<u8>) {
                self.0.write(name, $text, rows, out);
            }

            fn is_absent(&self) -> bool {
                $nullable && self.0.present.is_empty()
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
