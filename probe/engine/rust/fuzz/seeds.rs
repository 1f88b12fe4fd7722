//! Writes the inputs that fuzzing starts from: `cargo run --example seeds CAPTURE...` cuts captures into
//! `corpus/<target>/`, each piece in the form that its target reads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use edgeqoe_core::app::dtls::begins_client_hello;
use edgeqoe_core::app::http::Opening;
use edgeqoe_core::app::quic::looks_like_quic;
use edgeqoe_core::control::gtp::is_control;
use edgeqoe_core::control::learner::Learner;
use edgeqoe_core::control::reader::Reader;
use edgeqoe_core::control::sctp::{Payload, Sctp};
use edgeqoe_core::control::{pfcp, radius};
use edgeqoe_core::decap::{Decoded, Decoder, FragmentLimits, Inner, Transport};
use edgeqoe_core::record::pseudonym::Pseudonyms;
use edgeqoe_core::source::{Event, LinkType, Packet, open_files};

/// Larger inputs are slower to try, not better.
const MAX_SEED: usize = 64 * 1024;
/// Most inputs from one capture for one target: long captures repeat themselves.
const MAX_PER_CAPTURE: usize = 200;
/// Frames of one capture that make one input of the targets that read several.
const FRAMES_TOGETHER: usize = 40;

/// Where the pieces of one capture go.
struct Seeds {
    directory: PathBuf,
    capture: String,
    written: HashMap<&'static str, usize>,
}

impl Seeds {
    fn write(&mut self, target: &'static str, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.entry(target).or_default();
        if *number == MAX_PER_CAPTURE || bytes.is_empty() || bytes.len() > MAX_SEED {
            return Ok(());
        }
        *number += 1;
        let directory = self.directory.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("{}-{number}", self.capture)), bytes)
    }
}

/// What one capture holds for the targets that read more than a packet at a time.
#[derive(Default)]
struct Pieces {
    frames: Vec<Vec<u8>>,
    /// Bytes of each direction in the order of capture, by five-tuple as the sender has it.
    streams: HashMap<[u8; 36], Vec<u8>>,
    /// Segments of both directions.
    tcp: HashMap<[u8; 36], Vec<u8>>,
    /// Datagrams with long headers of both directions.
    quic: HashMap<[u8; 36], Vec<u8>>,
    /// Datagrams of both directions from a ClientHello of DTLS on.
    dtls: HashMap<[u8; 36], Vec<u8>>,
    /// SCTP packets of both directions.
    sctp: HashMap<[u8; 36], Vec<u8>>,
    associations: Sctp,
}

fn main() -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    made_by_hand(&directory)?;
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let capture = path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let mut seeds = Seeds {
            directory: directory.clone(),
            capture: capture.unwrap_or_default(),
            written: HashMap::new(),
        };
        whole_file(&mut seeds, &fs::read(&path)?)?;
        let pieces = take_apart(&mut seeds, &path)?;
        put_together(&mut seeds, pieces)?;
        seeds.write("bearers", &kept_of(&path))?;
    }
    Ok(())
}

/// Inputs below `seeds/` that no capture gives: what stands in sealed packets.
fn made_by_hand(directory: &Path) -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in fs::read_dir(seeds)? {
        let target = target?;
        let corpus = directory.join(target.file_name());
        fs::create_dir_all(&corpus)?;
        for seed in fs::read_dir(target.path())? {
            let seed = seed?;
            fs::copy(seed.path(), corpus.join(seed.file_name()))?;
        }
    }
    Ok(())
}

/// The capture as a file: `pcap` reads it behind a choice of no magic, `pcapng` behind its section.
fn whole_file(seeds: &mut Seeds, file: &[u8]) -> io::Result<()> {
    seeds.write("pcap", &[&[0xff], file].concat())?;
    match file {
        [0x0a, 0x0d, 0x0d, 0x0a, first, ..] if file.len() > 28 => {
            let big_endian = u8::from(*first == 0);
            seeds.write("pcapng", &[&[big_endian], &file[28..]].concat())
        }
        _ => Ok(()),
    }
}

/// What the control plane of a capture leaves to be kept over a restart.
fn kept_of(path: &Path) -> Vec<u8> {
    const LIMIT: usize = 100;
    let pseudonyms = Pseudonyms::new(b"key");
    let (mut reader, mut learner, mut now_ns) = (Reader::new(), Learner::new(LIMIT), 0);
    let mut decoder = Decoder::new(FragmentLimits::default());
    let Ok(mut source) = open_files(&[path.to_path_buf()], 0) else {
        return Vec::new();
    };
    while let Ok(Event::Packet(packet)) = source.next() {
        let Ok(Decoded::Inner(inner)) = decoder.decode(&packet) else {
            continue;
        };
        now_ns = packet.time_ns;
        if Reader::is_control(&inner) {
            let ends = [inner.source, inner.destination];
            reader.on_packet(&inner, now_ns, |message| {
                learner.on_message(message, ends, now_ns, &pseudonyms);
            });
        }
    }
    learner.save(now_ns).write()
}

