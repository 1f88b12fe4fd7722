//! S1AP and NGAP of real captures against what tshark says of them; skipped where they are absent.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::identity::{Area, Cell, Digits};
use super::message::{Malformed, Message};
use super::sctp::{Limits, Payload, Sctp};
use super::{ngap, s1ap};
use crate::decap::{Decoded, Decoder, FragmentLimits, Transport};
use crate::reference::captures;
use crate::source::{Event, open_files};

type ByFrame = BTreeMap<u64, Vec<Message>>;

fn read(payload: Payload, bytes: &[u8]) -> Result<Message, Malformed> {
    match payload {
        Payload::S1ap => s1ap::read(bytes),
        Payload::Ngap => ngap::read(bytes),
    }
}

/// The messages of a capture by the number of the frame that completes them.
fn messages(path: &Path) -> ByFrame {
    let mut source = open_files(&[path.to_owned()], 0).expect("it opens");
    let mut decoder = Decoder::new(FragmentLimits::default());
    let mut sctp = Sctp::new(Limits::default());
    let mut found = ByFrame::new();
    let mut frame = 0;
    while let Ok(Event::Packet(packet)) = source.next() {
        frame += 1;
        let Ok(Decoded::Inner(inner)) = decoder.decode(&packet) else {
            continue;
        };
        if inner.transport != Transport::Sctp {
            continue;
        }
        let (source, destination) = (inner.source, inner.destination);
        sctp.on_packet(
            source,
            destination,
            inner.segment,
            packet.time_ns,
            |payload, bytes| {
                let message = read(payload, bytes);
                let message = message.unwrap_or_else(|reason| panic!("{frame}: {reason:?}"));
                found.entry(frame).or_default().push(message);
            },
        );
    }
    let counters = sctp.counters();
    assert_eq!((counters.truncated, counters.malformed), (0, 0));
    found
}

/// A field of tshark: one value, several, or none.
fn values(entry: &Value, field: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    match &entry[field] {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().map(text).collect(),
        value => vec![text(value)],
    }
}

fn all(messages: &[Message], of: impl Fn(&Message) -> Vec<String>) -> Vec<String> {
    messages.iter().flat_map(of).collect()
}

fn area(message: &Message) -> Option<String> {
    Some(match message.location.area? {
        Area::Lai { code, .. } | Area::Tai { code, .. } => code.to_string(),
        Area::Tai5 { code, .. } => code.to_string(),
    })
}

fn cell(message: &Message) -> Option<String> {
    match message.location.cell? {
        Cell::Ncgi { cell, .. } => Some(format!("{:#018x}", cell)),
        _ => None,
    }
}

fn ends(message: &Message) -> impl Iterator<Item = &super::message::TunnelEnd> {
    let bearers = message.bearers.iter();
    bearers.flat_map(|bearer| bearer.ends.iter().map(|end| &end.end))
}

fn addresses(message: &Message) -> Vec<String> {
    let v4 = ends(message).filter_map(|end| end.address.as_v4());
    v4.map(|v4| std::net::Ipv4Addr::from(v4).to_string())
        .collect()
}

fn compare(file: &str, protocol: &str, found: &mut ByFrame, truth: &Value) -> usize {
    let (core, access) = match protocol {
        "s1ap" => ("mme_ue", "enb_ue"),
        _ => ("amf_ue", "ran_ue"),
    };
    let mut compared = 0;
    for entry in truth["list"].as_array().into_iter().flatten() {
        let frame = entry["frame"].as_u64().expect("a number");
        let Some(messages) = found.remove(&frame) else {
            println!("{file} {frame}: nothing, {entry}");
            continue;
        };
        compared += messages.len();
        let checks = [
            (
                core,
                all(&messages, |m| {
                    m.ue_ids.core.iter().map(u64::to_string).collect()
                }),
            ),
            (
                access,
                all(&messages, |m| {
                    m.ue_ids.access.iter().map(u64::to_string).collect()
                }),
            ),
            ("tac", all(&messages, |m| area(m).into_iter().collect())),
            ("cell", all(&messages, |m| cell(m).into_iter().collect())),
            (
                "teid",
                all(&messages, |m| {
                    ends(m).map(|end| format!("{:08x}", end.teid)).collect()
                }),
            ),
            ("transport_ipv4", all(&messages, addresses)),
            (
                "imsi",
                all(&messages, |m| {
                    m.identity
                        .imsi
                        .iter()
                        .map(|d: &Digits| d.as_str().to_owned())
                        .collect()
                }),
            ),
        ];
        for (field, ours) in checks {
            let theirs = values(entry, field);
            if ours != theirs {
                println!(
                    "{file} {frame} {field}: {ours:?}, tshark {theirs:?} proc {}",
                    entry["procedure"]
                );
            }
        }
        if values(entry, "procedure").len() != messages.len() {
            println!("{file} {frame} procedure: {messages:?} {entry}");
        }
    }
    compared
}

#[test]
fn real_captures_say_what_tshark_says() {
    for (path, truth) in captures().unwrap_or_default() {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let ran = &truth["ran"];
        let mut found = messages(&path);
        for protocol in ["s1ap", "ngap"] {
            let compared = compare(&name, protocol, &mut found, &ran[protocol]);
            if compared > 0 {
                println!("{name}: {compared} compared");
            }
        }
        if !found.is_empty() {
            println!("{name}: left {found:?}");
        }
    }
}
