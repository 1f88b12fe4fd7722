//! One capture of any known format.

use std::io::Read;

use super::fault::Fault;
use super::ledger::Ledgers;
use super::pcap::{self, Pcap};
use super::pcapng::{self, Pcapng};
use super::record::Record;
use super::snoop::{self, Snoop};
use super::window::Window;
use super::{coding, fault};

/// A capture that is being read, record by record.
pub(super) struct CaptureFile {
    window: Window,
    format: Format,
    record: Record,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Box<Pcapng>),
    Snoop(Snoop),
}

impl CaptureFile {
    /// Tells compression and format by the first bytes and reads the file header. `name` is that
    /// of the ledger where the capture names no interface.
    pub fn open(
        reader: Box<dyn Read + Send>,
        name: &str,
        ledgers: &mut Ledgers,
    ) -> Result<Self, Fault> {
        let mut window = coding::open(reader)?;
        let format = Format::open(&mut window, &fault::one_line(name), ledgers)?;
        Ok(Self {
            window,
            format,
            record: Record::default(),
        })
    }

    /// Goes to the next packet; false at the end of the file. A fault follows the last packet.
    #[inline(always)]
    pub fn advance(&mut self, ledgers: &mut Ledgers) -> Result<bool, Fault> {
        let (window, record) = (&mut self.window, &mut self.record);
        Ok(match &mut self.format {
            Format::Pcap(pcap) => pcap.next(window, record)?,
            Format::Pcapng(pcapng) => pcapng.next(window, ledgers, record)?,
            Format::Snoop(snoop) => snoop.next(window, ledgers, record)?,
        })
    }

    /// The packet that `advance` went to.
    #[inline]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The bytes of that packet.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.window.at(self.record.data)
    }
}

impl Format {
    fn open(window: &mut Window, name: &str, ledgers: &mut Ledgers) -> Result<Self, Fault> {
        window.has(8)?;
        if window.bytes().is_empty() {
            return Err(Fault::Empty);
        }
        let first = window.bytes();
        if pcapng::recognizes(first) {
            return Pcapng::open(window, name).map(|pcapng| Self::Pcapng(Box::new(pcapng)));
        }
        if snoop::recognizes(first) {
            return Snoop::open(window, ledgers.interface(name)).map(Self::Snoop);
        }
        if pcap::recognizes(first) {
            return Pcap::open(window, ledgers.interface(name)).map(Self::Pcap);
        }
        Err(Fault::not_a_capture(first))
    }
}
