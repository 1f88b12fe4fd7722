//! The thread that reads packets and shares them out.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::batch::{self, Arrival, Batch, Item, Use};
use super::icmp_homes::IcmpHomes;
use super::{Chunk, ToHand};
use crate::control::Paths;
use crate::control::attribution::AttributionMap;
use crate::control::tunnels::{Measured, TunnelLimits, Tunnels};
use crate::decap::{Decoded, Decoder, FragmentLimits, Inner, Transport};
use crate::engine::clock::Clock;
use crate::engine::duplicates::Duplicates;
use crate::engine::icmp::IcmpError;
use crate::engine::log::{CLOSING_STAGE, Closing, Entry, Moment};
use crate::engine::options::Options;
use crate::engine::pipeline::Counters;
use crate::engine::shard::Sharing;
use crate::source::{Event, InterfaceLedger, Packet, Source, SourceError};

const SECOND_NS: u64 = 1_000_000_000;

/// The ways to the other threads.
pub struct Lines {
    pub to_hands: Vec<ToHand>,
    pub to_back: SyncSender<Chunk>,
}

/// A thread at the other end has ended.
struct Lost;

/// Everything that is asked of packets alone.
pub struct Front {
    decoder: Decoder,
    duplicates: Duplicates,
    clock: Clock,
    paths: Paths,
    tunnels: Tunnels,
    sharing: Sharing,
    icmp_homes: IcmpHomes,
    copies: Vec<u64>,
    batch_interval_ns: u64,
    batch_started_ns: u64,
    /// Of the packet, or the moment without one, at hand: counted from 1 on.
    number: u64,
    packets: u64,
    bytes: u64,
    /// What is shared out and not handed over, by hand.
    shares: Vec<Batch>,
    closings: Vec<(Moment, Entry)>,
}

impl Front {
    pub fn new(options: &Options, sharing: Sharing, hash_seed: u64) -> Self {
        let limits = options.limits;
        Self {
            decoder: Decoder::new(FragmentLimits {
                datagrams: limits.fragments as usize,
                bytes: limits.reassembly_bytes as usize,
                ..FragmentLimits::default()
            }),
            duplicates: Duplicates::new(limits.copies, hash_seed),
            clock: Clock::default(),
            paths: Paths::default(),
            tunnels: Tunnels::new(TunnelLimits::of_bearers(limits.bearers as usize)),
            shares: (0..sharing.parts()).map(|_| Batch::default()).collect(),
            sharing,
            icmp_homes: IcmpHomes::default(),
            copies: Vec::new(),
            batch_interval_ns: u64::from(options.batch_interval_s) * SECOND_NS,
            batch_started_ns: 0,
            number: 0,
            packets: 0,
            bytes: 0,
            closings: Vec::new(),
        }
    }

    /// Shares the packets of a source out until it ends or fails, or until it is stopped.
    pub fn run(
        mut self,
        source: &mut dyn Source,
        lines: Lines,
        is_stopped: impl Fn() -> bool,
        newer_map: &dyn Fn() -> Option<Arc<AttributionMap>>,
        note: impl Fn(Counters, &dyn Source),
    ) -> Option<SourceError> {
        let mut failure = None;
        while !is_stopped() {
            if let Some(map) = newer_map() {
                self.give_all(|| Item::Map(Arc::clone(&map)));
            }
            let read = self.read(source);
            let is_over = !matches!(read, Ok(true));
            failure = read.err();
            if is_over {
                break;
            }
            note(self.counters(), source);
            if self.hand_over(&lines).is_err() {
                return failure;
            }
        }
        self.end(source.ledger());
        // Where a thread is lost, joining it tells.
        let _ = self.hand_over(&lines);
        note(self.counters(), source);
        failure
    }

