//! What a tracked flow takes, with its share of all tables.
//!
//! The test's own allocator counts what the C library takes from the system for each piece: 8 bytes more
//! than asked for, rounded up to 16.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgeqoe_core::engine::Pipeline;
use edgeqoe_core::engine::options::Options;
use edgeqoe_core::source::{LinkType, Packet};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn taken(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes on to the system's allocator unchanged; the counter touches no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(taken(layout), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(taken(layout), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A full table: the index has twice as many places then, and the slots none to spare.
const FLOWS: u32 = 1 << 16;
/// Flows that a subscriber has at once.
const FLOWS_EACH: u32 = 16;
const START_NS: u64 = 1_700_000_040_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const OPTIONS: &str = r#"{
    "probe_id": "test", "captures": [], "active_timeout_s": 60, "client_address": "full",
    "batch_rows": 100, "batch_interval_s": 1,
    "limits": {"flows": 65536, "fragments": 64, "reassembly_bytes": 1048576, "clients": 65536,
               "pairs": 16, "names": 16, "bearers": 5000},
    "subscriber_prefixes": ["10.0.0.0/8"], "ran_prefixes": [], "attribution": []
}"#;

struct Wire {
    pipeline: Pipeline,
    time_ns: u64,
}

impl Wire {
    fn new() -> Self {
        let options = Options::parse(OPTIONS).expect("the options are valid");
        let pipeline = Pipeline::new(&options, "test", b"key", 7).expect("the options are valid");
        Self {
            pipeline,
            time_ns: START_NS,
        }
    }

    /// 20 microseconds later.
    fn send(&mut self, bytes: &[u8]) {
        self.time_ns += 20_000;
        self.pipeline.on_packet(&Packet {
            time_ns: self.time_ns,
            interface: 0,
            link: LinkType::RawIp,
            wire_len: bytes.len() as u32,
            data: bytes,
        });
        while self.pipeline.is_body_due() {
            self.pipeline.close_bodies(&[]);
            while self.pipeline.take_body().is_some() {}
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.time_ns += seconds * SECOND_NS;
        self.send(&ipv4(
            17,
            [192, 0, 2, 9],
            [192, 0, 2, 8],
            &[0, 9, 0, 9, 0, 8, 0, 0],
        ));
    }

    fn live(&self) -> u64 {
        let counters = self.pipeline.counters();
        let found = counters.iter().find(|(name, _)| *name == "flows_live");
        found.map_or(0, |&(_, value)| value)
    }
}

fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut packet = vec![
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

/// The address and port of the flow's client.
fn client(number: u32) -> ([u8; 4], u16) {
    let [_, b, c, d] = (number / FLOWS_EACH).to_be_bytes();
    ([10, b, c, d], 40_000 + (number % FLOWS_EACH) as u16)
}

/// One connection: both sides' next numbers.
struct Talk {
    number: u32,
    next: [u32; 2],
    clock: u32,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Talk {
    fn new(number: u32) -> Self {
        let next = [0x9e37_79b1, 0x85eb_ca6b].map(|factor: u32| factor.wrapping_mul(number + 1));
        Self {
            number,
            next,
            clock: number.wrapping_mul(77),
        }
    }

    /// With timestamps, and on a SYN with what Linux offers.
    fn send(&mut self, wire: &mut Wire, by: usize, flags: u8, payload: &[u8]) {
        self.clock += 1;
        let (address, port) = client(self.number);
        let server = [192, 0, 2, (self.number % 200) as u8];
        let timestamps = [
            &[1, 1, 8, 10][..],
            &self.clock.to_be_bytes(),
            &(self.clock - 1).to_be_bytes(),
        ]
        .concat();
        let offers: &[u8] = if flags & 2 == 2 {
            &[2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1]
        } else {
            &[]
        };
        let options = [offers, &timestamps].concat();
        let ports = if by == CLIENT {
            [port, 443]
        } else {
            [443, port]
        };
        let acknowledgment = if flags & 16 == 16 {
            self.next[1 - by]
        } else {
            0
        };
        let mut segment = Vec::new();
        segment.extend(ports[0].to_be_bytes());
        segment.extend(ports[1].to_be_bytes());
        segment.extend(self.next[by].to_be_bytes());
        segment.extend(acknowledgment.to_be_bytes());
        segment.extend([
            ((20 + options.len()) as u8 / 4) << 4,
            flags,
            1,
            246,
            0,
            0,
            0,
            0,
        ]);
        segment.extend(options);
        segment.extend(payload);
        self.next[by] =
            self.next[by].wrapping_add(payload.len() as u32 + u32::from(flags >> 1 & 1));
        let (from, to) = if by == CLIENT {
            (address, server)
        } else {
            (server, address)
        };
        wire.send(&ipv4(6, from, to, &segment));
    }

    fn open(&mut self, wire: &mut Wire) {
        self.send(wire, CLIENT, 0x02, &[]);
        self.send(wire, SERVER, 0x12, &[]);
        self.send(wire, CLIENT, 0x10, &[]);
    }

    /// TLS 1.3 up to the answer to the first request, and ten segments of it.
    fn exchange(&mut self, wire: &mut Wire) {
        let hello = client_hello(&format!("www{}.example.com", self.number % 500));
        self.send(wire, CLIENT, 0x18, &hello);
        self.send(
            wire,
            SERVER,
            0x18,
            &[server_hello(), record(0x17, 900)].concat(),
        );
        self.send(wire, CLIENT, 0x18, &record(0x17, 53));
        self.send(wire, CLIENT, 0x18, &record(0x17, 300));
        self.send(wire, SERVER, 0x18, &record(0x17, 1200));
        self.send(wire, SERVER, 0x18, &record(0x17, 700));
        for _ in 0..4 {
            self.send(wire, SERVER, 0x18, &record(0x17, 1300));
            self.send(wire, CLIENT, 0x10, &[]);
        }
    }
}

fn with_u16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn record(kind: u8, length: usize) -> Vec<u8> {
    [&[kind, 3, 3][..], &with_u16(&vec![0x5a; length])].concat()
}

fn hello(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0][..], &with_u16(body)].concat();
    [&[0x16, 3, 1][..], &with_u16(&message)].concat()
}

fn client_hello(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &with_u16(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &with_u16(&with_u16(&entry))].concat();
    let alpn = [&[0, 16][..], &with_u16(&with_u16(b"\x08http/1.1"))].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = [&server_name[..], &alpn, &versions].concat();
    let fixed = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    hello(1, &[fixed, with_u16(&extensions)].concat())
}

fn server_hello() -> Vec<u8> {
    let fixed = [&[3, 3][..], &[9; 32], &[0, 0x13, 1, 0]].concat();
    hello(2, &[fixed, with_u16(&[0, 43, 0, 2, 3, 4])].concat())
}

fn dns(number: u32, flags: u8) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let name = format!("n{:05}", number % 500);
    let header = [high, low, flags, flags & 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    [
        &header[..],
        &[6],
        name.as_bytes(),
        &[7],
        b"example",
        &[0, 0, 1, 0, 1],
    ]
    .concat()
}

fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let words = [ports[0], ports[1], length, 0]
        .map(u16::to_be_bytes)
        .concat();
    [words, payload.to_vec()].concat()
}

