//! Domain names on the wire (RFC 1035 3.1, 4.1.4).

use std::fmt;

use crate::app::reader::Reader;

/// Most bytes of a name on the wire, length bytes included (RFC 1035 2.3.4).
pub const MAX_WIRE_LENGTH: usize = 255;

/// A name inside its message, checked: at most [`MAX_WIRE_LENGTH`] bytes, no pointer that does not
/// go back. Displayed in lower case, without the last dot, `.` for the root; bytes that are not
/// printable ASCII, and dots and backslashes inside a label, as `\DDD` (RFC 1035 5.1). So the text
/// has 1004 bytes at most.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    message: &'a [u8],
    start: usize,
}

impl<'a> Name<'a> {
    /// Reads the name at `reader`, which is somewhere in `message`, and goes past it.
    pub fn read(message: &'a [u8], reader: &mut Reader<'a>) -> Option<Self> {
        let start = message.len().checked_sub(reader.rest().len())?;
        skip(reader)?;
        let mut labels = Labels::new(message, start);
        let length: usize = labels.by_ref().map(|label| label.len() + 1).sum();
        let whole = labels.ended && length < MAX_WIRE_LENGTH;
        whole.then_some(Self { message, start })
    }

    /// Whether both are the same name, without regard to case (RFC 4343).
    pub fn is(self, other: Self) -> bool {
        let labels = |name: Self| Labels::new(name.message, name.start);
        self.offset() == other.offset() || labels(self).eq_by_label(labels(other))
    }

    /// Where the labels stand, a leading pointer followed: compressed names mostly share it.
    fn offset(self) -> usize {
        match self.message.get(self.start..) {
            Some(&[high @ 0xc0..=0xff, low, ..]) => {
                usize::from(u16::from_be_bytes([high & 0x3f, low]))
            }
            _ => self.start,
        }
    }

    /// The text, byte by byte.
    pub fn text_bytes(self) -> impl Iterator<Item = u8> {
        let mut labels = Labels::new(self.message, self.start).peekable();
        let root = labels.peek().is_none().then_some(b'.');
        let separated = labels.enumerate().flat_map(|(index, label)| {
            let dot = (index > 0).then_some(b'.');
            dot.into_iter()
                .chain(label.iter().flat_map(|byte| escape(*byte)))
        });
        root.into_iter().chain(separated)
    }

    pub fn to_text(self) -> Box<str> {
        self.text_bytes().map(char::from).collect()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_text())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), formatter)
    }
}

/// Goes past a name without following its pointer.
pub fn skip(reader: &mut Reader<'_>) -> Option<()> {
    loop {
        match step(reader)? {
            Step::Label(_) => {}
            Step::Pointer(_) | Step::End => return Some(()),
        }
    }
}

enum Step<'a> {
    Label(&'a [u8]),
    Pointer(usize),
    End,
}

fn step<'a>(reader: &mut Reader<'a>) -> Option<Step<'a>> {
    let first = reader.u8()?;
    match first {
        0 => Some(Step::End),
        1..=63 => reader.take(usize::from(first)).map(Step::Label),
        0xc0.. => {
            let offset = u16::from_be_bytes([first & 0x3f, reader.u8()?]);
            Some(Step::Pointer(usize::from(offset)))
        }
        // 01 and 10 are extended label types that nobody uses (RFC 6891 5).
        _ => None,
    }
}

/// The labels of a name, pointers followed.
///
/// Each pointer must lead further back than the one before (RFC 1035 4.1.4: a prior occurrence),
/// so there is no circle, and at most [`MAX_WIRE_LENGTH`] bytes of labels are gone through.
#[derive(Clone)]
struct Labels<'a> {
    message: &'a [u8],
    reader: Reader<'a>,
    /// Pointers must lead to before this offset.
    bound: usize,
    length: usize,
    /// The name came to its regular end.
    ended: bool,
}

impl<'a> Labels<'a> {
    fn new(message: &'a [u8], start: usize) -> Self {
        Self {
            message,
            reader: Reader::new(message.get(start..).unwrap_or_default()),
            bound: start,
            length: 0,
            ended: false,
        }
    }

    fn eq_by_label(mut self, mut other: Self) -> bool {
        loop {
            match (self.next(), other.next()) {
                (None, None) => return self.ended && other.ended,
                (Some(ours), Some(theirs)) if ours.eq_ignore_ascii_case(theirs) => {}
                _ => return false,
            }
        }
    }

    fn follow(&mut self, offset: usize) -> Option<()> {
        if offset >= self.bound {
            return None;
        }
        self.bound = offset;
        self.reader = Reader::new(self.message.get(offset..)?);
        Some(())
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match step(&mut self.reader)? {
                Step::Label(label) => {
                    self.length = self.length.saturating_add(label.len()).saturating_add(1);
                    return (self.length < MAX_WIRE_LENGTH).then_some(label);
                }
                Step::Pointer(offset) => self.follow(offset)?,
                Step::End => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }
}

fn escape(byte: u8) -> impl Iterator<Item = u8> {
    let plain = byte.is_ascii_graphic() && byte != b'.' && byte != b'\\';
    let (text, length) = match plain {
        true => ([byte.to_ascii_lowercase(), 0, 0, 0], 1),
        false => ([b'\\', digit(byte / 100), digit(byte / 10), digit(byte)], 4),
    };
    text.into_iter().take(length)
}

fn digit(value: u8) -> u8 {
    b'0' + value % 10
}
