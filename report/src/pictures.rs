//! Photographs with boxes on them, as SVG around the JPEG.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sandglass_study::{Photo, Pictures};

use crate::colours::{Colours, colour};
use crate::drawing::escape;
use crate::plot::Drawn;

/// Side of a photograph in SVG units, and the room above it.
const SIDE: f64 = 240.0;
const TITLE: f64 = 24.0;

/// Of the boxes of each series: the first is what is there. Told apart without colour; the report's notes name them.
const DASHES: [&str; 3] = ["", "7 4", "1.5 4"];
/// Height of a letter of a box's label.
const LETTERS: f64 = 11.0;

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
    for marked in &photo.boxes {
        let hue = match marked.series.checked_sub(1).and_then(|at| places.get(at)) {
            None => "#ffffff".to_owned(),
            Some(&place) => {
                let colour = colour(place);
                format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
            }
        };
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
        // Each series in a corner of its own, so that boxes of one place keep their labels.
        let (x, anchor) =
            if marked.series == 2 { (right.min(SIDE) - 3.0, "end") } else { (left.max(0.0) + 3.0, "start") };
        let y = if marked.series == 1 { bottom.min(SIDE) - 4.0 } else { top.max(0.0) + LETTERS + 1.0 };
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-family=\"sans-serif\" \
             font-size=\"{LETTERS}\" fill=\"{hue}\" stroke=\"#000000\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            escape(&marked.label)
        );
    }
    svg.push_str("</svg></svg>");
    svg
}
