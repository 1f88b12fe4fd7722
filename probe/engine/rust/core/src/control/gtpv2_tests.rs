use proptest::prelude::*;

use super::*;
use crate::control::identity::{Area, Cell, RanNode};
use crate::control::samples::{PLMN, digits, end, plmn};

/// An element (8.2.1), with the spare half of its last header byte set.
fn element(kind: u8, instance: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = (value.len() as u16).to_be_bytes();
    [&[kind, high, low, 0xf0 | instance], value].concat()
}

/// A message with TEID 0x01020304 and sequence 0x0a0b0c; spare bits and message priority are set.
fn message(kind: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let [high, low] = (body.len() as u16 + 8).to_be_bytes();
    let header = [0x4f, kind, high, low, 1, 2, 3, 4, 0x0a, 0x0b, 0x0c, 0xff];
    [&header[..], &body].concat()
}

fn decode(kind: u8, elements: &[Vec<u8>]) -> Message {
    read(&message(kind, elements)).expect("a message")
}

/// An F-TEID with an IPv4 address 192.0.2.x.
fn f_teid(instance: u8, interface: u8, teid: u8, last: u8) -> Vec<u8> {
    element(
        F_TEID,
        instance,
        &[0x80 | interface, 0, 0, 0, teid, 192, 0, 2, last],
    )
}

fn context(instance: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    element(BEARER_CONTEXT, instance, &elements.concat())
}

fn location(flags: u8, identities: &[&[u8]]) -> Location {
    let mut value = vec![flags];
    for identity in identities {
        value.extend_from_slice(&PLMN);
        value.extend_from_slice(identity);
    }
    decode(34, &[element(USER_LOCATION, 0, &value)]).location
}

#[test]
fn a_header_gives_session_and_sequence() {
    let found = decode(36, &[]);
    assert_eq!(
        (found.procedure, found.phase),
        (Procedure::DeleteSession, Phase::Request)
    );
    assert_eq!(
        (found.receiver_key, found.sequence),
        (0x0102_0304, 0x0a_0b0c)
    );
    // Without a TEID the sequence number comes at once (5.5.2).
    let echo = read(&[0x40, 2, 0, 9, 0x0a, 0x0b, 0x0c, 0, 3, 0, 1, 0, 7]).expect("an echo");
    assert_eq!(
        (echo.procedure, echo.phase),
        (Procedure::Echo, Phase::Response)
    );
    assert_eq!(
        (echo.receiver_key, echo.sequence, echo.recovery),
        (0, 0x0a_0b0c, Some(7))
    );
}

#[test]
fn each_answer_shares_the_procedure_of_its_request() {
    let answered = (0..=u8::MAX).filter(|&kind| procedure(kind).1 == Phase::Response);
    let mut pairs = 0;
    for kind in answered {
        let (asked, phase) = procedure(kind - 1);
        assert_eq!(
            (asked, phase),
            (procedure(kind).0, Phase::Request),
            "{kind}"
        );
        pairs += 1;
    }
    let requests = (0..=u8::MAX).filter(|&kind| procedure(kind).1 == Phase::Request);
    assert_eq!((pairs, requests.count()), (31, 31));
    assert_eq!(procedure(70), (Procedure::Other(70), Phase::Indication));
}

#[test]
fn a_create_session_request_tells_who_where_and_which_tunnels() {
    let found = decode(
        32,
        &[
            element(IMSI, 0, &[0x00, 0x01, 0x01, 0, 0, 0, 0, 0xf1]),
            element(MSISDN, 0, &[0x94, 0x71, 0x00, 0x00]),
            element(
                DEVICE_ID,
                0,
                &[0x53, 0x02, 0x30, 0x11, 0x22, 0x33, 0x44, 0x10],
            ),
            element(RAT, 0, &[6]),
            element(SERVING_NETWORK, 0, &PLMN),
            element(APN, 0, b"\x03IMS\x06mnc001\x06mcc001\x04gprs"),
            f_teid(0, 10, 0x11, 1),
            f_teid(1, 7, 0x12, 2),
            context(
                0,
                &[
                    element(BEARER_ID, 0, &[0xf5]),
                    f_teid(0, 0, 0x21, 3),
                    element(BEARER_QOS, 0, &[&[0b1010_1111, 9][..], &[0; 20]].concat()),
                ],
            ),
        ],
    );
    let expected = ["001010000000001", "49170000", "3520031122334401"];
    assert_eq!(digits(&found.identity), expected.map(Some));
    assert_eq!(
        (found.rat, found.apn.as_deref()),
        (Some(Rat::Eutran), Some("ims"))
    );
    assert_eq!(found.serving_network, Some(plmn()));
    let address = Address::v4([192, 0, 2, 1]);
    assert_eq!(found.sender_end, Some(ControlEnd { address, key: 0x11 }));
    let bearer = Bearer {
        id: 5,
        ends: vec![end(Role::Access, 0x21, 3)],
        qos_class: Some(9),
        priority: Some(11),
        ..Bearer::default()
    };
    assert_eq!(found.bearers, [bearer]);
}

