//! The way of a packet: decapsulation, its session, and in the end a body of records.

use std::collections::VecDeque;
use std::sync::Arc;

use rmp::encode;

use crate::control::attribution::AttributionMap;
use crate::control::learner::Link;
use crate::control::message::TunnelEnd;
use crate::control::reader::Reader;
use crate::control::saved::{Kept, Restored};
use crate::control::tunnels::{TunnelLimits, Tunnels};
use crate::control::{END_MARKER, ERROR_INDICATION, PathReport, Paths, RoundTrips};
use crate::decap::{Decoded, Decoder, FragmentLimits, TunnelSignal};
use crate::engine::duplicates::Duplicates;
use crate::engine::emit::Stamp;
use crate::engine::ledger::{Ledger, write_number_entry, write_optional_entry, write_text_entry};
use crate::engine::options::Options;
use crate::engine::place::Places;
use crate::engine::site::Site;
use crate::engine::tracker::Tracker;
use crate::record::pseudonym::Pseudonyms;
use crate::record::session_id::SessionIds;
use crate::source::{InterfaceLedger, Packet};

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
        let site = Site {
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
        };
        let limits = options.limits;
        Ok(Self {
            decoder: Decoder::new(FragmentLimits {
                datagrams: limits.fragments as usize,
                bytes: limits.reassembly_bytes as usize,
                ..FragmentLimits::default()
            }),
            duplicates: Duplicates::new(limits.copies, hash_seed),
            tracker: Tracker::new(site, &limits, options.batch_rows as usize, hash_seed),
            paths: Paths::default(),
            tunnels: Tunnels::new(TunnelLimits::of_bearers(limits.bearers as usize)),
            control: Reader::new(),
            remembered: None,
            restored: Restored::default(),
            ledger: Ledger::default(),
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
                self.ledger.copy(packet.interface);
                self.tracker.on_copy(inner);
                // It may be the same packet in another tunnel, which has numbers of its own.
                if !inner.marks.is_empty() {
                    self.tunnels.on_packet(inner, packet.time_ns);
                }
            }
            Ok(Decoded::Inner(inner)) => {
                let is_marked = !inner.marks.is_empty();
                let measured = is_marked.then(|| self.tunnels.on_packet(inner, packet.time_ns));
                let taken = self
                    .tracker
                    .on_packet(inner, measured.as_ref(), packet.time_ns);
                if let Err(why) = taken {
                    self.ledger.untracked(packet.interface, why);
                }
                if Reader::is_control(inner) && !self.tracker.is_of_subscriber(inner) {
                    let Self {
                        control, tracker, ..
                    } = self;
                    let ends = [inner.source, inner.destination];
                    control.on_packet(inner, packet.time_ns, |message| {
                        tracker.on_control(message, ends, packet.time_ns);
                    });
                }
            }
            Ok(Decoded::TunnelSignal(signal)) => {
                self.paths.on_signal(signal, packet.time_ns);
                let signal = *signal;
                self.on_tunnel_signal(&signal);
            }
            // The decoder keeps account of what it holds and of what it cannot read.
            Ok(Decoded::Held) | Err(_) => {}
        }
    }

    /// What the ends of tunnels say to each other may end a tunnel; subscribers have no say in it.
    fn on_tunnel_signal(&mut self, signal: &TunnelSignal) {
        if self.tracker.is_subscriber(signal.source) {
            return;
        }
        let end_at = |address| TunnelEnd {
            address,
            teid: signal.teid,
        };
        match signal.message_type {
            END_MARKER => self.tracker.on_end_marker(end_at(signal.destination)),
            ERROR_INDICATION => {
                let node = signal.peer.unwrap_or(signal.source);
                self.tracker.on_error_indication(end_at(node));
            }
            _ => {}
        }
    }

    /// Moves packet time on: with each packet, or when there is none to tell it.
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
    pub fn is_body_due(&self) -> bool {
        self.tracker.has_full() || self.is_body_old()
    }

    /// Old enough, or from before the clock was set back.
    fn is_body_old(&self) -> bool {
        let now_ns = self.tracker.clock_ns();
        let due_ns = self.batch_started_ns.saturating_add(self.batch_interval_ns);
        now_ns >= due_ns || now_ns < self.batch_started_ns
    }

    /// Closes the bodies that are due. `source` is the source's own account.
    pub fn close_bodies(&mut self, source: &[InterfaceLedger]) {
        while let Some(full) = self.tracker.take_full() {
            self.close_body(full, source);
        }
        if self.is_body_old() {
            self.batch_started_ns = self.tracker.clock_ns();
            let rest = self.tracker.take_rest();
            self.close_body(rest, source);
        }
    }

    fn close_body(&mut self, (rows, columns): (usize, Vec<u8>), source: &[InterfaceLedger]) {
        self.decoder.expire(self.tracker.clock_ns());
        let now_ns = self.tracker.clock_ns();
        self.control.expire(now_ns);
        for (ends, traffic) in self.tunnels.drain(now_ns) {
            self.paths.on_traffic(ends, traffic, now_ns);
        }
        let paths = self.paths.drain(now_ns);
        let mut out = Vec::with_capacity(columns.len() + 1024);
        let _ = encode::write_map_len(&mut out, 5);
        write_number_entry(&mut out, "rows", rows as u64);
        let _ = encode::write_str(&mut out, "columns");
        out.extend_from_slice(&columns);
        write_links(&mut out, &self.tracker.take_links());
        write_paths(&mut out, &self.capture_point, &paths);
        let _ = encode::write_str(&mut out, "ledger");
        self.ledger.report(
            &self.capture_point,
            source,
            self.decoder.counters(),
            &mut out,
        );
        self.bodies.push_back(out);
    }

    /// The next closed body.
    pub fn take_body(&mut self) -> Option<Vec<u8>> {
        self.bodies.pop_front()
    }

    /// Ends every flow and closes the last bodies.
    pub fn finish(&mut self, source: &[InterfaceLedger]) {
        self.tracker.finish();
        self.decoder.finish();
        while let Some(full) = self.tracker.take_full() {
            self.close_body(full, source);
        }
        let rest = self.tracker.take_rest();
        self.close_body(rest, source);
    }

    /// Keeps all flows in as little room as can be until their next packets; no record depends on it.
    pub fn rest(&mut self) {
        self.tracker.rest();
    }

    pub fn counters(&self) -> Counters {
        let totals = &self.tracker.totals;
        let mut counters = vec![
            ("packets", self.packets),
            ("bytes", self.bytes),
            ("fragments_held", self.decoder.held().0 as u64),
            ("flows", totals.flows),
            ("flows_live", self.tracker.live_flows() as u64),
            ("flows_evicted", totals.flows_evicted),
            ("time_leaps_doubted", self.tracker.clock().leaps_doubted),
            ("clock_set_back", self.tracker.clock().set_back),
            ("quic_ids_shed", self.tracker.quic_ids_shed()),
            ("names_shed", self.tracker.names_shed()),
            ("icmp_errors_unmatched", totals.icmp_errors_unmatched),
            ("paths_shed", self.paths.shed()),
            ("tunnels_shed", self.tunnels.shed),
            ("pdu_sessions_malformed", self.tunnels.malformed),
            ("qos_monitoring_implausible", self.tunnels.implausible),
            ("bearers_restored", self.restored.restored),
            ("bearers_outdated", self.restored.outdated),
            ("mirror_copies", self.ledger.copies()),
            ("records", totals.records),
        ];
        counters.extend(self.tracker.clients_shed());
        counters.extend(self.tracker.control_shed());
        counters.extend(self.control.counters());
        counters.extend(self.ledger.undecodable_totals(self.decoder.counters()));
        counters
    }
}

