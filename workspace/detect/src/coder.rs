//! A box as four numbers against a prior, and back.

/// In which order the four numbers stand. Both divide the centre's offset by a tenth of the prior's size and the
/// logarithm of the sizes' ratio by a fifth (the official code's variances, TensorFlow's scales of 10 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coder {
    /// x, y, width, height: the official code.
    Ssd,
    /// y, x, height, width.
    TensorFlow,
}

const CENTRE: f64 = 0.1;
const SIZE: f64 = 0.2;

impl Coder {
    /// Of a box and a prior, both as `[centre x, centre y, width, height]`.
    pub fn encode(self, of: [f32; 4], prior: [f32; 4]) -> [f32; 4] {
        let ([x, y, width, height], [px, py, p_width, p_height]) = (of.map(f64::from), prior.map(f64::from));
        let offset = |at: f64, prior: f64, size: f64| (at - prior) / size / CENTRE;
        let growth = |size: f64, prior: f64| libm::log(size / prior) / SIZE;
        let numbers =
            [offset(x, px, p_width), offset(y, py, p_height), growth(width, p_width), growth(height, p_height)];
        self.reordered(numbers.map(|number| number as f32))
    }

    /// The box of four numbers, as `[centre x, centre y, width, height]`.
    pub fn decode(self, numbers: [f32; 4], prior: [f32; 4]) -> [f32; 4] {
        let [x, y, width, height] = self.reordered(numbers).map(f64::from);
        let [px, py, p_width, p_height] = prior.map(f64::from);
        let size = |growth: f64, prior: f64| libm::exp(growth * SIZE) * prior;
        let decoded =
            [x * CENTRE * p_width + px, y * CENTRE * p_height + py, size(width, p_width), size(height, p_height)];
        decoded.map(|number| number as f32)
    }

    /// From x first to its own order and back: the same swap.
    fn reordered(self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        match self {
            Self::Ssd => [a, b, c, d],
            Self::TensorFlow => [b, a, d, c],
        }
    }
}
