use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::control::message::{Message, Phase, Procedure};
use crate::record::pseudonym::Pseudonyms;

const S: u64 = 1_000_000_000;
const LIMIT: usize = 64;

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(Address::v4),
        any::<[u8; 16]>().prop_map(Address::v6),
    ]
}

fn plmn() -> impl Strategy<Value = Plmn> {
    let digits = "[0-9]{5,6}";
    digits.prop_map(|text| Plmn::from_text(text.as_bytes()).expect("five or six digits"))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::*;
    proptest::sample::select(vec![Gtpv1, Gtpv2, Pfcp, Radius, S1ap, Ngap])
}

fn role() -> impl Strategy<Value = Role> {
    use Role::*;
    proptest::sample::select(vec![Access, Core, TransitDown, TransitUp, Forwarding])
}

fn rat() -> impl Strategy<Value = Rat> {
    (1u8..=10).prop_map(|number| Rat::read(number).expect("all ten are known"))
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        any::<u16>().prop_map(Rule::Detection),
        any::<u32>().prop_map(Rule::Forwarding),
        any::<u8>().prop_map(Rule::Endpoint),
    ]
}

fn cell() -> impl Strategy<Value = Cell> {
    let numbers = (plmn(), any::<u16>(), any::<u32>(), any::<u64>());
    (0..4, numbers).prop_map(|(kind, (plmn, area, short, long))| match kind {
        0 => Cell::Cgi {
            plmn,
            area,
            cell: short as u16,
        },
        1 => Cell::Sai {
            plmn,
            area,
            service_area: short as u16,
        },
        2 => Cell::Ecgi { plmn, cell: short },
        _ => Cell::Ncgi { plmn, cell: long },
    })
}

fn area() -> impl Strategy<Value = Area> {
    (0..3, plmn(), any::<u32>()).prop_map(|(kind, plmn, code)| match kind {
        0 => Area::Lai {
            plmn,
            code: code as u16,
        },
        1 => Area::Tai {
            plmn,
            code: code as u16,
        },
        _ => Area::Tai5 { plmn, code },
    })
}

fn node() -> impl Strategy<Value = RanNode> {
    (any::<bool>(), plmn(), any::<u32>(), any::<u8>()).prop_map(|(is_enb, plmn, id, bits)| {
        if is_enb {
            RanNode::Enb { plmn, id, bits }
        } else {
            RanNode::Gnb { plmn, id, bits }
        }
    })
}

fn located() -> impl Strategy<Value = Located> {
    let location = (option::of(cell()), option::of(area()), option::of(node()));
    let location = location.prop_map(|(cell, area, node)| Location { cell, area, node });
    (location, any::<u64>(), option::of(protocol())).prop_map(|(location, time_ns, by)| Located {
        location,
        time_ns,
        by,
        is_asked: false,
    })
}

fn bearer_end() -> impl Strategy<Value = BearerEnd> {
    (role(), address(), any::<u32>()).prop_map(|(role, address, teid)| BearerEnd {
        role,
        end: TunnelEnd { address, teid },
    })
}

fn bearers() -> impl Strategy<Value = Vec<KnownBearer>> {
    let one = (
        any::<u8>(),
        vec(bearer_end(), 0..=MAX_ENDS),
        any::<Option<u8>>(),
        vec(any::<(u8, u8)>(), 0..=MAX_FLOWS),
    );
    let one = one.prop_map(|(id, ends, qos_class, flows)| KnownBearer {
        id,
        ends,
        qos_class,
        flows,
        seen: Vec::new(),
    });
    vec(one, 0..=MAX_BEARERS)
}

fn control() -> impl Strategy<Value = (Protocol, ControlEnd)> {
    (protocol(), address(), any::<u64>())
        .prop_map(|(protocol, address, key)| (protocol, ControlEnd { address, key }))
}

fn ue_key() -> impl Strategy<Value = UeKey> {
    (protocol(), address(), any::<u64>()).prop_map(|(protocol, node, id)| UeKey {
        protocol,
        node,
        id,
    })
}

fn slice() -> impl Strategy<Value = Slice> {
    any::<(u8, Option<u32>)>().prop_map(|(service_type, differentiator)| Slice {
        service_type,
        differentiator,
    })
}

prop_compose! {
    /// What is told of a context beside its keys, its times included.
    fn facts()(
        (subscriber, imei_tac) in any::<(Option<[u8; 16]>, Option<[u8; 8]>)>(),
        (added_ns, heard_ns) in any::<(u64, u64)>(),
        (registered, is_disconnected, is_asked_for) in any::<(bool, bool, bool)>(),
        named_by in option::of(protocol()),
        apn in option::of("[a-z.]{1,100}"),
        rat in option::of(rat()),
        slice in option::of(slice()),
        located in located(),
        left in option::of((address(), located(), any::<u64>())),
    ) -> Context {
        Context {
            subscriber,
            imei_tac,
            added_ns,
            heard_ns,
            registered,
            is_disconnected,
            is_asked_for,
            named_by,
            apn: apn.map(Arc::from),
            rat,
            slice,
            located,
            left,
            ..Context::default()
        }
    }
}

