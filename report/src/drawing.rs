//! Drawings as SVG: stacks of trapezoids, as wide as their maps have channels.

use std::fmt::Write;

use sandglass_study::{Drawing, Layer, Stack};

use crate::colours::{Colours, colour};
use crate::plot::Drawn;

/// Width of the widest map of a drawing, in SVG units.
const WIDEST: f64 = 150.0;
/// Room for labels beside a stack, and for shortcuts on its other side.
const LABELS: f64 = 150.0;
const SHORTCUTS: f64 = 34.0;
const TITLE: f64 = 34.0;

pub(crate) fn draw(drawing: &Drawing, colours: &Colours) -> Drawn {
    let layers = |stack: &Stack| stack.layers.len();
    let tallest = drawing.stacks.iter().map(layers).max().unwrap_or(0);
    // Few layers are drawn tall enough for a label each, many are not.
    let step = if tallest > 12 { 9.0 } else { 34.0 };
    let channels = drawing.stacks.iter().flat_map(|stack| &stack.layers).flat_map(|layer| [layer.from, layer.to]);
    let scale = WIDEST / channels.max().unwrap_or(1).max(1) as f64;
    let column = SHORTCUTS + WIDEST + LABELS;
    let (width, height) = (column * drawing.stacks.len() as f64, TITLE + step * tallest as f64 + 12.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">"
    );
    let places = colours.places(drawing.stacks.iter().map(|stack| stack.family.as_str()));
    for (at, (stack, place)) in drawing.stacks.iter().zip(places).enumerate() {
        let colour = colour(place);
        let colour = format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2);
        let place = Place { left: column * at as f64 + SHORTCUTS, step, scale, colour: &colour };
        // Writing to a string does not fail.
        let _ = place.stack(&mut svg, stack);
    }
    svg.push_str("</svg>");
    Drawn {
        file: format!("{}.svg", drawing.name),
        label: drawing.words.clone(),
        svg,
        points: Vec::new(),
        is_minor: false,
    }
}

struct Place<'a> {
    left: f64,
    step: f64,
    scale: f64,
    colour: &'a str,
}

impl Place<'_> {
    fn stack(&self, svg: &mut String, stack: &Stack) -> std::fmt::Result {
        let middle = self.left + WIDEST / 2.0;
        write!(
            svg,
            "<text x=\"{middle}\" y=\"18\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"15\" \
             fill=\"currentColor\">{}</text>",
            escape(&stack.title)
        )?;
        for (at, layer) in stack.layers.iter().enumerate() {
            self.layer(svg, layer, middle, TITLE + self.step * at as f64)?;
        }
        for &(from, to) in &stack.shortcuts {
            let Some(layers) = stack.layers.get(from..=to) else { continue };
            let (top, bottom) = (TITLE + self.step * from as f64, TITLE + self.step * (to as f64 + 0.8));
            let edge = |channels: usize| middle - channels as f64 * self.scale / 2.0 - 3.0;
            let (start, end) =
                (layers.first().map_or(middle, |of| edge(of.from)), layers.last().map_or(middle, |of| edge(of.to)));
            // Around the widest map that it passes.
            let widest = layers.iter().flat_map(|layer| [layer.from, layer.to]).max().unwrap_or(0);
            let out = edge(widest) - SHORTCUTS * 0.6;
            write!(
                svg,
                "<path d=\"M{start:.1} {top:.1} C{out:.1} {top:.1} {out:.1} {bottom:.1} {end:.1} {bottom:.1}\" fill=\"none\" \
                 stroke=\"currentColor\" stroke-opacity=\"0.6\"/>"
            )?;
        }
        Ok(())
    }

    /// Each channel on its own is filled; over all channels it is an outline, so that the two differ without colour.
    fn layer(&self, svg: &mut String, layer: &Layer, middle: f64, top: f64) -> std::fmt::Result {
        let half = |channels: usize| channels as f64 * self.scale / 2.0;
        let (upper, lower, bottom) = (half(layer.from), half(layer.to), top + self.step * 0.8);
        let fill = if layer.is_depthwise { "0.85" } else { "0.18" };
        write!(
            svg,
            "<path d=\"M{:.1} {top:.1} L{:.1} {top:.1} L{:.1} {bottom:.1} L{:.1} {bottom:.1} Z\" fill=\"{colour}\" \
             fill-opacity=\"{fill}\" stroke=\"{colour}\"/>",
            middle - upper,
            middle + upper,
            middle + lower,
            middle - lower,
            colour = self.colour,
        )?;
        if layer.label.is_empty() {
            return Ok(());
        }
        write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">{}</text>",
            self.left + WIDEST + 8.0,
            (top + bottom) / 2.0 + 4.0,
            escape(&layer.label)
        )
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
