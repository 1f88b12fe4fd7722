//! What can be read of NAS messages: EPS mobility management (TS 24.301) and 5GS mobility management
//! (TS 24.501).
//!
//! Messages with security header 1 or 3 are integrity protected and never ciphered; 2 and 4 are
//! ciphered, perhaps with the null cipher, which cannot be known: they are not read. A message that
//! cannot be read says nothing, as it is another layer's.

use super::identity::{Digits, Slice};
use super::message::{Message, read_apn};

/// Types of EMM messages (TS 24.301 9.8).
mod emm {
    pub const ATTACH_REQUEST: u8 = 0x41;
    pub const ATTACH_REJECT: u8 = 0x44;
    pub const TRACKING_AREA_UPDATE_REJECT: u8 = 0x4b;
    pub const SERVICE_REJECT: u8 = 0x4e;
    pub const IDENTITY_RESPONSE: u8 = 0x56;
}

/// Types of 5GMM messages (TS 24.501 9.7).
mod mm5 {
    pub const REGISTRATION_REQUEST: u8 = 0x41;
    pub const REGISTRATION_REJECT: u8 = 0x44;
    pub const SERVICE_REJECT: u8 = 0x4d;
    pub const IDENTITY_RESPONSE: u8 = 0x5c;
    pub const UL_TRANSPORT: u8 = 0x67;
}

/// Reads a NAS message of EPS.
pub(super) fn read_eps(bytes: &[u8], message: &mut Message) {
    // The security header stands in the high half, above the protocol discriminator of EMM (9.2, 9.3.1).
    let plain = match bytes {
        [0x07, ..] => Some(bytes),
        [0x17 | 0x37, _, _, _, _, _, inner @ ..] => Some(inner),
        _ => None,
    };
    match plain {
        Some([0x07, emm::ATTACH_REQUEST, _, rest @ ..]) => {
            message.registers = true;
            read_eps_identity(rest, message);
        }
        Some([0x07, emm::IDENTITY_RESPONSE, rest @ ..]) => read_eps_identity(rest, message),
        Some(
            &[
                0x07,
                emm::ATTACH_REJECT | emm::TRACKING_AREA_UPDATE_REJECT | emm::SERVICE_REJECT,
                cause,
                ..,
            ],
        ) => message.nas_cause = Some(cause),
        _ => {}
    }
}

/// An EPS mobile identity (TS 24.301 9.9.3.12) or mobile identity (TS 24.008 10.5.1.4) behind its length;
/// both number IMSI and IMEI alike.
fn read_eps_identity(bytes: &[u8], message: &mut Message) {
    let identity = bytes
        .split_first()
        .and_then(|(&length, rest)| rest.get(..length.into()));
    let Some(identity @ [kind, ..]) = identity else {
        return;
    };
    match kind & 7 {
        1 => message.identity.imsi = Digits::from_mobile_identity(identity),
        2 | 3 => message.identity.imei = Digits::from_mobile_identity(identity),
        _ => {}
    }
}

/// Reads a NAS message of 5GS.
pub(super) fn read_5gs(bytes: &[u8], message: &mut Message) {
    // Extended protocol discriminator of 5GMM, then the security header (9.2, 9.3).
    let plain = match bytes {
        [0x7e, 0, ..] => Some(bytes),
        [0x7e, 1 | 3, _, _, _, _, _, inner @ ..] => Some(inner),
        _ => None,
    };
    match plain {
        Some([0x7e, 0, mm5::REGISTRATION_REQUEST, kind, rest @ ..]) => {
            // 1: initial (9.11.3.7); sessions outlive registrations of other kinds.
            message.registers = kind & 7 == 1;
            read_5gs_identity(rest, message);
        }
        Some([0x7e, 0, mm5::IDENTITY_RESPONSE, rest @ ..]) => read_5gs_identity(rest, message),
        Some(
            &[
                0x7e,
                0,
                mm5::REGISTRATION_REJECT | mm5::SERVICE_REJECT,
                cause,
                ..,
            ],
        ) => {
            message.nas_cause = Some(cause);
        }
        Some([0x7e, 0, mm5::UL_TRANSPORT, _, rest @ ..]) => {
            _ = read_transport(rest, message);
        }
        _ => {}
    }
}

/// What stands behind a length of two bytes, and the rest.
fn split_long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// A 5GS mobile identity (9.11.3.4) behind its length. Of a SUCI, the IMSI if it is one and its scheme
/// is the null scheme.
fn read_5gs_identity(bytes: &[u8], message: &mut Message) {
    match split_long(bytes) {
        // Format IMSI, kind SUCI; network, routing indicator, scheme 0, key of the network, output.
        Some(([front, a, b, c, _, _, scheme, _, subscriber @ ..], _))
            if front & 0x77 == 0x01 && scheme & 0xf == 0 =>
        {
            message.identity.imsi = Digits::from_network_and_subscriber([*a, *b, *c], subscriber);
        }
        Some((identity @ [front, ..], _)) if matches!(front & 7, 3 | 5) => {
            message.identity.imei = Digits::from_mobile_identity(identity);
        }
        _ => {}
    }
}

