//! Boxes, matching, the loss, suppression and average precision, the same code on every path; heads and whole detectors on
//! the path's own.

use anyhow::{Context, ensure};
use sandglass_detect::{
    Coder, Counting, Detection, MeanAp, MultiBox, Postprocess, PriorLevel, Reading, ScoredImage, Truth, corners,
    evaluate, match_priors, priors,
};
use sandglass_models::blocks::BoxHead;
use sandglass_models::{DetectorConfig, Graph, GraphBuilder};
use serde::Deserialize;

use super::case::{Array, Case, Mode};
use super::kinds::{Backend, Outputs, Pass, unknown_parameter, weights};

fn outputs<const N: usize>(named: [(&str, Vec<f32>); N]) -> Outputs {
    named.map(|(name, values)| (name.to_owned(), values)).into()
}

/// A case's rows of four.
fn fours(array: &Array) -> anyhow::Result<&[[f32; 4]]> {
    ensure!(array.shape.last() == Some(&4), "boxes of shape {:?}", array.shape);
    Ok(array.values.as_chunks().0)
}

/// A case's integers, none of them below zero.
fn indices(array: &Array) -> anyhow::Result<Vec<usize>> {
    array.integers.iter().map(|&integer| usize::try_from(integer).context("an integer below zero")).collect()
}

#[derive(Deserialize)]
struct PriorConfig {
    image_size: f64,
    feature_maps: Vec<usize>,
    strides: Vec<f64>,
    min_sizes: Vec<f64>,
    max_sizes: Vec<f64>,
    aspect_ratios: Vec<Vec<f64>>,
    clip: bool,
}

impl PriorConfig {
    fn priors(&self) -> anyhow::Result<Vec<[f32; 4]>> {
        let Self { image_size, feature_maps, strides, min_sizes, max_sizes, aspect_ratios, clip } = self;
        let count = feature_maps.len();
        let others = [strides.len(), min_sizes.len(), max_sizes.len(), aspect_ratios.len()];
        ensure!(others == [count; 4] && feature_maps.iter().all(|side| *side <= 1 << 10), "levels that do not fit");
        let level = |k: usize| {
            let step = strides[k] / image_size;
            PriorLevel {
                grid: (feature_maps[k], feature_maps[k]),
                steps: (step, step),
                smallest: min_sizes[k] / image_size,
                largest: max_sizes[k] / image_size,
                ratios: aspect_ratios[k].clone(),
            }
        };
        Ok(priors(&(0..count).map(level).collect::<Vec<_>>(), *clip))
    }
}

pub fn ssd_priors(case: &Case) -> anyhow::Result<Outputs> {
    let priors = case.config::<PriorConfig>()?.priors()?;
    Ok(outputs([("priors", priors.into_flattened())]))
}

/// Other variances than the official code's are none of ours.
fn check_variances(case: &Case) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Config {
        center_variance: f64,
        size_variance: f64,
    }
    let Config { center_variance, size_variance } = case.config()?;
    ensure!((center_variance, size_variance) == (0.1, 0.2), "variances {center_variance} and {size_variance}");
    Ok(())
}

pub fn ssd_encode(case: &Case) -> anyhow::Result<Outputs> {
    check_variances(case)?;
    let pairs = fours(case.input("boxes")?)?.iter().zip(fours(case.input("priors")?)?);
    let locations: Vec<_> = pairs.map(|(of, prior)| Coder::Ssd.encode(*of, *prior)).collect();
    Ok(outputs([("locations", locations.into_flattened())]))
}

pub fn ssd_decode(case: &Case) -> anyhow::Result<Outputs> {
    check_variances(case)?;
    let priors = fours(case.input("priors")?)?;
    ensure!(!priors.is_empty(), "no priors");
    let pairs = fours(case.input("locations")?)?.iter().zip(priors.iter().cycle());
    let centred: Vec<[f32; 4]> = pairs.map(|(numbers, prior)| Coder::Ssd.decode(*numbers, *prior)).collect();
    let cornered: Vec<[f32; 4]> = centred.iter().map(|of| corners(*of)).collect();
    Ok(outputs([("boxes_center", centred.into_flattened()), ("boxes_corner", cornered.into_flattened())]))
}

