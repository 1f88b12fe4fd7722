use super::*;
use proptest::prelude::*;

const CLIENT: bool = true;
const SERVER: bool = false;
const FINISHED: u16 = 4 + 32 + 17;

fn tls13() -> Context {
    Context::new(Some(Version::Tls13), Some(0x1301))
}

fn tls12() -> Context {
    Context::new(Some(Version::Tls12), Some(0xc02f))
}

fn http2(context: Context) -> Context {
    Context {
        http2: true,
        ..context
    }
}

/// The wait in ms of records (from client, length, ms).
fn wait(context: &Context, records: &[(bool, u16, u64)]) -> Option<u32> {
    follow(context, records).first_byte_us().map(|us| us / 1000)
}

fn follow(context: &Context, records: &[(bool, u16, u64)]) -> FirstExchange {
    let mut exchange = FirstExchange::default();
    for &(from_client, length, ms) in records {
        let time_ns = ms * 1_000_000;
        match from_client {
            _ if exchange.is_settled() => {}
            true => exchange.on_client_record(context, length, time_ns),
            false => exchange.on_server_record(context, length, time_ns),
        }
    }
    exchange
}

#[test]
fn up_to_1_2_the_first_data_of_each_side_counts() {
    let records = [(CLIENT, 300, 10), (SERVER, 30, 60), (SERVER, 900, 90)];
    assert_eq!(wait(&tls12(), &records), Some(50));
}

#[test]
fn where_the_server_speaks_first_nothing_is_measured_up_to_1_2() {
    let records = [(SERVER, 60, 10), (CLIENT, 300, 20), (SERVER, 900, 90)];
    assert_eq!(wait(&tls12(), &records), None);
}

#[test]
fn the_clients_finished_is_no_request() {
    let records = [(CLIENT, FINISHED, 10), (SERVER, 250, 60), (SERVER, 250, 60)];
    let exchange = follow(&tls13(), &records);
    assert_eq!(
        (exchange.request_ns(), exchange.first_byte_us()),
        (None, None)
    );
}

#[test]
fn a_clients_certificate_goes_before_its_finished() {
    let records = [
        (CLIENT, 900, 10),
        (CLIENT, 281, 10),
        (CLIENT, FINISHED, 10),
        (CLIENT, 300, 11),
        (SERVER, 1500, 61),
    ];
    assert_eq!(wait(&tls13(), &records), Some(50));
}

#[test]
fn a_finished_has_the_length_of_its_suite() {
    for (suite, length) in [
        (0x1301, 53),
        (0x1302, 69),
        (0x1303, 53),
        (0x1304, 53),
        (0x1305, 45),
    ] {
        let context = Context::new(Some(Version::Tls13), Some(suite));
        let records = [(CLIENT, length, 0), (CLIENT, 300, 1), (SERVER, 1500, 61)];
        assert_eq!(wait(&context, &records), Some(60), "{suite:x}");
    }
}

#[test]
fn two_records_of_one_length_are_tickets() {
    let records = [
        (CLIENT, FINISHED, 9),
        (CLIENT, 300, 10),
        (SERVER, 250, 60),
        (SERVER, 250, 60),
        (SERVER, 357, 400),
    ];
    assert_eq!(wait(&tls13(), &records), Some(390));
}

#[test]
fn a_short_record_with_more_right_behind_it_is_the_answer() {
    let records = [
        (CLIENT, FINISHED, 9),
        (CLIENT, 300, 10),
        (SERVER, 400, 60),
        (SERVER, 1390, 61),
    ];
    assert_eq!(wait(&tls13(), &records), Some(50));
}

#[test]
fn a_ticket_far_ahead_of_what_follows_is_not_taken_for_the_answer() {
    let records = [
        (CLIENT, FINISHED, 9),
        (CLIENT, 300, 10),
        (SERVER, 230, 60),
        (SERVER, 900, 400),
    ];
    assert_eq!(wait(&tls13(), &records), None);
    assert_eq!(wait(&tls13(), &records[..3]), None);
}

