//! The Initial packets of one connection, opened and read.

use super::crypto::{Keys, MAX_INITIAL, Opened, Scratch, Sender};
use super::crypto_stream::CryptoStream;
use super::flight::Flight;
use super::frame::{Frame, frames};
use super::packet::{ConnectionId, Long};
use super::version::{Sealing, sealings};
use super::{CLIENT, Close, Identity, SERVER};
use crate::app::tls::TlsTracker;
use crate::app::tls::alert::{self, Alert};

/// Most Initial packets that are opened, or tried: long handshakes have a dozen.
const MAX_INITIALS: u32 = 96;
/// Most key derivations. A connection needs one; version negotiation, Retry and a version of which
/// only the tag tells the salt need more.
const MAX_DERIVATIONS: u32 = 16;
/// Keys kept at once: two while a compatible version is agreed on (RFC 9368 2.3).
const MAX_KEY_SETS: usize = 2;
/// Error codes from here to 0x1ff hold a TLS alert (RFC 9000 20.1).
const CRYPTO_ERROR: u64 = 0x100;

/// The keys of both sides for one version and connection ID.
#[derive(Debug)]
struct KeySet {
    version: u32,
    sealing: &'static Sealing,
    id: ConnectionId,
    /// Derived when a packet of the side is there.
    sides: [Option<Keys>; 2],
}

impl KeySet {
    fn new(version: u32, sealing: &'static Sealing, id: ConnectionId) -> Self {
        Self {
            version,
            sealing,
            id,
            sides: [None, None],
        }
    }

    fn keys(&mut self, side: usize) -> &Keys {
        let sender = [Sender::Client, Sender::Server][side & 1];
        let (sealing, id) = (self.sealing, self.id);
        self.sides[side & 1].get_or_insert_with(|| Keys::derive(sealing, id, sender))
    }
}

/// One side's Initial packets.
#[derive(Debug, Default)]
struct Half {
    crypto: CryptoStream,
    flight: Flight,
}

/// What an Initial packet showed.
#[derive(Debug, Default)]
pub struct Found {
    /// When the packet of the other side was sent that this one answers.
    pub answered_sent_ns: Option<u64>,
    pub close: Option<Close>,
}

/// Everything that is kept of a handshake under way.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The newest last.
    key_sets: Vec<KeySet>,
    halves: [Half; 2],
    tls: TlsTracker,
    /// The version of the client's last Initial.
    client_version: u32,
    /// An Initial of the server was opened.
    answered: bool,
    initials: u32,
    derivations: u32,
}

impl Handshake {
    pub fn has_keys(&self) -> bool {
        !self.key_sets.is_empty()
    }

    pub fn has_read_hello(&self) -> bool {
        self.tls.info().client_hello_time_ns.is_some()
    }

    pub fn is_exhausted(&self) -> bool {
        self.initials >= MAX_INITIALS
    }

    pub fn note_client_version(&mut self, version: u32) {
        self.client_version = version;
    }

    /// Whether a list of versions is a refusal: a client ignores one that names the version that it
    /// speaks (RFC 9000 6.2).
    pub fn is_refused_by(&self, versions: &[u8]) -> bool {
        let (numbers, _) = versions.as_chunks();
        !numbers
            .iter()
            .any(|number| u32::from_be_bytes(*number) == self.client_version)
    }

    /// When the server's only Initial was sent, if the client has not acknowledged it: a Handshake
    /// packet of the client shows that it arrived.
    pub fn take_server_flight(&mut self) -> Option<u64> {
        self.halves[SERVER].flight.take_sole()
    }

    /// What the hellos said.
    pub fn identity(&self) -> Option<Identity> {
        let info = self.tls.info();
        info.client_hello_time_ns?;
        Some(Identity {
            server_name: info.server_name.clone(),
            alpn: info.alpn_offered.clone(),
            ech: Some(info.ech),
            tls_1_3: self.answered,
        })
    }

