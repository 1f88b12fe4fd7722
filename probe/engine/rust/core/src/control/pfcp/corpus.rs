//! Every PFCP message of the reference captures against tshark's view of it.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::*;
use crate::control::message::ControlEnd;
use crate::control::samples::digits;
use crate::decap::Address;
use crate::reference::{Told, captures, datagrams, told};

/// Messages of random types in well-formed elements.
const RANDOM: &str = "ndpi--pfcp.pcapng";

/// One value or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let texts = texts(value).into_iter();
    texts
        .map(|text| number(text).expect("hexadecimal"))
        .collect()
}

/// Tunnel ends by their IPv4 address, which is all that the truth has.
fn expected_ends(truth: &Value) -> BTreeSet<String> {
    let mut ends = BTreeSet::new();
    for (teid, address) in [("fteid", "fteid_ipv4"), ("outer_teid", "outer_ipv4")] {
        let (teids, addresses) = (numbers(&truth[teid]), texts(&truth[address]));
        assert_eq!(teids.len(), addresses.len(), "{truth}");
        ends.extend(
            teids
                .iter()
                .zip(addresses)
                .map(|(teid, at)| format!("{at} {teid}")),
        );
    }
    ends
}

fn found_ends(message: &Message) -> BTreeSet<String> {
    let changes = message.rules.iter().filter_map(|rule| match rule.change {
        Change::Leads(BearerEnd { end, .. }) | Change::Moves(end) => Some(end),
        _ => None,
    });
    let of_v4 = changes.filter(|end| end.address.as_v4().is_some());
    of_v4
        .map(|end| format!("{} {}", end.address, end.teid))
        .collect()
}

/// What differs from the truth, in words.
fn differences(truth: &Value, message: &Message) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |name: &str, theirs: String, ours: String| {
        if theirs != ours {
            wrong.push(format!("{name}: tshark {theirs}, we {ours}"));
        }
    };
    let kind = truth["message"].as_u64().expect("a type") as u8;
    let (procedure, phase) = (message.procedure, message.phase);
    compare(
        "type",
        format!("{:?}", super::procedure(kind)),
        format!("{:?}", (procedure, phase)),
    );
    compare(
        "sequence",
        truth["seq"].to_string(),
        message.sequence.to_string(),
    );
    let cause = message.cause.map(|cause| cause.number);
    compare(
        "cause",
        format!("{:?}", truth["cause"].as_u64()),
        format!("{:?}", cause.map(u64::from)),
    );
    let mut keys = vec![message.receiver_key];
    keys.extend(message.sender_end.map(|end| end.key));
    let no_key = keys == [0] && truth["seid"].is_null();
    compare(
        "seid",
        format!("{:?}", numbers(&truth["seid"])),
        if no_key {
            "[]".into()
        } else {
            format!("{keys:?}")
        },
    );
    let node = message.node.map(|node| node.to_string());
    compare(
        "node",
        format!("{:?}", truth["node"].as_str()),
        format!("{:?}", node.as_deref()),
    );
    let ue = message.ue.v4.map(|address| address.to_string());
    compare(
        "device",
        format!("{:?}", texts(&truth["ue_ipv4"]).first()),
        format!("{:?}", ue.as_deref().as_ref()),
    );
    compare(
        "ends",
        format!("{:?}", expected_ends(truth)),
        format!("{:?}", found_ends(message)),
    );
    wrong
}

/// Differences that are right.
fn is_explained(file: &str, frame: u64, difference: &str) -> bool {
    match (file, frame) {
        // A tunnel between user plane and control plane, which carries no device's traffic.
        ("open5gs--5g-roaming-lbo.pcapng", 2433) => difference.starts_with("ends:"),
        // An F-SEID without an address, whose owner is not known.
        (RANDOM, 6) => difference.starts_with("seid:"),
        _ => false,
    }
}

