//! A detection set made by code: up to five shapes on textured ground, some of them over others. Synthetic, and labelled so.
//!
//! The shapes are the embedded data set's. A box is exact: the pixels that the whole shape touches, also where another lies
//! over it, as far as they are in the image. Colour, place and size say nothing of the class.

use rayon::prelude::*;

use super::{DetectionSet, Object, Split};
use crate::embedded::{Colour, NOISE, Stroke, Texture, brightness, colour, noise};
use crate::shapes::{SHAPES, inside};
use crate::{DataError, Draws, Purpose};

/// Size and number of the drawn images; `open_detection("embedded", ..)` takes the default.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedDetection {
    /// Height and width.
    pub size: usize,
    /// So many of the embedded classes, from the first on: 1 to 10.
    pub classes: usize,
    /// Number of images to learn from.
    pub train: usize,
    /// Number of images to compare recipes on.
    pub val: usize,
    /// Number of images to be scored on.
    pub test: usize,
    /// Another seed draws other images.
    pub seed: u64,
}

impl Default for EmbeddedDetection {
    fn default() -> Self {
        Self { size: 96, classes: 5, train: 3000, val: 100, test: 200, seed: 0 }
    }
}

/// Most objects in an image.
const OBJECTS: usize = 5;
/// Half an object's size, where the image reaches from 0 to 1.
const RADIUS: (f64, f64) = (0.12, 0.26);
/// Largest stretch along one axis.
const STRETCH: f64 = 1.3;
/// Largest rotation either way, in radians.
const ROTATION: f64 = 0.3;
/// Where the centres of objects lie.
const CENTRE: (f64, f64) = (0.08, 0.92);
/// Smallest difference in brightness between object and ground, of 255.
const CONTRAST: f64 = 70.0;
/// Scribbles on the ground: at most so many, of these widths.
const SCRIBBLES: usize = 3;
const SCRIBBLE_WIDTH: (f64, f64) = (0.01, 0.04);
/// Places that are tried for an object before it is left out.
const TRIALS: usize = 20;
/// Smallest share of an object that is seen.
const SEEN: f64 = 0.3;
/// An object of which less is seen is difficult.
const EASY: f64 = 0.5;
/// Largest overlap of two boxes, by IoU.
const OVERLAP: f64 = 0.45;

impl EmbeddedDetection {
    /// Draws one split; `trainval` is `train` and then `val`.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where `size` is less than 8 or more than 4096, or `classes` not within 1..=10.
    pub fn open(&self, split: Split) -> Result<DetectionSet, DataError> {
        let name = format!("embedded ({split})");
        let refused = |reason| Err(DataError::Size { set: name.clone(), reason });
        if !(8..=4096).contains(&self.size) {
            return refused(format!("images of {} pixels: use 8 to 4096", self.size));
        }
        if !(1..=SHAPES.len()).contains(&self.classes) {
            return refused(format!("{} classes: use 1 to {}", self.classes, SHAPES.len()));
        }
        let part = |split: Split, count: usize| (0..count).map(move |index| (split, index));
        let images: Vec<(Split, usize)> = match split {
            Split::Train => part(split, self.train).collect(),
            Split::Val => part(split, self.val).collect(),
            Split::TrainVal => part(Split::Train, self.train).chain(part(Split::Val, self.val)).collect(),
            Split::Test => part(split, self.test).collect(),
        };
        let draw = |&(split, index): &(Split, usize)| {
            let mut draws = Draws::new(self.seed, Purpose::DrawObjects, split as u64, index as u64);
            let scene = Scene::new(self.size, self.classes, &mut draws);
            (scene.paint(&mut draws), scene.objects())
        };
        let (pixels, objects): (Vec<Vec<u8>>, Vec<Vec<Object>>) = images.par_iter().map(draw).unzip();
        let classes = SHAPES[..self.classes].iter().map(|name| name.to_string()).collect();
        let names = images.iter().map(|(split, index)| format!("{split} {index}")).collect();
        let size = (self.size, self.size);
        Ok(DetectionSet::from_pixels(&name, classes, true, size, pixels.concat(), objects)?.named(names))
    }
}

