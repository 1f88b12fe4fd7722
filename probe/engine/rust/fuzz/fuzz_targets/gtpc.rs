//! Bytes as a datagram of GTP-C, cut anywhere.
#![no_main]

use edgeqoe_core::control::gtp::{PORT, is_control, messages};
use edgeqoe_core::control::message::{MAX_BEARERS, MAX_ENDS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let all: Vec<_> = messages(input).collect();
    assert!((1..=2).contains(&all.len()));
    assert!(all[0].is_err() || is_control([PORT, 0], input));
    for message in all.iter().flatten() {
        assert!(message.bearers.len() <= MAX_BEARERS);
        let mut bearers = message.bearers.iter();
        assert!(bearers.all(|bearer| bearer.ends.len() <= MAX_ENDS && bearer.id < 16));
        let digits = message.identity.imsi.as_ref();
        assert!(digits.is_none_or(|digits| (1..=15).contains(&digits.as_str().len())));
    }
    // A cut takes a message away, and never changes it.
    for length in (0..input.len()).rev().take(128) {
        let cut = messages(&input[..length]).next();
        assert!(cut.is_some_and(|cut| cut.is_err() || cut == all[0]));
    }
});
