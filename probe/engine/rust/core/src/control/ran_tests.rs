//! Messages that no reference capture holds. The bytes were written field by field and are dissected by
//! tshark without complaint, into what is expected here.

use std::fmt::Write;

use proptest::prelude::*;

use super::message::{Bearer, Cause, Malformed, Message};
use super::{ngap, s1ap};

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16);
    digits
        .map(|pair| byte(pair).expect("hexadecimal"))
        .collect()
}

fn cause(cause: Cause) -> String {
    let mark = if cause.accepted { "+" } else { "-" };
    format!("{mark}{}", cause.number)
}

fn number(number: Option<u64>) -> String {
    number.map_or("?".to_owned(), |number| format!("{number:x}"))
}

/// A bearer in a line: identity, cause, quality, slice, ends, flows.
fn bearer_told(bearer: &Bearer) -> String {
    let mut told = format!(" | {}", bearer.id);
    let quality = |class: Option<u8>, priority: Option<u8>| match (class, priority) {
        (None, None) => String::new(),
        (class, priority) => format!(" q{}/{}", class.unwrap_or(0), priority.unwrap_or(0)),
    };
    if let Some(found) = bearer.cause {
        told += &format!(" {}", cause(found));
    }
    told += &quality(bearer.qos_class, bearer.priority);
    if let Some(slice) = bearer.slice {
        told += &format!(" slice {slice}");
    }
    for end in &bearer.ends {
        let kind = if end.end.address.as_v4().is_some() {
            "v4"
        } else {
            "v6"
        };
        write!(told, " {:?} {kind} {:x}", end.role, end.end.teid).expect("text");
    }
    for flow in &bearer.flows {
        told += &format!(
            " flow {}{}",
            flow.id,
            quality(flow.qos_class, flow.priority)
        );
    }
    told
}

/// A message in a line.
fn told(message: &Message) -> String {
    let mut told = format!("{:?} {:?}", message.procedure, message.phase);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            told += &format!(" {name} {value}");
        }
    };
    let ids = message.ue_ids;
    let has_ids = ids.core.or(ids.access).is_some();
    add(
        "ue",
        has_ids.then(|| format!("{}/{}", number(ids.core), number(ids.access))),
    );
    add("cause", message.cause.map(cause));
    add("cell", message.location.cell.map(|cell| cell.to_string()));
    add("area", message.location.area.map(|area| area.to_string()));
    add("node", message.location.node.map(|node| node.to_string()));
    add("slice", message.slice.map(|slice| slice.to_string()));
    for ids in &message.connections {
        add(
            "connection",
            Some(format!("{}/{}", number(ids.core), number(ids.access))),
        );
    }
    message
        .bearers
        .iter()
        .for_each(|bearer| told += &bearer_told(bearer));
    told
}

