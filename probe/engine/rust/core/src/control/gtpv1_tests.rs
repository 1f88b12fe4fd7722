use proptest::prelude::*;

use super::*;
use crate::control::identity::{Area, Cell};
use crate::control::samples::{digits, end, plmn};

/// A message with TEID 0x01020304, sequence 0x0a0b and an N-PDU number that means nothing.
fn message(kind: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let [high, low] = (body.len() as u16 + 4).to_be_bytes();
    let header = [0x32, kind, high, low, 1, 2, 3, 4, 0x0a, 0x0b, 0xff, 0];
    [&header[..], &body].concat()
}

fn decode(kind: u8, elements: &[Vec<u8>]) -> Message {
    read(&message(kind, elements)).expect("a message")
}

/// An element whose type fixes its length.
fn fixed(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], value].concat()
}

fn long(kind: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = (value.len() as u16).to_be_bytes();
    [&[kind, high, low], value].concat()
}

fn gsn(last: u8) -> Vec<u8> {
    long(GSN_ADDRESS, &[192, 0, 2, last])
}

fn control(key: u64, last: u8) -> Option<ControlEnd> {
    let address = Address::v4([192, 0, 2, last]);
    Some(ControlEnd { address, key })
}

/// Priority 2, interactive, handling priority 3 (TS 24.008 10.5.6.5).
const QOS: [u8; 12] = [
    2, 0x1b, 0x42, 0x1f, 0x73, 0x8c, 0x40, 0x40, 0x74, 0x4b, 0x40, 0x40,
];

#[test]
fn a_header_gives_session_and_sequence() {
    let found = decode(20, &[]);
    assert_eq!(
        (found.procedure, found.phase),
        (Procedure::DeleteSession, Phase::Request)
    );
    assert_eq!((found.receiver_key, found.sequence), (0x0102_0304, 0x0a0b));
    let echo = read(&[0x32, 2, 0, 6, 0, 0, 0, 0, 0, 9, 0, 0, RECOVERY, 7]).expect("an echo");
    assert_eq!(
        (echo.procedure, echo.phase),
        (Procedure::Echo, Phase::Response)
    );
    assert_eq!((echo.sequence, echo.recovery), (9, Some(7)));
}

#[test]
fn extension_headers_stand_before_the_elements() {
    // 6.1: two of them, of 4 and of 8 bytes.
    let bytes = [
        0x36, 2, 0, 18, 0, 0, 0, 0, 0, 9, 0, 0xc0, 1, 0, 0, 0xc1, 2, 0, 0, 0, 0, 0, 0, 0, RECOVERY,
        7,
    ];
    assert_eq!(read(&bytes).map(|found| found.recovery), Ok(Some(7)));
    let mut none = bytes;
    none[12] = 0;
    assert_eq!(read(&none), Err(Malformed::Length));
    let mut overrun = bytes;
    overrun[16] = 4;
    assert_eq!(read(&overrun), Err(Malformed::Length));
}

#[test]
fn a_create_request_tells_who_where_and_which_tunnel() {
    let found = decode(
        16,
        &[
            fixed(IMSI, &[0x00, 0x01, 0x01, 0, 0, 0, 0, 0xf1]),
            fixed(ROUTING_AREA, &[0x00, 0xf1, 0x10, 0, 5, 0xff]),
            fixed(RECOVERY, &[7]),
            fixed(TEID_DATA, &[0, 0, 0, 0x21]),
            fixed(TEID_CONTROL, &[0, 0, 0, 0x11]),
            fixed(NSAPI, &[0xf5]),
            long(END_USER_ADDRESS, &[0xf1, 0x21]),
            long(APN, b"\x08internet"),
            gsn(1),
            gsn(3),
            long(MSISDN, &[0x91, 0x94, 0x71, 0x00, 0x00]),
            long(QOS_PROFILE, &QOS),
            vec![EXTENSION_HEADER_LIST, 1, 0xc0],
            long(RAT, &[2]),
            long(USER_LOCATION, &[0, 0x00, 0xf1, 0x10, 0, 6, 0, 8]),
            long(IMEI, &[0x53, 0x02, 0x30, 0x11, 0x22, 0x33, 0x44, 0x10]),
            long(EVOLVED_ARP, &[0b1010_1111]),
        ],
    );
    let expected = ["001010000000001", "49170000", "3520031122334401"];
    assert_eq!(digits(&found.identity), expected.map(Some));
    assert_eq!(
        (found.rat, found.apn.as_deref()),
        (Some(Rat::Geran), Some("internet"))
    );
    assert_eq!(
        (found.recovery, found.serving_network),
        (Some(7), Some(plmn()))
    );
    let plmn = plmn();
    assert_eq!(
        found.location.cell,
        Some(Cell::Cgi {
            plmn,
            area: 6,
            cell: 8
        })
    );
    assert_eq!(found.location.area, Some(Area::Lai { plmn, code: 6 }));
    assert_eq!(found.sender_end, control(0x11, 1));
    assert_eq!(found.ue, UeAddresses::default());
    let bearer = Bearer {
        id: 5,
        ends: vec![end(Role::Access, 0x21, 3)],
        qos_class: Some(8),
        priority: Some(11),
        ..Bearer::default()
    };
    assert_eq!((found.bearers, found.linked_bearer), (vec![bearer], None));
}

