//! The study's own file, and its smoke scale in a project of its own.

use std::fs;
use std::path::{Path, PathBuf};

use sandglass_data::{EmbeddedDetection, Picture, Split, encode_jpeg};
use sandglass_detect::{Counting, Detection, Reading, ScoredImage, Truth, corners, evaluate, iou};
use sandglass_ledger::{Axis, Detections, FoundBox, Ledger, Row, Status, TrueBox, read_detections, write_cell};
use sandglass_study::{Axes, Build, Experiment, Part, Pictures, Project, RunArgs, Section, Shelf, StudyFile, hash};
use sandglass_voc::{Cell, Design, STUDY, Setup, Voc};
use tempfile::TempDir;

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("study.toml")
}

fn cells(profile: &str) -> Vec<Cell> {
    let file: StudyFile<Design, Setup> = StudyFile::read(&own()).unwrap();
    let setup = &file.profile(Some(profile)).unwrap().setup;
    Voc::new(Some(1), &Build::new("c0ffee", b"lock"), &Project::around(env!("CARGO_MANIFEST_DIR").as_ref()).unwrap())
        .unwrap()
        .cells(&file.design, setup)
        .unwrap()
}

fn names(profile: &str) -> Vec<String> {
    cells(profile).iter().map(Cell::to_string).collect()
}

#[test]
fn what_is_compared_comes_together_and_the_first_seed_first() {
    assert_eq!(
        names("voc"),
        [
            "ssdlite_mobilenetv2-w1.0-s0-tiny-imagenet",
            "ssdlite_mobilenext-w1.0-s0-tiny-imagenet",
            "ssdlite_mobilenetv2-w1.0-s1-tiny-imagenet",
            "ssdlite_mobilenext-w1.0-s1-tiny-imagenet",
            "ssdlite_mobilenetv2_tap576-w1.0-s0-tiny-imagenet-tap",
            "ssdlite_mobilenetv2-w1.0-s0-torchvision",
            "ssdlite_mobilenetv2-w1.0-s0-scratch",
            "ssdlite_mobilenext-w1.0-s0-scratch",
            "ssdlite_tf_mobilenetv2-w1.0-coco",
        ]
    );
    let search = names("voc-search");
    assert_eq!(search.len(), 8);
    assert_eq!(
        search[..2],
        ["mobilenetv2", "mobilenext"].map(|of| format!("ssdlite_{of}-w1.0-s0-tiny-imagenet-lr-low"))
    );
    assert_eq!(names("paper").len(), 2);
}

/// The row that is there stays valid only while this stays.
#[test]
fn a_cells_hash_is_pinned() {
    let cells = cells("voc");
    assert_eq!(hash(cells.last().unwrap()).unwrap()[..16], *"4e7c7dc21972ffff");
}

/// Priors are shares of the input, but the finest lie 16 pixels apart: what is drawn on 96 pixels takes a larger input.
#[test]
fn priors_of_smoke_reach_what_is_drawn() {
    let set = EmbeddedDetection::default().open(Split::Val).unwrap();
    let objects: Vec<[f32; 4]> = (0..set.len()).flat_map(|at| set.objects(at)).map(|object| object.bounds).collect();
    let reached = |cell: &Cell, input: usize| {
        let reading = Reading::new(&cell.config().unwrap(), (input, input)).unwrap();
        let priors: Vec<[f32; 4]> = reading.priors().iter().map(|prior| corners(*prior)).collect();
        let is_reached = |object: &&[f32; 4]| priors.iter().any(|prior| iou(*prior, **object, 0.0) >= 0.5);
        objects.iter().filter(is_reached).count() as f64 / objects.len() as f64
    };
    for cell in cells("smoke") {
        let (here, small) = (reached(&cell, cell.input), reached(&cell, 96));
        assert!(here > 0.75 && small < 0.7, "{cell}: {here:.2} of all objects, on 96 pixels {small:.2}");
    }
}

fn project(change: impl Fn(String) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("experiments/voc");
    fs::create_dir_all(&to).unwrap();
    fs::write(to.join("study.toml"), change(fs::read_to_string(own()).unwrap())).unwrap();
    folder
}

