//! Augmentation with torchvision's definitions; the draws are our own.

use serde::{Deserialize, Serialize};

use crate::{Draws, Picture};

/// What a recipe may ask for; all off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Smallest share of the image that a RandomResizedCrop keeps; 0: none.
    pub smallest_area: f64,
    /// Zeros around the image before a random crop of its own size.
    pub pad_crop: usize,
    /// Mirror left and right every other time.
    pub flip: bool,
    /// Brightness, contrast and saturation are scaled by a factor within 1 - jitter ..= 1 + jitter, in random order.
    pub jitter: f64,
    /// Side of a square that is set to the mean (DeVries and Taylor 2017).
    pub cutout: usize,
}

impl Augment {
    pub(crate) fn on_bytes(&self, mut picture: Picture, draws: &mut Draws) -> Picture {
        if self.pad_crop > 0 {
            let shift = |draws: &mut Draws| draws.below(2 * self.pad_crop + 1) as isize - self.pad_crop as isize;
            let (left, top) = (shift(draws), shift(draws));
            picture = picture.crop(left, top, picture.width, picture.height);
        }
        if self.flip && draws.coin() {
            picture.flip();
        }
        if self.jitter > 0.0 {
            let mut order: [fn(&mut Picture, f32); 3] = [brightness, contrast, saturation];
            draws.shuffle(&mut order);
            for adjust in order {
                adjust(&mut picture, draws.between((1.0 - self.jitter).max(0.0), 1.0 + self.jitter) as f32);
            }
        }
        picture
    }

    /// On normalised values, where the mean is 0; the square may reach over the border.
    pub(crate) fn cut_out(&self, image: &mut [f32], height: usize, width: usize, draws: &mut Draws) {
        if self.cutout == 0 {
            return;
        }
        let span = |centre: usize, end: usize| {
            let first = centre as isize - (self.cutout / 2) as isize;
            first.max(0) as usize..(first + self.cutout as isize).clamp(0, end as isize) as usize
        };
        let (rows, columns) = (span(draws.below(height), height), span(draws.below(width), width));
        for row in rows {
            image[(row * width + columns.start) * 3..(row * width + columns.end) * 3].fill(0.0);
        }
    }
}

/// torchvision's `RandomResizedCrop.get_params`: (left, top, width, height); after ten misfits the largest centred
/// part within the ratios.
pub(crate) fn random_area(picture: &Picture, smallest: f64, draws: &mut Draws) -> (usize, usize, usize, usize) {
    const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
    let (width, height) = (picture.width, picture.height);
    let area = (width * height) as f64;
    for _ in 0..10 {
        let target = area * draws.between(smallest, 1.0);
        let ratio = libm::exp(draws.between(libm::log(RATIO.0), libm::log(RATIO.1)));
        let w = (target * ratio).sqrt().round_ties_even() as usize;
        let h = (target / ratio).sqrt().round_ties_even() as usize;
        if w > 0 && h > 0 && w <= width && h <= height {
            let top = draws.below(height - h + 1);
            return (draws.below(width - w + 1), top, w, h);
        }
    }
    let ratio = width as f64 / height as f64;
    let (w, h) = if ratio < RATIO.0 {
        (width, (width as f64 / RATIO.0).round_ties_even() as usize)
    } else if ratio > RATIO.1 {
        ((height as f64 * RATIO.1).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    ((width - w.min(width)) / 2, (height - h.min(height)) / 2, w.min(width), h.min(height))
}

/// PIL's `Image.blend` towards `from` by `factor`, which may lie beyond 1.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let from = f32::from(from);
    (from + factor * (f32::from(to) - from)).clamp(0.0, 255.0) as u8
}

/// PIL's `convert("L")`: ITU-R 601 in 16 bits.
fn grey(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

pub(crate) fn brightness(picture: &mut Picture, factor: f32) {
    picture.pixels.iter_mut().for_each(|value| *value = blend(0, *value, factor));
}

pub(crate) fn contrast(picture: &mut Picture, factor: f32) {
    let pixels = picture.pixels.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    picture.pixels.iter_mut().for_each(|value| *value = blend(mean, *value, factor));
}

pub(crate) fn saturation(picture: &mut Picture, factor: f32) {
    for pixel in picture.pixels.as_chunks_mut::<3>().0 {
        let grey = grey(pixel);
        *pixel = pixel.map(|value| blend(grey, value, factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Purpose;

    #[test]
    fn random_areas_keep_torchvisions_bounds() {
        for (width, height) in [(500, 375), (64, 64), (375, 500)] {
            let picture = Picture::black(width, height);
            let mut smallest: f64 = 1.0;
            for index in 0..2000 {
                let mut draws = Draws::new(0, Purpose::Augment, 0, index);
                let (left, top, w, h) = random_area(&picture, 0.08, &mut draws);
                assert!(w > 0 && h > 0 && left + w <= width && top + h <= height);
                let area = (w * h) as f64 / (width * height) as f64;
                let ratio = w as f64 / h as f64;
                assert!((0.07..=1.0).contains(&area) && (0.7..1.42).contains(&ratio), "{area} {ratio}");
                smallest = smallest.min(area);
            }
            assert!(smallest < 0.1);
        }
        let long = Picture::black(1000, 10);
        assert_eq!(random_area(&long, 0.9, &mut Draws::new(0, Purpose::Augment, 0, 0)), (493, 0, 13, 10));
    }

    #[test]
    fn a_shifted_crop_brings_zeros_and_a_cut_out_means() {
        let picture = Picture { pixels: vec![200; 48], ..Picture::black(4, 4) };
        let shifted = picture.crop(-1, 2, 4, 4);
        let rows: Vec<Vec<u8>> =
            shifted.pixels.chunks(12).map(|row| row.chunks(3).map(|pixel| pixel[0]).collect()).collect();
        assert_eq!(rows, [[0, 200, 200, 200], [0, 200, 200, 200], [0, 0, 0, 0], [0, 0, 0, 0]]);

        let augment = Augment { cutout: 3, ..Augment::default() };
        for index in 0..50 {
            let mut image = vec![1.0; 8 * 8 * 3];
            augment.cut_out(&mut image, 8, 8, &mut Draws::new(0, Purpose::Augment, 0, index));
            let zeros = image.iter().filter(|&&value| value == 0.0).count() / 3;
            assert!([4, 6, 9].contains(&zeros), "{zeros}");
        }
    }

    #[test]
    fn flips_and_crops_are_drawn_evenly() {
        let mut picture = Picture::black(3, 1);
        picture.pixels[0] = 255;
        let augment = Augment { flip: true, pad_crop: 1, ..Augment::default() };
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..1800 {
            let drawn = augment.on_bytes(picture.clone(), &mut Draws::new(0, Purpose::Augment, 0, index));
            let place = drawn.pixels.iter().position(|&value| value == 255).map(|at| at / 3);
            *counts.entry(place).or_insert(0) += 1;
        }
        // A third of the vertical shifts keeps the row; of those a third loses the pixel, the rest lie mirrored.
        let expected = [(None, 1400), (Some(0), 100), (Some(1), 200), (Some(2), 100)];
        for (place, expected) in expected {
            let found: i32 = counts.get(&place).copied().unwrap_or(0);
            assert!((found - expected).abs() < 60, "{place:?}: {found}, not about {expected}");
        }
    }
}
