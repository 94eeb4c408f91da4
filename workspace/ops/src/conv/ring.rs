//! A window that moves down a padded map.
//!
//! A depthwise kernel of size k reads each row of the map k times. The ring holds the k rows that the window covers, loaded
//! once (batch norm and activation applied, channels padded to whole vectors, zeros at both ends), and one row of zeros for
//! what lies above and below the map: so that kernels know neither borders nor tails. That is a few rows of one image, which
//! stay in the first caches, where the whole map would not.

use crate::ConvShape;

/// The rows of one padded map that a kernel's window covers, kept in a ring of scratch rows.
pub(super) struct Ring {
    data: *mut f32,
    kernel: usize,
    /// Floats of a padded row, and where its first pixel lies.
    row: usize,
    lead: usize,
    height: usize,
    padding: usize,
    /// The next row to load.
    next: usize,
}

impl Ring {
    /// Floats of the ring over a convolution's input.
    pub fn len(shape: &ConvShape) -> usize {
        (shape.kernel + 1) * (shape.width + 2 * shape.padding) * super::pitch(shape.input)
    }

    /// `data`: `kernel + 1` rows of `width + 2 * padding` pixels; all become zero. The last row stays so.
    ///
    /// # Safety
    /// `data` holds [`Ring::len`] floats, while the ring is used.
    pub unsafe fn new(
        data: *mut f32,
        kernel: usize,
        height: usize,
        width: usize,
        padding: usize,
        pitch: usize,
    ) -> Self {
        let row = (width + 2 * padding) * pitch;
        // SAFETY: the caller's.
        unsafe { std::ptr::write_bytes(data, 0, (kernel + 1) * row) };
        Self { data, kernel, row, lead: padding * pitch, height, padding, next: 0 }
    }

    /// Rows `top..top + K` of the padded map, `K` the ring's kernel; `load(row, to)` writes those that are new. The window
    /// only moves down.
    ///
    /// # Safety
    /// `load` writes no more than a row's pixels, padding left out.
    #[inline(always)]
    pub unsafe fn window<const K: usize>(
        &mut self,
        top: usize,
        mut load: impl FnMut(usize, *mut f32),
    ) -> [*const f32; K] {
        let end = (top + K).saturating_sub(self.padding).min(self.height);
        self.next = self.next.max(top.saturating_sub(self.padding));
        while self.next < end {
            // SAFETY: one of the first `kernel` rows.
            load(self.next, unsafe { self.data.add(self.next % self.kernel * self.row + self.lead) });
            self.next += 1;
        }
        std::array::from_fn(|ky| {
            let padded = top + ky;
            let inside = (self.padding..self.height + self.padding).contains(&padded);
            let slot = if inside { (padded - self.padding) % self.kernel } else { self.kernel };
            // SAFETY: one of `kernel + 1` rows.
            unsafe { self.data.add(slot * self.row).cast_const() }
        })
    }

    /// For the next map of the same size.
    pub fn restart(&mut self) {
        self.next = 0;
    }
}