fn take_apart(seeds: &mut Seeds, path: &Path) -> io::Result<Pieces> {
    let mut pieces = Pieces::default();
    let mut decoder = Decoder::new(FragmentLimits::default());
    let Ok(mut source) = open_files(&[path.to_path_buf()], 0) else {
        return Ok(pieces);
    };
    // A damaged capture ends early; what came before its damage is used.
    while let Ok(Event::Packet(packet)) = source.next() {
        if let Some(frame) = frame_seed(&packet) {
            pieces.frames.push(frame);
        }
        if let Ok(Decoded::Inner(inner)) = decoder.decode(&packet) {
            inner_seeds(seeds, &mut pieces, &inner)?;
        }
    }
    Ok(pieces)
}

/// A frame as the targets `decap` and `engine` read it: link type, length, bytes not captured.
fn frame_seed(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let link = match packet.link {
        LinkType::Ethernet => 0,
        LinkType::Loopback => 1,
        LinkType::Ppp => 2,
        LinkType::RawIp => 3,
        LinkType::LinuxSll => 4,
        LinkType::LinuxSll2 => 5,
        LinkType::Other(_) => return None,
    };
    let data = &packet.data[..packet.data.len().min(255)];
    let uncaptured = (packet.wire_len as usize - data.len()).min(255) as u8;
    Some([&[link, data.len() as u8, uncaptured], data].concat())
}

fn inner_seeds(seeds: &mut Seeds, pieces: &mut Pieces, inner: &Inner<'_>) -> io::Result<()> {
    match inner.transport {
        Transport::Tcp => {
            segment_seeds(pieces, inner);
            Ok(())
        }
        Transport::Udp => match inner.segment {
            [_, _, _, _, _, _, _, _, payload @ ..] => datagram_seeds(seeds, pieces, inner, payload),
            _ => Ok(()),
        },
        Transport::Sctp if inner.segment.len() >= 4 => sctp_seeds(seeds, pieces, inner),
        // Type, code, checksum and a word stand before the packet that an error quotes.
        Transport::Icmp => seeds.write("icmp", inner.segment.get(8..).unwrap_or_default()),
        _ => Ok(()),
    }
}

fn segment_seeds(pieces: &mut Pieces, inner: &Inner<'_>) {
    let header_len = inner
        .segment
        .get(12)
        .map_or(0, |byte| usize::from(byte >> 4) * 4);
    if let Some(payload) = inner.segment.get(header_len..) {
        let stream = pieces.streams.entry(five_tuple(inner)).or_default();
        stream.extend_from_slice(payload);
        let segments = pieces.tcp.entry(both_ends(inner)).or_default();
        segments.extend(tcp_seed(inner));
    }
}

/// A segment as the target `tcp` reads it: 1 ms after the one before, by whom, its length, and how
/// many units of 8 bytes of it are left out.
fn tcp_seed(inner: &Inner<'_>) -> Vec<u8> {
    let segment = &inner.segment[..inner.segment.len().min(64)];
    let sender = u8::from(five_tuple(inner) != both_ends(inner));
    let left_out = ((inner.segment_len as usize - segment.len()) / 8).min(255) as u8;
    let head = [0x40 | sender, segment.len() as u8, left_out];
    [&head, segment].concat()
}

fn datagram_seeds(
    seeds: &mut Seeds,
    pieces: &mut Pieces,
    inner: &Inner<'_>,
    payload: &[u8],
) -> io::Result<()> {
    let key = five_tuple(inner);
    let ports = [[key[32], key[33]], [key[34], key[35]]].map(u16::from_be_bytes);
    if looks_like_quic(payload) {
        let stream = pieces.quic.entry(both_ends(inner)).or_default();
        stream.extend(quic_seed(ports[1] < ports[0], payload));
    }
    let begun = pieces.dtls.contains_key(&both_ends(inner));
    if begun || begins_client_hello(payload) {
        let stream = pieces.dtls.entry(both_ends(inner)).or_default();
        stream.extend(dtls_seed(key != both_ends(inner), payload));
    }
    for (target, of_target) in [
        ("dns", &[53][..]),
        ("pfcp", &[pfcp::PORT]),
        ("radius", &radius::PORTS),
    ] {
        if ports.iter().any(|port| of_target.contains(port)) {
            seeds.write(target, payload)?;
        }
    }
    if is_control(ports, payload) {
        seeds.write("gtpc", payload)?;
    }
    Ok(())
}