fn run(folder: &TempDir, profile: &str, cell: &str) -> Result<(), String> {
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(2));
    let study =
        shelf.find(folder.path().join("experiments/voc").to_str().unwrap()).map_err(|error| error.to_string())?;
    let args = RunArgs { profile: Some(profile.to_owned()), cell: Some(cell.to_owned()), again: false, threads: None };
    study.run(&args).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_detector_is_trained_scored_and_told() {
    // Without the classifiers, which are another study's.
    let start = "start = { kept = \"width/tiny-imagenet\" }";
    let folder = project(|text| text.replace("\nepochs = 3", "\nepochs = 1").replace(start, "start = \"scratch\""));
    for cell in ["ssdlite_mobilenetv2-w0.35-s0-tiny-imagenet", "ssdlite_mobilenext-w0.35-s0-tiny-imagenet"] {
        run(&folder, "smoke", cell).unwrap();
    }
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let of = |metric: &str| ledger.rows.iter().filter(|row| row.metric == metric).collect::<Vec<_>>();
    assert_eq!((of("map").len(), of("map_drawn").len()), (2, 2));
    for (map, drawn) in of("map").into_iter().zip(of("map_drawn")) {
        assert_eq!((map.n, map.synthetic, map.engine.as_deref()), (200, true, Some("infer")));
        assert_eq!((drawn.value, drawn.samples.len()), (map.value, 1000));
        assert!((drawn.samples.iter().sum::<f64>() / 1000.0 - map.value.unwrap()).abs() < 1e-9);
        let ap: Vec<f64> = of("ap").iter().filter(|row| row.cell == map.cell).filter_map(|row| row.value).collect();
        assert_eq!(ap.len(), 5);
        assert!((ap.iter().sum::<f64>() / 5.0 - map.value.unwrap()).abs() < 1e-9);
        let place = [&*map.study, &*map.profile, &*map.cell];
        let Detections { checkpoint, boxes } =
            read_detections(&folder.path().join("results/predictions"), place).unwrap();
        assert_eq!(
            (Some(&checkpoint), boxes.images.len(), boxes.classes.len()),
            (map.checkpoint_hash.as_ref(), 200, 5)
        );
        // What is trained here finds edges: as Pascal VOC's pixels they come to the same.
        let in_pixels = |of: &FoundBox| {
            let [left, top, right, bottom] = of.bounds;
            Detection { class: of.class as usize, score: of.score, bbox: [left + 1.0, top + 1.0, right, bottom] }
        };
        let truth = |of: &TrueBox| Truth { class: of.class as usize, bbox: of.bounds, difficult: of.difficult };
        let images = boxes.images.iter().map(|image| ScoredImage {
            detections: image.found.iter().map(in_pixels).collect(),
            truth: image.truth.iter().map(truth).collect(),
        });
        let score = evaluate(&images.collect::<Vec<_>>(), 5, Counting::AsAnnotated).unwrap();
        assert!((100.0 * score.voc07.map.unwrap() - map.value.unwrap()).abs() < 0.01);
        // One of each class.
        assert_eq!(boxes.images.iter().filter(|image| image.crop.is_some()).count(), 5);
        // From scratch: of data, and of nothing else.
        assert!(map.made_from.as_ref().is_some_and(|from| from.len() == 64), "{:?}", map.made_from);
    }
    let told = section(&folder);
    let text = serde_json::to_string(&told.parts).unwrap();
    // Printed, counted, and measured.
    for expected in ["71.7", "3,425,988", "14,776,629", "1.25", "(n=1)", "200 images", "drawn anew"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let figure = told.parts.iter().find_map(|part| if let Part::Figure(figure) = part { Some(figure) } else { None });
    assert_eq!(figure.unwrap().charts[0].series.len(), 2);
    for (series, map) in figure.unwrap().charts[0].series.iter().zip(of("map")) {
        let eleven: Vec<f64> = series.points.iter().step_by(2).map(|point| point.y).collect();
        assert_eq!((series.points.len(), eleven.len()), (21, 11));
        assert!((eleven.iter().sum::<f64>() / 11.0 - map.value.unwrap()).abs() < 1e-9, "{}", series.name);
    }
    let pictures = pictures(&told).unwrap();
    assert_eq!(pictures.series, ["what is there", "MobileNetV2", "MobileNeXt"]);
    assert_eq!(pictures.photos.len(), 5);
    for photo in &pictures.photos {
        let boxes = |series| photo.boxes.iter().filter(|of| of.series == series).count();
        assert!(boxes(0) >= 1 && boxes(1) <= boxes(0) && boxes(2) <= boxes(0), "{}", photo.words);
        assert!(photo.jpeg.starts_with(&[0xff, 0xd8]) && photo.jpeg.len() < 20_000);
    }
    assert!(pictures.caption.contains("shapes drawn by code"));

    // What fits no row is told and not drawn; what was never kept is said.
    let kept = folder.path().join("results/predictions/voc/smoke/ssdlite_mobilenext-w0.35-s0-tiny-imagenet.parquet");
    let other = kept.with_file_name("ssdlite_mobilenetv2-w0.35-s0-tiny-imagenet.parquet");
    fs::copy(&other, &kept).unwrap();
    let told = section(&folder);
    assert!(told.problems.iter().any(|problem| problem.contains("of another checkpoint")), "{:?}", told.problems);
    assert_eq!(pictures_of(&told), 0);
    fs::remove_file(&kept).unwrap();
    let told = section(&folder);
    let text = serde_json::to_string(&told.parts).unwrap();
    assert!(text.contains("ssdlite_mobilenext-w0.35-s0-tiny-imagenet: measured before detections were kept"), "{text}");
    assert_eq!((told.problems.len(), pictures_of(&told)), (0, 0));
}

/// A mean average precision, and what it is on a thousand draws: from 10 less to 10 more.
fn scored(folder: &TempDir, cell: &Cell, map: f64) {
    let axes = cell.axes().into_iter().map(|(name, value)| Axis { name: name.into(), value });
    let row = |metric: &str| Row {
        study: "voc".into(),
        profile: "voc".into(),
        cell: cell.to_string(),
        axes: axes.clone().collect(),
        dataset: cell.dataset(),
        synthetic: false,
        seed: cell.seed(),
        metric: metric.into(),
        part: None,
        value: Some(map),
        unit: "%".into(),
        n: 600,
        status: Status::Ok,
        error: None,
        samples: Vec::new(),
        samples_at: Vec::new(),
        once: false,
        engine: Some("infer".into()),
        commit: "c0ffee".into(),
        dirty: false,
        made_by: Vec::new(),
        made_from: None,
        command: "sandglass run".into(),
        cell_hash: hash(cell).unwrap(),
        data_hash: "feedface".into(),
        checkpoint_hash: Some("c0ffee".into()),
        machine: "A CPU".into(),
        isa: "avx2".into(),
        threads: 2,
        versions: "sandglass 0.1.0".into(),
        started: "2026-01-31T12:00:00Z".into(),
        seconds: 12.5,
    };
    let at: Vec<f64> = (0..1000).map(f64::from).collect();
    let samples = at.iter().map(|at| map - 10.0 + at / 50.0).collect();
    let drawn = Row { samples, samples_at: at, ..row("map_drawn") };
    write_cell(&folder.path().join("results/rows"), &[row("map"), drawn]).unwrap();
}

/// The tap's run has another name than the one that it is set against, and one seed of the two; from scratch is another start.
#[test]
fn detectors_that_start_from_the_same_are_paired() {
    let folder = project(|text| text);
    let maps = [30.0, 33.0, 31.0, 34.5, 32.0, 50.0, 10.0];
    cells("voc").iter().zip(maps).for_each(|(cell, map)| scored(&folder, cell, map));
    let told = section(&folder);
    let tables = told.parts.iter().filter_map(|part| if let Part::Table(table) = part { Some(table) } else { None });
    let texts: Vec<Vec<String>> =
        tables.flat_map(|table| &table.rows).map(|row| row.iter().map(|entry| entry.text.clone()).collect()).collect();
    let [v2, next, tap] =
        ["SSDLite on MobileNetV2", "SSDLite on MobileNeXt", "SSDLite on MobileNetV2, expansion tapped"];
    let has = |row: &[&str]| assert!(texts.iter().any(|of| of[..] == *row), "no {row:?} in {texts:#?}");
    // Seeds 3 and 3.5 apart, and t = 12.706 on a standard error of 0.25; all images alike.
    has(&[next, v2, "tiny-imagenet", "+3.25", "+0.07 to +6.43", "2"]);
    has(&[tap, v2, "tiny-imagenet", "+2.00", "+2.00 to +2.00", "1"]);
    has(&[tap, next, "tiny-imagenet", "-1.00", "-1.00 to -1.00", "1"]);
    // Between the 25th and the 975th of a thousand draws.
    has(&[tap, "tiny-imagenet-tap", "32.00", "22.50 to 41.48", "1"]);
    has(&[v2, "torchvision", "50.00", "40.50 to 59.48", "1"]);
    let leads = texts.iter().filter(|row| row.len() == 6 && row[3].starts_with(['+', '-'])).count();
    assert_eq!(leads, 3, "{texts:#?}");
    // Rows without detections are not drawn.
    assert!(told.parts.iter().all(|part| !matches!(part, Part::Figure(_) | Part::Pictures(_))));
}

/// Seeds of other images have no mean; those that pair still do.
#[test]
fn seeds_that_cannot_be_averaged_are_told() {
    let folder = project(|text| text);
    let cells = cells("voc");
    cells.iter().zip([30.0, 33.0, 31.0]).for_each(|(cell, map)| scored(&folder, cell, map));
    let path = folder.path().join("results/rows");
    let ledger = Ledger::read(&path);
    let moved = ledger.rows.iter().filter(|row| row.cell == cells[2].to_string());
    let moved: Vec<Row> = moved.map(|row| Row { data_hash: "0ther".into(), ..row.clone() }).collect();
    write_cell(&path, &moved).unwrap();
    let text = serde_json::to_string(&section(&folder).parts).unwrap();
    let left_out = "SSDLite on MobileNetV2, tiny-imagenet: left out, for its seeds were scored on other images";
    assert!(text.contains(left_out) && text.contains("+3.00"), "{text}");
}

fn section(folder: &TempDir) -> Section {
    let shelf = Shelf::new(&[STUDY], Build::new("c0ffee", b"lock"), Some(1));
    shelf.find(folder.path().join("experiments/voc").to_str().unwrap()).unwrap().section().unwrap()
}

fn pictures(section: &Section) -> Option<&Pictures> {
    section.parts.iter().find_map(|part| if let Part::Pictures(pictures) = part { Some(pictures) } else { None })
}

fn pictures_of(section: &Section) -> usize {
    pictures(section).map_or(0, |pictures| pictures.photos.len())
}

#[test]
fn what_is_not_at_hand_is_skipped_and_said() {
    let folder = project(|text| text.replace("VOCdevkit/VOC2007", "nowhere/VOC2007"));
    run(&folder, "voc", "ssdlite_mobilenetv2-w1.0-s0-scratch").unwrap();
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let error = ledger.rows[0].error.clone().unwrap();
    assert!(ledger.rows[0].value.is_none() && error.contains("nowhere/VOC2007: no such folder"), "{error}");
}

#[test]
fn what_is_trained_on_is_not_scored() {
    let folder = project(|text| text.replace("score = \"test\"", "score = \"train\""));
    run(&folder, "smoke", "ssdlite_mobilenetv2-w0.35-s0-tiny-imagenet").unwrap();
    let ledger = Ledger::read(&folder.path().join("results/rows"));
    let error = ledger.rows[0].error.clone().unwrap();
    assert!(ledger.rows[0].value.is_none() && error.contains(" of its images are scored, in "), "{error}");
}

/// Difficult objects are neither learnt nor scored: found out before an hour of training, and not after it.
#[test]
fn sets_without_an_object_are_refused_before_training() {
    let kit = tempfile::tempdir().unwrap();
    let put = |place: &str, bytes: &[u8]| {
        let path = kit.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let picture = Picture { width: 32, height: 32, pixels: vec![90; 32 * 32 * 3] };
    for (id, split, difficult) in [("easy", "train", 0), ("hard", "test", 1)] {
        put(&format!("JPEGImages/{id}.jpg"), &encode_jpeg(&picture, 90.0).unwrap());
        let size = "<size><width>32</width><height>32</height></size>";
        let bounds = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>";
        let object = format!("<object><name>disc</name><difficult>{difficult}</difficult>{bounds}</object>");
        put(&format!("Annotations/{id}.xml"), format!("<annotation>{size}{object}</annotation>").as_bytes());
        put(&format!("ImageSets/Main/{split}.txt"), id.as_bytes());
    }
    put("classes.txt", b"disc\nplus\nring\nsquare\ntriangle\n");
    let data = format!("data = [{:?}]\nsource", kit.path().to_str().unwrap());
    for (train, score, says) in [("train", "test", "can be scored"), ("test", "train", "can be learnt")] {
        let lists = format!("train = \"{train}\"\nscore = \"{score}\"");
        let change = |text: String| {
            let text = text.replace("data = [\"embedded\"]\nsource", &data);
            text.replacen("train = \"train\"\nscore = \"test\"", &lists, 1)
        };
        let folder = project(change);
        run(&folder, "smoke", "ssdlite_mobilenetv2-w0.35-s0-tiny-imagenet").unwrap();
        let error = Ledger::read(&folder.path().join("results/rows")).rows[0].error.clone().unwrap();
        assert!(error.contains("has no object that") && error.contains(says), "{error}");
    }
}

#[test]
fn a_study_that_contradicts_itself_is_refused_when_it_is_read() {
    for (from, to, says) in [
        ("start = { kept = \"width/tiny-imagenet\" }", "start = { kept = \"width\" }", "use \"study/profile\""),
        ("networks = [\"ssdlite_mobilenetv2_tap576\"]", "networks = [\"ssdlite_mobilenet\"]", "no detector"),
        ("input = 256", "input = 0", "use 1 to"),
        ("recipe = \"voc\"", "recipe = \"vok\"", "no recipe \"vok\""),
    ] {
        let folder = project(|text| text.replace(from, to));
        let error = run(&folder, "voc", "ssdlite_mobilenetv2-w1.0-s0-scratch").unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}
