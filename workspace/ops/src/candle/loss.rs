//! Cross-entropy.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{Ops, tensor, to_vec, values};
use crate::loss::cross_entropy;

impl Ops {
    /// Mean cross-entropy of `logits` [n, classes] against labels, smoothed by `smoothing` over all classes; a scalar.
    ///
    /// # Errors
    /// Not one label for each row, a label that is no class, or logits that are not f32 on the CPU.
    pub fn cross_entropy(&self, logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
        logits.contiguous()?.apply_op1(CrossEntropy { labels: labels.to_vec(), smoothing })
    }
}

struct CrossEntropy {
    labels: Vec<u32>,
    smoothing: f64,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "sandglass-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = layout.shape().dims2()?;
        let loss = cross_entropy(values(storage, layout)?, &self.labels, classes, self.smoothing)?;
        Ok((CpuStorage::F32(vec![loss.mean as f32]), ().into()))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, classes) = logits.dims2()?;
        let loss = cross_entropy(&to_vec(logits)?, &self.labels, classes, self.smoothing)?;
        let scale: f32 = gradient.to_scalar()?;
        Ok(Some(tensor(loss.gradient.into_iter().map(|g| g * scale).collect(), logits.shape().clone())?))
    }
}
