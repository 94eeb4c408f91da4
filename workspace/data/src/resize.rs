//! Antialiased resize on bytes, equal to Pillow's `Image.resize` bit for bit.
//!
//! Source: Pillow `src/libImaging/Resample.c`: coefficients of 22 bits, two passes, each rounded to
//! bytes, the horizontal one first. (Pillow 13 swaps them where the aspect changes much and that saves work.)

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

fn taps(input: usize, output: usize, filter: Filter) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let inverse = 1.0 / filter_scale;
    (0..output)
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

fn horizontal(picture: &Picture, width: usize, filter: Filter) -> Picture {
    let taps = taps(picture.width, width, filter);
    let mut result = Picture::black(width, picture.height);
    let rows = picture.pixels.chunks_exact(picture.width * 3);
    for (row, out) in rows.zip(result.pixels.chunks_exact_mut(width * 3)) {
        let row = row.as_chunks::<3>().0;
        for (pixel, taps) in out.as_chunks_mut::<3>().0.iter_mut().zip(&taps) {
            let mut sums = [HALF; 3];
            for (input, weight) in row[taps.first..].iter().zip(&taps.weights) {
                for channel in 0..3 {
                    sums[channel] += i32::from(input[channel]) * weight;
                }
            }
            *pixel = sums.map(to_byte);
        }
    }
    result
}

fn vertical(picture: &Picture, height: usize, filter: Filter) -> Picture {
    let stride = picture.width * 3;
    let mut result = Picture::black(picture.width, height);
    let mut sums = vec![HALF; stride];
    for (out, taps) in result.pixels.chunks_exact_mut(stride).zip(taps(picture.height, height, filter)) {
        sums.fill(HALF);
        for (row, weight) in picture.pixels[taps.first * stride..].chunks_exact(stride).zip(&taps.weights) {
            for (sum, &input) in sums.iter_mut().zip(row) {
                *sum += i32::from(input) * weight;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = to_byte(sum);
        }
    }
    result
}

/// `picture` at another size; an axis that keeps its size is not filtered.
pub fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    if width == 0 || height == 0 || picture.width == 0 || picture.height == 0 {
        return Picture::black(width, height);
    }
    let mut result = None;
    if width != picture.width {
        result = Some(horizontal(picture, width, filter));
    }
    if height != picture.height {
        result = Some(vertical(result.as_ref().unwrap_or(picture), height, filter));
    }
    result.unwrap_or_else(|| picture.clone())
}
