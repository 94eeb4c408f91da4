//! SSD's photometric distortion: brightness, contrast, saturation, hue and the order of the channels, each every other time.
//!
//! Source: the official detection code. It lets values run below 0 and above 255 on the way; here they are cut off after each
//! step, for a colour below black has no hue.

use crate::{Draws, Picture};

/// Largest change of brightness, of 255.
const BRIGHTNESS: f64 = 32.0;
/// Factors of contrast and of saturation.
const FACTOR: (f64, f64) = (0.5, 1.5);
/// Largest turn of the hue, in degrees.
const HUE: f64 = 18.0;
/// The orders of three channels.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What is done to each pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Distortion {
    pub brightness: f32,
    pub contrast: f32,
    /// Before saturation and hue, or after them.
    pub contrast_first: bool,
    pub saturation: f32,
    /// In degrees.
    pub hue: f32,
    pub channels: [usize; 3],
}

impl Distortion {
    pub const NONE: Self =
        Self { brightness: 0.0, contrast: 1.0, contrast_first: true, saturation: 1.0, hue: 0.0, channels: ORDERS[0] };

    pub fn draw(draws: &mut Draws) -> Self {
        let mut maybe = |none: f32, (low, high): (f64, f64)| {
            if draws.coin() { draws.between(low, high) as f32 } else { none }
        };
        let brightness = maybe(0.0, (-BRIGHTNESS, BRIGHTNESS));
        let contrast = maybe(1.0, FACTOR);
        let saturation = maybe(1.0, FACTOR);
        let hue = maybe(0.0, (-HUE, HUE));
        let contrast_first = draws.coin();
        let channels = if draws.coin() { ORDERS[draws.below(ORDERS.len())] } else { ORDERS[0] };
        Self { brightness, contrast, contrast_first, saturation, hue, channels }
    }

    pub fn apply(&self, picture: &mut Picture) {
        if *self == (Self { contrast_first: self.contrast_first, ..Self::NONE }) {
            return;
        }
        for pixel in picture.pixels.as_chunks_mut::<3>().0 {
            let colour = self.of(pixel.map(f32::from)).map(|value| (value + 0.5) as u8);
            *pixel = self.channels.map(|channel| colour[channel]);
        }
    }

    fn of(&self, colour: [f32; 3]) -> [f32; 3] {
        let within = |value: f32| value.clamp(0.0, 255.0);
        let mut colour = colour.map(|value| within(value + self.brightness));
        if self.contrast_first {
            colour = colour.map(|value| within(value * self.contrast));
        }
        if self.saturation != 1.0 || self.hue != 0.0 {
            let [hue, saturation, value] = to_hsv(colour);
            colour = to_rgb([hue + self.hue, saturation * self.saturation, value]).map(within);
        }
        if !self.contrast_first {
            colour = colour.map(|value| within(value * self.contrast));
        }
        colour
    }
}

/// Hue in degrees, saturation from 0 to 1, value as the colour's own.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if chroma <= 0.0 {
        return [0.0, 0.0, value];
    }
    let sixth = if value == r {
        (g - b) / chroma
    } else if value == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    [60.0 * sixth, chroma / value, value]
}

