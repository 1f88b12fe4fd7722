//! What the parts of the per-packet and per-session path cost: decapsulation, finding a flow, round
//! trips, names of servers, records. `make bench-parts` runs it.
//!
//! Compare within one run of one machine only; docs/performance.md has the whole engine.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use edgeqoe_core::app::quic::{QuicTracker, sealed_initial};
use edgeqoe_core::app::tls::TlsTracker;
use edgeqoe_core::decap::{Address, Decoder, FragmentLimits, Transport};
use edgeqoe_core::flow::{Direction, FlowKey, Table};
use edgeqoe_core::record::pseudonym::Pseudonyms;
use edgeqoe_core::record::session_id::SessionIds;
use edgeqoe_core::record::{Columns, Record};
use edgeqoe_core::source::{LinkType, Packet};
use edgeqoe_core::tcp::{Connection, Segment};

const ROWS: usize = 8192;

fn decap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decap");
    group.throughput(Throughput::Elements(1));
    let tcp = ipv4(6, &segment(1, 1, 0x10, 1, 1, &[0; 100]));
    let tunnelled = [&[0x30, 0xff][..], &length(&tcp), &[0, 0, 0, 7], &tcp].concat();
    let tunnelled = ipv4(17, &udp(2152, &tunnelled));
    for (name, packet) in [("ethernet", &tcp), ("gtpu", &tunnelled)] {
        let frame = [&[2; 12][..], &[8, 0], packet].concat();
        let packet = Packet {
            time_ns: 1,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: frame.len() as u32,
            data: &frame,
        };
        let mut decoder = Decoder::new(FragmentLimits::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decoder.decode(black_box(&packet)).is_ok()));
        });
    }
    group.finish();
}

fn flow_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow lookup");
    group.throughput(Throughput::Elements(1));
    for flows in [1_000u32, 100_000] {
        let mut table = Table::new(flows as usize, 7);
        for flow in 0..flows {
            table.insert(key(flow), ());
        }
        let mut next = 0u32;
        group.bench_function(format!("among {flows}"), |bencher| {
            bencher.iter(|| {
                // A step that is prime to the number of flows: each lies elsewhere in memory.
                next = (next + 7_919) % flows;
                black_box(table.find(&key(next)))
            });
        });
    }
    group.finish();
}

fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trips");
    const EXCHANGES: u32 = 64;
    group.throughput(Throughput::Elements(2 * u64::from(EXCHANGES)));
    let packets: Vec<(Direction, Vec<u8>)> = (0..EXCHANGES)
        .flat_map(|turn| {
            let data = segment(1 + 1000 * turn, 1, 0x18, 10 + turn, 5 + turn, &[0; 1000]);
            let answer = segment(1, 1 + 1000 * (turn + 1), 0x10, 6 + turn, 10 + turn, &[]);
            [(Direction::Forward, data), (Direction::Reverse, answer)]
        })
        .collect();
    group.bench_function("timestamps", |bencher| {
        bencher.iter_batched_ref(
            Connection::default,
            |connection| {
                for (time, (direction, bytes)) in (1u64..).zip(&packets) {
                    let segment = Segment::parse(bytes, bytes.len() as u32).unwrap();
                    connection.on_segment(*direction, &segment, time * 1_000_000);
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn server_names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server name");
    group.throughput(Throughput::Elements(1));
    let hello = client_hello("www.example.org");
    let record = [&[22, 3, 1][..], &length(&hello), &hello].concat();
    group.bench_function("tls", |bencher| {
        bencher.iter_batched_ref(
            TlsTracker::new,
            |tracker| {
                tracker.feed(true, &record, 1);
                assert!(tracker.info().server_name.is_some());
            },
            BatchSize::SmallInput,
        );
    });
    // A CRYPTO frame from offset 0 (RFC 9000 19.6), and what fills the packet up.
    let length = (hello.len() as u16 | 0x4000).to_be_bytes();
    let mut frames = [&[6, 0][..], &length, &hello].concat();
    frames.resize(1150, 0);
    let initial = sealed_initial(true, 0, &frames);
    group.bench_function("quic", |bencher| {
        bencher.iter_batched_ref(
            QuicTracker::new,
            |tracker| {
                tracker.on_datagram(true, &initial, 1);
                tracker.refresh_identity();
                assert!(tracker.identity().is_some());
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut columns = Columns::default();
    group.bench_function("encoding", |bencher| {
        bencher.iter(|| {
            (0..ROWS as u64).for_each(|row| push(&mut columns, row));
            black_box(columns.begin_body())
        });
    });
    group.throughput(Throughput::Elements(1));
    let ids = SessionIds::new("edge-1", "sgi");
    group.bench_function("session id", |bencher| {
        bencher.iter(|| black_box(ids.of(&key(7), None, black_box(1))));
    });
    let pseudonyms = Pseudonyms::new(b"a key");
    group.bench_function("pseudonym", |bencher| {
        bencher.iter(|| black_box(pseudonyms.of_address(black_box(Address::v4([10, 0, 0, 1])))));
    });
    group.finish();
}

/// A record of a session as most are: TLS over TCP with round trips on both sides.
fn push(columns: &mut Columns, row: u64) {
    let spread = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let subscriber = (spread % 2048).to_be_bytes().repeat(2);
    let server = (spread % 512).to_be_bytes();
    let name = format!("host-{}.example.org", spread % 512);
    let start_ns = 1_700_000_000_000_000_000 + (spread >> 32) * 1_000;
    let some = |modulus: u64| Some((spread % modulus) as u32);
    let record = Record {
        session_id: spread,
        record_kind: "final",
        capture_point: "sgi",
        flow_start_time: start_ns,
        start_time: start_ns,
        end_time: start_ns + spread % 10_000_000_000,
        transport: "tcp",
        client_ip: Some(&subscriber[..4]),
        client_port: Some(spread as u16),
        server_ip: Some(&server[4..]),
        server_port: Some(443),
        initiator: Some("client"),
        subscriber_id: Some(&subscriber),
        subscriber_source: Some("address"),
        app_protocol: Some("tls"),
        server_name: Some(&name),
        server_name_source: Some("sni"),
        handshake_rtt_client_us: some(50_000),
        handshake_rtt_server_us: some(20_000),
        setup_us: some(70_000),
        tls_setup_us: some(90_000),
        rtt_client_min_us: some(50_000),
        rtt_client_median_us: some(60_000),
        rtt_client_samples: some(40),
        rtt_client_histogram: Some(&subscriber[..8]),
        rtt_client_method: Some("timestamp"),
        bytes_up: spread % 5_000,
        bytes_down: spread % 50_000,
        retransmitted_packets_up: Some(0),
        retransmitted_packets_down: Some(0),
        outcome: Some("ok"),
        end_reason: Some("fin"),
        ..Record::default()
    };
    columns.push(&record);
}

// ------------------------------------------------------------------------------- packets

fn key(flow: u32) -> FlowKey {
    let client = Address::v4((0x0a00_0000 + flow).to_be_bytes());
    let server = Address::v4([198, 51, 100, (flow % 200) as u8]);
    FlowKey::of(client, 40_000, server, 443, Transport::Tcp).0
}

fn length(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let mut packet = vec![
        0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ];
    packet.extend([10, 0, 0, 1, 198, 51, 100, 1]);
    packet.extend(payload);
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [
        &port.to_be_bytes()[..],
        &port.to_be_bytes(),
        &length,
        &[0, 0],
        payload,
    ]
    .concat()
}

/// With the timestamps of RFC 7323.
fn segment(seq: u32, ack: u32, flags: u8, value: u32, echo: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [40_000u16.to_be_bytes(), 443u16.to_be_bytes()].concat();
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([8 << 4, flags, 0x20, 0, 0, 0, 0, 0, 1, 1, 8, 10]);
    bytes.extend(value.to_be_bytes());
    bytes.extend(echo.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// RFC 8446 4.1.2, with a server name alone (RFC 6066 3).
fn client_hello(name: &str) -> Vec<u8> {
    let host = [&[0][..], &length(name.as_bytes()), name.as_bytes()].concat();
    let list = [&length(&host)[..], &host].concat();
    let extension = [&[0, 0][..], &length(&list), &list].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(length(&extension));
    body.extend(extension);
    [&[1, 0][..], &length(&body), &body].concat()
}

criterion_group!(
    engine,
    decap,
    flow_lookup,
    round_trips,
    server_names,
    records
);
criterion_main!(engine);
