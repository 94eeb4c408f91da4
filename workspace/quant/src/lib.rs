//! Static 8-bit quantisation of networks after training.
//!
//! A [`Net`] is a graph with batch norms folded, computed in f32. [`calibrate`] observes the range of each of its maps on
//! some images; a [`Scheme`] and those ranges make a [`Quantised`] network, which computes in integers alone:
//!
//! - weights are symmetric in -127..=127, per channel or per tensor; activations asymmetric in -128..=127, per map;
//! - accumulators have 32 bits, and are brought to the next map's scale by [`Multiplier`]s with two roundings, as
//!   gemmlowp and TensorFlow Lite do it; an activation is a clamp of the result;
//! - a residual sum has 20 bits of headroom; a global pool divides once; scores are the classifier's accumulators times
//!   their scales, for logits of 8 bits tie too often.
//!
//! All of it is integers, so results are the same on every instruction set and for any number of threads.

#![warn(clippy::missing_errors_doc)]

mod arith;
mod bias;
mod calibrate;
mod diagnose;
mod equalise;
mod error;
mod integer;
mod kernel;
pub mod layers;
mod model;
mod net;
mod observer;
mod quantise;
mod scheme;
mod store;

pub use arith::{Affine, quantise_bias, quantise_weight, weight_scale};
pub use calibrate::{Calibration, calibrate};
pub use diagnose::{LayerNoise, Noise, leave_one_out, noise};
pub use error::{QuantError, Warning};
pub use integer::{IntLayer, Quantised};
pub use model::Model;
pub use net::{Images, Net, Scores};
pub use observer::{Observer, Range, Seen};
pub use quantise::{Fake, quantise};
pub use sandglass_ops::int8::Multiplier;
pub use scheme::{Granularity, Scheme};
pub use store::{Facts, StoreError, bytes, is_quantised, load, save};
