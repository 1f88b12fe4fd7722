//! Real captures against what tshark says of them; skipped where they are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::reference::{captures, file_name};
use crate::source::{Event, open_files};

/// Differences that are right: the file, the counts that differ (by how their names begin), and why.
const EXPLAINED: [(&str, &[&str], &str); 9] = [
    (
        "arkime--arkime_synthetic.pcap",
        &["erspan 100", "vlan", "udp"],
        "the ERSPAN header lacks half its bytes, so no IP is behind it; tshark has another name for \
         802.1ad tags; and one UDP header states a length below its own, which tshark gives no stream",
    ),
    (
        "tcpdump--various_gre.pcap",
        &["vlan"],
        "spanning tree and keep-alives in VLANs, which are not IP",
    ),
    (
        "gopacket--test202.pcapng",
        &["udp"],
        "two packets without a time, which the source does not hand out",
    ),
    (
        "ndpi--fuzz-2006-06-26-2594.pcap",
        &["tcp"],
        "a random change made a UDP packet TCP with an impossible header, which tshark does not count",
    ),
    (
        "open5gs--ipsec_to_ipsec_call.pcapng",
        FRAGMENTED,
        FRAGMENTS_IN_TUNNELS,
    ),
    (
        "open5gs--nonipsec_reg.pcapng",
        FRAGMENTED,
        FRAGMENTS_IN_TUNNELS,
    ),
    ("open5gs--volte.pcapng", FRAGMENTED, FRAGMENTS_IN_TUNNELS),
    (
        "open5gs--testregistration.pcapng",
        &["gtpu", "tunnel"],
        "one G-PDU states 2,096 bytes in a UDP packet of 200, so it is not GTP-U",
    ),
    (
        "suricata-verify--fuzz.pcap",
        &["tcp"],
        "tshark guesses another variant of the file format and finds no packet",
    ),
];

const FRAGMENTED: &[&str] = &["udp", "gtpu", "tunnel"];
const FRAGMENTS_IN_TUNNELS: &str =
    "tshark counts each tunnelled fragment, we the datagram that they make";

fn is_explained(file: &str, name: &str) -> bool {
    EXPLAINED.iter().any(|(explained, names, _)| {
        *explained == file && names.iter().any(|start| name.starts_with(start))
    })
}

/// What is counted on both sides, by a name each.
type Counts = BTreeMap<String, u64>;

fn add(counts: &mut Counts, name: impl Into<String>, number: u64) {
    if number > 0 {
        *counts.entry(name.into()).or_default() += number;
    }
}

