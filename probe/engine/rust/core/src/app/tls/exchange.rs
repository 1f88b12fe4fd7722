//! The first request under protection and the answer to it, as far as records tell.
//!
//! Up to TLS 1.2 handshake messages have a type of their own, so the first application records are
//! data. In TLS 1.3 both sides' Finished, session tickets and alerts look like data (RFC 8446 5.2),
//! and only lengths, order and acknowledgments tell them apart:
//!
//! - The client's Finished has the length that its cipher suite gives it. What follows is the request.
//! - What the server sends before the request has come is no answer.
//! - Server records of one length ahead of anything else are tickets: servers on OpenSSL and
//!   BoringSSL send two.
//! - A single short record may be a ticket or the answer. It counts as the answer if what follows it
//!   comes so soon that it makes no difference; else nothing is said.
//! - Where HTTP/2 is spoken, or offered in TLS 1.3, short client records are its preface and short
//!   server records its settings (RFC 9113 3.4): neither is a request nor an answer.
//! - With 0-RTT the request came before the handshake, among records that cannot be told apart from
//!   those behind it: nothing is said.
//!
//! **Bias:** a ticket with the answer close behind it makes the wait too short by an eighth at most.
//! Tickets of different lengths in one flight are taken for the answer: the wait lacks the time that
//! the server thinks. An answer whose first two records have one length is timed from its third.

use super::alert;
use super::hello::Version;

/// What encryption adds in TLS 1.3: content type and tag (RFC 8446 5.2).
const OVERHEAD: u16 = 1 + 16;
const SHORT_TAG_OVERHEAD: u16 = 1 + 8;
/// What it adds in TLS 1.2 with the ciphers that HTTP/2 allows: nonce and tag (RFC 5288 3).
const OVERHEAD_1_2: u16 = 8 + 16;
const MESSAGE_HEADER: u16 = 4;

/// Longest record that is looked at as a ticket; one with a client's certificate in it may be longer.
const MAX_TICKET: u16 = 1400;
/// Most server records of one length that are taken for tickets.
const MAX_TICKETS: u8 = 4;
/// Most client records ahead of its Finished: certificate, proof, and their parts.
const MAX_BEFORE_FINISHED: u8 = 16;
/// What a record adds to the wait without being told from the answer: a part in so many.
const NEGLIGIBLE: u64 = 8;

const HTTP2_FRAME_HEADER: u16 = 9;
/// A SETTINGS frame of more settings than clients and servers in use send (RFC 9113 6.5).
const HTTP2_SETTINGS: u16 = HTTP2_FRAME_HEADER + 6 * 6;
/// What an HTTP/2 client says before it asks: preface, settings, a larger window.
const HTTP2_PREFACE: u16 = 24 + HTTP2_SETTINGS + HTTP2_FRAME_HEADER + 4;

/// What is known of the connection when its first application records pass.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub is_tls13: bool,
    pub cipher_suite: Option<u16>,
    pub early_data: bool,
    /// HTTP/2 is spoken, or may be.
    pub http2: bool,
}

impl Context {
    pub fn new(version: Option<Version>, cipher_suite: Option<u16>) -> Self {
        Self {
            is_tls13: version == Some(Version::Tls13),
            cipher_suite,
            early_data: false,
            http2: false,
        }
    }

    /// Whether a record may hold no more than `bytes` of HTTP/2.
    fn is_http2_within(&self, bytes: u16, length: u16) -> bool {
        let overhead = if self.is_tls13 {
            OVERHEAD
        } else {
            OVERHEAD_1_2
        };
        self.http2 && length <= bytes + overhead
    }

    fn is_alert(&self, length: u16) -> bool {
        self.is_tls13 && length <= alert::protected_length(self.cipher_suite)
    }

    /// Whether a client's record has the length of its Finished: a hash in a message, protected
    /// (RFC 8446 4.4.4, B.4).
    fn is_finished(&self, length: u16) -> bool {
        const SHA_256: u16 = MESSAGE_HEADER + 32;
        const SHA_384: u16 = MESSAGE_HEADER + 48;
        match self.cipher_suite {
            Some(0x1301 | 0x1303 | 0x1304) => length == SHA_256 + OVERHEAD,
            Some(0x1302) => length == SHA_384 + OVERHEAD,
            Some(0x1305) => length == SHA_256 + SHORT_TAG_OVERHEAD,
            _ => length == SHA_256 + OVERHEAD || length == SHA_384 + OVERHEAD,
        }
    }
}

/// Follows the first request and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirstExchange {
    /// TLS 1.3: the client's Finished has passed.
    finished: bool,
    before_finished: u8,
    request_ns: Option<u64>,
    /// The server has not acknowledged the request yet.
    in_flight: bool,
    /// A server record that is a ticket if the next one has the same length.
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
        let (request_ns, answer_ns) = (self.request_ns?, self.answer_ns?);
        Some(crate::tcp::micros(request_ns, answer_ns))
    }

    /// Says whether the server had the request when it sent what comes next.
    pub fn note_request_read(&mut self, is_read: bool) {
        self.in_flight = !is_read;
    }

    /// Takes in an application record of the client, behind the ServerHello.
    pub fn on_client_record(&mut self, context: &Context, length: u16, time_ns: u64) {
        if context.is_tls13 && context.early_data {
            self.settled = true;
        } else if context.is_tls13 && !self.finished {
            self.look_for_finished(context.is_finished(length));
        } else if !context.is_alert(length) && !context.is_http2_within(HTTP2_PREFACE, length) {
            self.request_ns.get_or_insert(time_ns);
        }
    }

    fn look_for_finished(&mut self, is_finished: bool) {
        self.finished = is_finished;
        self.before_finished = self.before_finished.saturating_add(1);
        self.settled = !is_finished && self.before_finished >= MAX_BEFORE_FINISHED;
    }

    /// Takes in an application record of the server, behind the client's part of the handshake.
    pub fn on_server_record(&mut self, context: &Context, length: u16, time_ns: u64) {
        if context.is_alert(length) || context.is_http2_within(HTTP2_SETTINGS, length) {
            return;
        }
        match self.request_ns.filter(|_| !self.in_flight) {
            Some(request_ns) if context.is_tls13 => self.weigh(request_ns, length, time_ns),
            Some(_) => self.settle(Some(time_ns)),
            None if context.is_tls13 => self.has_spoken = true,
            // The server speaks first: there is nothing to measure.
            None => self.settle(None),
        }
    }

    fn weigh(&mut self, request_ns: u64, length: u16, time_ns: u64) {
        match (self.candidate, &mut self.tickets) {
            (None, Some((known, count))) if *known == length && *count < MAX_TICKETS => *count += 1,
            (None, None) if !self.has_spoken && length <= MAX_TICKET => {
                self.candidate = Some((time_ns, length));
            }
            (None, _) => self.settle(Some(time_ns)),
            (Some((_, known)), _) if known == length => {
                self.candidate = None;
                self.tickets = Some((length, 2));
            }
            (Some((first_ns, _)), _) => {
                let pause_ns = time_ns.saturating_sub(first_ns);
                let wait_ns = first_ns.saturating_sub(request_ns);
                self.settle((pause_ns <= wait_ns / NEGLIGIBLE).then_some(first_ns));
            }
        }
    }

    fn settle(&mut self, answer_ns: Option<u64>) {
        self.answer_ns = answer_ns;
        self.settled = true;
    }
}

#[cfg(test)]
mod tests;
