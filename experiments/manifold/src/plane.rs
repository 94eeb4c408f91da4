//! A plane through random layers: `ReLU(T x)` for T of m rows, and back by T's pseudo-inverse (MobileNetV2, Figure 1).

use std::f64::consts::{FRAC_PI_2, TAU};
use std::path::Path;

use sandglass_data::{Draws, Purpose};
use sandglass_files::sha256;
use sandglass_study::{Artefact, CellError, Facts, Headline, Measurement, Value};

use crate::RandomLayers;

/// What computes: no kernel of ours, and no machine's own functions.
pub(crate) const ENGINE: &str = "f64";

/// How far the collapsed share is from its expectation, where it is farthest.
pub(crate) const HEADLINE: Headline =
    Headline { metric: "off", title: "farthest from exact (points)", counted: "layers" };

/// Windings of the figure's spiral, and pieces that it is drawn in.
const TURNS: f64 = 2.0;
const PIECES: usize = 240;

/// A point of the plane, or a row of T.
pub(crate) type Point = [f64; 2];
/// The rows of T.
pub(crate) type Layer = Vec<Point>;

/// The layer of this draw. Its entries are normal, so that a row is as likely as its opposite.
pub(crate) fn layer(seed: u64, outputs: usize, index: u64) -> Layer {
    let mut draws = Draws::new(seed, Purpose::RandomLayer, outputs as u64, index);
    (0..outputs).map(|_| [draws.normal(), draws.normal()]).collect()
}

fn dot(a: &Point, b: &Point) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// Whether the layer's outputs tell where they came from: two that are positive have independent rows (the paper's lemma).
fn is_kept(layer: &[Point], x: &Point) -> bool {
    let mut positive = layer.iter().filter(|row| dot(row, x) > 0.0);
    positive.next().is_some_and(|first| positive.any(|row| first[0] * row[1] != first[1] * row[0]))
}

/// The share of the plane that the layer collapses. It is exact: along a ray from the origin no sign changes, and from ray to
/// ray they change at right angles to rows alone.
pub(crate) fn collapsed(layer: &[Point]) -> f64 {
    let edges = layer.iter().flat_map(|row| {
        let along = libm::atan2(row[1], row[0]);
        [along - FRAC_PI_2, along + FRAC_PI_2]
    });
    let mut edges: Vec<f64> = edges.map(|angle| if angle < 0.0 { angle + TAU } else { angle }).collect();
    edges.sort_by(f64::total_cmp);
    let Some(first) = edges.first() else { return 1.0 };
    let ends = edges.iter().skip(1).copied().chain([first + TAU]);
    let lost = edges.iter().zip(ends).filter(|(from, to)| {
        let middle = (*from + to) / 2.0;
        !is_kept(layer, &[libm::cos(middle), libm::sin(middle)])
    });
    // Not `sum`: of nothing that is -0.
    lost.fold(0.0, |sum, (from, to)| sum + (to - from)) / TAU
}

/// What layers of so many outputs collapse on average: each output is positive every other time, and the plane is lost where
/// fewer than two are. The sum over k < n of C(m, k) / 2^m, for n = 2.
pub(crate) fn expected(outputs: usize) -> f64 {
    (1 + outputs) as f64 * libm::exp2(-(outputs as f64))
}

/// From the middle outwards.
pub(crate) fn spiral() -> Vec<Point> {
    let point = |at: usize| {
        let way = at as f64 / PIECES as f64;
        [way * libm::cos(TAU * TURNS * way), way * libm::sin(TAU * TURNS * way)]
    };
    (0..=PIECES).map(point).collect()
}

