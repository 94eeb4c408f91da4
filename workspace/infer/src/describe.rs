//! A plan in words and numbers, a line for each step.

use crate::Plan;
use crate::program::{ConvStep, Op, Skip, Step, Sums};

/// One fused operation, for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Of the nodes that it stands for.
    pub name: String,
    /// Such as `3x3 depthwise /2, relu6` or `1x1 + 96 channels`; convolutions that run line by line stand side by side.
    pub operation: String,
    /// Height, width and channels of what it writes.
    pub output: (usize, usize, usize),
    /// Of convolutions and linear layers, as the network has them: those over groups run as over all channels.
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
        let convs = step.op.convs();
        let operation = match &step.op {
            Op::Conv(_) | Op::Chain(_) => convs.iter().map(|conv| convolution(conv)).collect::<Vec<_>>().join("; "),
            Op::Add { skip, activation: after, .. } => format!("+ {} channels{}", skip.channels, activation(*after)),
            Op::Gate { .. } => "gate".to_owned(),
            Op::Concat { .. } => "concatenation".to_owned(),
            Op::MaxPool { shape, .. } => format!("{0}x{0} max-pool /{1}", shape.kernel, shape.stride),
            Op::Average { .. } => "average".to_owned(),
        };
        let area = |conv: &ConvStep| conv.shape.out_height() * conv.shape.out_width();
        let madds = convs.iter().map(|conv| (area(conv) * conv.shape.weight_len() / conv.groups) as u64).sum();
        let weights: u64 = convs.iter().map(|conv| conv.weights.bytes() as u64).sum();
        // Scratch stays in cache.
        let floats = |place: usize| if self.place(place).is_scratch { 0 } else { self.place(place).image_len() as u64 };
        let read: u64 = step.op.reads().into_iter().map(floats).sum();
        // Of a shortcut, only the channels that are added.
        let unread = step.op.skip().map_or(0, |Skip { place, channels }| {
            let place = self.place(place);
            (place.height * place.width * (place.channels - channels)) as u64
        });
        let goes_on = matches!(&step.op, Op::Conv(conv) if matches!(conv.sums, Sums::Next | Sums::Last));
        let written = floats(step.to) * if goes_on { 2 } else { 1 };
        Line {
            name: step.name.clone(),
            operation,
            output: (to.height, to.width, to.channels),
            madds,
            bytes: 4 * (read - unread + written) + weights,
        }
    }
}

fn convolution(conv: &ConvStep) -> String {
    let mut text = format!("{0}x{0}", conv.shape.kernel);
    if conv.shape.depthwise {
        text += " depthwise";
    }
    if conv.shape.stride > 1 {
        text += &format!(" /{}", conv.shape.stride);
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
    text
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
