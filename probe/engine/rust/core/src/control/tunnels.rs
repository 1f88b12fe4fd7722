//! What the headers of tunnelled packets say of the transport network and of the RAN: numbers that are
//! missing, round trips between tap and base station, and the delays that the RAN reports.

use std::collections::VecDeque;

use crate::keyed::KeyedMap;

use crate::control::numbering::{Counted, Counter, Numbering};
use crate::control::paths::{Ends, RoundTrips};
use crate::decap::{Inner, PduSession, Stamps, Tunnel};

#[cfg(test)]
#[path = "tunnels_tests.rs"]
mod tests;

/// Bounds of what is remembered. Times are nanoseconds of packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Counters of packets: tunnels by sender, of tunnels with numbered QoS flows these. The packets of a
    /// further one are counted as shed.
    pub counters: usize,
    /// Pairs of gateway and base station that monitor QoS.
    pub paths: usize,
    /// How long a silent one is kept.
    pub idle_ns: u64,
}

impl TunnelLimits {
    /// As many as `bearers` have in both directions.
    pub fn of_bearers(bearers: usize) -> Self {
        Self {
            counters: bearers.saturating_mul(2),
            paths: 16_384,
            idle_ns: 600_000_000_000,
        }
    }
}

/// Longest delay that is believed. The budgets of TS 23.501 5.7.4 end at 500 ms (1100 ms by satellite),
/// and buffers of base stations hold a few seconds.
const LONGEST_NS: u64 = 10_000_000_000;
const LONGEST_MS: u32 = 10_000;

/// Most packets that await the stamps of the way back, of one pair of gateway and base station.
const MAX_AWAITED: usize = 16;

/// What one packet's header adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    pub counted: Counted,
    /// Delay within the RAN and over the air, as the RAN reports it: down and up.
    pub down_delay_us: Option<u32>,
    pub up_delay_us: Option<u32>,
    /// From tap to base station and back, without the time that the base station took.
    pub n3_rtt_us: Option<u32>,
}

/// What happened on a path since the last report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets of the source.
    pub counted: Counted,
    /// From the tap to the destination, a base station.
    pub n3: RoundTrips,
}

/// One sender's tunnel, or one QoS flow in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    ends: Ends,
    teid: u32,
    counter: Counter,
}

#[derive(Debug)]
struct Entry {
    numbering: Numbering,
    /// Not yet drained.
    counted: Counted,
}

/// Packets on their way to a base station, by when the gateway says that it sent them.
#[derive(Debug, Default)]
struct Monitored {
    /// Stamp and time at the tap, oldest first.
    awaited: VecDeque<(u64, u64)>,
    seen_ns: u64,
    /// Not yet drained.
    round_trips: RoundTrips,
}

/// All tunnels whose packets are numbered, and all paths on which QoS is monitored.
#[derive(Debug)]
pub struct Tunnels {
    limits: TunnelLimits,
    /// Keyed by hashes with a random seed: all of a key is the sender's choice.
    counters: KeyedMap<Key, Entry>,
    /// By gateway and base station.
    monitored: KeyedMap<Ends, Monitored>,
    /// Packets that were not looked at because there were too many tunnels or paths.
    pub shed: u64,
    /// Containers that end before what they announce.
    pub malformed: u64,
    /// Delays and stamps that are not believed.
    pub implausible: u64,
    /// Packets whose number fits no count of their sender.
    pub disordered: u64,
}

impl Tunnels {
    pub fn new(limits: TunnelLimits) -> Self {
        Self {
            limits,
            counters: KeyedMap::default(),
            monitored: KeyedMap::default(),
            shed: 0,
            malformed: 0,
            implausible: 0,
            disordered: 0,
        }
    }

    /// Takes in a packet whose marks are not empty.
    #[inline(never)]
    pub fn on_packet(&mut self, inner: &Inner<'_>, time_ns: u64) -> Measured {
        let Some(tunnel) = inner.tunnel() else {
            return Measured::default();
        };
        let session = self.session_of(inner.container);
        let mut measured = Measured {
            counted: self.count(inner, tunnel, session.as_ref(), time_ns),
            ..Measured::default()
        };
        if let Some(session) = session {
            measured.down_delay_us = self.believed(session.down_delay_ms);
            measured.up_delay_us = self.believed(session.up_delay_ms);
            if let Some(stamps) = session.stamps {
                measured.n3_rtt_us = self.on_stamps(tunnel, stamps, time_ns);
            }
        }
        measured
    }

    fn session_of(&mut self, container: &[u8]) -> Option<PduSession> {
        if container.is_empty() {
            return None;
        }
        let session = PduSession::read(container);
        self.malformed += u64::from(session.is_err());
        session.ok()
    }

