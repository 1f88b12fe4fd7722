use proptest::prelude::*;

use super::element::*;
use super::*;
use crate::control::identity::Digits;
use crate::control::message::ControlEnd;
use crate::decap::Address;

const GNB: [u8; 4] = [192, 0, 2, 33];
const UPF: [u8; 4] = [192, 0, 2, 7];

fn ie(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u16;
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn group(kind: u16, elements: &[Vec<u8>]) -> Vec<u8> {
    ie(kind, &elements.concat())
}

/// A message about a session (TS 29.244 7.2.2.4), sequence 5.
fn message(kind: u8, seid: u64, elements: &[Vec<u8>]) -> Vec<u8> {
    let body = [&seid.to_be_bytes()[..], &[0, 0, 5, 0], &elements.concat()].concat();
    let [high, low] = (body.len() as u16).to_be_bytes();
    [&[0x21, kind, high, low], &body[..]].concat()
}

/// A message between nodes, which has no session (TS 29.244 7.2.2.3).
fn node_message(kind: u8, elements: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[0, 0, 5, 0], &elements.concat()[..]].concat();
    let [high, low] = (body.len() as u16).to_be_bytes();
    [&[0x20, kind, high, low], &body[..]].concat()
}

fn f_teid(teid: u32, address: [u8; 4]) -> Vec<u8> {
    ie(F_TEID, &[&[1][..], &teid.to_be_bytes(), &address].concat())
}

fn chosen_by_user_plane() -> Vec<u8> {
    ie(F_TEID, &[0b1101, 5])
}

fn outer_header(teid: u32, address: [u8; 4]) -> Vec<u8> {
    let value = [&[1, 0][..], &teid.to_be_bytes(), &address].concat();
    ie(OUTER_HEADER_CREATION, &value)
}

fn pdr(kind: u16, id: u16, information: &[Vec<u8>]) -> Vec<u8> {
    let far = ie(FAR_ID, &u32::from(id).to_be_bytes());
    group(
        kind,
        &[ie(PDR_ID, &id.to_be_bytes()), group(PDI, information), far],
    )
}

fn far(kind: u16, id: u32, action: u8, parameters: &[Vec<u8>]) -> Vec<u8> {
    let inner = match kind {
        CREATE_FAR => FORWARDING_PARAMETERS,
        _ => UPDATE_FORWARDING_PARAMETERS,
    };
    let mut elements = vec![ie(FAR_ID, &id.to_be_bytes()), ie(APPLY_ACTION, &[action])];
    if !parameters.is_empty() {
        elements.push(group(inner, parameters));
    }
    group(kind, &elements)
}

const FORWARD: u8 = 0b10;
const BUFFER: u8 = 0b1100;

fn from(interface: u8) -> Vec<u8> {
    ie(SOURCE_INTERFACE, &[interface])
}

fn to(interface: u8) -> Vec<u8> {
    ie(DESTINATION_INTERFACE, &[interface])
}

fn found(bytes: &[u8]) -> Message {
    read(bytes).expect("a message")
}

fn end(role: Role, address: [u8; 4], teid: u32) -> BearerEnd {
    let address = Address::v4(address);
    let end = TunnelEnd { address, teid };
    BearerEnd { role, end }
}

fn ends(message: &Message) -> Vec<BearerEnd> {
    let ends = message.bearers.iter().flat_map(|bearer| &bearer.ends);
    ends.copied().collect()
}

fn text(digits: Option<&Digits>) -> Option<&str> {
    digits.map(Digits::as_str)
}

