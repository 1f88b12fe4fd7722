//! What the sources promise, on bytes that the tests make.

mod build;
mod compressed;
mod files;
mod hostile;
mod live;
mod pcap;
mod pcapng;
mod reference;
mod snoop;

use std::io::Cursor;

use super::{Event, InterfaceLedger, LinkType, Source, SourceError, open_reader};

/// A packet that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    time_ns: u64,
    interface: u32,
    link: LinkType,
    wire_len: u32,
    data: Vec<u8>,
}

/// All that came out of a source until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    packets: Vec<Seen>,
    ledger: Vec<InterfaceLedger>,
    error: Option<String>,
}

impl Outcome {
    fn times(&self) -> Vec<u64> {
        self.packets.iter().map(|packet| packet.time_ns).collect()
    }

    fn error(&self) -> &str {
        self.error.as_deref().unwrap_or("no error")
    }
}

fn drain(source: &mut dyn Source) -> Outcome {
    let mut packets = Vec::new();
    let error = loop {
        match source.next() {
            Ok(Event::Packet(packet)) => packets.push(Seen {
                time_ns: packet.time_ns,
                interface: packet.interface,
                link: packet.link,
                wire_len: packet.wire_len,
                data: packet.data.to_vec(),
            }),
            Ok(Event::Idle(_)) => {}
            Ok(Event::End) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    Outcome {
        packets,
        ledger: source.ledger().to_vec(),
        error,
    }
}

fn open(bytes: &[u8]) -> Result<Box<dyn Source>, SourceError> {
    open_reader("test.pcap", Box::new(Cursor::new(bytes.to_vec())), 0)
}

fn read(bytes: &[u8]) -> Outcome {
    drain(&mut *open(bytes).expect("the capture opens"))
}

fn open_error(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(_) => "it opened".to_owned(),
        Err(error) => error.to_string(),
    }
}
