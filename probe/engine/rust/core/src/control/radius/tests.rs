use proptest::prelude::*;

use super::*;
use crate::control::message::Location;
use crate::control::samples::PLMN;

fn attribute(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, value.len() as u8 + 2], value].concat()
}

/// Attributes of 3GPP in one of the vendor's.
fn of_3gpp(attributes: &[(u8, &[u8])]) -> Vec<u8> {
    let own = attributes
        .iter()
        .flat_map(|(kind, value)| attribute(*kind, value));
    let value = of_3gpp::VENDOR.to_be_bytes().into_iter().chain(own);
    attribute(attribute::VENDOR_SPECIFIC, &value.collect::<Vec<_>>())
}

fn message(code: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes = attributes.concat();
    let [high, low] = (attributes.len() as u16 + 20).to_be_bytes();
    [&[code, 7, high, low], &[0; 16][..], &attributes].concat()
}

fn accounting(status: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let status = attribute(attribute::ACCT_STATUS_TYPE, &status.to_be_bytes());
    message(
        code::ACCOUNTING_REQUEST,
        &[vec![status], attributes.to_vec()].concat(),
    )
}

fn found(bytes: &[u8]) -> Message {
    read(bytes).expect("a message")
}

fn text(digits: Option<&Digits>) -> Option<&str> {
    digits.map(Digits::as_str)
}

fn v6(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
}

/// What a PGW sends when a session starts, two attributes of 3GPP's with several each. tshark 4.0
/// shows the same values.
fn start() -> Vec<u8> {
    accounting(
        1,
        &[
            attribute(attribute::ACCT_SESSION_ID, b"0A000001000000FF"),
            attribute(attribute::NAS_IP_ADDRESS, &[192, 0, 2, 1]),
            attribute(attribute::NAS_IDENTIFIER, b"pgw1"),
            attribute(attribute::NAS_PORT_TYPE, &[0, 0, 0, 18]),
            attribute(attribute::FRAMED_IP_ADDRESS, &[10, 0, 0, 9]),
            attribute(
                attribute::FRAMED_IPV6_PREFIX,
                b"\0\x40\x20\x01\x0d\xb8\x00\x01\x00\x02",
            ),
            attribute(attribute::CALLING_STATION_ID, b"+4915112345678"),
            attribute(attribute::CALLED_STATION_ID, b"Internet.mnc001.mcc001.gprs"),
            of_3gpp(&[
                (1, b"001010000000001"),
                (20, b"3512340000000101"),
                (2, &[0, 0, 0, 255]),
                (5, b"08-4D0911000F42400007A120"),
            ]),
            of_3gpp(&[
                (21, &[6]),
                (22, b"\x82\x00\xf1\x10\x00\x01\x00\xf1\x10\x00\x01\x9b\x01"),
                (10, b"5"),
                (18, b"00101"),
                (6, &[192, 0, 2, 33]),
                (26, &[46]),
            ]),
        ],
    )
}

#[test]
fn an_accounting_start_tells_who_has_which_address_and_where() {
    let found = found(&start());
    assert_eq!(found.procedure, Procedure::AccountingStart);
    assert_eq!((found.phase, found.sequence), (Phase::Request, 7));
    assert_eq!(text(found.identity.imsi.as_ref()), Some("001010000000001"));
    assert_eq!(text(found.identity.msisdn.as_ref()), Some("4915112345678"));
    assert_eq!(text(found.identity.imei.as_ref()), Some("3512340000000101"));
    assert_eq!(found.ue.v4, Some(Address::v4([10, 0, 0, 9])));
    assert_eq!(found.ue.v6, Some((v6("2001:db8:1:2::"), 64)));
    assert_eq!(found.apn.as_deref(), Some("internet"));
    assert_eq!(found.rat, Some(Rat::Eutran));
    let Location { cell, area, .. } = found.location;
    assert_eq!(
        cell.map(|cell| cell.to_string()).as_deref(),
        Some("001-01-0019B01")
    );
    assert_eq!(
        area.map(|area| area.to_string()).as_deref(),
        Some("001-01-0001")
    );
    assert_eq!(found.serving.address, Some(Address::v4([192, 0, 2, 33])));
    assert_eq!(found.serving.network, Plmn::read(PLMN));
    assert_eq!(found.charging_id, Some(255));
    assert_eq!(found.node, Some(Address::v4([192, 0, 2, 1])));
    let bearer = Bearer {
        id: 5,
        qos_class: Some(9),
        priority: Some(3),
        ..Bearer::default()
    };
    assert_eq!(found.bearers, [bearer]);
}