#[test]
fn interfaces_tell_who_waits_at_an_end() {
    // Table 8.22-1.
    let roles = [
        (0, Role::Access),
        (1, Role::Core),
        (2, Role::Access),
        (3, Role::Core),
        (4, Role::TransitDown),
        (5, Role::TransitUp),
        (15, Role::Access),
        (16, Role::Core),
        (19, Role::Forwarding),
        (23, Role::Forwarding),
        (28, Role::Forwarding),
        (38, Role::Access),
        (39, Role::Core),
    ];
    for (interface, role) in roles {
        let found = decode(33, &[context(0, &[f_teid(3, interface, 7, 9)])]);
        assert_eq!(found.bearers[0].ends, [end(role, 7, 9)], "{interface}");
        // Not of the control plane, wherever it stands.
        assert_eq!(decode(34, &[f_teid(0, interface, 7, 9)]).sender_end, None);
    }
    let control = decode(33, &[context(0, &[f_teid(0, 10, 7, 9)])]);
    assert_eq!(control.bearers[0].ends, []);
}

#[test]
fn all_ends_of_a_forwarding_message_are_for_forwarding() {
    let found = decode(
        166,
        &[context(0, &[f_teid(0, 0, 7, 9), f_teid(1, 1, 8, 9)])],
    );
    let ends = [end(Role::Forwarding, 7, 9), end(Role::Forwarding, 8, 9)];
    assert_eq!(found.bearers[0].ends, ends);
}

#[test]
fn an_end_with_both_families_is_two_and_one_without_teid_is_none() {
    let both = [&[0xc1, 0, 0, 0, 7, 192, 0, 2, 9][..], &[0x20; 16]].concat();
    let nothing = [0x01, 0, 0, 0, 7];
    let contexts = context(
        0,
        &[
            element(F_TEID, 0, &both),
            element(F_TEID, 1, &nothing),
            f_teid(2, 1, 0, 9),
        ],
    );
    let ends = &decode(33, &[contexts]).bearers[0].ends;
    let [first, second] = ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(first, end(Role::Core, 7, 9));
    assert_eq!(second.end.address, Address::v6([0x20; 16]));
    assert_eq!((second.role, second.end.teid), (Role::Core, 7));
}

#[test]
fn a_pgw_that_answers_is_the_sender_unless_an_sgw_stands_before_it() {
    let key = |elements: &[Vec<u8>], kind| decode(kind, elements).sender_end.map(|end| end.key);
    let (sgw, pgw) = (f_teid(0, 11, 1, 1), f_teid(1, 7, 2, 2));
    assert_eq!(key(&[pgw.clone(), sgw.clone()], 33), Some(1));
    assert_eq!(key(std::slice::from_ref(&pgw), 33), Some(2));
    // In a request it is where to go on to.
    assert_eq!(key(std::slice::from_ref(&pgw), 32), None);
    // Not yet known (the MME keeps its TEID).
    assert_eq!(key(&[f_teid(0, 10, 0, 1)], 34), None);
}

