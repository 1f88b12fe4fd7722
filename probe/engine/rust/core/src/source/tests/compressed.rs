use std::io::Write;

use super::build::*;
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// With checksum, as the zstd command writes it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.include_checksum(true).expect("an encoder");
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// Bytes that do not compress away, so that a cut leaves some of the packets.
fn long_capture() -> Vec<u8> {
    let mut state = 1_u32;
    let mut file = pcap_header(Order::Little, MICROSECONDS, 1);
    for second in 0..2_000 {
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(600)
        .collect();
        file.extend(pcap_record(Order::Little, (second, 0), (600, 600), &data));
    }
    file
}

#[test]
fn compressed_captures_of_each_format_are_read_whatever_their_name() {
    for plain in [pcap_of(&[1, 2, 3]), pcapng_of(3)] {
        let expected = read(&plain);
        assert_eq!(expected.packets.len(), 3);
        assert_eq!(read(&gzip(&plain)), expected);
        assert_eq!(read(&zstd(&plain)), expected);
    }
}

#[test]
fn members_and_frames_that_follow_each_other_are_one_capture() {
    let plain = pcap_of(&[1, 2, 3]);
    let (one, other) = plain.split_at(50);
    let expected = read(&plain);
    assert_eq!(read(&[gzip(one), gzip(other)].concat()), expected);
    assert_eq!(read(&[zstd(one), zstd(other)].concat()), expected);
}

#[test]
fn a_skippable_frame_may_come_first() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let file = [&skippable[..], &zstd(&pcap_of(&[1]))].concat();
    assert_eq!(read(&file), read(&pcap_of(&[1])));
}

#[test]
fn cut_compressed_data_gives_the_packets_before_the_cut_and_an_error() {
    let plain = long_capture();
    let whole = read(&plain).packets;
    for (coding, packed) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
        let outcome = read(&packed[..packed.len() / 2]);
        let error = outcome.error();
        let expected = format!("test.pcap: damaged {coding} data after ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(outcome.packets.len() > 500, "{}", outcome.packets.len());
        assert_eq!(outcome.packets, whole[..outcome.packets.len()]);
    }
}

#[test]
fn damaged_compressed_data_is_an_error() {
    let plain = long_capture();
    for mut packed in [gzip(&plain), zstd(&plain)] {
        let middle = packed.len() / 2;
        packed[middle..middle + 64].fill(0xff);
        let outcome = read(&packed);
        assert!(outcome.error.is_some());
        assert!(outcome.packets.len() <= 2_000);
    }
}

#[test]
fn compressed_things_that_are_no_capture_are_refused() {
    assert!(open_error(&gzip(b"hello, world")).contains("not a capture file"));
    assert!(open_error(&zstd(b"")).contains("the file is empty"));
    assert!(open_error(&[0x1f, 0x8b, 8, 0]).contains("damaged gzip data"));
    assert!(open_error(&gzip(&gzip(&pcap_of(&[1])))).contains("not a capture file"));
}

#[test]
fn a_frame_that_wants_a_huge_window_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(28).expect("a window");
    encoder.write_all(&pcap_of(&[1])).expect("memory takes all");
    let packed = encoder.finish().expect("memory takes all");
    assert!(open_error(&packed).contains("damaged zstd data"));
}
