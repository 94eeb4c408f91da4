//! A depthwise convolution with the 1x1 convolutions around it, some lines at a time: the wide maps between them never
//! exist whole, and what is written is read again while it is in the second cache.
//!
//! A task has a band of the output's lines. Lines of the expansion that two of its steps need are kept, and those that two
//! bands need are computed in both.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::direct::{Direct, Epilogue, MOST_PARTS, WORTH, is_matrix};
use super::{ConvShape, Packed};
use crate::map::{Affine, Finish, Skip};
use crate::scratch::Shared;
use crate::shape::product;
use crate::{Activation, OpError, Runtime};

/// Floats of scratch that a task should take: the share of the second cache that all CPUs have to spare.
const SCRATCH: usize = 384 * 1024 / size_of::<f32>();

/// One convolution of a chain, and what its epilogue does.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    pub shape: ConvShape,
    pub weights: &'a Packed,
    pub affine: Affine<'a>,
    pub activation: Activation,
}

/// Convolutions that run line by line: 1x1 or none, depthwise, 1x1 or none. The shortcut is added by the last.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    pub expand: Option<Stage<'a>>,
    pub depthwise: Stage<'a>,
    pub project: Option<Stage<'a>>,
    pub skip: Option<Skip<'a>>,
}

/// What a task holds in scratch, in floats.
struct Room {
    /// Lines of output in one step: an even number, as the depthwise kernel takes them.
    lines: usize,
    expanded: usize,
    convolved: usize,
}

impl<'a> Chain<'a> {
    fn room(&self) -> Room {
        let ConvShape { width, input, kernel, stride, .. } = self.depthwise.shape;
        let (line, out_line) = (product([width, input]), product([self.depthwise.shape.out_width(), input]));
        let (expanded, convolved) = (self.expand.map_or(0, |_| line), self.project.map_or(0, |_| out_line));
        let floats = |lines: usize| {
            let read = lines.saturating_mul(stride).saturating_add(kernel);
            (product([read, expanded]), product([lines, convolved]))
        };
        let mut lines = 2;
        let fits = |lines: usize| {
            let (expanded, convolved) = floats(lines);
            expanded.saturating_add(convolved) <= SCRATCH
        };
        while lines < self.depthwise.shape.out_height() && fits(lines + 2) {
            lines += 2;
        }
        let (expanded, convolved) = floats(lines);
        Room { lines, expanded, convolved }
    }

    /// Bands: some lines each, so that what two of them compute twice is little.
    fn parts(&self) -> usize {
        let stages = [self.expand, Some(self.depthwise), self.project].into_iter().flatten();
        let madds = stages.map(|Stage { shape, .. }| {
            product([shape.images, shape.out_height(), shape.out_width(), shape.weight_len()])
        });
        let lines = product([self.depthwise.shape.images, self.depthwise.shape.out_height()]);
        let parts = madds.fold(0, usize::saturating_add) / (2 * WORTH);
        parts.min(lines / 6).clamp(1, MOST_PARTS)
    }

    /// Floats of scratch that [`Chain::run`] takes.
    pub fn scratch_len(&self, runtime: &Runtime) -> usize {
        let Room { expanded, convolved, .. } = self.room();
        product([expanded.saturating_add(convolved), self.parts().min(runtime.threads())])
    }

