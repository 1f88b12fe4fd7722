//! Bytes as a datagram of PFCP, whose messages are settled as those of one session.
#![no_main]

use edgeqoe_core::control::message::{MAX_BEARERS, MAX_ENDS, MAX_RULES};
use edgeqoe_core::control::pfcp::{Roles, read, read_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let first = read(input);
    assert_eq!(read_all(input).next(), Some(first));
    let mut roles = Roles::default();
    for mut message in read_all(input).flatten() {
        roles.settle(&mut message);
        assert!(message.bearers.len() <= MAX_BEARERS && message.rules.len() <= MAX_RULES);
        for bearer in &message.bearers {
            assert!((1..=MAX_ENDS).contains(&bearer.ends.len()));
        }
        if let Some((address, length)) = message.ue.v6 {
            assert!(length >= 128 || address.0 << length == 0);
        }
    }
});