/// A packet as the target `sctp` reads it: by whom, its length; and the messages in it.
fn sctp_seeds(seeds: &mut Seeds, pieces: &mut Pieces, inner: &Inner<'_>) -> io::Result<()> {
    let key = both_ends(inner);
    let [high, low] = (inner.segment.len() as u16).to_be_bytes();
    let head = [u8::from(five_tuple(inner) != key), high, low];
    let packets = pieces.sctp.entry(key).or_default();
    packets.extend([&head, inner.segment].concat());
    let mut result = Ok(());
    let (source, destination) = (inner.source, inner.destination);
    let associations = &mut pieces.associations;
    associations.on_packet(source, destination, inner.segment, 0, |payload, message| {
        let target = match payload {
            Payload::S1ap => "s1ap",
            Payload::Ngap => "ngap",
        };
        result = seeds.write(target, message);
    });
    result
}

/// A datagram as the target `dtls` reads it: by whom, its length.
fn dtls_seed(is_second: bool, datagram: &[u8]) -> Vec<u8> {
    let [high, low] = (datagram.len() as u16).to_be_bytes();
    [&[u8::from(is_second), high, low], datagram].concat()
}

fn five_tuple(inner: &Inner<'_>) -> [u8; 36] {
    let mut key = [0; 36];
    key[..16].copy_from_slice(&inner.source.0.to_be_bytes());
    key[16..32].copy_from_slice(&inner.destination.0.to_be_bytes());
    key[32..].copy_from_slice(&inner.segment[..4]);
    key
}

/// The five-tuple of whichever side comes first.
fn both_ends(inner: &Inner<'_>) -> [u8; 36] {
    let key = five_tuple(inner);
    key.min(reverse(&key))
}

/// A datagram as the target `quic` reads it: unsealed, by whom, its length in units of 8 bytes.
fn quic_seed(from_client: bool, datagram: &[u8]) -> Vec<u8> {
    let units = (datagram.len() / 8).min(255);
    let kind = if from_client { 2 } else { 3 };
    [&[kind, units as u8], &datagram[..units * 8]].concat()
}

/// The same five-tuple from the other side.
fn reverse(key: &[u8; 36]) -> [u8; 36] {
    let mut other = *key;
    other[..32].rotate_left(16);
    other[32..].rotate_left(2);
    other
}

fn put_together(seeds: &mut Seeds, pieces: Pieces) -> io::Result<()> {
    for frames in pieces.frames.chunks(FRAMES_TOGETHER) {
        seeds.write("decap", &frames.concat())?;
        seeds.write("engine", &frames.concat())?;
    }
    write_sorted(seeds, "quic", &pieces.quic)?;
    write_sorted(seeds, "dtls", &pieces.dtls)?;
    write_sorted(seeds, "tcp", &pieces.tcp)?;
    write_sorted(seeds, "sctp", &pieces.sctp)?;
    let mut keys: Vec<_> = pieces.streams.keys().copied().collect();
    keys.sort_unstable();
    for key in keys {
        let received = pieces.streams.get(&reverse(&key));
        let received = received.map_or(&[][..], |bytes| prefix(bytes));
        stream_seeds(seeds, &key, prefix(&pieces.streams[&key]), received)?;
    }
    Ok(())
}

fn write_sorted(
    seeds: &mut Seeds,
    target: &'static str,
    pieces: &HashMap<[u8; 36], Vec<u8>>,
) -> io::Result<()> {
    let mut pieces: Vec<_> = pieces.iter().collect();
    pieces.sort_unstable();
    for (_, bytes) in pieces {
        seeds.write(target, prefix(bytes))?;
    }
    Ok(())
}

/// What one side sent, with what it received.
fn stream_seeds(seeds: &mut Seeds, key: &[u8; 36], sent: &[u8], received: &[u8]) -> io::Result<()> {
    let split = (sent.len() * 256 / (sent.len() + received.len()).max(1)).min(255) as u8;
    let both = || [&[split, 100], sent, received].concat();
    if let [0x16, 0x03, _, _, _, 1, ..] = sent {
        seeds.write("tls", &both())?;
        seeds.write("certificate", certificate(received))?;
    }
    if Opening::of(sent) == Some(Opening::Request) {
        seeds.write("http", &both())?;
    }
    if key[32..34] == [0, 53] || key[34..] == [0, 53] {
        seeds.write("dns", sent)?;
    }
    Ok(())
}

/// From the body of what looks like a Certificate message on: its length is that of the chain and 3.
fn certificate(stream: &[u8]) -> &[u8] {
    let length = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    let begins = |window: &[u8]| {
        window[0] == 11 && window[1] == 0 && length(&window[1..4]) == length(&window[4..7]) + 3
    };
    let start = stream.windows(7).position(begins);
    start.map_or(&[], |start| &stream[start + 4..])
}

/// A handshake stands at the start of its stream.
fn prefix(stream: &[u8]) -> &[u8] {
    &stream[..stream.len().min(16 * 1024)]
}