pub fn ssd_match(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        priors: PriorConfig,
        iou_threshold: f64,
        iou_epsilon: f64,
    }
    check_variances(case)?;
    let Config { priors, iou_threshold, iou_epsilon } = case.config()?;
    ensure!(iou_epsilon == 1e-5, "an epsilon of {iou_epsilon}");
    let (priors, boxes) = (priors.priors()?, fours(case.input("gt_boxes")?)?);
    let classes = &case.input("gt_labels")?.values;
    ensure!(classes.len() == boxes.len(), "{} labels for {} boxes", classes.len(), boxes.len());
    let matches = match_priors(&priors, boxes, iou_threshold)?;
    let labels = matches.iter().map(|object| object.map_or(0.0, |object| classes[object])).collect();
    let positives = || matches.iter().enumerate().filter_map(|(prior, object)| Some((prior, (*object)?)));
    let encode =
        |(prior, object): (usize, usize)| Coder::Ssd.encode(sandglass_detect::centred(boxes[object]), priors[prior]);
    Ok(outputs([
        ("labels", labels),
        ("positive_priors", positives().map(|(prior, _)| prior as f32).collect()),
        ("positive_gt", positives().map(|(_, object)| object as f32).collect()),
        ("positive_locations", positives().flat_map(encode).collect()),
    ]))
}

pub fn multibox_loss(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        neg_pos_ratio: usize,
        classes: usize,
    }
    let Config { neg_pos_ratio: negatives, classes } = case.config()?;
    let labels = case.input("labels")?;
    let &[_, priors] = labels.shape.as_slice() else { anyhow::bail!("labels of shape {:?}", labels.shape) };
    let wanted: Vec<u32> = indices(labels)?.into_iter().map(u32::try_from).collect::<Result<_, _>>()?;
    let given = (case.input("confidence")?.values.as_slice(), case.input("locations")?.values.as_slice());
    let targets = &case.input("gt_locations")?.values;
    let loss = MultiBox { classes, negatives }.loss(priors, given, (&wanted, targets))?;
    Ok(outputs([
        ("output", vec![loss.total() as f32]),
        ("regression_loss", vec![loss.regression as f32]),
        ("classification_loss", vec![loss.classification as f32]),
        ("selected", loss.selected.iter().map(|selected| f32::from(u8::from(*selected))).collect()),
        ("grad.confidence", loss.confidence_gradient),
        ("grad.locations", loss.location_gradient),
    ]))
}

pub fn nms(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        iou_threshold: f64,
    }
    let Config { iou_threshold } = case.config()?;
    let (boxes, scores) = (fours(case.input("boxes")?)?, &case.input("scores")?.values);
    let kept = sandglass_detect::nms(boxes, scores, iou_threshold, usize::MAX);
    Ok(outputs([("keep", kept.into_iter().map(|at| at as f32).collect())]))
}

pub fn detect_postprocess(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        confidence_threshold: f32,
        nms_threshold: f64,
        max_per_image: usize,
        image_size: f32,
        background: usize,
    }
    let config: Config = case.config()?;
    ensure!(config.background == 0, "background {}", config.background);
    let rule = Postprocess {
        threshold: config.confidence_threshold,
        overlap: config.nms_threshold,
        per_image: config.max_per_image,
        ..Postprocess::OFFICIAL
    };
    let scores = case.input("scores")?;
    let classes = scores.shape.last().copied().unwrap_or(0);
    let found = rule.detections(&scores.values, fours(case.input("boxes")?)?, classes)?;
    let pixels = |found: &Detection| found.bbox.map(|corner| corner * config.image_size);
    Ok(outputs([
        ("boxes", found.iter().flat_map(pixels).collect()),
        ("labels", found.iter().map(|found| (found.class + 1) as f32).collect()),
        ("scores", found.iter().map(|found| found.score).collect()),
    ]))
}

/// Objects or detections by image: place, class from 0, box.
fn listed(case: &Case, what: &str, images: usize) -> anyhow::Result<Vec<(usize, usize, [f32; 4])>> {
    let input = |name: &str| case.input(&format!("{what}_{name}"));
    let (at, labels, boxes) = (indices(input("image")?)?, indices(input("label")?)?, fours(input("box")?)?);
    ensure!(at.len() == boxes.len() && labels.len() == boxes.len(), "{what}: lists of several lengths");
    ensure!(at.iter().all(|at| *at < images), "{what}: an image beyond the last");
    let class = |label: usize| label.checked_sub(1).context("label 0");
    at.into_iter().zip(labels).zip(boxes).map(|((at, label), of)| Ok((at, class(label)?, *of))).collect()
}

