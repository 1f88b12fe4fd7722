//! GTP-C in real captures against what tshark says of it; skipped where they are absent.

use std::path::Path;

use serde_json::Value;

use super::gtp;
use super::identity::{Area, Cell};
use super::message::{Message, Phase, Procedure, Protocol, Role};
use super::samples::digits;
use crate::reference::{captures, datagrams};

/// All messages of a capture, in order.
fn messages(path: &Path) -> Vec<Message> {
    let datagrams = datagrams(path, &[gtp::PORT]);
    datagrams
        .iter()
        .filter(|datagram| gtp::is_control([gtp::PORT; 2], datagram))
        .flat_map(|datagram| gtp::messages(datagram))
        .map(|message| message.expect("well-formed"))
        .collect()
}

/// What both sides say of a message, in text: name and value.
type Facts = Vec<(&'static str, String)>;

fn facts(found: &Message) -> Facts {
    let mut facts = vec![
        (
            "procedure",
            format!("{:?} {:?}", found.procedure, found.phase),
        ),
        ("sequence", found.sequence.to_string()),
        ("teid", format!("0x{:08x}", found.receiver_key)),
    ];
    let [imsi, msisdn, _] = digits(&found.identity).map(|digits| digits.map(str::to_owned));
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("imsi", imsi);
    add("msisdn", msisdn);
    add("apn", found.apn.as_ref().map(ToString::to_string));
    add("rat", found.rat.map(|rat| rat.as_str().to_owned()));
    add(
        "cell",
        found
            .location
            .cell
            .map(|cell| without_zeros(&cell.to_string())),
    );
    add("v4", found.ue.v4.map(|address| address.to_string()));
    if let Some(Area::Tai { .. }) = found.location.area {
        add(
            "area",
            found
                .location
                .area
                .map(|area| without_zeros(&area.to_string())),
        );
    }
    let end = found.sender_end.filter(|end| end.address.as_v4().is_some());
    add(
        "control",
        end.map(|end| format!("0x{:08x} {}", end.key, end.address)),
    );
    let bearers = &found.bearers;
    let causes = bearers.iter().map(|bearer| bearer.cause);
    for cause in causes.chain([found.cause]).flatten() {
        add(
            "cause",
            Some(format!("{} {}", cause.number, cause.accepted)),
        );
    }
    let ids = bearers.iter().map(|bearer| bearer.id).filter(|&id| id > 0);
    for id in ids.chain(found.linked_bearer) {
        add("bearer", Some(id.to_string()));
    }
    let ends = bearers.iter().flat_map(|bearer| &bearer.ends);
    for end in ends.filter(|end| end.end.address.as_v4().is_some()) {
        let (teid, address) = (end.end.teid, end.end.address);
        add(
            "end",
            Some(format!("{:?} 0x{teid:08x} {address}", end.role)),
        );
    }
    facts.sort_unstable();
    facts
}

/// tshark reports codes of countries and networks as numbers, which leaves open how many digits they have.
fn without_zeros(text: &str) -> String {
    let number = |code: &str| code.parse::<u16>().expect("digits").to_string();
    let mut codes = text.splitn(3, '-');
    let [country, network, rest] = [(); 3].map(|()| codes.next().expect("three parts"));
    format!("{}-{}-{rest}", number(country), number(network))
}

/// A value, or several in a list, in text.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        number => vec![number.to_string()],
    }
}

fn text(truth: &Value, name: &str) -> Option<String> {
    texts(&truth[name]).into_iter().next()
}

fn number(truth: &Value, name: &str) -> Option<u64> {
    text(truth, name)?.parse().ok()
}