#[test]
fn a_5g_session_tells_its_slice_and_cell() {
    let found = found(&accounting(
        3,
        &[of_3gpp(&[
            (20, &[0x53, 0x21, 0x43, 0x00, 0x00, 0x00, 0x10, 0x10]),
            (21, &[51]),
            (
                22,
                b"\x89\x00\xf1\x10\x00\x00\x01\x00\xf1\x10\x12\x34\x56\x78\x90",
            ),
            (125, &[1, 0, 0, 0xab]),
        ])],
    ));
    assert_eq!(found.procedure, Procedure::AccountingInterim);
    assert_eq!(text(found.identity.imei.as_ref()), Some("3512340000000101"));
    assert_eq!(found.rat, Some(Rat::Nr));
    let cell = found.location.cell.map(|cell| cell.to_string());
    assert_eq!(cell.as_deref(), Some("001-01-123456789"));
    assert_eq!(
        found.slice.map(|slice| slice.to_string()).as_deref(),
        Some("1-0000AB")
    );
}

#[test]
fn a_session_has_the_same_key_from_start_to_stop_and_another_at_another_gateway() {
    let session = |status, nas: &[u8], session: &[u8]| {
        let nas = attribute(attribute::NAS_IDENTIFIER, nas);
        let session = attribute(attribute::ACCT_SESSION_ID, session);
        found(&accounting(status, &[session, nas])).sender_end
    };
    let own = session(1, b"pgw1", b"42");
    assert!(own.is_some());
    assert_eq!(own, session(2, b"pgw1", b"42"));
    assert_ne!(own, session(1, b"pgw2", b"42"));
    assert_ne!(own, session(1, b"pgw1", b"43"));
    // What belongs to the name and what to the session is not mixed up.
    assert_ne!(own, session(1, b"pgw", b"142"));
    assert_eq!(found(&accounting(1, &[])).sender_end, None);
}

#[test]
fn each_kind_of_accounting_is_its_own_procedure() {
    let procedure = |status| found(&accounting(status, &[])).procedure;
    let wanted = [
        (1, Procedure::AccountingStart),
        (2, Procedure::AccountingStop),
        (3, Procedure::AccountingInterim),
        (7, Procedure::Reset),
        (8, Procedure::Reset),
        (15, Procedure::Accounting),
    ];
    for (status, wanted) in wanted {
        assert_eq!(procedure(status), wanted, "{status}");
    }
    let answer = found(&message(code::ACCOUNTING_RESPONSE, &[]));
    assert_eq!(
        (answer.procedure, answer.phase),
        (Procedure::Accounting, Phase::Response)
    );
    assert!(answer.cause.is_some_and(|cause| cause.accepted));
}

#[test]
fn access_is_granted_refused_or_still_open() {
    let answer = |code| {
        let found = found(&message(code, &[]));
        assert_eq!(
            (found.procedure, found.phase),
            (Procedure::Access, Phase::Response)
        );
        found.cause.map(|cause| cause.accepted)
    };
    assert_eq!(answer(code::ACCESS_ACCEPT), Some(true));
    assert_eq!(answer(code::ACCESS_REJECT), Some(false));
    assert_eq!(answer(code::ACCESS_CHALLENGE), None);
}

#[test]
fn an_address_that_is_only_wished_for_or_left_open_is_nobodys() {
    let address = |code, octets: [u8; 4]| {
        let framed = attribute(attribute::FRAMED_IP_ADDRESS, &octets);
        found(&message(code, &[framed])).ue.v4
    };
    let given = [10, 0, 0, 9];
    assert_eq!(
        address(code::ACCESS_ACCEPT, given),
        Some(Address::v4(given))
    );
    assert_eq!(address(code::ACCESS_REQUEST, given), None);
    for open in [[255; 4], [255, 255, 255, 254], [0; 4]] {
        assert_eq!(address(code::ACCESS_ACCEPT, open), None, "{open:?}");
    }
}

#[test]
fn a_delegated_prefix_counts_where_it_holds_the_framed_one() {
    let prefixes = |attributes: &[(u8, &[u8])]| {
        let attributes = attributes
            .iter()
            .map(|(kind, value)| attribute(*kind, value));
        found(&accounting(1, &attributes.collect::<Vec<_>>())).ue.v6
    };
    let framed: (u8, &[u8]) = (97, b"\0\x40\x20\x01\x0d\xb8\x00\x01\x00\x02");
    let around: (u8, &[u8]) = (123, b"\0\x38\x20\x01\x0d\xb8\x00\x01\x00");
    let beside: (u8, &[u8]) = (123, b"\0\x38\x20\x01\x0d\xb8\x00\x07\x00");
    let of_56 = Some((v6("2001:db8:1::"), 56));
    assert_eq!(prefixes(&[framed, around]), of_56);
    assert_eq!(prefixes(&[around]), of_56);
    assert_eq!(
        prefixes(&[framed, beside]),
        Some((v6("2001:db8:1:2::"), 64))
    );
}

