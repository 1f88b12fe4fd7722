//! The end of validity and a name of a leaf certificate (RFC 5280 4.1, X.690).
//!
//! The walk goes straight to the fields: certificate, tbsCertificate, past version, serial number,
//! signature and issuer, to validity, subject, past the key, to the extensions. The certificate may
//! be cut anywhere; what stands before the cut is used.

use super::hello::host_name;
use crate::app::reader::Reader;

const TAG_INTEGER: u8 = 0x02;
const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_SET: u8 = 0x31;
const TAG_OBJECT_IDENTIFIER: u8 = 0x06;
const TAG_OCTET_STRING: u8 = 0x04;
const TAG_VERSION: u8 = 0xa0;
const TAG_EXTENSIONS: u8 = 0xa3;
/// dNSName in a GeneralName (RFC 5280 4.2.1.6).
const TAG_DNS_NAME: u8 = 0x82;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];

const NS_PER_S: u64 = 1_000_000_000;

/// What is used of a leaf certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leaf<'a> {
    /// When it expires, in ns since the Unix epoch. None if that cannot be read, or lies before 1970
    /// or after 2554.
    pub not_after_ns: Option<u64>,
    common_name: Option<&'a [u8]>,
    /// The first dNSName of subjectAltName.
    dns_name: Option<&'a [u8]>,
}

impl<'a> Leaf<'a> {
    /// Reads the first certificate of a Certificate message of TLS 1.2 or earlier.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        reader.u24()?; // length of the chain
        let length = reader.u24()? as usize;
        let rest = reader.rest();
        let mut leaf = Self::default();
        // Where the walk ends early, what was read so far counts.
        leaf.read(rest.get(..length).unwrap_or(rest));
        Some(leaf)
    }

    fn read(&mut self, certificate: &'a [u8]) -> Option<()> {
        let mut fields = enter(enter(Reader::new(certificate))?)?;
        if fields.rest().first() == Some(&TAG_VERSION) {
            skip(&mut fields, TAG_VERSION)?;
        }
        skip(&mut fields, TAG_INTEGER)?;
        skip(&mut fields, TAG_SEQUENCE)?;
        skip(&mut fields, TAG_SEQUENCE)?;
        // The end of the validity itself may be cut off.
        self.not_after_ns = not_after_ns(enter(fields)?);
        skip(&mut fields, TAG_SEQUENCE)?;
        self.common_name = common_name(body(&mut fields, TAG_SEQUENCE)?);
        skip(&mut fields, TAG_SEQUENCE)?; // subjectPublicKeyInfo
        let (tag, _) = header(&mut fields)?;
        let extensions = enter(fields).filter(|_| tag == TAG_EXTENSIONS)?;
        self.dns_name = dns_name(extensions);
        Some(())
    }

    /// A name that it is for, in lower case: the first one of subjectAltName, else the subject's
    /// common name if that is a host's.
    pub fn name(&self) -> Option<Box<str>> {
        let pattern = |name: &[u8]| match name.strip_prefix(b"*.") {
            Some(domain) => Some(format!("*.{}", host_name(domain)?).into_boxed_str()),
            None => host_name(name).filter(|host| host.contains('.')),
        };
        self.dns_name
            .and_then(pattern)
            .or_else(|| self.common_name.and_then(pattern))
    }
}

fn not_after_ns(mut validity: Reader<'_>) -> Option<u64> {
    element(&mut validity)?; // notBefore
    let (tag, text) = element(&mut validity)?;
    time_ns(tag, text)
}

/// The last common name of a subject: sets of pairs of type and value (RFC 5280 4.1.2.4).
fn common_name(subject: &[u8]) -> Option<&[u8]> {
    let mut names = Reader::new(subject);
    let mut found = None;
    while let Some(set) = body(&mut names, TAG_SET) {
        let mut pair = enter(Reader::new(set))?;
        if body(&mut pair, TAG_OBJECT_IDENTIFIER)? == COMMON_NAME {
            found = element(&mut pair).map(|(_, value)| value);
        }
    }
    found
}

/// The first dNSName among extensions, which may be cut.
fn dns_name(mut extensions: Reader<'_>) -> Option<&[u8]> {
    loop {
        let mut extension = Reader::new(sequence_or_front(&mut extensions)?);
        if body(&mut extension, TAG_OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
            return first_dns_name(extension);
        }
    }
}

fn first_dns_name(mut extension: Reader<'_>) -> Option<&[u8]> {
    let (mut tag, mut length) = header(&mut extension)?;
    if tag != TAG_OCTET_STRING {
        extension.take(length)?; // critical
        (tag, length) = header(&mut extension)?;
    }
    let front = extension.rest();
    let value = front.get(..length).unwrap_or(front);
    let mut names = enter(Reader::new(value)).filter(|_| tag == TAG_OCTET_STRING)?;
    loop {
        let (kind, name) = element(&mut names)?;
        if kind == TAG_DNS_NAME {
            return Some(name);
        }
    }
}

/// The body of a sequence, or as much of it as there is.
fn sequence_or_front<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let (tag, length) = header(reader)?;
    let front = reader.rest();
    let body = front.get(..length).unwrap_or(front);
    reader.take(body.len())?;
    (tag == TAG_SEQUENCE).then_some(body)
}

fn body<'a>(reader: &mut Reader<'a>, expected: u8) -> Option<&'a [u8]> {
    let (tag, body) = element(reader)?;
    (tag == expected).then_some(body)
}