/// Messages of S1AP with their section of TS 36.413, and what they say.
const S1AP: [(&str, &str, &str); 17] = [
    (
        "path switch, 9.1.5.8",
        "0003005b00000500080004800123450016002d010017000a0a1f0a000001000000110017001a0c9f\
         0a00000120010db80000000000000000000000010000001200580005c089abcdef006400080000f1\
         100019b010004300060000f1100007",
        "PathSwitch Request ue 89abcdef/12345 cell 001-01-0019B01 area 001-01-0007 | 5 Access v4 11 | 6 Access v4 12 Access v6 12",
    ),
    (
        "path switch ack, 9.1.5.9",
        "2003003a000004000000020001000800020002005f001b00005e00160a7f20010db8000000000000\
         000000000001000000210021000800002300030c0640",
        "PathSwitch Response ue 1/2 cause +0 | 5 Core v6 21 | 6 -1025",
    ),
    (
        "handover request, 9.1.5.4",
        "000100340000030000000200090002000202000035002100001b001c0a1f0a000001000000314005\
         08100f424080020000000020fa000000",
        "HandoverAllocation Request ue 9/? cause +1016 | 5 q5/2 Core v4 31",
    ),
    (
        "handover ack, 9.1.5.5",
        "2001003900000400000002000900080002000a0012001a000014001560a1f00a000001000000410f\
         800a000001000000420013000800001500030c1020",
        "HandoverAllocation Response ue 9/a cause +0 | 5 Access v4 41 Forwarding v4 42 | 6 -1037",
    ),
    (
        "handover failure, 9.1.5.6",
        "4001000f000002000000020009000200020180",
        "HandoverAllocation Response ue 9/? cause -1012",
    ),
    (
        "handover notify, 9.1.5.7",
        "0002002500000400000002000900080002000a006400080000f110fffffff0004300060000f110ff\
         ff",
        "HandoverNotify Indication ue 9/a cell 001-01-FFFFFFF area 001-01-FFFF",
    ),
    (
        "handover command, 9.1.5.2",
        "2000002f00000400000002000900080002000a000c001000000e000b18a1f00a0000010000005100\
         0d000800002300030c0300",
        "HandoverPreparation Response ue 9/a cause +0 | 5 Forwarding v4 51 | 6 -1012",
    ),
    (
        "reset some, 9.1.8.1",
        "000e001c0000020002000144005c00104001005b000460030004005b00022005",
        "Reset Request cause +5004 connection 3/4 connection ?/5",
    ),
    (
        "reset all, 9.1.8.1",
        "000e000d0000020002000143005c000100",
        "Reset Request cause +5003",
    ),
    (
        "release command mme only, 9.1.4.6",
        "0017000f00000200630002404d000200022800",
        "ContextRelease Request ue 4d/? cause +3004",
    ),
    (
        "erab release, 9.1.3.5",
        "0007001a0000030000000200010008000200020021000700002300020e40",
        "ResourceRelease Request ue 1/2 | 7 +3000",
    ),
    (
        "erab modify, 9.1.3.3",
        "00060022000003000000020001000800020002001e000f000024000a0a000824052700000000",
        "ResourceModify Request ue 1/2 | 5 q8/9",
    ),
    (
        "location report, 9.1.13.3",
        "00210025000004000000020001000800020002006400080000f11000000050004300060000f11000\
         06",
        "Transport Indication ue 1/2 cell 001-01-0000005 area 001-01-0006",
    ),
    (
        "setup short, 9.1.8.4",
        "0011001b000002003b00090000f1108003aaaa80004000070000024000f110",
        "Setup Request area 001-01-0009 node 001-01-2AAAA",
    ),
    (
        "setup home, 9.1.8.4",
        "0011001e000002003b00090000f11040abcdef100040000a0000024800f11000f110",
        "Setup Request node 001-01-ABCDEF1",
    ),
    (
        "context failure, 9.1.4.4",
        "400900150000030000000200010008000200020002000202a0",
        "ContextSetup Response ue 1/2 cause -1021",
    ),
    (
        "error, 9.1.8.3",
        "000f000f0000020000000200010002000201a0",
        "Error Indication ue 1/? cause -1013",
    ),
];