/// The names of tables 6.1-1 (TS 29.274) and 1 (TS 29.060) for what the captures hold.
fn procedure(protocol: Protocol, kind: u64) -> String {
    use Phase::{Request, Response};
    let (procedure, phase) = match (protocol, kind) {
        (Protocol::Gtpv2, 32) | (Protocol::Gtpv1, 16) => (Procedure::CreateSession, Request),
        (Protocol::Gtpv2, 33) | (Protocol::Gtpv1, 17) => (Procedure::CreateSession, Response),
        (Protocol::Gtpv2, 34) => (Procedure::ModifySession, Request),
        (Protocol::Gtpv2, 35) => (Procedure::ModifySession, Response),
        (Protocol::Gtpv2, 36) => (Procedure::DeleteSession, Request),
        (Protocol::Gtpv2, 37) => (Procedure::DeleteSession, Response),
        (Protocol::Gtpv2, 95) => (Procedure::CreateBearer, Request),
        (Protocol::Gtpv2, 96) => (Procedure::CreateBearer, Response),
        (Protocol::Gtpv2, 170) => (Procedure::ReleaseAccess, Request),
        (Protocol::Gtpv2, 171) => (Procedure::ReleaseAccess, Response),
        (Protocol::Gtpv1, 51) => (Procedure::Other(50), Response),
        other => panic!("a type that no capture had: {other:?}"),
    };
    format!("{procedure:?} {phase:?}")
}

/// What both versions have.
fn common_truth(truth: &Value, protocol: Protocol) -> Facts {
    let kind = number(truth, "message").expect("a type");
    let mut facts = vec![("procedure", procedure(protocol, kind))];
    let names = [
        ("sequence", "seq"),
        ("teid", "teid"),
        ("imsi", "imsi"),
        ("msisdn", "msisdn"),
        ("apn", "apn"),
    ];
    facts.extend(
        names
            .iter()
            .filter_map(|(ours, theirs)| Some((*ours, text(truth, theirs)?))),
    );
    facts
}

fn network(truth: &Value, name: &str) -> Option<String> {
    let code = |of: &str| number(truth, &format!("{name}_{of}"));
    Some(format!("{}-{}", code("mcc")?, code("mnc")?))
}

fn truth_v2(truth: &Value) -> Facts {
    let mut facts = common_truth(truth, Protocol::Gtpv2);
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add(
        "rat",
        text(truth, "rat").map(|rat| if rat == "6" { "eutran".into() } else { rat }),
    );
    let assigned = text(truth, "pdn_ipv4").filter(|address| address != "0.0.0.0");
    add("v4", assigned);
    if let Some(plmn) = network(truth, "tai") {
        let code = text(truth, "tac").expect("a code");
        let code = u16::from_str_radix(&code[2..], 16).expect("hexadecimal");
        add("area", Some(format!("{plmn}-{code:04X}")));
    }
    if let Some(plmn) = network(truth, "ecgi") {
        // tshark's number has the spare bits in it.
        let cell = number(truth, "eci").expect("a cell") & 0x0fff_ffff;
        add("cell", Some(format!("{plmn}-{cell:07X}")));
    }
    for cause in texts(&truth["cause"]) {
        add("cause", Some(format!("{cause} {}", cause == "16")));
    }
    // A bearer still to be set up has none.
    for id in texts(&truth["ebi"]).into_iter().filter(|id| id != "0") {
        add("bearer", Some(id));
    }
    ends_of_truth(truth, &mut facts);
    facts.sort_unstable();
    facts
}

fn ends_of_truth(truth: &Value, facts: &mut Facts) {
    let [kinds, teids, addresses] =
        ["fteid_type", "fteid", "fteid_ipv4"].map(|name| texts(&truth[name]));
    // Ends without an address come first where there are fewer addresses.
    let without = teids.len() - addresses.len();
    let addresses = vec![None; without]
        .into_iter()
        .chain(addresses.into_iter().map(Some));
    let request = number(truth, "message") == Some(32);
    let mut control = None;
    for ((kind, teid), address) in kinds.iter().zip(&teids).zip(addresses) {
        let Some(address) = address else {
            continue;
        };
        let role = match kind.as_str() {
            "0" => Role::Access,
            "1" => Role::Core,
            "4" => Role::TransitDown,
            "5" => Role::TransitUp,
            // Where an MME says that the SGW shall go on to.
            "7" if request => continue,
            _ => {
                control.get_or_insert_with(|| format!("{teid} {address}"));
                continue;
            }
        };
        facts.push(("end", format!("{role:?} {teid} {address}")));
    }
    facts.extend(control.map(|control| ("control", control)));
}

