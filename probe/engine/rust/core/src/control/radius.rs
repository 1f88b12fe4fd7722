//! RADIUS as gateways speak it on Gi, SGi and N6 (RFC 2865, RFC 2866, TS 29.061 16.4, TS 29.561 11): a
//! GGSN, PGW or SMF tells which address a subscriber has, and where it is.
//!
//! User names, passwords and everything else about authentication are not looked at.

use sha2::{Digest, Sha256};

use crate::control::cursor::Cursor;
use crate::control::identity::{Digits, Plmn, Rat, Slice};
use crate::control::location;
use crate::control::message::{
    Bearer, Cause, ControlEnd, Malformed, Message, Phase, Procedure, Protocol, prefix,
    read_apn_text,
};
use crate::decap::Address;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

/// UDP ports of servers: authentication and accounting, each with that of early implementations
/// (RFC 2865 3, RFC 2866 3).
pub const PORTS: [u16; 4] = [1812, 1645, 1813, 1646];

/// RFC 2865 3, RFC 2866 3.
mod code {
    pub const ACCESS_REQUEST: u8 = 1;
    pub const ACCESS_ACCEPT: u8 = 2;
    pub const ACCESS_REJECT: u8 = 3;
    pub const ACCOUNTING_REQUEST: u8 = 4;
    pub const ACCOUNTING_RESPONSE: u8 = 5;
    pub const ACCESS_CHALLENGE: u8 = 11;
}

/// RFC 2865 5, RFC 2866 5, RFC 3162 2, RFC 4818 3.
mod attribute {
    pub const NAS_IP_ADDRESS: u8 = 4;
    pub const FRAMED_IP_ADDRESS: u8 = 8;
    pub const VENDOR_SPECIFIC: u8 = 26;
    pub const CALLED_STATION_ID: u8 = 30;
    pub const CALLING_STATION_ID: u8 = 31;
    pub const NAS_IDENTIFIER: u8 = 32;
    pub const ACCT_STATUS_TYPE: u8 = 40;
    pub const ACCT_SESSION_ID: u8 = 44;
    pub const NAS_PORT_TYPE: u8 = 61;
    pub const NAS_IPV6_ADDRESS: u8 = 95;
    pub const FRAMED_IPV6_PREFIX: u8 = 97;
    pub const DELEGATED_IPV6_PREFIX: u8 = 123;
}

/// Of 3GPP (TS 29.061 16.4.7.2, TS 29.561 11.3).
mod of_3gpp {
    pub const VENDOR: u32 = 10415;
    pub const IMSI: u8 = 1;
    pub const CHARGING_ID: u8 = 2;
    pub const NEGOTIATED_QOS: u8 = 5;
    pub const SGSN_ADDRESS: u8 = 6;
    pub const NSAPI: u8 = 10;
    pub const SGSN_IPV6_ADDRESS: u8 = 15;
    pub const SGSN_MCC_MNC: u8 = 18;
    pub const IMEISV: u8 = 20;
    pub const RAT_TYPE: u8 = 21;
    pub const USER_LOCATION_INFO: u8 = 22;
    pub const SESSION_S_NSSAI: u8 = 125;
}

/// Reads the message of a datagram; what stands behind its length is padding (RFC 2865 3).
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut cursor = Cursor(bytes);
    let (code, identifier, length) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
    let whole = bytes.get(..length.into()).ok_or(Malformed::Truncated)?;
    // The authenticator ends at byte 20, and no message is longer than 4096 bytes.
    let attributes = whole.get(20..).ok_or(Malformed::Length)?;
    if whole.len() > 4096 {
        return Err(Malformed::Length);
    }
    let mut reading = Reading::new(code, identifier);
    for each in tlvs(attributes) {
        let (kind, value) = each?;
        reading.on_attribute(kind, value)?;
    }
    Ok(reading.finish())
}

