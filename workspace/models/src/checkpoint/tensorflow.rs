//! What the tensors of our SSDLite300 are called in TensorFlow's frozen graph (`ssdlite_mobilenet_v2_coco` of its detection
//! zoo), and how they lie there.
//!
//! Backbone and extra layers are folded: a convolution times its norm's scale is `merged_input`, a depthwise one keeps the
//! scale apart (`mul`), and `sub` is what is added. Heads keep their norms.

use super::dialect::{Place, Unit, parse};
use crate::networks::{TF_EXTRAS, TF_NORM};
use crate::{Role, TensorSpec};

/// Is there in every such file.
pub(super) const STEM: &str = "FeatureExtractor/MobilenetV2/Conv/Conv2D/merged_input";
/// Six outputs a class.
pub(super) const LAST_CLASSES: &str = "BoxPredictor_5/ClassPredictor/biases";
/// What boxes are coded against; follows from the input's size, and is no weight.
pub(super) const ANCHORS: &str = "Postprocessor/ExpandDims";

/// Where the values of a tensor are had from.
pub(super) enum Source {
    /// A tensor of the file, and its shape there.
    Stored { name: String, shape: Vec<usize> },
    /// The same value everywhere.
    Value(f32),
}

/// Of a tensor of the graph. One that the table does not know is looked for under its own name, and missed.
pub(super) fn source(spec: &TensorSpec) -> Source {
    let stored = |name| Source::Stored { name, shape: file_shape(&spec.shape) };
    let (place, leaf) = spec.name.rsplit_once('.').unwrap_or((&spec.name, ""));
    if let Some((scope, part)) = head(place) {
        return stored(match (part, leaf) {
            ("0", _) => format!("{scope}_depthwise/depthwise_weights"),
            ("1", leaf) => format!("{scope}_depthwise/BatchNorm/{}", norm_name(leaf)),
            (_, "weight") => format!("{scope}/weights"),
            _ => format!("{scope}/biases"),
        });
    }
    let Some((scope, is_depthwise, is_norm)) = body(place) else { return stored(spec.name.clone()) };
    let scope = format!("FeatureExtractor/MobilenetV2/{scope}");
    match (is_norm, spec.role, is_depthwise) {
        (false, _, true) => stored(format!("{scope}/depthwise_weights")),
        (false, _, false) => stored(format!("{scope}/Conv2D/merged_input")),
        (true, Role::NormBias, _) => stored(format!("{scope}/BatchNorm/batchnorm/sub")),
        (true, Role::NormWeight, true) => stored(format!("{scope}/BatchNorm/batchnorm/mul")),
        (true, Role::RunningMean, _) => Source::Value(0.0),
        // So that variance and eps make 1, and the norm nothing but its scale and shift.
        (true, Role::RunningVar, _) => Source::Value(1.0 - TF_NORM.0),
        (true, _, _) => Source::Value(1.0),
    }
}

/// A convolution of backbone or extra layers, or its norm: the scope, whether it is depthwise, whether it is the norm.
fn body(place: &str) -> Option<(String, bool, bool)> {
    let place = place.strip_prefix("backbone.")?;
    if let Some(extra) = place.strip_prefix("extras.") {
        let [k, "conv", unit, part] = extra.split('.').collect::<Vec<_>>()[..] else { return None };
        let k: usize = k.parse().ok()?;
        let (output, layer) = (TF_EXTRAS.get(k)?, k + 2);
        let scope = match unit {
            "0" => format!("layer_19_1_Conv2d_{layer}_1x1_{}", output / 2),
            "1" => format!("layer_19_2_Conv2d_{layer}_3x3_s2_{output}_depthwise"),
            _ => format!("layer_19_2_Conv2d_{layer}_3x3_s2_{output}"),
        };
        return Some((scope, unit == "1", part == "1"));
    }
    let (place, is_norm) = parse(place)?;
    let (scope, is_depthwise) = match place {
        Place::Stem => ("Conv".to_owned(), false),
        Place::Head => ("Conv_1".to_owned(), false),
        Place::Block(block, unit) => {
            let part = match unit {
                Unit::Expand => "expand",
                Unit::Depthwise => "depthwise",
                Unit::Project => "project",
            };
            let block = if block == 1 { "expanded_conv".to_owned() } else { format!("expanded_conv_{}", block - 1) };
            (format!("{block}/{part}"), unit == Unit::Depthwise)
        }
    };
    Some((scope, is_depthwise, is_norm))
}

/// A head's scope, and which place of it.
fn head(place: &str) -> Option<(String, &str)> {
    let (headers, place) = place.strip_prefix("box_head.predictor.")?.split_once('.')?;
    let (level, part) = place.split_once(".conv.")?;
    let predictor = if headers == "cls_headers" { "ClassPredictor" } else { "BoxEncodingPredictor" };
    Some((format!("BoxPredictor_{level}/{predictor}"), part))
}

fn norm_name(leaf: &str) -> &'static str {
    match leaf {
        "weight" => "gamma",
        "bias" => "beta",
        "running_mean" => "moving_mean",
        _ => "moving_variance",
    }
}

/// Height and width first: [o, i, h, w] as [h, w, i, o], and a depthwise [c, 1, h, w] as [h, w, c, 1].
fn file_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [output, 1, height, width] if height > 1 => vec![height, width, output, 1],
        [output, input, height, width] => vec![height, width, input, output],
        ref shape => shape.to_vec(),
    }
}

/// From the file's layout to that of `shape`; none where the values are not as many.
pub(super) fn turned(values: &[f32], shape: &[usize]) -> Option<Vec<f32>> {
    let &[output, input, height, width] = shape else { return Some(values.to_vec()) };
    let places = height * width;
    (values.len() == output * input * places).then(|| {
        // Both layouts have one matrix [input, output] a place, for a depthwise one of them is 1.
        let channels = (0..output).flat_map(|o| (0..input).map(move |i| i * output + o));
        channels.flat_map(|at| (0..places).map(move |place| values[place * input * output + at])).collect()
    })
}
