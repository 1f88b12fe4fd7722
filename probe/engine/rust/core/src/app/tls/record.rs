//! The record layer: a stream of bytes cut into records (RFC 8446 5.1, RFC 5246 6.2).

/// Most bytes of a record's body: 2^14 and what encryption may add up to TLS 1.2 (RFC 5246 6.2.3).
pub const MAX_LENGTH: u16 = (1 << 14) + 2048;
/// First byte of the version in every record since SSL 3.0.
pub const MAJOR_VERSION: u8 = 3;
/// Content type of handshake records.
pub const HANDSHAKE: u8 = 22;
const HEADER_LENGTH: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
    Heartbeat,
    /// A ClientHello in the format of SSL 2.0, which offers this version (RFC 5246 E.2). It can
    /// only be the first record of a stream, and has no extensions.
    Ssl2ClientHello(u16),
}

impl ContentType {
    fn from_wire(value: u8) -> Option<Self> {
        match value {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            HANDSHAKE => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            24 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// As much of a record's body as one chunk holds.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    pub content_type: ContentType,
    /// Length of the whole record's body.
    pub record_length: u16,
    /// True once per record, at its header; `bytes` is empty then.
    pub begins_record: bool,
    /// Time of the header's first byte.
    pub record_time_ns: u64,
    /// Time of `bytes`.
    pub time_ns: u64,
    pub bytes: &'a [u8],
}

/// Finds the records in one direction of a stream. Keeps no body.
#[derive(Debug, Default)]
pub struct RecordReader {
    header: [u8; HEADER_LENGTH],
    header_filled: usize,
    header_time_ns: u64,
    /// The record whose body is being read.
    current: Option<Current>,
    /// A record has begun, so none in the format of SSL 2.0 can follow.
    begun: bool,
    malformed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    content_type: ContentType,
    length: u16,
    left: u16,
}

impl RecordReader {
    /// Whether a header was no TLS record header; nothing is read after that.
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// No byte was taken.
    pub fn is_untouched(&self) -> bool {
        !self.begun && self.header_filled == 0
    }

    /// Takes the next fragment from the front of `input`; none when `input` is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8], time_ns: u64) -> Option<Fragment<'a>> {
        if self.malformed || input.is_empty() {
            return None;
        }
        match self.current {
            Some(current) if current.left > 0 => Some(self.take_body(current, input, time_ns)),
            _ => self.take_header(input, time_ns),
        }
    }

    fn take_body<'a>(
        &mut self,
        current: Current,
        input: &mut &'a [u8],
        time_ns: u64,
    ) -> Fragment<'a> {
        let count = input.len().min(usize::from(current.left));
        let (bytes, rest) = input.split_at(count);
        *input = rest;
        // At most `left`, a u16.
        let left = current.left.saturating_sub(count as u16);
        self.current = Some(Current { left, ..current });
        self.fragment(current, false, time_ns, bytes)
    }

    fn take_header<'a>(&mut self, input: &mut &'a [u8], time_ns: u64) -> Option<Fragment<'a>> {
        if self.header_filled == 0 {
            self.header_time_ns = time_ns;
        }
        for (place, byte) in self.header.iter_mut().skip(self.header_filled).zip(*input) {
            *place = *byte;
        }
        let count = input
            .len()
            .min(HEADER_LENGTH.saturating_sub(self.header_filled));
        *input = input.get(count..).unwrap_or_default();
        self.header_filled = self.header_filled.saturating_add(count);
        if self.header_filled < HEADER_LENGTH {
            return None;
        }
        self.begin_record(time_ns)
    }

    fn begin_record<'a>(&mut self, time_ns: u64) -> Option<Fragment<'a>> {
        self.header_filled = 0;
        self.current = match self.begun {
            false => parse_header(self.header).or(parse_ssl2_hello(self.header)),
            true => parse_header(self.header),
        };
        self.begun = true;
        self.malformed = self.current.is_none();
        let current = self.current?;
        Some(self.fragment(current, true, time_ns, &[]))
    }

    fn fragment<'a>(
        &self,
        current: Current,
        begins_record: bool,
        time_ns: u64,
        bytes: &'a [u8],
    ) -> Fragment<'a> {
        Fragment {
            content_type: current.content_type,
            record_length: current.length,
            begins_record,
            record_time_ns: self.header_time_ns,
            time_ns,
            bytes,
        }
    }
}

fn parse_header(header: [u8; HEADER_LENGTH]) -> Option<Current> {
    let [content_type, major, _, high, low] = header;
    let length = u16::from_be_bytes([high, low]);
    let content_type = ContentType::from_wire(content_type)?;
    (major == MAJOR_VERSION && length <= MAX_LENGTH).then_some(Current {
        content_type,
        length,
        left: length,
    })
}

/// Whether a stream that starts like this starts with a ClientHello in the format of SSL 2.0.
pub fn is_ssl2_hello(header: [u8; HEADER_LENGTH]) -> bool {
    parse_ssl2_hello(header).is_some()
}

/// A length of two bytes with the highest bit set, message type 1, and the version offered.
fn parse_ssl2_hello(header: [u8; HEADER_LENGTH]) -> Option<Current> {
    let [high, low, message_type, major, minor] = header;
    let length = u16::from_be_bytes([high & 0x7f, low]);
    let is_hello = high & 0x80 != 0 && message_type == 1 && major == MAJOR_VERSION;
    is_hello.then_some(Current {
        content_type: ContentType::Ssl2ClientHello(u16::from_be_bytes([major, minor])),
        length,
        // The header read so far goes three bytes into the body.
        left: length.checked_sub(3)?,
    })
}
