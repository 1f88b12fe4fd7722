use super::*;
use crate::control::identity::{Area, Cell, Digits, RanNode, Rat};
use crate::control::message::{Bearer, Cause, UeIds};
use crate::control::samples::plmn;

const S: u64 = 1_000_000_000;

/// MME, SGW, PGW, eNB 1 and 2.
const MME: u8 = 1;
const SGW: u8 = 2;
const PGW: u8 = 3;
const ENB1: u8 = 11;
const ENB2: u8 = 12;

fn node(octet: u8) -> Address {
    Address::v4([10, 0, 0, octet])
}

fn ends(from: u8, to: u8) -> [Address; 2] {
    [node(from), node(to)]
}

fn end(octet: u8, teid: u32) -> TunnelEnd {
    TunnelEnd {
        address: node(octet),
        teid,
    }
}

fn ecgi(cell: u32) -> Cell {
    Cell::Ecgi { plmn: plmn(), cell }
}

fn control(octet: u8, key: u64) -> Option<ControlEnd> {
    Some(ControlEnd {
        address: node(octet),
        key,
    })
}

fn bearer(ends: &[(Role, TunnelEnd)]) -> Vec<Bearer> {
    vec![Bearer {
        id: 5,
        ends: ends
            .iter()
            .map(|&(role, end)| BearerEnd { role, end })
            .collect(),
        ..Bearer::default()
    }]
}

fn accepted() -> Option<Cause> {
    Some(Cause {
        number: 16,
        accepted: true,
    })
}

fn refused() -> Option<Cause> {
    Some(Cause {
        number: 78,
        accepted: false,
    })
}

fn gtp(procedure: Procedure, phase: Phase, sequence: u32) -> Message {
    Message {
        sequence,
        ..Message::new(Protocol::Gtpv2, procedure, phase)
    }
}

fn imsi(number: u32) -> Identity {
    let digits = format!("00101{number:010}");
    Identity {
        imsi: Digits::from_text(digits.as_bytes()),
        msisdn: Digits::from_text(format!("4915{number:08}").as_bytes()),
        imei: Digits::from_text(b"3520990017614823"),
        temporary: None,
    }
}

/// The learner under test, and a clock of seconds.
struct Network {
    learner: Learner,
    pseudonyms: Pseudonyms,
}

impl Network {
    fn new() -> Self {
        Self {
            learner: Learner::new(100),
            pseudonyms: Pseudonyms::new(b"key"),
        }
    }

    fn say(&mut self, second: u64, ends: [Address; 2], message: &Message) -> Changes {
        self.learner
            .on_message(message, ends, second * S, &self.pseudonyms)
    }

    fn who(&self, number: u32) -> Pseudonym {
        self.pseudonyms.of(&format!("imsi:00101{number:010}"))
    }

    fn at(&self, end: TunnelEnd, second: u64) -> Option<(Option<Pseudonym>, Option<Cell>)> {
        let found = self.learner.bearers.at_tunnel(end, None, second * S)?;
        Some((found.context.subscriber, found.located.location.cell))
    }

    /// S11 create session, and the modify bearer that tells the eNB's side: from then on subscriber
    /// `number` is in cell 1 between eNB 1 and the SGW, with TEIDs that are its number.
    fn attach(&mut self, second: u64, number: u32) {
        self.ask_session(second, number);
        let teid = number;
        let answer = Message {
            cause: accepted(),
            receiver_key: u64::from(number),
            sender_end: control(SGW, u64::from(1000 + number)),
            bearers: bearer(&[
                (Role::Core, end(SGW, teid)),
                (Role::TransitUp, end(PGW, teid)),
            ]),
            ue: UeAddresses {
                v4: Some(Address::v4([10, 45, 0, number as u8])),
                v6: None,
            },
            ..gtp(Procedure::CreateSession, Phase::Response, number)
        };
        self.say(second, ends(SGW, MME), &answer);
        self.move_to(second, number, ENB1, teid, None);
    }

    fn ask_session(&mut self, second: u64, number: u32) {
        let request = Message {
            sender_end: control(MME, u64::from(number)),
            identity: imsi(number),
            apn: Some("internet".into()),
            rat: Some(Rat::Eutran),
            location: Location {
                cell: Some(ecgi(1)),
                area: Some(Area::Tai {
                    plmn: plmn(),
                    code: 7,
                }),
                node: None,
            },
            ..gtp(Procedure::CreateSession, Phase::Request, number)
        };
        self.say(second, ends(MME, SGW), &request);
    }

