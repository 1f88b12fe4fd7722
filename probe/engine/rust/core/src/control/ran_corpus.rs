//! S1AP and NGAP of real captures against what tshark says of them; skipped where they are absent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;

use super::identity::{Area, Cell, Digits};
use super::message::{Cause, Malformed, Message, Procedure, TunnelEnd};
use super::sctp::{Limits, Payload, Sctp};
use super::{ngap, s1ap};
use crate::decap::{Decoded, Decoder, FragmentLimits, Transport};
use crate::reference::{captures, file_name};
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

fn area(area: Area) -> u32 {
    match area {
        Area::Lai { code, .. } | Area::Tai { code, .. } => code.into(),
        Area::Tai5 { code, .. } => code,
    }
}

fn nr_cell(cell: Cell) -> Option<String> {
    match cell {
        Cell::Ncgi { cell, .. } => Some(format!("{cell:#018x}")),
        _ => None,
    }
}

fn ends(message: &Message) -> impl Iterator<Item = &TunnelEnd> {
    let bearers = message.bearers.iter();
    bearers.flat_map(|bearer| bearer.ends.iter().map(|end| &end.end))
}

/// What our messages say under tshark's name of a field.
fn said(message: &Message, field: &str) -> Vec<String> {
    let ids = || std::iter::once(&message.ue_ids).chain(&message.connections);
    let radio = |cause: &Cause| (1000..2000).contains(&cause.number);
    let causes = || {
        let of_bearers = message
            .bearers
            .iter()
            .filter_map(|bearer| bearer.cause.as_ref());
        message.cause.iter().chain(of_bearers)
    };
    match field {
        "mme_ue" | "amf_ue" => texts(ids().filter_map(|ids| ids.core)),
        "enb_ue" | "ran_ue" => texts(ids().filter_map(|ids| ids.access)),
        "tac" => texts(message.location.area.map(area)),
        "cell" => texts(message.location.cell.and_then(nr_cell)),
        "teid" => texts(ends(message).map(|end| format!("{:08x}", end.teid))),
        "transport_ipv4" => texts(ends(message).filter_map(|end| {
            let v4 = end.address.as_v4()?;
            Some(Ipv4Addr::from(v4))
        })),
        "radio_cause" => texts(
            causes()
                .filter(|cause| radio(cause))
                .map(|cause| cause.number - 1000),
        ),
        "imsi" => texts(message.identity.imsi.as_ref().map(Digits::as_str)),
        _ => unreachable!("{field}"),
    }
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

const FIELDS: [(&str, [&str; 8]); 2] = [
    (
        "s1ap",
        [
            "mme_ue",
            "enb_ue",
            "tac",
            "cell",
            "teid",
            "transport_ipv4",
            "radio_cause",
            "imsi",
        ],
    ),
    (
        "ngap",
        [
            "amf_ue",
            "ran_ue",
            "tac",
            "cell",
            "teid",
            "transport_ipv4",
            "radio_cause",
            "imsi",
        ],
    ),
];

/// Differences that are right: protocol, procedure, field and why.
const EXPLAINED: [(&str, &str, &str, &str); 4] = [
    (
        "s1ap",
        "50",
        "teid",
        "this message's field has another name in tshark",
    ),
    (
        "ngap",
        "15",
        "imsi",
        "tshark shows a SUCI in parts: see `concealed_with_nothing_is_known`",
    ),
    ("ngap", "46", "imsi", "the same, in an Identity Response"),
    (
        "s1ap",
        "12",
        "imsi",
        "tshark tells the IMSI of an Identity Response that it reads ciphered",
    ),
];

fn procedure(protocol: &str, code: &str) -> Procedure {
    let code = code.parse().expect("a number");
    match protocol {
        "s1ap" => s1ap::procedure(code).0,
        _ => ngap::procedure(code).0,
    }
}

fn compare(protocol: &str, fields: &[&str], messages: &[Message], entry: &Value) {
    let codes = values(entry, "procedure");
    let procedures: Vec<_> = codes.iter().map(|code| procedure(protocol, code)).collect();
    let ours: Vec<_> = messages.iter().map(|message| message.procedure).collect();
    assert_eq!(ours, procedures, "{entry}");
    for field in fields {
        let is_explained = |&(of, code, named, _): &(&str, &str, &str, &str)| {
            of == protocol && named == *field && codes.iter().any(|one| one == code)
        };
        let mut ours: Vec<_> = messages
            .iter()
            .flat_map(|message| said(message, field))
            .collect();
        let mut theirs = values(entry, field);
        // tshark repeats identities that stand in a pair, and tells a TEID with two addresses once.
        ours.dedup();
        theirs.dedup();
        if !EXPLAINED.iter().any(is_explained) {
            assert_eq!(ours, theirs, "{field} {entry}");
        }
    }
}

#[test]
fn real_captures_say_what_tshark_says() {
    for (path, truth) in captures().unwrap_or_default() {
        let mut found = messages(&path);
        for (protocol, fields) in FIELDS {
            for entry in truth["ran"][protocol]["list"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let frame = entry["frame"].as_u64().expect("a number");
                let messages = found.remove(&frame).unwrap_or_default();
                compare(protocol, &fields, &messages, entry);
            }
        }
        assert!(found.is_empty(), "{} {found:?}", path.display());
    }
}

/// Subscribers whose SUCI has the null scheme, and in how many messages, by tshark's fields `e212.mcc`,
/// `e212.mnc` and `nas_5gs.mm.suci.msin`.
const SUBSCRIBERS: [(&str, &[(&str, usize)]); 4] = [
    ("5greplay--oai.pcap", &[("208950000000031", 1)]),
    ("open5gs--5g-roaming-lbo.pcapng", &[("001010000021309", 1)]),
    (
        "open5gs--testregistration.pcapng",
        &[("901700000021309", 25), ("901709900021309", 1)],
    ),
    (
        "rnp-pgid-2023--core-ue-eap-aka-prime-no-fix.pcapng",
        &[("208930000000003", 1)],
    ),
];

#[test]
fn concealed_with_nothing_is_known() {
    for (path, _) in captures().unwrap_or_default() {
        let name = file_name(&path);
        let Some((_, subscribers)) = SUBSCRIBERS.iter().find(|(file, _)| *file == name) else {
            continue;
        };
        let mut counts = BTreeMap::new();
        for message in messages(&path).values().flatten() {
            if let Some(imsi) = &message.identity.imsi {
                *counts.entry(imsi.as_str().to_owned()).or_insert(0) += 1;
            }
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(imsi, &count)| (imsi.as_str(), count))
            .collect();
        assert_eq!(counts, *subscribers, "{name}");
    }
}

/// Quality and slices, by tshark's fields `s1ap.qCI`, `s1ap.priorityLevel`, `ngap.fiveQI`,
/// `ngap.priorityLevelARP` and `ngap.sST`: how many bearers or flows have them.
const QUALITY: [(&str, u8, u8, usize); 7] = [
    ("5greplay--oai.pcap", 7, 1, 1),
    ("magma--nsa_connection.pcapng", 9, 15, 1),
    ("open5gs--nonipsec_reg.pcapng", 5, 1, 1),
    ("open5gs--nonipsec_reg.pcapng", 9, 8, 1),
    ("open5gs--testattach.pcapng", 9, 15, 15),
    ("open5gs--testregistration.pcapng", 9, 8, 28),
    ("open5gs--volte.pcapng", 1, 2, 2),
];

#[test]
fn bearers_have_the_quality_that_tshark_sees() {
    for (path, _) in captures().unwrap_or_default() {
        let of_file = QUALITY.iter().filter(|(file, ..)| path.ends_with(file));
        for &(file, qos_class, priority, count) in of_file {
            let messages = messages(&path);
            let bearers = messages
                .values()
                .flatten()
                .flat_map(|message| &message.bearers);
            let wanted = (Some(qos_class), Some(priority));
            let found = bearers.filter(|bearer| (bearer.qos_class, bearer.priority) == wanted);
            assert_eq!(found.count(), count, "{file}");
        }
    }
}