/// The optional elements behind the payload of a UL NAS transport (8.2.10): S-NSSAI and DNN.
fn read_transport(bytes: &[u8], message: &mut Message) -> Option<()> {
    let (_, mut rest) = split_long(bytes)?;
    while let Some((&identifier, behind)) = rest.split_first() {
        let length = match identifier {
            0x80.. => 0,
            0x12 | 0x59 => 1,
            _ => usize::from(*behind.first()?) + 1,
        };
        let (element, next) = behind.split_at_checked(length)?;
        match identifier {
            0x22 => message.slice = read_slice(element),
            0x25 => message.apn = read_apn(&element[1..]),
            _ => {}
        }
        rest = next;
    }
    Some(())
}

/// An S-NSSAI (9.11.2.8) with its length.
fn read_slice(bytes: &[u8]) -> Option<Slice> {
    let (service_type, differentiator) = match *bytes {
        [1 | 2, service_type, ..] => (service_type, None),
        [4 | 5 | 8, service_type, a, b, c, ..] => {
            (service_type, Some(u32::from_be_bytes([0, a, b, c])))
        }
        _ => return None,
    };
    Some(Slice {
        service_type,
        differentiator,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::{Phase, Procedure, Protocol};

    fn message() -> Message {
        Message::new(Protocol::S1ap, Procedure::InitialUe, Phase::Indication)
    }

    fn eps(bytes: &[u8]) -> Message {
        let mut message = message();
        read_eps(bytes, &mut message);
        message
    }

    fn of_5gs(bytes: &[u8]) -> Message {
        let mut message = message();
        read_5gs(bytes, &mut message);
        message
    }

    fn text(digits: &Option<Digits>) -> Option<&str> {
        digits.as_ref().map(Digits::as_str)
    }

    const IMSI: [u8; 9] = [8, 0x09, 0x10, 0x10, 0x00, 0x00, 0x00, 0x00, 0x10];

    #[test]
    fn an_attach_request_tells_its_imsi_if_it_has_one() {
        let plain = [&[0x07, 0x41, 0x71][..], &IMSI, &[2, 0xf0, 0xf0]].concat();
        assert_eq!(text(&eps(&plain).identity.imsi), Some("001010000000001"));
        let protected = [&[0x17, 1, 2, 3, 4, 5][..], &plain].concat();
        assert_eq!(eps(&protected).identity, eps(&plain).identity);
        let guti = [
            0x07, 0x41, 0x71, 11, 0xf6, 0, 0xf1, 0x10, 0, 1, 1, 1, 2, 3, 4,
        ];
        assert_eq!(eps(&guti).identity.imsi, None);
    }

    #[test]
    fn what_is_ciphered_is_not_read() {
        let plain = [&[0x07, 0x56][..], &IMSI].concat();
        assert_eq!(text(&eps(&plain).identity.imsi), Some("001010000000001"));
        for header in [0x27, 0x47, 0xc7] {
            let ciphered = [&[header, 1, 2, 3, 4, 5][..], &plain].concat();
            assert_eq!(eps(&ciphered), message());
        }
        let suci = [0x7e, 0, 0x5c, 0, 9, 1, 0, 0xf1, 0x10, 0, 0, 0, 0, 0x21];
        assert_eq!(text(&of_5gs(&suci).identity.imsi), Some("0010112"));
        for header in [2, 4] {
            let ciphered = [&[0x7e, header, 1, 2, 3, 4, 5][..], &suci].concat();
            assert_eq!(of_5gs(&ciphered), message());
        }
    }

    #[test]
    fn a_concealed_subscriber_stays_concealed() {
        // ECIES profile A instead of the null scheme.
        let suci = [
            0x7e, 0, 0x41, 0x79, 0, 9, 1, 0, 0xf1, 0x10, 0, 0, 1, 0, 0x21,
        ];
        assert_eq!(of_5gs(&suci).identity, message().identity);
        let name = [
            0x7e, 0, 0x41, 0x79, 0, 9, 0x11, 0, 0xf1, 0x10, 0, 0, 0, 0, 0x21,
        ];
        assert_eq!(of_5gs(&name).identity, message().identity);
    }

    #[test]
    fn a_device_answers_with_its_imei() {
        let imei = [0x07, 0x56, 3, 0x1a, 0x32, 0x54];
        assert_eq!(text(&eps(&imei).identity.imei), Some("12345"));
        let of_5g = [0x7e, 0, 0x5c, 0, 3, 0x13, 0x32, 0xf4];
        assert_eq!(text(&of_5gs(&of_5g).identity.imei), Some("1234"));
    }

    #[test]
    fn a_rejection_tells_its_cause() {
        assert_eq!(eps(&[0x07, 0x44, 15]).nas_cause, Some(15));
        assert_eq!(
            eps(&[0x37, 0, 0, 0, 0, 0, 0x07, 0x4e, 9]).nas_cause,
            Some(9)
        );
        assert_eq!(of_5gs(&[0x7e, 0, 0x44, 111]).nas_cause, Some(111));
        assert_eq!(of_5gs(&[0x7e, 0, 0x44]).nas_cause, None);
    }

    #[test]
    fn a_session_request_tells_its_data_network() {
        let bytes = [
            0x7e, 0, 0x67, 1, 0, 2, 0x2e, 1, 0x12, 5, 0x81, 0x22, 4, 1, 0, 0, 0xab, 0x25, 4, 3,
            b'i', b'm', b's',
        ];
        let found = of_5gs(&bytes);
        assert_eq!(found.apn.as_deref(), Some("ims"));
        assert_eq!(
            found.slice.map(|slice| slice.to_string()).as_deref(),
            Some("1-0000AB")
        );
        for length in 0..bytes.len() {
            of_5gs(&bytes[..length]);
        }
    }
}
