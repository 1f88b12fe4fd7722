//! Queries and their answers on one flow.

use super::{DnsMessage, Question, RCODE_REFUSED, RCODE_SERVFAIL};

/// Most queries of one flow that are waited for.
pub const MAX_PENDING: usize = 16;
/// How long an answer is waited for, from the last copy of the query on. Stub resolvers send the
/// query again after 5 s (glibc, Android): a second more keeps both copies in one transaction.
pub const QUERY_TIMEOUT_NS: u64 = 6_000_000_000;

/// One query with its answer, or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub id: u16,
    /// See [`super::Name`] for the form.
    pub name: Box<str>,
    pub qtype: u16,
    /// Time of the first copy of the query.
    pub query_time_ns: u64,
    /// None: no answer in time.
    pub rcode: Option<u16>,
    /// From the first copy of the query to the answer: what the subscriber waited. After a
    /// retransmission it therefore exceeds the server's response time.
    pub response_us: Option<u32>,
    /// Copies of the query after the first, in the same flow.
    pub retransmitted_queries: u16,
}

impl Transaction {
    /// The record's `failure_cause`; none for answers that are no failure, as NXDOMAIN.
    pub fn failure_cause(&self) -> Option<&'static str> {
        match self.rcode {
            None => Some("dns_timeout"),
            Some(RCODE_SERVFAIL) => Some("dns_servfail"),
            Some(RCODE_REFUSED) => Some("dns_refused"),
            Some(_) => None,
        }
    }
}

/// Matches the answers of one flow with its queries.
#[derive(Debug)]
pub struct DnsTracker {
    timeout_ns: u64,
    /// In the order of their first copies; [`MAX_PENDING`] at most.
    pending: Vec<Pending>,
    queries: u64,
    evicted: u64,
    unmatched: u64,
}

#[derive(Debug)]
struct Pending {
    id: u16,
    qtype: u16,
    name: Box<str>,
    first_time_ns: u64,
    last_time_ns: u64,
    copies: u16,
}

impl Default for DnsTracker {
    fn default() -> Self {
        Self::new(QUERY_TIMEOUT_NS)
    }
}

impl DnsTracker {
    pub fn new(timeout_ns: u64) -> Self {
        Self {
            timeout_ns,
            pending: Vec::new(),
            queries: 0,
            evicted: 0,
            unmatched: 0,
        }
    }

    /// Takes a message of either direction; an answer that has its query gives a transaction.
    ///
    /// A message without a question is only of use as an answer (FORMERR may come so).
    pub fn on_message(&mut self, message: &DnsMessage<'_>, time_ns: u64) -> Option<Transaction> {
        match (message.is_response, &message.question) {
            (true, _) => self.on_response(message, time_ns),
            (false, Some(question)) => {
                self.on_query(message.id, question, time_ns);
                None
            }
            (false, None) => None,
        }
    }

    /// Gives the oldest query that has timed out at `now_ns`; call until there is none.
    pub fn expire(&mut self, now_ns: u64) -> Option<Transaction> {
        let overdue = self
            .pending
            .iter()
            .position(|query| self.deadline_ns(query) < now_ns)?;
        Some(self.pending.remove(overdue).unanswered())
    }

    /// When [`expire`](Self::expire) will next have something to give, if nothing arrives before.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.pending
            .iter()
            .map(|query| self.deadline_ns(query))
            .min()
    }

    /// Queries that are waited for. At the end of a capture their outcome is unknown.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Queries seen, without their copies.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Queries given up because more than [`MAX_PENDING`] waited; their outcome is unknown.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Answers without a query: late, repeated, forged, or the query was not captured.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    fn deadline_ns(&self, query: &Pending) -> u64 {
        query.last_time_ns.saturating_add(self.timeout_ns)
    }

    fn on_query(&mut self, id: u16, question: &Question<'_>, time_ns: u64) {
        if let Some(known) = self
            .pending
            .iter_mut()
            .find(|query| query.asks(id, question))
        {
            known.last_time_ns = known.last_time_ns.max(time_ns);
            known.copies = known.copies.saturating_add(1);
            return;
        }
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
            self.evicted = self.evicted.saturating_add(1);
        }
        self.queries = self.queries.saturating_add(1);
        self.pending.push(Pending::new(id, question, time_ns));
    }

    fn on_response(&mut self, message: &DnsMessage<'_>, time_ns: u64) -> Option<Transaction> {
        let asked = |query: &Pending| match &message.question {
            Some(question) => query.asks(message.id, question),
            None => query.id == message.id,
        };
        let Some(index) = self.pending.iter().position(asked) else {
            self.unmatched = self.unmatched.saturating_add(1);
            return None;
        };
        Some(self.pending.remove(index).answered(message.rcode, time_ns))
    }
}

impl Pending {
    fn new(id: u16, question: &Question<'_>, time_ns: u64) -> Self {
        Self {
            id,
            qtype: question.qtype,
            name: question.name.to_text(),
            first_time_ns: time_ns,
            last_time_ns: time_ns,
            copies: 0,
        }
    }

    /// Whether this is the same query; the name too, since an id is easily used or guessed twice.
    fn asks(&self, id: u16, question: &Question<'_>) -> bool {
        self.id == id
            && self.qtype == question.qtype
            && question.name.text_bytes().eq(self.name.bytes())
    }

    fn answered(self, rcode: u16, time_ns: u64) -> Transaction {
        let waited_us = time_ns.saturating_sub(self.first_time_ns) / 1000;
        Transaction {
            rcode: Some(rcode),
            response_us: Some(u32::try_from(waited_us).unwrap_or(u32::MAX)),
            ..self.unanswered()
        }
    }

    fn unanswered(self) -> Transaction {
        Transaction {
            id: self.id,
            name: self.name,
            qtype: self.qtype,
            query_time_ns: self.first_time_ns,
            rcode: None,
            response_us: None,
            retransmitted_queries: self.copies,
        }
    }
}
