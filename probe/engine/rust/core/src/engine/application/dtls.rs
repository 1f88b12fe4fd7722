//! DTLS on one flow: from datagrams to what its handshake said.

use super::{Report, first_time, tls};
use crate::app::dtls::DtlsTracker;
use crate::engine::failure::Failure;

/// DTLS on one flow. In calls either side may be the one that says ClientHello (RFC 5763 5).
#[derive(Debug)]
pub struct Dtls {
    tracker: DtlsTracker,
    begun_by_client: bool,
    setup_said: bool,
}

impl Dtls {
    pub fn begun_by(client: bool) -> Self {
        Self {
            tracker: DtlsTracker::default(),
            begun_by_client: client,
            setup_said: false,
        }
    }

    pub fn on_datagram(&mut self, by_client: bool, payload: &[u8], time_ns: u64) {
        let from_beginner = by_client == self.begun_by_client;
        self.tracker.on_datagram(from_beginner, payload, time_ns);
    }

    pub fn failure(&self) -> Option<Failure> {
        let failure = tls::failure(self.tracker.info())?;
        Some(if self.begun_by_client {
            failure
        } else {
            failure.seen_from_far_end()
        })
    }

    pub fn take_report<'a>(&'a mut self, report: &mut Report<'a>) {
        let info = self.tracker.info();
        report.tls_setup_us = first_time(&mut self.setup_said, info.setup_us());
        tls::describe(info, "dtls", report);
    }
}
