//! Decoded images.

/// An image as bytes: RGB, rows from the top, [height, width, 3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` of them.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A black image.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// The `width` x `height` part whose upper left corner is at (`left`, `top`); black where it lies outside.
    pub fn crop(&self, left: isize, top: isize, width: usize, height: usize) -> Self {
        self.window(left, top, width, height, [0; 3])
    }

    /// As [`Picture::crop`], with `fill` where it lies outside.
    pub(crate) fn window(&self, left: isize, top: isize, width: usize, height: usize, fill: [u8; 3]) -> Self {
        let mut part = Self { width, height, pixels: fill.repeat(width * height) };
        let first = left.max(0);
        let last = (left + width as isize).min(self.width as isize);
        if first >= last {
            return part;
        }
        for row in 0..height {
            let y = top + row as isize;
            if y < 0 || y >= self.height as isize {
                continue;
            }
            let from = (y as usize * self.width + first as usize) * 3;
            let to = (row * width + (first - left) as usize) * 3;
            let bytes = (last - first) as usize * 3;
            part.pixels[to..to + bytes].copy_from_slice(&self.pixels[from..from + bytes]);
        }
        part
    }

    /// Mirrors left and right.
    pub fn flip(&mut self) {
        for row in self.pixels.chunks_exact_mut(self.width.max(1) * 3) {
            row.as_chunks_mut::<3>().0.reverse();
        }
    }
}
