//! Priors of the official detection code (`prior_box.py`): the boxes that a network's numbers are read against.

/// What one level's priors are made of. Lengths are shares of the image's sides.
#[derive(Clone, Debug, PartialEq)]
pub struct PriorLevel {
    /// Rows and columns of the map.
    pub grid: (usize, usize),
    /// From one centre to the next, down and across: 1 over the rows and columns, but for official strides that are not.
    pub steps: (f64, f64),
    /// Side of the small square.
    pub smallest: f64,
    /// With `smallest`, sides of a larger square: the square root of the product.
    pub largest: f64,
    /// Each gives a box of the small square's area that is so many times as wide as high, and one on end.
    pub ratios: Vec<f64>,
}

impl PriorLevel {
    fn shapes(&self) -> Vec<[f64; 2]> {
        let (small, large) = (self.smallest, (self.smallest * self.largest).sqrt());
        let oblong = self.ratios.iter().flat_map(|ratio| {
            let root = ratio.sqrt();
            [[small * root, small / root], [small / root, small * root]]
        });
        [[small; 2], [large; 2]].into_iter().chain(oblong).collect()
    }
}

/// Level by level, row by row, place by place: the small square, the large one, then each ratio and its transpose. With
/// `clip` all four numbers are brought into 0..1, the centre's and the size's, as the official code does.
pub fn priors(levels: &[PriorLevel], clip: bool) -> Vec<[f32; 4]> {
    let mut priors = Vec::new();
    for level in levels {
        let (rows, columns) = level.grid;
        let shapes = level.shapes();
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let (down, across) = level.steps;
            let centre = [(column as f64 + 0.5) * across, (row as f64 + 0.5) * down];
            priors.extend(shapes.iter().map(|&[width, height]| {
                let prior = [centre[0], centre[1], width, height];
                prior.map(|value| if clip { value.clamp(0.0, 1.0) } else { value } as f32)
            }));
        }
    }
    priors
}
