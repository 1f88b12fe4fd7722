//! The first request under protection and the answer to it, as far as records tell.
//!
//! Up to TLS 1.2 handshake messages have a type of their own, so the first application records are
//! data. In TLS 1.3 both sides' Finished, session tickets and alerts look like data (RFC 8446 5.2),
//! and only lengths and order tell them apart:
//!
//! - The client's Finished has the length that its cipher suite gives it. What follows is the request.
//! - Two server records of one length ahead of anything else are tickets: servers on OpenSSL, the
//!   most common ones, send two. **Bias:** a single ticket, or several in one record, is taken for
//!   the answer; the wait is then too short by the time that the server thinks, never too long.
//! - Where the client offers HTTP/2, short server records are its settings (RFC 9113 3.4), not an
//!   answer: the first answer's head is longer.
//! - With 0-RTT the request came before the handshake, among records that cannot be told apart from
//!   those behind it: nothing is said.

use super::alert::PROTECTED_LENGTH;
use super::hello::Version;

/// What encryption adds in TLS 1.3: content type and tag (RFC 8446 5.2).
const OVERHEAD: u16 = 1 + 16;
const SHORT_TAG_OVERHEAD: u16 = 1 + 8;
const MESSAGE_HEADER: u16 = 4;

/// Longest record that is looked at as a ticket; one with a client's certificate in it may be longer.
const MAX_TICKET: u16 = 1400;
/// Most server records of one length that are taken for tickets.
const MAX_TICKETS: u8 = 4;
/// Longest record that holds settings of HTTP/2 and what comes with them: 9 bytes of frame header, 6
/// for each of up to 8 settings, and encryption.
const MAX_SETTINGS: u16 = 9 + 8 * 6 + OVERHEAD;
/// Most client records ahead of its Finished: certificate, proof, and their parts.
const MAX_BEFORE_FINISHED: u8 = 16;

/// What is known of the connection when its first application records pass.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub version: Option<Version>,
    pub cipher_suite: Option<u16>,
    pub early_data: bool,
    pub offers_http2: bool,
}

/// Follows the first request and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirstExchange {
    /// TLS 1.3: the client's Finished has passed.
    finished: bool,
    before_finished: u8,
    request_ns: Option<u64>,
    /// A server record that is the answer unless the next one has the same length.
    candidate: Option<(u64, u16)>,
    /// The length of records that turned out to be tickets, and how many there were.
    tickets: Option<(u16, u8)>,
    /// The server has sent something since the handshake and ahead of the request.
    has_spoken: bool,
    answer_ns: Option<u64>,
    settled: bool,
}

impl FirstExchange {
    /// Nothing more can be learnt.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// When the client's first data was sent.
    pub fn request_ns(&self) -> Option<u64> {
        self.request_ns
    }

    /// From the first record of the request to the first one of the answer.
    pub fn first_byte_us(&self) -> Option<u32> {
        let answer_ns = self.answer_ns.or(self.candidate.map(|(ns, _)| ns))?;
        self.request_ns
            .map(|request_ns| crate::tcp::micros(request_ns, answer_ns))
    }

    /// Takes in an application record of the client, behind the ServerHello.
    pub fn on_client_record(&mut self, context: &Context, length: u16, time_ns: u64) {
        if context.version != Some(Version::Tls13) {
            self.request_ns.get_or_insert(time_ns);
        } else if context.early_data {
            self.settled = true;
        } else if !self.finished {
            self.finished = is_finished(context.cipher_suite, length);
            self.before_finished += 1;
            self.settled = self.before_finished == MAX_BEFORE_FINISHED;
        } else if length != PROTECTED_LENGTH {
            self.request_ns.get_or_insert(time_ns);
        }
    }

    /// Takes in an application record of the server, behind the client's part of the handshake.
    pub fn on_server_record(&mut self, context: &Context, length: u16, time_ns: u64) {
        let tls_1_3 = context.version == Some(Version::Tls13);
        match (self.request_ns, tls_1_3) {
            // The server speaks first: there is nothing to measure.
            (None, false) => self.settled = true,
            (None, true) => self.has_spoken = true,
            (Some(_), false) => self.settle(time_ns),
            (Some(_), true) if context.offers_http2 && length <= MAX_SETTINGS => {}
            (Some(_), true) if length == PROTECTED_LENGTH => {}
            (Some(_), true) => self.weigh(length, time_ns),
        }
    }

    fn weigh(&mut self, length: u16, time_ns: u64) {
        match (self.candidate, &mut self.tickets) {
            (None, Some((known, count))) if *known == length && *count < MAX_TICKETS => *count += 1,
            (None, None) if !self.has_spoken && length <= MAX_TICKET => {
                self.candidate = Some((time_ns, length));
            }
            (None, _) => self.settle(time_ns),
            (Some((_, known)), _) if known == length => {
                self.candidate = None;
                self.tickets = Some((length, 2));
            }
            (Some((candidate_ns, _)), _) => self.settle(candidate_ns),
        }
    }

    fn settle(&mut self, answer_ns: u64) {
        self.answer_ns = Some(answer_ns);
        self.settled = true;
    }
}

/// Whether a client's record has the length of its Finished: a hash in a message, protected
/// (RFC 8446 4.4.4, B.4).
fn is_finished(cipher_suite: Option<u16>, length: u16) -> bool {
    const SHA_256: u16 = MESSAGE_HEADER + 32;
    const SHA_384: u16 = MESSAGE_HEADER + 48;
    match cipher_suite {
        Some(0x1301 | 0x1303 | 0x1304) => length == SHA_256 + OVERHEAD,
        Some(0x1302) => length == SHA_384 + OVERHEAD,
        Some(0x1305) => length == SHA_256 + SHORT_TAG_OVERHEAD,
        _ => length == SHA_256 + OVERHEAD || length == SHA_384 + OVERHEAD,
    }
}
