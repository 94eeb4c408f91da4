//! SSD's augmentation of place and size (Liu et al. 2016, as the official detection code has it): the image in a larger frame,
//! a crop that holds enough of an object, a mirror. The draws are our own.

use serde::{Deserialize, Serialize};

use super::Object;
use super::photometric::Distortion;
use crate::{DataError, Draws, Picture};

/// What a detector's recipe may ask for; all off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionAugment {
    /// Brightness, contrast, saturation, hue and the order of the channels change, each every other time.
    pub photometric: bool,
    /// Every other time the image lies somewhere in a frame of the mean, whose sides are up to so many times the image's;
    /// 0: never.
    pub expand: f64,
    /// Smallest share of each side that a random crop keeps; 0: no crop. One in six keeps all; the others hold at least
    /// .1, .3, .7 or .9 of an object by IoU, or any part of the image.
    pub smallest_side: f64,
    /// Mirror left and right every other time.
    pub flip: bool,
}

/// Overlaps that a crop may ask for; none: the whole.
const OVERLAPS: [Option<f64>; 6] = [None, Some(0.1), Some(0.3), Some(0.7), Some(0.9), Some(f64::NEG_INFINITY)];

/// Crops that are tried for an overlap before another is drawn.
const TRIALS: usize = 50;

/// Smallest and largest height of a crop, as shares of its width.
const ASPECT: (f64, f64) = (0.5, 2.0);

/// Pixels of the largest frame; a larger image gets a smaller one.
const LARGEST_FRAME: f64 = 64e6;

/// Edges in pixels of the image, left, top, right, bottom.
type Edges = [f64; 4];

/// The part of the plane that is seen, in pixels of the image; it may reach beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub left: isize,
    pub top: isize,
    pub width: usize,
    pub height: usize,
}

impl DetectionAugment {
    /// The official code's, for every detector in the paper.
    pub fn official() -> Self {
        Self { photometric: true, expand: 4.0, smallest_side: 0.3, flip: true }
    }

    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    ///
    /// [`DataError::Augment`] where `expand` is neither 0 nor from 1 to 16, or `smallest_side` is not within 0..=1.
    pub fn check(&self) -> Result<(), DataError> {
        if self.expand != 0.0 && !(1.0..=16.0).contains(&self.expand) {
            return Err(DataError::Augment(format!("expand {}: use 0, or from 1 to 16", self.expand)));
        }
        if !(0.0..=1.0).contains(&self.smallest_side) {
            return Err(DataError::Augment(format!("smallest_side {}: use 0 to 1", self.smallest_side)));
        }
        Ok(())
    }

    /// The image as it is seen, and the objects in it. `fill`: what lies around the image.
    pub(super) fn apply(
        &self,
        picture: &Picture,
        objects: &[Object],
        fill: [u8; 3],
        draws: &mut Draws,
    ) -> (Picture, Vec<Object>) {
        let distortion = if self.photometric { Distortion::draw(draws) } else { Distortion::NONE };
        let whole = Window { left: 0, top: 0, width: picture.width, height: picture.height };
        let edges: Vec<Edges> = objects.iter().map(|object| edges(object, picture)).collect();
        let frame = if self.expand > 0.0 && draws.coin() { self.frame(whole, draws) } else { whole };
        let window = if self.smallest_side > 0.0 { self.crop(frame, &edges, draws) } else { frame };
        let mirrored = self.flip && draws.coin();

        // Distorted before it is framed: the frame has the mean's own colour.
        let mut distorted = picture.clone();
        distortion.apply(&mut distorted);
        let mut seen = distorted.window(window.left, window.top, window.width, window.height, fill);
        let mut objects = objects_in(window, objects, &edges);
        if mirrored {
            seen.flip();
            objects.iter_mut().for_each(|object| object.bounds = mirror(object.bounds));
        }
        (seen, objects)
    }

    fn frame(&self, image: Window, draws: &mut Draws) -> Window {
        let (width, height) = (image.width as f64, image.height as f64);
        let largest = self.expand.min((LARGEST_FRAME / (width * height).max(1.0)).sqrt()).max(1.0);
        let ratio = draws.between(1.0, largest);
        let left = draws.between(0.0, width * ratio - width);
        let top = draws.between(0.0, height * ratio - height);
        Window {
            left: -(left as isize),
            top: -(top as isize),
            width: (width * ratio) as usize,
            height: (height * ratio) as usize,
        }
    }

