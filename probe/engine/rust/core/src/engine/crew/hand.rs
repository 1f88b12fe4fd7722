//! A thread that measures the flows of its part.

use super::batch::{Batch, Carried, Item, Use};
use super::{Chunk, Line};
use crate::control::reader::Reader;
use crate::control::saved::{Kept, Restored};
use crate::engine::log::{Entry, Log};
use crate::engine::options::Limits;
use crate::engine::pipeline::{Counters, learn, take_tunnel_signal};
use crate::engine::shard::Sharing;
use crate::engine::site::Site;
use crate::engine::tracker::Tracker;

/// Entries that are handed over before their batch ends: a tick may end many flows.
const ENTRIES: usize = 4096;

pub struct Hand {
    is_lead: bool,
    tracker: Tracker,
    control: Reader,
    /// Contexts of an earlier run, until packets tell the time.
    remembered: Option<Kept>,
    restored: Restored,
}

impl Hand {
    pub fn new(
        site: Site,
        limits: &Limits,
        sharing: Sharing,
        remembered: Option<Kept>,
        hash_seed: u64,
    ) -> Self {
        let limits = Limits {
            flows: share_of(limits.flows, sharing.parts()),
            ..*limits
        };
        Self {
            is_lead: site.part.is_lead(),
            tracker: Tracker::of_part(site, sharing, &limits, hash_seed),
            control: Reader::new(),
            remembered,
            restored: Restored::default(),
        }
    }

    /// Works until the last batch, or until nobody takes what it finds. Returns what is known of the mobile
    /// network's sessions, if packets told the time and this is the lead.
    pub fn run(mut self, line: &Line, note: &dyn Fn(Counters)) -> Option<Vec<u8>> {
        while let Ok(mut batch) = line.batches.recv() {
            let is_over = matches!(batch.items.last(), Some(Item::End { .. }));
            if self.take_in(&batch, line).is_err() || self.hand_over(line, true).is_err() {
                return None;
            }
            batch.clear();
            // Where the front has enough of them, this one is not needed.
            let _ = line.emptied.try_send(batch);
            note(self.counters());
            if is_over {
                break;
            }
        }
        let is_kept = self.is_lead && self.remembered.is_none();
        is_kept.then(|| self.tracker.save_bearers().write())
    }

    fn take_in(&mut self, batch: &Batch, line: &Line) -> Result<(), ()> {
        for item in &batch.items {
            match item {
                Item::Packet(carried) => self.on_packet(batch, carried),
                Item::Step { number, step } => {
                    self.log(|log| log.before_packet(*number));
                    self.tracker.follow_step(*step);
                    if let Some(kept) = self.remembered.take() {
                        self.restored = self.tracker.load_bearers(kept);
                    }
                }
                Item::Signal { now_ns, signal } => {
                    self.tracker.follow(*now_ns);
                    take_tunnel_signal(&mut self.tracker, signal);
                }
                Item::Expire { now_ns } => self.control.expire(*now_ns),
                Item::Map(map) => self.tracker.set_attribution(map.clone()),
                Item::End {
                    number,
                    now_ns,
                    closing_ns,
                } => {
                    self.tracker.follow(*now_ns);
                    self.log(|log| log.before_packet(*number));
                    self.tracker.finish_at(*closing_ns);
                }
            }
            if self.log(|log| log.len()) >= ENTRIES {
                self.hand_over(line, false)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn on_packet(&mut self, batch: &Batch, carried: &Carried) {
        let inner = &batch.inner_of(carried);
        self.tracker.follow(carried.now_ns);
        self.log(|log| log.at_packet(carried.number));
        match carried.to {
            Use::Track | Use::TrackAndLearn => {
                let measured = carried.measured.as_ref();
                let taken = self.tracker.on_packet(inner, measured, carried.time_ns);
                if let Err(why) = taken {
                    self.log(|log| log.untracked(carried.interface, why));
                }
            }
            Use::Copy => self.tracker.on_copy(inner),
            Use::Quote => self.tracker.on_quote(inner),
            Use::Learn => {}
        }
        if matches!(carried.to, Use::Learn | Use::TrackAndLearn) {
            learn(&mut self.control, &mut self.tracker, inner, carried.time_ns);
            self.tell_links();
        }
    }

    fn tell_links(&mut self) {
        for link in self.tracker.take_links() {
            if self.is_lead {
                self.log(|log| log.add((0, 0), Entry::Link(link)));
            }
        }
    }

    /// A hand's tracker has a log.
    #[inline]
    fn log<T: Default>(&mut self, act: impl FnOnce(&mut Log) -> T) -> T {
        self.tracker.log_mut().map(act).unwrap_or_default()
    }

    fn hand_over(&mut self, line: &Line, ends_batch: bool) -> Result<(), ()> {
        let entries = self.log(Log::take);
        let chunk = Chunk {
            entries,
            ends_batch,
        };
        line.log.send(chunk).map_err(|_| ())
    }

    fn counters(&self) -> Counters {
        let totals = &self.tracker.totals;
        let mut counters = vec![
            ("flows", totals.flows),
            ("flows_live", self.tracker.live_flows() as u64),
            ("flows_evicted", totals.flows_evicted),
            ("quic_ids_shed", self.tracker.quic_ids_shed()),
            ("icmp_errors_unmatched", totals.icmp_errors_unmatched),
        ];
        if self.is_lead {
            counters.push(("bearers_restored", self.restored.restored));
            counters.push(("bearers_outdated", self.restored.outdated));
            counters.extend(self.tracker.control_shed());
            counters.extend(self.control.counters());
        }
        counters
    }
}

/// A hand's share of a limit, and a quarter more: subscribers are not shared out quite evenly.
fn share_of(limit: u32, parts: u16) -> u32 {
    let fair = u64::from(limit).div_ceil(u64::from(parts.max(1)));
    (fair + fair / 4).clamp(1, u64::from(limit)) as u32
}
