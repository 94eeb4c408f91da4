//! What detectors saw, of what their cells keep: precision against recall, and test images with boxes.

use std::collections::BTreeMap;

use sandglass_detect::{Curve, Evaluation, evaluate};
use sandglass_ledger::{Boxes, Crop, DetectedImage, predictions_path, read_detections};
use sandglass_study::{Axis, CellResult, Chart, Figure, MarkedBox, Photo, Pictures, Point, Project, Scale, Series};

use crate::kept::scored;
use crate::{Cell, Detector, Voc};

/// Steps of recall from 0 to 1 at which curves are drawn: Pascal VOC's eleven points are among them.
const STEPS: usize = 20;

/// A detector with the cells that are shown of it.
pub(crate) type Shown<'a> = (&'a Detector, Vec<&'a CellResult<'a, Cell>>);

/// Of one scale.
#[derive(Default)]
pub(crate) struct Seen {
    pub curves: Option<Figure>,
    pub pictures: Option<Pictures>,
    /// What is not drawn, and why.
    pub notes: Vec<String>,
    /// What is kept of any cell, shown or not, and does not come to its row.
    pub problems: Vec<String>,
}

/// A detector and what each of its seeds found.
struct Found<'a> {
    detector: &'a Detector,
    seeds: Vec<(u64, Boxes, Evaluation)>,
}

impl Found<'_> {
    /// As its family is called throughout the report.
    fn name(&self) -> String {
        self.detector.backbone.clone().unwrap_or_else(|| self.detector.title.clone())
    }
}

pub(crate) fn seen(project: &Project, scale: &Scale<'_, Voc>, shown: &[Shown<'_>]) -> Seen {
    let mut seen = Seen::default();
    let mut usable = BTreeMap::new();
    for result in &scale.cells {
        match kept(project, result) {
            Ok(found) => {
                usable.insert(result.id, found);
            }
            Err(problem) => seen.problems.push(problem),
        }
    }
    let mut all: Vec<Found> = Vec::new();
    for (detector, cells) in shown {
        let mut seeds = Vec::new();
        for result in cells {
            match usable.remove(result.id) {
                Some(Some((boxes, score))) => seeds.push((result.cell.seed, boxes, score)),
                Some(None) => seen
                    .notes
                    .push(format!("{}: measured before detections were kept, so nothing of it is drawn.", result.id)),
                None => {}
            }
        }
        // A mean over the seeds that are at hand is not the table's.
        if seeds.len() == cells.len() {
            all.push(Found { detector, seeds });
        }
    }
    seen.curves = curves(scale, &all);
    seen.pictures = pictures(scale, shown, &all);
    seen
}

/// None where the cell was measured before detections were kept.
///
/// # Errors
/// What is kept is not what the row speaks of.
fn kept(project: &Project, result: &CellResult<'_, Cell>) -> Result<Option<(Boxes, Evaluation)>, String> {
    let Some(row) = result.row("map") else { return Ok(None) };
    let (root, place) = (project.predictions(), [&*row.study, &*row.profile, &*row.cell]);
    if !predictions_path(&root, place).exists() {
        return Ok(None);
    }
    let problem = |reason: String| format!("{}: its detections cannot be used: {reason}", row.id());
    let kept = read_detections(&root, place).map_err(|error| problem(error.to_string()))?;
    if row.checkpoint_hash.as_ref() != Some(&kept.checkpoint) {
        return Err(problem("of another checkpoint than the row".to_owned()));
    }
    let images: Vec<_> = kept.boxes.images.iter().map(scored).collect();
    let counting = result.cell.counting().map_err(|error| problem(error.to_string()))?;
    let score = evaluate(&images, kept.boxes.classes.len(), counting).map_err(|error| problem(error.to_string()))?;
    let (now, then) = (score.voc07.map.map(|map| 100.0 * map), row.value);
    match (now, then) {
        (Some(now), Some(then)) if (now - then).abs() < 1e-9 => Ok(Some((kept.boxes, score))),
        _ => {
            let told = |map: Option<f64>| map.map_or_else(|| "none".to_owned(), |map| format!("{map:.4} %"));
            Err(problem(format!("they come to a mAP of {}, and the row says {}", told(now), told(then))))
        }
    }
}

/// The mean over classes and seeds of the best precision at a recall or more.
fn curves(scale: &Scale<'_, Voc>, all: &[Found<'_>]) -> Option<Figure> {
    let series: Vec<Series> =
        all.iter().filter_map(|found| Some(Series { name: found.name(), points: line(found)? })).collect();
    let title = format!("{}, mean over classes", scale.profile.title);
    let axis = |label: &str, words: &str| Axis { label: label.into(), words: words.into(), unit: " %".into() };
    let chart = Chart {
        name: scale.profile.name.clone(),
        title,
        x: axis("recall (%)", "recall"),
        y: axis("precision (%)", "precision"),
        series,
        is_minor: scale.profile.synthetic,
        joined: true,
    };
    let caption = "The best precision at a recall or more, at an IoU of 0.5: the mean over classes and seeds. That of the recalls \
                   0, 10, ... 100 % is the table's mAP.";
    let is_empty = chart.series.is_empty();
    (!is_empty).then(|| Figure { name: "voc-precision-recall".into(), caption: caption.into(), charts: vec![chart] })
}

