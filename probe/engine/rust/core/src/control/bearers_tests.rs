use super::*;
use crate::control::identity::{Cell, Plmn};

const S: u64 = SECOND_NS;

fn address(octet: u8) -> Address {
    Address::v4([10, 0, 0, octet])
}

fn end(octet: u8, teid: u32) -> TunnelEnd {
    TunnelEnd {
        address: address(octet),
        teid,
    }
}

fn access(octet: u8, teid: u32) -> BearerEnd {
    BearerEnd {
        role: Role::Access,
        end: end(octet, teid),
    }
}

fn core(octet: u8, teid: u32) -> BearerEnd {
    BearerEnd {
        role: Role::Core,
        end: end(octet, teid),
    }
}

fn cell(number: u32) -> Located {
    let plmn = Plmn::read([0x00, 0xf1, 0x10]).expect("001-01");
    let location = Location {
        cell: Some(Cell::Ecgi { plmn, cell: number }),
        ..Location::default()
    };
    Located {
        location,
        time_ns: 0,
        by: Some(Protocol::Gtpv2),
        is_asked: false,
    }
}

/// A context in cell 1 with one bearer between eNB 1 and SGW 9.
fn attached(bearers: &mut Bearers, subscriber: u8) -> ContextId {
    let id = bearers.add(S);
    bearers.update(id, S, |context| {
        context.subscriber = Some([subscriber; 16]);
        context.located = cell(1);
    });
    bearers.set_end(id, 5, core(9, u32::from(subscriber)), S);
    bearers.set_end(id, 5, access(1, u32::from(subscriber)), S);
    bearers.set_address(id, Address::v4([10, 1, 0, subscriber]));
    id
}

fn subscriber_at(bearers: &Bearers, end: TunnelEnd, now_ns: u64) -> Option<u8> {
    let found = bearers.at_tunnel(end, None, now_ns)?;
    Some(found.context.subscriber?[0])
}

#[test]
fn a_context_is_found_by_both_ends_of_its_tunnel_and_by_its_address() {
    let mut bearers = Bearers::new(10);
    let id = attached(&mut bearers, 7);
    bearers.set_qos_class(id, 5, 9);
    let found = bearers.at_tunnel(end(9, 7), None, S).expect("known");
    assert_eq!((found.id, found.role), (id, Some(Role::Core)));
    assert_eq!((found.qos_class, found.located), (Some(9), cell(1)));
    assert_eq!(subscriber_at(&bearers, end(1, 7), S), Some(7));
    assert!(bearers.at_address(Address::v4([10, 1, 0, 7])).is_some());
    assert!(bearers.at_tunnel(end(9, 8), None, S).is_none());
}

#[test]
fn after_a_handover_the_old_end_counts_for_the_old_cell_until_its_end_marker() {
    for marker in [false, true] {
        let mut bearers = Bearers::new(10);
        let id = attached(&mut bearers, 7);
        bearers.set_end(id, 5, access(2, 70), 5 * S);
        bearers.update(id, 5 * S, |context| context.located = cell(2));
        let at = |bearers: &Bearers, end, now| bearers.at_tunnel(end, None, now).map(|f| f.located);
        assert_eq!(at(&bearers, end(1, 7), 6 * S), Some(cell(1)));
        assert_eq!(at(&bearers, end(2, 70), 6 * S), Some(cell(2)));
        assert_eq!(at(&bearers, end(9, 7), 6 * S), Some(cell(2)));
        if marker {
            bearers.on_end_marker(end(1, 7));
            assert_eq!(at(&bearers, end(1, 7), 6 * S), None);
        }
        assert_eq!(at(&bearers, end(1, 7), 16 * S), None);
        bearers.on_end_marker(end(2, 70));
        assert!(at(&bearers, end(2, 70), 6 * S).is_some(), "it is in use");
    }
}