    fn move_to(&mut self, second: u64, number: u32, enb: u8, teid: u32, cell: Option<u32>) {
        let location = Location {
            cell: cell.map(ecgi),
            ..Location::default()
        };
        let request = Message {
            receiver_key: u64::from(1000 + number),
            bearers: bearer(&[(Role::Access, end(enb, teid))]),
            location,
            ..gtp(Procedure::ModifySession, Phase::Request, 500 + teid)
        };
        self.say(second, ends(MME, SGW), &request);
        let answer = Message {
            receiver_key: u64::from(number),
            cause: accepted(),
            ..gtp(Procedure::ModifySession, Phase::Response, 500 + teid)
        };
        self.say(second, ends(SGW, MME), &answer);
    }
}

#[test]
fn a_session_of_s11_names_both_directions_of_its_tunnel() {
    let mut network = Network::new();
    network.attach(1, 7);
    let known = Some((Some(network.who(7)), Some(ecgi(1))));
    assert_eq!(network.at(end(SGW, 7), 2), known);
    assert_eq!(network.at(end(ENB1, 7), 2), known);
    let found = network.learner.bearers.at_tunnel(end(SGW, 7), None, 2 * S);
    let context = found.expect("it is known").context;
    assert_eq!(context.apn.as_deref(), Some("internet"));
    assert_eq!(
        (context.rat, context.imei_tac),
        (Some(Rat::Eutran), Some(*b"35209900"))
    );
    assert_eq!(context.named_by, Some(Protocol::Gtpv2));
}

#[test]
fn links_lead_from_number_and_address_to_the_subscriber_once() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.attach(2, 7);
    let links = network.learner.take_links();
    let to = network.who(7);
    let from = [
        network.pseudonyms.of("msisdn:491500000007"),
        network.pseudonyms.of_address(Address::v4([10, 45, 0, 7])),
    ];
    assert!(links.iter().all(|link| link.to == to && link.since_ns == S));
    assert!(links.iter().any(|link| link.from == from[0]), "{links:?}");
    assert!(network.learner.take_links().is_empty());
}

#[test]
fn a_handover_moves_the_subscriber_to_the_new_cell() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.move_to(5, 7, ENB2, 70, Some(2));
    let (old, new) = (Some(ecgi(1)), Some(ecgi(2)));
    let who = Some(network.who(7));
    assert_eq!(network.at(end(ENB2, 70), 6), Some((who, new)));
    assert_eq!(network.at(end(SGW, 7), 6), Some((who, new)));
    assert_eq!(network.at(end(ENB1, 7), 6), Some((who, old)));
    network.learner.on_end_marker(end(ENB1, 7));
    assert_eq!(network.at(end(ENB1, 7), 6), None);
}

#[test]
fn a_tunnel_end_that_its_node_does_not_know_is_given_up() {
    let mut network = Network::new();
    network.attach(1, 7);
    let here = Some((Some(network.who(7)), Some(ecgi(1))));
    network.learner.on_error_indication(end(SGW, 7));
    assert_eq!(network.at(end(SGW, 7), 6), None);
    assert_eq!(network.at(end(ENB1, 7), 60), here, "the other end lives on");
}

#[test]
fn a_refused_session_leaves_nothing_and_tells_its_cause() {
    let mut network = Network::new();
    network.ask_session(1, 7);
    let answer = Message {
        cause: refused(),
        receiver_key: 7,
        ..gtp(Procedure::CreateSession, Phase::Response, 7)
    };
    let changes = network.say(2, ends(SGW, MME), &answer);
    let (ended, context) = changes.ended.expect("the request was seen");
    let subscriber = context.and_then(|context| context.subscriber);
    assert_eq!(subscriber, Some(network.who(7)));
    assert_eq!((ended.start_ns, ended.answered_ns), (S, Some(2 * S)));
    assert_eq!(ended.cause, refused());
    assert!(network.learner.bearers.is_empty());
}

#[test]
fn a_deleted_session_is_forgotten_and_its_tunnel_may_be_anothers() {
    let mut network = Network::new();
    network.attach(1, 7);
    let request = Message {
        receiver_key: 1007,
        ..gtp(Procedure::DeleteSession, Phase::Request, 9)
    };
    network.say(3, ends(MME, SGW), &request);
    assert!(network.at(end(SGW, 7), 3).is_some(), "not agreed yet");
    let answer = Message {
        receiver_key: 7,
        cause: accepted(),
        ..gtp(Procedure::DeleteSession, Phase::Response, 9)
    };
    let changes = network.say(3, ends(SGW, MME), &answer);
    assert!(changes.keys.contains(&DataKey::Tunnel(end(SGW, 7))));
    assert_eq!(network.at(end(SGW, 7), 3), None);
}