pub fn voc_ap(case: &Case) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        classes: usize,
        images: usize,
        iou_threshold: f64,
    }
    let Config { classes, images, iou_threshold } = case.config()?;
    ensure!(iou_threshold == 0.5 && images <= 1 << 20 && classes <= 1 << 10, "not Pascal VOC's");
    let mut scored = vec![ScoredImage::default(); images];
    for ((at, class, bbox), &score) in listed(case, "det", images)?.into_iter().zip(&case.input("det_score")?.values) {
        scored[at].detections.push(Detection { class, score, bbox });
    }
    let difficult = &case.input("gt_difficult")?.values;
    for ((at, class, bbox), &difficult) in listed(case, "gt", images)?.into_iter().zip(difficult) {
        scored[at].truth.push(Truth { class, bbox, difficult: difficult != 0.0 });
    }
    let score = evaluate(&scored, classes, Counting::AsAnnotated)?;
    let ap = |of: &MeanAp| of.ap.iter().map(|ap| ap.unwrap_or(-1.0) as f32).collect();
    let map = |of: &MeanAp| vec![of.map.unwrap_or(-1.0) as f32];
    Ok(outputs([
        ("ap_11_point", ap(&score.voc07)),
        ("map_11_point", map(&score.voc07)),
        ("ap_all_point", ap(&score.voc10)),
        ("map_all_point", map(&score.voc10)),
    ]))
}

#[derive(Deserialize)]
struct PredictorConfig {
    form: BoxHead,
    classes: usize,
    in_channels: Vec<usize>,
    boxes_per_location: Vec<usize>,
}

/// One head of one level, and where its numbers stand in the output: first prior, first number, numbers.
struct Place {
    boxes: usize,
    first: usize,
    number: usize,
    numbers: usize,
}

impl Place {
    /// Of the output [images, priors, all] this head's map, as NCHW.
    fn taken(&self, output: &[f32], [images, _, height, width]: [usize; 4], priors: usize, all: usize) -> Vec<f32> {
        let mut map = Vec::with_capacity(images * self.boxes * self.numbers * height * width);
        for image in 0..images {
            for (each, number) in (0..self.boxes).flat_map(|each| (0..self.numbers).map(move |n| (each, n))) {
                for place in 0..height * width {
                    map.push(output[self.at(image, place, (each, number), priors, all)]);
                }
            }
        }
        map
    }

    /// Undoes [`Place::taken`].
    fn put(&self, map: &[f32], [images, _, height, width]: [usize; 4], priors: usize, output: &mut [f32], all: usize) {
        let mut values = map.iter();
        for image in 0..images {
            for (each, number) in (0..self.boxes).flat_map(|each| (0..self.numbers).map(move |n| (each, n))) {
                for place in 0..height * width {
                    let value = values.next().copied().unwrap_or(f32::NAN);
                    output[self.at(image, place, (each, number), priors, all)] = value;
                }
            }
        }
    }

    fn at(&self, image: usize, place: usize, (each, number): (usize, usize), priors: usize, all: usize) -> usize {
        (image * priors + self.first + place * self.boxes + each) * all + self.number + number
    }
}