#[test]
fn a_location_is_the_closest_of_all_given() {
    // 8.21: CGI, SAI, RAI, TAI, ECGI, LAI, macro eNB, extended macro eNB.
    let all = location(
        0xff,
        &[
            &[0, 1, 0, 2],
            &[0, 3, 0, 4],
            &[0, 5, 6, 0xff],
            &[0, 7],
            &[0xf0, 0x01, 0x9b, 0x01],
            &[0, 8],
            &[0xf0, 0x01, 0x9b],
            &[0x80, 0x01, 0x9c],
        ],
    );
    let plmn = plmn();
    let expected = Location {
        cell: Some(Cell::Ecgi {
            plmn,
            cell: 0x19b01,
        }),
        area: Some(Area::Tai { plmn, code: 7 }),
        node: Some(RanNode::Enb {
            plmn,
            id: 0x19b,
            bits: 20,
        }),
    };
    assert_eq!(all, expected);
}

#[test]
fn a_cell_of_gsm_or_umts_tells_its_location_area() {
    let plmn = plmn();
    let lai = |code| Some(Area::Lai { plmn, code });
    let cgi = location(0x01, &[&[0, 1, 0, 2]]);
    assert_eq!(
        cgi.cell,
        Some(Cell::Cgi {
            plmn,
            area: 1,
            cell: 2
        })
    );
    assert_eq!(cgi.area, lai(1));
    let sai = location(0x06, &[&[0, 1, 0, 2], &[0, 5, 6, 0xff]]);
    assert_eq!(
        sai.cell,
        Some(Cell::Sai {
            plmn,
            area: 1,
            service_area: 2
        })
    );
    assert_eq!(sai.area, lai(5));
    assert_eq!(location(0x20, &[&[0, 8]]).area, lai(8));
    // TS 23.003 4.1: codes that say that there is no area.
    assert_eq!(location(0x20, &[&[0xff, 0xfe]]).area, None);
    assert_eq!(location(0x08, &[&[0, 0]]).area, None);
}

#[test]
fn extended_base_stations_have_short_or_long_identities() {
    let plmn = plmn();
    let node = |id, bits| Some(RanNode::Enb { plmn, id, bits });
    assert_eq!(location(0x80, &[&[0xff, 1, 2]]).node, node(0x3_0102, 18));
    assert_eq!(location(0x80, &[&[0x7f, 1, 2]]).node, node(0x1f_0102, 21));
}

#[test]
fn device_addresses_are_prefix_address_or_both() {
    let prefix = [&[64, 0x20, 1, 0xd, 0xb8][..], &[0, 0, 0, 7], &[9; 8]].concat();
    let six = Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    let ue = |value: &[u8]| decode(33, &[element(PDN_ADDRESS, 0, value)]).ue;
    let four = [10, 45, 0, 2];
    let expected = UeAddresses {
        v4: Some(Address::v4(four)),
        v6: Some((six, 64)),
    };
    assert_eq!(ue(&[&[0xfb][..], &prefix, &four].concat()), expected);
    assert_eq!(ue(&[&[2][..], &prefix].concat()).v6, Some((six, 64)));
    assert_eq!(ue(&[&[1][..], &four].concat()).v4, Some(Address::v4(four)));
    // Still to be given; no IP at all.
    assert_eq!(ue(&[1, 0, 0, 0, 0]), UeAddresses::default());
    assert_eq!(ue(&[&[2][..], &[0; 17]].concat()), UeAddresses::default());
    assert_eq!(ue(&[4]), UeAddresses::default());
}

#[test]
fn causes_accept_refuse_or_give_a_reason() {
    // 8.4, table 8.4-1.
    let accepted = |kind, number| {
        let cause = decode(kind, &[element(CAUSE, 0, &[number, 0])]).cause;
        assert_eq!(cause.map(|cause| cause.number), Some(number.into()));
        cause.is_some_and(|cause| cause.accepted)
    };
    assert!(accepted(33, 16) && accepted(33, 17) && accepted(33, 19));
    assert!(!accepted(33, 64) && !accepted(33, 93) && !accepted(33, 240) && !accepted(33, 8));
    assert!(accepted(99, 8));
}

#[test]
fn a_bearer_has_a_cause_of_its_own() {
    let refused = context(
        0,
        &[element(BEARER_ID, 0, &[6]), element(CAUSE, 0, &[73, 0])],
    );
    let found = decode(96, &[element(CAUSE, 0, &[17, 0]), refused]);
    let cause = |number, accepted| Some(Cause { number, accepted });
    assert_eq!(found.cause, cause(17, true));
    assert_eq!(found.bearers[0].cause, cause(73, false));
}

