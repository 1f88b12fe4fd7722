//! Identities of subscribers, devices, networks and cells (TS 23.003), and how they are written.

use std::fmt;

/// Up to 16 decimal digits: an IMSI, MSISDN or IMEI. Held only while a message is read: whoever keeps
/// it keeps its pseudonym. It stands in memory of its own, so that no copy is left where it moves from;
/// it is wiped when dropped, and its debug form tells nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Digits {
    digits: Box<[u8; Self::MAX]>,
    len: u8,
}

impl Digits {
    pub const MAX: usize = 16;

    /// Reads binary-coded digits, the low half of each byte first, ended by a half of ones (TS 29.274
    /// 8.3 and its like). None if there is no digit, too many, or a half that is none.
    pub fn from_bcd(bytes: &[u8]) -> Option<Self> {
        const FILL: u8 = 0xf;
        let mut found = Self::default();
        let mut halves = bytes.iter().flat_map(|byte| [byte & 0xf, byte >> 4]);
        for half in halves.by_ref() {
            match half {
                0..=9 => found.push(half)?,
                FILL => break,
                _ => return None,
            }
        }
        let filled = halves.all(|half| half == FILL);
        (filled && found.len > 0).then_some(found)
    }

    /// Reads digits in ASCII. None if there is no digit, too many, or anything else.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for byte in text {
            found.push(byte.is_ascii_digit().then(|| byte - b'0')?)?;
        }
        (found.len > 0).then_some(found)
    }

    /// Reads a mobile identity (TS 24.008 10.5.1.4): behind its type in the low half of the first byte
    /// as binary-coded digits.
    pub fn from_mobile_identity(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let mut found = Self::default();
        found.push(Some(first >> 4).filter(|&digit| digit <= 9)?)?;
        found.append_bcd(rest)?;
        Some(found)
    }

    /// Reads an IMSI from its network, coded as in location information, and the subscriber's
    /// binary-coded digits in it (TS 24.501 9.11.3.4).
    pub fn from_network_and_subscriber(network: [u8; 3], subscriber: &[u8]) -> Option<Self> {
        let [first, second, third] = Plmn::read(network)?.0;
        let mut found = Self::default();
        for digit in [
            first & 0xf,
            first >> 4,
            second & 0xf,
            third & 0xf,
            third >> 4,
        ] {
            found.push(digit)?;
        }
        if second >> 4 <= 9 {
            found.push(second >> 4)?;
        }
        let network_len = found.len;
        found.append_bcd(subscriber)?;
        (found.len > network_len).then_some(found)
    }

    fn append_bcd(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.iter().all(|&byte| byte == 0xff) {
            return Some(());
        }
        let more = Self::from_bcd(bytes)?;
        let digits = more.digits.iter().take(usize::from(more.len));
        digits
            .copied()
            .try_for_each(|digit| self.push(digit - b'0'))
    }

    fn push(&mut self, digit: u8) -> Option<()> {
        *self.digits.get_mut(usize::from(self.len))? = b'0' + digit;
        self.len += 1;
        Some(())
    }

    /// In ASCII.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.digits[..usize::from(self.len)]).unwrap_or_default()
    }

    /// The type allocation code of an IMEI or IMEISV (TS 23.003 6.2): its first 8 digits.
    pub fn type_allocation_code(&self) -> Option<[u8; 8]> {
        let is_imei = (14..=16).contains(&self.len);
        self.digits.first_chunk().copied().filter(|_| is_imei)
    }
}

impl Drop for Digits {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut *self.digits);
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} digits", self.len)
    }
}

/// Mobile country and network code, as coded in location information (TS 24.008 10.5.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plmn([u8; 3]);

impl Plmn {
    /// None if a half is no digit.
    pub fn read(bytes: [u8; 3]) -> Option<Self> {
        let [first, second, third] = bytes;
        let halves = [
            first & 0xf,
            first >> 4,
            second & 0xf,
            third & 0xf,
            third >> 4,
        ];
        let third_of_network = second >> 4;
        let plain = halves.iter().all(|&half| half <= 9);
        (plain && (third_of_network <= 9 || third_of_network == 0xf)).then_some(Self(bytes))
    }

    /// As they were read.
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }

    /// Reads `00101` or `310410`: the country's three digits, then the network's two or three.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let digits = text.iter().map(|&byte| byte.wrapping_sub(b'0'));
        let mut halves = [0xf; 6];
        if !(5..=6).contains(&text.len()) || digits.clone().any(|digit| digit > 9) {
            return None;
        }
        halves
            .iter_mut()
            .zip(digits)
            .for_each(|(half, digit)| *half = digit);
        let [one, two, three, four, five, six] = halves;
        Some(Self([two << 4 | one, six << 4 | three, five << 4 | four]))
    }
}