#[test]
fn a_key_that_is_used_again_without_a_goodbye_belongs_to_the_new_subscriber() {
    let mut network = Network::new();
    network.attach(1, 7);
    // The same control key and tunnel ends, another IMSI: the deletion was missed.
    let request = Message {
        sender_end: control(MME, 7),
        identity: imsi(8),
        apn: Some("internet".into()),
        ..gtp(Procedure::CreateSession, Phase::Request, 99)
    };
    network.say(10, ends(MME, SGW), &request);
    let answer = Message {
        cause: accepted(),
        receiver_key: 7,
        sender_end: control(SGW, 1007),
        bearers: bearer(&[(Role::Core, end(SGW, 7))]),
        ..gtp(Procedure::CreateSession, Phase::Response, 99)
    };
    network.say(10, ends(SGW, MME), &answer);
    let found = network.at(end(SGW, 7), 11).map(|(who, _)| who);
    assert_eq!(found, Some(Some(network.who(8))));
}

#[test]
fn s1ap_tells_where_the_subscriber_of_s11_is_by_the_tunnel_they_share() {
    let mut network = Network::new();
    network.attach(1, 7);
    let ids = UeIds {
        core: Some(50),
        access: Some(60),
    };
    let setup = Message {
        ue_ids: ids,
        bearers: bearer(&[(Role::Core, end(SGW, 7))]),
        ..Message::new(Protocol::S1ap, Procedure::ContextSetup, Phase::Request)
    };
    network.say(2, ends(MME, ENB1), &setup);
    let told = Message {
        ue_ids: ids,
        location: Location {
            cell: Some(ecgi(3)),
            area: None,
            node: Some(RanNode::Enb {
                plmn: plmn(),
                id: 1,
                bits: 20,
            }),
        },
        ..Message::new(Protocol::S1ap, Procedure::Transport, Phase::Indication)
    };
    network.say(3, ends(ENB1, MME), &told);
    let known = Some((Some(network.who(7)), Some(ecgi(3))));
    assert_eq!(network.at(end(SGW, 7), 4), known);
}

#[test]
fn a_retransmitted_request_is_one_request() {
    let mut network = Network::new();
    network.ask_session(1, 7);
    network.ask_session(4, 7);
    assert_eq!(network.learner.bearers.len(), 1);
    assert!(network.learner.take_unanswered(20 * S).is_empty());
    let unanswered = network.learner.take_unanswered(22 * S);
    assert_eq!(unanswered.len(), 1);
    assert_eq!(unanswered[0].0.retransmissions, 1);
    assert_eq!(unanswered[0].0.answered_ns, None);
    assert!(network.learner.bearers.is_empty());
}

#[test]
fn radius_alone_names_an_address_until_it_stops() {
    let mut network = Network::new();
    let ue = UeAddresses {
        v4: Some(Address::v4([10, 45, 0, 9])),
        v6: None,
    };
    let start = Message {
        sender_end: control(PGW, 77),
        identity: imsi(9),
        ue,
        location: Location {
            cell: Some(ecgi(4)),
            ..Location::default()
        },
        ..Message::new(Protocol::Radius, Procedure::AccountingStart, Phase::Request)
    };
    network.say(1, ends(PGW, 4), &start);
    let subscriber = |network: &Network| {
        let found = network
            .learner
            .bearers
            .at_address(Address::v4([10, 45, 0, 9]))?;
        found.context.subscriber
    };
    assert_eq!(subscriber(&network), Some(network.who(9)));
    let stop = Message {
        sender_end: control(PGW, 77),
        sequence: 2,
        ..Message::new(Protocol::Radius, Procedure::AccountingStop, Phase::Request)
    };
    network.say(5, ends(PGW, 4), &stop);
    assert_eq!(subscriber(&network), None);
}

fn ue(core: u64, access: u64) -> UeIds {
    UeIds {
        core: Some(core),
        access: Some(access),
    }
}

fn s1ap(procedure: Procedure, phase: Phase, ue_ids: UeIds) -> Message {
    Message {
        ue_ids,
        ..Message::new(Protocol::S1ap, procedure, phase)
    }
}

