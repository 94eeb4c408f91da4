//! Photographs with boxes on them, as SVG around the JPEG.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sandglass_study::{MarkedBox, Photo, Pictures};

use crate::colours::{Colours, colour};
use crate::drawing::escape;
use crate::plot::Drawn;

/// Side of a photograph in SVG units, and the room above it.
const SIDE: f64 = 240.0;
const TITLE: f64 = 24.0;

/// Of the boxes of each series: the first is what is there. Told apart without colour; the report's notes name them.
const DASHES: [&str; 3] = ["", "7 4", "1.5 4"];
/// Height of a letter of a box's label, and its width, which no font without serifs is wider than on average.
const LETTERS: f64 = 11.0;
const LETTER: f64 = 7.0;
/// Height of a label, with the room for what hangs below the line.
const LINE: f64 = LETTERS + 3.0;
/// From a box's line to its label.
const GAP: f64 = 3.0;

pub(crate) fn draw_all(pictures: &Pictures, colours: &Colours) -> Vec<Drawn> {
    let places = colours.places(pictures.series.iter().skip(1).map(String::as_str));
    let drawn = |photo: &Photo| Drawn {
        file: format!("{}-{}.svg", pictures.name, photo.name),
        label: photo.words.clone(),
        svg: draw(photo, &places),
        points: Vec::new(),
        is_minor: false,
    };
    pictures.photos.iter().map(drawn).collect()
}

fn draw(photo: &Photo, places: &[usize]) -> String {
    let (height, middle) = (SIDE + TITLE, SIDE / 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SIDE} {height}\" width=\"{SIDE}\" height=\"{height}\">\
         <text x=\"{middle}\" y=\"16\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"13\" \
         fill=\"currentColor\">{}</text>\
         <svg x=\"0\" y=\"{TITLE}\" width=\"{SIDE}\" height=\"{SIDE}\" viewBox=\"0 0 {SIDE} {SIDE}\">\
         <image width=\"{SIDE}\" height=\"{SIDE}\" href=\"data:image/jpeg;base64,{}\"/>",
        escape(&photo.title),
        BASE64_STANDARD.encode(&photo.jpeg)
    );
    let scale = SIDE / photo.side;
    let hue = |series: usize| match series.checked_sub(1).and_then(|at| places.get(at)) {
        None => "#ffffff".to_owned(),
        Some(&place) => {
            let colour = colour(place);
            format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
        }
    };
    for marked in &photo.boxes {
        let hue = hue(marked.series);
        let [left, top, right, bottom] = marked.bounds.map(|edge| edge * scale);
        let (across, down) = ((right - left).max(0.0), (bottom - top).max(0.0));
        let dashes = DASHES.get(marked.series).copied().unwrap_or_default();
        // A black line below a thinner one of the colour is seen on dark and on light.
        for (stroke, width, dashes) in [("#000000", 4.0, ""), (hue.as_str(), 2.0, dashes)] {
            // Writing to a string does not fail.
            let _ = write!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{across:.1}\" height=\"{down:.1}\" fill=\"none\" \
                 stroke=\"{stroke}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" stroke-linecap=\"round\"/>"
            );
        }
    }
    // Over all boxes, so that no line crosses a name.
    for (marked, [left, top, ..]) in photo.boxes.iter().zip(labels(&photo.boxes, scale)) {
        let (hue, bottom) = (hue(marked.series), top + LETTERS);
        let _ = write!(
            svg,
            "<text x=\"{left:.1}\" y=\"{bottom:.1}\" font-family=\"sans-serif\" font-size=\"{LETTERS}\" fill=\"{hue}\" \
             stroke=\"#000000\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            escape(&marked.label)
        );
    }
    svg.push_str("</svg></svg>");
    svg
}

/// Left, top, right and bottom of each box's label, in SVG units: within the picture, over no other while there is room, and as
/// near as can be to a corner of its box, another one for each series.
fn labels(boxes: &[MarkedBox], scale: f64) -> Vec<[f64; 4]> {
    let mut taken: Vec<[f64; 4]> = Vec::with_capacity(boxes.len());
    for marked in boxes {
        let [left, top, right, bottom] = marked.bounds.map(|edge| edge * scale);
        let width = (LETTER * marked.label.chars().count() as f64).min(SIDE);
        let x = if marked.series == 2 { right - GAP - width } else { left + GAP };
        let y = if marked.series == 1 { bottom - GAP - LINE } else { top };
        let (x, y) = (x.clamp(0.0, SIDE - width), y.clamp(0.0, SIDE - LINE));
        let at = |x: f64, y: f64| [x, y, x + width, y + LINE];
        let far = |&[left, top, ..]: &[f64; 4]| (left - x).abs() + (top - y).abs();
        let is_free = |of: &[f64; 4]| taken.iter().all(|other| !overlap(of, other));
        let rows = (0..=(SIDE - LINE) as usize).step_by(2);
        let columns = || (0..=(SIDE - width) as usize).step_by(4);
        let others = rows.flat_map(|y| columns().map(move |x| at(x as f64, y as f64)));
        let nearest = std::iter::once(at(x, y)).chain(others).filter(is_free).min_by(|a, b| far(a).total_cmp(&far(b)));
        taken.push(nearest.unwrap_or_else(|| at(x, y)));
    }
    taken
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five objects at one place, each found twice, and boxes at and beyond the picture's edges.
    #[test]
    fn labels_lie_in_the_picture_and_over_no_other() {
        let marked = |series, bounds| MarkedBox { series, label: "triangle 34 %".into(), bounds };
        let edges = [[40.0, 40.0, 60.0, 60.0], [-20.0, -9.0, 5.0, 7.0], [95.0, 90.0, 130.0, 120.0]];
        let boxes: Vec<MarkedBox> =
            edges.iter().flat_map(|&bounds| (0..15).map(move |at| marked(at % 3, bounds))).take(30).collect();
        let labels = labels(&boxes, SIDE / 100.0);
        assert_eq!(labels.len(), boxes.len());
        for (at, label) in labels.iter().enumerate() {
            assert!(label[0] >= 0.0 && label[1] >= 0.0 && label[2] <= SIDE && label[3] <= SIDE, "{label:?}");
            assert!(labels[..at].iter().all(|other| !overlap(label, other)), "{at}: {label:?}");
        }
    }

    #[test]
    fn a_label_that_is_alone_stands_in_its_series_corner() {
        let label = |series| {
            let marked = MarkedBox { series, label: "dog".into(), bounds: [20.0, 20.0, 80.0, 80.0] };
            labels(&[marked], SIDE / 100.0)[0]
        };
        let (near, far) = (0.2 * SIDE, 0.8 * SIDE);
        assert_eq!(label(0)[..2], [near + GAP, near]);
        assert_eq!((label(1)[0], label(1)[3]), (near + GAP, far - GAP));
        assert_eq!((label(2)[1], label(2)[2]), (near, far - GAP));
    }
}
