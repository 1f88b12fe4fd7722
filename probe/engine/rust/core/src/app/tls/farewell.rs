//! Clients that leave amid a handshake without a word, and what that says.

use super::hello::Version;

/// How soon a client leaves that was put off by what it read. It needs no longer to verify a chain
/// and has a whole round trip of a mobile network in this.
const PROMPT_NS: u64 = 1_000_000_000;
/// Least bytes under protection of a server's flight that holds a certificate. A flight without one
/// (a resumed session) has some 100, and nothing that a client could take offence at.
const LEAST_CERTIFICATE_FLIGHT: u32 = 512;

/// Why a client left, as far as the order of events shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It had the server's whole flight and did not answer it.
    ServerFlight,
    /// The server chose a version that was not offered, or one older than TLS 1.2 although newer
    /// ones were offered.
    Version,
}

/// What a server has sent of its part of the handshake.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerFlight {
    /// TLS 1.3: bytes of protected records.
    protected_bytes: u32,
    /// Up to TLS 1.2: ServerHelloDone (RFC 5246 7.4.5).
    done: bool,
    last_ns: u64,
}

impl ServerFlight {
    pub fn on_record(&mut self, is_protected: bool, length: u16, time_ns: u64) {
        self.last_ns = self.last_ns.max(time_ns);
        if is_protected {
            self.protected_bytes = self.protected_bytes.saturating_add(u32::from(length));
        }
    }

    pub fn on_hello_done(&mut self) {
        self.done = true;
    }

    fn is_whole(&self, version: Version) -> bool {
        match version {
            Version::Tls13 => self.protected_bytes >= LEAST_CERTIFICATE_FLIGHT,
            _ => self.done,
        }
    }

    /// What it means that the client leaves now, having read the flight and sent nothing after it.
    pub fn rejection(
        &self,
        version: Version,
        is_version_wanted: bool,
        time_ns: u64,
    ) -> Option<Rejection> {
        if time_ns.saturating_sub(self.last_ns) > PROMPT_NS {
            None
        } else if !is_version_wanted {
            Some(Rejection::Version)
        } else {
            self.is_whole(version).then_some(Rejection::ServerFlight)
        }
    }
}