impl Network {
    /// Connects subscriber `number`, whom S11 knows, by S1AP at a base station: both identities are its
    /// number.
    fn connect(&mut self, second: u64, number: u32, enb: u8) {
        let ids = ue(number.into(), number.into());
        let request = Message {
            bearers: bearer(&[(Role::Core, end(SGW, number))]),
            ..s1ap(Procedure::ContextSetup, Phase::Request, ids)
        };
        self.say(second, ends(MME, enb), &request);
        let answer = Message {
            cause: accepted(),
            bearers: bearer(&[(Role::Access, end(enb, number))]),
            ..s1ap(Procedure::ContextSetup, Phase::Response, ids)
        };
        self.say(second, ends(enb, MME), &answer);
    }

    fn is_served(&self, enb: u8, number: u32) -> bool {
        self.at(end(enb, number), 9).is_some()
    }
}

#[test]
fn a_reset_releases_the_devices_of_its_base_station_or_those_it_lists() {
    let mut network = Network::new();
    for (number, enb) in [(6, ENB1), (7, ENB1), (8, ENB2)] {
        network.attach(1, number);
        network.connect(2, number, enb);
    }
    let listed = Message {
        connections: vec![ue(6, 6)],
        ..s1ap(Procedure::Reset, Phase::Request, UeIds::default())
    };
    network.say(3, ends(MME, ENB1), &listed);
    let served = |network: &Network| {
        [(ENB1, 6), (ENB1, 7), (ENB2, 8)].map(|(enb, who)| network.is_served(enb, who))
    };
    assert_eq!(served(&network), [false, true, true]);
    let error = s1ap(Procedure::Error, Phase::Indication, ue(7, 7));
    network.say(4, ends(ENB1, MME), &error);
    assert_eq!(served(&network), [false, true, true]);
    let setup = s1ap(Procedure::Setup, Phase::Request, UeIds::default());
    network.say(5, ends(ENB1, MME), &setup);
    assert_eq!(served(&network), [false, false, true]);
    let known = network.at(end(SGW, 7), 9).map(|(who, _)| who);
    assert_eq!(
        known,
        Some(Some(network.who(7))),
        "the session lives on, idle"
    );
}

#[test]
fn a_lost_radio_connection_is_told_with_whom_it_was() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.connect(2, 7, ENB1);
    let lost = |number| Message {
        cause: Some(Cause {
            number,
            accepted: true,
        }),
        ..s1ap(Procedure::ContextRelease, Phase::Indication, ue(7, 7))
    };
    let inactive = network.say(3, ends(ENB1, MME), &lost(1020));
    assert!(inactive.ended.is_none());
    let (told, whom) = network
        .say(4, ends(ENB1, MME), &lost(1021))
        .ended
        .expect("told");
    assert_eq!(
        (told.answered_ns, told.cause.map(|cause| cause.number)),
        (None, Some(1021))
    );
    assert_eq!(
        whom.and_then(|context| context.subscriber),
        Some(network.who(7))
    );
}

/// The session of subscriber 7 moves from the SGW to another one, and is deleted at the former.
fn deleted_after_relocation(ends_everywhere: bool) -> Network {
    const OTHER_SGW: u8 = 5;
    let mut network = Network::new();
    network.attach(1, 7);
    let request = Message {
        sender_end: control(MME, 7),
        identity: imsi(7),
        apn: Some("internet".into()),
        ..gtp(Procedure::CreateSession, Phase::Request, 90)
    };
    network.say(2, ends(MME, OTHER_SGW), &request);
    let answer = Message {
        cause: accepted(),
        receiver_key: 7,
        sender_end: control(OTHER_SGW, 5007),
        bearers: bearer(&[(Role::Core, end(OTHER_SGW, 7))]),
        ..gtp(Procedure::CreateSession, Phase::Response, 90)
    };
    network.say(2, ends(OTHER_SGW, MME), &answer);
    let delete = Message {
        receiver_key: 1007,
        ends_everywhere,
        ..gtp(Procedure::DeleteSession, Phase::Request, 91)
    };
    network.say(3, ends(MME, SGW), &delete);
    let deleted = Message {
        receiver_key: 7,
        cause: accepted(),
        ..gtp(Procedure::DeleteSession, Phase::Response, 91)
    };
    network.say(3, ends(SGW, MME), &deleted);
    assert_eq!(network.at(end(SGW, 7), 60), None);
    network
}

