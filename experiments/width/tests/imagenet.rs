//! The ImageNet profile from folder to row, on a few images in ImageNet's own layout, really trained and scored.

mod common;

use std::path::Path;

use common::{STUDY, project, shelf};
use image::{Rgb, RgbImage};
use sandglass_ledger::{Ledger, read_predictions};
use sandglass_study::RunArgs;

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
fn shortened(images: &Path) -> String {
    let text = std::fs::read_to_string(STUDY).unwrap();
    let text = text.replace("data = \"imagenet\"", &format!("data = {:?}", images.display().to_string()));
    let text = text.replace("recipe = \"imagenet\"", "recipe = \"short\"");
    let short = sandglass_train::Recipe::built_in("imagenet").unwrap();
    let short = short.replacen("epochs = 200", "epochs = 1", 1).replacen("batch = 256", "batch = 3", 1);
    text + "\n[design.recipe.short]\n" + &short.replace("\n[", "\n[design.recipe.short.")
}

#[test]
fn the_imagenet_profile_runs_from_folder_to_row_with_the_same_bits_on_any_threads() {
    let images = tempfile::tempdir().unwrap();
    imagenet(images.path());
    let checkpoint = |threads: usize| {
        let folder = project(&shortened(images.path()));
        let study = shelf(threads).find(folder.path().join("experiments/width").to_str().unwrap()).unwrap();
        let id = "mobilenext-w0.35-s0";
        let (profile, cell) = (Some("imagenet".to_owned()), Some(id.to_owned()));
        study.run(&RunArgs { profile, cell, again: false, threads: None }).unwrap();
        let ledger = Ledger::read(&folder.path().join("results/rows"));
        let row = ledger.cell("width", "imagenet", id).find(|row| row.metric == "top1").unwrap();
        assert_eq!((row.n, row.axis("input"), row.axis("classes")), (4, Some("224"), Some("1000")), "{:?}", row.error);
        assert_eq!((row.samples.len(), row.samples_at.as_slice()), (1, [1.0].as_slice()));
        let names = read_predictions(&folder.path().join("results/predictions"), ["width", "imagenet", id]).unwrap();
        let names: Vec<&str> = names.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["n01440764/0.JPEG", "n01440764/1.JPEG", "n03028079/0.JPEG", "n03028079/1.JPEG"]);
        row.checkpoint_hash.clone().unwrap()
    };
    assert_eq!(checkpoint(1), checkpoint(2));
}
