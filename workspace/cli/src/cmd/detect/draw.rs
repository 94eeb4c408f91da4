//! Boxes and names on an image, to be read on dark and light and on images of every size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use font8x8::legacy::BASIC_LEGACY;
use sandglass_data::Picture;
use sandglass_detect::Detection;

type Colour = [u8; 3];

const BLACK: Colour = [0; 3];
const WHITE: Colour = [255; 3];

/// Far apart, and all bright enough to stand out against their black rims.
const COLOURS: [Colour; 10] = [
    [255, 214, 0],
    [0, 200, 255],
    [255, 105, 97],
    [119, 221, 119],
    [255, 140, 0],
    [200, 150, 255],
    [255, 130, 200],
    [160, 230, 230],
    [190, 255, 60],
    [240, 200, 160],
];

/// Pixels of a letter, unscaled.
const LETTER: usize = 8;

/// Pixels of an image's longer side for each pixel of a letter's.
const SIDE_PER_PIXEL: usize = 480;

/// And for each pixel of a rim.
const SIDE_PER_RIM: usize = 448;

/// A smaller image is drawn on as many times as large as makes its longer side reach this.
const LEAST_SIDE: usize = 720;

/// Nor may it stay so narrow that a name does not fit, nor so low that it covers all; but for the longest images.
const LEAST: [usize; 2] = [320, 120];

/// Of an image that is drawn larger, pixels of the longer side.
const MOST_SIDE: usize = 8192;

/// What tells a drawing from anybody's picture: a text of the PNG, which stands before its pixels.
const SOFTWARE: &str = "Software";
const DRAWN: &str = "sandglass detect";

/// Whether a drawing loses nobody's file there: nothing, or an earlier drawing.
pub fn may_replace(place: &Path) -> bool {
    let Ok(file) = File::open(place) else { return !place.exists() };
    let mut head = Vec::new();
    let mark = format!("{SOFTWARE}\0{DRAWN}");
    file.take(256).read_to_end(&mut head).is_ok() && head.windows(mark.len()).any(|bytes| bytes == mark.as_bytes())
}

/// A rectangle of pixels: left, top, width, height.
#[derive(Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Area {
    fn right(&self) -> usize {
        self.left + self.width
    }

    fn bottom(&self) -> usize {
        self.top + self.height
    }

    /// Pixels of both.
    fn shared(&self, other: &Self) -> usize {
        let across = self.right().min(other.right()).saturating_sub(self.left.max(other.left));
        let down = self.bottom().min(other.bottom()).saturating_sub(self.top.max(other.top));
        across * down
    }
}

/// How many times as large a small picture is drawn, so that names can be read.
pub fn times(picture: &Picture) -> usize {
    let longer = picture.width.max(picture.height).max(1);
    let [width, height] =
        [(LEAST[0], picture.width), (LEAST[1], picture.height)].map(|(least, side)| least.div_ceil(side.max(1)));
    width.max(height).min(MOST_SIDE / longer).max(LEAST_SIDE.div_ceil(longer))
}

/// The image with all `detections`, whose boxes are in its pixels, as a PNG file. The best are drawn last.
pub fn png(picture: &Picture, detections: &[Detection], name: impl Fn(usize) -> String) -> anyhow::Result<Vec<u8>> {
    let times = times(picture);
    let mut canvas = Canvas::new(picture, times);
    let boxes: Vec<(Area, Colour)> = detections.iter().rev().map(|found| canvas.area(found, times)).collect();
    boxes.iter().for_each(|(area, colour)| canvas.frame(*area, *colour));
    // The best has the first choice of a place, and lies above what finds none.
    let (mut places, mut labels) = (Vec::new(), Vec::new());
    for (found, (area, colour)) in detections.iter().zip(boxes.iter().rev()) {
        let text = format!("{} {:.0}%", name(found.class), 100.0 * found.score);
        let place = canvas.label_place(&text, *area, &places, &boxes);
        canvas.leader(place, *area, *colour);
        places.push(place);
        labels.push((text, place, *colour));
    }
    labels.iter().rev().for_each(|(text, place, colour)| canvas.label(text, *place, *colour));
    canvas.encoded()
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    /// Pixels of a box's rim.
    scale: usize,
}

impl Canvas {
    /// The picture, each pixel `times` as wide and high.
    fn new(picture: &Picture, times: usize) -> Self {
        let (width, height) = (picture.width * times, picture.height * times);
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in picture.pixels.chunks_exact(picture.width.max(1) * 3) {
            let wide: Vec<u8> = row.as_chunks::<3>().0.iter().flat_map(|pixel| pixel.repeat(times)).collect();
            (0..times).for_each(|_| pixels.extend_from_slice(&wide));
        }
        let scale = (width.max(height) / SIDE_PER_RIM).min(width.min(height) / LEAST[1]).max(1);
        Self { width, height, pixels, scale }
    }

    /// Of a line, without its rims.
    fn line(&self) -> usize {
        2 * self.scale
    }

    fn area(&self, found: &Detection, times: usize) -> (Area, Colour) {
        let [left, top, right, bottom] = found.bbox.map(|corner| (corner.max(0.0) as usize).saturating_mul(times));
        let (left, top) = (left.min(self.width.saturating_sub(1)), top.min(self.height.saturating_sub(1)));
        let width = right.min(self.width).saturating_sub(left).max(1);
        let height = bottom.min(self.height).saturating_sub(top).max(1);
        (Area { left, top, width, height }, COLOURS[found.class % COLOURS.len()])
    }

