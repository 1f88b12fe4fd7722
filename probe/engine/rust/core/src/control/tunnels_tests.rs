use super::*;
use crate::decap::{Address, TunnelMarks};
use crate::decap::{Decoded, Decoder, FragmentLimits, frames};
use crate::source::LinkType;

const MS: u64 = 1_000_000;
const GNB: [u8; 4] = [10, 0, 0, 1];
const UPF: [u8; 4] = [10, 0, 0, 9];

fn tunnels() -> Tunnels {
    Tunnels::new(TunnelLimits::of_bearers(2))
}

/// A packet in a tunnel, in bytes and back.
fn take(
    tunnels: &mut Tunnels,
    [source, target]: [[u8; 4]; 2],
    teid: u32,
    (flags, optional): (u8, &[u8]),
    time_ns: u64,
) -> Measured {
    let inner = frames::ipv4(frames::TCP, &frames::tcp(443, b"data"));
    let message = frames::gtpu(flags, 255, teid, &[optional, &inner].concat());
    let outer = frames::udp(2152, 2152, &message);
    let data = frames::ipv4_between(source, target, frames::UDP, &outer);
    let mut decoder = Decoder::new(FragmentLimits::default());
    match decoder.decode(&frames::packet(LinkType::RawIp, &data)) {
        Ok(Decoded::Inner(inner)) => tunnels.on_packet(&inner, time_ns),
        other => panic!("{other:?}"),
    }
}

fn numbered(tunnels: &mut Tunnels, ends: [[u8; 4]; 2], teid: u32, number: u16) -> Counted {
    let [high, low] = number.to_be_bytes();
    take(tunnels, ends, teid, (0x02, &[high, low, 0, 0]), 0).counted
}

/// A message with this container, padded as TS 38.415 5.5.3.5 says.
fn with_container(container: &[u8]) -> Vec<u8> {
    let units = (container.len() + 2).div_ceil(4);
    let mut optional = vec![0, 0, 0, 0x85, units as u8];
    optional.extend(container);
    optional.resize(4 + units * 4, 0);
    optional
}

fn monitored(
    tunnels: &mut Tunnels,
    ends: [[u8; 4]; 2],
    container: &[u8],
    time_ns: u64,
) -> Measured {
    take(
        tunnels,
        ends,
        7,
        (0x04, &with_container(container)),
        time_ns,
    )
}

fn going_down(sent: u64) -> Vec<u8> {
    [&[0x08, 9][..], &sent.to_be_bytes()].concat()
}

fn going_up(stamps: [u64; 3], delays_ms: [u32; 2]) -> Vec<u8> {
    let mut container = vec![0x1e, 9];
    container.extend(stamps.iter().flat_map(|stamp| stamp.to_be_bytes()));
    container.extend(delays_ms.iter().flat_map(|delay| delay.to_be_bytes()));
    container
}

/// Milliseconds in NTP's format.
fn ntp(ms: u64) -> u64 {
    (ms << 32) / 1000
}

fn told(tunnels: &mut Tunnels) -> Vec<(Ends, Traffic)> {
    let mut told: Vec<_> = tunnels.drain(0).collect();
    told.sort_unstable_by_key(|(ends, _)| *ends);
    told
}

fn ends(source: [u8; 4], destination: [u8; 4]) -> Ends {
    (Address::v4(source), Address::v4(destination))
}

#[test]
fn each_tunnel_and_sender_counts_for_itself_and_the_path_for_all() {
    let mut tunnels = tunnels();
    for (teid, number) in [(1, 10), (2, 500), (2, 502), (2, 503), (1, 14), (1, 15)] {
        numbered(&mut tunnels, [GNB, UPF], teid, number);
    }
    // Another base station sends to the same end after a handover, and counts from 0.
    let other = [10, 0, 0, 2];
    numbered(&mut tunnels, [other, UPF], 1, 0);
    let told = told(&mut tunnels);
    let figures = |one: &Traffic| (one.counted.packets, one.counted.missing);
    assert_eq!(told[0].0, ends(GNB, UPF));
    assert_eq!(figures(&told[0].1), (6, 4));
    assert_eq!(told[1].0, ends(other, UPF));
    assert_eq!(figures(&told[1].1), (1, 0));
    assert_eq!(tunnels.drain(0).count(), 0, "told once");
}

#[test]
fn qos_flows_of_one_tunnel_count_apart() {
    let mut tunnels = tunnels();
    for (flow, number) in [(1, 5), (2, 900), (1, 6), (2, 902), (2, 903)] {
        let container = [0x11, flow, 0, (number >> 8) as u8, number as u8];
        monitored(&mut tunnels, [GNB, UPF], &container, 0);
    }
    let counted = told(&mut tunnels)[0].1.counted;
    assert_eq!((counted.packets, counted.missing), (5, 1));
}