/// Messages of NGAP with their section of TS 38.413, and what they say.
const NGAP: [(&str, &str, &str); 21] = [
    (
        "setup request, 9.2.1.1",
        "001d007a000003000a000680abcdef012300550005c0ffffffff004a006000000540200000ab5700\
         0003008b001a09f00a00000120010db8000000000000000000000001000000610086000100008800\
         2d0401408009131c18400f424040e8d4a5100000052001117000000c408cbc0400640260524007d0\
         00054a080300",
        "ResourceSetup Request ue abcdef0123/ffffffff slice 1-0000AB | 5 slice 1-0000AB Core v4 61 Core v6 61 flow 1 q9/8 flow 2 q82/3",
    ),
    (
        "handover request, 9.2.3.4",
        "000d00808c000003000a00020001000f0002040000490079010005002037000003008b001607f020\
         010db80000000000000000000000010000006200860001000088001101023270100064026407d000\
         054a0803000006004037000003008b001607f020010db80000000000000000000000010000006200\
         860001000088001101023270100064026407d000054a080300",
        "HandoverAllocation Request ue 1/? cause +1016 | 5 q0/3 slice 1 Core v6 62 flow 2 q0/3 | 6 q0/3 slice 2 Core v6 62 flow 2 q0/3",
    ),
    (
        "setup response, 9.2.1.2",
        "201d003c000004000a00020001005500020002004b001f0000051b4003e00a000001000000710401\
         4090007c0a000001000000720003003a0006000006020204",
        "ResourceSetup Response ue 1/2 cause +0 | 5 Access v4 71 Access v4 72 | 6 -1046",
    ),
    (
        "handover ack, 9.2.3.5",
        "200d0038000004000a000200010055000200020035001b000005174007c00a0000010000008101f0\
         0a00000100000082000100380006000006020068",
        "HandoverAllocation Response ue 1/2 cause +0 | 5 Access v4 81 Forwarding v4 82 | 6 -1013",
    ),
    (
        "handover command, 9.2.3.2",
        "200c002c000004000a00020001005500020002003b000f0000050b400f800a00000100000091004e\
         00060000060200d0",
        "HandoverPreparation Response ue 1/2 cause +0 | 5 Forwarding v4 91 | 6 -1013",
    ),
    (
        "handover notify, 9.2.3.7",
        "000b0022000003000a000200010055000200020079000f4000f110abcdef012000f110fffffe",
        "HandoverNotify Indication ue 1/2 cell 001-01-ABCDEF012 area 001-01-FFFFFE",
    ),
    (
        "path switch, 9.2.3.8",
        "0019004f0000050055000200020064000200030079000f4000f110000000001000f110000002004c\
         001f0100050c001f0a000001000000a1000200060c001f0a000001000000a2000200390006000007\
         020160",
        "PathSwitch Request ue 3/2 cell 001-01-000000001 area 001-01-000002 | 5 Access v4 a1 | 6 Access v4 a2 | 7 -1022",
    ),
    (
        "path switch ack, 9.2.3.9",
        "2019002e000004000a00020004005500020002004d00120100050a401f0a000001000000b1000601\
         00004400050000070113",
        "PathSwitch Response ue 4/2 cause +0 | 5 Core v4 b1 | 6 | 7 -3003",
    ),
    (
        "modify request, 9.2.1.5",
        "001a0039000003000a000200010055000200020040002600000522000002008c0014001f0a000001\
         000000c101f00a000001000000c200870003000200",
        "ResourceModify Request ue 1/2 | 5 Core v4 c1 Access v4 c2 flow 4",
    ),
    (
        "modify response, 9.2.1.6",
        "201a0036000004000a0002000100550002000200410019000005156003e00a000001000000d101f0\
         0a000001000000d2003600060000060200d0",
        "ResourceModify Response ue 1/2 cause +0 | 5 Access v4 d1 Core v4 d2 | 6 -1026",
    ),
    (
        "modify indication, 9.2.1.8",
        "001b0024000003000a00020001005500020002003f00110000050d000f800a000001000000e10001",
        "ResourceModify Request ue 1/2 | 5 Access v4 e1",
    ),
    (
        "modify confirm, 9.2.1.9",
        "201b0024000003000a00020001005500020002003e00110000050d004020201f0a000001000000e2",
        "ResourceModify Response ue 1/2 cause +0 | 5 Core v4 e2",
    ),
    (
        "release command, 9.2.1.3",
        "001c0018000003000a00020001005500020002004f00050000050110",
        "ResourceRelease Request ue 1/2 | 5 +3000",
    ),
    (
        "release response, 9.2.1.4",
        "201c002b000004000a000200010055000200020046000500000501000079000f4000f11000000000\
         1000f110000002",
        "ResourceRelease Response ue 1/2 cause +0 cell 001-01-000000001 area 001-01-000002 | 5",
    ),
    (
        "context release request, 9.2.2.4",
        "002a001e000004000a00020001005500020002008500050100050006000f00020540",
        "ContextRelease Indication ue 1/2 cause +1021 | 5 | 6",
    ),
    (
        "context release amf, 9.2.2.5",
        "0029000e000002007200024009000f000148",
        "ContextRelease Request ue 9/? cause +3002",
    ),
    (
        "reset some, 9.2.6.11",
        "00140014000002000f000184005800084002600100022003",
        "Reset Request cause +5002 connection 1/2 connection ?/3",
    ),
    (
        "setup enb, 9.2.6.1",
        "0015000f000001001b00084000f11080d5e6f0",
        "Setup Request node 001-01-1ABCDE",
    ),
    (
        "setup gnb, 9.2.6.1",
        "00150020000002001b00080000f11010abcdef0066000d00000000090000f11000000008",
        "Setup Request area 001-01-000009 node 001-01-ABCDEF",
    ),
    (
        "location eutra, 9.2.8.3",
        "00120021000003000a000200010055000200020079000e0000f1100019b01000f110000007",
        "Transport Indication ue 1/2 cell 001-01-0019B01 area 001-01-000007",
    ),
    (
        "path switch failure, 9.2.3.10",
        "40190018000003000a00020001005500020002004500050000050108",
        "PathSwitch Response ue 1/2 cause -0 | 5 -2000",
    ),
];

