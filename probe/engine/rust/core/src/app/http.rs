//! HTTP/1.0 and 1.1 on one connection (RFC 9112): requests, their answers, and the waits between them.
//!
//! [`HttpTracker`] reads both directions as in-order stream bytes in chunks of any size. Heads are
//! read line by line, bodies are stepped over by their length. Per direction it keeps at most
//! [`message::MAX_LINE`] bytes of a line that does not lie in one chunk, so that what was captured of
//! a head counts even if the rest was cut off.
//!
//! Where bytes are missing the caller says so, and the direction is [lost](HttpTracker::lose) until
//! the caller finds a segment that begins with a head. Which answer belongs to which request is said
//! only as long as it is certain.

mod head;
mod message;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::tcp::micros;
use head::{Head, Method};
pub use head::{Opening, Upgrade};
use message::{Framing, MessageReader, Step};
pub use message::{MAX_HEAD, MAX_LINE};

/// Most requests of a connection that wait for their answer. Clients that pipeline send fewer than
/// 10 ahead; of more the oldest are given up.
pub const MAX_PENDING: usize = 64;

const CONTINUE: u16 = 100;
const SWITCHING_PROTOCOLS: u16 = 101;

/// What a connection said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request line was read.
    Request,
    /// The host that the first request asks for: lower case, without port; 255 bytes at most.
    Host(Box<str>),
    /// A status line that is no interim (1xx) one was read.
    Response(Response),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// From the first byte of the request to the first byte of its answer, interim answers left
    /// out; none where it is not certain which request was answered.
    ///
    /// Bias: holds the time that the client takes to send the request's body.
    pub first_byte_us: Option<u32>,
    /// A request without an answer was there.
    pub is_awaited: bool,
}

/// What the connection carries behind its last HTTP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// CONNECT was granted (RFC 9110 9.3.6).
    Tunnel,
    /// Upgrade was granted (RFC 9110 7.8).
    Upgrade(Upgrade),
}

/// A request whose answer has not begun.
#[derive(Debug, Clone, Copy)]
struct Pending {
    first_byte_ns: u64,
    method: Method,
    waits_to_continue: bool,
}

/// Reads one connection.
#[derive(Debug)]
pub struct HttpTracker {
    client: MessageReader,
    server: MessageReader,
    /// Oldest first, [`MAX_PENDING`] at most.
    pending: VecDeque<Pending>,
    /// The request whose answer's head is being read; none if it was not seen, or is not certain.
    answered: Option<Pending>,
    /// The client sends requests ahead of the answer to the one before.
    pipelines: bool,
    /// Requests may lie in bytes that were lost since the last one.
    missed_requests: bool,
    /// Messages of a client that pipelines were missed: from then on no answer can be told to belong
    /// to a request. A client that waits for each answer makes that clear with its next request.
    doubtful: bool,
    switch: Option<Switch>,
    /// Bytes of the last chunk that lie behind the switch.
    unread: usize,
}

impl Default for HttpTracker {
    fn default() -> Self {
        Self {
            client: MessageReader::of_requests(),
            server: MessageReader::of_responses(),
            pending: VecDeque::new(),
            answered: None,
            pipelines: false,
            missed_requests: false,
            doubtful: false,
            switch: None,
            unread: 0,
        }
    }
}

impl HttpTracker {
    /// Takes the next bytes of a direction, and returns how many behind them need not be given: the
    /// rest of a body.
    ///
    /// Bytes are ignored while the direction is [lost](Self::is_lost), and once the connection has
    /// [switched](Self::switch) to another protocol.
    pub fn feed(
        &mut self,
        from_client: bool,
        bytes: &[u8],
        time_ns: u64,
        on_event: &mut impl FnMut(Event),
    ) -> u64 {
        let mut rest = bytes;
        while !rest.is_empty() && self.switch.is_none() {
            let step = self.side(from_client).step(&mut rest, time_ns);
            self.on_step(from_client, step, on_event);
        }
        self.unread = rest.len();
        self.side(from_client).take_skip()
    }

    fn on_step(&mut self, from_client: bool, step: Step, on_event: &mut impl FnMut(Event)) {
        match (step, from_client) {
            (Step::More, _) => {}
            (Step::Started, true) => self.on_request_line(on_event),
            (Step::Started, false) => self.on_status_line(on_event),
            (Step::Named, _) => self.say_host(on_event),
            (Step::Ended, true) => self.on_request_head(),
            (Step::Ended, false) => self.on_response_head(),
            (Step::Unreadable, _) => self.lose(from_client),
        }
    }