#[test]
fn further_tunnels_than_the_limit_are_shed_and_counted() {
    let mut tunnels = tunnels();
    for teid in 0..6 {
        numbered(&mut tunnels, [GNB, UPF], teid, 1);
        numbered(&mut tunnels, [GNB, UPF], teid, 2);
    }
    assert_eq!(told(&mut tunnels)[0].1.counted.packets, 8);
    assert_eq!(tunnels.shed, 4);
}

#[test]
fn a_silent_tunnel_makes_room() {
    let mut tunnels = tunnels();
    numbered(&mut tunnels, [GNB, UPF], 1, 1);
    assert_eq!(tunnels.drain(tunnels.limits.idle_ns + 1).count(), 1);
    assert!(tunnels.counters.is_empty());
}

#[test]
fn the_round_trip_to_the_base_station_is_without_its_own_time_and_needs_no_common_clock() {
    let mut tunnels = tunnels();
    let sent = ntp(1_000_000);
    monitored(&mut tunnels, [UPF, GNB], &going_down(sent), 5 * MS);
    // The base station's clock is far off; it took 30 ms, the way there and back 8.
    let its_own = ntp(77);
    let up = going_up([sent, its_own, its_own + ntp(30)], [12, 15]);
    let measured = monitored(&mut tunnels, [GNB, UPF], &up, 43 * MS);
    assert!(measured.n3_rtt_us.unwrap().abs_diff(8000) <= 1);
    assert_eq!(measured.down_delay_us, Some(12_000));
    assert_eq!(measured.up_delay_us, Some(15_000));
    let again = monitored(&mut tunnels, [GNB, UPF], &up, 44 * MS);
    assert_eq!(again.n3_rtt_us, None, "a copy is no sample");
    let told = told(&mut tunnels);
    assert_eq!(told[0].0, ends(UPF, GNB));
    assert_eq!(told[0].1.n3.samples, 1);
}

#[test]
fn stamps_across_the_end_of_an_ntp_era_are_a_span_as_any() {
    let mut tunnels = tunnels();
    monitored(&mut tunnels, [UPF, GNB], &going_down(1), 0);
    let received = u64::MAX - ntp(1);
    let up = going_up([1, received, received.wrapping_add(ntp(3))], [0, 0]);
    let rtt_us = monitored(&mut tunnels, [GNB, UPF], &up, 10 * MS).n3_rtt_us;
    assert!(rtt_us.unwrap().abs_diff(7000) <= 1);
}

#[test]
fn what_cannot_be_is_counted_and_not_measured() {
    let mut tunnels = tunnels();
    let down = |tunnels: &mut Tunnels, sent| {
        monitored(tunnels, [UPF, GNB], &going_down(sent), 0);
    };
    let up = |tunnels: &mut Tunnels, stamps, delays_ms, time_ns| {
        monitored(tunnels, [GNB, UPF], &going_up(stamps, delays_ms), time_ns)
    };
    let delays = up(&mut tunnels, [0; 3], [10_001, u32::MAX], 0);
    assert_eq!(delays, Measured::default());
    assert_eq!(tunnels.implausible, 2);
    down(&mut tunnels, 5);
    let before = up(&mut tunnels, [5, ntp(9), ntp(8)], [0; 2], 20 * MS);
    assert_eq!(before.n3_rtt_us, None, "sent before it was received");
    down(&mut tunnels, 6);
    let longer = up(&mut tunnels, [6, 0, ntp(21)], [0; 2], 20 * MS);
    assert_eq!(longer.n3_rtt_us, None, "took longer than both ways");
    down(&mut tunnels, 7);
    let late = up(&mut tunnels, [7, 0, 0], [0; 2], 11_000 * MS);
    assert_eq!(late.n3_rtt_us, None);
    assert_eq!(tunnels.implausible, 5);
    let unknown = up(&mut tunnels, [99, 0, 0], [0; 2], 20 * MS);
    assert_eq!(unknown.n3_rtt_us, None, "the tap missed the way down");
    assert_eq!(tunnels.implausible, 5);
}

#[test]
fn a_container_that_is_cut_off_is_counted_and_its_packet_too() {
    let mut tunnels = tunnels();
    let optional = [&[0, 9, 0][..], &with_container(&[0x18, 9])[3..]].concat();
    let first = take(&mut tunnels, [GNB, UPF], 7, (0x06, &optional), 0);
    assert_eq!(first.counted.packets, 1);
    assert_eq!(tunnels.malformed, 1);
}

#[test]
fn what_awaits_the_way_back_is_bounded() {
    let mut tunnels = tunnels();
    for sent in 0..1000 {
        monitored(&mut tunnels, [UPF, GNB], &going_down(sent), 0);
    }
    let path = &tunnels.monitored[&ends(UPF, GNB)];
    assert_eq!(path.awaited.len(), MAX_AWAITED);
    tunnels.limits.paths = 1;
    monitored(&mut tunnels, [UPF, [10, 0, 0, 2]], &going_down(1), 0);
    assert_eq!((tunnels.monitored.len(), tunnels.shed), (1, 1));
}

#[test]
fn a_packet_without_marks_is_none_of_ours() {
    let marks = TunnelMarks::default();
    assert!(marks.is_empty());
}