fn truth_v1(truth: &Value) -> Facts {
    let mut facts = common_truth(truth, Protocol::Gtpv1);
    let cause = text(truth, "cause").map(|cause| format!("{cause} true"));
    facts.extend(cause.map(|cause| ("cause", cause)));
    facts.extend(text(truth, "user_ipv4").map(|address| ("v4", address)));
    let gsn = texts(&truth["gsn"]);
    if let Some(teid) = text(truth, "teid_cp") {
        facts.push(("control", format!("{teid} {}", gsn[0])));
    }
    let role = match number(truth, "message") {
        Some(16) => Role::Access,
        Some(17) => Role::Core,
        // Contexts that one SGSN tells another of.
        _ => return sorted(facts),
    };
    let teid = text(truth, "teid_data").expect("a TEID");
    facts.push(("end", format!("{role:?} {teid} {}", gsn[1])));
    sorted(facts)
}

fn sorted(mut facts: Facts) -> Facts {
    facts.sort_unstable();
    facts
}

/// Only what tshark's report for GTPv1 has.
fn facts_v1(found: &Message) -> Facts {
    let mut facts = facts(found);
    facts.retain(|(name, _)| !["bearer", "rat", "cell"].contains(name));
    facts
}

fn compare(name: &str, found: &[Facts], truth: &[Facts]) {
    assert_eq!(found.len(), truth.len(), "{name}");
    for (index, (ours, theirs)) in found.iter().zip(truth).enumerate() {
        assert_eq!(ours, theirs, "{name}, message {index}");
    }
}

fn listed(truth: &Value, facts: fn(&Value) -> Facts) -> Vec<Facts> {
    truth["list"]
        .as_array()
        .into_iter()
        .flatten()
        .map(facts)
        .collect()
}

#[test]
fn real_captures_hold_the_messages_that_tshark_sees() {
    let Some(captures) = captures() else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let (mut of_v1, mut of_v2) = (0, 0);
    for (path, truth) in &captures {
        let found = messages(path);
        let (v1, v2): (Vec<_>, Vec<_>) = found
            .iter()
            .partition(|message| message.protocol == Protocol::Gtpv1);
        let name = path.display().to_string();
        let v1: Vec<_> = v1.into_iter().map(facts_v1).collect();
        let v2: Vec<_> = v2.into_iter().map(facts).collect();
        compare(&name, &v1, &listed(&truth["gtpv1c"], truth_v1));
        compare(&name, &v2, &listed(&truth["gtpv2"], truth_v2));
        of_v1 += v1.len();
        of_v2 += v2.len();
    }
    assert_eq!((of_v1, of_v2), (3, 150));
}

#[test]
fn devices_with_both_families_have_both_in_real_captures() {
    let Some(captures) = captures() else {
        return;
    };
    let attach = captures
        .iter()
        .find(|(path, _)| path.ends_with("open5gs--testattach.pcapng"));
    let found = messages(&attach.expect("it is there").0);
    let answer = found
        .iter()
        .find(|message| message.ue.v4.is_some())
        .expect("an address");
    let (prefix, length) = answer.ue.v6.expect("a prefix");
    assert_eq!((prefix.to_string().as_str(), length), ("cafe::", 64));
    let cells = found.iter().filter(|message| {
        matches!(
            message.location.cell,
            Some(Cell::Ecgi {
                cell: 17_275_823,
                ..
            })
        )
    });
    assert!(cells.count() > 0);
}
