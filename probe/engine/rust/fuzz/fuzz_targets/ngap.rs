//! Bytes as an NGAP message.
#![no_main]

use edgeqoe_core::control::ngap;
use libfuzzer_sys::fuzz_target;

#[path = "../ran.rs"]
mod ran;

fuzz_target!(|input: &[u8]| ran::check(input, ngap::read));