/// `001-01`, the network code with its own 2 or 3 digits.
impl fmt::Display for Plmn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.0;
        let (one, two, three) = (first & 0xf, first >> 4, second & 0xf);
        write!(out, "{one}{two}{three}-{}{}", third & 0xf, third >> 4)?;
        match second >> 4 {
            0xf => Ok(()),
            digit => write!(out, "{digit}"),
        }
    }
}

/// Where a subscriber is, as closely as the network says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// GSM and UMTS: location area and cell.
    Cgi { plmn: Plmn, area: u16, cell: u16 },
    /// UMTS: location area and service area, which is one cell or several.
    Sai {
        plmn: Plmn,
        area: u16,
        service_area: u16,
    },
    /// LTE: 28 bits.
    Ecgi { plmn: Plmn, cell: u32 },
    /// NR: 36 bits.
    Ncgi { plmn: Plmn, cell: u64 },
}

/// Upper-case hexadecimal of the field's own width: `001-01-0019B01`.
impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgi { plmn, area, cell } => write!(out, "{plmn}-{area:04X}-{cell:04X}"),
            Self::Sai {
                plmn,
                area,
                service_area,
            } => {
                write!(out, "{plmn}-{area:04X}-{service_area:04X}")
            }
            Self::Ecgi { plmn, cell } => write!(out, "{plmn}-{cell:07X}"),
            Self::Ncgi { plmn, cell } => write!(out, "{plmn}-{cell:09X}"),
        }
    }
}

/// A tracking or routing area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// GSM and UMTS; the routing area code is left out.
    Lai { plmn: Plmn, code: u16 },
    /// LTE.
    Tai { plmn: Plmn, code: u16 },
    /// NR: 24 bits.
    Tai5 { plmn: Plmn, code: u32 },
}

/// `001-01-0001`, of NR `001-01-000001`.
impl fmt::Display for Area {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lai { plmn, code } | Self::Tai { plmn, code } => {
                write!(out, "{plmn}-{code:04X}")
            }
            Self::Tai5 { plmn, code } => write!(out, "{plmn}-{code:06X}"),
        }
    }
}

/// A base station by its global identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RanNode {
    /// 20 bits of a macro eNB, 28 of a home eNB (18 and 21 of short and long macro eNBs).
    Enb { plmn: Plmn, id: u32, bits: u8 },
    /// 22 to 32 bits.
    Gnb { plmn: Plmn, id: u32, bits: u8 },
}

/// `001-01-0019B`: upper-case hexadecimal of the identity's own width, rounded up to whole digits.
impl fmt::Display for RanNode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Enb { plmn, id, bits } | Self::Gnb { plmn, id, bits }) = self;
        let width = usize::from(bits.div_ceil(4));
        write!(out, "{plmn}-{id:0width$X}")
    }
}

/// What a network calls a device for a while, instead of its IMSI: S-TMSI or 5G-S-TMSI (TS 23.003 2.8.1,
/// 2.11). Unique within a pool of MMEs or AMFs; it changes, and another device gets it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Temporary {
    /// MME code, or AMF set and pointer.
    pub node: u16,
    pub tmsi: u32,
}

/// Tells nothing, as it follows a device for hours.
impl fmt::Debug for Temporary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "temporary identity of node {}", self.node)
    }
}

/// A network slice (TS 23.003 28.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    pub service_type: u8,
    /// 24 bits.
    pub differentiator: Option<u32>,
}

/// `1-0000AB`; `1` where there is no differentiator.
impl fmt::Display for Slice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.service_type)?;
        match self.differentiator {
            // All ones: none (TS 23.003 28.4.2).
            None | Some(0xff_ffff) => Ok(()),
            Some(differentiator) => write!(out, "-{differentiator:06X}"),
        }
    }
}

/// Radio access technology (TS 29.274 8.17, TS 29.060 7.7.50, TS 29.061 16.4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rat {
    Utran,
    Geran,
    Wlan,
    Gan,
    HspaEvolution,
    Eutran,
    Virtual,
    NbIot,
    LteM,
    Nr,
}