#[test]
fn every_message_says_what_it_says() {
    for (name, message, expected) in S1AP {
        let found = s1ap::read(&bytes(message)).map(|message| told(&message));
        assert_eq!(found.as_deref(), Ok(expected), "S1AP {name}");
    }
    for (name, message, expected) in NGAP {
        let found = ngap::read(&bytes(message)).map(|message| told(&message));
        assert_eq!(found.as_deref(), Ok(expected), "NGAP {name}");
    }
}

#[test]
fn a_message_that_ends_early_is_none() {
    for (name, message, _) in S1AP.iter().chain(&NGAP) {
        let message = bytes(message);
        for length in 0..message.len() {
            let cut = &message[..length];
            assert_eq!(
                s1ap::read(cut).err(),
                Some(Malformed::Truncated),
                "{name} {length}"
            );
            assert_eq!(
                ngap::read(cut).err(),
                Some(Malformed::Truncated),
                "{name} {length}"
            );
        }
    }
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(s1ap::read(&[0x80, 0, 0, 0]).err(), Some(Malformed::Version));
    assert_eq!(ngap::read(&[0x60, 0, 0, 0]).err(), Some(Malformed::Version));
    // A fragmented length, and an eNB identity beyond 24 bits.
    assert_eq!(s1ap::read(&[0, 12, 0, 0xc1]).err(), Some(Malformed::Length));
    let network_of_letters = [
        0, 12, 0, 15, 0, 0, 1, 0, 67, 0, 8, 0, 0xaa, 0xbb, 0xcc, 0, 1, 0, 0,
    ];
    assert_eq!(
        s1ap::read(&network_of_letters).err(),
        Some(Malformed::Value)
    );
}

#[test]
fn an_unknown_element_is_stepped_over() {
    let unknown = [
        0, 12, 0, 15, 0, 0, 2, 0xff, 0xff, 0, 2, 1, 2, 0, 8, 0, 2, 0, 9,
    ];
    let found = s1ap::read(&unknown).map(|message| told(&message));
    assert_eq!(found.as_deref(), Ok("InitialUe Indication ue ?/9"));
}

#[test]
fn an_unknown_procedure_still_tells_whose_it_is() {
    let unknown = [0, 200, 0, 9, 0, 0, 1, 0, 8, 0, 2, 0, 9];
    let found = s1ap::read(&unknown).map(|message| told(&message));
    assert_eq!(found.as_deref(), Ok("Other(200) Indication ue ?/9"));
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = s1ap::read(&message);
        _ = ngap::read(&message);
    }

    #[test]
    fn no_changed_message_causes_a_panic(
        which in 0..S1AP.len() + NGAP.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, message, _) = S1AP.iter().chain(&NGAP).nth(which).expect("one of them");
        let mut message = bytes(message);
        for (at, value) in changes {
            *at.get_mut(&mut message) = value;
        }
        _ = s1ap::read(&message);
        if let Ok(found) = ngap::read(&message) {
            let bearers = &found.bearers;
            prop_assert!(bearers.len() <= super::message::MAX_BEARERS);
            prop_assert!(bearers.iter().all(|one| one.ends.len() <= super::message::MAX_ENDS));
        }
    }
}
