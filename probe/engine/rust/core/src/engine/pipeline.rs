//! The way of a packet: decapsulation, its session, and in the end a body of records.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control::attribution::AttributionMap;
use crate::control::learner::Link;
use crate::control::message::TunnelEnd;
use crate::control::reader::Reader;
use crate::control::saved::{Kept, Restored};
use crate::control::tunnels::{TunnelLimits, Tunnels};
use crate::control::{END_MARKER, ERROR_INDICATION, Paths};
use crate::decap::{Decoded, Decoder, FragmentLimits, Inner, TunnelSignal};
use crate::engine::body::{self, Account};
use crate::engine::duplicates::Duplicates;
use crate::engine::emit::Stamp;
use crate::engine::joint::Joint;
use crate::engine::ledger::{Ledger, undecodable_totals};
use crate::engine::options::Options;
use crate::engine::overload::{Change, Overload, Shedding};
use crate::engine::place::Places;
use crate::engine::shard::{Part, Sharing};
use crate::engine::site::Site;
use crate::engine::tracker::Tracker;
use crate::record::pseudonym::Pseudonyms;
use crate::record::session_id::SessionIds;
use crate::source::{InterfaceLedger, Packet, Pressure};

const SECOND_NS: u64 = 1_000_000_000;

/// Totals since the start, by name.
pub type Counters = Vec<(&'static str, u64)>;

/// Everything between a source and its batches; one per capture, driven by one thread.
pub struct Pipeline {
    decoder: Decoder,
    duplicates: Duplicates,
    tracker: Tracker,
    paths: Paths,
    tunnels: Tunnels,
    control: Reader,
    /// Contexts of an earlier run, until packets tell the time.
    remembered: Option<Kept>,
    restored: Restored,
    ledger: Ledger,
    overload: Overload,
    sharing: Sharing,
    part: Part,
    bodies: VecDeque<Vec<u8>>,
    capture_point: String,
    batch_interval_ns: u64,
    batch_started_ns: u64,
    packets: u64,
    bytes: u64,
}

impl Pipeline {
    /// `hash_seed` is to be unpredictable for whoever sends the packets. The error is one line.
    pub fn new(
        options: &Options,
        capture_point: &str,
        site_key: &[u8],
        hash_seed: u64,
    ) -> Result<Self, String> {
        Self::for_part(Part::WHOLE, options, capture_point, site_key, hash_seed)
    }

    /// One of several pipelines that share the work of a capture. Each is given its own subscribers'
    /// packets (`shard::Sharing`) and all of the control plane's, of which the lead alone tells: the
    /// others learn who is where, and do not count what they learn from. The error is one line.
    pub fn for_part(
        part: Part,
        options: &Options,
        capture_point: &str,
        site_key: &[u8],
        hash_seed: u64,
    ) -> Result<Self, String> {
        let site = site_of(part, options, capture_point, site_key)?;
        let limits = options.limits;
        let overload = Overload::new(limits.shedding);
        let tracker = Tracker::new(site, &limits, options.batch_rows as usize, hash_seed);
        Ok(Self {
            decoder: Decoder::new(FragmentLimits {
                datagrams: limits.fragments as usize,
                bytes: limits.reassembly_bytes as usize,
                ..FragmentLimits::default()
            }),
            duplicates: Duplicates::new(limits.copies, hash_seed),
            tracker,
            paths: Paths::default(),
            tunnels: Tunnels::new(TunnelLimits::of_bearers(limits.bearers as usize)),
            control: Reader::new(),
            remembered: None,
            restored: Restored::default(),
            ledger: Ledger::default(),
            overload,
            sharing: Sharing::new(options, part.of)?,
            part,
            bodies: VecDeque::new(),
            capture_point: capture_point.into(),
            batch_interval_ns: u64::from(options.batch_interval_s) * SECOND_NS,
            batch_started_ns: 0,
            packets: 0,
            bytes: 0,
        })
    }

    /// Replaces the attribution map. Sessions keep what they have until they are looked up again: with
    /// their next tunnel, or as new flows.
    pub fn set_attribution(&mut self, map: Arc<AttributionMap>) {
        self.tracker.set_attribution(map);
    }

    /// Gives back what [`Self::save_bearers`] of an earlier run gave. It counts from the first packet
    /// on, which tells how long ago that was.
    pub fn remember(&mut self, kept: Kept) {
        self.remembered = Some(kept);
    }

    /// What is known of the mobile network's sessions, for the next run; without a packet, what the
    /// run before knew.
    pub fn save_bearers(&self) -> Vec<u8> {
        match &self.remembered {
            Some(unused) => unused.write(),
            None => self.tracker.save_bearers().write(),
        }
    }

    /// Takes in one packet.
    pub fn on_packet(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.bytes += u64::from(packet.wire_len);
        self.on_time(packet.time_ns);
        // By reference: what was decoded is large, and is not to be copied for each packet.
        match &self.decoder.decode(packet) {
            Ok(Decoded::Inner(inner)) if self.duplicates.is_copy(packet, inner) => {
                if !self.part.is_lead() && self.sharing.is_for_all(inner) {
                    self.ledger.learned(packet);
                } else {
                    self.ledger.copy(packet.interface);
                }
                self.tracker.on_copy(inner);
                // It may be the same packet in another tunnel, which has numbers of its own.
                if !inner.marks().is_empty() {
                    self.tunnels.on_packet(inner, packet.time_ns);
                }
            }
            Ok(Decoded::Inner(inner)) if !self.part.is_lead() && self.sharing.is_for_all(inner) => {
                self.ledger.learned(packet);
                learn(&mut self.control, &mut self.tracker, inner, packet.time_ns);
            }
            Ok(Decoded::Inner(inner)) => {
                let is_marked = !inner.marks().is_empty();
                let measured = is_marked.then(|| self.tunnels.on_packet(inner, packet.time_ns));
                let taken = self
                    .tracker
                    .on_packet(inner, measured.as_ref(), packet.time_ns);
                if let Err(why) = taken {
                    self.ledger.untracked(packet.interface, why);
                }
                let unseen = self.tracker.take_unseen();
                if !unseen.is_empty() {
                    self.ledger.unseen(packet.interface, unseen);
                }
                if self.sharing.is_for_all(inner) {
                    learn(&mut self.control, &mut self.tracker, inner, packet.time_ns);
                }
            }
            Ok(Decoded::TunnelSignal(signal)) => {
                let signal = *signal;
                if self.part.is_lead() {
                    self.paths.on_signal(&signal, packet.time_ns);
                } else {
                    self.ledger.learned(packet);
                }
                take_tunnel_signal(&mut self.tracker, &signal);
            }
            // The decoder keeps account of what it holds and of what it cannot read.
            Ok(Decoded::Held) | Err(_) => {}
        }
    }

    /// Takes in how far the source is behind, and leaves out more or less from now on; returns the step
    /// taken, if one is.
    pub fn on_pressure(&mut self, pressure: &Pressure) -> Option<Change> {
        let change = self.overload.look(pressure)?;
        self.tracker.set_shedding(change.after);
        Some(change)
    }

    /// What is left out now.
    pub fn shedding(&self) -> Shedding {
        self.overload.shedding()
    }

    /// While memory is short, tables stay as large as they are.
    pub fn hold_memory(&mut self, is_short: bool) {
        self.tracker.hold_flows(is_short);
    }

    /// Moves packet time on: with each packet, or when there is none to tell it.
    #[inline]
    pub fn on_time(&mut self, now_ns: u64) {
        self.tracker.advance(now_ns);
        if let Some(kept) = self.remembered.take() {
            self.restored = self.tracker.load_bearers(kept);
        }
        if self.batch_started_ns == 0 {
            self.batch_started_ns = self.tracker.clock_ns();
        }
    }

    /// Whether there are bodies to close: enough records, or old enough in packet time.
    #[inline]
    pub fn is_body_due(&self) -> bool {
        self.tracker.joint().is_some_and(Joint::has_full) || self.is_body_old()
    }

    /// Old enough, or from before the clock was set back.
    #[inline]
    fn is_body_old(&self) -> bool {
        let now_ns = self.tracker.clock_ns();
        let due_ns = self.batch_started_ns.saturating_add(self.batch_interval_ns);
        now_ns >= due_ns || now_ns < self.batch_started_ns
    }

    /// Closes the bodies that are due. `source` is the source's own account.
    pub fn close_bodies(&mut self, source: &[InterfaceLedger]) {
        self.close_full();
        if self.is_body_old() {
            self.batch_started_ns = self.tracker.clock_ns();
            self.close_rest(source);
        }
    }

    fn close_full(&mut self) {
        while let Some(full) = self.tracker.joint_mut().and_then(Joint::take_full) {
            let links = self.take_links();
            let body = body::complete(full, &links, &self.capture_point, None);
            self.bodies.push_back(body);
        }
    }

    fn close_rest(&mut self, source: &[InterfaceLedger]) {
        let now_ns = self.tracker.clock_ns();
        self.decoder.expire(now_ns);
        self.control.expire(now_ns);
        for (ends, traffic) in self.tunnels.drain(now_ns) {
            self.paths.on_traffic(ends, traffic, now_ns);
        }
        let paths = self.paths.drain(now_ns);
        let links = self.take_links();
        let account = Account {
            source,
            decoder: self.decoder.counters(),
            paths: &paths,
        };
        if let Some(joint) = self.tracker.joint_mut() {
            let rest = joint.take_rest();
            let account = Some((&account, &mut self.ledger));
            let body = body::complete(rest, &links, &self.capture_point, account);
            self.bodies.push_back(body);
        }
    }

    /// Of all parts the lead alone tells of them.
    fn take_links(&mut self) -> Vec<Link> {
        let links = self.tracker.take_links();
        if self.part.is_lead() {
            links
        } else {
            Vec::new()
        }
    }

    /// The next closed body.
    pub fn take_body(&mut self) -> Option<Vec<u8>> {
        self.bodies.pop_front()
    }

    /// Ends every flow and closes the last bodies.
    pub fn finish(&mut self, source: &[InterfaceLedger]) {
        self.tracker.finish();
        self.decoder.finish();
        self.close_full();
        self.close_rest(source);
    }

    /// Keeps all flows in as little room as can be until their next packets; no record depends on it.
    pub fn rest(&mut self) {
        self.tracker.rest();
    }

    pub fn counters(&self) -> Counters {
        let totals = &self.tracker.totals;
        let learned = self.ledger.all_learned();
        let mut counters = vec![
            ("packets", self.packets - learned.packets),
            ("bytes", self.bytes - learned.bytes),
            ("fragments_held", self.decoder.held().0 as u64),
            ("flows", totals.flows),
            ("flows_live", self.tracker.live_flows() as u64),
            ("flows_evicted", totals.flows_evicted),
            ("time_leaps_doubted", self.tracker.clock().leaps_doubted),
            ("clock_set_back", self.tracker.clock().set_back),
            ("quic_ids_shed", self.tracker.quic_ids_shed()),
            ("icmp_errors_unmatched", totals.icmp_errors_unmatched),
            ("paths_shed", self.paths.shed()),
            ("tunnels_shed", self.tunnels.shed),
            ("tunnel_numbers_disordered", self.tunnels.disordered),
            ("pdu_sessions_malformed", self.tunnels.malformed),
            ("qos_monitoring_implausible", self.tunnels.implausible),
            ("mirror_copies", self.ledger.copies()),
        ];
        counters.extend(self.tracker.evictions());
        counters.extend(self.ledger.unseen_totals());
        if let Some(joint) = self.tracker.joint() {
            counters.push(("records", joint.records));
            counters.extend(joint.shed());
        }
        if self.part.is_lead() {
            counters.push(("bearers_restored", self.restored.restored));
            counters.push(("bearers_outdated", self.restored.outdated));
            counters.extend(self.tracker.control_shed());
            counters.extend(self.control.counters());
        }
        counters.extend(undecodable_totals(self.decoder.counters()));
        counters.extend(self.ledger.untracked_totals());
        counters
    }
}

/// Reads a packet of the control plane.
#[cold]
#[inline(never)]
pub fn learn(control: &mut Reader, tracker: &mut Tracker, inner: &Inner<'_>, time_ns: u64) {
    let ends = [inner.source, inner.destination];
    control.on_packet(inner, time_ns, |message| {
        tracker.on_control(message, ends, time_ns);
    });
}

/// What the ends of tunnels say to each other may end a tunnel; subscribers have no say in it.
pub fn take_tunnel_signal(tracker: &mut Tracker, signal: &TunnelSignal) {
    if tracker.is_subscriber(signal.source) {
        return;
    }
    let end_at = |address| TunnelEnd {
        address,
        teid: signal.teid,
    };
    match signal.message_type {
        END_MARKER => tracker.on_end_marker(end_at(signal.destination)),
        ERROR_INDICATION => {
            let node = signal.peer.unwrap_or(signal.source);
            tracker.on_error_indication(end_at(node));
        }
        _ => {}
    }
}

/// What one part of a capture's engine knows of the place. The error is one line.
pub fn site_of(
    part: Part,
    options: &Options,
    capture_point: &str,
    site_key: &[u8],
) -> Result<Site, String> {
    Ok(Site {
        session_ids: SessionIds::new(&options.probe_id, capture_point),
        pseudonyms: Pseudonyms::new(site_key),
        map: Arc::new(options.attribution_map()?),
        subscriber_prefixes: options.subscriber_prefixes()?,
        ran_prefixes: options.ran_prefixes()?,
        stamp: Stamp {
            capture_point: capture_point.into(),
            client_address: options.client_address,
        },
        active_timeout_ns: u64::from(options.active_timeout_s) * SECOND_NS,
        places: Places::default(),
        part,
    })
}
