//! Bytes as a Certificate message, cut anywhere: what was read of a front stands in the whole too.
#![no_main]

use edgeqoe_core::app::tls::certificate::Leaf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(whole) = Leaf::parse(input) else {
        return;
    };
    let is_name = |name: &str| (1..=257).contains(&name.len()) && name.is_ascii();
    assert!(whole.name().is_none_or(|name| is_name(&name)));
    for length in 0..input.len().min(2048) {
        let front = Leaf::parse(&input[..length]);
        let not_after_ns = front.and_then(|leaf| leaf.not_after_ns);
        assert!(not_after_ns.is_none() || not_after_ns == whole.not_after_ns);
    }
});
