use super::*;
use crate::app::dns::{DnsMessage, Resolution};
use proptest::prelude::*;

const SECOND: u64 = SECOND_NS;
const ANNA: Client = [1; 16];
const BERT: Client = [2; 16];

/// What an answer for `name` with one A record says.
fn resolution(name: &str, address: [u8; 4], ttl_s: u32) -> Resolution {
    let mut bytes = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1]);
    bytes.extend(ttl_s.to_be_bytes());
    bytes.extend([0, 4]);
    bytes.extend(address);
    Resolution::of(&DnsMessage::parse(&bytes).unwrap()).unwrap()
}

fn server(octet: u8) -> Address {
    Address::v4([192, 0, 2, octet])
}

fn text(found: Option<&Name>) -> Option<&str> {
    found.map(|name| &*name.text)
}

#[test]
fn a_client_knows_a_server_by_the_name_it_asked_for() {
    let mut names = Names::new(100);
    names.learn(ANNA, &resolution("a.example", [192, 0, 2, 1], 300), SECOND);
    names.learn(BERT, &resolution("b.example", [192, 0, 2, 1], 300), SECOND);
    assert_eq!(
        text(names.lookup(ANNA, server(1), SECOND)),
        Some("a.example")
    );
    assert_eq!(
        text(names.lookup(BERT, server(1), SECOND)),
        Some("b.example")
    );
}

#[test]
fn who_did_not_ask_gets_a_name_only_if_there_is_but_one() {
    let mut names = Names::new(100);
    names.learn(ANNA, &resolution("a.example", [192, 0, 2, 1], 300), SECOND);
    assert_eq!(
        text(names.lookup(BERT, server(1), SECOND)),
        Some("a.example")
    );
    names.learn(ANNA, &resolution("b.example", [192, 0, 2, 1], 60), SECOND);
    assert_eq!(names.lookup(BERT, server(1), SECOND), None);
    assert_eq!(names.lookup(BERT, server(2), SECOND), None);
}

#[test]
fn who_asked_just_now_may_be_the_same_client_by_another_identity() {
    let mut names = Names::new(100);
    names.learn(ANNA, &resolution("a.example", [192, 0, 2, 1], 300), SECOND);
    let at = |seconds| names.other_asker(BERT, server(1), seconds * SECOND);
    assert_eq!((at(1), at(2), at(3)), (Some(ANNA), Some(ANNA), None));
    assert_eq!(names.other_asker(ANNA, server(1), SECOND), None);
    names.learn(BERT, &resolution("a.example", [192, 0, 2, 1], 300), SECOND);
    names.learn(ANNA, &resolution("a.example", [192, 0, 2, 1], 300), SECOND);
    assert_eq!(names.other_asker(BERT, server(1), SECOND), None);
}

#[test]
fn an_address_has_one_name_again_when_the_others_are_out_of_date() {
    let mut names = Names::new(100);
    names.learn(ANNA, &resolution("a.example", [192, 0, 2, 1], 300), 0);
    names.learn(ANNA, &resolution("b.example", [192, 0, 2, 1], 300), 0);
    names.learn(
        ANNA,
        &resolution("b.example", [192, 0, 2, 1], 300),
        301 * SECOND,
    );
    assert_eq!(text(names.of(server(1), 302 * SECOND)), Some("b.example"));
}

#[test]
fn a_name_lives_as_long_as_its_record_but_a_minute_at_least_and_an_hour_at_most() {
    let mut names = Names::new(100);
    for (octet, ttl_s) in [(1, 0), (2, 600), (3, u32::MAX)] {
        names.learn(ANNA, &resolution("a.example", [192, 0, 2, octet], ttl_s), 0);
    }
    for (octet, life_s) in [(1, 60), (2, 600), (3, 3600)] {
        assert!(
            names
                .lookup(ANNA, server(octet), life_s * SECOND - 1)
                .is_some()
        );
        assert!(names.lookup(ANNA, server(octet), life_s * SECOND).is_none());
    }
}

#[test]
fn a_million_random_names_are_bounded_and_what_is_shed_is_counted() {
    let mut names = Names::new(1000);
    for number in 0..1_000_000u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let answer = resolution("x.example", [100 | a, b, c, d], 3600);
        names.learn(ANNA, &answer, u64::from(number) * 1000);
        names.ask(u64::from(number), u64::from(number) * 1000);
    }
    let sizes = [
        names.of_clients.current.len() + names.of_clients.previous.len(),
        names.of_servers.current.len() + names.of_servers.previous.len(),
        names.questions.current.len() + names.questions.previous.len(),
    ];
    assert!(sizes.iter().all(|&size| size <= 1000), "{sizes:?}");
    assert!(names.shed() > 3 * 990_000);
    let last = Address::v4([100, 15, 66, 63]);
    assert!(names.lookup(ANNA, last, 1_000_000_000).is_some());
}

#[test]
fn a_question_asked_again_in_vain_is_a_repetition() {
    let mut names = Names::new(100);
    let digest = names.digest(ANNA, "a.example", 1);
    assert!(!names.ask(digest, 10 * SECOND));
    assert!(
        !names.ask(digest, 10 * SECOND + 1),
        "to two resolvers at once"
    );
    assert!(names.ask(digest, 15 * SECOND), "after 5 s");
    assert!(!names.is_answered(digest));
    names.answer(digest, 15 * SECOND + 1);
    assert!(names.is_answered(digest));
    assert!(
        !names.ask(digest, 16 * SECOND),
        "asked anew after its answer"
    );
}

#[test]
fn another_subscribers_question_is_no_repetition() {
    let mut names = Names::new(100);
    let (anna, bert) = (
        names.digest(ANNA, "a.example", 1),
        names.digest(BERT, "a.example", 1),
    );
    names.ask(anna, SECOND);
    assert!(!names.ask(bert, 6 * SECOND));
    assert!(!names.ask(names.digest(ANNA, "a.example", 28), 6 * SECOND));
}

proptest! {
    #[test]
    fn a_small_table_never_tells_a_name_that_nobody_asked_for(
        steps in proptest::collection::vec((0u8..3, 0u8..4, 0u8..6, 0u32..100), 1..200)
    ) {
        let mut names = Names::new(4);
        for (second, (who, name, octet, ttl_s)) in (0u64..).zip(steps) {
            let text = format!("{who}-{name}.example");
            names.learn([who; 16], &resolution(&text, [192, 0, 2, octet], ttl_s), second * SECOND);
            let told = names.lookup([who; 16], server(octet), second * SECOND);
            prop_assert_eq!(told.map(|told| told.text.to_string()), Some(text));
        }
    }
}