    /// A part of `frame` that holds the centre of an object at least; all of it where there are no objects.
    fn crop(&self, frame: Window, edges: &[Edges], draws: &mut Draws) -> Window {
        if edges.is_empty() {
            return frame;
        }
        let (wide, tall) = (frame.width as f64, frame.height as f64);
        // Ends, for one draw in six keeps all.
        loop {
            let Some(overlap) = OVERLAPS[draws.below(OVERLAPS.len())] else { return frame };
            for _ in 0..TRIALS {
                let width = draws.between(self.smallest_side * wide, wide);
                let height = draws.between(self.smallest_side * tall, tall);
                if !(ASPECT.0..=ASPECT.1).contains(&(height / width)) {
                    continue;
                }
                let (left, top) = (draws.between(0.0, wide - width), draws.between(0.0, tall - height));
                let window = Window {
                    left: frame.left + left as isize,
                    top: frame.top + top as isize,
                    width: (left + width) as usize - left as usize,
                    height: (top + height) as usize - top as usize,
                };
                let most = edges.iter().map(|edges| iou(*edges, window.edges())).fold(f64::NEG_INFINITY, f64::max);
                if most >= overlap && edges.iter().any(|edges| window.holds_centre(edges)) {
                    return window;
                }
            }
        }
    }
}

impl Window {
    fn edges(&self) -> Edges {
        let (left, top) = (self.left as f64, self.top as f64);
        [left, top, left + self.width as f64, top + self.height as f64]
    }

    fn holds_centre(&self, [left, top, right, bottom]: &Edges) -> bool {
        let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let window = self.edges();
        window[0] < x && x < window[2] && window[1] < y && y < window[3]
    }
}

fn edges(object: &Object, picture: &Picture) -> Edges {
    let sides = [picture.width, picture.height, picture.width, picture.height];
    std::array::from_fn(|at| f64::from(object.bounds[at]) * sides[at] as f64)
}

/// The objects whose centre `window` holds, cut off at its border.
fn objects_in(window: Window, objects: &[Object], edges: &[Edges]) -> Vec<Object> {
    let [left, top, right, bottom] = window.edges();
    let cut = |edges: &Edges| {
        let along = |place: f64, from: f64, to: f64| ((place.clamp(from, to) - from) / (to - from)) as f32;
        [
            along(edges[0], left, right),
            along(edges[1], top, bottom),
            along(edges[2], left, right),
            along(edges[3], top, bottom),
        ]
    };
    let kept = objects.iter().zip(edges).filter(|(_, edges)| window.holds_centre(edges));
    kept.map(|(object, edges)| Object { bounds: cut(edges), ..*object }).collect()
}