#[test]
fn a_session_that_moved_to_another_gateway_outlives_its_deletion_at_the_former() {
    let network = deleted_after_relocation(false);
    let who = Some(network.who(7));
    let known = network.at(end(5, 7), 60).map(|(who, _)| who);
    assert_eq!(known, Some(who));
    assert!(deleted_after_relocation(true).learner.bearers.is_empty());
}

#[test]
fn another_request_with_identities_used_again_is_none_that_was_repeated() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.attach(1, 8);
    let ids = ue(50, 60);
    let request = |number| Message {
        bearers: bearer(&[(Role::Core, end(SGW, number))]),
        ..s1ap(Procedure::ContextSetup, Phase::Request, ids)
    };
    network.say(2, ends(MME, ENB1), &request(7));
    // The answer and the release were missed.
    let begin = Message {
        ue_ids: UeIds {
            core: None,
            access: Some(60),
        },
        location: Location {
            cell: Some(ecgi(3)),
            ..Location::default()
        },
        ..Message::new(Protocol::S1ap, Procedure::InitialUe, Phase::Indication)
    };
    network.say(3, ends(ENB1, MME), &begin);
    network.say(4, ends(MME, ENB1), &request(8));
    let answer = Message {
        cause: accepted(),
        bearers: bearer(&[(Role::Access, end(ENB1, 99))]),
        ..s1ap(Procedure::ContextSetup, Phase::Response, ids)
    };
    network.say(4, ends(ENB1, MME), &answer);
    let known = network.at(end(ENB1, 99), 5).map(|(who, _)| who);
    assert_eq!(known, Some(Some(network.who(8))));
}

#[test]
fn an_answer_of_a_handovers_target_finds_its_request() {
    let mut network = Network::new();
    let request = s1ap(
        Procedure::HandoverAllocation,
        Phase::Request,
        UeIds {
            core: Some(7),
            access: None,
        },
    );
    network.say(1, ends(MME, ENB2), &request);
    let answer = Message {
        cause: accepted(),
        ..s1ap(Procedure::HandoverAllocation, Phase::Response, ue(7, 9))
    };
    assert!(network.say(2, ends(ENB2, MME), &answer).ended.is_some());
}

#[test]
fn a_refused_move_leaves_its_tunnel_end_to_the_next_one() {
    let mut network = Network::new();
    network.attach(1, 7);
    let asked = Message {
        receiver_key: 1007,
        bearers: bearer(&[(Role::Access, end(ENB2, 70))]),
        ..gtp(Procedure::ModifySession, Phase::Request, 80)
    };
    network.say(2, ends(MME, SGW), &asked);
    let answer = Message {
        cause: refused(),
        receiver_key: 7,
        ..gtp(Procedure::ModifySession, Phase::Response, 80)
    };
    network.say(2, ends(SGW, MME), &answer);
    assert_eq!(network.at(end(ENB2, 70), 3), None);
    assert!(network.is_served(ENB1, 7));
}

#[test]
fn the_sessions_of_two_nodes_end_with_their_association() {
    const OTHER_UPF: u8 = 5;
    let mut network = Network::new();
    for (number, upf) in [(7, SGW), (8, OTHER_UPF)] {
        let pfcp = |phase| Message {
            sequence: number,
            ..Message::new(Protocol::Pfcp, Procedure::CreateSession, phase)
        };
        let request = Message {
            sender_end: control(MME, number.into()),
            identity: imsi(number),
            ..pfcp(Phase::Request)
        };
        network.say(1, ends(MME, upf), &request);
        let answer = Message {
            cause: accepted(),
            receiver_key: number.into(),
            sender_end: control(upf, number.into()),
            bearers: bearer(&[(Role::Core, end(upf, number))]),
            ..pfcp(Phase::Response)
        };
        network.say(1, ends(upf, MME), &answer);
    }
    let release = |phase, cause| Message {
        cause,
        ..Message::new(Protocol::Pfcp, Procedure::AssociationRelease, phase)
    };
    network.say(2, ends(MME, SGW), &release(Phase::Request, None));
    assert!(network.at(end(SGW, 7), 2).is_some(), "not agreed yet");
    network.say(2, ends(SGW, MME), &release(Phase::Response, accepted()));
    assert_eq!(network.at(end(SGW, 7), 2), None);
    assert!(network.at(end(OTHER_UPF, 8), 2).is_some());
}

impl Network {
    fn who_is_at(&self, end: TunnelEnd) -> Option<Option<Pseudonym>> {
        self.at(end, 9).map(|(who, _)| who)
    }

