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
use crate::source::ring;
use crate::source::{Filter, Instruction, LinkState, LiveOptions, Range, Sharding, open_interface};

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
    let options = LiveOptions {
        ignore_outgoing,
        ..LiveOptions::default()
    };
    capture_with(interface, options)
}

fn capture_with(interface: &str, options: LiveOptions) -> (Box<dyn Source>, Arc<AtomicBool>) {
    let (mut sources, stop) = capture_all(interface, options);
    (sources.remove(0), stop)
}

fn capture_all(interface: &str, options: LiveOptions) -> (Vec<Box<dyn Source>>, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let sources = open_interface(interface, options, &stop).expect("it opens");
    (sources, stop)
}

/// A ring of two megabytes.
fn tiny() -> LiveOptions {
    LiveOptions {
        ring_bytes: 1,
        ignore_outgoing: true,
        ..LiveOptions::default()
    }
}

fn refused(interface: &str) -> String {
    match open_interface(interface, LiveOptions::default(), &Arc::default()) {
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
    let (mut source, stop) = capture_with("far", tiny());
    // Seven megabytes for a ring of two.
    send(5_000, 1_400);
    let seen = drain_udp(&mut *source).len() as u64;
    stop.store(true, Ordering::Relaxed);
    let ended = (0..10).any(|_| matches!(source.next(), Ok(Event::End)));
    assert!(ended);
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
    let (mut source, _stop) = capture_with("far", tiny());
    for _ in 0..6 {
        send(600, 1_400);
        assert_eq!(drain_udp(&mut *source).len(), 600);
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
    // A wait, and the last block's time.
    assert!(stopped.elapsed() < Duration::from_millis(400));
}

#[test]
fn an_interface_that_is_down_or_gone_is_waited_for() {
    in_a_namespace("interface_goes");
}

/// Sends until a packet comes; the kernel takes up to a second to let packets pass again.
fn passes(source: &mut dyn Source) -> bool {
    (0..50).any(|_| {
        send(1, 100);
        matches!(source.next(), Ok(Event::Packet(_)))
    })
}

fn link_of(source: &dyn Source) -> LinkState {
    source.capture().expect("a live capture").link
}

fn becomes(source: &mut dyn Source, link: LinkState) -> bool {
    (0..50).any(|_| source.next().is_ok() && link_of(source) == link)
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn interface_goes_inside() {
    assert_eq!(refused("far"), "far: there is no such interface");
    cable();
    ip("link set far down");
    // A probe may be started before its port is up.
    let (mut source, _stop) = capture("far", true);
    assert!(becomes(&mut *source, LinkState::Down));
    ip("link set far up");
    assert!(passes(&mut *source));
    ip("link set far down");
    assert!(becomes(&mut *source, LinkState::Down));
    ip("link set far up");
    assert!(passes(&mut *source));
    assert!(becomes(&mut *source, LinkState::Up));
    ip("link delete far");
    assert!(becomes(&mut *source, LinkState::Gone));
    assert_eq!(source.ledger()[0].interruptions, 2);
    cable();
    assert!(passes(&mut *source));
    assert!(becomes(&mut *source, LinkState::Up));
    assert_eq!(source.ledger().len(), 1);
}

/// The packets of each source until all are silent.
fn drain_all(sources: &mut [Box<dyn Source>]) -> Vec<Vec<Vec<u8>>> {
    sources
        .iter_mut()
        .map(|source| {
            let mut packets = Vec::new();
            let mut idle = 0;
            while idle < 3 {
                match source.next().expect("no error") {
                    Event::Packet(packet) => packets.push(packet.data.to_vec()),
                    Event::Idle(_) => idle += 1,
                    Event::End => break,
                }
            }
            packets
        })
        .collect()
}

fn finish(sources: &mut [Box<dyn Source>], stop: &AtomicBool) {
    stop.store(true, Ordering::Relaxed);
    for source in sources {
        while !matches!(source.next(), Ok(Event::End)) {}
    }
}

fn frame(protocol: u8, ends: [[u8; 4]; 2], segment: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend(packet(protocol, ends, segment));
    frame
}

fn packet(protocol: u8, [source, destination]: [[u8; 4]; 2], segment: &[u8]) -> Vec<u8> {
    let len = (segment.len() as u16 + 20).to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(segment);
    packet
}

fn datagram(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16 + 8).to_be_bytes();
    let [a, b] = ports.map(u16::to_be_bytes);
    [&a[..], &b, &len, &[0, 0], payload].concat()
}

const SERVER: [u8; 4] = [203, 0, 113, 7];

fn shared(workers: u32) -> LiveOptions {
    let subscribers = vec![Range {
        network: 0xffff_6440_0000,
        length: 106,
    }];
    LiveOptions {
        workers,
        ignore_outgoing: true,
        ring_bytes: 16 << 20,
        sharding: Sharding {
            subscribers,
            ran: Vec::new(),
        },
        ..LiveOptions::default()
    }
}

#[test]
fn all_of_a_subscriber_meets_one_worker_in_the_kernel() {
    in_a_namespace("one_worker");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn one_worker_inside() {
    cable();
    let (mut sources, stop) = capture_all("far", shared(4));
    let mut sent = Vec::new();
    for number in 0..40 {
        let subscriber = [100, 64, 1, number];
        let mut frames = vec![
            frame(17, [subscriber, [8, 8, 8, 8]], &datagram([4000, 53], b"q")),
            frame(17, [[8, 8, 8, 8], subscriber], &datagram([53, 4000], b"a")),
            frame(6, [SERVER, subscriber], &[0; 20]),
        ];
        let quoted = packet(6, [subscriber, SERVER], &[0; 8]);
        let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        frames.push(frame(1, [[198, 51, 100, 1], subscriber], &error));
        // Up in a tunnel, as the container says.
        let inner = packet(6, [subscriber, SERVER], &[1; 20]);
        let header = [
            0x34,
            255,
            0,
            (8 + inner.len()) as u8,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            0x85,
            1,
            0x10,
            9,
            0,
        ];
        let tunnelled = datagram([2152, 2152], &[&header[..], &inner].concat());
        frames.push(frame(17, [[10, 0, 0, 1], [10, 0, 0, 2]], &tunnelled));
        sent.append(&mut frames);
    }
    ring::send("near", &sent).expect("they are sent");
    let sent = sent.len();
    let seen = drain_all(&mut sources);
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), sent);
    assert!(
        seen.iter().all(|packets| !packets.is_empty()),
        "all have work"
    );
    for number in 0..40u8 {
        let subscriber = [100, 64, 1, number];
        let workers = seen.iter().filter(|packets| {
            let of = |packet: &&Vec<u8>| packet.windows(4).any(|bytes| bytes == subscriber);
            packets.iter().any(|packet| of(&packet))
        });
        assert_eq!(workers.count(), 1, "{number}");
    }
    finish(&mut sources, &stop);
    let ledgers = sources.iter().map(|source| source.ledger()[0].clone());
    assert_eq!(
        ledgers.map(|ledger| ledger.received).sum::<u64>(),
        sent as u64
    );
    assert_eq!(sources[0].ledger()[0].offered, sent as u64);
    assert_eq!(sources[0].ledger()[0].unaccounted, 0);
}

#[test]
fn the_control_plane_reaches_every_worker_before_what_follows_it() {
    in_a_namespace("control_plane");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn control_plane_inside() {
    cable();
    let (mut sources, stop) = capture_all("far", shared(3));
    let nodes = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let mut control = Vec::new();
    for port in [2123, 8805, 1812, 1813] {
        control.push(frame(17, nodes, &datagram([40000, port], b"control")));
    }
    control.push(frame(132, nodes, &[b'c'; 30]));
    control.push(frame(
        17,
        nodes,
        &datagram([2152, 2152], &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0]),
    ));
    let mut sent = Vec::new();
    for round in 0..5u8 {
        sent.extend_from_slice(&control);
        for number in 0..20 {
            let ends = [[100, 64, 1, number], SERVER];
            sent.push(frame(6, ends, &[round; 20]));
        }
    }
    // A subscriber's own, whatever its port.
    let own = datagram([2123, 2123], b"not");
    sent.push(frame(17, [[100, 64, 1, 1], SERVER], &own));
    ring::send("near", &sent).expect("they are sent");
    let seen = drain_all(&mut sources);
    let is_control = |packet: &Vec<u8>| control.contains(packet);
    for packets in &seen {
        assert_eq!(
            packets.iter().filter(|packet| is_control(packet)).count(),
            30
        );
        // What a subscriber sent in one round comes behind what was said in it.
        for round in 0..5u8 {
            let of_round = |packet: &Vec<u8>| !is_control(packet) && packet.ends_with(&[round; 20]);
            let first = packets
                .iter()
                .position(of_round)
                .expect("each worker has some");
            let before = packets[..first].iter().filter(|packet| is_control(packet));
            assert_eq!(before.count(), 6 * (usize::from(round) + 1));
        }
    }
    let own = |packet: &&Vec<u8>| packet.ends_with(b"not");
    assert_eq!(seen.iter().flatten().filter(own).count(), 1);
    finish(&mut sources, &stop);
    let received: u64 = sources
        .iter()
        .map(|source| source.ledger()[0].received)
        .sum();
    assert_eq!(received, 30 + 100 + 1, "copies are counted once");
    let state = sources[1].capture().expect("a live capture");
    assert_eq!(
        (state.control_copies, state.control_copies_dropped),
        (30, 0)
    );
}

#[test]
fn workers_have_their_own_again_when_the_interface_comes_back() {
    in_a_namespace("workers_come_back");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn workers_come_back_inside() {
    cable();
    let (mut sources, _stop) = capture_all("far", shared(3));
    let mut placed = || {
        let ends = |number| [[100, 64, 1, number], SERVER];
        let frames: Vec<_> = (0..30)
            .map(|number| frame(6, ends(number), &[7; 20]))
            .collect();
        ring::send("near", &frames).expect("they are sent");
        drain_all(&mut sources)
    };
    let before = placed();
    assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 30);
    for again in ["link set far down;link set far up", "link delete far;"] {
        for command in again.split(';').filter(|command| !command.is_empty()) {
            ip(command);
            thread::sleep(Duration::from_millis(100));
        }
        if again.ends_with(';') {
            cable();
        }
        let mut after = Vec::new();
        for _ in 0..20 {
            after = placed();
            if after == before {
                break;
            }
        }
        assert!(after == before, "{again}");
    }
}

#[test]
fn what_the_filter_keeps_out_is_counted() {
    in_a_namespace("filter");
}

#[test]
#[ignore = "run by the test above, in a namespace"]
fn filter_inside() {
    cable();
    // The byte behind the UDP header is even: half of the packets.
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let program = vec![
        instruction(0x30, 0, 0, 42),
        instruction(0x45, 0, 1, 1),
        instruction(0x06, 0, 0, 0),
        instruction(0x06, 0, 0, 0x40000),
    ];
    let options = LiveOptions {
        filter: Some(Filter {
            ethernet: program,
            raw_ip: Vec::new(),
        }),
        ..tiny()
    };
    let (mut source, stop) = capture_with("far", options);
    send(100, 300);
    assert_eq!(drain_udp(&mut *source).len(), 50);
    stop.store(true, Ordering::Relaxed);
    while !matches!(source.next(), Ok(Event::End)) {}
    let ledger = &source.ledger()[0];
    assert_eq!((ledger.received, ledger.filtered), (50, 50));
    assert_eq!((ledger.offered, ledger.unaccounted), (100, 0));
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
