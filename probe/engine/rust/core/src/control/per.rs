//! The part of aligned PER (ITU-T X.691) that S1AP and NGAP need.
//!
//! A type's reader reads its fields in their order. What is not wanted is stepped over: elements of
//! containers by the length of their open type, the rest of a sequence by [`Reader::close`].

use super::message::Malformed;

/// Bytes and the place in them, in bits.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Bits read, never more than `bytes` has.
    position: usize,
}

/// The front of a sequence: whether it has additions behind its extension marker, and which of its
/// optional fields are there (X.691 19.1 to 19.3).
#[derive(Debug)]
pub struct Preamble {
    has_additions: bool,
    /// The flag of the next optional field is the highest bit.
    optional: u64,
}

impl Preamble {
    /// Whether the next of the optional fields is there.
    pub fn has_next(&mut self) -> bool {
        let present = self.optional >> 63 == 1;
        self.optional <<= 1;
        present
    }
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    /// The next bits, 64 at most, as a number.
    pub fn bits(&mut self, count: u32) -> Result<u64, Malformed> {
        if count > 64 || self.left() < count as usize {
            return Err(Malformed::Truncated);
        }
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes[self.position / 8];
            value = value << 1 | u64::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Ok(value)
    }

    pub fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.bits(1)? == 1)
    }

    /// Goes on at a whole byte.
    fn align(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }

    /// Whole bytes.
    pub fn octets(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        self.align();
        let start = self.position / 8;
        let end = start.checked_add(count).ok_or(Malformed::Length)?;
        let found = self.bytes.get(start..end).ok_or(Malformed::Truncated)?;
        self.position = end * 8;
        Ok(found)
    }

    /// An octet string of a fixed size above 2 (X.691 17.7).
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let found = self.octets(N)?.first_chunk();
        found.copied().ok_or(Malformed::Truncated)
    }

    /// A bit string of a fixed size up to 64; above 16 bits it begins at a whole byte (X.691 16.9, 16.10).
    pub fn bit_string(&mut self, size: u32) -> Result<u64, Malformed> {
        if size > 16 {
            self.align();
        }
        self.bits(size)
    }

    /// A constrained whole number (X.691 11.5.7).
    pub fn integer(&mut self, least: u64, greatest: u64) -> Result<u64, Malformed> {
        let above = match greatest - least {
            range @ ..=254 => self.bits(width(range))?,
            255 => number(self.octets(1)?),
            256..=65_535 => number(self.octets(2)?),
            range => self.long_integer(range)?,
        };
        let value = least.checked_add(above).ok_or(Malformed::Value)?;
        (value <= greatest).then_some(value).ok_or(Malformed::Value)
    }

    /// A number in as few bytes as it needs, behind how many these are.
    fn long_integer(&mut self, range: u64) -> Result<u64, Malformed> {
        let most = u64::from(width(range).div_ceil(8));
        let count = self.integer(1, most)?;
        Ok(number(self.octets(count as usize)?))
    }

    /// A constrained whole number with an extension marker; None if it is beyond its root.
    pub fn extensible_integer(
        &mut self,
        least: u64,
        greatest: u64,
    ) -> Result<Option<u64>, Malformed> {
        if self.flag()? {
            self.octet_string()?;
            return Ok(None);
        }
        self.integer(least, greatest).map(Some)
    }

    /// An enumeration of `root` values with an extension marker; those behind it are counted on.
    pub fn enumerated(&mut self, root: u64) -> Result<u64, Malformed> {
        if self.flag()? {
            return Ok(root + self.small_number()?);
        }
        self.integer(0, root - 1)
    }

    /// A normally small number (X.691 11.6), up to 65,535.
    fn small_number(&mut self) -> Result<u64, Malformed> {
        if !self.flag()? {
            return self.bits(6);
        }
        match self.octet_string()? {
            bytes @ ([_] | [_, _]) => Ok(number(bytes)),
            _ => Err(Malformed::Value),
        }
    }

    /// A length without bounds, or with one of 64 K and more (X.691 11.9.3.6, 11.9.3.7, 11.9.4.2). Fragments of 16 K (11.9.3.8), which no
    /// message needs that is read here, are refused.
    pub fn length(&mut self) -> Result<usize, Malformed> {
        match self.octets(1)?[0] {
            short @ 0..=0x7f => Ok(short.into()),
            long @ 0x80..=0xbf => {
                let low = self.octets(1)?[0];
                Ok(usize::from(u16::from_be_bytes([long & 0x3f, low])))
            }
            _ => Err(Malformed::Length),
        }
    }

    /// An octet string without bounds (X.691 17.8).
    pub fn octet_string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.octets(length)
    }

    /// What an open type holds (X.691 11.2).
    pub fn open(&mut self) -> Result<Self, Malformed> {
        self.octet_string().map(Self::new)
    }

    /// The front of an extensible sequence with this many optional fields, 63 at most.
    pub fn sequence(&mut self, optional: u32) -> Result<Preamble, Malformed> {
        let has_additions = self.flag()?;
        let flags = self.bits(optional)?;
        Ok(Preamble {
            has_additions,
            optional: flags.checked_shl(64 - optional).unwrap_or(0),
        })
    }

    /// Steps over the end of a sequence: its protocol extensions, which are its last optional field,
    /// and its additions.
    pub fn close(&mut self, mut preamble: Preamble) -> Result<(), Malformed> {
        if preamble.has_next() {
            let count = self.integer(1, 65_535)?;
            self.elements(count, |_, _| Ok(()))?;
        }
        if preamble.has_additions {
            self.skip_additions()?;
        }
        Ok(())
    }

    /// Additions behind an extension marker, each an open type (X.691 19.7 to 19.9).
    fn skip_additions(&mut self) -> Result<(), Malformed> {
        let count = self.small_number()? + 1;
        let count = u32::try_from(count).ok().filter(|&count| count <= 64);
        let present = self.bits(count.ok_or(Malformed::Value)?)?;
        for _ in 0..present.count_ones() {
            self.open()?;
        }
        Ok(())
    }

    /// The elements of a message (`protocolIEs`, the only field of its sequence): identifier, and value
    /// in an open type.
    pub fn container(
        &mut self,
        each: impl FnMut(u16, Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.flag()?;
        let count = self.integer(0, 65_535)?;
        self.elements(count, each)
    }

    /// Elements, each in an open type. As each takes 4 bytes at least, there are never more of them
    /// than the bytes allow, whatever is stated.
    pub fn elements(
        &mut self,
        count: u64,
        mut each: impl FnMut(u16, Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..count {
            let identifier = u16::from_be_bytes(self.array()?);
            self.bits(2)?;
            each(identifier, self.open()?)?;
        }
        Ok(())
    }
}

/// Bits that numbers up to `range` need.
fn width(range: u64) -> u32 {
    64 - range.leading_zeros()
}

/// Up to 8 bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_range_of_a_number_decides_its_form() {
        let mut reader = Reader::new(&[0b1010_1000, 0x2a, 0x01, 0x02, 0b0100_0000, 0xff, 0xff]);
        assert_eq!(reader.integer(7, 7), Ok(7));
        assert_eq!(reader.integer(0, 15), Ok(10));
        assert_eq!(reader.integer(1, 2), Ok(2));
        assert_eq!(reader.integer(0, 255), Ok(0x2a));
        assert_eq!(reader.integer(0, 65_535), Ok(0x102));
        assert_eq!(reader.integer(0, u64::from(u32::MAX)), Ok(0xffff));
        assert_eq!(reader.flag(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_number_beyond_its_range_is_a_wrong_value() {
        assert_eq!(Reader::new(&[0xff]).integer(1, 5), Err(Malformed::Value));
        let three_bytes = [0b1000_0000, 0xff, 0xff, 0xff];
        assert_eq!(
            Reader::new(&three_bytes).integer(0, 0xff_fff0),
            Err(Malformed::Value)
        );
    }

    #[test]
    fn a_length_has_one_byte_or_two_and_is_never_a_fragment() {
        assert_eq!(Reader::new(&[2, 7, 8, 9]).octet_string(), Ok(&[7, 8][..]));
        let long = [&[0x80, 0x81][..], &[3; 0x81]].concat();
        assert_eq!(Reader::new(&long).octet_string().map(<[u8]>::len), Ok(0x81));
        assert_eq!(
            Reader::new(&[0xc1; 20_000]).octet_string(),
            Err(Malformed::Length)
        );
        assert_eq!(
            Reader::new(&[3, 7, 8]).octet_string(),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn the_end_of_a_sequence_is_stepped_over() {
        // Additions, one optional field; extensions of one element; two additions, of which one is there.
        let bytes = [
            0b1100_0000,
            0,
            0,
            0,
            5,
            0x40,
            1,
            0xaa,
            0b0000_0010,
            0b1000_0000,
            1,
            0xbb,
            0x77,
        ];
        let mut reader = Reader::new(&bytes);
        let preamble = reader.sequence(1).expect("a preamble");
        reader.close(preamble).expect("an end");
        assert_eq!(reader.octets(1), Ok(&[0x77][..]));
    }

    #[test]
    fn values_behind_an_extension_marker_are_counted_on() {
        assert_eq!(Reader::new(&[0b1000_0001]).enumerated(4), Ok(5));
        assert_eq!(Reader::new(&[0b0110_0000]).enumerated(4), Ok(3));
        let mut beyond = Reader::new(&[0b1000_0000, 2, 1, 0, 0x80]);
        assert_eq!(beyond.extensible_integer(0, 15), Ok(None));
        assert_eq!(beyond.flag(), Ok(true));
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(value: u32, lead in 0u32..8) {
            // `lead` bits, then a number of 4 bytes at most behind its count in two bits.
            let bytes = value.to_be_bytes();
            let used = &bytes[(value.leading_zeros() as usize / 8).min(3)..];
            let front = u16::from(used.len() as u8 - 1) << (14 - lead);
            let front = if lead > 6 { &front.to_be_bytes()[..] } else { &front.to_be_bytes()[..1] };
            let written = [front, used].concat();
            let mut reader = Reader::new(&written);
            reader.bits(lead).expect("leading bits");
            prop_assert_eq!(reader.integer(0, u32::MAX.into()), Ok(value.into()));
        }
    }
}