/// A shape at its place. Coordinates are shares of the image's side.
struct Shape {
    class: usize,
    colour: Colour,
    texture: Texture,
    centre: (f64, f64),
    /// How far it can reach from the centre.
    reach: f64,
    /// From image to shape: two rows of a matrix.
    rows: [(f64, f64); 2],
}

impl Shape {
    fn draw(classes: usize, ground: f64, draws: &mut Draws) -> Self {
        let class = draws.below(classes);
        let colour = loop {
            let colour = colour(draws);
            if (brightness(colour) - ground).abs() >= CONTRAST {
                break colour;
            }
        };
        let centre = (draws.between(CENTRE.0, CENTRE.1), draws.between(CENTRE.0, CENTRE.1));
        let (sin, cos) = libm::sincos(draws.between(-ROTATION, ROTATION));
        let radius = draws.between(RADIUS.0, RADIUS.1);
        let stretch = draws.between(1.0, STRETCH);
        let stretch = if draws.coin() { stretch } else { 1.0 / stretch };
        let (wide, tall) = (1.0 / (radius * stretch), stretch / radius);
        Self {
            class,
            colour,
            texture: Texture::new(draws),
            centre,
            // The shape lies within the unit circle, but for the corners of the widest ones.
            reach: radius * STRETCH * 1.2,
            rows: [(cos * wide, sin * wide), (-sin * tall, cos * tall)],
        }
    }

    fn covers(&self, x: f64, y: f64) -> bool {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let [u, v] = self.rows.map(|(a, b)| a * dx + b * dy);
        inside(self.class, u, v)
    }

    /// The samples that it covers, two to a pixel and axis, counted from the image's upper left corner.
    fn samples(&self, size: usize) -> Vec<(isize, isize)> {
        let side = 2.0 * size as f64;
        let span = |centre: f64| {
            ((centre - self.reach) * side).floor() as isize..((centre + self.reach) * side).ceil() as isize
        };
        let covered = |(x, y): &(isize, isize)| self.covers((*x as f64 + 0.5) / side, (*y as f64 + 0.5) / side);
        span(self.centre.1).flat_map(|y| span(self.centre.0).map(move |x| (x, y))).filter(covered).collect()
    }
}

/// A shape in the image.
struct Placed {
    shape: Shape,
    /// In pixels: left, top, right, bottom.
    bounds: [usize; 4],
    samples: usize,
    seen: usize,
    truncated: bool,
}

/// Everything that is in an image but the noise.
struct Scene {
    size: usize,
    ground: [Colour; 2],
    texture: Texture,
    scribbles: Vec<Stroke>,
    /// Later ones lie over earlier ones.
    placed: Vec<Placed>,
    /// Of each sample, the number of the shape that is seen there, from 1; else 0.
    owners: Vec<u8>,
}

impl Scene {
    fn new(size: usize, classes: usize, draws: &mut Draws) -> Self {
        let ground = [colour(draws), colour(draws)];
        let mean = (brightness(ground[0]) + brightness(ground[1])) / 2.0;
        let texture = Texture::new(draws);
        let count = draws.below(SCRIBBLES + 1);
        let scribbles = (0..count).map(|_| Stroke {
            from: (draws.uniform(), draws.uniform()),
            to: (draws.uniform(), draws.uniform()),
            half_width: draws.between(SCRIBBLE_WIDTH.0, SCRIBBLE_WIDTH.1) / 2.0,
            colour: colour(draws),
        });
        let scribbles = scribbles.collect();
        let mut scene = Self { size, ground, texture, scribbles, placed: Vec::new(), owners: vec![0; 4 * size * size] };
        for _ in 0..1 + draws.below(OBJECTS) {
            // A shape that finds no place is left out; the first finds one in an empty image.
            (0..TRIALS).any(|_| scene.place(Shape::draw(classes, mean, draws)));
        }
        scene
    }

