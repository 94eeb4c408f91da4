//! A detector's average precision on images with objects in boxes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use sandglass_data::{DetectionSet, Split};
use sandglass_detect::{Evaluation, MeanAp, ScoredImage, evaluate};
use serde_json::{Map, Value, json};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

use crate::cmd::detect::network::{DetectorArgs, LoadedDetector};
use crate::cmd::{each_remark, extend};

/// What is scored, on what.
pub struct DetectorEval {
    pub detector: DetectorArgs,
    pub data: String,
    pub split: Split,
    pub json: bool,
}

impl DetectorEval {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let set = sandglass_data::open_detection(&self.data, self.split)?;
        let mut detector = self.detector.load()?;
        let classes = detector.classes.in_set(&set)?;
        let images = (0..set.len())
            .map(|index| scored(&mut detector, &set, index, &classes).with_context(|| set.image_name(index)))
            .collect::<anyhow::Result<Vec<ScoredImage>>>()?;
        let score = evaluate(&images, set.classes().len(), detector.counting)?;
        let report = Report { score, set, detector };
        if self.json {
            writeln!(io::stdout(), "{}", report.as_json())?;
        } else {
            writeln!(io::stdout(), "{}", report.as_text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn scored(
    detector: &mut LoadedDetector,
    set: &DetectionSet,
    index: usize,
    classes: &[Option<usize>],
) -> anyhow::Result<ScoredImage> {
    let input = detector.read(&set.picture(index)?)?;
    let maps = detector.maps(&input)?;
    let found = detector.detections(&maps)?.into_iter();
    Ok(ScoredImage::of(set, index, found.filter_map(|found| found.in_set(classes))))
}

struct Report {
    score: Evaluation,
    set: DetectionSet,
    detector: LoadedDetector,
}

impl Report {
    fn as_json(&self) -> Value {
        let Self { score, set, detector } = self;
        let by_class = |of: &MeanAp| -> Map<String, Value> {
            set.classes().iter().cloned().zip(of.ap.iter().map(|ap| json!(ap))).collect()
        };
        let mut json = json!({
            "map": score.voc07.map,
            "ap": by_class(&score.voc07),
            "n": set.len(),
            "map_all_points": score.voc10.map,
            "ap_all_points": by_class(&score.voc10),
            "boxes_are": detector.counting.to_string(),
            "boxes_are_by_coco": detector.counting.by_coco().to_string(),
            "map_coco": score.coco_map(),
            "map_coco_50": score.coco.first().and_then(|at| at.map),
            "map_coco_75": score.coco.get(5).and_then(|at| at.map),
            "data": set.name(),
            "data_hash": set.hash(),
            "synthetic": set.synthetic(),
            "objects": set.classes().iter().zip(&score.curves).map(|(class, of)| (class.clone(), json!(of.positives))).collect::<Map<_, _>>(),
            "listing": set.listing(),
            "also_in": set.shared().iter().cloned().collect::<BTreeMap<String, usize>>(),
            "detector": detector.as_json(),
        });
        extend(&mut json, each_remark(|has| json!(set.remarked(has))));
        json
    }

    fn as_text(&self) -> String {
        let Self { score, set, detector } = self;
        let figure = |ap: Option<f64>| ap.map_or_else(|| "-".to_owned(), |ap| format!("{ap:.4}"));
        let mut table = Builder::default();
        table.push_record(["class", "objects", "AP, 11 points", "AP, all points"]);
        for (class, name) in set.classes().iter().enumerate() {
            let objects = score.curves[class].positives.to_string();
            table.push_record([name, &objects, &figure(score.voc07.ap[class]), &figure(score.voc10.ap[class])]);
        }
        table.push_record(["mean", "", &figure(score.voc07.map), &figure(score.voc10.map)]);
        let mut table = table.build();
        table.with(Style::psql()).with(Alignment::right()).modify(Columns::first(), Alignment::left());
        let synthetic = if set.synthetic() { " (synthetic)" } else { "" };
        let coco = figure(score.coco_map());
        let (head, name, listing) = (detector.as_text(), set.name(), set.listing());
        let (vocs, cocos) = (detector.counting, detector.counting.by_coco());
        format!(
            "{head}\non {name}{synthetic}: {listing}\n{table}\nboxes: {vocs}\nmean over IoU 0.5 to 0.95, as COCO (what meets \
             a difficult object does not count): {coco}; boxes: {cocos}"
        )
    }
}