    /// Opens and reads a packet of `side`.
    pub fn on_initial(&mut self, side: usize, packet: &Long<'_>, time_ns: u64) -> Option<Found> {
        if self.is_exhausted() {
            return None;
        }
        self.initials += 1;
        let mut scratch = [0; MAX_INITIAL];
        let opened = match self.open_with_known_keys(side, packet, &mut scratch) {
            Some(opened) => opened,
            None => self.open_with_new_keys(side, packet, &mut scratch)?,
        };
        self.answered |= side == SERVER;
        let frames = scratch.get(opened.frames)?;
        Some(self.read(side, opened.number, frames, time_ns))
    }

    fn open_with_known_keys(
        &mut self,
        side: usize,
        packet: &Long<'_>,
        scratch: &mut Scratch,
    ) -> Option<Opened> {
        let expected = self.halves[side].flight.expected();
        self.key_sets
            .iter_mut()
            .rev()
            .filter(|set| set.version == packet.version)
            .find_map(|set| set.keys(side).open(packet, expected, scratch))
    }

    /// Tries keys not derived yet: of another version for the ID known (RFC 9368 2.3), and of the ID
    /// that the client calls the server by, which changes with a Retry or a new attempt.
    fn open_with_new_keys(
        &mut self,
        side: usize,
        packet: &Long<'_>,
        scratch: &mut Scratch,
    ) -> Option<Opened> {
        let known = self.key_sets.last().map(|set| set.id);
        let named =
            (side == CLIENT && known != Some(packet.destination)).then_some(packet.destination);
        for id in [known, named].into_iter().flatten() {
            for &sealing in sealings(packet.version) {
                let set = KeySet::new(packet.version, sealing, id);
                if let Some(opened) = self.try_keys(set, side, packet, scratch) {
                    return Some(opened);
                }
            }
        }
        None
    }

    fn try_keys(
        &mut self,
        mut set: KeySet,
        side: usize,
        packet: &Long<'_>,
        scratch: &mut Scratch,
    ) -> Option<Opened> {
        let is_derived = |known: &KeySet| known.version == set.version && known.id == set.id;
        if self.key_sets.iter().any(is_derived) || self.derivations >= MAX_DERIVATIONS {
            return None;
        }
        self.derivations += 1;
        let expected = self.halves[side].flight.expected();
        let opened = set.keys(side).open(packet, expected, scratch)?;
        self.adopt(set);
        Some(opened)
    }

    fn adopt(&mut self, set: KeySet) {
        if self.key_sets.last().is_some_and(|known| known.id != set.id) {
            self.begin_again();
        }
        if self.key_sets.len() == MAX_KEY_SETS {
            self.key_sets.remove(0);
        }
        self.key_sets.push(set);
    }

    /// The client starts its handshake anew, its ClientHello from the first byte.
    fn begin_again(&mut self) {
        self.halves = Default::default();
        if !self.has_read_hello() {
            self.tls = TlsTracker::new();
        }
    }

    fn read(&mut self, side: usize, number: u64, payload: &[u8], time_ns: u64) -> Found {
        let [client, server] = &mut self.halves;
        let (sender, receiver) = if side == CLIENT {
            (client, server)
        } else {
            (server, client)
        };
        let is_eliciting = frames(payload).any(|frame| frame.is_ack_eliciting());
        let mut found = Found::default();
        if !sender.flight.on_sent(number, time_ns, is_eliciting) {
            return found;
        }
        for frame in frames(payload) {
            match frame {
                Frame::Ping => {}
                Frame::Ack(largest) => {
                    found.answered_sent_ns = receiver.flight.on_acknowledgment(largest);
                }
                Frame::Crypto { offset, data } => sender.crypto.push(offset, data, |bytes| {
                    self.tls.feed_handshake(side == CLIENT, bytes, time_ns);
                }),
                Frame::Close(code) => found.close = Some(close(&self.tls, side, code, time_ns)),
            }
        }
        found
    }
}

fn close(tls: &TlsTracker, side: usize, error_code: u64, time_ns: u64) -> Close {
    let from_client = side == CLIENT;
    let description = error_code
        .checked_sub(CRYPTO_ERROR)
        .and_then(|alert| u8::try_from(alert).ok());
    let tls_failure = description.and_then(|description| {
        let mut info = tls.info().clone();
        info.alert = Some(Alert {
            from_client,
            level: alert::FATAL,
            description,
            time_ns,
        });
        alert::failure(&info)
    });
    Close {
        from_client,
        error_code,
        tls_failure,
    }
}