    /// Whether there is room for the shape, and if so, puts it there.
    fn place(&mut self, shape: Shape) -> bool {
        let all = shape.samples(self.size);
        let side = 2 * self.size;
        let within = |&(x, y): &(isize, isize)| {
            let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
            (x < side && y < side).then_some((x, y))
        };
        let here: Vec<(usize, usize)> = all.iter().filter_map(within).collect();
        let Some(bounds) = bounds(&here) else { return false };
        let mut hidden = vec![0; self.placed.len()];
        for &(x, y) in &here {
            if let Some(owner) = self.owners[y * side + x].checked_sub(1) {
                hidden[usize::from(owner)] += 1;
            }
        }
        let is_seen = |seen: usize, samples: usize| seen as f64 >= SEEN * samples as f64;
        let fits = self.placed.iter().zip(&hidden).all(|(other, &hidden)| {
            is_seen(other.seen - hidden, other.samples) && overlap(other.bounds, bounds) <= OVERLAP
        });
        if !fits || !is_seen(here.len(), all.len()) {
            return false;
        }
        self.placed.iter_mut().zip(hidden).for_each(|(other, hidden)| other.seen -= hidden);
        let number = self.placed.len() as u8 + 1;
        here.iter().for_each(|&(x, y)| self.owners[y * side + x] = number);
        let truncated = here.len() < all.len();
        self.placed.push(Placed { shape, bounds, samples: all.len(), seen: here.len(), truncated });
        true
    }

    fn objects(&self) -> Vec<Object> {
        let object = |placed: &Placed| Object {
            class: placed.shape.class as u32,
            bounds: placed.bounds.map(|edge| (edge as f64 / self.size as f64) as f32),
            difficult: (placed.seen as f64) < EASY * placed.samples as f64,
            truncated: placed.truncated,
        };
        self.placed.iter().map(object).collect()
    }

    /// Of the sample at column `x` and row `y`.
    fn colour_at(&self, x: usize, y: usize) -> Colour {
        let owner = self.owners[y * 2 * self.size + x];
        let [x, y] = [x, y].map(|place| (place as f64 + 0.5) / (2 * self.size) as f64);
        // Waves are as long as in the embedded data set, whose images reach from -1 to 1.
        let wave = |texture: &Texture| texture.at(2.0 * x - 1.0, 2.0 * y - 1.0);
        if let Some(Placed { shape, .. }) = usize::from(owner).checked_sub(1).and_then(|at| self.placed.get(at)) {
            let wave = wave(&shape.texture);
            return shape.colour.map(|value| value + wave);
        }
        if let Some(line) = self.scribbles.iter().find(|line| line.covers(x, y)) {
            return line.colour;
        }
        let wave = wave(&self.texture);
        std::array::from_fn(|at| self.ground[0][at] * (1.0 - x) + self.ground[1][at] * x + wave)
    }

    /// Four samples a pixel.
    fn paint(&self, draws: &mut Draws) -> Vec<u8> {
        let mut image = vec![0; self.size * self.size * 3];
        for (at, pixel) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (x, y) = (2 * (at % self.size), 2 * (at / self.size));
            let mut sum = [0.0; 3];
            for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let sample = self.colour_at(x + right, y + down);
                sum = std::array::from_fn(|channel| sum[channel] + sample[channel] / 4.0);
            }
            *pixel = sum.map(|value| (value + NOISE * noise(draws) + 0.5).clamp(0.0, 255.0) as u8);
        }
        image
    }
}

/// The pixels that samples touch: left, top, right, bottom.
fn bounds(samples: &[(usize, usize)]) -> Option<[usize; 4]> {
    let columns = || samples.iter().map(|sample| sample.0 / 2);
    let rows = || samples.iter().map(|sample| sample.1 / 2);
    Some([columns().min()?, rows().min()?, columns().max()? + 1, rows().max()? + 1])
}

