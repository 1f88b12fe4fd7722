//! SCTP packets of a few associations with little room. Each begins with its association and its length.
#![no_main]

use edgeqoe_core::control::sctp::{Limits, MAX_MESSAGE, Sctp};
use edgeqoe_core::decap::Address;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    directions: 3,
    fragments: 8,
    bytes: 1000,
};

fuzz_target!(|input: &[u8]| {
    let mut sctp = Sctp::new(LIMITS);
    let (mut rest, mut now_ns) = (input, 0);
    while let [association, high, low, next @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(next.len());
        let (packet, next) = next.split_at(length);
        let source = Address(u128::from(association & 3));
        sctp.on_packet(source, Address(9), packet, now_ns, |_, message| {
            assert!(!message.is_empty() && message.len() <= MAX_MESSAGE.max(packet.len()));
        });
        let (directions, fragments, bytes) = sctp.held();
        assert!(directions <= LIMITS.directions && fragments <= LIMITS.fragments);
        assert!(bytes <= LIMITS.bytes);
        (rest, now_ns) = (next, now_ns + 1);
    }
});
