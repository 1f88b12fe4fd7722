//! The bytes of CRYPTO frames in order, whatever order they come in (RFC 9000 19.6).

use std::collections::BTreeMap;

/// Most bytes of a side that are read: a hello, and what precedes it in no known handshake.
pub const MAX_BYTES: u64 = 16 * 1024 + 4;
/// Most pieces that wait for one before them. Chrome cuts a ClientHello into some dozens.
pub const MAX_WAITING: usize = 128;

/// Puts the CRYPTO frames of one side in order.
///
/// What waits for a hole holds at most [`MAX_WAITING`] pieces and [`MAX_BYTES`] bytes; a piece that
/// comes in order is handed on without a copy. Where two frames disagree about a byte the first one
/// handed on counts, as their receiver would end the connection.
#[derive(Debug, Default)]
pub struct CryptoStream {
    /// Offset of the next byte to hand on.
    next: u64,
    waiting: BTreeMap<u64, Box<[u8]>>,
    waiting_bytes: u64,
}

impl CryptoStream {
    /// Takes a frame, and hands on to `emit` whatever is now in order.
    pub fn push(&mut self, offset: u64, data: &[u8], mut emit: impl FnMut(&[u8])) {
        let fits = offset
            .checked_add(data.len() as u64)
            .is_some_and(|end| end <= MAX_BYTES);
        if !fits {
            return;
        }
        if offset > self.next {
            self.keep(offset, data);
            return;
        }
        self.hand_on(offset, data, &mut emit);
        while let Some(piece) = self.waiting.first_entry() {
            if *piece.key() > self.next {
                return;
            }
            let (offset, data) = piece.remove_entry();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(data.len() as u64);
            self.hand_on(offset, &data, &mut emit);
        }
    }

    fn hand_on(&mut self, offset: u64, data: &[u8], emit: &mut impl FnMut(&[u8])) {
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fresh = data.get(known..).unwrap_or_default();
        if !fresh.is_empty() {
            self.next = self.next.saturating_add(fresh.len() as u64);
            emit(fresh);
        }
    }

    fn keep(&mut self, offset: u64, data: &[u8]) {
        let before = self.waiting.get(&offset).map_or(0, |known| known.len());
        let grown = self.waiting_bytes + (data.len().saturating_sub(before)) as u64;
        let has_room = before > 0 || self.waiting.len() < MAX_WAITING;
        if data.len() > before && has_room && grown <= MAX_BYTES {
            self.waiting_bytes = grown;
            self.waiting.insert(offset, data.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_order(frames: &[(u64, &[u8])]) -> Vec<u8> {
        let (mut stream, mut out) = (CryptoStream::default(), Vec::new());
        for &(offset, data) in frames {
            stream.push(offset, data, |bytes| out.extend_from_slice(bytes));
        }
        out
    }

    #[test]
    fn a_hole_is_waited_for() {
        assert_eq!(in_order(&[(3, b"def"), (0, b"ab")]), b"ab");
        assert_eq!(in_order(&[(3, b"def"), (0, b"ab"), (1, b"bc")]), b"abcdef");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut stream = CryptoStream::default();
        for offset in 0..10_000 {
            stream.push(1 + offset * 2, b"x", |_| ());
        }
        assert_eq!(stream.waiting.len(), MAX_WAITING);
        stream.push(u64::MAX, b"overflow", |_| ());
        stream.push(MAX_BYTES, b"beyond", |_| ());
        assert_eq!(stream.waiting.len(), MAX_WAITING);
    }

    proptest! {
        #[test]
        fn any_cut_in_any_order_gives_the_same_bytes(
            cuts in prop::collection::vec((0usize..300, 1usize..80), 0..60),
        ) {
            let whole: Vec<u8> = (0..300u16).map(|byte| byte as u8).collect();
            let mut frames: Vec<(u64, &[u8])> = cuts
                .iter()
                .map(|&(at, length)| (at as u64, &whole[at..(at + length).min(300)]))
                .collect();
            frames.push((0, &whole));
            prop_assert_eq!(in_order(&frames), whole);
        }
    }
}
