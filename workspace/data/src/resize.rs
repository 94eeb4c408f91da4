//! Antialiased resize on bytes, equal to Pillow's `Image.resize` bit for bit.
//!
//! Source: Pillow `src/libImaging/Resample.c`: coefficients of 22 bits, two passes, each rounded to
//! bytes, the horizontal one first. (Pillow 13 swaps them where the aspect changes much and that saves work.)

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Picture;

/// How the pixels around a place are weighed; where an image shrinks, over as many more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Falls off in a straight line over one pixel.
    Bilinear,
    /// Keys' cubic with a = -0.5 over two pixels.
    Bicubic,
}

impl Filter {
    /// Half the filter's width, in pixels of the coarser image.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Bilinear if x < 1.0 => 1.0 - x,
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Eight bits go to the pixel and two to the sum's head room.
const PRECISION: u32 = 32 - 8 - 2;

/// What one output row or column reads: input positions from `first` on, each with its weight.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// Of the output's places `window`.
fn taps(input: usize, output: usize, window: Range<usize>, filter: Filter) -> Vec<Taps> {
    // An axis that keeps its size is not filtered.
    if input == output {
        return window.map(|at| Taps { first: at, weights: vec![1 << PRECISION] }).collect();
    }
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    window
        .map(|at| {
            let centre = (at as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(input);
            let weights: Vec<f64> = (first..last).map(|x| filter.weight((x as f64 - centre + 0.5) * inverse)).collect();
            let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
            let fixed = |weight: f64| {
                let weight = if sum == 0.0 { weight } else { weight / sum } * f64::from(1 << PRECISION);
                (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32
            };
            Taps { first, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// A line of the picture, its columns resized.
fn resize_line(line: &[u8], columns: &[Taps], out: &mut [u8]) {
    let line = line.as_chunks::<3>().0;
    for (pixel, taps) in out.as_chunks_mut::<3>().0.iter_mut().zip(columns) {
        let mut sums = [HALF; 3];
        for (input, weight) in line[taps.first..].iter().zip(&taps.weights) {
            for channel in 0..3 {
                sums[channel] += i32::from(input[channel]) * weight;
            }
        }
        *pixel = sums.map(to_byte);
    }
}

/// `picture` at another size; an axis that keeps its size is not filtered.
pub fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    resize_window(picture, (width, height), 0..width, 0..height, filter)
}

/// The `columns` and `rows` of `picture` at `size`, (width, height), of which no other pixel is made: of a thin picture
/// the whole may take more memory than there is. The window lies within the size.
pub(crate) fn resize_window(
    picture: &Picture,
    (width, height): (usize, usize),
    columns: Range<usize>,
    rows: Range<usize>,
    filter: Filter,
) -> Picture {
    let mut result = Picture::black(columns.len(), rows.len());
    if result.pixels.is_empty() || picture.pixels.is_empty() {
        return result;
    }
    let stride = result.width * 3;
    let (columns, rows) = (taps(picture.width, width, columns, filter), taps(picture.height, height, rows, filter));
    // Each line is resized once and added to the rows that read it, so that no picture lies between the passes.
    let mut line = vec![0; stride];
    let mut sums = vec![HALF; stride * rows.len()];
    let (first, last) = (rows.first().map_or(0, |taps| taps.first), rows.last().map_or(0, Taps::end));
    let mut done = 0;
    for y in first..last {
        resize_line(&picture.pixels[y * picture.width * 3..][..picture.width * 3], &columns, &mut line);
        // Rows read from ever further down.
        done += rows[done..].iter().take_while(|taps| taps.end() <= y).count();
        for (row, taps) in rows.iter().enumerate().skip(done).take_while(|(_, taps)| taps.first <= y) {
            let weight = taps.weights[y - taps.first];
            for (sum, &input) in sums[row * stride..][..stride].iter_mut().zip(&line) {
                *sum += i32::from(input) * weight;
            }
        }
    }
    for (out, &sum) in result.pixels.iter_mut().zip(&sums) {
        *out = to_byte(sum);
    }
    result
}