/// The establishment of a PDU session whose UPF chooses its end, with the device still without radio.
fn establishment() -> Vec<u8> {
    let up = [
        from(0),
        chosen_by_user_plane(),
        ie(NETWORK_INSTANCE, b"\x06access\x07example"),
    ];
    let address = ie(UE_IP_ADDRESS, &[0b110, 10, 0, 0, 9]);
    let down = [
        from(1),
        ie(NETWORK_INSTANCE, b"\x03IMS\x06mnc001\x06mcc001\x04gprs"),
        address,
    ];
    message(
        50,
        0,
        &[
            ie(NODE_ID, &[0, 192, 0, 2, 4]),
            ie(F_SEID, &[2, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 192, 0, 2, 4]),
            pdr(CREATE_PDR, 1, &up),
            pdr(CREATE_PDR, 2, &down),
            far(CREATE_FAR, 1, FORWARD, &[to(1)]),
            far(CREATE_FAR, 2, BUFFER, &[]),
            group(CREATE_QER, &[ie(109, &[0, 0, 0, 1]), ie(QFI, &[9])]),
            ie(0x8001, b"\0\x07vendor"),
            ie(S_NSSAI, &[1, 0, 0, 0xab]),
            ie(RAT_TYPE, &[10]),
        ],
    )
}

fn answer() -> Vec<u8> {
    let created = [ie(PDR_ID, &[0, 1]), f_teid(0xbe51, UPF)];
    message(
        51,
        0x1122,
        &[
            ie(NODE_ID, &[0, 192, 0, 2, 7]),
            ie(CAUSE, &[1]),
            ie(F_SEID, &[2, 0, 0, 0, 0, 0, 0, 0, 7, 192, 0, 2, 7]),
            group(CREATED_PDR, &created),
        ],
    )
}

/// How a session goes on with what its earlier messages told.
fn settled(messages: &[Vec<u8>]) -> Vec<Message> {
    let mut roles = Roles::default();
    let mut settle = |bytes: &Vec<u8>| {
        let mut message = found(bytes);
        roles.settle(&mut message);
        message
    };
    messages.iter().map(&mut settle).collect()
}

#[test]
fn an_establishment_tells_the_session_and_what_is_still_to_come() {
    let found = found(&establishment());
    assert_eq!(
        (found.procedure, found.phase),
        (Procedure::CreateSession, Phase::Request)
    );
    assert_eq!((found.sequence, found.receiver_key), (5, 0));
    let (address, key) = (Address::v4([192, 0, 2, 4]), 0x1122);
    assert_eq!(found.sender_end, Some(ControlEnd { address, key }));
    assert_eq!(found.node, Some(address));
    assert_eq!(found.ue.v4, Some(Address::v4([10, 0, 0, 9])));
    // The transport network's name towards the radio side is none of the access point's.
    assert_eq!(found.apn.as_deref(), Some("ims"));
    assert_eq!(
        found.slice.map(|slice| slice.to_string()).as_deref(),
        Some("1-0000AB")
    );
    assert_eq!(found.rat, Some(Rat::Nr));
    assert_eq!(ends(&found), []);
    let awaits = |rule, role| RuleChange {
        rule,
        change: Change::Awaits(role),
    };
    let wanted = [
        awaits(Rule::Detection(1), Role::Core),
        awaits(Rule::Forwarding(1), Role::TransitUp),
        awaits(Rule::Forwarding(2), Role::Access),
    ];
    assert_eq!(found.rules, wanted);
}

#[test]
fn the_user_planes_choice_is_told_by_its_answer() {
    let messages = settled(&[establishment(), answer()]);
    assert_eq!(ends(&messages[1]), [end(Role::Core, UPF, 0xbe51)]);
    assert!(messages[1].cause.is_some_and(|cause| cause.accepted));
    assert_eq!(messages[1].receiver_key, 0x1122);
    // Alone it does not say which side's end it is.
    assert_eq!(ends(&found(&answer())), []);
}

#[test]
fn an_update_moves_the_session_to_another_base_station_without_naming_the_side() {
    let update = |teid| {
        let parameters = [outer_header(teid, GNB)];
        message(52, 7, &[far(UPDATE_FAR, 2, FORWARD, &parameters)])
    };
    let messages = settled(&[establishment(), answer(), update(0xaa), update(0xbb)]);
    assert_eq!(ends(&messages[2]), [end(Role::Access, GNB, 0xaa)]);
    assert_eq!(ends(&messages[3]), [end(Role::Access, GNB, 0xbb)]);
}

