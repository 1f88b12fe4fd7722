//! Cells and areas as their identities are coded in GTP, RADIUS and S1AP's transparent forms: each
//! reader takes one identity from the front of its bytes, and gives None if it is not wholly there or
//! names no network.

use crate::control::identity::{Area, Cell, Plmn, RanNode};
use crate::control::message::Location;

/// The network and the `N` bytes behind it.
fn split<const N: usize>(bytes: &[u8]) -> Option<(Plmn, [u8; N])> {
    let (plmn, rest) = bytes.split_first_chunk()?;
    Some((Plmn::read(*plmn)?, *rest.first_chunk()?))
}

/// Location area and cell (TS 29.274 8.21.1): 7 bytes.
pub fn cgi(bytes: &[u8]) -> Option<Cell> {
    let (plmn, [a, b, c, d]) = split(bytes)?;
    let (area, cell) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Cell::Cgi { plmn, area, cell })
}

/// Location area and service area (TS 29.274 8.21.2): 7 bytes.
pub fn sai(bytes: &[u8]) -> Option<Cell> {
    let (plmn, [a, b, c, d]) = split(bytes)?;
    Some(Cell::Sai {
        plmn,
        area: u16::from_be_bytes([a, b]),
        service_area: u16::from_be_bytes([c, d]),
    })
}

/// The code of a location or tracking area, but for those that say that there is none (TS 23.003 4.1,
/// 19.4.2.3).
fn area_code(coded: [u8; 2]) -> Option<u16> {
    let code = u16::from_be_bytes(coded);
    (code != 0 && code != 0xfffe).then_some(code)
}

/// The location area in front of a CGI, SAI, RAI or LAI (TS 29.274 8.21.1 to 8.21.3, 8.21.6): 5 bytes.
pub fn lai(bytes: &[u8]) -> Option<Area> {
    let (plmn, code) = split(bytes)?;
    area_code(code).map(|code| Area::Lai { plmn, code })
}

/// A tracking area of LTE (TS 29.274 8.21.4): 5 bytes.
pub fn tai(bytes: &[u8]) -> Option<Area> {
    let (plmn, code) = split(bytes)?;
    area_code(code).map(|code| Area::Tai { plmn, code })
}

/// A tracking area of NR (TS 38.413 9.3.3.11): 6 bytes.
pub fn tai5(bytes: &[u8]) -> Option<Area> {
    let (plmn, [a, b, c]) = split(bytes)?;
    let code = u32::from_be_bytes([0, a, b, c]);
    Some(Area::Tai5 { plmn, code })
}

/// A cell of LTE, four spare bits and 28 of its own (TS 29.274 8.21.5): 7 bytes.
pub fn ecgi(bytes: &[u8]) -> Option<Cell> {
    let (plmn, cell) = split(bytes)?;
    let cell = u32::from_be_bytes(cell) & 0xfff_ffff;
    Some(Cell::Ecgi { plmn, cell })
}

/// A cell of NR, 36 bits of its own and four spare ones behind them (TS 29.061 16.4.7.2; the bit string of
/// TS 38.413 9.3.1.7): 8 bytes. So reads tshark 4.0; other software puts the spare bits in front.
pub fn ncgi(bytes: &[u8]) -> Option<Cell> {
    let (plmn, [a, b, c, d, e]) = split(bytes)?;
    let cell = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) >> 4;
    Some(Cell::Ncgi { plmn, cell })
}

/// A macro eNB, four spare bits and 20 of its own (TS 29.274 8.21.7): 6 bytes.
pub fn macro_enb(bytes: &[u8]) -> Option<RanNode> {
    let (plmn, [a, b, c]) = split(bytes)?;
    let id = u32::from_be_bytes([0, a & 0xf, b, c]);
    Some(RanNode::Enb { plmn, id, bits: 20 })
}

/// A long (21 bits) or short (18 bits, told by the highest) macro eNB (TS 29.274 8.21.8): 6 bytes.
pub fn extended_enb(bytes: &[u8]) -> Option<RanNode> {
    let (plmn, [a, b, c]) = split(bytes)?;
    let bits = if a & 0x80 == 0 { 21 } else { 18 };
    let id = u32::from_be_bytes([0, a, b, c]) & ((1 << bits) - 1);
    Some(RanNode::Enb { plmn, id, bits })
}

