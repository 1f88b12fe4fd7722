//! Bytes as an S1AP message.
#![no_main]

use edgeqoe_core::control::s1ap;
use libfuzzer_sys::fuzz_target;

#[path = "../ran.rs"]
mod ran;

fuzz_target!(|input: &[u8]| ran::check(input, s1ap::read));
