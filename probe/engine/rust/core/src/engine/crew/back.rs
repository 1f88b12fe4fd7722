//! The thread that takes in, in order, what all hands wrote down, and writes bodies.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::vec::IntoIter;

use super::Chunk;
use crate::control::learner::Link;
use crate::engine::body::{self, Account};
use crate::engine::emit::Stamp;
use crate::engine::joint::{Joint, Said};
use crate::engine::ledger::Ledger;
use crate::engine::log::{Closing, Entry, Moment};
use crate::engine::options::Options;
use crate::engine::pipeline::Counters;
use crate::flow::FlowId;

/// Writes nothing more: a hand is lost, or nobody takes bodies.
struct Left;

pub struct Back {
    joint: Joint,
    /// What others' sessions said of flows that live, by hand and flow; most have heard nothing.
    said: HashMap<(usize, FlowId), Said>,
    ledger: Ledger,
    links: Vec<Link>,
    capture_point: String,
}

/// What comes from one thread.
struct Stream {
    chunks: Receiver<Chunk>,
    entries: IntoIter<(Moment, Entry)>,
    head: Option<(Moment, Entry)>,
    /// Batches of which nothing more comes.
    batches: u64,
}

impl Stream {
    fn new(chunks: Receiver<Chunk>) -> Self {
        Self {
            chunks,
            entries: Vec::new().into_iter(),
            head: None,
            batches: 0,
        }
    }

    /// Makes sure that the next entry of a batch is at hand, if there is one.
    fn settle(&mut self, batch: u64) -> Result<(), Left> {
        loop {
            if self.head.is_none() {
                self.head = self.entries.next();
            }
            if self.head.is_some() || self.batches > batch {
                return Ok(());
            }
            let chunk = self.chunks.recv().map_err(|_| Left)?;
            self.entries = chunk.entries.into_iter();
            self.batches += u64::from(chunk.ends_batch);
        }
    }
}

impl Back {
    pub fn new(options: &Options, capture_point: &str, stamp: Stamp) -> Self {
        Self {
            joint: Joint::new(stamp, &options.limits, options.batch_rows as usize),
            said: HashMap::new(),
            ledger: Ledger::default(),
            links: Vec::new(),
            capture_point: capture_point.into(),
        }
    }

    /// Works until all is over; returns whether it came to that.
    pub fn run(
        mut self,
        chunks: Vec<Receiver<Chunk>>,
        give: impl Fn(Vec<u8>) -> bool,
        note: impl Fn(Counters),
    ) -> bool {
        let mut streams: Vec<Stream> = chunks.into_iter().map(Stream::new).collect();
        for batch in 0.. {
            let merged = self.merge(batch, &mut streams, &give);
            note(self.counters());
            match merged {
                Ok(true) => {}
                Ok(false) => return true,
                Err(Left) => return false,
            }
        }
        false
    }

    /// Takes in a batch of all threads; returns whether there are more.
    fn merge(
        &mut self,
        batch: u64,
        streams: &mut [Stream],
        give: &impl Fn(Vec<u8>) -> bool,
    ) -> Result<bool, Left> {
        let mut packet = 0;
        for stream in &mut *streams {
            stream.settle(batch)?;
        }
        loop {
            let heads = streams.iter().enumerate();
            let heads = heads.filter_map(|(from, stream)| Some((stream.head.as_ref()?.0, from)));
            let Some((moment, from)) = heads.min() else {
                self.close_full(give)?;
                return Ok(true);
            };
            // Bodies are closed between packets.
            if moment.packet != packet {
                self.close_full(give)?;
                packet = moment.packet;
            }
            let Some(stream) = streams.get_mut(from) else {
                return Err(Left);
            };
            if let Some((_, entry)) = stream.head.take() {
                match entry {
                    Entry::Closing(closing) => self.close(*closing, give)?,
                    Entry::Over => return Ok(false),
                    entry => self.take_in(from, entry),
                }
            }
            stream.settle(batch)?;
        }
    }

    fn take_in(&mut self, hand: usize, entry: Entry) {
        let Self { joint, said, .. } = self;
        match entry {
            Entry::Began {
                flow,
                client,
                server,
                now_ns,
            } => {
                let new = joint.of_new(client, server, now_ns);
                if !new.is_empty() {
                    said.insert((hand, flow), new);
                }
            }
            Entry::Heard {
                flow,
                client,
                event,
                now_ns,
            } => {
                let notes = joint.hear(client, event, now_ns);
                if notes != Default::default() {
                    let said = said.entry((hand, flow)).or_default();
                    said.notes.add_all(notes);
                }
            }
            Entry::Connected {
                flow,
                target,
                transport,
                time_ns,
            } => target.note(said.get(&(hand, flow)), transport, time_ns, joint),
            Entry::InVain {
                flow,
                attempt,
                now_ns,
            } => attempt.note(said.get(&(hand, flow)), now_ns, joint),
            Entry::Reached { client, time_ns } => joint.reached(client, time_ns),
            Entry::Cut { flow, interval } => interval.write(said.get_mut(&(hand, flow)), joint),
            Entry::Ended { flow, ended } => ended.conclude(said.remove(&(hand, flow)), joint),
            Entry::Told(row) => joint.tell_row(&row),
            Entry::Untracked { interface, why } => self.ledger.untracked(interface, why),
            Entry::Link(link) => self.links.push(link),
            Entry::Closing(_) | Entry::Over => {}
        }
    }

    fn close_full(&mut self, give: &impl Fn(Vec<u8>) -> bool) -> Result<(), Left> {
        while let Some(full) = self.joint.take_full() {
            let links = std::mem::take(&mut self.links);
            let body = body::complete(full, &links, &self.capture_point, None);
            give(body).then_some(()).ok_or(Left)?;
        }
        Ok(())
    }

    fn close(&mut self, closing: Closing, give: &impl Fn(Vec<u8>) -> bool) -> Result<(), Left> {
        self.close_full(give)?;
        self.ledger.set_copies(closing.copies);
        let account = Account {
            source: &closing.source,
            decoder: &closing.decoder,
            paths: &closing.paths,
        };
        let links = std::mem::take(&mut self.links);
        let account = Some((&account, &mut self.ledger));
        let rest = self.joint.take_rest();
        let body = body::complete(rest, &links, &self.capture_point, account);
        give(body).then_some(()).ok_or(Left)
    }

    fn counters(&self) -> Counters {
        let mut counters = vec![("records", self.joint.records)];
        counters.extend(self.joint.shed());
        counters.extend(self.ledger.untracked_totals());
        counters
    }
}