fn mirror([left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
    [1.0 - right, top, 1.0 - left, bottom]
}

/// Intersection over union; 0 of boxes without an area.
fn iou(a: Edges, b: Edges) -> f64 {
    let area = |[left, top, right, bottom]: Edges| (right - left).max(0.0) * (bottom - top).max(0.0);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Purpose;

    const FILL: [u8; 3] = [9, 8, 7];

    fn noise(width: usize, height: usize, draws: &mut Draws) -> Picture {
        Picture { width, height, pixels: (0..width * height * 3).map(|_| draws.below(256) as u8).collect() }
    }

    /// Boxes on whole pixels, all within the image.
    fn boxes(count: usize, picture: &Picture, draws: &mut Draws) -> Vec<Object> {
        let mut span = |pixels: usize| {
            let from = draws.below(pixels);
            (from, from + 1 + draws.below(pixels - from))
        };
        let mut object = |class| {
            let ((left, right), (top, bottom)) = (span(picture.width), span(picture.height));
            let (width, height) = (picture.width as f64, picture.height as f64);
            let bounds = [left as f64 / width, top as f64 / height, right as f64 / width, bottom as f64 / height];
            Object { class, bounds: bounds.map(|edge| edge as f32), difficult: class == 1, truncated: class == 2 }
        };
        (0..count as u32).map(&mut object).collect()
    }

    fn draws(index: u64) -> Draws {
        Draws::new(5, Purpose::Augment, 0, index)
    }

    /// The frame is filled pixel by pixel, the crop is taken pixel by pixel, and boxes are moved in whole pixels.
    #[test]
    fn pixels_and_boxes_are_those_of_a_slow_reference() {
        let augment = DetectionAugment { photometric: false, ..DetectionAugment::official() };
        let (mut moved, mut dropped, mut cut) = (0, 0, 0);
        for index in 0..400 {
            let mut own = Draws::new(6, Purpose::Augment, 0, index);
            // Powers of two, so that fractions are exact.
            let picture = noise(16 << own.below(3), 16 << own.below(3), &mut own);
            let objects = boxes(own.below(5), &picture, &mut own);
            let (seen, found) = augment.apply(&picture, &objects, FILL, &mut draws(index));

            // The same draws in the same order.
            let mut again = draws(index);
            let whole = Window { left: 0, top: 0, width: picture.width, height: picture.height };
            let frame = if again.coin() { augment.frame(whole, &mut again) } else { whole };
            let edges: Vec<Edges> = objects.iter().map(|object| edges(object, &picture)).collect();
            let window = augment.crop(frame, &edges, &mut again);
            let mirrored = again.coin();

            assert!(frame.left <= 0 && frame.top <= 0);
            assert!(frame.left + frame.width as isize >= picture.width as isize);
            assert!(frame.width <= 4 * picture.width && frame.height <= 4 * picture.height);
            let mut canvas = vec![vec![FILL; frame.width]; frame.height];
            for y in 0..picture.height {
                for x in 0..picture.width {
                    let pixel: [u8; 3] = picture.pixels[(y * picture.width + x) * 3..][..3].try_into().unwrap();
                    canvas[(y as isize - frame.top) as usize][(x as isize - frame.left) as usize] = pixel;
                }
            }
            let (right, down) = ((window.left - frame.left) as usize, (window.top - frame.top) as usize);
            assert!(right + window.width <= frame.width && down + window.height <= frame.height);
            let rows = canvas[down..down + window.height].iter().flat_map(|row| {
                let mut row = row[right..right + window.width].to_vec();
                if mirrored {
                    row.reverse();
                }
                row.concat()
            });
            assert_eq!(seen.pixels, rows.collect::<Vec<u8>>());
            assert_eq!((seen.width, seen.height), (window.width, window.height));

            let mut wanted = Vec::new();
            for object in &objects {
                let pixel = |fraction: f32, of: usize| (f64::from(fraction) * of as f64).round() as isize;
                let [left, top, right, bottom] = object.bounds;
                let mut xs = [pixel(left, picture.width) - window.left, pixel(right, picture.width) - window.left];
                let mut ys = [pixel(top, picture.height) - window.top, pixel(bottom, picture.height) - window.top];
                let (width, height) = (window.width as isize, window.height as isize);
                let holds = |[from, to]: [isize; 2], end: isize| from + to > 0 && from + to < 2 * end;
                if !holds(xs, width) || !holds(ys, height) {
                    dropped += 1;
                    continue;
                }
                let old = (xs, ys);
                xs = xs.map(|x| x.clamp(0, width));
                ys = ys.map(|y| y.clamp(0, height));
                cut += usize::from((xs, ys) != old);
                if mirrored {
                    xs = [width - xs[1], width - xs[0]];
                }
                wanted.push((object, [(xs[0], width), (ys[0], height), (xs[1], width), (ys[1], height)]));
            }
            assert_eq!(found.len(), wanted.len());
            for (found, (object, bounds)) in found.iter().zip(wanted) {
                assert_eq!(Object { bounds: object.bounds, ..*found }, *object);
                for (edge, (pixel, of)) in found.bounds.iter().zip(bounds) {
                    assert!((f64::from(*edge) - pixel as f64 / of as f64).abs() < 1e-6);
                }
            }
            moved += usize::from(window != whole);
        }
        assert!(moved > 250 && dropped > 100 && cut > 100, "{moved} {dropped} {cut}");
    }

    /// Overlap by counting pixels.
    #[test]
    fn overlaps_are_those_of_counted_pixels() {
        let mut draws = draws(0);
        for _ in 0..500 {
            let mut span = || {
                let from = draws.below(12);
                (from, from + draws.below(8))
            };
            let boxes = [(); 2].map(|()| (span(), span()));
            let holds = |((left, right), (top, bottom)): ((usize, usize), (usize, usize)), x: usize, y: usize| {
                (left..right).contains(&x) && (top..bottom).contains(&y)
            };
            let pixels = || (0..400).map(|at| (at % 20, at / 20));
            let both = pixels().filter(|&(x, y)| boxes.iter().all(|one| holds(*one, x, y))).count();
            let either = pixels().filter(|&(x, y)| boxes.iter().any(|one| holds(*one, x, y))).count();
            let [a, b] = boxes.map(|((left, right), (top, bottom))| [left, top, right, bottom].map(|edge| edge as f64));
            let wanted = if either == 0 { 0.0 } else { both as f64 / either as f64 };
            assert!((iou(a, b) - wanted).abs() < 1e-12);
        }
    }

    /// One object fills the image, so that a crop's overlap is its share of the area.
    #[test]
    fn crops_hold_what_they_ask_for() {
        let augment = DetectionAugment { smallest_side: 0.3, ..DetectionAugment::default() };
        let frame = Window { left: -7, top: 3, width: 400, height: 300 };
        let object = [-7.0, 3.0, 393.0, 303.0];
        let crops: Vec<Window> = (0..3000).map(|index| augment.crop(frame, &[object], &mut draws(index))).collect();
        let area = |window: &Window| (window.width * window.height) as f64 / 120_000.0;
        let whole = crops.iter().filter(|window| **window == frame).count() as f64 / 3000.0;
        // One in six, and what comes instead of overlaps that were not found.
        assert!((0.15..0.25).contains(&whole), "{whole}");
        let share = |least: f64| crops.iter().filter(|window| area(window) >= least).count() as f64 / 3000.0;
        // Without overlaps that are asked for, 1 in 3 of the crops would keep more than .45 of the area, and 1 in 100 .9.
        assert!(share(0.9) > whole + 0.04 && share(0.7) > share(0.9) + 0.14, "{} {}", share(0.9), share(0.7));
        for window in crops.iter().filter(|window| **window != frame) {
            let ratio = window.height as f64 / window.width as f64;
            assert!((0.49..2.03).contains(&ratio), "{window:?}");
            assert!(window.width >= 119 && window.height >= 89 && window.holds_centre(&object), "{window:?}");
        }
        // The overlap is that of the best object.
        let small = [0.0, 10.0, 8.0, 18.0];
        let with_small: Vec<Window> =
            (0..300).map(|index| augment.crop(frame, &[small, object], &mut draws(index))).collect();
        assert_eq!(with_small, crops[..300]);
        assert_eq!(augment.crop(frame, &[], &mut draws(0)), frame, "nothing to hold, nothing to crop");
    }

    #[test]
    fn a_mirrored_box_mirrored_again_is_itself() {
        let mut draws = draws(1);
        let picture = noise(31, 17, &mut draws);
        for object in boxes(200, &picture, &mut draws) {
            let twice = mirror(mirror(object.bounds));
            assert!(twice.iter().zip(object.bounds).all(|(a, b)| (a - b).abs() <= f32::EPSILON / 2.0));
            assert!((mirror(object.bounds)[2] - (1.0 - object.bounds[0])).abs() < 1e-7);
        }
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let mut own = draws(2);
        let picture = noise(20, 30, &mut own);
        let objects = boxes(4, &picture, &mut own);
        for index in 0..20 {
            assert_eq!(
                DetectionAugment::default().apply(&picture, &objects, FILL, &mut draws(index)),
                (picture.clone(), objects.clone())
            );
        }
    }

    #[test]
    fn a_pixel_is_augmented_too_and_a_huge_image_gets_no_huge_frame() {
        let picture = Picture { width: 1, height: 1, pixels: vec![1, 2, 3] };
        let object = Object { class: 0, bounds: [0.0, 0.0, 1.0, 1.0], difficult: false, truncated: false };
        for index in 0..200 {
            let (seen, objects) = DetectionAugment::official().apply(&picture, &[object], FILL, &mut draws(index));
            assert!(seen.width >= 1 && seen.height >= 1 && objects.len() == 1);
        }
        let augment = DetectionAugment { expand: 16.0, ..DetectionAugment::default() };
        for index in 0..200 {
            let image = Window { left: 0, top: 0, width: 10_000, height: 3_000 };
            let frame = augment.frame(image, &mut draws(index));
            assert!(frame.width * frame.height <= LARGEST_FRAME as usize);
            let large = Window { width: 10_000, height: 10_000, ..image };
            assert_eq!(augment.frame(large, &mut draws(index)), large);
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let check = |expand, smallest_side| DetectionAugment { expand, smallest_side, ..Default::default() }.check();
        assert!(check(0.0, 0.0).is_ok() && check(4.0, 0.3).is_ok() && check(1.0, 1.0).is_ok());
        for (expand, side) in
            [(0.5, 0.3), (-1.0, 0.3), (f64::NAN, 0.3), (17.0, 0.3), (4.0, -0.1), (4.0, 1.1), (4.0, f64::NAN)]
        {
            assert!(check(expand, side).unwrap_err().to_string().starts_with("augmentation: "), "{expand} {side}");
        }
    }
}