#[test]
fn every_message_of_real_captures_says_what_tshark_says() {
    let Some(told) = told("pfcp", &[PORT]) else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let (mut compared, mut wrong) = (0, Vec::new());
    for Told {
        file,
        datagram,
        truth,
    } in &told
    {
        let frame = truth["frame"].as_u64().expect("a number");
        match read(datagram) {
            Err(malformed) => wrong.push(format!("{file} {frame}: {malformed:?}")),
            Ok(message) => {
                compared += 1;
                let found = differences(truth, &message).into_iter();
                let found = found.filter(|text| !is_explained(file, frame, text));
                wrong.extend(found.map(|text| format!("{file} {frame}: {text}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(compared, 402);
}

/// All messages of one capture, as a table of sessions settles them.
fn session(name: &str) -> Option<Vec<Message>> {
    let (path, _) = captures()?
        .into_iter()
        .find(|(path, _)| path.ends_with(name))?;
    let mut roles: HashMap<u64, Roles> = HashMap::new();
    let mut sessions: HashMap<u32, u64> = HashMap::new();
    let mut messages = Vec::new();
    for datagram in datagrams(&path, &[PORT]) {
        let mut message = read(&datagram).expect("a message");
        // Both ends number their sessions alike in these captures, or the request tells the key.
        let key = match (message.phase, message.sender_end) {
            (Phase::Response, Some(own)) => {
                let asked = sessions[&message.sequence];
                let known = roles.get(&asked).cloned().unwrap_or_default();
                roles.insert(own.key, known);
                own.key
            }
            (_, Some(own)) => own.key,
            _ => message.receiver_key,
        };
        sessions.insert(message.sequence, key);
        roles.entry(key).or_default().settle(&mut message);
        messages.push(message);
    }
    Some(messages)
}

fn v4(octets: [u8; 4], teid: u32) -> TunnelEnd {
    let address = Address::v4(octets);
    TunnelEnd { address, teid }
}

#[test]
fn a_5g_session_tells_who_where_and_by_which_tunnel() {
    let Some(messages) = session("open5gs--5g-roaming-lbo.pcapng") else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let of = |procedure, phase| {
        let found = messages
            .iter()
            .find(|message| (message.procedure, message.phase) == (procedure, phase));
        found.expect("it is there")
    };
    let asked = of(Procedure::CreateSession, Phase::Request);
    let expected = ["001010000021309", "491725670014", "8665070400405301"];
    assert_eq!(digits(&asked.identity), expected.map(Some));
    assert_eq!(asked.apn.as_deref(), Some("internet"));
    assert_eq!(
        asked.slice.map(|slice| slice.to_string()).as_deref(),
        Some("1")
    );
    let prefix = Address(0x2001_0db8_cafe_0001_0000_0000_0000_0000);
    assert_eq!(asked.ue.v6, Some((prefix, 64)));
    assert_eq!(asked.bearers, []);

    // The UPF chose its end; the SMF tells the gNB's once the radio bearer is there.
    let answer = of(Procedure::CreateSession, Phase::Response);
    let (address, key) = (Address::v4([127, 0, 1, 7]), 0xe4a);
    assert_eq!(answer.sender_end, Some(ControlEnd { address, key }));
    let core = BearerEnd {
        role: Role::Core,
        end: v4([127, 0, 1, 7], 0xbe51),
    };
    assert_eq!(
        answer.bearers,
        [Bearer {
            ends: vec![core],
            ..Bearer::default()
        }]
    );
    let later = of(Procedure::ModifySession, Phase::Request);
    let ends = later.bearers.iter().flat_map(|bearer| &bearer.ends);
    let access = BearerEnd {
        role: Role::Access,
        end: v4([127, 0, 0, 2], 1),
    };
    assert!(ends.clone().any(|end| *end == access));
    assert!(ends.clone().all(|end| end.role == Role::Access));
}

#[test]
fn an_update_without_its_interface_still_tells_the_base_station() {
    for (name, least) in [
        ("open5gs--testregistration.pcapng", 20),
        ("open5gs--testattach.pcapng", 10),
    ] {
        let Some(messages) = session(name) else {
            eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
            return;
        };
        let changes = messages.iter().flat_map(|message| &message.rules);
        let moving = changes.filter(|change| matches!(change.change, Change::Moves(_)));
        assert_eq!(moving.count(), 0, "{name}");
        let updates = messages
            .iter()
            .filter(|message| message.procedure == Procedure::ModifySession);
        let ends = updates
            .flat_map(|update| &update.bearers)
            .flat_map(|bearer| &bearer.ends);
        let to_base_stations = ends.filter(|end| end.role == Role::Access);
        assert!(to_base_stations.count() >= least, "{name}");
    }
}