/// A saturation above 1 gives values below 0.
fn to_rgb([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sixth = (hue / 60.0).rem_euclid(6.0);
    let part = sixth - sixth.floor();
    let low = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * part);
    let rising = value * (1.0 - saturation * (1.0 - part));
    match sixth as u32 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Purpose;

    /// HSV by another road, in f64: the angle of the colour around the grey axis picks where each channel lies on one
    /// trapezoid.
    fn reference(colour: [u8; 3], distortion: &Distortion) -> [f64; 3] {
        let within = |value: f64| value.clamp(0.0, 255.0);
        let mut rgb = colour.map(|value| within(f64::from(value) + f64::from(distortion.brightness)));
        let contrast = f64::from(distortion.contrast);
        if distortion.contrast_first {
            rgb = rgb.map(|value| within(value * contrast));
        }
        let [r, g, b] = rgb;
        let max = rgb.into_iter().fold(0.0, f64::max);
        let chroma = max - rgb.into_iter().fold(255.0, f64::min);
        let turns = if chroma == 0.0 {
            0.0
        } else if max == r {
            ((g - b) / chroma).rem_euclid(6.0)
        } else if max == g {
            (b - r) / chroma + 2.0
        } else {
            (r - g) / chroma + 4.0
        };
        let saturation = if max == 0.0 { 0.0 } else { chroma / max } * f64::from(distortion.saturation);
        let turns = turns + f64::from(distortion.hue) / 60.0;
        let channel = |offset: f64| {
            let k = (offset + turns).rem_euclid(6.0);
            within(max - max * saturation * k.min(4.0 - k).clamp(0.0, 1.0))
        };
        let mut rgb = [channel(5.0), channel(3.0), channel(1.0)];
        if !distortion.contrast_first {
            rgb = rgb.map(|value| within(value * contrast));
        }
        distortion.channels.map(|at| rgb[at])
    }

    #[test]
    fn pixels_are_those_of_a_slow_reference() {
        let mut draws = Draws::new(3, Purpose::Augment, 0, 0);
        let mut changed = 0;
        for _ in 0..300 {
            let distortion = Distortion::draw(&mut draws);
            let before: Vec<u8> = (0..3 * 40).map(|_| draws.below(256) as u8).collect();
            let greys = [[0; 3], [255; 3], [77; 3], [0, 0, 255], [255, 255, 0]].concat();
            let mut picture = Picture { width: 45, height: 1, pixels: [before, greys].concat() };
            let old = picture.clone();
            distortion.apply(&mut picture);
            changed += usize::from(picture != old);
            for (new, old) in picture.pixels.as_chunks::<3>().0.iter().zip(old.pixels.as_chunks::<3>().0) {
                let wanted = reference(*old, &distortion);
                let near = (0..3).all(|at| (f64::from(new[at]) - wanted[at]).abs() < 0.502);
                assert!(near, "{distortion:?} makes {new:?} of {old:?}, not {wanted:?}");
            }
        }
        assert!(changed > 250, "{changed}");
    }

    #[test]
    fn known_colours_turn_as_they_should() {
        let of = |distortion: Distortion, colour: [f32; 3]| distortion.of(colour);
        let hue = |hue| Distortion { hue, ..Distortion::NONE };
        assert_eq!(of(hue(120.0), [255.0, 0.0, 0.0]), [0.0, 255.0, 0.0]);
        assert_eq!(of(hue(-60.0), [200.0, 0.0, 0.0]), [200.0, 0.0, 200.0]);
        assert_eq!(of(hue(18.0), [90.0; 3]), [90.0; 3]);
        let pale = Distortion { saturation: 0.5, ..Distortion::NONE };
        assert_eq!(of(pale, [200.0, 100.0, 0.0]), [200.0, 150.0, 100.0]);
        let order = Distortion { channels: [2, 0, 1], ..Distortion::NONE };
        let mut picture = Picture { width: 1, height: 1, pixels: vec![1, 2, 3] };
        order.apply(&mut picture);
        assert_eq!(picture.pixels, [3, 1, 2]);
    }

    #[test]
    fn each_step_is_drawn_every_other_time_and_within_its_range() {
        let draws = |index| Distortion::draw(&mut Draws::new(0, Purpose::Augment, 0, index));
        let all: Vec<Distortion> = (0..2000).map(draws).collect();
        let share = |has: fn(&Distortion) -> bool| all.iter().filter(|one| has(one)).count() as f64 / 2000.0;
        let halves = [
            share(|one| one.brightness != 0.0),
            share(|one| one.contrast != 1.0),
            share(|one| one.saturation != 1.0),
            share(|one| one.hue != 0.0),
            share(|one| one.contrast_first),
            // One of the six orders changes nothing.
            share(|one| one.channels != ORDERS[0]) * 6.0 / 5.0,
        ];
        assert!(halves.iter().all(|half| (half - 0.5).abs() < 0.05), "{halves:?}");
        let reach = |of: fn(&Distortion) -> f32| {
            let values = || all.iter().map(of);
            (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
        };
        for ((low, high), (least, most)) in [
            (reach(|one| one.brightness), (-32.0, 32.0)),
            (reach(|one| one.contrast), (0.5, 1.5)),
            (reach(|one| one.saturation), (0.5, 1.5)),
            (reach(|one| one.hue), (-18.0, 18.0)),
        ] {
            let slack = (most - least) * 0.02;
            assert!(least <= low && low < least + slack && most - slack < high && high <= most, "{low} {high}");
        }
    }
}