prop_compose! {
    fn context()(
        facts in facts(),
        v4 in option::of(any::<[u8; 4]>()),
        v6 in option::of(any::<[u8; 16]>()),
        bearers in bearers(),
        roles in vec((rule(), role()), 0..9),
        rules in vec((rule(), bearer_end()), 0..9),
        controls in vec(control(), 0..=MAX_KEYS),
        ue_keys in vec(ue_key(), 0..=MAX_KEYS),
    ) -> Context {
        Context {
            v4: v4.map(Address::v4),
            v6: v6.map(Address::v6),
            bearers,
            roles: Roles::of(roles),
            rules,
            controls,
            ue_keys,
            ..facts
        }
    }
}

fn kept() -> impl Strategy<Value = Kept> {
    let recovery = any::<(u32, u64)>().prop_map(|(counter, told_ns)| Recovery { counter, told_ns });
    let recoveries = vec((protocol(), address(), recovery), 0..4);
    (any::<u64>(), recoveries, vec(context(), 0..5)).prop_map(|(saved_ns, recoveries, contexts)| {
        Kept {
            saved_ns,
            recoveries,
            contexts,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_table_is_read_as_it_was_written(kept in kept()) {
        prop_assert_eq!(Kept::read(&kept.write()), Ok(kept));
    }

    #[test]
    fn what_is_cut_anywhere_is_refused(kept in kept(), at in any::<proptest::sample::Index>()) {
        let saved = kept.write();
        prop_assert!(Kept::read(&saved[..at.index(saved.len())]).is_err());
        prop_assert_eq!(Kept::read(&[&saved[..], &[0]].concat()), Err(Malformed::Length));
    }

    #[test]
    fn bytes_that_are_read_are_written_alike(saved in vec(any::<u8>(), 0..256)) {
        if let Ok(kept) = Kept::read(&saved) {
            prop_assert_eq!(kept.write(), saved);
        }
    }

    #[test]
    fn captures_are_told_apart(all in vec(("[a-z0-9]{0,9}", kept()), 0..4)) {
        let sections: Vec<_> = all.iter().map(|(name, kept)| (name.clone(), kept.write())).collect();
        prop_assert_eq!(unpack(&pack(&sections)), Ok(all));
    }

    /// Whatever a file says, a table keeps to its bounds, and what it holds is kept over a restart again.
    #[test]
    fn what_was_restored_is_kept_again(kept in kept(), limit in 1usize..4) {
        let now_ns = kept.saved_ns;
        let mut learner = Learner::new(limit);
        let outcome = learner.load(kept.clone(), now_ns);
        prop_assert_eq!(outcome.restored + outcome.outdated, kept.contexts.len() as u64);
        prop_assert!(learner.bearers.len() <= limit);
        let again = learner.save(now_ns);
        let mut second = Learner::new(limit);
        second.load(again.clone(), now_ns);
        prop_assert_eq!(second.save(now_ns), again);
    }
}

const fn v4(last: u8) -> [u8; 4] {
    [10, 0, 0, last]
}

fn end(last: u8, teid: u32) -> TunnelEnd {
    TunnelEnd {
        address: Address::v4(v4(last)),
        teid,
    }
}

/// A subscriber with a bearer between eNB 1 and SGW 9, and an address.
fn attached(learner: &mut Learner, subscriber: u8, address: u8, now_ns: u64) -> ContextId {
    let id = learner.bearers.add(now_ns);
    learner.bearers.update(id, now_ns, |context| {
        context.subscriber = Some([subscriber; 16]);
        context.apn = Some("internet".into());
    });
    learner.note_subscriber(id, [subscriber; 16]);
    for (role, last) in [(Role::Core, 9), (Role::Access, 1)] {
        let end = end(last, subscriber.into());
        learner
            .bearers
            .set_end(id, 5, BearerEnd { role, end }, now_ns);
    }
    learner.bearers.set_address(id, Address::v4(v4(address)));
    id
}

fn restarted(learner: &Learner, saved_ns: u64, now_ns: u64) -> (Learner, Restored) {
    let saved = learner.save(saved_ns).write();
    let mut fresh = Learner::new(LIMIT);
    let outcome = fresh.load(Kept::read(&saved).expect("what was written"), now_ns);
    (fresh, outcome)
}

fn subscriber_at_address(learner: &Learner, last: u8) -> Option<u8> {
    let found = learner.bearers.at_address(Address::v4(v4(last)))?;
    Some(found.context.subscriber?[0])
}

fn subscriber_at_tunnel(learner: &Learner, end: TunnelEnd, now_ns: u64) -> Option<u8> {
    let found = learner.bearers.at_tunnel(end, None, now_ns)?;
    Some(found.context.subscriber?[0])
}

#[test]
fn a_restart_finds_a_subscriber_by_address_and_by_both_ends_of_its_tunnel() {
    let mut learner = Learner::new(LIMIT);
    attached(&mut learner, 7, 100, S);
    let (again, outcome) = restarted(&learner, 2 * S, 3 * S);
    assert_eq!((outcome.restored, outcome.outdated), (1, 0));
    assert_eq!(subscriber_at_address(&again, 100), Some(7));
    assert_eq!(subscriber_at_tunnel(&again, end(9, 7), 3 * S), Some(7));
    assert_eq!(subscriber_at_tunnel(&again, end(1, 7), 3 * S), Some(7));
}

#[test]
fn an_address_that_went_to_another_is_not_given_back() {
    for order in [[10, 20], [20, 10]] {
        let mut learner = Learner::new(LIMIT);
        let [before, after] = order.map(|heard| heard * S);
        attached(&mut learner, 1, 100, before);
        attached(&mut learner, 2, 100, after);
        let (again, _) = restarted(&learner, 30 * S, 31 * S);
        assert_eq!(subscriber_at_address(&again, 100), Some(2));
        assert_eq!(subscriber_at_tunnel(&again, end(9, 1), 31 * S), Some(1));
    }
}

#[test]
fn a_tunnel_end_that_was_given_up_is_nobodys_after_a_restart() {
    let mut learner = Learner::new(LIMIT);
    let id = attached(&mut learner, 1, 100, S);
    let moved = BearerEnd {
        role: Role::Access,
        end: end(2, 1),
    };
    learner.bearers.set_end(id, 5, moved, 2 * S);
    assert_eq!(subscriber_at_tunnel(&learner, end(1, 1), 3 * S), Some(1));
    let (again, _) = restarted(&learner, 3 * S, 4 * S);
    assert_eq!(subscriber_at_tunnel(&again, end(1, 1), 4 * S), None);
    assert_eq!(subscriber_at_tunnel(&again, end(2, 1), 4 * S), Some(1));
}

#[test]
fn nothing_counts_after_a_long_silence_nor_whom_nobody_heard_of_for_a_day() {
    let day = MAX_AGE_NS;
    let mut learner = Learner::new(LIMIT);
    attached(&mut learner, 1, 100, S);
    attached(&mut learner, 2, 101, 2 * S + day);
    let saved_ns = 3 * S + day;
    let (again, outcome) = restarted(&learner, saved_ns, saved_ns + S);
    assert_eq!((outcome.restored, outcome.outdated), (1, 1));
    assert_eq!(subscriber_at_address(&again, 100), None);
    assert_eq!(subscriber_at_address(&again, 101), Some(2));
    let (again, outcome) = restarted(&learner, saved_ns, saved_ns + MAX_SILENCE_NS + 1);
    assert_eq!((outcome.restored, outcome.outdated), (0, 2));
    assert!(again.bearers.is_empty());
}

#[test]
fn of_too_many_those_heard_of_last_are_restored() {
    let mut learner = Learner::new(LIMIT);
    for number in 1..=9u8 {
        attached(&mut learner, number, number, u64::from(number) * S);
    }
    let mut small = Learner::new(3);
    let outcome = small.load(learner.save(10 * S), 11 * S);
    assert_eq!((outcome.restored, outcome.outdated), (3, 6));
    let found: Vec<_> = (1..=9)
        .filter_map(|last| subscriber_at_address(&small, last))
        .collect();
    assert_eq!(found, [7, 8, 9]);
}

#[test]
fn a_node_that_restarted_while_nobody_listened_has_lost_its_sessions() {
    let pseudonyms = Pseudonyms::new(b"key");
    let ends = [9, 1].map(|last| Address::v4(v4(last)));
    let echo = |recovery| Message {
        recovery: Some(recovery),
        ..Message::new(Protocol::Gtpv2, Procedure::Echo, Phase::Request)
    };
    let mut learner = Learner::new(LIMIT);
    let id = attached(&mut learner, 7, 100, S);
    let key = ControlEnd {
        address: ends[0],
        key: 1,
    };
    learner.bearers.add_control(id, Protocol::Gtpv2, key);
    learner.on_message(&echo(1), ends, S, &pseudonyms);
    for (recovery, left) in [(1, 1), (2, 0)] {
        let (mut again, _) = restarted(&learner, 2 * S, 3 * S);
        again.on_message(&echo(recovery), ends, 3 * S, &pseudonyms);
        assert_eq!(again.bearers.len(), left);
    }
}