#[test]
fn a_create_answer_tells_address_and_the_other_end() {
    let found = decode(
        17,
        &[
            fixed(CAUSE, &[128]),
            fixed(TEID_DATA, &[0, 0, 0, 0x22]),
            fixed(TEID_CONTROL, &[0, 0, 0, 0x12]),
            fixed(CHARGING_ID, &[1, 2, 3, 4]),
            long(END_USER_ADDRESS, &[0xf1, 0x21, 10, 0, 0, 9]),
            gsn(1),
            gsn(3),
        ],
    );
    let cause = Cause {
        number: 128,
        accepted: true,
    };
    assert_eq!(found.cause, Some(cause));
    assert_eq!(found.ue.v4, Some(Address::v4([10, 0, 0, 9])));
    assert_eq!(found.sender_end, control(0x12, 1));
    assert_eq!(found.bearers[0].ends, [end(Role::Core, 0x22, 3)]);
}

#[test]
fn a_refusal_sets_up_no_bearer() {
    // 7.7.1: 192 to 255 refuse.
    let found = decode(17, &[fixed(CAUSE, &[199])]);
    assert_eq!(
        found.cause.map(|cause| (cause.number, cause.accepted)),
        Some((199, false))
    );
    assert_eq!(found.bearers, []);
    let accepted = |kind, number| decode(kind, &[fixed(CAUSE, &[number])]).cause;
    assert!(accepted(17, 130).is_some_and(|cause| cause.accepted));
    assert!(accepted(17, 3).is_some_and(|cause| !cause.accepted));
    assert!(accepted(20, 3).is_some_and(|cause| cause.accepted));
}

#[test]
fn both_families_of_a_gsn_are_two_ends() {
    let six = |last: u8| {
        long(
            GSN_ADDRESS,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, last],
        )
    };
    let teids = [
        fixed(TEID_DATA, &[0, 0, 0, 2]),
        fixed(TEID_CONTROL, &[0, 0, 0, 1]),
    ];
    let found = decode(
        17,
        &[&teids[..], &[six(1), six(3), gsn(2), gsn(4)]].concat(),
    );
    let ends = &found.bearers[0].ends;
    assert_eq!((ends.len(), ends[1]), (2, end(Role::Core, 2, 4)));
    assert_eq!(ends[0].end.address, Address(0x103));
}

#[test]
fn a_secondary_context_names_the_linked_one() {
    let elements = [
        fixed(TEID_DATA, &[0, 0, 0, 2]),
        fixed(NSAPI, &[6]),
        fixed(NSAPI, &[5]),
    ];
    let found = decode(16, &[&elements[..], &[gsn(1), gsn(3)]].concat());
    assert_eq!((found.bearers[0].id, found.linked_bearer), (6, Some(5)));
    assert_eq!(found.bearers[0].ends, [end(Role::Access, 2, 3)]);
    assert_eq!(found.sender_end, None);
}

