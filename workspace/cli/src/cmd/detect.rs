//! `sandglass detect`: what a detector finds in images.

pub mod draw;
pub mod network;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sandglass_data::{Picture, Remarks};
use sandglass_detect::Detection;
use serde_json::{Value, json};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

use network::{DetectorArgs, LoadedDetector};

#[derive(clap::Args)]
pub struct Args {
    /// Images: JPEG, PNG, WebP, BMP, GIF, TIFF or PNM
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    detector: DetectorArgs,
    /// Least score of a detection that is shown, 0 to 1; detectors themselves leave out what scores below 0.01
    #[arg(long, default_value_t = 0.5, value_name = "S")]
    score: f32,
    /// Folder for the images with boxes and names drawn, as NAME.png
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object on stdout: boxes in the image's pixels, cut at its edges
    #[arg(long)]
    json: bool,
}

/// Of one image, in the order in which it is done. Drawing is no part of it.
#[derive(Clone, Copy, Default)]
struct Times {
    decode: Duration,
    resize: Duration,
    network: Duration,
    /// Scores, boxes and non-maximum suppression.
    nms: Duration,
}

/// One image's result.
struct Found {
    image: PathBuf,
    /// In pixels.
    width: usize,
    /// In pixels.
    height: usize,
    /// What of the image is not heeded.
    remarks: Remarks,
    /// In pixels, by falling score.
    detections: Vec<Detection>,
    times: Times,
    /// Where, and how many times as large.
    drawn: Option<(PathBuf, usize)>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!((0.0..=1.0).contains(&args.score), "--score {}: use 0 to 1", args.score);
    let places = drawings(&args.images, args.out.as_deref())?;
    let mut detector = args.detector.load()?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for (image, place) in args.images.iter().zip(places) {
        let found = detect(&mut detector, image, args.score).with_context(|| image.display().to_string());
        let (mut found, picture) = match found {
            Ok(found) => found,
            // What was found in the others is told all the same.
            Err(error) => {
                unread.push(error);
                continue;
            }
        };
        if let Some(place) = place {
            let name = |class| detector.classes.name(class);
            let png = draw::png(&picture, &found.detections, name)?;
            sandglass_files::write(&place, &png).with_context(|| place.display().to_string())?;
            found.drawn = Some((place, draw::times(&picture)));
        }
        all.push(found);
    }
    if args.json && !all.is_empty() {
        let images: Vec<Value> = all.iter().map(|found| found.as_json(&detector)).collect();
        writeln!(io::stdout(), "{}", json!({ "detector": detector.as_json(), "images": images }))?;
    } else if !all.is_empty() {
        writeln!(io::stdout(), "{}", detector.as_text())?;
        for found in &all {
            writeln!(io::stdout(), "{}", found.as_text(&detector))?;
        }
    }
    let count = unread.len();
    match unread.into_iter().next() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) if count == 1 => Err(first),
        Some(first) => Err(first.context(format!("{count} of {} images cannot be read, the first", args.images.len()))),
    }
}

/// Where each image is drawn; two of one name, or an image itself, are not written over.
fn drawings(images: &[PathBuf], out: Option<&Path>) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let Some(out) = out else { return Ok(vec![None; images.len()]) };
    let sources: Vec<PathBuf> = images.iter().filter_map(|image| fs::canonicalize(image).ok()).collect();
    let mut taken: BTreeMap<PathBuf, &PathBuf> = BTreeMap::new();
    let mut places = Vec::with_capacity(images.len());
    for image in images {
        let stem = image.file_stem().with_context(|| format!("{}: no file name", image.display()))?;
        let mut name = stem.to_os_string();
        name.push(".png");
        let place = out.join(name);
        if let Some(other) = taken.insert(place.clone(), image) {
            let (place, other, image) = (place.display(), other.display(), image.display());
            bail!("{place}: {other} and {image} would be drawn there; draw one with another --out");
        }
        let is_source = fs::canonicalize(&place).is_ok_and(|place| sources.contains(&place));
        ensure!(!is_source, "{}: an image to read lies where it would be drawn", place.display());
        ensure!(
            draw::may_replace(&place),
            "{}: is there and was not drawn here: choose another --out",
            place.display()
        );
        places.push(Some(place));
    }
    Ok(places)
}

