//! The ImageNet profile from folder to row, on a few images in ImageNet's own layout, really trained and scored.

use std::path::Path;

use image::{Rgb, RgbImage};
use sandglass_ledger::Ledger;
use sandglass_study::run::{Tally, run};
use sandglass_study::{Home, Local, Study};

/// Two of ImageNet's classes, with images of several sizes.
fn imagenet(root: &Path) {
    for (part, count) in [("train", 3), ("val", 2)] {
        for (at, wnid) in ["n01440764", "n03028079"].into_iter().enumerate() {
            let folder = root.join(part).join(wnid);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let (width, height) = (280 + 10 * number, 260 + 25 * at as u32);
                let pixel = |x: u32, y: u32| Rgb([(x * (at as u32 + 1)) as u8, (y + number) as u8, (x ^ y) as u8]);
                let image = RgbImage::from_fn(width, height, pixel);
                image.save_with_format(folder.join(format!("{number}.JPEG")), image::ImageFormat::Png).unwrap();
            }
        }
    }
}

/// The repository's study, but for the place of the images, the number of networks and the length of the training.
fn shortened(folder: &Path) -> Study {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/width/study.toml");
    let (mut study, _) = Study::open(path.as_ref()).unwrap();
    let mut recipe = study.recipe("imagenet").unwrap();
    (recipe.epochs, recipe.batch) = (1, 3);
    study.recipe.insert("imagenet".into(), recipe);
    study.grid.networks.remove(0);
    study.grid.widths = vec![0.35];
    study.profile.retain(|profile| profile.name == "imagenet");
    study.profile[0].data = Some(folder.join("imagenet").display().to_string());
    study
}

#[test]
fn the_imagenet_profile_runs_from_folder_to_row_with_the_same_bits_on_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    imagenet(&folder.path().join("imagenet"));
    let study = shortened(folder.path());
    let checkpoint = |threads: usize| {
        let root = folder.path().join(format!("threads-{threads}"));
        std::fs::create_dir_all(root.join("results")).unwrap();
        let home = Home::above(&root).unwrap();
        let bench = Local::new(Some(threads)).unwrap();
        let mut notes = Vec::new();
        let tally = run(&home, &study, &study.profile[0], None, &bench, &mut |note| notes.push(note.to_owned()));
        assert_eq!(tally.unwrap(), Tally { done: 1, ..Tally::default() }, "{notes:?}");
        let ledger = Ledger::read(&home.rows());
        let row = ledger.cell("width", "imagenet", "mobilenext-w0.35-s0").find(|row| row.metric == "top1").unwrap();
        assert_eq!((row.n, row.scale.as_str(), row.synthetic), (4, "224x224, 1000 classes", false));
        assert_eq!(row.samples.len(), 1, "one validation score per epoch");
        row.checkpoint_hash.clone().unwrap()
    };
    assert_eq!(checkpoint(1), checkpoint(2));
}
