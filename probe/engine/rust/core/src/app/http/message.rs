//! The messages of one direction: where each head begins and where each body ends.

use super::head::{Head, without_line_end};

/// Most bytes of one line that are looked at; a longer line is read to its end. Hosts and lengths
/// stand in shorter ones.
pub const MAX_LINE: usize = 512;
/// Most bytes of a head, or of the trailer behind chunks; servers in use allow 8 to 64 KiB.
pub const MAX_HEAD: u32 = 64 * 1024;
/// Most bytes of a line with a chunk's size and extensions (RFC 9112 7.1.1).
const MAX_CHUNK_LINE: u32 = 4096;
/// The line end behind a chunk.
const CRLF: u64 = 2;

/// How a message goes on behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
    /// It cannot be told where the next message begins.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    StartLine,
    Field,
    ChunkSize,
    /// Behind the last chunk (RFC 9112 7.1.2).
    Trailer,
    UntilClose,
    Lost,
}

/// What bytes led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The first line of a head was read.
    Started,
    /// A field named the host.
    Named,
    /// A head is complete; the caller looks at it and says how to [go on](MessageReader::go_on).
    Ended,
    /// Not HTTP, or beyond the bounds.
    Unreadable,
}

/// Reads one direction.
#[derive(Debug)]
pub(super) struct MessageReader {
    reads_requests: bool,
    state: State,
    head: Head,
    /// No request has named its host yet.
    wants_host: bool,
    first_byte_ns: u64,
    /// The front of a line that began in an earlier chunk, [`MAX_LINE`] bytes at most.
    line: Vec<u8>,
    /// The line has more bytes than `line` holds.
    is_line_cut: bool,
    /// Bytes that the head, trailer or chunk line may still have.
    budget: u32,
    /// Bytes of a body that lie ahead.
    skip: u64,
}

impl MessageReader {
    pub fn of_requests() -> Self {
        Self {
            reads_requests: true,
            state: State::StartLine,
            head: Head::default(),
            wants_host: true,
            first_byte_ns: 0,
            line: Vec::new(),
            is_line_cut: false,
            budget: MAX_HEAD,
            skip: 0,
        }
    }

    pub fn of_responses() -> Self {
        Self {
            reads_requests: false,
            wants_host: false,
            ..Self::of_requests()
        }
    }

    /// Takes a line or a part of one, or of a body, from the front of `input`.
    pub fn step(&mut self, input: &mut &[u8], time_ns: u64) -> Step {
        if self.is_lost() {
            *input = &[];
            return Step::More;
        }
        if self.skip > 0 {
            self.step_over(input);
            return Step::More;
        }
        if self.state == State::StartLine && self.line.is_empty() {
            self.first_byte_ns = time_ns;
        }
        self.read_line(input)
    }

    fn step_over(&mut self, input: &mut &[u8]) {
        let within = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let count = within.min(input.len());
        *input = input.get(count..).unwrap_or_default();
        self.skip -= count as u64;
    }

    /// Bytes of a body that lie ahead. The caller promises not to give them.
    pub fn take_skip(&mut self) -> u64 {
        std::mem::take(&mut self.skip)
    }

    fn read_line(&mut self, input: &mut &[u8]) -> Step {
        let end = input.iter().position(|&byte| byte == b'\n');
        let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        *input = rest;
        match u32::try_from(piece.len())
            .ok()
            .and_then(|count| self.budget.checked_sub(count))
        {
            Some(budget) => self.budget = budget,
            None => return Step::Unreadable,
        }
        if end.is_some() && self.line.is_empty() {
            return self.on_line(piece);
        }
        self.keep(piece);
        if end.is_none() {
            return Step::More;
        }
        let mut line = std::mem::take(&mut self.line);
        let step = self.on_line(&line);
        line.clear();
        self.line = line;
        step
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_LINE - self.line.len();
        self.is_line_cut |= piece.len() > room;
        self.line
            .extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn on_line(&mut self, line: &[u8]) -> Step {
        let is_whole = !std::mem::take(&mut self.is_line_cut) && line.len() <= MAX_LINE;
        let line = line.get(..MAX_LINE).unwrap_or(line);
        let line = if is_whole {
            without_line_end(line)
        } else {
            line
        };
        match self.state {
            State::StartLine if line.is_empty() => Step::More,
            State::StartLine => self.on_start_line(line, is_whole),
            State::Field if line.is_empty() => Step::Ended,
            State::Field => {
                self.head.note_field(line, self.wants_host);
                match self.head.host {
                    Some(_) => Step::Named,
                    None => Step::More,
                }
            }
            State::ChunkSize => self.on_chunk_size(line),
            State::Trailer if line.is_empty() => {
                self.go_on(Framing::Empty);
                Step::More
            }
            State::Trailer | State::UntilClose | State::Lost => Step::More,
        }
    }

    fn on_start_line(&mut self, line: &[u8], is_whole: bool) -> Step {
        let head = match self.reads_requests {
            true => Head::of_request(line, is_whole, self.wants_host),
            false => Head::of_response(line),
        };
        let Some(head) = head else {
            return Step::Unreadable;
        };
        self.head = head;
        self.state = State::Field;
        Step::Started
    }

    /// The size in hexadecimal, perhaps blanks, perhaps extensions behind a semicolon.
    fn on_chunk_size(&mut self, line: &[u8]) -> Step {
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
        let (digits, rest) = line.split_at(end.unwrap_or(line.len()));
        let extension = rest.trim_ascii_start().first();
        let size = str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match size.filter(|_| extension.is_none_or(|&byte| byte == b';')) {
            None => return Step::Unreadable,
            Some(0) => {
                self.state = State::Trailer;
                self.budget = MAX_HEAD;
            }
            Some(size) => {
                self.skip = size.saturating_add(CRLF);
                self.budget = MAX_CHUNK_LINE;
            }
        }
        Step::More
    }

    /// The head that is being read, or was read last.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The host, said once in the life of the direction.
    pub fn take_host(&mut self) -> Option<Box<str>> {
        let host = self.head.host.take();
        self.wants_host &= host.is_none();
        host
    }

    /// Time of the first byte of the message that is being read, or was read last.
    pub fn first_byte_ns(&self) -> u64 {
        self.first_byte_ns
    }

    /// Goes on behind a head, or from wherever the reader is.
    pub fn go_on(&mut self, framing: Framing) {
        self.line.clear();
        self.is_line_cut = false;
        (self.state, self.budget, self.skip) = match framing {
            Framing::Empty => (State::StartLine, MAX_HEAD, 0),
            Framing::Length(bytes) => (State::StartLine, MAX_HEAD, bytes),
            Framing::Chunked => (State::ChunkSize, MAX_CHUNK_LINE, 0),
            Framing::UntilClose => (State::UntilClose, 0, 0),
            Framing::Unknown => (State::Lost, 0, 0),
        };
    }

    /// Nothing can be read until the caller finds a head.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost | State::UntilClose)
    }

    /// A body without stated length is under way.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// A message has begun whose end has not been read. The rest of a body of stated length is not
    /// read here.
    pub fn is_amid_message(&self) -> bool {
        match self.state {
            State::StartLine => !self.line.is_empty(),
            State::Field | State::ChunkSize | State::Trailer => true,
            State::UntilClose | State::Lost => false,
        }
    }

    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.line.len()
    }
}
