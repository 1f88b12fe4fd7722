//! DNS messages out of a TCP stream (RFC 1035 4.2.2, RFC 7766 8).

/// How much of a message is kept and handed on; header, question and the answers to a client fit.
/// Of a longer message (up to 65,535 bytes, as in a zone transfer) the rest is skipped.
pub const MAX_KEPT: usize = 4 * 1024;

/// Finds the messages in one direction of a stream, each preceded by its length.
///
/// A message that lies in one chunk is handed on in place; else its front is copied, growing as
/// the bytes arrive.
#[derive(Debug, Default)]
pub struct DnsTcpFramer {
    /// The first byte of a length whose second byte is still to come.
    length_high: Option<u8>,
    /// Bytes of the present message still to come.
    left: usize,
    /// Length of the front that is kept; 0 once it has been handed on.
    wanted: usize,
    kept: Vec<u8>,
}

impl DnsTcpFramer {
    /// Takes the next in-order bytes and hands on the front of each message as soon as it is
    /// complete.
    pub fn feed(&mut self, bytes: &[u8], mut on_message: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = if self.left > 0 {
                self.take_body(rest, &mut on_message)
            } else {
                self.take_length(*first);
                after
            };
        }
    }

    fn take_length(&mut self, byte: u8) {
        match self.length_high.take() {
            None => self.length_high = Some(byte),
            Some(high) => {
                self.left = usize::from(u16::from_be_bytes([high, byte]));
                self.wanted = self.left.min(MAX_KEPT);
            }
        }
    }

    fn take_body<'a>(&mut self, bytes: &'a [u8], on_message: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let count = bytes.len().min(self.left);
        let (body, rest) = bytes.split_at(count);
        if self.wanted > 0 {
            self.keep(body, on_message);
        }
        self.left = self.left.saturating_sub(count);
        rest
    }

    fn keep(&mut self, body: &[u8], on_message: &mut impl FnMut(&[u8])) {
        if let (true, Some(front)) = (self.kept.is_empty(), body.get(..self.wanted)) {
            self.wanted = 0;
            on_message(front);
            return;
        }
        let missing = self.wanted.saturating_sub(self.kept.len());
        self.kept.extend(body.iter().take(missing));
        if self.kept.len() == self.wanted {
            self.wanted = 0;
            on_message(&self.kept);
            self.kept = Vec::new();
        }
    }
}