#[test]
fn an_idle_devices_rule_leads_nowhere() {
    let idle = found(&message(52, 7, &[far(UPDATE_FAR, 2, BUFFER, &[])]));
    let rule = Rule::Forwarding(2);
    assert_eq!(
        idle.rules,
        [RuleChange {
            rule,
            change: Change::Ends
        }]
    );
    // Before the radio side is there, an end of zeros stands for it.
    let unknown = [to(0), outer_header(0, GNB), outer_header(1, [0; 4])];
    let unknown = found(&message(52, 7, &[far(UPDATE_FAR, 2, FORWARD, &unknown)]));
    assert_eq!(ends(&unknown), []);
}

#[test]
fn removed_rules_end() {
    let removed = found(&message(
        52,
        7,
        &[
            group(REMOVE_PDR, &[ie(PDR_ID, &[0, 1])]),
            group(REMOVE_FAR, &[ie(FAR_ID, &[0, 0, 0, 2])]),
            group(REMOVE_TRAFFIC_ENDPOINT, &[ie(TRAFFIC_ENDPOINT_ID, &[3])]),
        ],
    ));
    let rules = [Rule::Detection(1), Rule::Forwarding(2), Rule::Endpoint(3)];
    let wanted = rules.map(|rule| RuleChange {
        rule,
        change: Change::Ends,
    });
    assert_eq!(removed.rules, wanted);
}

#[test]
fn each_side_of_the_user_plane_has_its_role() {
    let local = |interface, kind: Option<u8>| {
        let kind = kind.map(|kind| ie(INTERFACE_TYPE, &[kind]));
        let mut information = vec![from(interface), f_teid(1, UPF)];
        information.extend(kind);
        let found = found(&message(50, 0, &[pdr(CREATE_PDR, 1, &information)]));
        ends(&found).first().map(|end| end.role)
    };
    assert_eq!(local(0, None), Some(Role::Core));
    assert_eq!(local(0, Some(11)), Some(Role::Core));
    assert_eq!(local(0, Some(1)), Some(Role::TransitUp));
    assert_eq!(local(1, Some(15)), Some(Role::TransitDown));
    assert_eq!(local(0, Some(10)), Some(Role::Forwarding));
    assert_eq!(local(3, None), None);
    let remote = |interface, kind: Option<u8>| {
        let kind = kind.map(|kind| ie(INTERFACE_TYPE, &[kind]));
        let mut parameters = vec![to(interface), outer_header(1, GNB)];
        parameters.extend(kind);
        let far = far(CREATE_FAR, 1, FORWARD, &parameters);
        let found = found(&message(50, 0, &[far]));
        ends(&found).first().map(|end| end.role)
    };
    assert_eq!(remote(0, None), Some(Role::Access));
    assert_eq!(remote(0, Some(1)), Some(Role::TransitDown));
    assert_eq!(remote(1, None), Some(Role::TransitUp));
    assert_eq!(remote(0, Some(14)), Some(Role::Forwarding));
    assert_eq!(remote(3, None), None);
}

#[test]
fn an_endpoint_takes_the_side_of_the_rules_that_share_it() {
    let endpoint = ie(TRAFFIC_ENDPOINT_ID, &[4]);
    let shared = group(CREATE_TRAFFIC_ENDPOINT, &[endpoint.clone(), f_teid(9, UPF)]);
    let found = found(&message(
        50,
        0,
        &[shared, pdr(CREATE_PDR, 1, &[from(0), endpoint])],
    ));
    assert_eq!(ends(&found), [end(Role::Core, UPF, 9)]);
}

