//! What the tests of several readers have in common.

use crate::control::identity::{Digits, Plmn};
use crate::control::message::{BearerEnd, Identity, Role, TunnelEnd};
use crate::decap::Address;

/// Network 001-01 as it is coded (TS 24.008 10.5.1.3).
pub const PLMN: [u8; 3] = [0x00, 0xf1, 0x10];

pub fn plmn() -> Plmn {
    Plmn::read(PLMN).expect("001-01")
}

/// An end at 192.0.2.x.
pub fn end(role: Role, teid: u32, last: u8) -> BearerEnd {
    let address = Address::v4([192, 0, 2, last]);
    BearerEnd {
        role,
        end: TunnelEnd { address, teid },
    }
}

/// IMSI, MSISDN and IMEI.
pub fn digits(identity: &Identity) -> [Option<&str>; 3] {
    [&identity.imsi, &identity.msisdn, &identity.imei]
        .map(|digits| digits.as_ref().map(Digits::as_str))
}
