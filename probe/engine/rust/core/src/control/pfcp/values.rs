//! Elements that hold no others.

use super::fill;
use super::rules::Tunnel;
use crate::control::cursor::Cursor;
use crate::control::identity::{Digits, Slice};
use crate::control::message::{
    Cause, ControlEnd, Identity, Malformed, Report, UeAddresses, prefix,
};
use crate::decap::Address;

/// TS 29.244 8.2.1: 1 to 63 accept, 0 is reserved.
pub fn cause(value: &mut Cursor<'_>) -> Result<Option<Cause>, Malformed> {
    let number = value.u8()?;
    Ok((number != 0).then(|| Cause {
        number: number.into(),
        accepted: number < 64,
    }))
}

/// TS 29.244 8.2.37. The IPv4 address, where both are given.
pub fn f_seid(value: &mut Cursor<'_>) -> Result<Option<ControlEnd>, Malformed> {
    let (flags, key) = (value.u8()?, value.u64()?);
    let v4 = value.v4_if(flags & 0b10 != 0)?;
    let v6 = value.v6_if(flags & 0b01 != 0)?;
    Ok(v4.or(v6).map(|address| ControlEnd { address, key }))
}

/// TS 29.244 8.2.38. None of a node that names itself by a domain.
pub fn node_id(value: &mut Cursor<'_>) -> Result<Option<Address>, Malformed> {
    match value.u8()? & 0xf {
        0 => value.v4().map(Some),
        1 => value.v6().map(Some),
        _ => Ok(None),
    }
}

/// TS 29.244 8.2.3.
pub fn f_teid(value: &mut Cursor<'_>) -> Result<Tunnel, Malformed> {
    let flags = value.u8()?;
    let is_chosen_later = flags & 0b100 != 0;
    let given = |bit: u8| flags & bit != 0 && !is_chosen_later;
    let teid = if is_chosen_later { 0 } else { value.u32()? };
    Ok(Tunnel {
        teid,
        v4: value.v4_if(given(0b01))?,
        v6: value.v6_if(given(0b10))?,
        is_chosen_later,
    })
}

/// TS 29.244 8.2.56. None unless the outer header is GTP-U's.
pub fn outer_header(value: &mut Cursor<'_>) -> Result<Option<Tunnel>, Malformed> {
    const GTPU_IPV4: u8 = 0b01;
    const GTPU_IPV6: u8 = 0b10;
    let [description, _] = value.array()?;
    if description & (GTPU_IPV4 | GTPU_IPV6) == 0 {
        return Ok(None);
    }
    Ok(Some(Tunnel {
        teid: value.u32()?,
        v4: value.v4_if(description & GTPU_IPV4 != 0)?,
        v6: value.v6_if(description & GTPU_IPV6 != 0)?,
        is_chosen_later: false,
    }))
}

/// TS 29.244 8.2.62. An IPv6 prefix has 64 bits less those for the device to delegate, or its own
/// length.
pub fn ue_addresses(value: &mut Cursor<'_>) -> Result<UeAddresses, Malformed> {
    let flags = value.u8()?;
    let v4 = value.v4_if(flags & 0b10 != 0)?;
    let v6 = value.v6_if(flags & 0b01 != 0)?;
    let delegated = if flags & 0b1000 != 0 { value.u8()? } else { 0 };
    let length = match flags & 0b100_0000 {
        0 => 64_u8.checked_sub(delegated).ok_or(Malformed::Value)?,
        _ => value.u8()?,
    };
    let v6 = match v6 {
        Some(address) => Some(prefix(address, length).ok_or(Malformed::Value)?),
        None => None,
    };
    Ok(UeAddresses { v4, v6 })
}

/// Takes what is still open.
pub fn complete_addresses(known: &mut UeAddresses, other: UeAddresses) {
    fill(&mut known.v4, other.v4);
    fill(&mut known.v6, other.v6);
}

/// A QoS flow identifier, 6 bits (TS 29.244 8.2.89).
pub fn flow(value: &mut Cursor<'_>) -> Result<u8, Malformed> {
    Ok(value.u8()? & 0x3f)
}

/// TS 29.244 8.2.21.
pub fn report(value: &mut Cursor<'_>) -> Result<Option<Report>, Malformed> {
    let flags = value.u8()?;
    let of_bits = [
        (0b100, Report::TunnelUnknown(None)),
        (0b1000, Report::Inactivity),
        (0b1, Report::DownlinkData),
        (0b10, Report::Usage),
        (u8::MAX, Report::Other),
    ];
    let found = of_bits.into_iter().find(|(bits, _)| flags & bits != 0);
    Ok(found.map(|(_, report)| report))
}

/// An S-NSSAI (TS 29.244, element 257); the differentiator, all ones where there is none, may be left out.
pub fn slice(value: &mut Cursor<'_>) -> Result<Slice, Malformed> {
    Ok(Slice {
        service_type: value.u8()?,
        differentiator: value.u24().ok(),
    })
}

/// TS 29.244 8.2.101: each part behind its length, in the order of the flags. Of a 5G identity in text
/// (TS 29.571 5.3.2) the digits are taken. A part that is no number is left out.
pub fn user_id(identity: &mut Identity, value: &mut Cursor<'_>) -> Result<(), Malformed> {
    let flags = value.u8()?;
    let mut part = |bit: u8| -> Result<&[u8], Malformed> {
        let is_there = flags & 1 << bit != 0;
        Ok(is_there
            .then(|| value.counted())
            .transpose()?
            .unwrap_or_default())
    };
    fill(&mut identity.imsi, Digits::from_bcd(part(0)?));
    fill(&mut identity.imei, Digits::from_bcd(part(1)?));
    fill(&mut identity.msisdn, Digits::from_bcd(part(2)?));
    part(3)?; // Network access identifier.
    fill(&mut identity.imsi, behind(part(4)?, &[b"imsi-"]));
    fill(&mut identity.msisdn, behind(part(5)?, &[b"msisdn-"]));
    fill(
        &mut identity.imei,
        behind(part(6)?, &[b"imei-", b"imeisv-"]),
    );
    Ok(())
}

/// The digits behind whichever of the words stands in front.
fn behind(text: &[u8], words: &[&[u8]]) -> Option<Digits> {
    let digits = words.iter().find_map(|word| text.strip_prefix(*word))?;
    Digits::from_text(digits)
}
