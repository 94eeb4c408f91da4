//! Memory for maps: on large pages where the system has them, which streams faster (NOTES.md).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A fixed number of f32, zero at first, aligned to a cache line at least.
pub struct Buffer {
    data: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: what is shared is read alone, as of a Vec.
unsafe impl Sync for Buffer {}

const LARGE_PAGE: usize = 2 << 20;

fn layout(len: usize) -> Layout {
    let bytes = len.max(1).saturating_mul(size_of::<f32>());
    let align = if bytes >= LARGE_PAGE { LARGE_PAGE } else { 64 };
    // Only a length that no machine holds fails here; the allocator's own error path says so.
    Layout::from_size_align(bytes, align).unwrap_or_else(|_| handle_alloc_error(Layout::new::<f32>()))
}

impl Buffer {
    /// `len` zeros. Memory that is not there ends the program, as it does for a Vec.
    pub fn zeros(len: usize) -> Self {
        Self::try_zeros(len).unwrap_or_else(|| handle_alloc_error(layout(len)))
    }

    /// `len` zeros; none where the memory cannot be had.
    pub fn try_zeros(len: usize) -> Option<Self> {
        if len > isize::MAX as usize / (2 * size_of::<f32>()) {
            return None;
        }
        let layout = layout(len);
        // SAFETY: a layout is never empty.
        let data = NonNull::new(unsafe { alloc(layout) })?;
        #[cfg(target_os = "linux")]
        if layout.align() == LARGE_PAGE {
            // SAFETY: the memory just taken. A hint: without large pages everything works the same.
            unsafe { libc::madvise(data.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: as many bytes as were taken.
        unsafe { std::ptr::write_bytes(data.as_ptr(), 0, layout.size()) };
        Some(Self { data: data.cast(), len })
    }

    /// The same memory as bytes, four times as many.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: every byte of its floats is written, and any byte may be written to them.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().cast(), size_of_val(&**self)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: taken with the same layout.
        unsafe { dealloc(self.data.as_ptr().cast(), layout(self.len)) };
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` floats, all written.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}
