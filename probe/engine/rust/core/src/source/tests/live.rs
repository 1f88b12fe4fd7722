//! Live capture, in network namespaces that these tests make and that end with them.
//!
//! Each test runs itself again under `unshare --net`, as an ignored test of the same name with
//! `_inside`; where that is not permitted it is skipped with the reason.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::build::SECOND;
use super::*;
use crate::source::live::Live;
use crate::source::{LiveOptions, open_interface};

/// Set for the tests that run in a namespace: nothing else may touch interfaces.
const INSIDE: &str = "EDGEQOE_TEST_INSIDE_NAMESPACE";

fn in_a_namespace(test: &str) {
    if !Command::new("unshare")
        .args(["--net", "true"])
        .status()
        .is_ok_and(|s| s.success())
    {
        eprintln!("skipped: network namespaces need root and unshare");
        return;
    }
    let itself = std::env::current_exe().expect("the test's path");
    let name = format!("source::tests::live::{test}_inside");
    let mut command = Command::new("unshare");
    command.env(INSIDE, "1").arg("--net").arg(itself);
    let output = command
        .args(["--exact", &name, "--ignored"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

fn ip(arguments: &str) {
    assert!(std::env::var_os(INSIDE).is_some(), "only in a namespace");
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {arguments}"
    );
}

/// A cable: what is sent to 192.0.2.2 leaves `near` and arrives at `far`.
fn cable() {
    ip("link add near type veth peer name far address 02:00:00:00:00:02");
    for end in ["near", "far"] {
        // No packets of its own.
        ip(&format!("link set {end} arp off multicast off up"));
    }
    ip("address add 192.0.2.1/24 dev near");
    ip("neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev near");
}

fn send(packets: usize, len: usize) {
    let socket = UdpSocket::bind("192.0.2.1:4000").expect("an address");
    for index in 0..packets {
        let mut payload = vec![b'q'; len];
        payload[0] = index as u8;
        socket
            .send_to(&payload, "192.0.2.2:5000")
            .expect("it is sent");
    }
}

fn capture(interface: &str, ignore_outgoing: bool) -> (Box<dyn Source>, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let options = LiveOptions {
        ignore_outgoing,
        ..LiveOptions::default()
    };
    let source = open_interface(interface, options, Arc::clone(&stop)).expect("it opens");
    (source, stop)
}

fn refused(interface: &str) -> String {
    let stop = Arc::default();
    match open_interface(interface, LiveOptions::default(), stop) {
        Ok(_) => "it opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The UDP packets of the test until the first idle time after one of them.
fn drain_udp(source: &mut dyn Source) -> Vec<Seen> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match source.next().expect("no error") {
            Event::Packet(packet) => seen.push(Seen {
                time_ns: packet.time_ns,
                interface: packet.interface,
                link: packet.link,
                wire_len: packet.wire_len,
                data: packet.data.to_vec(),
            }),
            Event::Idle(_) if !seen.is_empty() => break,
            Event::Idle(_) => {}
            Event::End => break,
        }
    }
    seen.retain(|packet| packet.data.contains(&b'q'));
    seen
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_nanos() as u64
}

#[test]
fn packets_are_captured_with_kernel_time_and_whole() {
    in_a_namespace("packets_are_captured");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn packets_are_captured_inside() {
    cable();
    let (mut source, _stop) = capture("far", true);
    let before = now_ns();
    send(20, 300);
    let seen = drain_udp(&mut *source);
    assert_eq!(seen.len(), 20);
    for (index, packet) in seen.iter().enumerate() {
        assert_eq!((packet.data.len(), packet.wire_len), (342, 342));
        assert_eq!(packet.data[42], index as u8);
        assert_eq!(packet.link, LinkType::Ethernet);
        assert!((before..before + 10 * SECOND).contains(&packet.time_ns));
    }
    assert_eq!(source.ledger()[0].name, "far");
    assert!(source.ledger()[0].received >= 20);
    assert_eq!(source.ledger()[0].dropped_kernel, 0);
}

#[test]
fn packets_sent_are_seen_unless_ignored() {
    in_a_namespace("packets_sent");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn packets_sent_inside() {
    cable();
    let (mut all, _stop) = capture("near", false);
    let (mut received, _stop) = capture("near", true);
    send(5, 100);
    assert_eq!(drain_udp(&mut *all).len(), 5);
    let Event::Idle(_) = received.next().expect("no error") else {
        panic!("a packet that was sent was seen");
    };
}

#[test]
fn loopback_shows_each_packet_once() {
    in_a_namespace("loopback");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn loopback_inside() {
    ip("link set lo up");
    let (mut source, _stop) = capture("lo", false);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("an address");
    socket
        .send_to(b"qqqq", socket.local_addr().expect("bound"))
        .expect("it is sent");
    assert_eq!(drain_udp(&mut *source).len(), 1);
}

#[test]
fn vlan_tags_are_in_the_packet() {
    in_a_namespace("vlan_tags");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn vlan_tags_inside() {
    cable();
    let (mut source, _stop) = capture("far", true);
    let tags = [0x88, 0xa8, 0x20, 0x64, 0x81, 0, 0, 7];
    let frame = [
        &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..],
        &tags,
        b"\x08\x00qqqqqqqq",
    ]
    .concat();
    send_frame("near", &frame);
    let seen = drain_udp(&mut *source);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].data, frame);
    assert_eq!(seen[0].wire_len as usize, frame.len());
}

/// Sends a frame as it is; the kernel takes its outer tag out where it arrives.
fn send_frame(interface: &str, frame: &[u8]) {
    let code = "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); \
                s.bind((sys.argv[1], 0)); s.send(bytes.fromhex(sys.argv[2]))";
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let status = Command::new("python3")
        .args(["-c", code, interface, &hex])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn packets_that_do_not_fit_are_counted() {
    in_a_namespace("overflow");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn overflow_inside() {
    cable();
    let stop = Arc::new(AtomicBool::new(false));
    let options = LiveOptions::default();
    let mut source = Live::open("far", options, Arc::clone(&stop), 2).expect("it opens");
    // Seven megabytes for a ring of two.
    send(5_000, 1_400);
    let seen = drain_udp(&mut source).len() as u64;
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(source.next(), Ok(Event::End)));
    let ledger = &source.ledger()[0];
    assert!(ledger.dropped_kernel > 1_000, "{ledger:?}");
    assert_eq!(seen + ledger.dropped_kernel, 5_000);
    assert_eq!(ledger.received, seen);
}

#[test]
fn every_block_of_the_ring_is_used_again() {
    in_a_namespace("wrap");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn wrap_inside() {
    cable();
    let options = LiveOptions::default();
    let mut source = Live::open("far", options, Arc::default(), 2).expect("it opens");
    for _ in 0..6 {
        send(600, 1_400);
        assert_eq!(drain_udp(&mut source).len(), 600);
    }
    assert_eq!(source.ledger()[0].dropped_kernel, 0);
}

#[test]
fn silence_is_idle_and_stop_ends_at_once() {
    in_a_namespace("silence");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn silence_inside() {
    cable();
    let (mut source, stop) = capture("far", true);
    let Ok(Event::Idle(time_ns)) = source.next() else {
        panic!("not idle");
    };
    let age = now_ns() - time_ns;
    assert!(age < SECOND, "{age}");
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
        Instant::now()
    });
    while !matches!(source.next(), Ok(Event::End)) {}
    let stopped = stopper.join().expect("it stopped");
    assert!(stopped.elapsed() < Duration::from_millis(200));
}

#[test]
fn an_interface_that_goes_is_an_error_and_one_that_is_down_is_waited_for() {
    in_a_namespace("interface_goes");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn interface_goes_inside() {
    assert_eq!(refused("far"), "far: there is no such interface");
    cable();
    ip("link set far down");
    assert_eq!(refused("far"), "far: the interface is down");
    ip("link set far up");
    let (mut source, _stop) = capture("far", true);
    ip("link set far down");
    assert!(matches!(source.next(), Ok(Event::Idle(_))));
    ip("link set far up");
    // The kernel takes up to a second to let packets pass again.
    let passes = |_| {
        send(1, 100);
        matches!(source.next(), Ok(Event::Packet(_)))
    };
    assert!((0..50).any(passes));
    ip("link delete far");
    let error = (0..50)
        .find_map(|_| source.next().err())
        .expect("the interface is gone");
    assert_eq!(error.to_string(), "far: the interface has disappeared");
}

#[test]
fn without_the_capability_the_error_names_it() {
    in_a_namespace("without_capability");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn without_capability_inside() {
    ip("link set lo up");
    let itself = std::env::current_exe().expect("the test's path");
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .arg(itself);
    let name = "source::tests::live::refused_for_want_of_the_capability";
    let output = command
        .args(["--exact", name, "--ignored"])
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by the test above, without the capability"]
fn refused_for_want_of_the_capability() {
    assert_eq!(
        refused("lo"),
        "lo: no permission to capture: the process needs CAP_NET_RAW"
    );
}