#[test]
fn a_tunnel_end_and_an_address_belong_to_who_got_them_last() {
    let mut bearers = Bearers::new(10);
    let first = attached(&mut bearers, 7);
    let second = attached(&mut bearers, 8);
    bearers.set_end(second, 5, core(9, 7), 2 * S);
    bearers.set_address(second, Address::v4([10, 1, 0, 7]));
    assert_eq!(subscriber_at(&bearers, end(9, 7), 2 * S), Some(8));
    bearers.remove(first);
    assert_eq!(subscriber_at(&bearers, end(9, 7), 2 * S), Some(8));
    assert!(bearers.at_address(Address::v4([10, 1, 0, 7])).is_some());
    assert_eq!(subscriber_at(&bearers, end(1, 7), 2 * S), None);
}

#[test]
fn nothing_is_left_of_a_context_that_is_removed() {
    let mut bearers = Bearers::new(10);
    let id = attached(&mut bearers, 7);
    let control = ControlEnd {
        address: address(9),
        key: 77,
    };
    let ue = UeKey {
        protocol: Protocol::S1ap,
        node: address(1),
        id: 5,
    };
    bearers.add_control(id, Protocol::Gtpv2, control);
    bearers.add_ue(id, ue);
    bearers.set_end(id, 5, access(2, 70), 2 * S);
    assert_eq!(bearers.by_control(Protocol::Gtpv2, control), [id]);
    assert_eq!(bearers.by_ue(ue), [id]);
    assert!(bearers.remove(id).is_some() && bearers.remove(id).is_none());
    assert!(bearers.is_empty());
    let left = (
        bearers.by_tunnel.len(),
        bearers.by_address.len(),
        bearers.by_control.len(),
        bearers.by_ue.len(),
    );
    assert_eq!(left, (0, 0, 0, 0));
}

#[test]
fn an_idle_device_keeps_its_core_side() {
    let mut bearers = Bearers::new(10);
    let id = attached(&mut bearers, 7);
    bearers.add_control(
        id,
        Protocol::Gtpv2,
        ControlEnd {
            address: Address::v4([10, 0, 0, 9]),
            key: 7,
        },
    );
    bearers.release_access(id);
    assert_eq!(subscriber_at(&bearers, end(9, 7), 3 * S), Some(7));
    assert_eq!(subscriber_at(&bearers, end(1, 7), 3 * S), None);
    bearers.remove_bearer(id, 5);
    assert_eq!(subscriber_at(&bearers, end(9, 7), 3 * S), None);
}

#[test]
fn the_table_is_bounded_and_what_is_shed_is_counted() {
    let mut bearers = Bearers::new(100);
    for number in 0..10_000_u32 {
        let id = bearers.add(u64::from(number));
        bearers.set_end(id, 5, core(9, number), u64::from(number));
        bearers.set_address(id, Address::v4(number.to_be_bytes()));
    }
    assert_eq!((bearers.len(), bearers.shed), (100, 9_900));
    assert_eq!(bearers.by_tunnel.len(), 100);
    assert_eq!(bearers.by_address.len(), 100);
    assert!(bearers.at_tunnel(end(9, 9_999), None, 0).is_some());
}

#[test]
fn a_packet_has_the_class_of_its_qos_flow() {
    let mut bearers = Bearers::new(10);
    let id = bearers.add(0);
    let core = BearerEnd {
        role: Role::Core,
        end: end(9, 7),
    };
    bearers.set_end(id, 0, core, 0);
    let flow = |id, qos_class| QosFlow {
        id,
        qos_class,
        priority: None,
    };
    // The numbers that another protocol gives: PDU session 5 and what it holds.
    bearers.set_flows(id, 5, &[flow(1, Some(9)), flow(2, Some(1)), flow(3, None)]);
    let class = |bearers: &Bearers, qfi| {
        let found = bearers.at_tunnel(end(9, 7), qfi, S).expect("known");
        found.qos_class
    };
    assert_eq!(class(&bearers, Some(1)), Some(9));
    assert_eq!(class(&bearers, Some(2)), Some(1));
    assert_eq!(class(&bearers, Some(3)), None, "not told");
    assert_eq!(class(&bearers, Some(7)), None, "an identifier is no class");
    bearers.set_flows(id, 5, &[flow(2, Some(5))]);
    assert_eq!(class(&bearers, Some(2)), Some(5), "changed");
    bearers.set_flows(id, 6, &[flow(2, Some(7))]);
    assert_eq!(class(&bearers, Some(2)), None, "two sessions disagree");
    bearers.set_qos_class(id, 0, 8);
    assert_eq!(class(&bearers, None), Some(8));
}