pub fn box_predictor(case: &Case, on: &dyn Backend) -> anyhow::Result<Outputs> {
    let PredictorConfig { form, classes, in_channels, boxes_per_location } = case.config()?;
    let levels = in_channels.len();
    ensure!(levels == boxes_per_location.len() && levels > 0, "levels that do not fit");
    let maps = (0..levels).map(|k| case.input(&format!("f{k}"))).collect::<anyhow::Result<Vec<_>>>()?;
    let shapes = maps.iter().map(|map| map.nchw()).collect::<anyhow::Result<Vec<_>>>()?;
    let images = shapes[0][0];
    ensure!(shapes.iter().all(|shape| shape[0] == images), "maps of several numbers of images");
    ensure!(classes <= 1 << 10 && boxes_per_location.iter().all(|boxes| *boxes <= 1 << 10), "not a head's numbers");
    let counts = shapes.iter().zip(&boxes_per_location).map(|(shape, boxes)| shape[2] * shape[3] * boxes);
    let counts: Vec<usize> = counts.collect();
    let (priors, all) = (counts.iter().sum::<usize>(), classes + 4);
    let cotangent = case.cotangent.as_ref().map(|array| array.values.as_slice());
    ensure!(cotangent.is_none_or(|values| values.len() == images * priors * all), "a cotangent of another shape");

    let mut results = outputs([("output", vec![f32::NAN; images * priors * all])]);
    let mut specs = Vec::new();
    for (headers, number, numbers) in [("cls_headers", 0, classes), ("reg_headers", classes, 4)] {
        let mut first = 0;
        for k in 0..levels {
            let boxes = boxes_per_location[k];
            let head = if form == BoxHead::Ssdlite && k == levels - 1 { BoxHead::Pointwise } else { form };
            let graph = graph_of(head, &format!("{headers}.{k}"), in_channels[k], boxes * numbers)?;
            let place = Place { boxes, first, number, numbers };
            let cotangent = cotangent.map(|values| place.taken(values, shapes[k], priors, all));
            let weights = weights(case, &graph)?;
            specs.extend(weights.specs.clone());
            let train = case.mode == Mode::Train;
            let got = on.graph(&graph, Pass { weights, x: maps[k], train, cotangent: cotangent.as_deref() })?;
            for (name, values) in got {
                match name.as_str() {
                    "output" => {
                        let output = results.get_mut("output").context("no output")?;
                        place.put(&values, shapes[k], priors, output, all);
                    }
                    "grad.x" => {
                        let sum = results.entry(format!("grad.f{k}")).or_insert_with(|| vec![0.0; values.len()]);
                        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    }
                    _ => drop(results.insert(name, values)),
                }
            }
            first += counts[k];
        }
    }
    unknown_parameter(case, &specs)?;
    Ok(results)
}

fn graph_of(head: BoxHead, name: &str, input: usize, output: usize) -> anyhow::Result<Graph> {
    let mut g = GraphBuilder::new(input)?;
    let x = g.images();
    let map = head.build(&mut g, name, x, output)?;
    Ok(g.finish(vec![map])?)
}

pub fn detector(case: &Case, on: &dyn Backend) -> anyhow::Result<Outputs> {
    #[derive(Deserialize)]
    struct Config {
        backbone: String,
        head: String,
        classes: usize,
        prior_stride: usize,
    }
    let Config { backbone, head, classes, prior_stride } = case.config()?;
    let config = DetectorConfig { classes, ..format!("{head}_{backbone}").parse()? };
    let detector = config.build()?;
    let x = case.input("x")?;
    let [images, channels, height, width] = x.nchw()?;
    ensure!(images == 1 && channels == 3, "an input of shape {:?}", x.shape);
    let heads = detector.graph.outputs().to_vec();
    let graph = detector.graph.with_outputs(heads.iter().chain(&detector.taps).copied().collect())?;
    let weights = weights(case, &graph)?;
    unknown_parameter(case, &weights.specs)?;
    let maps = on.maps(&graph, Pass { weights, x, train: case.mode == Mode::Train, cotangent: None })?;
    ensure!(maps.len() == heads.len() + detector.taps.len(), "{} maps", maps.len());
    let (heads, taps) = maps.split_at(heads.len());
    let reading = Reading::new(&config, (height, width))?;
    let (confidence, locations) = reading.gather(&heads.iter().map(Vec::as_slice).collect::<Vec<_>>(), images)?;
    let some = |values: &[f32], each: usize| {
        values.chunks_exact(each).step_by(prior_stride.max(1)).flatten().copied().collect::<Vec<f32>>()
    };
    let rms = |map: &Vec<f32>| {
        let squares: f64 = map.iter().map(|value| f64::from(*value).powi(2)).sum();
        (squares / map.len().max(1) as f64).sqrt() as f32
    };
    Ok(outputs([
        ("class_logits", some(&confidence, classes)),
        ("locations", some(&locations, 4)),
        ("feature_rms", taps.iter().map(rms).collect()),
    ]))
}