fn overlap(a: [usize; 4], b: [usize; 4]) -> f64 {
    let area = |[left, top, right, bottom]: [usize; 4]| right.saturating_sub(left) * bottom.saturating_sub(top);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both as f64 / (area(a) + area(b) - both) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes(count: u64) -> impl Iterator<Item = (Scene, Vec<u8>)> {
        (0..count).map(|index| {
            let mut draws = Draws::new(0, Purpose::DrawObjects, 0, index);
            let scene = Scene::new(64, 10, &mut draws);
            let image = scene.paint(&mut draws);
            (scene, image)
        })
    }

    /// Each shape alone, in one flat colour on black and without noise: its box holds all of its pixels, and none of its four
    /// edges could be moved inwards.
    #[test]
    fn boxes_are_exact() {
        let mut seen = 0;
        for (mut scene, _) in scenes(60) {
            for object in scene.objects() {
                let placed = scene.placed.remove(0);
                let covered = |x: usize, y: usize| {
                    [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
                        .iter()
                        .any(|(right, down)| placed.shape.covers((x as f64 + right) / 64.0, (y as f64 + down) / 64.0))
                };
                let [left, top, right, bottom] = object.bounds.map(|edge| (edge * 64.0) as usize);
                for (x, y) in (0..64).flat_map(|y| (0..64).map(move |x| (x, y))) {
                    let within = (left..right).contains(&x) && (top..bottom).contains(&y);
                    assert!(
                        within || !covered(x, y),
                        "({x}, {y}) of {:?} lies outside {:?}",
                        object.class,
                        object.bounds
                    );
                }
                for edge in [left, right - 1] {
                    assert!((top..bottom).any(|y| covered(edge, y)), "column {edge} of {:?}", object.bounds);
                }
                for edge in [top, bottom - 1] {
                    assert!((left..right).any(|x| covered(x, edge)), "row {edge} of {:?}", object.bounds);
                }
                seen += 1;
            }
        }
        assert!(seen > 120, "{seen}");
    }

    /// What is said of an object is what can be seen: its pixels differ from the ground's.
    #[test]
    fn objects_stand_out_from_the_ground() {
        let (mut difficult, mut truncated, mut overlapping) = (0, 0, 0);
        let mut counts = [0; 6];
        for (scene, image) in scenes(300) {
            let objects = scene.objects();
            counts[objects.len()] += 1;
            for (number, placed) in scene.placed.iter().enumerate() {
                let owned: Vec<usize> =
                    (0..scene.owners.len()).filter(|&at| usize::from(scene.owners[at]) == number + 1).collect();
                assert_eq!(owned.len(), placed.seen);
                let share = owned.len() as f64 / placed.samples as f64;
                assert!(share >= SEEN);
                assert_eq!(objects[number].difficult, share < EASY);
                let mean = owned.iter().map(|&at| {
                    let (x, y) = (at % 128 / 2, at / 128 / 2);
                    brightness(std::array::from_fn(|channel| f64::from(image[(y * 64 + x) * 3 + channel])))
                });
                let mean = mean.sum::<f64>() / owned.len() as f64;
                let ground = (brightness(scene.ground[0]) + brightness(scene.ground[1])) / 2.0;
                assert!((mean - ground).abs() > CONTRAST / 4.0, "{mean} on {ground}");
                difficult += usize::from(objects[number].difficult);
                truncated += usize::from(objects[number].truncated);
                let others = scene.placed[..number].iter();
                overlapping += others.filter(|other| overlap(other.bounds, placed.bounds) > 0.1).count();
            }
        }
        assert_eq!(counts[0], 0, "no image is empty");
        assert!(counts[1..].iter().all(|&count| count > 20), "{counts:?}");
        assert!(difficult > 20 && truncated > 60 && overlapping > 60, "{difficult} {truncated} {overlapping}");
    }
}