#[test]
fn both_address_families_of_an_end_are_told() {
    let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let both = [&[3, 0, 0, 0, 9][..], &UPF, &address].concat();
    let found = found(&message(
        50,
        0,
        &[pdr(CREATE_PDR, 1, &[from(0), ie(F_TEID, &both)])],
    ));
    let addresses = ends(&found).into_iter().map(|end| end.end.address);
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        [Address::v4(UPF), Address::v6(address)]
    );
}

#[test]
fn a_device_has_an_address_a_prefix_or_both() {
    let ue = |value: &[u8]| {
        let information = [from(1), ie(UE_IP_ADDRESS, value)];
        found(&message(50, 0, &[pdr(CREATE_PDR, 1, &information)])).ue
    };
    let host = [0x20, 1, 0xd, 0xb8, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 1];
    let of_64 = Address(0x2001_0db8_0000_1234_0000_0000_0000_0000);
    let of_56 = Address(0x2001_0db8_0000_1200_0000_0000_0000_0000);
    let both = ue(&[&[0b11, 10, 0, 0, 9][..], &host].concat());
    assert_eq!(
        (both.v4, both.v6),
        (Some(Address::v4([10, 0, 0, 9])), Some((of_64, 64)))
    );
    // A length of the prefix's own, and eight bits for the device to delegate.
    assert_eq!(
        ue(&[&[0b100_0001][..], &host, &[56]].concat()).v6,
        Some((of_56, 56))
    );
    assert_eq!(
        ue(&[&[0b1001][..], &host, &[8]].concat()).v6,
        Some((of_56, 56))
    );
    // Chosen by the user plane: no address yet.
    assert_eq!(ue(&[0b11_0000]).v4, None);
}

#[test]
fn a_users_identities_stand_behind_their_lengths() {
    let identity = |value: &[u8]| found(&message(50, 0, &[ie(USER_ID, value)])).identity;
    let coded = identity(
        b"\x0f\x08\x00\x01\x01\x00\x00\x00\x00\xf1\x08\x53\x21\x43\x00\x00\x00\x10\x10\x07\x94\x51\x11\x32\x54\x76\xf8\x03a@b",
    );
    assert_eq!(text(coded.imsi.as_ref()), Some("001010000000001"));
    assert_eq!(text(coded.imei.as_ref()), Some("3512340000000101"));
    assert_eq!(text(coded.msisdn.as_ref()), Some("4915112345678"));
    let in_text = identity(
        b"\x70\x14imsi-001010000000001\x14msisdn-4915112345678\x17imeisv-3512340000000101",
    );
    assert_eq!(in_text, coded);
    // Text where coded digits belong gives nobody's number.
    assert_eq!(identity(b"\x01\x0f001010000000001").imsi, None);
}

#[test]
fn a_tunnel_with_several_flows_has_none_of_their_classes() {
    let class = |flows: &[u8]| {
        let mut elements = vec![pdr(CREATE_PDR, 1, &[from(0), f_teid(1, UPF)])];
        let enforced = flows
            .iter()
            .map(|flow| group(CREATE_QER, &[ie(QFI, &[*flow])]));
        elements.extend(enforced);
        found(&message(50, 0, &elements)).bearers[0].qos_class
    };
    assert_eq!(class(&[]), None);
    assert_eq!(class(&[9, 9]), Some(9));
    assert_eq!(class(&[9, 5]), None);
    assert_eq!(class(&[9, 5, 5]), None);
}

#[test]
fn causes_from_64_on_refuse() {
    let cause = |number| found(&message(51, 1, &[ie(CAUSE, &[number])])).cause;
    let accepted = |number| cause(number).map(|cause| cause.accepted);
    assert_eq!(accepted(0), None);
    assert_eq!([1, 2, 3, 63].map(accepted), [Some(true); 4]);
    assert_eq!([64, 65, 75, 255].map(accepted), [Some(false); 4]);
    assert_eq!(cause(75).map(|cause| cause.number), Some(75));
}

