//! Handshake messages out of handshake records (RFC 8446 4).

/// Longest ClientHello or ServerHello that is kept and read; one with post-quantum key shares
/// has 2 to 10 KiB. A longer one is skipped.
pub const MAX_HELLO: u32 = 16 * 1024;
/// How much of a Certificate message is kept, whatever the length of the chain: the leaf comes
/// first, and its validity near its front, after serial number and issuer.
pub const CERTIFICATE_PREFIX: u32 = 4 * 1024;

pub const CLIENT_HELLO: u8 = 1;
pub const SERVER_HELLO: u8 = 2;
pub const CERTIFICATE: u8 = 11;

const HEADER_LENGTH: usize = 4;

/// A handshake message, as far as it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u8,
    /// Time of the message's first byte.
    pub time_ns: u64,
    /// The kept front of the body; empty for a kind that nobody reads, or a body too long.
    pub body: &'a [u8],
}

/// Finds the handshake messages of one direction. Messages may share records and span them.
///
/// A message that lies in one chunk is read in place; else its kept front is copied, growing as
/// the bytes arrive and never by the announced length, up to [`MAX_HELLO`] bytes.
#[derive(Debug, Default)]
pub struct MessageReader {
    header: [u8; HEADER_LENGTH],
    header_filled: usize,
    time_ns: u64,
    /// Body bytes still to come.
    left: u32,
    /// Length of the front of the body that is kept; 0 once it has been handed over.
    wanted: usize,
    kept: Vec<u8>,
}

impl MessageReader {
    /// Takes bytes of handshake records and hands every message to `emit` as soon as its kept
    /// front is complete.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        time_ns: u64,
        from_client: bool,
        emit: &mut impl FnMut(Message<'_>),
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.header_filled {
                HEADER_LENGTH => self.take_body(rest, emit),
                _ => self.take_header(rest, time_ns, from_client, emit),
            };
        }
    }

    fn take_header<'a>(
        &mut self,
        bytes: &'a [u8],
        time_ns: u64,
        from_client: bool,
        emit: &mut impl FnMut(Message<'_>),
    ) -> &'a [u8] {
        if self.header_filled == 0 {
            self.time_ns = time_ns;
        }
        let Some((first, rest)) = bytes.split_first() else {
            return bytes;
        };
        if let Some(place) = self.header.get_mut(self.header_filled) {
            *place = *first;
        }
        self.header_filled = self.header_filled.saturating_add(1);
        if self.header_filled == HEADER_LENGTH {
            self.begin_body(from_client, emit);
        }
        rest
    }

    fn begin_body(&mut self, from_client: bool, emit: &mut impl FnMut(Message<'_>)) {
        let [kind, a, b, c] = self.header;
        self.left = u32::from_be_bytes([0, a, b, c]);
        self.wanted = kept_length(kind, from_client, self.left) as usize;
        if self.wanted == 0 {
            emit(self.message(&[]));
        }
        self.end_body_if_complete();
    }

    fn take_body<'a>(&mut self, bytes: &'a [u8], emit: &mut impl FnMut(Message<'_>)) -> &'a [u8] {
        let count = bytes.len().min(self.left as usize);
        let (body, rest) = bytes.split_at(count);
        if self.wanted > 0 {
            self.keep(body, emit);
        }
        // At most `left`, a u32.
        self.left = self.left.saturating_sub(count as u32);
        self.end_body_if_complete();
        rest
    }

    fn keep(&mut self, body: &[u8], emit: &mut impl FnMut(Message<'_>)) {
        if let (true, Some(front)) = (self.kept.is_empty(), body.get(..self.wanted)) {
            self.wanted = 0;
            emit(self.message(front));
            return;
        }
        let missing = self.wanted.saturating_sub(self.kept.len());
        self.kept.extend(body.iter().take(missing));
        if self.kept.len() == self.wanted {
            self.wanted = 0;
            let kept = std::mem::take(&mut self.kept);
            emit(self.message(&kept));
        }
    }

    fn end_body_if_complete(&mut self) {
        if self.left == 0 {
            self.header_filled = 0;
        }
    }

    fn message<'a>(&self, body: &'a [u8]) -> Message<'a> {
        let [kind, ..] = self.header;
        Message {
            kind,
            time_ns: self.time_ns,
            body,
        }
    }
}

fn kept_length(kind: u8, from_client: bool, length: u32) -> u32 {
    match (kind, from_client) {
        (CLIENT_HELLO, true) | (SERVER_HELLO, false) if length <= MAX_HELLO => length,
        (CERTIFICATE, false) => length.min(CERTIFICATE_PREFIX),
        _ => 0,
    }
}
