//! Curves in the plane as SVG, a small panel each.

use std::fmt::Write;

use sandglass_study::{Curves, Panel};

use crate::colours::colour;
use crate::drawing::escape;
use crate::plot::Drawn;

/// Side of a panel's square, in SVG units, and the room above it and around it.
const SIDE: f64 = 180.0;
const TITLE: f64 = 24.0;
const MARGIN: f64 = 8.0;

pub(crate) fn draw_all(curves: &Curves) -> Vec<Drawn> {
    let drawn = |panel: &Panel| Drawn {
        file: format!("{}-{}.svg", curves.name, panel.name),
        label: panel.words.clone(),
        svg: draw(panel),
        points: Vec::new(),
        is_minor: false,
    };
    curves.panels.iter().map(drawn).collect()
}

fn draw(panel: &Panel) -> String {
    let (width, height) = (SIDE + 2.0 * MARGIN, TITLE + SIDE + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <text x=\"{:.1}\" y=\"17\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"14\" \
         fill=\"currentColor\">{}</text>",
        width / 2.0,
        escape(&panel.title)
    );
    let place = Place::around(panel);
    for (at, curve) in panel.curves.iter().enumerate() {
        let colour = colour(at);
        let points: Vec<String> = curve.iter().map(|&point| place.of(point)).collect();
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#{:02x}{:02x}{:02x}\" stroke-width=\"{:.1}\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
            points.join(" "),
            colour.0,
            colour.1,
            colour.2,
            1.2 + at as f64
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Where the panel's points lie in its square.
struct Place {
    middle: [f64; 2],
    scale: f64,
}

impl Place {
    fn around(panel: &Panel) -> Self {
        let ends = [0, 1].map(|axis| {
            let values = panel.curves.iter().flatten().map(|point| point[axis]);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
        });
        let longest = ends.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
        let scale = if longest > 0.0 { SIDE / longest } else { 1.0 };
        Self { middle: ends.map(|(low, high)| (low + high) / 2.0), scale }
    }

    /// As SVG counts, downwards.
    fn of(&self, [x, y]: [f64; 2]) -> String {
        let centre = MARGIN + SIDE / 2.0;
        let (right, up) = ((x - self.middle[0]) * self.scale, (y - self.middle[1]) * self.scale);
        format!("{:.1},{:.1}", centre + right, TITLE + centre - up)
    }
}