/// Attributes: type, length of the whole, value (RFC 2865 5).
fn tlvs(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Malformed>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let (kind, value, behind) = match rest.take()? {
            [] => return None,
            [kind, length, behind @ ..] => {
                let count = usize::from(*length).checked_sub(2);
                let parts = count.and_then(|count| behind.split_at_checked(count));
                let Some((value, behind)) = parts else {
                    return Some(Err(Malformed::Length));
                };
                (*kind, value, behind)
            }
            _ => return Some(Err(Malformed::Length)),
        };
        rest = Some(behind);
        Some(Ok((kind, value)))
    })
}

/// A message while its attributes are read.
struct Reading<'a> {
    message: Message,
    /// Acct-Status-Type.
    status: Option<u32>,
    nas: Nas<'a>,
    calling: Option<&'a [u8]>,
    called: Option<&'a [u8]>,
    /// Whether the access is a LAN, whose stations are called by hardware addresses.
    is_lan: bool,
    delegated: Option<(Address, u8)>,
    nsapi: Option<u8>,
    /// Of the session's bearer.
    quality: Option<Quality>,
}

#[derive(Debug, Clone, Copy)]
struct Quality {
    class: u8,
    priority: u8,
}

/// The client of the exchange, and its session.
#[derive(Default)]
struct Nas<'a> {
    v4: Option<Address>,
    v6: Option<Address>,
    name: Option<&'a [u8]>,
    session: Option<&'a [u8]>,
}

impl<'a> Reading<'a> {
    fn new(code: u8, identifier: u8) -> Self {
        let (procedure, phase) = procedure(code);
        let mut message = Message::new(Protocol::Radius, procedure, phase);
        message.sequence = identifier.into();
        message.cause = cause(code);
        Self {
            message,
            status: None,
            nas: Nas::default(),
            calling: None,
            called: None,
            is_lan: false,
            delegated: None,
            nsapi: None,
            quality: None,
        }
    }

    fn on_attribute(&mut self, kind: u8, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut value = Cursor(bytes);
        match kind {
            attribute::NAS_IP_ADDRESS => self.nas.v4 = Some(value.v4()?),
            attribute::NAS_IPV6_ADDRESS => self.nas.v6 = Some(value.v6()?),
            attribute::NAS_IDENTIFIER => self.nas.name = Some(bytes),
            attribute::ACCT_SESSION_ID => self.nas.session = Some(bytes),
            attribute::ACCT_STATUS_TYPE => self.status = Some(value.u32()?),
            attribute::NAS_PORT_TYPE => self.is_lan = is_lan(value.u32()?),
            attribute::CALLING_STATION_ID => self.calling = Some(bytes),
            attribute::CALLED_STATION_ID => self.called = Some(bytes),
            attribute::FRAMED_IP_ADDRESS => self.message.ue.v4 = framed_v4(value.v4()?),
            attribute::FRAMED_IPV6_PREFIX => self.message.ue.v6 = Some(framed_v6(&mut value)?),
            attribute::DELEGATED_IPV6_PREFIX => self.delegated = Some(framed_v6(&mut value)?),
            attribute::VENDOR_SPECIFIC => self.on_vendor(&mut value)?,
            _ => {}
        }
        Ok(())
    }

    /// One attribute of a vendor holds several of the vendor's own (RFC 2865 5.26). Those of others
    /// than 3GPP may have another form.
    fn on_vendor(&mut self, value: &mut Cursor<'a>) -> Result<(), Malformed> {
        if value.u32()? != of_3gpp::VENDOR {
            return Ok(());
        }
        for each in tlvs(value.0) {
            let (kind, bytes) = each?;
            self.on_3gpp(kind, bytes)?;
        }
        Ok(())
    }

