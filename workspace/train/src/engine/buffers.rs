//! Memory for maps, taken and given back.

use sandglass_ops::Buffer;

/// Buffers that are free. A pass that repeats finds all of its own again.
#[derive(Default)]
pub(super) struct Buffers {
    free: Vec<Buffer>,
}

/// A map in a buffer that may be longer.
pub(super) struct Map {
    buffer: Buffer,
    len: usize,
}

impl Map {
    pub fn values(&self) -> &[f32] {
        &self.buffer[..self.len]
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Buffers {
    /// The smallest free buffer that holds `len` and is not more than half wasted, or a new one. Its values are
    /// whatever the last use left.
    pub fn take(&mut self, len: usize) -> Map {
        let fits = |buffer: &Buffer| (len..=2 * len).contains(&buffer.len());
        let best = (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].len());
        let buffer = best.map_or_else(|| Buffer::zeros(len), |i| self.free.swap_remove(i));
        Map { buffer, len }
    }

    pub fn give(&mut self, map: Map) {
        self.free.push(map.buffer);
    }
}