#[test]
fn a_ticket_ahead_of_the_request_is_none_of_its_answer() {
    let records = [
        (CLIENT, FINISHED, 0),
        (SERVER, 230, 60),
        (CLIENT, 300, 100),
        (SERVER, 900, 400),
        (SERVER, 901, 800),
    ];
    assert_eq!(wait(&tls13(), &records), Some(300));
}

#[test]
fn what_the_server_sent_before_it_had_the_request_is_no_answer() {
    let context = tls13();
    let mut exchange = follow(&context, &[(CLIENT, FINISHED, 0), (CLIENT, 156, 9)]);
    exchange.note_request_read(false);
    exchange.on_server_record(&context, 164, 9_173_000);
    exchange.note_request_read(true);
    exchange.on_server_record(&context, 662, 131_000_000);
    assert_eq!(exchange.first_byte_us(), Some(122_000));
}

#[test]
fn an_alert_is_neither_request_nor_answer() {
    let records = [(CLIENT, FINISHED, 0), (CLIENT, 19, 10), (SERVER, 19, 60)];
    assert_eq!(follow(&tls13(), &records).request_ns(), None);
    let answered = [(CLIENT, FINISHED, 0), (CLIENT, 300, 10), (SERVER, 19, 60)];
    assert_eq!(wait(&tls13(), &answered), None);
}

#[test]
fn a_preface_of_http2_is_no_request_and_settings_are_no_answer() {
    let context = http2(tls13());
    let records = [
        (CLIENT, FINISHED, 0),
        (CLIENT, 87, 0),
        (SERVER, 57, 60),
        (CLIENT, 26, 70),
        (CLIENT, 420, 5000),
        (SERVER, 26, 5050),
        (SERVER, 1500, 5100),
    ];
    assert_eq!(wait(&context, &records), Some(100));
}

#[test]
fn http2_over_1_2_is_timed_from_its_request_too() {
    let context = http2(tls12());
    let records = [
        (CLIENT, 93, 0),
        (SERVER, 62, 60),
        (CLIENT, 420, 5000),
        (SERVER, 1500, 5100),
    ];
    assert_eq!(wait(&context, &records), Some(100));
}

#[test]
fn with_early_data_nothing_is_said() {
    let context = Context {
        early_data: true,
        ..tls13()
    };
    let records = [(CLIENT, FINISHED, 0), (CLIENT, 300, 1), (SERVER, 900, 60)];
    assert!(follow(&context, &records).is_settled());
    assert_eq!(wait(&context, &records), None);
}

#[test]
fn a_client_without_a_finished_is_given_up() {
    let records: Vec<_> = (0..20).map(|ms| (CLIENT, 1000, ms)).collect();
    assert!(follow(&tls13(), &records).is_settled());
}

proptest! {
    #[test]
    fn the_wait_is_one_between_a_record_of_each_side(
        records in prop::collection::vec((any::<bool>(), 0..1600u16, 0..2000u64), 0..40),
        suite in prop::sample::select(vec![0x1301, 0x1302, 0x1305]),
        http2: bool,
        is_1_3: bool,
    ) {
        let version = if is_1_3 { Version::Tls13 } else { Version::Tls12 };
        let context = Context { http2, ..Context::new(Some(version), Some(suite)) };
        let mut now = 0;
        let records: Vec<_> = records
            .into_iter()
            .map(|(side, length, pause)| { now += pause; (side, length, now) })
            .collect();
        if let Some(waited) = wait(&context, &records) {
            let times = |of: bool| records.iter().filter(move |(side, ..)| *side == of);
            let found = times(CLIENT).any(|(.., sent)| {
                times(SERVER).any(|(.., got)| got.checked_sub(*sent) == Some(u64::from(waited)))
            });
            prop_assert!(found);
        }
    }
}
