use std::io::{self, Read};

use proptest::prelude::*;

use super::build::*;
use super::*;

/// Hands out at most so many bytes at a time, as a pipe may.
struct Chunks {
    bytes: io::Cursor<Vec<u8>>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = self.sizes[self.turn % self.sizes.len()].min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

fn read_in_chunks(bytes: &[u8], sizes: &[usize]) -> Outcome {
    let reader = Chunks {
        bytes: io::Cursor::new(bytes.to_vec()),
        sizes: sizes.to_vec(),
        turn: 0,
    };
    let mut source = open_reader("test.pcap", Box::new(reader), 0).expect("it opens");
    drain(&mut *source)
}

/// Reads whatever it is; the counters must account for every packet.
fn read_anything(bytes: &[u8]) {
    let Ok(mut source) = open(bytes) else {
        return;
    };
    let outcome = drain(&mut *source);
    let counted: u64 = outcome
        .ledger
        .iter()
        .map(|e| e.received - e.no_timestamp)
        .sum();
    assert_eq!(counted, outcome.packets.len() as u64);
    for packet in &outcome.packets {
        assert!(packet.data.len() <= packet.wire_len as usize);
        assert!((packet.interface as usize) < outcome.ledger.len());
    }
    assert!(!outcome.error().contains('\n'));
}

fn snoop_of(packets: usize) -> Vec<u8> {
    let mut file = snoop_header(2, 4);
    for index in 0..packets {
        file.extend(snoop_record((index as u32, 0), 0, &vec![1; index]));
    }
    file
}

fn captures() -> Vec<Vec<u8>> {
    let seconds: Vec<u32> = (0..40).collect();
    let mut mixed = pcapng_of(20);
    mixed.extend(block(Order::Little, 99, &[0; 100]));
    mixed.extend(simple(Order::Little, b"abc"));
    mixed.extend(section(Order::Big));
    mixed.extend(interface(Order::Big, 101, &[]));
    mixed.extend(enhanced(Order::Big, 0, 77, b"defg"));
    vec![pcap_of(&seconds), mixed, snoop_of(20)]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_anything(&bytes);
    }

    #[test]
    fn arbitrary_bytes_after_a_header_never_panic(
        which in 0_usize..8,
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let order = if which % 2 == 0 { Order::Little } else { Order::Big };
        let head = match which {
            0 | 1 => pcap_header(order, MICROSECONDS, 1),
            2 | 3 => section(order),
            4 | 5 => [section(order), interface(order, 1, &[])].concat(),
            6 => snoop_header(2, 4),
            _ => vec![0x28, 0xb5, 0x2f, 0xfd],
        };
        read_anything(&[head, bytes].concat());
    }

    #[test]
    fn changed_bytes_never_panic(
        which in 0_usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = captures().swap_remove(which);
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        read_anything(&file);
    }

    #[test]
    fn chunks_of_any_size_give_the_same_packets(
        which in 0_usize..3,
        sizes in proptest::collection::vec(1_usize..70, 1..6),
    ) {
        let file = captures().swap_remove(which);
        prop_assert_eq!(read_in_chunks(&file, &sizes), read(&file));
    }

    #[test]
    fn a_prefix_gives_the_packets_before_the_cut_then_an_error(
        which in 0_usize..3,
        cut in any::<prop::sample::Index>(),
    ) {
        let file = captures().swap_remove(which);
        let whole = read(&file);
        let cut = cut.index(file.len());
        let Ok(mut source) = open(&file[..cut]) else {
            prop_assert!(cut < 24);
            return Ok(());
        };
        let outcome = drain(&mut *source);
        prop_assert_eq!(&outcome.packets[..], &whole.packets[..outcome.packets.len()]);
        let ends_between = read(&file[..cut]).error.is_none();
        prop_assert!(ends_between || outcome.error().contains("truncated: "));
    }
}

#[test]
fn a_cut_at_any_byte_loses_only_what_is_cut() {
    let file = pcap_of(&[1, 2, 3]);
    let ends = [24, 24 + 17, 24 + 17 + 18, 24 + 17 + 18 + 19];
    for cut in 24..file.len() {
        let outcome = read(&file[..cut]);
        let complete = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(outcome.packets.len(), complete, "cut at {cut}");
        assert_eq!(outcome.error.is_none(), ends.contains(&cut), "cut at {cut}");
    }
}

#[test]
fn a_reader_that_fails_is_an_error_after_the_packets_before_it() {
    struct Broken(io::Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the disk is gone")),
                count => Ok(count),
            }
        }
    }
    let reader = Broken(io::Cursor::new(pcap_of(&[1, 2])));
    let mut source = open_reader("x.pcap", Box::new(reader), 0).expect("it opens");
    let outcome = drain(&mut *source);
    assert_eq!(outcome.packets.len(), 2);
    assert_eq!(
        outcome.error(),
        "x.pcap: cannot be read on after 59 bytes: the disk is gone"
    );
}
