//! The spiral behind random layers, and the positive channels of networks.

use sandglass_study::{Axis, Chart, Curves, Figure, Panel, Point, Series};

use crate::plane::{self, collapsed, layer, restored, spiral};

/// The layers that are drawn are the first of this seed, whatever they show.
const SEED: u64 = 0;
/// The spiral is drawn in so many parts, from the middle outwards.
const PARTS: usize = 3;

/// Expansions of networks of one width: for each layer the positive share, its spread over pixels and what is needed.
pub(crate) struct Shares {
    pub title: String,
    pub is_minor: bool,
    pub networks: Vec<(String, Vec<[f64; 3]>)>,
}

/// The spiral itself, then what each number of outputs leaves of it.
pub(crate) fn spirals(study: &str, dimensions: &[usize]) -> Curves {
    let points = spiral();
    let mut panels = vec![Panel {
        name: "input".to_owned(),
        title: "the spiral".to_owned(),
        words: "A spiral of two turns in the plane.".to_owned(),
        curves: in_parts(&points),
    }];
    panels.extend(dimensions.iter().filter_map(|&outputs| {
        let layer = layer(SEED, outputs, 0);
        let share = format!("{:.0} %", 100.0 * collapsed(&layer));
        Some(Panel {
            name: outputs.to_string(),
            title: format!("{outputs} outputs: {share} lost"),
            words: format!(
                "The spiral behind a random ReLU layer of {outputs} outputs and its pseudo-inverse; the layer collapses {share} \
                 of the plane."
            ),
            curves: in_parts(&restored(&layer, &points)?),
        })
    }));
    Curves {
        name: format!("{study}-spiral"),
        caption: "A spiral, sent through ReLU(T x) for a random T of so many rows, and back by T's pseudo-inverse. From the \
                  middle outwards the line gets thicker, and its colour changes twice. Each T is the first that was drawn, \
                  with the share of the plane that it collapses; each panel has a scale of its own."
            .to_owned(),
        panels,
    }
}

/// Parts that share the points where they meet.
fn in_parts(points: &[plane::Point]) -> Vec<Vec<plane::Point>> {
    let pieces = points.len().saturating_sub(1);
    (0..PARTS).map(|at| points[at * pieces / PARTS..=(at + 1) * pieces / PARTS].to_vec()).collect()
}

/// None without a network.
pub(crate) fn positive(study: &str, all: &[Shares]) -> Option<Figure> {
    let charts: Vec<Chart> = all.iter().enumerate().map(|(at, shares)| chart(at, shares)).collect();
    (!charts.is_empty()).then(|| Figure {
        name: format!("{study}-positive"),
        caption: "Channels that are positive behind each expansion, from the images to the scores, and the share that is needed \
                  to lose nothing; bars are one standard deviation over pixels, up and down."
            .to_owned(),
        charts,
    })
}

fn chart(at: usize, shares: &Shares) -> Chart {
    let axis =
        |label: &str, words: &str, unit: &str| Axis { label: label.into(), words: words.into(), unit: unit.into() };
    let series = |(name, layers): &(String, Vec<[f64; 3]>)| {
        let all = layers.len().max(2) - 1;
        let way = |at: usize| 100.0 * at as f64 / all as f64;
        let positive = layers.iter().enumerate();
        let positive = positive.map(|(at, [y, sd, _])| Point { x: way(at), y: *y, spread: Some(*sd) }).collect();
        let needed = layers.iter().enumerate();
        let needed = needed.map(|(at, [.., y])| Point { x: way(at), y: *y, spread: None }).collect();
        [Series { name: name.clone(), points: positive }, Series { name: format!("{name}, needed"), points: needed }]
    };
    Chart {
        name: at.to_string(),
        title: shares.title.clone(),
        x: axis("way through the network (%)", "way through the network", " %"),
        y: axis("positive channels (%)", "positive channels", " %"),
        series: shares.networks.iter().flat_map(series).collect(),
        is_minor: shares.is_minor,
        joined: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_meet() {
        let parts = in_parts(&spiral());
        assert_eq!(parts.len(), PARTS);
        assert!(parts.windows(2).all(|pair| pair[0].last() == pair[1].first()));
        assert_eq!(parts.iter().map(|part| part.len() - 1).sum::<usize>(), spiral().len() - 1);
    }
}