    /// `y` = what the convolutions give one after another, to the bit.
    ///
    /// # Errors
    /// Convolutions that do not follow each other or are of another kind, lengths that do not fit, a shortcut that is not
    /// read as it is stored.
    pub fn run(&self, runtime: &Runtime, x: &[f32], scratch: &mut [f32], y: &mut [f32]) -> Result<(), OpError> {
        let middle = self.depthwise.shape;
        let stages = [self.expand, Some(self.depthwise), self.project];
        for Stage { shape, weights, .. } in stages.into_iter().flatten() {
            shape.check()?;
            weights.check(runtime, &shape)?;
        }
        let input = self.expand.map_or(middle.input_len(), |stage| stage.shape.input_len());
        let output = self.project.map_or(middle.output_len(), |stage| stage.shape.output_len());
        OpError::length("input", input, x.len())?;
        OpError::length("output", output, y.len())?;
        OpError::length("scratch", self.scratch_len(runtime), scratch.len())?;
        let follow = |stage: &Option<Stage<'_>>, len: usize, other: fn(&ConvShape) -> usize| {
            stage.as_ref().is_none_or(|stage| is_matrix(&stage.shape) && other(&stage.shape) == len)
        };
        let fits = middle.depthwise
            && follow(&self.expand, middle.input_len(), ConvShape::output_len)
            && self.expand.is_none_or(|stage| stage.shape.output == middle.input)
            && follow(&self.project, middle.output_len(), ConvShape::input_len)
            && self.project.is_none_or(|stage| stage.shape.input == middle.output);
        if !fits {
            return Err(OpError::Convolution(middle));
        }
        let after = |stage: &Stage<'a>, is_last: bool, len: usize| {
            let skip = self.skip.filter(|_| is_last);
            let finish = Finish::of(stage.shape.output, stage.affine, skip, stage.activation);
            finish.check(len)?;
            Epilogue::of(&finish).ok_or(OpError::Convolution(stage.shape))
        };
        let direct = |stage: Stage<'a>, is_last: bool| -> Result<Direct<'a>, OpError> {
            let after = after(&stage, is_last, if is_last { output } else { stage.shape.output_len() })?;
            let (x, y) = (std::ptr::null(), std::ptr::null_mut());
            Ok(Direct { shape: stage.shape, x, packed: &stage.weights.data, y, onto: false, after })
        };
        let band = Band {
            expand: self.expand.map(|stage| direct(stage, false)).transpose()?,
            depthwise: direct(self.depthwise, self.project.is_none())?,
            project: self.project.map(|stage| direct(stage, true)).transpose()?,
            room: self.room(),
            x,
            y: Shared::new(y),
        };
        let (parts, lines) = (self.parts(), middle.images * middle.out_height());
        let (size, slots, free) = (band.room.expanded + band.room.convolved, Shared::new(scratch), Slots::default());
        runtime.run(parts, &|part| {
            let slot = free.take();
            // SAFETY: lengths are checked; bands are disjoint, as are slots, of which there are as many as tasks that run
            // at the same time; the runtime has its instructions.
            unsafe { band.run(runtime, part * lines / parts..(part + 1) * lines / parts, slots.at(slot * size)) };
            free.give(slot);
        });
        Ok(())
    }
}

/// Places in scratch that no task has: a bit for each.
struct Slots(AtomicU64);

impl Default for Slots {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Slots {
    /// The first free one.
    fn take(&self) -> usize {
        let mut free = self.0.load(Ordering::Relaxed);
        loop {
            let first = free & free.wrapping_neg();
            match self.0.compare_exchange_weak(free, free ^ first, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return first.trailing_zeros() as usize,
                Err(now) => free = now,
            }
        }
    }

    fn give(&self, slot: usize) {
        self.0.fetch_or(1 << slot, Ordering::Release);
    }
}

/// A chain whose lengths were checked. The maps of its convolutions are set line by line.
struct Band<'a> {
    expand: Option<Direct<'a>>,
    depthwise: Direct<'a>,
    project: Option<Direct<'a>>,
    room: Room,
    x: &'a [f32],
    y: Shared<f32>,
}

impl Band<'_> {
    /// Lines `lines` of the output, counted over all images.
    ///
    /// # Safety
    /// No other task has the lines or the scratch, which is as long as the room says; the runtime has its instructions.
    unsafe fn run(&self, runtime: &Runtime, lines: Range<usize>, scratch: *mut f32) {
        let ConvShape { height, width, input, kernel, stride, .. } = self.depthwise.shape;
        let above = self.depthwise.shape.above();
        let (out_height, out_width) = (self.depthwise.shape.out_height(), self.depthwise.shape.out_width());
        let (line, isa) = (width * input, runtime.isa());
        // SAFETY: the caller's; all that is read was written before, in this band.
        unsafe {
            let (expanded, convolved) = (scratch, scratch.add(self.room.expanded));
            let y = self.y.at(0);
            // Lines of the expansion that are there, counted over all images; the first lies at the start of the scratch.
            let mut there = 0..0;
            let mut row = lines.start;
            while row < lines.end {
                let image = row / out_height;
                let end = lines.end.min(row + self.room.lines).min((image + 1) * out_height);
                let mut depthwise = Direct { x: self.x.as_ptr(), y, ..self.depthwise };
                if let Some(expand) = &self.expand {
                    let (top, bottom) = (row % out_height * stride, (end - 1) % out_height * stride + kernel);
                    let first = image * height + top.saturating_sub(above);
                    let last = image * height + (bottom - above).min(height);
                    let kept = if there.contains(&first) { there.end - first } else { 0 };
                    if kept > 0 {
                        std::ptr::copy(expanded.add((first - there.start) * line), expanded, kept * line);
                    }
                    there = first..last;
                    let map = expanded.wrapping_sub(first * line);
                    let expand = Direct { x: self.x.as_ptr(), y: map, ..*expand };
                    expand.part(isa, (first + kept) * width..last * width, 0..input);
                    depthwise.x = map;
                }
                let pixels = row * out_width..end * out_width;
                match &self.project {
                    None => depthwise.part(isa, row..end, 0..input),
                    Some(project) => {
                        let map = convolved.wrapping_sub(pixels.start * input);
                        depthwise.y = map;
                        depthwise.part(isa, row..end, 0..input);
                        let project = Direct { x: map, y, ..*project };
                        project.part(isa, pixels, 0..project.shape.output);
                    }
                }
                row = end;
            }
        }
    }
}
