//! Any bytes as a sequence of frames of any link type, with little room for fragments. Each frame
//! begins with its link type, its length, and how much of it was not captured.
#![no_main]

use edgeqoe_core::control::Paths;
use edgeqoe_core::control::tunnels::{TunnelLimits, Tunnels};
use edgeqoe_core::decap::{Decoded, Decoder, FragmentLimits};
use edgeqoe_core::source::{LinkType, Packet};
use libfuzzer_sys::fuzz_target;

const LINKS: [LinkType; 7] = [
    LinkType::Ethernet,
    LinkType::Loopback,
    LinkType::Ppp,
    LinkType::RawIp,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Other(147),
];

const LIMITS: FragmentLimits = FragmentLimits {
    datagrams: 4,
    bytes: 2048,
    fragments_per_datagram: 8,
    timeout_ns: 50,
};

fuzz_target!(|input: &[u8]| {
    let mut decoder = Decoder::new(LIMITS);
    let mut paths = Paths::default();
    let mut tunnels = Tunnels::new(TunnelLimits::of_bearers(2));
    let (mut rest, mut packets) = (input, 0);
    while let [link, length, uncaptured, next @ ..] = rest {
        let (data, next) = next.split_at(usize::from(*length).min(next.len()));
        let packet = Packet {
            time_ns: packets,
            interface: u32::from(link >> 6),
            link: LINKS[usize::from(link & 0x3f) % LINKS.len()],
            wire_len: data.len() as u32 + u32::from(*uncaptured),
            data,
        };
        decode(&mut decoder, &mut paths, &mut tunnels, &packet);
        (rest, packets) = (next, packets + 1);
        let (datagrams, bytes) = decoder.held();
        assert!(datagrams <= LIMITS.datagrams && bytes <= LIMITS.bytes);
    }
    decoder.finish();
    let counters = decoder.counters();
    assert_eq!(
        counters.iter().map(|each| each.packets()).sum::<u64>(),
        packets
    );
    assert!(counters.iter().all(|each| each.held == 0));
    for (ends, traffic) in tunnels.drain(packets) {
        assert!(traffic.counted.late <= traffic.counted.missing);
        paths.on_traffic(ends, traffic, packets);
    }
    paths.drain(packets);
});

fn decode(decoder: &mut Decoder, paths: &mut Paths, tunnels: &mut Tunnels, packet: &Packet<'_>) {
    match decoder.decode(packet) {
        Ok(Decoded::Inner(inner)) => {
            assert!(inner.segment.len() <= inner.segment_len as usize);
            assert!(inner.segment_len < inner.ip_len);
            if !inner.marks().is_empty() {
                tunnels.on_packet(&inner, packet.time_ns);
            }
        }
        Ok(Decoded::TunnelSignal(signal)) => paths.on_signal(&signal, packet.time_ns),
        Ok(Decoded::Held) | Err(_) => {}
    }
}
