//! TensorFlow's SAME padding, forward only.
//!
//! The kernels pad alike on both sides. Where SAME has one place less before a map than after it (stride 2, even size),
//! the map gets a row or column of zeros in front and is convolved as ever: output `o + 1` then starts at
//! `2 (o + 1) - p - 1 = 2 o - (p - 1)`, where output `o` of SAME starts, and the first row or column of outputs, which
//! starts before the zeros, is left out.

use sandglass_models::Window;
use sandglass_ops::conv::{self, After};
use sandglass_ops::map::Operand;
use sandglass_ops::{Activation, ConvShape};

use super::EngineError;
use super::body::Body;
use super::program::Place;

/// Rows and columns of zeros before a map.
#[derive(Clone, Copy)]
pub(super) struct Lead {
    rows: usize,
    columns: usize,
}

impl Lead {
    /// None where SAME pads alike on both sides.
    pub fn of(window: Window, (height, width): (usize, usize)) -> Result<Option<Self>, &'static str> {
        let centred = window.kernel / 2;
        let lead = |size: usize| match window.padding(size) {
            Some((before, after)) if (before, after) == (centred, centred) => Ok(0),
            Some((before, after)) if window.stride == 2 && (before + 1, after) == (centred, centred) => Ok(1),
            _ => Err("SAME padding of such a window"),
        };
        let (rows, columns) = (lead(height)?, lead(width)?);
        Ok((rows + columns > 0).then_some(Self { rows, columns }))
    }
}

impl Body {
    /// The raw output of a unit that reads the map `from` behind a lead.
    pub fn same(
        &mut self,
        (unit, from): (usize, usize),
        lead: Lead,
        weights: &[f32],
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let Place { height, width, channels, .. } = self.program.places[from];
        let mut map = self.buffers.take(self.len(from));
        self.write(self.operand(from)?, None, Activation::None, from, map.values_mut())?;

        let shape = ConvShape { height: height + lead.rows, width: width + lead.columns, ..self.conv_shape(unit) };
        let mut wide = self.buffers.take(self.images * shape.height * shape.width * channels);
        wide.values_mut().fill(0.0);
        let row = shape.width * channels;
        let images = wide.values_mut().chunks_exact_mut(shape.height * row);
        for (wide, image) in images.zip(map.values().chunks_exact(height * width * channels)) {
            let rows = wide[lead.rows * row..].chunks_exact_mut(row);
            for (wide, pixels) in rows.zip(image.chunks_exact(width * channels)) {
                wide[lead.columns * channels..].copy_from_slice(pixels);
            }
        }

        let (rows, columns) = (shape.out_height(), shape.out_width());
        let mut all = self.buffers.take(self.images * rows * columns * shape.output);
        let operand = Operand::plain(wide.values());
        conv::forward(&self.runtime, &shape, operand, weights, all.values_mut(), After::Raw)?;
        let (row, kept) = (columns * shape.output, (columns - lead.columns) * shape.output);
        let images = all.values().chunks_exact(rows * row);
        for (image, out) in images.zip(out.chunks_exact_mut((rows - lead.rows) * kept)) {
            for (row, out) in image[lead.rows * row..].chunks_exact(row).zip(out.chunks_exact_mut(kept)) {
                out.copy_from_slice(&row[lead.columns * shape.output..]);
            }
        }
        [map, wide, all].into_iter().for_each(|map| self.buffers.give(map));
        Ok(())
    }
}
