//! Exponential moving average of weights.

use serde::{Deserialize, Serialize};

/// How fast the average forgets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmaForm {
    /// The same decay at every update.
    Constant,
    /// TensorFlow's: min(decay, (1 + t) / (10 + t)) at update t, from 1, so that early weights are soon forgotten.
    TfWarmup,
}

/// ema = d * ema + (1 - d) * values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    pub decay: f64,
    pub form: EmaForm,
}

impl Ema {
    /// The decay of update `t`, counted from 1.
    pub fn decay_at(&self, t: u64) -> f64 {
        match self.form {
            EmaForm::Constant => self.decay,
            EmaForm::TfWarmup => self.decay.min((1.0 + t as f64) / (10.0 + t as f64)),
        }
    }

    /// Moves `average` towards `values`, of the same shapes, at update `t`, counted from 1. At time 0 it is a copy.
    pub fn update(&self, average: &mut [Vec<f32>], values: &[Vec<f32>], t: u64) {
        let decay = self.decay_at(t);
        let (old, new) = (decay as f32, (1.0 - decay) as f32);
        for (average, values) in average.iter_mut().zip(values) {
            for (a, v) in average.iter_mut().zip(values) {
                *a = old * *a + new * v;
            }
        }
    }
}
