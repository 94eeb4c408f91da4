//! A plan in words and numbers, a line for each step.

use crate::Plan;
use crate::compile::{Op, Step, Sums};

/// One fused operation, for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Of the nodes that it stands for.
    pub name: String,
    /// Such as `3x3 depthwise /2, relu6` or `1x1 + 96 of features.2`.
    pub operation: String,
    /// Height, width and channels of what it writes.
    pub output: (usize, usize, usize),
    /// Of convolutions and linear layers.
    pub madds: u64,
    /// Read and written: maps and packed weights.
    pub bytes: u64,
}

impl Plan {
    /// Its steps, in the order in which they run.
    pub fn lines(&self) -> Vec<Line> {
        self.steps.iter().map(|step| self.line(step)).collect()
    }

    fn line(&self, step: &Step) -> Line {
        let to = self.place(step.to);
        let area = (to.height * to.width) as u64;
        let (madds, weights, operation) = match &step.op {
            Op::Conv(conv) => {
                let (kernel, stride) = (conv.shape.kernel, conv.shape.stride);
                let mut text = format!("{kernel}x{kernel}");
                if conv.shape.depthwise {
                    text += " depthwise";
                }
                if stride > 1 {
                    text += &format!(" /{stride}");
                }
                text += match conv.sums {
                    Sums::Whole => "",
                    Sums::First => ", begins",
                    Sums::Next => ", goes on",
                    Sums::Last => ", ends",
                };
                if matches!(conv.sums, Sums::Whole | Sums::Last) {
                    if let Some(skip) = conv.skip {
                        text += &format!(" + {} channels", skip.channels);
                    }
                    text += activation(conv.activation);
                }
                (area * conv.shape.weight_len() as u64, conv.weights.bytes() as u64, text)
            }
            Op::Add { skip, activation: after, .. } => {
                (0, 0, format!("+ {} channels{}", skip.channels, activation(*after)))
            }
            Op::Gate { .. } => (0, 0, "gate".to_owned()),
            Op::Concat { .. } => (0, 0, "concatenation".to_owned()),
            Op::MaxPool { shape, .. } => (0, 0, format!("{0}x{0} max-pool /{1}", shape.kernel, shape.stride)),
            Op::Average { .. } => (0, 0, "average".to_owned()),
        };
        let floats = |place: usize| self.place(place).image_len() as u64;
        let read: u64 = step.op.reads().into_iter().map(floats).sum();
        let goes_on = matches!(&step.op, Op::Conv(conv) if matches!(conv.sums, Sums::Next | Sums::Last));
        let written = floats(step.to) * if goes_on { 2 } else { 1 };
        Line {
            name: step.name.clone(),
            operation,
            output: (to.height, to.width, to.channels),
            madds,
            bytes: 4 * (read + written) + weights,
        }
    }
}

fn activation(activation: sandglass_ops::Activation) -> &'static str {
    use sandglass_ops::Activation::{None, Relu, Relu6, Sigmoid, Silu};
    match activation {
        None => "",
        Relu => ", relu",
        Relu6 => ", relu6",
        Silu => ", silu",
        Sigmoid => ", sigmoid",
    }
}