fn line(found: &Found) -> Option<Vec<Point>> {
    let curves = found.seeds.iter().flat_map(|(.., score)| &score.curves);
    let precisions: Vec<Vec<f64>> = curves.filter_map(|curve: &Curve| curve.best_precisions(STEPS)).collect();
    let count = precisions.len() as f64;
    let point = |step: usize| {
        let sum: f64 = precisions.iter().filter_map(|of| of.get(step)).sum();
        Point { x: 100.0 * step as f64 / STEPS as f64, y: 100.0 * sum / count, spread: None }
    };
    (!precisions.is_empty()).then(|| (0..=STEPS).map(point).collect())
}

/// The paper's two, on the squares that both keep.
fn pictures(scale: &Scale<'_, Voc>, shown: &[Shown<'_>], all: &[Found<'_>]) -> Option<Pictures> {
    let both: Vec<&Found> = all.iter().filter(|found| found.detector.backbone.is_some()).collect();
    let [first, second] = both[..] else { return None };
    let of_both = first.seeds.iter().filter_map(|(seed, a, _)| {
        let (_, b, _) = second.seeds.iter().find(|(other, ..)| other == seed)?;
        Some((*seed, a, b))
    });
    let (seed, a, b) = of_both.min_by_key(|(seed, ..)| *seed)?;
    let photos: Vec<Photo> = a
        .images
        .iter()
        .filter_map(|image| {
            let crop = image.crop.as_ref()?;
            let other = b.images.iter().find(|other| other.name == image.name && other.crop.as_ref() == Some(crop))?;
            Some((image, crop, other))
        })
        .enumerate()
        .map(|(at, (image, crop, other))| photo(at, &a.classes, crop, [image, other], [first, second]))
        .collect();
    let row = shown.iter().flat_map(|(_, cells)| cells).find_map(|result| result.row("map"))?;
    let (dataset, source) = (&row.dataset, &scale.profile.setup.source);
    let caption = format!(
        "From {dataset}: {source}. The first images, in the set's order, whose first object that is not difficult is of a class \
         that none before shows, and the square around it: no detector was looked at. White lines: what is there. Dashed: \
         {}; dotted: {}; both of seed {seed}, and of each as many boxes as there are objects in the square, those that it \
         is surest of.",
        first.name(),
        second.name()
    );
    let series = vec!["what is there".to_owned(), first.name(), second.name()];
    let name = format!("voc-seen-{}", scale.profile.name);
    (!photos.is_empty()).then_some(Pictures { name, caption, series, photos })
}

fn photo(at: usize, classes: &[String], crop: &Crop, images: [&DetectedImage; 2], detectors: [&Found<'_>; 2]) -> Photo {
    let corner = [crop.left, crop.top].map(f64::from);
    let side = f64::from(crop.side);
    // Whose middle lies in the square.
    let inside = |[left, top, right, bottom]: [f64; 4]| {
        [(left + right) / 2.0, (top + bottom) / 2.0].iter().all(|middle| (0.0..=side).contains(middle))
    };
    let moved = |bounds: [f32; 4], from: f64| {
        let [left, top, right, bottom] = bounds.map(f64::from);
        [left - from - corner[0], top - from - corner[1], right - corner[0], bottom - corner[1]]
    };
    let class = |class: u32| classes.get(class as usize).cloned().unwrap_or_default();
    // Pascal VOC counts pixels from 1, and both ends are the object's.
    let truth = images[0].truth.iter().map(|of| (moved(of.bounds, 1.0), class(of.class)));
    let truth: Vec<_> = truth.filter(|(bounds, _)| inside(*bounds)).collect();
    let found = images.map(|image| {
        let found = image
            .found
            .iter()
            .map(|of| (moved(of.bounds, 0.0), format!("{} {:.0} %", class(of.class), 100.0 * of.score)));
        found.filter(|(bounds, _)| inside(*bounds)).take(truth.len()).collect::<Vec<_>>()
    });
    let [first, second] = found;
    let labels = |of: &[([f64; 4], String)]| {
        let labels: Vec<&str> = of.iter().map(|(_, label)| label.as_str()).collect();
        if labels.is_empty() { "nothing".to_owned() } else { labels.join(", ") }
    };
    let name = &images[0].name;
    let words = format!(
        "{name}: there is {}; {} finds {}; {} finds {}.",
        labels(&truth),
        detectors[0].name(),
        labels(&first),
        detectors[1].name(),
        labels(&second)
    );
    let boxes = [truth, first, second]
        .into_iter()
        .enumerate()
        .flat_map(|(series, of)| of.into_iter().map(move |(bounds, label)| MarkedBox { series, label, bounds }));
    Photo {
        name: at.to_string(),
        title: name.rsplit('/').next().unwrap_or(name).to_owned(),
        words,
        jpeg: crop.picture.clone(),
        side,
        boxes: boxes.collect(),
    }
}
