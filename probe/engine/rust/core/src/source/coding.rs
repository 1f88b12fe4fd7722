//! Compression of a capture, told by its first bytes and never by its name.

use std::io::{Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use super::fault::Fault;
use super::window::Window;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Largest zstd window, as a power of two: bounds what a hostile frame can make us allocate to
/// 128 MiB (the default of the zstd command; `--long=28` and above are refused).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Opens a window over the decompressed bytes of `reader`.
pub(super) fn open(mut reader: Box<dyn Read + Send>) -> Result<Window, Fault> {
    let first = first_bytes(&mut reader).map_err(|error| Fault::Read { offset: 0, error })?;
    let gzip = first.starts_with(&GZIP_MAGIC);
    let zstd = is_zstd(&first);
    let whole = Cursor::new(first).chain(reader);
    if gzip {
        return Ok(Window::new(
            Box::new(MultiGzDecoder::new(whole)),
            Some("gzip"),
        ));
    }
    if zstd {
        return open_zstd(whole);
    }
    Ok(Window::new(Box::new(whole), None))
}

fn open_zstd(reader: impl Read + Send + 'static) -> Result<Window, Fault> {
    let mut decoder = zstd::Decoder::new(reader).map_err(Fault::Open)?;
    decoder
        .window_log_max(ZSTD_WINDOW_LOG_MAX)
        .map_err(Fault::Open)?;
    Ok(Window::new(Box::new(decoder), Some("zstd")))
}

/// A zstd frame, or one of the skippable frames that may stand before it (RFC 8878 3.1).
fn is_zstd(first: &[u8]) -> bool {
    first.starts_with(&ZSTD_MAGIC)
        || matches!(first, [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50)
}

/// Reads four bytes, or fewer where the stream ends before.
fn first_bytes(reader: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(4);
    loop {
        match reader.take(4 - first.len() as u64).read_to_end(&mut first) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(first),
        }
    }
}