#[test]
fn bearers_that_are_asked_for_at_once_take_no_place_from_each_other() {
    let mut bearers = Bearers::new(10);
    let id = bearers.add(0);
    let core = |teid| BearerEnd {
        role: Role::Core,
        end: end(9, teid),
    };
    let class = |bearers: &Bearers, teid| {
        let found = bearers.at_tunnel(end(9, teid), None, 100 * S);
        found.map(|found| found.qos_class)
    };
    bearers.ask(id, core(7), Some(1));
    bearers.ask(id, core(8), Some(2));
    assert_eq!(class(&bearers, 7), Some(Some(1)), "before the answer");
    assert_eq!(class(&bearers, 8), Some(Some(2)));
    let answered = bearers.asked_class(id, &[access(1, 70), core(7)]);
    assert_eq!(answered, Some(1));
    bearers.set_end(id, 6, core(7), 0);
    bearers.set_qos_class(id, 6, 1);
    bearers.ask(id, core(9), Some(3));
    assert_eq!(class(&bearers, 7), Some(Some(1)), "after a further one");
    for teid in 100..1000 {
        bearers.ask(id, core(teid), None);
    }
    assert_eq!(bearers.get(id).unwrap().asked.len(), MAX_BEARERS);
    assert_eq!(class(&bearers, 8), None, "the oldest goes");
    assert_eq!(class(&bearers, 7), Some(Some(1)), "and not the bearer");
    bearers.remove(id);
    assert!(bearers.by_tunnel.is_empty());
}

#[test]
fn an_end_that_was_asked_for_may_become_anothers() {
    let mut bearers = Bearers::new(10);
    let (first, second) = (bearers.add(0), bearers.add(0));
    let core = BearerEnd {
        role: Role::Core,
        end: end(9, 7),
    };
    bearers.ask(first, core, Some(1));
    bearers.set_end(second, 5, core, 0);
    bearers.remove(first);
    let found = bearers.at_tunnel(end(9, 7), None, 0).expect("known");
    assert_eq!((found.id, found.qos_class), (second, None));
}

#[test]
fn a_move_that_two_protocols_tell_of_one_after_the_other_happened_once() {
    let mut bearers = Bearers::new(10);
    let id = attached(&mut bearers, 7);
    // PFCP numbers no bearers.
    bearers.set_end(id, 0, access(1, 7), S);
    bearers.set_end(id, 5, access(2, 70), 5 * S);
    bearers.update(id, 5 * S, |context| context.located = cell(2));
    let is_moved = |bearers: &Bearers| {
        let context = bearers.get(id).expect("alive");
        let old = bearers.at_tunnel(end(1, 7), None, 6 * S).expect("late");
        assert_eq!(old.located, cell(1));
        assert_eq!(context.located_at(address(1), 6 * S), Some(cell(1)));
        assert_eq!(context.access_address(), Some(address(2)));
        assert!(context.is_at(address(2)) && !context.is_at(address(1)));
    };
    is_moved(&bearers);
    bearers.set_end(id, 0, access(2, 70), 5 * S + 2);
    is_moved(&bearers);
    assert_eq!(bearers.get(id).expect("alive").located, cell(2));
}

#[test]
fn at_another_base_station_a_device_is_in_no_cell_until_one_is_told() {
    let mut bearers = Bearers::new(10);
    let id = attached(&mut bearers, 7);
    bearers.set_end(id, 5, access(1, 70), 5 * S);
    assert_eq!(bearers.get(id).expect("alive").located, cell(1));
    bearers.set_end(id, 5, access(2, 70), 5 * S);
    let left = bearers.get(id).expect("alive");
    assert_eq!(left.located, Located::default());
    assert_eq!(left.located_at(address(1), 6 * S), Some(cell(1)));
}
