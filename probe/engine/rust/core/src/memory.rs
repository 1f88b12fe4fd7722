//! Identities of subscribers pass through memory; this keeps them from staying there.
//!
//! What is freed is wiped ([`Wiping`]), what was on the stack of a reader is written over
//! ([`wipe_stack`]), and the kernel writes no memory of the process to a core file ([`forbid_dumps`]),
//! packet rings least of all ([`exclude_from_dumps`]).
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io;
use std::ptr;

/// The system's allocator, which writes zeros over each piece of memory that it takes back: packets,
/// parts of messages and identities do not outlive their owner. The per-packet path frees nothing, so
/// it costs nothing there.
pub struct Wiping;

// SAFETY: all pieces come from and go back to `System` with the layout that they were asked for with.
// What is grown is moved to a new piece (the trait's own `realloc`), so that the old one is wiped too.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the piece is as long as its layout says, and its owner does not use it any more.
        unsafe { ptr::write_bytes(piece, 0, layout.size()) };
        // Writes to memory that is freed next would be left out otherwise.
        black_box(piece);
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(piece, layout) }
    }
}

/// Deeper than the readers of messages and the making of pseudonyms go.
const STACK: usize = 32 << 10;

/// Writes zeros over what functions that have returned left on the stack: copies of digits in hash
/// blocks and registers that were spilled. Some microseconds.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0u8; STACK];
    black_box(&mut below);
}

/// Leaves a mapping out of core files, if the system can do so.
pub fn exclude_from_dumps(start: *mut u8, len: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: advice on dumps changes no memory; a range that is not mapped is refused.
    unsafe {
        libc::madvise(start.cast(), len, libc::MADV_DONTDUMP)
    };
    let _ = (start, len);
}

/// No core file of this process from now on, and no other process of the same user may read its memory
/// (`PR_SET_DUMPABLE`, prctl(2)).
pub fn forbid_dumps() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        const NO: libc::c_ulong = 0;
        // SAFETY: both calls take numbers, and a structure that lives until the call returns.
        let failed = unsafe {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::prctl(libc::PR_SET_DUMPABLE, NO, NO, NO, NO) != 0
                || libc::setrlimit(libc::RLIMIT_CORE, &none) != 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
