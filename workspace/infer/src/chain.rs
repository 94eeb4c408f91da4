//! Which steps of a program run together, line by line.

use sandglass_ops::Runtime;

use crate::program::{ChainStep, Op, Place, Program, Step, Sums};

/// Floats from which on a map between two convolutions costs at least what running them line by line does (NOTES.md).
const CHAINED: usize = 3 << 17;

impl Program {
    /// Joins convolutions that win by running line by line.
    pub fn chain(&mut self, runtime: &Runtime, batch: usize) {
        let mut uses = vec![0; self.places.len()];
        let read = self.steps.iter().flat_map(|step| step.op.reads()).chain(self.outputs.iter().copied());
        read.for_each(|place| uses[place] += 1);
        // Whether the map between two steps is for the second alone, and too large to stay in the second cache.
        let joins = |first: &Step, second: &Step| {
            let reads = matches!(&second.op, Op::Conv(conv) if conv.from == first.to);
            reads && uses[first.to] == 1 && self.places[first.to].image_len() >= CHAINED
        };
        let is = |step: &Step, depthwise: bool| match &step.op {
            Op::Conv(conv) if depthwise => conv.shape.depthwise && conv.sums == Sums::Whole,
            Op::Conv(conv) => conv.is_pointwise() && conv.sums == Sums::Whole,
            _ => false,
        };
        // The depthwise steps that are joined, with the steps before and after them that are joined with them.
        let steps = &self.steps;
        let chains = (0..steps.len()).filter(|&at| is(&steps[at], true)).filter_map(|at| {
            let before =
                at.checked_sub(1).filter(|&before| is(&steps[before], false) && joins(&steps[before], &steps[at]));
            let after = Some(at + 1).filter(|&after| {
                let linear = matches!(&steps[at].op, Op::Conv(conv) if conv.skip.is_none());
                linear && steps.get(after).is_some_and(|step| is(step, false) && joins(&steps[at], step))
            });
            (before.is_some() || after.is_some()).then_some((before, at, after))
        });
        let chains: Vec<_> = chains.collect();
        let mut steps: Vec<Option<Step>> = std::mem::take(&mut self.steps).into_iter().map(Some).collect();
        for (before, at, after) in chains {
            let mut take = |index: usize| match steps[index].take() {
                Some(Step { name, op: Op::Conv(conv), to }) => Some((name, *conv, to)),
                _ => None,
            };
            let (expand, depthwise, project) = (before.and_then(&mut take), take(at), after.and_then(&mut take));
            let Some((name, depthwise, to)) = depthwise else { continue };
            let to = project.as_ref().map_or(to, |(_, _, to)| *to);
            let names = [expand.as_ref().map(|of| &of.0), Some(&name), project.as_ref().map(|of| &of.0)];
            let name = names.into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            let (expand, project) = (expand.map(|of| of.1), project.map(|of| of.1));
            let scratch = self.places.len();
            let chain = ChainStep { expand, depthwise, project, scratch };
            let channels = chain.chain(batch, None).scratch_len(runtime);
            self.places.push(Place { height: 1, width: 1, channels, is_scratch: true });
            steps[at] = Some(Step { name, op: Op::Chain(Box::new(chain)), to });
        }
        self.steps = steps.into_iter().flatten().collect();
    }
}
