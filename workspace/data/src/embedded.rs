//! A data set made by code: ten shapes, drawn at random. Synthetic, and labelled so.
//!
//! Colour, texture, place, size and rotation say nothing of the class; clutter, an occluding bar and noise keep small
//! networks from saturating.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::shapes::{SHAPES, inside};
use crate::{DataError, Dataset, Draws, Part, Purpose};

/// Size and number of the embedded images; `open("embedded", ..)` takes the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    /// Height and width.
    pub size: usize,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Another seed draws other images.
    pub seed: u64,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { size: 32, train: 2400, validation: 1000, seed: 0 }
    }
}

/// Half the shape's size, where the image reaches from -1 to 1.
const RADIUS: (f64, f64) = (0.7, 0.95);
/// Largest distance of the shape's centre from the image's, per axis.
const SHIFT: f64 = 0.1;
/// Largest stretch along one axis of the shape.
const STRETCH: f64 = 1.15;
/// Smallest difference in brightness between shape and background, of 255.
const CONTRAST: f64 = 80.0;
/// Shortest and longest count of scribbles behind the shape, and their widths.
const SCRIBBLES: (usize, usize) = (0, 2);
const SCRIBBLE_WIDTH: (f64, f64) = (0.03, 0.10);
/// Largest rotation either way, in radians.
const ROTATION: f64 = 0.3;
/// How often a bar of the background's colour crosses the shape, and its width.
const OCCLUDED: f64 = 0.25;
const OCCLUDER_WIDTH: (f64, f64) = (0.1, 0.3);
/// Largest amplitude of the textures of shape and background, of 255.
const TEXTURE: f64 = 15.0;
/// Standard deviation of the noise, of 255.
pub(crate) const NOISE: f64 = 8.0;

impl Embedded {
    /// Draws one part. Labels go round the ten classes.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where `size` is 0.
    pub fn open(&self, part: Part) -> Result<Dataset, DataError> {
        let (count, purpose, name) = match part {
            Part::Train => (self.train, Purpose::DrawTrain, "embedded"),
            Part::Validation | Part::Scored => (self.validation, Purpose::DrawValidation, "embedded (validation)"),
        };
        let bytes = self.size * self.size * 3;
        if bytes == 0 {
            return Err(DataError::Size { set: name.to_string(), reason: "images of size 0".to_string() });
        }
        let mut pixels = vec![0; bytes * count];
        pixels.par_chunks_exact_mut(bytes).enumerate().for_each(|(index, image)| {
            let mut draws = Draws::new(self.seed, purpose, 0, index as u64);
            Scene::new(index % SHAPES.len(), &mut draws).paint(self.size, image, &mut draws);
        });
        let labels = (0..count).map(|index| (index % SHAPES.len()) as u32).collect();
        let classes = SHAPES.map(String::from).to_vec();
        let set = Dataset::from_pixels(name, classes, true, (self.size, self.size), pixels, labels)?;
        Ok(set.numbered(part))
    }
}

pub(crate) type Colour = [f64; 3];

pub(crate) fn brightness([r, g, b]: Colour) -> f64 {
    0.3 * r + 0.6 * g + 0.1 * b
}

pub(crate) fn colour(draws: &mut Draws) -> Colour {
    [(); 3].map(|()| draws.between(20.0, 235.0))
}

/// A plane wave added to a colour.
pub(crate) struct Texture {
    amplitude: f64,
    direction: (f64, f64),
    phase: f64,
}

impl Texture {
    pub fn new(draws: &mut Draws) -> Self {
        let (sin, cos) = libm::sincos(draws.between(0.0, std::f64::consts::TAU));
        let frequency = draws.between(3.0, 14.0);
        let amplitude = draws.between(0.0, TEXTURE);
        Self { amplitude, direction: (frequency * cos, frequency * sin), phase: draws.between(0.0, 6.3) }
    }

    pub fn at(&self, x: f64, y: f64) -> f64 {
        self.amplitude * libm::sin(self.direction.0 * x + self.direction.1 * y + self.phase)
    }
}

/// A line segment with a width.
pub(crate) struct Stroke {
    pub from: (f64, f64),
    pub to: (f64, f64),
    pub half_width: f64,
    pub colour: Colour,
}