fn add_map(counts: &mut Counts, prefix: &str, map: &Value) {
    for (key, value) in map.as_object().into_iter().flatten() {
        add(counts, format!("{prefix} {key}"), number(value));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn expected(truth: &Value) -> Counts {
    let mut counts = Counts::new();
    add(&mut counts, "tcp", number(&truth["tcp"]["packets"]));
    add(&mut counts, "udp", number(&truth["udp"]["packets"]));
    let layers = &truth["encapsulation"];
    add_map(&mut counts, "vlan", &layers["vlan_stacks"]);
    add_map(&mut counts, "mpls", &layers["mpls_labels"]);
    add_map(&mut counts, "vxlan", &layers["vxlan_vni"]);
    for (layer, of_tshark) in [("pppoe", "pppoe_sessions"), ("geneve", "geneve_vni")] {
        for (number, packets) in layers[of_tshark].as_object().into_iter().flatten() {
            let number = u64::from_str_radix(number.trim_start_matches("0x"), 16);
            let name = format!("{layer} {}", number.expect("hexadecimal"));
            add(&mut counts, name, self::number(packets));
        }
    }
    for (name, packets) in layers["erspan"].as_object().into_iter().flatten() {
        let session = name.rsplit(' ').next().expect("a number");
        add(&mut counts, format!("erspan {session}"), number(packets));
    }
    let gtpu = &truth["gtpu"];
    add_map(&mut counts, "gtpu message", &gtpu["messages"]);
    add(&mut counts, "gtpu inner ipv4", number(&gtpu["inner_ip"]));
    add(&mut counts, "gtpu inner ipv6", number(&gtpu["inner_ipv6"]));
    for tunnel in gtpu["tunnels"].as_array().into_iter().flatten() {
        add(
            &mut counts,
            expected_tunnel(tunnel),
            number(&tunnel["packets"]),
        );
    }
    counts
}

fn expected_tunnel(tunnel: &Value) -> String {
    let [source, destination, teid] =
        ["src", "dst", "teid"].map(|key| tunnel[key].as_str().expect("text"));
    format!("tunnel {source} {destination} {teid}")
}

/// What the decoder finds in a capture.
fn found(path: &Path) -> Counts {
    let mut source = open_files(&[path.to_owned()], 0).expect("it opens");
    let mut decoder = Decoder::new(FragmentLimits::default());
    let mut counts = Counts::new();
    let mut packets = 0;
    while let Ok(Event::Packet(packet)) = source.next() {
        packets += 1;
        match decoder.decode(&packet) {
            Ok(Decoded::Inner(inner)) => add_inner(&mut counts, &inner),
            Ok(Decoded::TunnelSignal(signal)) => {
                add(&mut counts, "udp", 1);
                add(
                    &mut counts,
                    format!("gtpu message {}", signal.message_type),
                    1,
                );
            }
            Ok(Decoded::Held) | Err(_) => {}
        }
    }
    let counted: u64 = decoder.counters().iter().map(Counters::packets).sum();
    assert_eq!(counted, packets, "{}", path.display());
    counts
}

fn add_inner(counts: &mut Counts, inner: &Inner<'_>) {
    add_tags(counts, inner);
    add_overlays(counts, inner);
    if is_icmp_error(inner) {
        return;
    }
    if inner.transport == Transport::Tcp {
        add(counts, "tcp", 1);
    }
    // tshark counts the UDP packet of a tunnel, whatever is inside.
    let in_udp = inner.layers().iter().any(|layer| {
        matches!(
            layer,
            Layer::Gtpu | Layer::Vxlan(_) | Layer::Geneve(_) | Layer::Teredo
        )
    });
    if inner.transport == Transport::Udp || in_udp {
        add(counts, "udp", 1);
    }
    if let Some(tunnel) = inner.tunnel() {
        let family = if inner.source.as_v4().is_some() {
            "ipv4"
        } else {
            "ipv6"
        };
        add(counts, "gtpu message 255", 1);
        add(counts, format!("gtpu inner {family}"), 1);
        let Tunnel {
            source,
            destination,
            teid,
            ..
        } = tunnel;
        add(
            counts,
            format!("tunnel {source} {destination} 0x{teid:08x}"),
            1,
        );
    }
}

fn add_tags(counts: &mut Counts, inner: &Inner<'_>) {
    let tags = inner.layers().iter().filter_map(|layer| match layer {
        Layer::Vlan(identifier) => Some(identifier.to_string()),
        _ => None,
    });
    let stack = tags.collect::<Vec<_>>().join(",");
    if !stack.is_empty() {
        add(counts, format!("vlan {stack}"), 1);
    }
}

/// All layers but tags, `gre` and `gtpu`, by tshark's words for them.
fn add_overlays(counts: &mut Counts, inner: &Inner<'_>) {
    for layer in inner.layers() {
        if matches!(
            layer,
            Layer::Mpls(_)
                | Layer::Pppoe(_)
                | Layer::Erspan(_)
                | Layer::Vxlan(_)
                | Layer::Geneve(_)
        ) {
            add(counts, layer.to_string().replace(':', " "), 1);
        }
    }
}

/// The truth leaves ICMP errors out, as tshark sees the packet that they quote.
fn is_icmp_error(inner: &Inner<'_>) -> bool {
    let errors: &[u8] = match inner.source.as_v4() {
        Some(_) => &[3, 4, 5, 11, 12],
        None => &[1, 2, 3, 4],
    };
    let kind = inner.segment.first();
    inner.transport == Transport::Icmp && kind.is_some_and(|kind| errors.contains(kind))
}

/// Names of the counts that differ, with both values.
fn differences(path: &Path, truth: &Value) -> BTreeMap<String, (u64, u64)> {
    let (expected, found) = (expected(truth), found(path));
    let value = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
    let names = expected.keys().chain(found.keys());
    names
        .map(|name| (name.clone(), (value(&expected, name), value(&found, name))))
        .filter(|(_, (theirs, ours))| theirs != ours)
        .collect()
}

#[test]
fn real_captures_hold_the_packets_tags_and_tunnels_that_tshark_sees() {
    let Some(captures) = captures() else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let (mut compared, mut wrong, mut differing) = (0, Vec::new(), BTreeSet::new());
    for (path, truth) in &captures {
        let file = file_name(path);
        compared += 1;
        for (name, (theirs, ours)) in differences(path, truth) {
            differing.insert(file.to_owned());
            if !is_explained(file, &name) {
                wrong.push(format!("{file}: {name}: tshark {theirs}, decoder {ours}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared > 100);
    let explained = EXPLAINED
        .iter()
        .map(|(file, ..)| (*file).to_owned())
        .collect();
    assert_eq!(differing, explained, "an explanation without a difference");
}