    /// Reads what a batch has room for; returns whether there may be more.
    fn read(&mut self, source: &mut dyn Source) -> Result<bool, SourceError> {
        for _ in 0..batch::PACKETS {
            match &source.next()? {
                Event::Packet(packet) => self.on_packet(packet),
                Event::Idle(now_ns) => {
                    self.number += 1;
                    self.on_time(*now_ns);
                    self.close_if_old(source.ledger());
                    return Ok(true);
                }
                Event::End => return Ok(false),
            }
            self.close_if_old(source.ledger());
            if self
                .shares
                .iter()
                .any(|share| share.bytes() >= batch::BYTES)
            {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn on_time(&mut self, time_ns: u64) {
        let step = self.clock.observe(time_ns);
        if self.clock.is_another_second() {
            let number = self.number;
            self.give_all(|| Item::Step { number, step });
            self.icmp_homes.take_step(step);
        }
        if self.batch_started_ns == 0 {
            self.batch_started_ns = self.clock.now_ns();
        }
    }

    fn on_packet(&mut self, packet: &Packet<'_>) {
        self.number += 1;
        self.packets += 1;
        self.bytes += u64::from(packet.wire_len);
        self.on_time(packet.time_ns);
        let arrival = Arrival {
            number: self.number,
            time_ns: packet.time_ns,
            now_ns: self.clock.now_ns(),
            interface: packet.interface,
        };
        match &self.decoder.decode(packet) {
            Ok(Decoded::Inner(inner)) => {
                let is_copy = self.duplicates.is_copy(packet, inner);
                let is_marked = !inner.marks().is_empty();
                let measured = is_marked.then(|| self.tunnels.on_packet(inner, packet.time_ns));
                if is_copy {
                    count(&mut self.copies, packet.interface);
                    if inner.tunnel().is_some() {
                        let home = self.sharing.home_of(inner);
                        self.shares[usize::from(home)].add(inner, arrival, Use::Copy, None);
                    }
                } else if self.sharing.is_for_all(inner) {
                    for (part, share) in self.shares.iter_mut().enumerate() {
                        let to = if part == 0 {
                            Use::TrackAndLearn
                        } else {
                            Use::Learn
                        };
                        share.add(inner, arrival, to, measured);
                    }
                } else if inner.transport == Transport::Icmp {
                    share_icmp(
                        &self.sharing,
                        &mut self.icmp_homes,
                        &mut self.shares,
                        (inner, arrival, measured),
                    );
                } else {
                    let home = self.sharing.home_of(inner);
                    self.shares[usize::from(home)].add(inner, arrival, Use::Track, measured);
                }
            }
            Ok(Decoded::TunnelSignal(signal)) => {
                self.paths.on_signal(signal, packet.time_ns);
                for share in &mut self.shares {
                    share.items.push(Item::Signal {
                        now_ns: arrival.now_ns,
                        signal: *signal,
                    });
                }
            }
            // The decoder keeps account of what it holds and of what it cannot read.
            Ok(Decoded::Held) | Err(_) => {}
        }
    }

    fn give_all(&mut self, item: impl Fn() -> Item) {
        for share in &mut self.shares {
            share.items.push(item());
        }
    }

    /// Closes a body that is old enough, or from before the clock was set back.
    #[inline]
    fn close_if_old(&mut self, source: &[InterfaceLedger]) {
        let now_ns = self.clock.now_ns();
        let due_ns = self.batch_started_ns.saturating_add(self.batch_interval_ns);
        if now_ns >= due_ns || now_ns < self.batch_started_ns {
            self.batch_started_ns = now_ns;
            self.close(source);
        }
    }

    #[cold]
    fn close(&mut self, source: &[InterfaceLedger]) {
        let now_ns = self.clock.now_ns();
        self.decoder.expire(now_ns);
        self.give_all(|| Item::Expire { now_ns });
        for (ends, traffic) in self.tunnels.drain(now_ns) {
            self.paths.on_traffic(ends, traffic, now_ns);
        }
        let closing = Closing {
            source: source.to_vec(),
            decoder: self.decoder.counters().to_vec(),
            copies: self.copies.clone(),
            paths: self.paths.drain(now_ns),
        };
        let moment = Moment {
            packet: self.number,
            stage: CLOSING_STAGE,
            flow: (0, 0),
        };
        self.closings
            .push((moment, Entry::Closing(Box::new(closing))));
    }

    fn end(&mut self, source: &[InterfaceLedger]) {
        self.number += 1;
        let (number, now_ns) = (self.number, self.clock.now_ns());
        let closing_ns = self.clock.closing_ns();
        self.give_all(|| Item::End {
            number,
            now_ns,
            closing_ns,
        });
        self.decoder.finish();
        self.close(source);
        let moment = Moment {
            packet: u64::MAX,
            ..Moment::default()
        };
        self.closings.push((moment, Entry::Over));
    }

    /// Hands over what there is for each hand, and takes back what they have emptied.
    fn hand_over(&mut self, lines: &Lines) -> Result<(), Lost> {
        for (share, line) in self.shares.iter_mut().zip(&lines.to_hands) {
            let emptied = line.emptied.try_recv().unwrap_or_default();
            let full = std::mem::replace(share, emptied);
            line.batches.send(full).map_err(|_| Lost)?;
        }
        let chunk = Chunk {
            entries: std::mem::take(&mut self.closings),
            ends_batch: true,
        };
        lines.to_back.send(chunk).map_err(|_| Lost)
    }

    fn counters(&self) -> Counters {
        let mut counters = vec![
            ("packets", self.packets),
            ("bytes", self.bytes),
            ("fragments_held", self.decoder.held().0 as u64),
            ("time_leaps_doubted", self.clock.leaps_doubted),
            ("clock_set_back", self.clock.set_back),
            ("paths_shed", self.paths.shed()),
            ("tunnels_shed", self.tunnels.shed),
            ("pdu_sessions_malformed", self.tunnels.malformed),
            ("tunnel_numbers_disordered", self.tunnels.disordered),
            ("qos_monitoring_implausible", self.tunnels.implausible),
            ("icmp_homes_shed", self.icmp_homes.shed),
            ("mirror_copies", self.copies.iter().sum()),
        ];
        counters.extend(crate::engine::ledger::undecodable_totals(
            self.decoder.counters(),
        ));
        counters
    }
}

/// An error goes with its own flow; where the flow of the packet that it quotes is another hand's, that one
/// hears of it too.
#[cold]
fn share_icmp(
    sharing: &Sharing,
    homes: &mut IcmpHomes,
    shares: &mut [Batch],
    (inner, arrival, measured): (&Inner<'_>, Arrival, Option<Measured>),
) {
    let error = IcmpError::read(inner);
    let quoted = error.map(|error| sharing.of_flow(&error.subject().0));
    let own = homes.home_of(inner, arrival, || quoted.unwrap_or(sharing.home_of(inner)));
    shares[usize::from(own)].add(inner, arrival, Use::Track, measured);
    if let Some(quoted) = quoted.filter(|&quoted| quoted != own) {
        shares[usize::from(quoted)].add(inner, arrival, Use::Quote, None);
    }
}

/// Counts a packet by its interface; those beyond the ledger's bound share its last entry.
fn count(counts: &mut Vec<u64>, interface: u32) {
    *crate::engine::ledger::entry(counts, interface) += 1;
}