/// Goes into a sequence without asking that all of it is there.
fn enter(mut reader: Reader<'_>) -> Option<Reader<'_>> {
    let (tag, _) = header(&mut reader)?;
    (tag == TAG_SEQUENCE).then_some(reader)
}

fn skip(reader: &mut Reader<'_>, expected: u8) -> Option<()> {
    let (tag, _) = element(reader)?;
    (tag == expected).then_some(())
}

fn element<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let (tag, length) = header(reader)?;
    Some((tag, reader.take(length)?))
}

/// Tag and length in the definite form (X.690 8.1.3), of 3 bytes at most.
fn header(reader: &mut Reader<'_>) -> Option<(u8, usize)> {
    let tag = reader.u8()?;
    let length = match reader.u8()? {
        short @ ..=0x7f => u32::from(short),
        0x81 => u32::from(reader.u8()?),
        0x82 => u32::from(reader.u16()?),
        0x83 => reader.u24()?,
        _ => return None,
    };
    Some((tag, length as usize))
}

/// UTCTime as YYMMDDHHMMSSZ or GeneralizedTime as YYYYMMDDHHMMSSZ (RFC 5280 4.1.2.5); the offset
/// `+hhmm` in place of `Z` is forbidden there but occurs (X.680 46.3, 47.3).
fn time_ns(tag: u8, text: &[u8]) -> Option<u64> {
    let mut digits = Reader::new(text);
    let year = match tag {
        TAG_UTC_TIME => full_year(two_digits(&mut digits)?),
        TAG_GENERALIZED_TIME => two_digits(&mut digits)? * 100 + two_digits(&mut digits)?,
        _ => return None,
    };
    let month = two_digits(&mut digits)?;
    let days = days_since_epoch(year, month, two_digits(&mut digits)?)?;
    let local = days
        .checked_mul(86_400)?
        .checked_add(seconds_of_day(&mut digits)?)?;
    let seconds = local.checked_add_signed(offset_to_utc(&mut digits)?)?;
    digits.is_empty().then(|| seconds.checked_mul(NS_PER_S))?
}

/// Seconds to add to the local time for UTC.
fn offset_to_utc(text: &mut Reader<'_>) -> Option<i64> {
    let sign = match text.u8()? {
        b'Z' => return Some(0),
        b'+' => -1,
        b'-' => 1,
        _ => return None,
    };
    let (hours, minutes) = (two_digits(text)?, two_digits(text)?);
    i64::try_from(hours * 3600 + minutes * 60)
        .ok()
        .map(|offset| sign * offset)
}

fn full_year(two_digits: u64) -> u64 {
    match two_digits {
        ..50 => 2000 + two_digits,
        _ => 1900 + two_digits,
    }
}

fn two_digits(reader: &mut Reader<'_>) -> Option<u64> {
    let [tens, ones] = reader.array()?.map(|byte: u8| byte.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| u64::from(tens) * 10 + u64::from(ones))
}

fn seconds_of_day(digits: &mut Reader<'_>) -> Option<u64> {
    let (hour, minute, second) = (
        two_digits(digits)?,
        two_digits(digits)?,
        two_digits(digits)?,
    );
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; none before.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let valid = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid {
        return None;
    }
    // Years that begin in March put the leap day last: 153 days in each five months.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    (before_year + before_month + day - 1).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<u64> {
        time_ns(tag, text.as_bytes()).map(|ns| ns / NS_PER_S)
    }

    #[test]
    fn both_time_formats_give_unix_time() {
        assert_eq!(time(TAG_UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(TAG_UTC_TIME, "000229120000Z"), Some(951_825_600));
        assert_eq!(time(TAG_UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(
            time(TAG_GENERALIZED_TIME, "20500101000000Z"),
            Some(2_524_608_000)
        );
        assert_eq!(
            time(TAG_GENERALIZED_TIME, "21000301000000Z"),
            Some(4_107_542_400)
        );
    }

    #[test]
    fn an_offset_from_utc_is_taken_off() {
        assert_eq!(
            time(TAG_GENERALIZED_TIME, "20260115120000-0800"),
            Some(1_768_507_200)
        );
        assert_eq!(time(TAG_UTC_TIME, "700101010000+0100"), Some(0));
    }

    #[test]
    fn a_time_that_is_no_time_is_none() {
        for text in [
            "",
            "Z",
            "991301000000Z",
            "990100000000Z",
            "990101240000Z",
            "99010100000Z",
        ] {
            assert_eq!(time(TAG_UTC_TIME, text), None, "{text}");
        }
        assert_eq!(time(TAG_UTC_TIME, "990101000000+01"), None);
        assert_eq!(time(TAG_UTC_TIME, "700101000000+0100"), None);
        assert_eq!(time(TAG_UTC_TIME, "9901010000001Z"), None);
        assert_eq!(time(TAG_UTC_TIME, "9\u{b2}0101000000Z"), None);
        assert_eq!(time(TAG_GENERALIZED_TIME, "19691231235959Z"), None);
        assert_eq!(time(TAG_GENERALIZED_TIME, "99991231235959Z"), None);
    }

    #[test]
    fn a_certificate_cut_before_its_validity_is_none() {
        let certificate = [
            TAG_SEQUENCE,
            0x82,
            0x04,
            0x00,
            TAG_SEQUENCE,
            0x82,
            0x03,
            0x00,
        ];
        for length in 0..=certificate.len() {
            let mut leaf = Leaf::default();
            leaf.read(&certificate[..length]);
            assert_eq!(leaf.not_after_ns, None);
        }
    }
}
