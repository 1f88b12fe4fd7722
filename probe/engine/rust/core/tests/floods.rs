//! Floods: no table grows without bound, and what gives way is counted.
//!
//! The test's own allocator counts the bytes in use, so that a table nobody thought of shows too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgeqoe_core::engine::Pipeline;
use edgeqoe_core::engine::options::Options;
use edgeqoe_core::source::{LinkType, Packet};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged; the counters touch no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One flood at a time, or their bytes in use would be added.
static ALONE: Mutex<()> = Mutex::new(());

const FLOWS: u64 = 5000;
const OPTIONS: &str = r#"{
    "probe_id": "test", "captures": [], "active_timeout_s": 60, "client_address": "full",
    "batch_rows": 2000, "batch_interval_s": 1,
    "limits": {"flows": 5000, "fragments": 64, "reassembly_bytes": 1048576, "clients": 5000,
               "pairs": 5000, "names": 5000, "bearers": 5000},
    "subscriber_prefixes": ["10.0.0.0/8"], "ran_prefixes": [], "attribution": []
}"#;
/// What an engine with these limits may hold at most: a batch of rows, and some 8 KB for each of its
/// flows, clients, pairs and names together. A table without bound would hold many times that.
const MEMORY: usize = 40 << 20;

/// The totals of a flood, and the most bytes that the engine held while it lasted.
struct Flooded {
    counters: Vec<(&'static str, u64)>,
    peak: usize,
}

impl Flooded {
    fn count(&self, name: &str) -> u64 {
        let found = self.counters.iter().find(|(known, _)| *known == name);
        found.map_or(0, |&(_, value)| value)
    }
}

/// Gives `packets` packets, 10 microseconds apart, to a new engine.
fn flood(packets: u32, packet: impl Fn(u32, &mut Vec<u8>)) -> Flooded {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let options = Options::parse(OPTIONS).expect("the options are valid");
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut pipeline = Pipeline::new(&options, "test", b"key", 7).expect("the options are valid");
    let mut bytes = Vec::new();
    for number in 0..packets {
        bytes.clear();
        packet(number, &mut bytes);
        pipeline.on_packet(&Packet {
            time_ns: 1_700_000_000_000_000_000 + u64::from(number) * 10_000,
            interface: 0,
            link: LinkType::RawIp,
            wire_len: bytes.len() as u32,
            data: &bytes,
        });
        if pipeline.is_body_due() {
            pipeline.close_bodies(&[]);
            while pipeline.take_body().is_some() {}
        }
    }
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let counters = pipeline.counters();
    Flooded { counters, peak }
}

fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let length = (20 + payload.len() as u16).to_be_bytes();
    out.extend([
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
    ]);
    out.extend(source);
    out.extend(destination);
    out.extend(payload);
}

/// A client of 10.0.0.0/8 and a port, never the same pair for two numbers.
fn client(number: u32) -> ([u8; 4], [u8; 2]) {
    let [a, b, c, d] = number.wrapping_mul(2_654_435_761).to_be_bytes();
    ([10, b, c, d], [128 | a, 1])
}

fn tcp(ports: [u8; 4], flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..4].copy_from_slice(&ports);
    segment[12] = 0x50;
    segment[13] = flags;
    segment.extend(payload);
    segment
}

fn udp(ports: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    let mut datagram = [&ports[..], &length, &[0, 0]].concat();
    datagram.extend(payload);
    datagram
}

/// `name` as a label behind its length.
fn label(name: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes()].concat()
}

fn dns(number: u32, flags: [u8; 2], answer: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let answers = u8::from(!answer.is_empty());
    let header = [high, low, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
    let name = [label(&format!("n{number}")), label("example"), vec![0]].concat();
    [&header[..], &name, &[0, 1, 0, 1], answer].concat()
}

/// A ClientHello that asks for a server name, and nothing more.
fn client_hello(name: &str) -> Vec<u8> {
    let with_u16 = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let entry = [&[0][..], &with_u16(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &with_u16(&with_u16(&entry))].concat();
    let mut hello = vec![3, 3];
    hello.extend([0; 32]);
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    hello.extend(with_u16(&extension));
    let message = [&[1, 0][..], &with_u16(&hello)].concat();
    [&[0x16, 3, 1][..], &with_u16(&message)].concat()
}

#[test]
fn a_syn_flood_stays_within_its_limits() {
    let packets = 1_000_000;
    let flooded = flood(packets, |number, out| {
        let (source, [high, low]) = client(number);
        let segment = tcp([high, low, 1, 187], 0x02, &[]);
        ipv4(6, source, [192, 0, 2, 1], &segment, out);
    });
    assert_eq!(flooded.count("flows_live"), FLOWS);
    assert_eq!(flooded.count("flows_evicted"), u64::from(packets) - FLOWS);
    assert_eq!(flooded.count("records"), flooded.count("flows_evicted"));
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}

#[test]
fn a_flood_of_dns_queries_stays_within_its_limits() {
    let flooded = flood(500_000, |number, out| {
        let (source, [high, low]) = client(number);
        let datagram = udp([high, low, 0, 53], &dns(number, [1, 0], &[]));
        ipv4(17, source, [192, 0, 2, 53], &datagram, out);
    });
    assert_eq!(flooded.count("flows_live"), FLOWS);
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}

#[test]
fn a_flood_of_dns_answers_stays_within_its_limits() {
    let flooded = flood(500_000, |number, out| {
        let (target, [high, low]) = client(number);
        let [a, b, c, d] = number.to_be_bytes();
        let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 255, 255, 0, 4, 100 | a, b, c, d];
        let datagram = udp([0, 53, high, low], &dns(number, [0x81, 0x80], &answer));
        ipv4(17, [192, 0, 2, 53], target, &datagram, out);
    });
    assert!(flooded.count("flows_live") <= FLOWS);
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}

#[test]
fn a_million_server_names_stay_within_their_limits() {
    let flooded = flood(1_000_000, |number, out| {
        let (source, [high, low]) = client(number);
        let hello = client_hello(&format!("host-{number}.example"));
        let segment = tcp([high, low, 1, 187], 0x18, &hello);
        ipv4(6, source, [192, 0, 2, 1], &segment, out);
    });
    assert_eq!(flooded.count("flows_live"), FLOWS);
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}

#[test]
fn one_connection_with_a_million_requests_stays_within_its_limits() {
    let flooded = flood(1_000_000, |number, out| {
        let request = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
        let mut segment = tcp([200, 1, 0, 80], 0x18, request);
        segment[4..8].copy_from_slice(&(number * request.len() as u32).to_be_bytes());
        ipv4(6, [10, 0, 0, 1], [192, 0, 2, 1], &segment, out);
    });
    assert_eq!(flooded.count("flows"), 1);
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}

/// Initial packets of version 1 to as many connections, of which none opens.
#[test]
fn a_flood_of_quic_initials_stays_within_its_limits() {
    let flooded = flood(100_000, |number, out| {
        let (source, [high, low]) = client(number);
        let id = number.to_be_bytes();
        let header = [&[0xc3, 0, 0, 0, 1, 8][..], &id, &id, &[0, 0, 0x44, 0x9e]].concat();
        let initial = [header, vec![0x5a; 1182]].concat();
        let datagram = udp([high, low, 1, 187], &initial);
        ipv4(17, source, [192, 0, 2, 1], &datagram, out);
    });
    assert_eq!(flooded.count("flows_live"), FLOWS);
    assert!(flooded.peak < MEMORY, "{} bytes", flooded.peak);
}