#[test]
fn bearers_to_be_removed_are_told_by_instance() {
    let id = |instance, id| element(BEARER_ID, instance, &[id]);
    let removed = |found: &Message| -> Vec<_> {
        let bearers = found.bearers.iter();
        bearers.map(|bearer| (bearer.id, bearer.removed)).collect()
    };
    let modify = decode(34, &[context(0, &[id(0, 5)]), context(1, &[id(0, 6)])]);
    assert_eq!(removed(&modify), [(5, false), (6, true)]);
    // Table 7.2.9.2-1: dedicated bearers, or by the linked one all; contexts are of failures.
    let dedicated = decode(99, &[id(1, 6), id(1, 7), context(0, &[id(0, 8)])]);
    assert_eq!(removed(&dedicated), [(6, true), (7, true), (8, false)]);
    assert_eq!(dedicated.linked_bearer, None);
    let whole = decode(99, &[id(0, 5)]);
    assert_eq!((removed(&whole), whole.linked_bearer), (vec![], Some(5)));
    let cause = |number| element(CAUSE, 0, &[number, 0]);
    let answer = decode(
        100,
        &[
            context(0, &[id(0, 6), cause(16)]),
            context(0, &[id(0, 7), cause(64)]),
        ],
    );
    assert_eq!(removed(&answer), [(6, true), (7, false)]);
}

#[test]
fn a_data_notification_names_the_bearer_with_data() {
    let found = decode(176, &[element(BEARER_ID, 0, &[6])]);
    assert_eq!((found.bearers[0].id, found.linked_bearer), (6, None));
    assert_eq!(
        decode(36, &[element(BEARER_ID, 0, &[6])]).linked_bearer,
        Some(6)
    );
}

#[test]
fn of_repeated_elements_the_first_counts_and_unknown_ones_are_passed_over() {
    let found = decode(
        32,
        &[
            element(254, 0, &[1, 2, 3]),
            element(RAT, 1, &[1]),
            element(RAT, 0, &[6]),
            element(RAT, 0, &[2]),
            element(255, 0, b"vendor"),
            element(APN, 0, b"\x05wrong"),
        ],
    );
    assert_eq!(
        (found.rat, found.apn.as_deref()),
        (Some(Rat::Eutran), Some("wrong"))
    );
}

#[test]
fn a_piggybacked_message_is_read_behind_its_carrier() {
    let mut carrier = message(33, &[element(CAUSE, 0, &[16, 0])]);
    carrier[0] |= 0x10;
    let both = [carrier, message(95, &[element(BEARER_ID, 0, &[5])])].concat();
    let all: Vec<_> = gtp::messages(&both).collect();
    let [Ok(first), Ok(second)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (first.procedure, first.phase),
        (Procedure::CreateSession, Phase::Response)
    );
    assert_eq!(
        (second.procedure, second.phase),
        (Procedure::CreateBearer, Phase::Request)
    );
    assert_eq!((first.linked_bearer, second.linked_bearer), (None, Some(5)));
    // Without the flag, what is behind is not a message.
    let padded = [message(36, &[]), vec![0; 8]].concat();
    assert_eq!(gtp::messages(&padded).count(), 1);
}

#[test]
fn lengths_that_contradict_each_other_are_malformed() {
    let fault = |bytes: &[u8]| read(bytes).expect_err("malformed");
    assert_eq!(
        fault(&[0x48, 32, 0, 7, 0, 0, 0, 0, 0, 0, 1]),
        Malformed::Length
    );
    assert_eq!(fault(&[0x40, 1, 0, 3, 0, 0, 1]), Malformed::Length);
    assert_eq!(fault(&[0x20, 1, 0, 4, 0, 0, 1, 0]), Malformed::Version);
    let mut overrun = element(RAT, 0, &[6]);
    overrun[2] = 2;
    assert_eq!(fault(&message(32, &[overrun.clone()])), Malformed::Length);
    assert_eq!(fault(&message(32, &[vec![RAT, 0, 1]])), Malformed::Length);
    assert_eq!(
        fault(&message(33, &[context(0, &[overrun])])),
        Malformed::Length
    );
}