    fn on_3gpp(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Malformed> {
        let mut value = Cursor(bytes);
        let message = &mut self.message;
        match kind {
            of_3gpp::IMSI => message.identity.imsi = Digits::from_text(bytes),
            of_3gpp::IMEISV => message.identity.imei = imei(bytes),
            of_3gpp::CHARGING_ID => message.charging_id = Some(value.u32()?),
            of_3gpp::SGSN_ADDRESS => message.serving.address = Some(value.v4()?),
            of_3gpp::SGSN_IPV6_ADDRESS => message.serving.address = Some(value.v6()?),
            of_3gpp::SGSN_MCC_MNC => message.serving.network = Plmn::from_text(bytes),
            of_3gpp::NEGOTIATED_QOS => self.quality = quality(bytes),
            of_3gpp::NSAPI => self.nsapi = nsapi(bytes),
            of_3gpp::RAT_TYPE => message.rat = rat(value.u8()?),
            of_3gpp::USER_LOCATION_INFO => message.location = location::typed(bytes),
            of_3gpp::SESSION_S_NSSAI => message.slice = Some(slice(&mut value)?),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Message {
        if let Some(procedure) = self.accounting() {
            self.message.procedure = procedure;
        }
        self.message.sender_end = self.nas.session_end();
        self.message.node = self.nas.address();
        self.message.bearers = self.bearer().into_iter().collect();
        self.name_ends();
        self.settle_addresses();
        self.message
    }

    /// RFC 2866 5.1. On and off say that a gateway's sessions are gone.
    fn accounting(&self) -> Option<Procedure> {
        if self.message.procedure != Procedure::Accounting {
            return None;
        }
        match self.status? {
            1 => Some(Procedure::AccountingStart),
            2 => Some(Procedure::AccountingStop),
            3 => Some(Procedure::AccountingInterim),
            7 | 8 => Some(Procedure::Reset),
            _ => None,
        }
    }

    fn bearer(&self) -> Option<Bearer> {
        let is_told = self.nsapi.is_some() || self.quality.is_some();
        is_told.then(|| Bearer {
            id: self.nsapi.unwrap_or(0),
            qos_class: self.quality.map(|quality| quality.class),
            priority: self.quality.map(|quality| quality.priority),
            ..Bearer::default()
        })
    }

    fn name_ends(&mut self) {
        if self.is_lan {
            return;
        }
        self.message.apn = self.called.and_then(read_apn_text);
        let imsi = self.message.identity.imsi.as_ref();
        let number = self.calling.and_then(international_number);
        self.message.identity.msisdn = number.filter(|number| imsi != Some(number));
    }

    /// An address in an Access-Request is the client's wish (RFC 2865 5.8); and a delegated prefix
    /// (RFC 4818) stands for the framed one where it is alone or holds it.
    fn settle_addresses(&mut self) {
        if self.message.procedure == Procedure::Access && self.message.phase == Phase::Request {
            self.message.ue = Default::default();
            return;
        }
        let Some(delegated) = self.delegated else {
            return;
        };
        let holds = |framed: (Address, u8)| prefix(framed.0, delegated.1) == Some(delegated);
        if self.message.ue.v6.is_none_or(holds) {
            self.message.ue.v6 = Some(delegated);
        }
    }
}

impl Nas<'_> {
    fn address(&self) -> Option<Address> {
        self.v4.or(self.v6)
    }

    /// The session's identifier is unique at its NAS only (RFC 2866 5.5): its key is the first 8 bytes
    /// of a SHA-256 over both. Address 0 stands for a NAS that tells its name alone.
    fn session_end(&self) -> Option<ControlEnd> {
        let session = self.session?;
        let mut digest = Sha256::new();
        for address in [self.v4, self.v6] {
            digest.update(address.unwrap_or_default().0.to_be_bytes());
        }
        for text in [self.name.unwrap_or_default(), session] {
            digest.update([text.len() as u8]); // Shorter than an attribute.
            digest.update(text);
        }
        let key = digest.finalize().first_chunk().copied();
        Some(ControlEnd {
            address: self.address().unwrap_or_default(),
            key: u64::from_be_bytes(key.unwrap_or_default()),
        })
    }
}

fn procedure(code: u8) -> (Procedure, Phase) {
    match code {
        code::ACCESS_REQUEST => (Procedure::Access, Phase::Request),
        code::ACCESS_ACCEPT | code::ACCESS_REJECT | code::ACCESS_CHALLENGE => {
            (Procedure::Access, Phase::Response)
        }
        code::ACCOUNTING_REQUEST => (Procedure::Accounting, Phase::Request),
        code::ACCOUNTING_RESPONSE => (Procedure::Accounting, Phase::Response),
        _ => (Procedure::Other(code.into()), other_phase(code)),
    }
}

/// Disconnect and change of authorization: requests 40 and 43, each with two answers (RFC 5176 3).
fn other_phase(code: u8) -> Phase {
    match code {
        41 | 42 | 44 | 45 => Phase::Response,
        _ => Phase::Request,
    }
}

/// RADIUS gives no number to a refusal: the code stands for it. A challenge decides nothing.
fn cause(code: u8) -> Option<Cause> {
    let accepted = match code {
        code::ACCESS_ACCEPT | code::ACCOUNTING_RESPONSE => true,
        code::ACCESS_REJECT => false,
        _ => return None,
    };
    Some(Cause {
        number: code.into(),
        accepted,
    })
}

/// Whether NAS-Port-Type is Ethernet or 802.11 (RFC 2865 5.41).
fn is_lan(port_type: u32) -> bool {
    matches!(port_type, 15 | 19)
}

/// None where the address is left to the user or to the NAS (RFC 2865 5.8).
fn framed_v4(address: Address) -> Option<Address> {
    const LEFT_TO_NAS: u32 = 0xffff_fffe;
    let is_one = |v4: u32| v4 != 0 && v4 < LEFT_TO_NAS;
    address.as_v4().is_some_and(is_one).then_some(address)
}

/// A reserved byte, the length in bits, and as many bytes as the sender likes (RFC 3162 2.3).
fn framed_v6(value: &mut Cursor<'_>) -> Result<(Address, u8), Malformed> {
    let [_, length] = value.array()?;
    let mut octets = [0; 16];
    let given = octets.get_mut(..value.0.len()).ok_or(Malformed::Length)?;
    given.copy_from_slice(value.0);
    if value.0.len() * 8 < length.into() {
        return Err(Malformed::Length);
    }
    prefix(Address::v6(octets), length).ok_or(Malformed::Value)
}

/// One hexadecimal digit in text.
fn nsapi(text: &[u8]) -> Option<u8> {
    match text {
        [digit] => char::from(*digit).to_digit(16).map(|id| id as u8),
        _ => None,
    }
}

/// The profile of an EPS bearer: `08-` and in hexadecimal text priority, QCI and bit rates. Other
/// releases' profiles have no class.
fn quality(text: &[u8]) -> Option<Quality> {
    let profile = text.strip_prefix(b"08-")?.get(..4)?;
    let profile = str::from_utf8(profile).ok()?;
    let [retention, class] = u16::from_str_radix(profile, 16).ok()?.to_be_bytes();
    let priority = retention >> 2 & 0xf;
    Some(Quality { class, priority })
}

/// 14 to 16 digits in text, or in 7 or 8 bytes of binary-coded digits: both occur.
fn imei(bytes: &[u8]) -> Option<Digits> {
    match bytes.len() {
        14..=16 => Digits::from_text(bytes),
        7 | 8 => Digits::from_bcd(bytes),
        _ => None,
    }
}

/// The radio access of GTP, and of 5G numbers of its own (TS 29.061 16.4.7.2).
fn rat(number: u8) -> Option<Rat> {
    match number {
        51 | 52 => Some(Rat::Nr),
        53 => Some(Rat::Wlan),
        number => Rat::read(number),
    }
}

/// TS 29.561 11.3: the differentiator may be left out.
fn slice(value: &mut Cursor<'_>) -> Result<Slice, Malformed> {
    Ok(Slice {
        service_type: value.u8()?,
        differentiator: value.u24().ok(),
    })
}

/// A number of 7 to 15 digits, of which no country's begins with 0 (ITU-T E.164 6), with or without
/// plus. None for anything else that a station can be called by.
fn international_number(text: &[u8]) -> Option<Digits> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let is_number = (7..=15).contains(&digits.len()) && digits[0] != b'0';
    is_number.then(|| Digits::from_text(digits))?
}