/// The points as they come back: (T' T)^-1 T' ReLU(T x). None where all rows lie on one line.
pub(crate) fn restored(layer: &[Point], points: &[Point]) -> Option<Vec<Point>> {
    let sum = |of: fn(&Point) -> f64| layer.iter().map(of).fold(0.0, |sum, x| sum + x);
    let [xx, xy, yy] = [sum(|row| row[0] * row[0]), sum(|row| row[0] * row[1]), sum(|row| row[1] * row[1])];
    let determinant = xx * yy - xy * xy;
    let back = |point: &Point| {
        let outputs = layer.iter().map(|row| (row, dot(row, point).max(0.0)));
        let [x, y] = outputs.fold([0.0, 0.0], |[x, y], (row, output)| [x + row[0] * output, y + row[1] * output]);
        [(yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant]
    };
    (determinant > 0.0).then(|| points.iter().map(back).collect())
}

impl RandomLayers {
    /// All layers, a file of little-endian f64: row after row, layer after layer, dimension after dimension.
    pub(crate) fn prepare(&self, folder: &Path) -> Result<Artefact, CellError> {
        let mut bytes = Vec::new();
        for &outputs in &self.dimensions {
            let layers = (0..self.layers as u64).flat_map(|index| layer(self.seed, outputs, index));
            bytes.extend(layers.flatten().flat_map(f64::to_le_bytes));
        }
        let path = folder.join("layers.f64");
        sandglass_files::write(&path, &bytes)
            .map_err(|error| CellError::Failed(format!("{}: {error}", path.display())))?;
        Ok(Artefact::found(path))
    }

    /// Of each number of outputs the mean share that is collapsed, in percent, and how many layers collapse anything.
    pub(crate) fn measure(&self, file: &Artefact) -> Result<Measurement, CellError> {
        let failed = |reason: &dyn std::fmt::Display| CellError::Failed(format!("{}: {reason}", file.path.display()));
        let bytes = std::fs::read(&file.path).map_err(|error| failed(&error))?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let (rows, _) = numbers.as_chunks::<2>();
        let mut rows = rows.iter().map(|row| row.map(f64::from_le_bytes));
        let (n, mut values, mut off) = (self.layers as u64, Vec::new(), 0.0f64);
        for &outputs in &self.dimensions {
            let (mut sum, mut collapsing) = (0.0, 0u64);
            for _ in 0..self.layers {
                let layer: Layer = rows.by_ref().take(outputs).collect();
                if layer.len() < outputs {
                    return Err(failed(&"is cut"));
                }
                let share = collapsed(&layer);
                sum += share;
                collapsing += u64::from(share > 0.0);
            }
            let percent = 100.0 * sum / self.layers as f64;
            off = off.max((percent - 100.0 * expected(outputs)).abs());
            let part = Some(outputs.to_string());
            values.push(Value { part: part.clone(), ..Value::exact("collapsed", "%", percent, n) });
            values.push(Value { part, ..Value::exact("collapsing", "layers", collapsing as f64, n) });
        }
        values.insert(0, Value::exact(HEADLINE.metric, "points", off, n));
        Ok(Measurement {
            data: Facts { hash: sha256(&bytes), synthetic: false },
            engine: Some(ENGINE.to_owned()),
            values,
            predictions: Vec::new(),
            boxes: None,
            summary: format!("{} layers of each dimension, at most {off:.3} points from exact", self.layers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Point = [1.0, 0.0];
    const UP: Point = [0.0, 1.0];
    const LEFT: Point = [-1.0, 0.0];
    const DOWN: Point = [0.0, -1.0];

    /// By hand: which quarters of the plane have two positive outputs, and that of parallel rows one is as good as two.
    #[test]
    fn shares_are_those_of_layers_that_can_be_seen_through() {
        for (layer, share) in [
            (vec![], 1.0),
            (vec![UP], 1.0),
            (vec![RIGHT, UP], 0.75),
            (vec![RIGHT, LEFT], 1.0),
            (vec![UP, [0.0, 2.0]], 1.0),
            (vec![RIGHT, UP, LEFT], 0.5),
            (vec![RIGHT, UP, LEFT, DOWN], 0.0),
        ] {
            let found = collapsed(&layer);
            assert!((found - share).abs() < 1e-12, "{layer:?}: {found}");
        }
        assert_eq!(collapsed(&[RIGHT, UP, LEFT, DOWN]).to_bits(), 0, "nothing is not -0");
    }

    /// Slowly: a direction is lost where a step along some other direction leaves all outputs as they are.
    #[test]
    fn shares_are_those_of_outputs_that_repeat() {
        let direction = |at: usize, of: usize| {
            let angle = TAU * (at as f64 + 0.5) / of as f64;
            [libm::cos(angle), libm::sin(angle)]
        };
        for (outputs, index) in [(2, 0), (3, 1), (3, 2), (5, 3), (7, 4)] {
            let layer = layer(9, outputs, index);
            let outputs_at = |x: Point| layer.iter().map(|row| dot(row, &x).max(0.0)).collect::<Vec<_>>();
            let is_lost = |x: Point| {
                // Along a row's own edge that row's output stays, and others only where they are 0.
                let edges = layer.iter().map(|row| [-row[1], row[0]]).chain((0..8).map(|at| direction(at, 8)));
                edges.into_iter().any(|[dx, dy]| {
                    let moved = outputs_at([x[0] + 1e-4 * dx, x[1] + 1e-4 * dy]);
                    moved.iter().zip(outputs_at(x)).all(|(a, b)| (a - b).abs() < 1e-12)
                })
            };
            let lost = (0..7200).filter(|&at| is_lost(direction(at, 7200))).count() as f64 / 7200.0;
            let found = collapsed(&layer);
            assert!((found - lost).abs() < 0.004, "{outputs} outputs: {found} for {lost}");
        }
    }

    #[test]
    fn expectations_are_those_of_the_binomial_distribution() {
        let of = [2, 3, 5, 15].map(expected);
        assert_eq!(of, [0.75, 0.5, 0.1875, 16.0 / 32768.0]);
        assert_eq!(expected(30), 31.0 / f64::from(1u32 << 30));
    }

    #[test]
    fn points_come_back_where_they_are_kept() {
        let points = [[0.5, 2.0], [-1.0, 2.0], [-1.0, -1.0]];
        assert_eq!(restored(&[RIGHT, UP], &points).unwrap(), [[0.5, 2.0], [0.0, 2.0], [0.0, 0.0]]);
        // Each axis both ways: the pseudo-inverse halves what comes through one of two rows.
        let halved = restored(&[RIGHT, UP, LEFT, DOWN], &points).unwrap();
        assert_eq!(halved, [[0.25, 1.0], [-0.5, 1.0], [-0.5, -0.5]]);
        assert_eq!(restored(&[RIGHT, LEFT], &points), None);
        assert_eq!(spiral()[PIECES], [1.0, libm::sin(TAU * TURNS)]);
    }
}