#[test]
fn elements_too_short_for_their_form_are_malformed() {
    let short: [(u8, &[u8]); 12] = [
        (CAUSE, &[]),
        (RECOVERY, &[]),
        (RAT, &[]),
        (BEARER_ID, &[]),
        (SERVING_NETWORK, &[0, 0xf1]),
        (PDN_ADDRESS, &[1, 10, 0, 0]),
        (PDN_ADDRESS, &[3, 64, 1]),
        (USER_LOCATION, &[]),
        (USER_LOCATION, &[0x18, 0, 0xf1, 0x10, 0, 1]),
        (F_TEID, &[0x8a, 0, 0, 0]),
        (F_TEID, &[0xca, 0, 0, 0, 1, 10, 0, 0, 1]),
        (BEARER_CONTEXT, &[BEARER_QOS, 0, 1, 0, 9]),
    ];
    for (kind, value) in short {
        let fault = read(&message(32, &[element(kind, 0, value)]));
        assert_eq!(fault, Err(Malformed::Length), "{kind} {value:x?}");
    }
}

#[test]
fn a_wrong_imsi_is_malformed_and_other_wrong_values_are_left_out() {
    for imsi in [&[][..], &[0xff; 8], &[0xa1; 8], &[0x11; 8]] {
        let fault = read(&message(32, &[element(IMSI, 0, imsi)]));
        assert_eq!(fault, Err(Malformed::Value), "{imsi:x?}");
    }
    let found = decode(
        32,
        &[
            element(MSISDN, 0, &[0xba]),
            element(APN, 0, &[200, 1]),
            element(RAT, 0, &[77]),
            element(SERVING_NETWORK, 0, &[0xff; 3]),
            element(USER_LOCATION, 0, &[&[0x10][..], &[0xff; 7]].concat()),
        ],
    );
    assert_eq!(
        (found.identity.msisdn, found.apn, found.rat),
        (None, None, None)
    );
    assert_eq!(
        (found.serving_network, found.location),
        (None, Location::default())
    );
}

#[test]
fn more_bearers_or_ends_than_a_session_has_are_not_believed() {
    let bearers = |count| read(&message(33, &vec![context(0, &[]); count]));
    assert_eq!(
        bearers(MAX_BEARERS).map(|found| found.bearers.len()),
        Ok(MAX_BEARERS)
    );
    assert_eq!(bearers(MAX_BEARERS + 1), Err(Malformed::Value));
    let ends = |count| {
        read(&message(
            33,
            &[context(0, &vec![f_teid(0, 1, 7, 9); count])],
        ))
    };
    assert!(ends(MAX_ENDS).is_ok());
    assert_eq!(ends(MAX_ENDS + 1), Err(Malformed::Value));
}

/// Elements that messages are put together from: known and unknown types, plausible or any values.
fn any_element() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        prop::sample::select(vec![
            IMSI,
            CAUSE,
            RECOVERY,
            APN,
            BEARER_ID,
            DEVICE_ID,
            MSISDN,
            PDN_ADDRESS,
            BEARER_QOS,
            RAT,
            SERVING_NETWORK,
            USER_LOCATION,
            F_TEID,
            BEARER_CONTEXT,
        ]),
        any::<u8>()
    ];
    let value = prop::collection::vec(any::<u8>(), 0..40);
    (kind, 0..3_u8, value).prop_map(|(kind, instance, value)| element(kind, instance, &value))
}

proptest! {
    #[test]
    fn any_bytes_are_a_bounded_message_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for message in gtp::messages(&bytes).flatten() {
            prop_assert!(message.bearers.len() <= MAX_BEARERS);
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_truncated(
        kind in any::<u8>(),
        elements in prop::collection::vec(any_element(), 0..8),
    ) {
        let whole = message(kind, &elements);
        if let Ok(found) = read(&whole) {
            prop_assert!(found.bearers.iter().all(|bearer| bearer.ends.len() <= MAX_ENDS));
        }
        for length in 0..whole.len() {
            prop_assert_eq!(read(&whole[..length]), Err(Malformed::Truncated));
        }
    }
}

#[test]
fn a_deletion_says_whether_the_session_ends_everywhere() {
    let ends_everywhere = |flags: u8| {
        let indication = element(77, 0, &[flags, 0]);
        decode(36, &[indication]).ends_everywhere
    };
    assert!(ends_everywhere(0x08) && !ends_everywhere(0xf7));
    assert!(!decode(36, &[]).ends_everywhere);
}
