//! The client hello of Google's own QUIC: a message of tags, in clear up to Q046.

use crate::app::reader::Reader;
use crate::app::tls::hello::host_name;

/// The hello stands behind a header, a hash and the header of a stream frame.
const SEARCHED: usize = 128;
/// Most tags looked at; clients send some twenty.
const MAX_TAGS: u16 = 64;

/// The SNI tag of a CHLO in this datagram.
pub fn server_name(datagram: &[u8]) -> Option<Box<str>> {
    let front = datagram.get(..SEARCHED).unwrap_or(datagram);
    let at = front.windows(4).position(|window| window == b"CHLO")?;
    let mut reader = Reader::new(datagram.get(at + 4..)?);
    let tags = little_endian(&reader.array::<2>()?);
    reader.take(2)?; // padding
    let values = Reader::new(reader.rest().get(8 * usize::from(tags as u16)..)?).rest();
    let mut start = 0;
    for _ in 0..(tags as u16).min(MAX_TAGS) {
        let tag: [u8; 4] = reader.array()?;
        let end = little_endian(&reader.array::<4>()?);
        if tag == *b"SNI\0" {
            return host_name(values.get(start..end)?);
        }
        start = end;
    }
    None
}

fn little_endian(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | usize::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chlo(tags: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut message = b"\x0d\x11\x22\x33\x44\x55\x66\x77\x88Q043\x01CHLO".to_vec();
        message.extend([tags.len() as u8, 0, 0, 0]);
        let mut end = 0;
        for (tag, value) in tags {
            end += value.len() as u32;
            message.extend_from_slice(*tag);
            message.extend(end.to_le_bytes());
        }
        tags.iter().for_each(|(_, value)| message.extend(*value));
        message
    }

    #[test]
    fn the_name_stands_between_the_ends_of_its_neighbours() {
        let hello = chlo(&[
            (b"PAD\0", b"---"),
            (b"SNI\0", b"Example.com"),
            (b"VER\0", b"Q043"),
        ]);
        assert_eq!(server_name(&hello).as_deref(), Some("example.com"));
        assert_eq!(server_name(&hello[..40]), None);
        assert_eq!(server_name(&chlo(&[(b"PAD\0", b"---")])), None);
    }
}