#[test]
fn an_update_is_answered_by_either_side() {
    let data = || fixed(TEID_DATA, &[0, 0, 0, 2]);
    let cause = || fixed(CAUSE, &[128]);
    let ends = |elements: &[Vec<u8>]| decode(19, elements).bearers[0].ends.clone();
    let control = fixed(TEID_CONTROL, &[0, 0, 0, 1]);
    let ggsn = ends(&[cause(), data(), control, gsn(1), gsn(3)]);
    assert_eq!(ggsn, [end(Role::Core, 2, 3)]);
    let charged = ends(&[cause(), data(), fixed(CHARGING_ID, &[0; 4]), gsn(3)]);
    assert_eq!(charged, [end(Role::Core, 2, 3)]);
    // Direct tunnel to an RNC (7.3.4, by the SGSN).
    assert_eq!(ends(&[cause(), data(), gsn(3)]), [end(Role::Access, 2, 3)]);
}

#[test]
fn a_teardown_removes_the_session_and_otherwise_one_context_goes() {
    let whole = decode(20, &[fixed(TEARDOWN, &[0xff]), fixed(NSAPI, &[5])]);
    assert_eq!((whole.bearers.len(), whole.linked_bearer), (0, Some(5)));
    let one = decode(20, &[fixed(TEARDOWN, &[0xfe]), fixed(NSAPI, &[5])]);
    assert_eq!((one.bearers[0].id, one.bearers[0].removed), (5, true));
    assert_eq!(one.linked_bearer, None);
}

#[test]
fn device_addresses_are_told_by_type_and_length() {
    let ue = |value: &[u8]| decode(17, &[long(END_USER_ADDRESS, value)]).ue;
    let four = [10, 0, 0, 9];
    let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 9, 9, 9, 9, 9, 9, 9, 9];
    let prefix = Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (v4, v6) = (Some(Address::v4(four)), Some((prefix, 64)));
    assert_eq!(
        ue(&[&[0xf1, 0x57][..], &six].concat()),
        UeAddresses { v4: None, v6 }
    );
    let both = [0xf1, 0x8d];
    assert_eq!(
        ue(&[&both[..], &four, &six].concat()),
        UeAddresses { v4, v6 }
    );
    assert_eq!(
        ue(&[&both[..], &four].concat()),
        UeAddresses { v4, v6: None }
    );
    assert_eq!(
        ue(&[&both[..], &six].concat()),
        UeAddresses { v4: None, v6 }
    );
    assert_eq!(ue(&both), UeAddresses::default());
    // PPP (ETSI).
    assert_eq!(ue(&[0xf0, 1]), UeAddresses::default());
}

#[test]
fn locations_are_cells_service_areas_or_routing_areas() {
    let plmn = plmn();
    let at = |kind: u8, elements: &[Vec<u8>]| {
        let location = long(USER_LOCATION, &[kind, 0x00, 0xf1, 0x10, 0, 6, 0, 8]);
        decode(18, &[elements, &[location]].concat()).location
    };
    let sai = Cell::Sai {
        plmn,
        area: 6,
        service_area: 8,
    };
    assert_eq!(at(1, &[]).cell, Some(sai));
    let area = |code| Some(Area::Lai { plmn, code });
    let before = fixed(ROUTING_AREA, &[0x00, 0xf1, 0x10, 0, 5, 1]);
    let routing = at(2, std::slice::from_ref(&before));
    assert_eq!((routing.cell, routing.area), (None, area(6)));
    let unknown = at(9, &[before]);
    assert_eq!((unknown.cell, unknown.area), (None, area(5)));
    // TS 23.003 4.1: the network is known, the area is not.
    let nowhere = decode(
        18,
        &[fixed(ROUTING_AREA, &[0x00, 0xf1, 0x10, 0xff, 0xfe, 0xff])],
    );
    assert_eq!(
        (nowhere.location.area, nowhere.serving_network),
        (None, Some(plmn))
    );
}