/// Identities of one person: look-ups of the one lead to the other from `since` on.
fn write_links(out: &mut Vec<u8>, links: &[Link]) {
    let _ = encode::write_str(out, "links");
    let _ = encode::write_array_len(out, links.len() as u32);
    for link in links {
        let _ = encode::write_map_len(out, 4);
        for (name, pseudonym) in [("from", &link.from), ("to", &link.to)] {
            let _ = encode::write_str(out, name);
            let _ = encode::write_bin(out, pseudonym);
        }
        write_number_entry(out, "since", link.since_ns);
        write_optional_entry(out, "until", None);
    }
}

fn write_paths(out: &mut Vec<u8>, capture_point: &str, paths: &[PathReport]) {
    let _ = encode::write_str(out, "paths");
    let _ = encode::write_array_len(out, paths.len() as u32);
    for path in paths {
        let _ = encode::write_map_len(out, 20);
        write_text_entry(out, "capture_point", capture_point);
        write_text_entry(out, "source", &path.source.to_string());
        write_text_entry(out, "destination", &path.destination.to_string());
        write_number_entry(out, "echo_requests", path.echo_requests);
        write_number_entry(out, "echo_responses", path.echo_responses);
        write_number_entry(out, "echo_unanswered", path.echo_unanswered);
        write_round_trips(out, "rtt", &path.echo_rtt);
        write_number_entry(out, "error_indications", path.error_indications);
        write_number_entry(out, "end_markers", path.end_markers);
        let counted = &path.traffic.counted;
        write_number_entry(out, "tunnel_packets", counted.packets.into());
        write_number_entry(out, "tunnel_missing", counted.missing.into());
        write_number_entry(out, "tunnel_late", counted.late.into());
        write_number_entry(out, "tunnel_jumps", counted.jumps.into());
        write_round_trips(out, "n3_rtt", &path.traffic.n3);
    }
}

fn write_round_trips(out: &mut Vec<u8>, name: &str, round_trips: &RoundTrips) {
    write_optional_entry(out, &format!("{name}_min_us"), round_trips.min_us);
    write_optional_entry(out, &format!("{name}_max_us"), round_trips.max_us);
    write_number_entry(out, &format!("{name}_sum_us"), round_trips.sum_us);
    write_number_entry(out, &format!("{name}_samples"), round_trips.samples);
}