#[test]
fn a_report_tells_its_gravest_reason() {
    let report = |flags| found(&message(56, 1, &[ie(REPORT_TYPE, &[flags])])).report;
    assert_eq!(report(0b10), Some(Report::Usage));
    assert_eq!(report(0b11), Some(Report::DownlinkData));
    assert_eq!(report(0b1000), Some(Report::Inactivity));
    assert_eq!(report(0b110), Some(Report::TunnelUnknown(None)));
    assert_eq!(report(0b10_0000), Some(Report::Other));
    let error = group(ERROR_INDICATION_REPORT, &[f_teid(0xaa, GNB)]);
    let error = found(&message(56, 1, &[ie(REPORT_TYPE, &[0b100]), error])).report;
    let unknown = end(Role::Access, GNB, 0xaa).end;
    assert_eq!(error, Some(Report::TunnelUnknown(Some(unknown))));
}

#[test]
fn nodes_greet_associate_and_part() {
    let stamp = ie(RECOVERY_TIME_STAMP, &[0xe9, 1, 2, 3]);
    let beat = found(&node_message(1, std::slice::from_ref(&stamp)));
    assert_eq!(
        (beat.procedure, beat.phase),
        (Procedure::Echo, Phase::Request)
    );
    assert_eq!((beat.sequence, beat.recovery), (5, Some(0xe901_0203)));
    let set_up = found(&node_message(6, &[ie(NODE_ID, b"\x02\x03upf"), stamp]));
    assert_eq!(
        (set_up.procedure, set_up.phase),
        (Procedure::Association, Phase::Response)
    );
    assert_eq!(set_up.node, None);
    let release = found(&node_message(9, &[]));
    assert_eq!(release.procedure, Procedure::AssociationRelease);
    let others = [
        (3, 3),
        (4, 3),
        (8, 7),
        (11, 11),
        (13, 12),
        (15, 14),
        (17, 16),
        (99, 99),
    ];
    for (kind, procedure) in others {
        let found = found(&node_message(kind, &[]));
        assert_eq!(found.procedure, Procedure::Other(procedure), "{kind}");
    }
}

