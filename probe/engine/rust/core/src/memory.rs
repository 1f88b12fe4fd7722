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

/// The system's allocator, which leaves nothing of what it takes back: packets, parts of messages and
/// identities do not outlive their owner. Small pieces are written over with zeros. Large ones (the
/// flow table, columns) come straight from the kernel and go back to it, which wipes them, and grow by
/// moving pages instead of bytes. The per-packet path frees nothing, so it costs nothing there.
pub struct Wiping;

/// From this many bytes on a piece is made of pages of its own, as the C library has it.
const LARGE: usize = 128 << 10;
/// Pages are aligned to this at the least.
const PAGE: usize = 4096;

fn is_large(layout: Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE && layout.align() <= PAGE
}

// SAFETY: a piece comes from and goes back to `pages` or `System`, which of them its layout says, with
// the layout that it was asked for with. What is grown from the one to the other is moved to a new
// piece, so that the old one is wiped too.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return pages::map(layout.size());
        }
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return pages::map(layout.size());
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: `alloc` mapped it with this size, and its owner does not use it any more.
            return unsafe { pages::unmap(piece, layout.size()) };
        }
        // SAFETY: the piece is as long as its layout says, and its owner does not use it any more.
        unsafe { ptr::write_bytes(piece, 0, layout.size()) };
        // Writes to memory that is freed next would be left out otherwise.
        black_box(piece);
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(piece, layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, is a valid one.
        let grown = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if is_large(layout) && is_large(grown) {
            // SAFETY: `alloc` mapped it with this size.
            return unsafe { pages::remap(piece, layout.size(), new_size) };
        }
        // SAFETY: the two pieces are apart, and each as long as its layout says.
        unsafe {
            let moved = self.alloc(grown);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(new_size));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

/// Pages of the kernel's, zero at first; null where there are none.
#[cfg(target_os = "linux")]
mod pages {
    use std::ptr;

    pub fn map(len: usize) -> *mut u8 {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place that the kernel chooses.
        mapped(unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) })
    }

    /// # Safety
    ///
    /// `map` or `remap` gave the `len` bytes at `piece`, and nobody uses them.
    pub unsafe fn unmap(piece: *mut u8, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(piece.cast(), len) };
    }

    /// # Safety
    ///
    /// `map` or `remap` gave the `len` bytes at `piece`; unless this fails nobody uses them there.
    pub unsafe fn remap(piece: *mut u8, len: usize, new_len: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        mapped(unsafe { libc::mremap(piece.cast(), len, new_len, libc::MREMAP_MAYMOVE) })
    }

    fn mapped(start: *mut libc::c_void) -> *mut u8 {
        if start == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        start.cast()
    }
}

/// Elsewhere all pieces are the C library's.
#[cfg(not(target_os = "linux"))]
mod pages {
    pub fn map(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub unsafe fn unmap(_: *mut u8, _: usize) {}

    pub unsafe fn remap(_: *mut u8, _: usize, _: usize) -> *mut u8 {
        std::ptr::null_mut()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_keeps_its_bytes_however_it_grows_and_shrinks() {
        let sizes = [100, LARGE - 1, LARGE, LARGE + 5, 40 * LARGE, LARGE, 300];
        let mut layout = Layout::from_size_align(64, 8).expect("a layout");
        // SAFETY: each piece is used within its layout, and given back with it.
        unsafe {
            let mut piece = Wiping.alloc(layout);
            piece.write_bytes(7, 64);
            for size in sizes {
                piece = Wiping.realloc(piece, layout, size);
                layout = Layout::from_size_align(size, 8).expect("a layout");
                assert!(
                    std::slice::from_raw_parts(piece, 64)
                        .iter()
                        .all(|&byte| byte == 7)
                );
                piece.add(size - 1).write(7);
                assert_eq!(piece as usize % 8, 0);
            }
            Wiping.dealloc(piece, layout);
        }
    }

    #[test]
    fn large_pieces_are_zero_at_first() {
        let layout = Layout::from_size_align(LARGE, 64).expect("a layout");
        // SAFETY: as above.
        unsafe {
            let piece = Wiping.alloc_zeroed(layout);
            assert!(
                std::slice::from_raw_parts(piece, LARGE)
                    .iter()
                    .all(|&byte| byte == 0)
            );
            Wiping.dealloc(piece, layout);
        }
    }
}