    fn on_request_line(&mut self, on_event: &mut impl FnMut(Event)) {
        let request = Pending {
            first_byte_ns: self.client.first_byte_ns(),
            method: self.client.head().method,
            waits_to_continue: false,
        };
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
            self.doubtful = true;
        }
        // A client that waits for each answer would not send this one ahead of the last one's.
        let ahead = self.pipelines || !self.pending.is_empty();
        self.doubtful |= std::mem::take(&mut self.missed_requests) && ahead;
        self.pending.push_back(request);
        on_event(Event::Request);
        self.say_host(on_event);
    }

    fn say_host(&mut self, on_event: &mut impl FnMut(Event)) {
        if let Some(host) = self.client.take_host() {
            on_event(Event::Host(host));
        }
    }

    fn on_request_head(&mut self) {
        let head = self.client.head();
        let framing = head.body.of_request();
        if let Some(request) = self.pending.back_mut() {
            request.waits_to_continue = head.expects_continue;
        }
        self.client.go_on(framing);
    }

    fn on_status_line(&mut self, on_event: &mut impl FnMut(Event)) {
        let status = self.server.head().status;
        if is_interim(status) {
            return self.on_interim(status);
        }
        self.pipelines |= self.pending.len() > 1;
        let oldest = self.pending.pop_front();
        self.answered = oldest.filter(|_| !self.doubtful);
        let answered_ns = self.server.first_byte_ns();
        on_event(Event::Response(Response {
            status,
            first_byte_us: self
                .answered
                .map(|request| micros(request.first_byte_ns, answered_ns)),
            is_awaited: oldest.is_some(),
        }));
    }

    fn on_interim(&mut self, status: u16) {
        if let (CONTINUE, Some(request)) = (status, self.pending.front_mut()) {
            request.waits_to_continue = false;
        }
    }

    fn on_response_head(&mut self) {
        let &Head {
            status,
            body,
            upgrade,
            ..
        } = self.server.head();
        let answered = self.answered.take();
        if status == SWITCHING_PROTOCOLS {
            self.switch = Some(Switch::Upgrade(upgrade));
        } else if is_interim(status) {
            self.server.go_on(Framing::Empty);
        } else if answered.is_some_and(|request| request.method == Method::Connect)
            && is_success(status)
        {
            self.switch = Some(Switch::Tunnel);
        } else {
            self.server.go_on(match answered {
                Some(request) => body.of_response(status, request.method == Method::Head),
                // An answer to HEAD states the length of a body that does not follow.
                None => Framing::Unknown,
            });
        }
        // The final answer came first: the client need not send the body (RFC 9110 10.1.1).
        if answered.is_some_and(|request| request.waits_to_continue) {
            self.client.go_on(Framing::Unknown);
        }
    }

    /// Says that the next bytes of a direction cannot be had, or that it is not HTTP.
    pub fn lose(&mut self, from_client: bool) {
        if !from_client && self.server.is_until_close() {
            return;
        }
        self.side(from_client).go_on(Framing::Unknown);
        if from_client {
            self.missed_requests = true;
        } else {
            // Some may have been answered.
            self.doubtful |= self.pipelines;
            self.pending.clear();
            self.answered = None;
        }
    }

    /// The direction waits for the beginning of a head, and reads nothing until it
    /// [goes on](Self::resume).
    pub fn is_lost(&self, from_client: bool) -> bool {
        match from_client {
            true => self.client.is_lost(),
            // What looks like an answer within a body that has no end must have been asked for.
            false => self.server.is_lost() && (!self.server.is_until_close() || self.is_waiting()),
        }
    }

    /// Nothing is read of the direction any more, or for now.
    pub fn is_deaf(&self, from_client: bool) -> bool {
        self.switch.is_some()
            || match from_client {
                true => self.client.is_lost(),
                false => self.server.is_lost(),
            }
    }

    /// Goes on in a direction that was lost: the next bytes given begin with a head.
    pub fn resume(&mut self, from_client: bool) {
        if !from_client && self.pending.len() > 1 {
            self.pending.clear();
        }
        self.side(from_client).go_on(Framing::Empty);
    }

    /// How many bytes at the end of the last chunk given lie behind the switch.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// What the connection carries from now on, if it is no longer HTTP.
    pub fn switch(&self) -> Option<Switch> {
        self.switch
    }

    /// A request was sent whose answer has not begun.
    pub fn is_waiting(&self) -> bool {
        !self.doubtful && !self.pending.is_empty()
    }

    /// An answer has begun whose end has not been read, as far as its reader sees to the end.
    pub fn is_amid_answer(&self) -> bool {
        self.server.is_amid_message()
    }

    fn side(&mut self, from_client: bool) -> &mut MessageReader {
        match from_client {
            true => &mut self.client,
            false => &mut self.server,
        }
    }
}

/// Interim answers precede the one that counts (RFC 9110 15.2); a switch of protocols is final.
fn is_interim(status: u16) -> bool {
    status != SWITCHING_PROTOCOLS && status / 100 == 1
}

fn is_success(status: u16) -> bool {
    status / 100 == 2
}
