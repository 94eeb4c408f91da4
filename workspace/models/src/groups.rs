//! A convolution of groups as one over all channels, for what runs no other: weights of 0 where a group does not reach.
//!
//! It does `groups` times the work. The networks here have two groups at most, in a few of their 1x1 convolutions.

use std::borrow::Cow;

use crate::Conv;

impl Conv {
    /// The same convolution over all channels; depthwise ones stay.
    #[must_use]
    pub const fn ungrouped(self) -> Self {
        if self.is_depthwise() { self } else { Self { groups: 1, ..self } }
    }

    /// `weights` as those of [`Conv::ungrouped`]: [output, input, kernel, kernel].
    pub fn ungroup<'a, T: Copy + Default>(&self, weights: &'a [T]) -> Cow<'a, [T]> {
        if *self == self.ungrouped() {
            return Cow::Borrowed(weights);
        }
        let (own, all) = (self.filter_len(), self.filter_len() * self.groups);
        let mut spread = vec![T::default(); self.output * all];
        for (output, filter) in weights.chunks_exact(own.max(1)).enumerate() {
            let start = output * all + self.first_input(output) * self.window.kernel.pow(2);
            spread[start..start + own].copy_from_slice(filter);
        }
        Cow::Owned(spread)
    }

    /// The reverse of [`Conv::ungroup`]: of `spread`, what lies in groups.
    pub fn regroup(&self, spread: &[f32], to: &mut [f32]) {
        let (own, all) = (self.filter_len(), self.filter_len() * self.groups);
        let filters = to.chunks_exact_mut(own.max(1)).zip(spread.chunks_exact(all.max(1)));
        for (output, (to, filter)) in filters.enumerate() {
            to.copy_from_slice(&filter[self.first_input(output) * self.window.kernel.pow(2)..][..own]);
        }
    }

    /// Weights of one output.
    fn filter_len(&self) -> usize {
        self.input / self.groups.max(1) * self.window.kernel * self.window.kernel
    }

    /// The first of the inputs that an output's group reads.
    pub fn first_input(&self, output: usize) -> usize {
        let groups = self.groups.max(1);
        output / (self.output / groups).max(1) * (self.input / groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_on_the_diagonal() {
        let conv = Conv { groups: 2, ..Conv::pointwise(4, 2) };
        let spread = conv.ungroup(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(*spread, [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
        let mut own = [0.0; 4];
        conv.regroup(&[1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 3.0, 4.0], &mut own);
        assert_eq!(own, [1.0, 2.0, 3.0, 4.0]);
        let depthwise = Conv::depthwise(3, 3, 1);
        assert_eq!((depthwise.ungrouped(), conv.ungrouped().groups), (depthwise, 1));
    }
}