#[test]
fn a_quality_of_service_stands_for_a_class() {
    // TS 23.401 table E.3: traffic class, transfer delay and handling priority, signalling and source.
    let class = |traffic: u8, delay: u8, handling: u8, last: u8| {
        let mut profile = [0; 15];
        (profile[4], profile[9], profile[12]) = (traffic << 5 | 0x1f, delay << 2 | handling, last);
        qos_class(&profile)
    };
    assert_eq!(class(1, 15, 0, 0x01), Some(1));
    assert_eq!(class(1, 15, 0, 0), Some(2));
    assert_eq!(class(1, 8, 0, 0), Some(3));
    assert_eq!(class(2, 20, 0, 0), Some(4));
    assert_eq!(class(3, 0, 1, 0x10), Some(5));
    assert_eq!(
        [1, 2, 3].map(|handling| class(3, 0, handling, 0)),
        [6, 7, 8].map(Some)
    );
    assert_eq!(class(4, 0, 0, 0), Some(9));
    // As subscribed; of before the classes.
    assert_eq!(class(0, 0, 0, 0), None);
    assert_eq!(qos_class(&[2, 0x1b, 0x42, 0x1f]), None);
}

#[test]
fn national_numbers_are_left_out() {
    let number = |nature: u8| {
        let found = decode(16, &[long(MSISDN, &[nature, 0x21, 0x43])]);
        found
            .identity
            .msisdn
            .map(|digits| digits.as_str().to_owned())
    };
    assert_eq!(number(0x91).as_deref(), Some("1234"));
    assert_eq!(number(0x81).as_deref(), Some("1234"));
    assert_eq!(number(0xa1), None);
}

#[test]
fn errors_and_the_unsupported_wait_for_no_answer() {
    for kind in [3, 26, 31, 52, 70, 254, 255] {
        let found = decode(kind, &[]);
        let expected = (Procedure::Other(kind.into()), Phase::Indication);
        assert_eq!((found.procedure, found.phase), expected);
    }
    assert_eq!(procedure(51), (Procedure::Other(50), Phase::Response));
}

#[test]
fn what_contradicts_itself_is_malformed() {
    let fault = |elements: &[Vec<u8>]| read(&message(16, elements)).expect_err("malformed");
    assert_eq!(
        read(&[0x32, 16, 0, 3, 0, 0, 0, 0, 0, 9, 0]),
        Err(Malformed::Length)
    );
    assert_eq!(read(&[0x22, 1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Version));
    // A type of fixed length that nobody knows: what is behind cannot be told.
    assert_eq!(fault(&[vec![100, 1, 2]]), Malformed::Value);
    assert_eq!(fault(&[fixed(TEID_DATA, &[0, 0, 0])]), Malformed::Length);
    assert_eq!(fault(&[vec![APN, 0, 9, 1]]), Malformed::Length);
    assert_eq!(fault(&[vec![APN, 0]]), Malformed::Length);
    assert_eq!(fault(&[long(GSN_ADDRESS, &[1, 2, 3])]), Malformed::Length);
    assert_eq!(
        fault(&[long(END_USER_ADDRESS, &[0xf1, 0x21, 1])]),
        Malformed::Length
    );
    assert_eq!(fault(&[long(USER_LOCATION, &[0, 1, 2])]), Malformed::Length);
    assert_eq!(fault(&[long(MSISDN, &[])]), Malformed::Length);
    assert_eq!(fault(&[long(RAT, &[])]), Malformed::Length);
    assert_eq!(fault(&[fixed(IMSI, &[0xff; 8])]), Malformed::Value);
}

/// Elements that messages are put together from: known and unknown types, plausible or any values.
fn any_element() -> impl Strategy<Value = Vec<u8>> {
    let value = prop::collection::vec(any::<u8>(), 0..40);
    (any::<u8>(), value).prop_map(|(kind, mut value)| match fixed_length(kind) {
        Some(length) => {
            value.resize(length, 1);
            fixed(kind, &value)
        }
        None => long(kind | 0x80, &value),
    })
}

proptest! {
    #[test]
    fn any_bytes_behind_a_header_are_a_message_or_malformed(
        kind in any::<u8>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = (read(&bytes), read(&message(kind, &[bytes])));
    }

    #[test]
    fn a_message_cut_anywhere_is_truncated(
        kind in any::<u8>(),
        elements in prop::collection::vec(any_element(), 0..8),
    ) {
        let whole = message(kind, &elements);
        if let Ok(found) = read(&whole) {
            prop_assert!(found.bearers.len() <= 1);
        }
        for length in 0..whole.len() {
            prop_assert_eq!(read(&whole[..length]), Err(Malformed::Truncated));
        }
    }
}