fn detect(detector: &mut LoadedDetector, image: &Path, least: f32) -> anyhow::Result<(Found, Picture)> {
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        let lap = now - last;
        last = now;
        lap
    };
    let (picture, remarks) = sandglass_data::decode_and_tell(&sandglass_files::read(image)?)?;
    let decode = lap();
    let input = detector.read(&picture)?;
    let resize = lap();
    let maps = detector.maps(&input)?;
    let network = lap();
    let found = detector.detections(&maps)?;
    let nms = lap();
    let (width, height) = (picture.width as f32, picture.height as f32);
    // A box may reach beyond the image; what is seen of it does not.
    let seen = |[left, top, right, bottom]: [f32; 4]| {
        let inside = |share: f32, side: f32| share.clamp(0.0, 1.0) * side;
        [inside(left, width), inside(top, height), inside(right, width), inside(bottom, height)]
    };
    let detections = found.into_iter().filter(|found| found.score >= least);
    let detections = detections.map(|found| Detection { bbox: seen(found.bbox), ..found }).collect();
    let times = Times { decode, resize, network, nms };
    let (width, height) = (picture.width, picture.height);
    Ok((Found { image: image.to_owned(), width, height, remarks, detections, times, drawn: None }, picture))
}

impl Times {
    fn milliseconds(self) -> [(&'static str, f64); 5] {
        let Self { decode, resize, network, nms } = self;
        let parts = [("decode", decode), ("resize", resize), ("network", network), ("nms", nms)];
        let all = parts.iter().map(|(_, part)| *part).sum();
        let ms = |(name, time): (&'static str, Duration)| (name, 1e3 * time.as_secs_f64());
        let [decode, resize, network, nms] = parts.map(ms);
        [decode, resize, network, nms, ms(("total", all))]
    }
}

impl Found {
    fn as_json(&self, detector: &LoadedDetector) -> Value {
        let detections = self.detections.iter().map(|found| {
            let mut json = json!({
                "class": found.class,
                "name": detector.classes.name(found.class),
                "score": found.score,
                "box": found.bbox,
            });
            if detector.classes.is_coco() {
                json["coco_id"] = (found.class + 1).into();
            }
            json
        });
        let ms: serde_json::Map<String, Value> =
            self.times.milliseconds().into_iter().map(|(name, ms)| (name.to_owned(), ms.into())).collect();
        let mut json = json!({
            "image": self.image.display().to_string(),
            "width": self.width,
            "height": self.height,
            "detections": detections.collect::<Vec<Value>>(),
            "drawn": self.drawn.as_ref().map(|(place, _)| place.display().to_string()),
            "drawn_times_as_large": self.drawn.as_ref().map(|(_, times)| times),
            "ms": ms,
        });
        super::extend(&mut json, super::each_remark(|has| has(&self.remarks).into()));
        json
    }

    fn as_text(&self, detector: &LoadedDetector) -> String {
        let mut table = Builder::default();
        table.push_record(["object", "score", "left", "top", "right", "bottom"]);
        for found in &self.detections {
            let corners = found.bbox.map(|corner| format!("{corner:.0}"));
            table.push_record(
                [detector.classes.name(found.class), format!("{:.3}", found.score)].into_iter().chain(corners),
            );
        }
        let mut table = table.build();
        table.with(Style::psql()).with(Alignment::right()).modify(Columns::first(), Alignment::left());
        let times: Vec<String> =
            self.times.milliseconds().into_iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
        let (image, width, height) = (self.image.display(), self.width, self.height);
        let drawn = self.drawn.as_ref().map_or_else(String::new, |(place, times)| match times {
            1 => format!("drawn: {}\n", place.display()),
            _ => format!("drawn, {times} times as large: {}\n", place.display()),
        });
        let table = if self.detections.is_empty() { "nothing found".to_owned() } else { table.to_string() };
        let remarks = Remarks::ALL.into_iter().filter(|(has, ..)| has(&self.remarks));
        let remarks: String = remarks.map(|(_, _, words)| format!(", {words}")).collect();
        format!("{image}, {width} x {height}{remarks}\n{table}\nms: {}\n{drawn}", times.join(", "))
    }
}
