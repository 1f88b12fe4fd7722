//! Bytes as a RADIUS message, whole and with bytes behind it.
#![no_main]

use edgeqoe_core::control::radius::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let message = read(input);
    if message.is_ok() {
        assert_eq!(read(&[input, &[0xff; 3]].concat()), message);
    }
    let Ok(message) = message else { return };
    assert!(message.bearers.len() <= 1 && message.rules.is_empty());
    assert!(
        message
            .apn
            .is_none_or(|name| !name.is_empty() && name.is_ascii())
    );
    if let Some((address, length)) = message.ue.v6 {
        assert!(length >= 128 || address.0 << length == 0);
    }
});
