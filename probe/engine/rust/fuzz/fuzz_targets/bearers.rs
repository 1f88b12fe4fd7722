//! Bytes as what was kept over a restart, behind its seal: read whole or not at all, written alike, and
//! taken in without leaving the bounds of a table. Sealed bytes are opened as they come, too.
#![no_main]

use edgeqoe_core::control::learner::Learner;
use edgeqoe_core::control::saved::{Kept, unpack};
use edgeqoe_core::control::vault;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 16;

fuzz_target!(|input: &[u8]| {
    assert!(vault::open(input, b"key", "probe").is_err());
    let _ = unpack(input);
    let Ok(kept) = Kept::read(input) else { return };
    assert_eq!(kept.write(), input);
    // Its first eight bytes say when it was saved.
    let now_ns = input
        .first_chunk()
        .map_or(0, |time| u64::from_be_bytes(*time));
    let mut learner = Learner::new(LIMIT);
    learner.load(kept, now_ns);
    assert!(learner.bearers.len() <= LIMIT);
    let again = learner.save(now_ns);
    assert_eq!(Kept::read(&again.write()), Ok(again));
});