impl Stroke {
    pub fn covers(&self, x: f64, y: f64) -> bool {
        let (dx, dy) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let (px, py) = (x - self.from.0, y - self.from.1);
        let along = ((px * dx + py * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0.0, 1.0);
        let (rx, ry) = (px - along * dx, py - along * dy);
        rx * rx + ry * ry < self.half_width * self.half_width
    }
}

/// Everything that is in an image but the noise.
struct Scene {
    class: usize,
    background: [Colour; 2],
    background_texture: Texture,
    foreground: Colour,
    foreground_texture: Texture,
    /// From image to shape: the shape's centre, then two rows of a matrix.
    centre: (f64, f64),
    rows: [(f64, f64); 2],
    scribbles: Vec<Stroke>,
    occluder: Option<Stroke>,
}

impl Scene {
    fn new(class: usize, draws: &mut Draws) -> Self {
        let background = [colour(draws), colour(draws)];
        let mean = (brightness(background[0]) + brightness(background[1])) / 2.0;
        let foreground = loop {
            let colour = colour(draws);
            if (brightness(colour) - mean).abs() >= CONTRAST {
                break colour;
            }
        };
        let centre = (draws.between(-SHIFT, SHIFT), draws.between(-SHIFT, SHIFT));
        let (sin, cos) = libm::sincos(draws.between(-ROTATION, ROTATION));
        let radius = draws.between(RADIUS.0, RADIUS.1);
        let stretch = draws.between(1.0, STRETCH);
        let (wide, tall) = (1.0 / (radius * stretch), stretch / radius);
        let scribbles = SCRIBBLES.0 + draws.below(SCRIBBLES.1 - SCRIBBLES.0 + 1);
        let point = |draws: &mut Draws| (draws.between(-1.2, 1.2), draws.between(-1.2, 1.2));
        let stroke = |width: (f64, f64), colour: Colour, draws: &mut Draws| Stroke {
            from: point(draws),
            to: point(draws),
            half_width: draws.between(width.0, width.1) / 2.0,
            colour,
        };
        Self {
            class,
            background,
            background_texture: Texture::new(draws),
            foreground,
            foreground_texture: Texture::new(draws),
            centre,
            rows: [(cos * wide, sin * wide), (-sin * tall, cos * tall)],
            scribbles: (0..scribbles).map(|_| stroke(SCRIBBLE_WIDTH, colour(draws), draws)).collect(),
            occluder: (draws.uniform() < OCCLUDED).then(|| stroke(OCCLUDER_WIDTH, background[0], draws)),
        }
    }

    fn colour_at(&self, x: f64, y: f64) -> Colour {
        if let Some(bar) = self.occluder.as_ref().filter(|bar| bar.covers(x, y)) {
            return bar.colour;
        }
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let [u, v] = self.rows.map(|(a, b)| a * dx + b * dy);
        if inside(self.class, u, v) {
            let wave = self.foreground_texture.at(x, y);
            return self.foreground.map(|value| value + wave);
        }
        if let Some(line) = self.scribbles.iter().find(|line| line.covers(x, y)) {
            return line.colour;
        }
        let wave = self.background_texture.at(x, y);
        let share = (x + 1.0) / 2.0;
        std::array::from_fn(|at| self.background[0][at] * (1.0 - share) + self.background[1][at] * share + wave)
    }

    /// Four samples a pixel.
    fn paint(&self, size: usize, image: &mut [u8], draws: &mut Draws) {
        let place = |at: usize, part: f64| (at as f64 + part) * 2.0 / size as f64 - 1.0;
        for (at, pixel) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let mut sum = [0.0; 3];
            for (down, right) in [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)] {
                let sample = self.colour_at(place(at % size, right), place(at / size, down));
                sum = std::array::from_fn(|channel| sum[channel] + sample[channel] / 4.0);
            }
            *pixel = sum.map(|value| (value + NOISE * noise(draws) + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
}

/// Mean 0, variance 1: four 16-bit uniform numbers (Irwin and Hall), cheaper than an exact normal one.
pub(crate) fn noise(draws: &mut Draws) -> f64 {
    let bits = draws.bits();
    let sum: u64 = (0..4).map(|at| (bits >> (16 * at)) & 0xffff).sum();
    (sum as f64 / 65535.0 - 2.0) * 3f64.sqrt()
}