    fn ask_to_delete(&mut self, number: u32) {
        let request = Message {
            receiver_key: u64::from(1000 + number),
            ends_everywhere: true,
            ..gtp(Procedure::DeleteSession, Phase::Request, 9)
        };
        self.say(3, ends(MME, SGW), &request);
    }
}

/// What the core says when it has made a session, whose request was missed, by keys and ends of subscriber 7.
fn created(sequence: u32) -> Message {
    Message {
        cause: accepted(),
        receiver_key: 7,
        sender_end: control(SGW, 1007),
        bearers: bearer(&[(Role::Core, end(SGW, 7))]),
        ..gtp(Procedure::CreateSession, Phase::Response, sequence)
    }
}

#[test]
fn a_session_that_nobody_was_heard_asking_for_is_not_that_of_who_had_its_key() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.say(2, ends(SGW, MME), &created(7));
    assert_eq!(
        network.who_is_at(end(SGW, 7)),
        Some(Some(network.who(7))),
        "a copy"
    );
    network.say(3, ends(SGW, MME), &created(99));
    assert_eq!(network.who_is_at(end(SGW, 7)), Some(None));
}

#[test]
fn what_comes_after_a_deletion_was_asked_for_is_of_the_next_one() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.ask_to_delete(7);
    assert_eq!(network.who_is_at(end(SGW, 7)), Some(Some(network.who(7))));
    network.move_to(4, 7, ENB2, 70, Some(2));
    assert_ne!(network.who_is_at(end(ENB2, 70)), Some(Some(network.who(7))));
}

#[test]
fn a_deletion_that_nobody_answered_is_one() {
    let mut network = Network::new();
    network.attach(1, 7);
    network.ask_to_delete(7);
    network.learner.take_unanswered(60 * S);
    assert!(network.learner.bearers.is_empty());
}

#[test]
fn a_connection_that_is_set_up_again_is_another_devices() {
    let mut network = Network::new();
    let ids = ue(7, 7);
    let first = Message {
        identity: imsi(7),
        ..s1ap(
            Procedure::InitialUe,
            Phase::Indication,
            UeIds { core: None, ..ids },
        )
    };
    network.say(1, ends(ENB1, MME), &first);
    network.connect(1, 7, ENB1);
    assert_eq!(network.who_is_at(end(ENB1, 7)), Some(Some(network.who(7))));
    let again = Message {
        bearers: bearer(&[(Role::Core, end(SGW, 8))]),
        ..s1ap(Procedure::ContextSetup, Phase::Request, ids)
    };
    network.say(5, ends(MME, ENB1), &again);
    assert_eq!(network.who_is_at(end(SGW, 8)), Some(None));
}

#[test]
fn a_path_that_was_switched_unheard_leads_nowhere_known() {
    let mut network = Network::new();
    network.connect(1, 7, ENB1);
    assert!(network.is_served(ENB1, 7));
    let switched = Message {
        cause: accepted(),
        ..s1ap(Procedure::PathSwitch, Phase::Response, ue(7, 9))
    };
    network.say(2, ends(MME, ENB2), &switched);
    assert!(!network.is_served(ENB1, 7));
}

#[test]
fn a_tunnel_is_not_a_devices_whose_packets_have_anothers_address() {
    let mut network = Network::new();
    network.connect(1, 7, ENB1);
    let bearers = &mut network.learner.bearers;
    let address = |octet| Address::v4([100, 64, 0, octet]);
    let is_anothers = |bearers: &Bearers, end, client| {
        let found = bearers.at_tunnel(end, None, S).expect("known");
        bearers.is_anothers(&found, client)
    };
    assert!(
        !is_anothers(bearers, end(ENB1, 7), address(1)),
        "nothing seen"
    );
    bearers.witness(end(SGW, 7), address(1));
    for end in [end(ENB1, 7), end(SGW, 7)] {
        assert!(!is_anothers(bearers, end, address(1)));
        assert!(is_anothers(bearers, end, address(2)));
    }
    // Of IPv6 a device may have been delegated more, and then sends from it.
    let prefixes = [1, 2].map(|net| Address(0x2001_0db8 << 96 | net << 64));
    bearers.witness(end(SGW, 7), prefixes[0]);
    assert!(is_anothers(bearers, end(ENB1, 7), prefixes[1]));
    assert!(!is_anothers(bearers, end(SGW, 7), prefixes[1]));
    bearers.witness(end(SGW, 7), prefixes[1]);
    assert!(!is_anothers(bearers, end(ENB1, 7), prefixes[1]));
}
