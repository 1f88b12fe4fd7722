//! Every RADIUS message of the reference captures against tshark's view of it. None of them has
//! attributes of 3GPP.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::reference::{Told, told};

/// Files with messages that are malformed, and how many.
const MALFORMED: [(&str, usize); 1] = [("arkime--arkime_synthetic.pcap", 2)];
/// Addresses that tshark shows (radius.Framed-IP-Address) and the truth leaves out.
const FRAMED: [(&str, &[&str]); 3] = [
    (
        "arkime--arkime_synthetic.pcap",
        &["10.20.30.40", "172.16.1.100"],
    ),
    ("libtrace--radius.pcap", &["10.1.40.34"]),
    ("zeek--radius_localhost.pcap", &["172.16.3.33"]),
];

fn expected(truth: &Value) -> String {
    let code = truth["code"].as_u64().expect("a code") as u8;
    let (mut procedure, phase) = super::procedure(code);
    if let Some(status) = truth["acct_status"].as_u64() {
        procedure = match status {
            1 => Procedure::AccountingStart,
            2 => Procedure::AccountingStop,
            3 => Procedure::AccountingInterim,
            _ => Procedure::Reset,
        };
    }
    let session = truth["session"].as_str().is_some();
    format!("{procedure:?} {phase:?} {} {session}", truth["id"])
}

fn found(message: &Message) -> String {
    let Message {
        procedure,
        phase,
        sequence,
        sender_end,
        ..
    } = message;
    format!(
        "{procedure:?} {phase:?} {sequence} {}",
        sender_end.is_some()
    )
}

#[test]
fn every_message_of_real_captures_says_what_tshark_says() {
    let Some(told) = told("radius", &PORTS) else {
        eprintln!("skipped: no reference captures (set EDGEQOE_SHARED)");
        return;
    };
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut malformed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut framed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for Told {
        file,
        datagram,
        truth,
    } in &told
    {
        let Ok(message) = read(datagram) else {
            *malformed.entry(file).or_default() += 1;
            continue;
        };
        compared += 1;
        // Station names of these captures are hardware addresses and names of radio networks.
        assert_eq!(
            (&message.identity.msisdn, &message.apn),
            (&None, &None),
            "{file}"
        );
        if let Some(address) = message.ue.v4 {
            framed.entry(file).or_default().insert(address.to_string());
        }
        let (theirs, ours) = (expected(truth), found(&message));
        if theirs != ours {
            let frame = &truth["frame"];
            wrong.push(format!("{file} {frame}: tshark {theirs}, we {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(malformed.into_iter().collect::<Vec<_>>(), MALFORMED);
    let shown = FRAMED.map(|(file, list)| (file, list.iter().map(ToString::to_string).collect()));
    assert_eq!(framed, BTreeMap::from(shown));
    assert!(compared >= 50, "{compared}");
}