impl Rat {
    /// By the number that GTP, RADIUS and PFCP share.
    pub fn read(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Utran,
            2 => Self::Geran,
            3 => Self::Wlan,
            4 => Self::Gan,
            5 => Self::HspaEvolution,
            6 => Self::Eutran,
            7 => Self::Virtual,
            8 => Self::NbIot,
            9 => Self::LteM,
            10 => Self::Nr,
            _ => return None,
        })
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utran => "utran",
            Self::Geran => "geran",
            Self::Wlan => "wlan",
            Self::Gan => "gan",
            Self::HspaEvolution => "hspa",
            Self::Eutran => "eutran",
            Self::Virtual => "virtual",
            Self::NbIot => "nb-iot",
            Self::LteM => "lte-m",
            Self::Nr => "nr",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_end_at_the_filling() {
        let found = Digits::from_bcd(&[0x00, 0x01, 0x10, 0xf2]);
        assert_eq!(found.as_ref().map(Digits::as_str), Some("0010012"));
        for wrong in [&[][..], &[0xff], &[0x1f, 0x22], &[0xa1], &[0x11; 9]] {
            assert_eq!(Digits::from_bcd(wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn digits_stand_behind_the_type_of_a_mobile_identity() {
        let read = |bytes: &[u8]| {
            Digits::from_mobile_identity(bytes).map(|digits| digits.as_str().to_owned())
        };
        let odd = [0x09, 0x10, 0x10, 0x00, 0x00, 0x00, 0x00, 0x10];
        assert_eq!(read(&odd).as_deref(), Some("001010000000001"));
        assert_eq!(read(&[0x11, 0x32, 0xf4]).as_deref(), Some("1234"));
        for wrong in [&[][..], &[0xf9], &[0x19, 0x1f, 0x22], &[0x19; 9]] {
            assert_eq!(read(wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn an_imsi_is_a_network_and_a_subscriber() {
        let read = |network, subscriber: &[u8]| {
            Digits::from_network_and_subscriber(network, subscriber)
                .map(|digits| digits.as_str().to_owned())
        };
        let two = [0x00, 0xf1, 0x10];
        assert_eq!(read(two, &[0x21, 0xf3]).as_deref(), Some("00101123"));
        assert_eq!(
            read([0x13, 0x00, 0x14], &[0x21]).as_deref(),
            Some("31041012")
        );
        assert_eq!(read(two, &[]), None);
        assert_eq!(read(two, &[0x11; 6]), None);
        assert_eq!(read([0x0a, 0xf1, 0x10], &[0x21]), None);
    }

    #[test]
    fn digits_are_not_told_by_their_debug_form() {
        let digits = Digits::from_text(b"001010000000001");
        assert_eq!(format!("{digits:?}"), "Some(15 digits)");
        assert_eq!(Digits::from_text(b"12a"), None);
        assert_eq!(Digits::from_text(b""), None);
    }

    #[test]
    fn identities_are_written_in_their_own_width() {
        let two = Plmn::read([0x00, 0xf1, 0x10]).expect("001-01");
        let three = Plmn::read([0x13, 0x00, 0x14]).expect("310-410");
        assert_eq!(three.to_string(), "310-410");
        assert_eq!(Plmn::read([0x0a, 0xf1, 0x10]), None);
        assert_eq!(Plmn::from_text(b"00101"), Some(two));
        assert_eq!(Plmn::from_text(b"310410"), Some(three));
        for wrong in [&b"0010"[..], b"0010101", b"0010a", b"-0101"] {
            assert_eq!(Plmn::from_text(wrong), None, "{wrong:x?}");
        }
        let texts = [
            Cell::Ecgi {
                plmn: two,
                cell: 0x19b01,
            }
            .to_string(),
            Cell::Ncgi {
                plmn: two,
                cell: 0x19b01,
            }
            .to_string(),
            Cell::Cgi {
                plmn: three,
                area: 0x12,
                cell: 0xabc,
            }
            .to_string(),
            Area::Tai { plmn: two, code: 1 }.to_string(),
            Area::Tai5 { plmn: two, code: 1 }.to_string(),
            RanNode::Enb {
                plmn: two,
                id: 0x19b,
                bits: 20,
            }
            .to_string(),
            RanNode::Gnb {
                plmn: two,
                id: 1,
                bits: 22,
            }
            .to_string(),
            Slice {
                service_type: 1,
                differentiator: Some(0xab),
            }
            .to_string(),
            Slice {
                service_type: 1,
                differentiator: Some(0xff_ffff),
            }
            .to_string(),
        ];
        let wanted = [
            "001-01-0019B01",
            "001-01-000019B01",
            "310-410-0012-0ABC",
            "001-01-0001",
            "001-01-000001",
            "001-01-0019B",
            "001-01-000001",
            "1-0000AB",
            "1",
        ];
        assert_eq!(texts, wanted);
    }
}