    /// The tunnel's own numbers come first: where it has them, those of its flows say the same.
    fn count(
        &mut self,
        inner: &Inner<'_>,
        tunnel: &Tunnel,
        session: Option<&PduSession>,
        time_ns: u64,
    ) -> Counted {
        let of_tunnel = inner.marks().sequence.map(u32::from);
        let of_flow = session.and_then(|session| Some((session.qfi, session.sequence?)));
        let (counter, number) = match (of_tunnel, of_flow) {
            (Some(number), _) => (Counter::Tunnel, number),
            (None, Some((flow, number))) => (Counter::Flow(flow), number),
            (None, None) => return Counted::default(),
        };
        let key = Key {
            ends: (tunnel.source, tunnel.destination),
            teid: tunnel.teid,
            counter,
        };
        self.count_number(key, number, time_ns)
    }

    fn count_number(&mut self, key: Key, number: u32, time_ns: u64) -> Counted {
        let Some(entry) = self.counters.get_mut(&key) else {
            return self.begin(key, number, time_ns);
        };
        let counted = entry.numbering.on_number(key.counter, number, time_ns);
        entry.counted.add(counted);
        self.disordered += u64::from(counted.disordered);
        counted
    }

    fn begin(&mut self, key: Key, number: u32, time_ns: u64) -> Counted {
        if self.counters.len() >= self.limits.counters {
            self.shed += 1;
            return Counted::default();
        }
        let counted = Counted {
            packets: 1,
            ..Counted::default()
        };
        let numbering = Numbering::begin(number, time_ns);
        self.counters.insert(key, Entry { numbering, counted });
        counted
    }

    /// A delay in microseconds.
    fn believed(&mut self, delay_ms: Option<u32>) -> Option<u32> {
        let delay_ms = delay_ms?;
        if delay_ms > LONGEST_MS {
            self.implausible += 1;
            return None;
        }
        Some(delay_ms * 1000)
    }

    fn on_stamps(&mut self, tunnel: &Tunnel, stamps: Stamps, time_ns: u64) -> Option<u32> {
        match stamps {
            Stamps::Down { sent } => {
                let ends = (tunnel.source, tunnel.destination);
                self.await_way_back(ends, sent, time_ns);
                None
            }
            Stamps::Up {
                down_sent,
                down_received,
                up_sent,
            } => {
                let ends = (tunnel.destination, tunnel.source);
                let path = self.monitored.get_mut(&ends)?;
                path.seen_ns = time_ns;
                let within_ns = ntp_ns(up_sent.wrapping_sub(down_received));
                let elapsed_ns = path.elapsed_ns(down_sent, time_ns)?;
                let rtt_ns = elapsed_ns.checked_sub(within_ns);
                let Some(rtt_ns) = rtt_ns.filter(|_| elapsed_ns <= LONGEST_NS) else {
                    self.implausible += 1;
                    return None;
                };
                // Below 10 s, which a u32 of microseconds holds.
                let rtt_us = (rtt_ns / 1000) as u32;
                path.round_trips.add(rtt_us.into());
                Some(rtt_us)
            }
        }
    }

    fn await_way_back(&mut self, ends: Ends, sent: u64, time_ns: u64) {
        if self.monitored.len() >= self.limits.paths && !self.monitored.contains_key(&ends) {
            self.shed += 1;
            return;
        }
        let path = self.monitored.entry(ends).or_default();
        path.seen_ns = time_ns;
        // A copy tells nothing new.
        if path.awaited.iter().any(|&(known, _)| known == sent) {
            return;
        }
        if path.awaited.len() >= MAX_AWAITED {
            path.awaited.pop_front();
        }
        path.awaited.push_back((sent, time_ns));
    }

    /// What happened since the last call, by source and destination; what was silent for long is
    /// forgotten.
    pub fn drain(&mut self, now_ns: u64) -> impl Iterator<Item = (Ends, Traffic)> + use<> {
        let idle_ns = self.limits.idle_ns;
        let mut told: KeyedMap<Ends, Traffic> = KeyedMap::default();
        self.counters.retain(|key, entry| {
            let counted = std::mem::take(&mut entry.counted);
            if counted != Counted::default() {
                told.entry(key.ends).or_default().counted.add(counted);
            }
            now_ns.abs_diff(entry.numbering.last_ns) <= idle_ns
        });
        self.monitored.retain(|&ends, path| {
            let round_trips = std::mem::take(&mut path.round_trips);
            if round_trips.samples > 0 {
                told.entry(ends).or_default().n3 = round_trips;
            }
            now_ns.abs_diff(path.seen_ns) <= idle_ns
        });
        told.into_iter()
    }
}

impl Monitored {
    /// How long ago the tap saw the packet with this stamp. Told once: of several packets that repeat a
    /// stamp the first one counts.
    fn elapsed_ns(&mut self, down_sent: u64, time_ns: u64) -> Option<u64> {
        let mut awaited = self.awaited.iter();
        let place = awaited.position(|&(sent, _)| sent == down_sent)?;
        let (_, seen_ns) = self.awaited.remove(place)?;
        time_ns.checked_sub(seen_ns)
    }
}

/// A span of NTP's format in nanoseconds. One that seems negative comes out longer than any that is believed.
fn ntp_ns(span: u64) -> u64 {
    // Below 2^32 s in ns, which is below 2^62.
    ((u128::from(span) * 1_000_000_000) >> 32) as u64
}
