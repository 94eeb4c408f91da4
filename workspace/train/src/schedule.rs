//! Learning rates as a function of time, in f64.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The forms that the papers' code uses. `t` counts steps or epochs from 0, as the caller likes; all times are in its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum Schedule {
    /// Linear from `base / warmup` to `base`, then a cosine to `min` at `total`.
    LinearWarmupCosine { base: f64, min: f64, warmup: f64, total: f64 },
    /// timm's `CosineLRScheduler`, one cycle.
    TimmCosine { base: f64, t_initial: f64, lr_min: f64, warmup_t: f64, warmup_lr_init: f64, warmup_prefix: bool },
    /// timm's `StepLRScheduler`.
    TimmStep { base: f64, decay_t: f64, decay_rate: f64, warmup_t: f64, warmup_lr_init: f64, warmup_prefix: bool },
    /// The official SSDLite code's `WarmupMultiStepLR`.
    SsdWarmupMultistep { base: f64, milestones: Vec<f64>, gamma: f64, warmup_factor: f64, warmup_iters: f64 },
    /// The official SSDLite code's `WarmupCosineLR`.
    SsdWarmupCosine { base: f64, max_iter: f64, warmup_factor: f64, warmup_iters: f64 },
}

impl Schedule {
    /// The learning rate at time `t`.
    pub fn at(&self, t: f64) -> f64 {
        match *self {
            Self::LinearWarmupCosine { base, warmup, .. } if t < warmup => base * (t + 1.0) / warmup,
            Self::LinearWarmupCosine { base, min, warmup, total } => cosine(base, min, (t - warmup) / (total - warmup)),
            Self::TimmCosine { base, warmup_t, warmup_lr_init, .. }
            | Self::TimmStep { base, warmup_t, warmup_lr_init, .. }
                if t < warmup_t =>
            {
                warmup_lr_init + t * (base - warmup_lr_init) / warmup_t
            }
            Self::TimmCosine { base, t_initial, lr_min, warmup_t, warmup_prefix, .. } => {
                let u = if warmup_prefix { t - warmup_t } else { t };
                if u < t_initial { cosine(base, lr_min, u / t_initial) } else { lr_min }
            }
            Self::TimmStep { base, decay_t, decay_rate, warmup_t, warmup_prefix, .. } => {
                let u = if warmup_prefix { t - warmup_t } else { t };
                base * libm::pow(decay_rate, (u / decay_t).floor())
            }
            Self::SsdWarmupMultistep { base, ref milestones, gamma, warmup_factor, warmup_iters } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= t).count();
                base * warmup(t, warmup_factor, warmup_iters) * libm::pow(gamma, passed as f64)
            }
            Self::SsdWarmupCosine { base, max_iter, warmup_factor, warmup_iters } => {
                base * warmup(t, warmup_factor, warmup_iters) * cosine(1.0, 0.0, t / max_iter)
            }
        }
    }
}

/// From `base` at 0 to `min` at 1.
fn cosine(base: f64, min: f64, part: f64) -> f64 {
    min + (base - min) / 2.0 * (1.0 + libm::cos(PI * part))
}

fn warmup(t: f64, factor: f64, iterations: f64) -> f64 {
    if t >= iterations {
        return 1.0;
    }
    let part = t / iterations;
    factor * (1.0 - part) + part
}
