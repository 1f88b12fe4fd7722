//! What a session of a time of overload leaves unread (see `engine::overload`).

use std::sync::Arc;

use super::{Application, Dns, Protocol, Quic};
use crate::app::quic::{Budget, QuicTracker, looks_like_quic, spin_of};

impl Application {
    /// A session over TCP that begins now: certificates are left unread.
    pub fn without_certificates() -> Self {
        Self {
            leaves_certificates: true,
            ..Self::default()
        }
    }

    /// A session that begins with this datagram of its client: the handshake of QUIC is read if it fails.
    pub fn with_unread_handshake(server_port: u16, datagram: &[u8], budget: &Arc<Budget>) -> Self {
        if Dns::over_udp(server_port, datagram).is_some() || !looks_like_quic(datagram) {
            return Self::default();
        }
        let tracker = QuicTracker::unread(budget);
        Self::resumed(Quic { tracker })
    }

    /// Packets whose content was left unread since the last call.
    pub fn take_unread(&mut self) -> u32 {
        match &mut self.protocol {
            Protocol::Quic(quic) => quic.tracker.take_unread(),
            Protocol::Tls(tls) => tls.tracker.info_mut().take_unread().into(),
            Protocol::TlsRead(summary) => summary.take_unread().into(),
            _ => 0,
        }
    }

    /// Passes over a 1-RTT packet of a QUIC connection that is up: all it could tell is a round trip.
    /// Returns false if there is more in the datagram.
    pub fn pass_over(&mut self, datagram: &[u8]) -> bool {
        let Protocol::Quic(quic) = &mut self.protocol else {
            return false;
        };
        let is_passed = quic.is_connected() && spin_of(datagram).is_some();
        if is_passed {
            quic.tracker.interrupt_round_trips();
        }
        is_passed
    }
}
