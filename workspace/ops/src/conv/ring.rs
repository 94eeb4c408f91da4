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
    /// Rows of zeros above the map.
    above: usize,
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
    pub unsafe fn new(data: *mut f32, shape: &ConvShape) -> Self {
        let (len, lead) = (Self::len(shape), shape.left() * super::pitch(shape.input));
        // SAFETY: the caller's.
        unsafe { std::ptr::write_bytes(data, 0, len) };
        let ConvShape { height, kernel, .. } = *shape;
        Self { data, kernel, row: len / (kernel + 1), lead, height, above: shape.above(), next: 0 }
    }

    /// The next row of the map that a window at `top` of the padded map wants, and where its first pixel goes; None when
    /// all are there. The window only moves down.
    #[inline(always)]
    pub fn wanted(&mut self, top: usize) -> Option<(usize, *mut f32)> {
        let end = (top + self.kernel).saturating_sub(self.above).min(self.height);
        let row = self.next.max(top.saturating_sub(self.above));
        if row >= end {
            return None;
        }
        self.next = row + 1;
        // SAFETY: one of the first `kernel` rows.
        Some((row, unsafe { self.data.add(row % self.kernel * self.row + self.lead) }))
    }

    /// Rows `top..top + K` of the padded map, `K` the ring's kernel, once nothing is [wanted](Ring::wanted).
    #[inline(always)]
    pub fn window<const K: usize>(&self, top: usize) -> [*const f32; K] {
        std::array::from_fn(|ky| {
            let padded = top + ky;
            let inside = (self.above..self.height + self.above).contains(&padded);
            let slot = if inside { (padded - self.above) % self.kernel } else { self.kernel };
            // SAFETY: one of `kernel + 1` rows.
            unsafe { self.data.add(slot * self.row).cast_const() }
        })
    }

    /// For the next map of the same size.
    pub fn restart(&mut self) {
        self.next = 0;
    }
}