/// A type and what it says is behind it (TS 29.061 16.4.7.2, 3GPP-User-Location-Info). Empty for types
/// without a cell or area, and where they are cut off.
pub fn typed(bytes: &[u8]) -> Location {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Location::default();
    };
    let behind = |count: usize| rest.get(count..).unwrap_or_default();
    let (cell, area, node) = match kind {
        0 => (cgi(rest), lai(rest), None),
        1 => (sai(rest), lai(rest), None),
        2 => (None, lai(rest), None),
        128 => (None, tai(rest), None),
        129 => (ecgi(rest), None, None),
        130 => (ecgi(behind(5)), tai(rest), None),
        131 => (None, None, macro_enb(rest)),
        132 => (None, tai(rest), macro_enb(behind(5))),
        133 => (None, None, extended_enb(rest)),
        134 => (None, tai(rest), extended_enb(behind(5))),
        135 => (ncgi(rest), None, None),
        136 => (None, tai5(rest), None),
        137 => (ncgi(behind(6)), tai5(rest), None),
        // Behind it the NG-RAN node in a form of its own.
        139 => (None, tai5(rest), None),
        _ => (None, None, None),
    };
    Location { cell, area, node }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cell, area and node in text, empty where there is none.
    fn texts(bytes: &[u8]) -> [String; 3] {
        let Location { cell, area, node } = typed(bytes);
        [
            cell.map_or_else(String::new, |cell| cell.to_string()),
            area.map_or_else(String::new, |area| area.to_string()),
            node.map_or_else(String::new, |node| node.to_string()),
        ]
    }

    #[test]
    fn each_type_of_location_gives_its_cell_area_and_node() {
        let cases: [(&[u8], [&str; 3]); 14] = [
            // 0: CGI, 1: SAI, 2: RAI, whose last byte fills it up.
            (
                b"\x00\x00\xf1\x10\x12\x34\xab\xcd",
                ["001-01-1234-ABCD", "001-01-1234", ""],
            ),
            (
                b"\x01\x13\x00\x14\x12\x34\x00\x07",
                ["310-410-1234-0007", "310-410-1234", ""],
            ),
            (b"\x02\x00\xf1\x10\x12\x34\x05\xff", ["", "001-01-1234", ""]),
            // 128: TAI, 129: ECGI, 130: both. The spare bits of the ECGI say nothing.
            (b"\x80\x00\xf1\x10\x00\x01", ["", "001-01-0001", ""]),
            (
                b"\x81\x00\xf1\x10\xf0\x01\x9b\x01",
                ["001-01-0019B01", "", ""],
            ),
            (
                b"\x82\x00\xf1\x10\x00\x01\x00\xf1\x10\x00\x01\x9b\x01",
                ["001-01-0019B01", "001-01-0001", ""],
            ),
            // 131 to 134: eNBs of 20, 21 and 18 bits.
            (b"\x83\x00\xf1\x10\xf0\x01\x9b", ["", "", "001-01-0019B"]),
            (
                b"\x84\x00\xf1\x10\x00\x01\x00\xf1\x10\x00\x01\x9b",
                ["", "001-01-0001", "001-01-0019B"],
            ),
            (b"\x85\x00\xf1\x10\x10\x01\x9b", ["", "", "001-01-10019B"]),
            (
                b"\x86\x00\xf1\x10\x00\x01\x00\xf1\x10\x83\x01\x9b",
                ["", "001-01-0001", "001-01-3019B"],
            ),
            // 135: NCGI, 136: TAI of NR, 137: both.
            (
                b"\x87\x00\xf1\x10\x12\x34\x56\x78\x9f",
                ["001-01-123456789", "", ""],
            ),
            (b"\x88\x00\xf1\x10\x00\x00\x01", ["", "001-01-000001", ""]),
            (
                b"\x89\x00\xf1\x10\x00\x00\x01\x00\xf1\x10\x12\x34\x56\x78\x90",
                ["001-01-123456789", "001-01-000001", ""],
            ),
            (b"\x8a\x00\xf1\x10\x00\x00\x01\x02", ["", "", ""]),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(texts(bytes), wanted, "{bytes:x?}");
        }
    }

    #[test]
    fn an_area_that_is_none_has_no_code() {
        for none in [b"\x00\xf1\x10\x00\x00", b"\x00\xf1\x10\xff\xfe"] {
            assert_eq!((lai(none), tai(none)), (None, None));
        }
    }

    #[test]
    fn a_location_that_is_cut_off_is_no_other_location() {
        let whole = b"\x89\x00\xf1\x10\x00\x00\x01\x00\xf1\x10\x12\x34\x56\x78\x90";
        let Location { cell, area, .. } = typed(whole);
        for count in 0..whole.len() {
            let cut = typed(&whole[..count]);
            assert_eq!(cut.cell, None, "{count}");
            assert_eq!(cut.area, area.filter(|_| count >= 7), "{count}");
        }
        assert!(cell.is_some());
    }
}