    fn fill(&mut self, area: Area, colour: Colour) {
        let right = area.left.saturating_add(area.width).min(self.width);
        let bottom = area.top.saturating_add(area.height).min(self.height);
        for row in area.top.min(bottom)..bottom {
            let line = &mut self.pixels[(row * self.width) * 3..][..self.width * 3];
            let line = &mut line[3 * area.left.min(right)..3 * right];
            line.as_chunks_mut::<3>().0.fill(colour);
        }
    }

    /// A line of the colour between black rims, inside the box.
    fn frame(&mut self, area: Area, colour: Colour) {
        let (rim, line) = (self.scale, self.line());
        self.ring(area, 0, 2 * rim + line, BLACK);
        self.ring(area, rim, line, colour);
    }

    /// `thick` pixels along the inner side of the box, from `inset` pixels inwards.
    fn ring(&mut self, area: Area, inset: usize, thick: usize, colour: Colour) {
        let Area { left, top, width, height } = area;
        let (left, top) = (left + inset, top + inset);
        let (width, height) = (width.saturating_sub(2 * inset), height.saturating_sub(2 * inset));
        let (across, down) = (thick.min(width), thick.min(height));
        for (left, top, width, height) in [
            (left, top, width, down),
            (left, top + height - down, width, down),
            (left, top, across, height),
            (left + width - across, top, across, height),
        ] {
            self.fill(Area { left, top, width, height }, colour);
        }
    }

    /// Above the box, in it, below it, or farther and farther off; always within the image. Of the places where no other label
    /// lies, the first that hides least of what was found.
    fn label_place(&self, text: &str, of: Area, taken: &[Area], boxes: &[(Area, Colour)]) -> Area {
        let letter = LETTER * self.text_scale();
        let (width, height) = (text.chars().count() * letter + letter, letter + letter / 2);
        let within = |left: usize, top: usize| Area {
            left: left.min(self.width.saturating_sub(width)),
            top: top.min(self.height.saturating_sub(height)),
            width: width.min(self.width),
            height: height.min(self.height),
        };
        let (above, flush) = (of.top.saturating_sub(height), of.right().saturating_sub(width));
        let mut places = vec![within(of.left, above), within(of.left, of.top), within(of.left, of.bottom())];
        places.extend([within(flush, above), within(flush, of.bottom())]);
        for step in 1..8 {
            for left in [of.left, flush, of.right(), of.left.saturating_sub(width)] {
                places.push(within(left, of.top.saturating_sub((step + 1) * height)));
                places.push(within(left, of.top + (step - 1) * height));
                places.push(within(left, of.bottom() + step * height));
            }
        }
        // Of each box the share that it hides; what lies farther off must be worth it.
        let cost = |(rank, place): &(usize, Area)| {
            let hidden = boxes.iter().map(|(of, _)| of.shared(place) as f64 / (of.width * of.height) as f64);
            hidden.sum::<f64>() + 0.01 * *rank as f64
        };
        let free = places.iter().filter(|place| taken.iter().all(|other| other.shared(place) == 0));
        let best = free.copied().enumerate().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        best.map_or(places[0], |(_, place)| place)
    }

    /// A line from a label to its box, where they do not touch.
    fn leader(&mut self, label: Area, of: Area, colour: Colour) {
        // The nearest ends of two spans; where they overlap, the middle of what they share.
        let ends = |(a, b): (usize, usize), (c, d): (usize, usize)| match (b < c, d < a) {
            (true, _) => (b, c),
            (_, true) => (a, d),
            _ => (usize::midpoint(a.max(c), b.min(d)), usize::midpoint(a.max(c), b.min(d))),
        };
        let (from_x, to_x) = ends((label.left, label.right()), (of.left, of.right()));
        let (from_y, to_y) = ends((label.top, label.bottom()), (of.top, of.bottom()));
        let steps = from_x.abs_diff(to_x).max(from_y.abs_diff(to_y));
        if steps == 0 {
            return;
        }
        for (thick, colour) in [(3 * self.scale, BLACK), (self.scale, colour)] {
            for step in 0..=steps {
                let at = |from: usize, to: usize| (from * (steps - step) + to * step) / steps;
                let (left, top) = (at(from_x, to_x), at(from_y, to_y));
                let (left, top) = (left.saturating_sub(thick / 2), top.saturating_sub(thick / 2));
                self.fill(Area { left, top, width: thick, height: thick }, colour);
            }
        }
    }

    fn text_scale(&self) -> usize {
        // A label takes a fourth of the shorter side at most.
        let most = self.width.min(self.height) / (6 * LETTER);
        (self.width.max(self.height) / SIDE_PER_PIXEL).min(most).max(2)
    }

    /// Black letters on the colour, within a white rim in a black one.
    fn label(&mut self, text: &str, place: Area, colour: Colour) {
        self.fill(place, colour);
        let scale = self.text_scale();
        let rim = scale / 2;
        self.ring(place, 0, rim, BLACK);
        self.ring(place, rim, rim, WHITE);
        let letter = LETTER * scale;
        let (mut left, top) = (place.left + letter / 2, place.top + letter / 4);
        for character in text.chars() {
            let glyph = BASIC_LEGACY.get(character as usize).unwrap_or(&BASIC_LEGACY['?' as usize]);
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                    let (left, top) = (left + column * scale, top + row * scale);
                    self.fill(Area { left, top, width: scale, height: scale }, BLACK);
                }
            }
            left += letter;
        }
    }

    fn encoded(self) -> anyhow::Result<Vec<u8>> {
        let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.add_text_chunk(SOFTWARE.to_owned(), DRAWN.to_owned())?;
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(bytes)
    }
}