#[test]
fn hardware_addresses_and_imsis_are_no_telephone_numbers() {
    let number = |calling: &[u8], port_type: u8| {
        let attributes = [
            attribute(attribute::CALLING_STATION_ID, calling),
            attribute(attribute::NAS_PORT_TYPE, &[0, 0, 0, port_type]),
            of_3gpp(&[(1, b"001010000000001"), (1, b"262010000000001")]),
        ];
        let found = found(&accounting(1, &attributes));
        text(found.identity.msisdn.as_ref()).map(str::to_owned)
    };
    assert_eq!(
        number(b"4915112345678", 18).as_deref(),
        Some("4915112345678")
    );
    for calling in [
        &b"00-02-6F-21-EC-5F"[..],
        b"001122334455",
        b"262010000000001",
        b"+",
        b"12",
    ] {
        assert_eq!(number(calling, 18), None, "{calling:x?}");
    }
    assert_eq!(number(b"112233445566", 19), None);
}

#[test]
fn other_vendors_attributes_have_a_form_of_their_own() {
    let other = attribute(attribute::VENDOR_SPECIFIC, &[0, 0, 0, 9, 1, 0, 0xff]);
    assert_eq!(
        found(&accounting(1, &[other])).procedure,
        Procedure::AccountingStart
    );
}

#[test]
fn malformed_messages_are_told_by_their_fault() {
    let whole = start();
    let mut short = whole.clone();
    short[2..4].copy_from_slice(&19_u16.to_be_bytes());
    let overlong = accounting(1, &[vec![8, 9, 10]]);
    let none = accounting(1, &[vec![8, 0, 10, 0, 0, 9]]);
    let cut = accounting(1, &[attribute(attribute::FRAMED_IP_ADDRESS, &[10, 0])]);
    let long_prefix = accounting(1, &[attribute(97, &[&[0, 129][..], &[0; 16]].concat())]);
    let missing_prefix = accounting(1, &[attribute(97, &[0, 64, 0x20])]);
    let inner = attribute(attribute::VENDOR_SPECIFIC, &[0, 0, 0x28, 0xaf, 1, 9, b'0']);
    let cases = [
        (&whole[..whole.len() - 1], Malformed::Truncated),
        (&whole[..3], Malformed::Truncated),
        (&short, Malformed::Length),
        (&overlong, Malformed::Length),
        (&none, Malformed::Length),
        (&cut, Malformed::Truncated),
        (&long_prefix, Malformed::Length),
        (&missing_prefix, Malformed::Length),
        (&accounting(1, &[inner]), Malformed::Length),
    ];
    for (bytes, fault) in cases {
        assert_eq!(read(bytes), Err(fault), "{bytes:x?}");
    }
}

#[test]
fn padding_behind_a_message_says_nothing() {
    let padded = [start(), vec![0; 7]].concat();
    assert_eq!(read(&padded), read(&start()));
}

#[test]
fn a_message_that_is_cut_off_is_none() {
    let whole = start();
    for count in 0..whole.len() {
        assert_eq!(read(&whole[..count]), Err(Malformed::Truncated), "{count}");
    }
}

#[test]
fn a_shorter_message_says_less_and_nothing_else() {
    let bytes = start();
    let whole = found(&bytes);
    let mut readable = 0;
    for count in 20..bytes.len() {
        let mut shorter = bytes[..count].to_vec();
        shorter[2..4].copy_from_slice(&(count as u16).to_be_bytes());
        let Ok(shorter) = read(&shorter) else {
            continue;
        };
        readable += 1;
        assert!(shorter.identity.imsi.is_none() || shorter.identity == whole.identity);
        assert!(shorter.ue.v4.is_none() || shorter.ue.v4 == whole.ue.v4);
        assert!(shorter.ue.v6.is_none() || shorter.ue.v6 == whole.ue.v6);
    }
    // Only where an attribute ends.
    assert_eq!(readable, 11);
}

/// Their numbers and values.
fn any_attributes(kind: impl Strategy<Value = u8>) -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let value = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec((kind, value), 0..8)
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_attributes_are_a_message_or_none(
        attributes in any_attributes(any::<u8>()),
        in_3gpp in any_attributes(1..130_u8),
    ) {
        let mut all: Vec<_> = attributes.iter().map(|(kind, value)| attribute(*kind, value)).collect();
        let own: Vec<_> = in_3gpp.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        all.push(of_3gpp(&own));
        let _ = read(&message(4, &all));
    }

    #[test]
    fn a_damaged_message_is_a_message_or_none(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = start();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }
}