/// Bytes for each flow of what `begin` makes: busy, at rest, and at rest when its interval has ended.
fn measure(name: &str, begin: impl Fn(u32, &mut Wire), idle_s: [u64; 2]) -> [usize; 3] {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut wire = Wire::new();
    // Tables of a size of their own are part of the agent at rest.
    begin(FLOWS - 1, &mut wire);
    let before = IN_USE.load(Ordering::Relaxed);
    let mut figures = [0; 3];
    for number in 0..FLOWS - 2 {
        begin(number, &mut wire);
    }
    let per_flow = || IN_USE.load(Ordering::Relaxed).saturating_sub(before) / FLOWS as usize;
    figures[0] = per_flow();
    for (figure, idle_s) in figures[1..].iter_mut().zip(idle_s) {
        if idle_s > 0 {
            wire.wait(idle_s);
            assert!(wire.live() >= u64::from(FLOWS) - 1, "{} live", wire.live());
            wire.pipeline.rest();
            *figure = per_flow();
        }
    }
    println!("{name}: {figures:?} bytes per flow");
    figures
}

#[test]
fn a_syn_alone_takes_little() {
    let [_, _, at_rest] = measure(
        "SYN only",
        |number, wire| Talk::new(number).send(wire, CLIENT, 0x02, &[]),
        [0, 61],
    );
    assert!(at_rest <= 384, "{at_rest}");
}

#[test]
fn an_idle_connection_with_a_name_is_within_its_bound() {
    let [busy, counted, at_rest] = measure(
        "TLS, 17 segments",
        |number, wire| {
            let mut talk = Talk::new(number);
            talk.open(wire);
            talk.exchange(wire);
        },
        [3, 61],
    );
    assert!(at_rest <= 384, "{at_rest}");
    assert!(counted <= 460, "{counted}");
    assert!(busy <= 1700, "{busy}");
}

#[test]
fn a_dns_question_takes_little() {
    let [busy, _, _] = measure(
        "DNS",
        |number, wire| {
            let (address, port) = client(number);
            let query = udp([port, 53], &dns(number, 1));
            wire.send(&ipv4(17, address, [192, 0, 2, 53], &query));
            let answer = udp([53, port], &dns(number, 0x81));
            wire.send(&ipv4(17, [192, 0, 2, 53], address, &answer));
        },
        [0, 0],
    );
    assert!(busy <= 1000, "{busy}");
}