#[test]
fn messages_that_follow_in_one_datagram_are_read_too() {
    let mut first = establishment();
    first[0] |= 0b100;
    let both = [first, answer()].concat();
    let procedures = read_all(&both).map(|message| message.expect("a message").phase);
    assert_eq!(
        procedures.collect::<Vec<_>>(),
        [Phase::Request, Phase::Response]
    );
    // Bytes behind a message that is the last are none.
    let padded = [answer(), vec![0x21; 9]].concat();
    assert_eq!(read_all(&padded).count(), 1);
    let cut = read_all(&both[..both.len() - 1]).map(|message| message.is_ok());
    assert_eq!(cut.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn malformed_messages_are_told_by_their_fault() {
    let whole = establishment();
    let mut version = whole.clone();
    version[0] = 0x41;
    let too_long = message(50, 0, &[vec![0, 60, 0, 9, 0]]);
    let half_head = message(50, 0, &[vec![0, 60, 0]]);
    let in_group = message(50, 0, &[ie(CREATE_PDR, &[0, 2, 0, 9, 0])]);
    let short_value = message(50, 0, &[ie(F_SEID, &[2, 0, 0])]);
    let cut_address = message(
        50,
        0,
        &[pdr(
            CREATE_PDR,
            1,
            &[ie(F_TEID, &[3, 0, 0, 0, 1, 1, 1, 1, 1])],
        )],
    );
    let prefix = ie(
        UE_IP_ADDRESS,
        &[&[0b100_0001][..], &[0; 16], &[129]].concat(),
    );
    let prefix = message(50, 0, &[pdr(CREATE_PDR, 1, &[prefix])]);
    let cases = [
        (&whole[..whole.len() - 1], Malformed::Truncated),
        (&whole[..3], Malformed::Truncated),
        (&[0x21, 50, 0, 4, 0, 0, 0, 0], Malformed::Truncated),
        (&version, Malformed::Version),
        (&too_long, Malformed::Length),
        (&half_head, Malformed::Truncated),
        (&in_group, Malformed::Length),
        (&short_value, Malformed::Truncated),
        (&cut_address, Malformed::Truncated),
        (&prefix, Malformed::Value),
    ];
    for (bytes, fault) in cases {
        assert_eq!(read(bytes), Err(fault), "{bytes:x?}");
    }
}

#[test]
fn a_message_with_more_rules_than_a_session_has_is_not_believed() {
    let rules = |count: u16| {
        let rule = |id: u16| group(REMOVE_PDR, &[ie(PDR_ID, &id.to_be_bytes())]);
        message(52, 7, &(0..count).map(rule).collect::<Vec<_>>())
    };
    assert_eq!(found(&rules(MAX_RULES as u16)).rules.len(), MAX_RULES);
    assert_eq!(read(&rules(MAX_RULES as u16 + 1)), Err(Malformed::Value));
    let tunnels = |count: u16| {
        let rule = |id: u16| pdr(CREATE_PDR, id, &[from(0), f_teid(u32::from(id) + 1, UPF)]);
        message(50, 0, &(0..count).map(rule).collect::<Vec<_>>())
    };
    let most = (MAX_BEARERS * MAX_ENDS) as u16;
    assert_eq!(read(&tunnels(most + 1)), Err(Malformed::Value));
    assert_eq!(ends(&found(&tunnels(60))).len(), 60);
}

#[test]
fn a_message_that_is_cut_off_is_none() {
    for whole in [establishment(), answer()] {
        for count in 0..whole.len() {
            assert_eq!(read(&whole[..count]), Err(Malformed::Truncated), "{count}");
        }
    }
}

#[test]
fn a_shorter_message_says_less_and_nothing_else() {
    let bytes = establishment();
    let whole = found(&bytes);
    let mut readable = 0;
    for count in 16..bytes.len() {
        let mut shorter = bytes[..count].to_vec();
        shorter[2..4].copy_from_slice(&(count as u16 - 4).to_be_bytes());
        let Ok(shorter) = read(&shorter) else {
            continue;
        };
        readable += 1;
        assert!(shorter.sender_end.is_none() || shorter.sender_end == whole.sender_end);
        assert!(shorter.ue.v4.is_none() || shorter.ue == whole.ue);
        assert!(shorter.slice.is_none() || shorter.slice == whole.slice);
        let is_of_whole = |change| whole.rules.contains(change);
        assert!(shorter.rules.iter().all(is_of_whole), "{count}");
    }
    // Only where an element ends.
    assert_eq!(readable, 10);
}

/// Elements of any kind, groups among them.
fn any_elements(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let kind = prop_oneof![
        0..32_u16,
        39..61_u16,
        84..131_u16,
        Just(141),
        Just(160),
        any::<u16>()
    ];
    let leaf = (kind.clone(), prop::collection::vec(any::<u8>(), 0..30))
        .prop_map(|(kind, value)| ie(kind, &value));
    let groups = leaf.prop_recursive(depth, 24, 5, move |inner| {
        (kind.clone(), prop::collection::vec(inner, 0..5))
            .prop_map(|(kind, elements)| group(kind, &elements))
    });
    prop::collection::vec(groups, 0..6)
        .prop_map(|all| all.concat())
        .boxed()
}

proptest! {
    #[test]
    fn any_bytes_are_messages_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (read(&bytes), read_all(&bytes).count());
    }

    #[test]
    fn any_elements_are_a_message_or_none(kind in any::<u8>(), elements in any_elements(3)) {
        if let Ok(mut message) = read(&message(kind, 1, &[elements])) {
            Roles::default().settle(&mut message);
            prop_assert!(message.rules.len() <= MAX_RULES);
            prop_assert!(message.bearers.len() <= MAX_BEARERS);
        }
    }

    #[test]
    fn a_damaged_message_is_a_message_or_none(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for mut bytes in [establishment(), answer()] {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = read_all(&bytes).count();
        }
    }
}
