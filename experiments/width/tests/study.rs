//! The repository's own study.toml: its cells, and the hashes on which committed rows rest.

mod common;

use std::path::Path;

use common::{File, STUDY, cells};
use sandglass_ledger::Ledger;
use sandglass_models::NetworkConfig;
use sandglass_study::hash;
use sandglass_study::paper::PaperTable;

fn file() -> File {
    File::read(Path::new(STUDY)).unwrap()
}

#[test]
fn every_scale_has_its_networks_and_seeds() {
    let file = file();
    let counts = |profile| cells(&file, profile).len();
    assert_eq!(
        ["smoke", "cifar10", "imagenet", "imagenet-subset", "imagewoof", "imagewoof-search", "resolution"].map(counts),
        [10, 10, 10, 2, 2 * (2 * 5 + 2 * 3 + 2), 24, 2 * 5 * 2]
    );
    // Seed 0 of all ten networks comes first.
    let first: Vec<u64> = cells(&file, "imagewoof").iter().take(11).map(|cell| cell.seed).collect();
    assert_eq!(first, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

/// The evaluation of images of their own size, and what else decides a number at the decisive scale.
#[test]
fn the_decisive_scale_is_what_it_says() {
    let file = file();
    let all = cells(&file, "imagewoof");
    assert!(all.iter().all(|cell| cell.evaluation.resize == Some(146) && cell.input == 128 && cell.drop_copies));
    assert!(all.iter().all(|cell| cell.network.stem_stride == 2 && cell.holdout == 0));
    assert!(all.iter().all(|cell| cell.evaluate_every == 5));
    assert!(cells(&file, "imagewoof-search").iter().all(|cell| cell.holdout == 1500));
    // Pictures of Tiny-ImageNet are of that size, and taken whole.
    let tiny = cells(&file, "tiny-imagenet");
    assert!(tiny.iter().all(|cell| (cell.input, cell.evaluation.resize, cell.evaluate_every) == (64, None, 5)));
}

/// A definition's hash survives the project's growth: these are of the foundation, and of the first Imagewoof cells.
#[test]
fn hashes_of_definitions_are_pinned() {
    let file = file();
    let of = |profile: &str, id: &str| {
        let cell = cells(&file, profile).into_iter().find(|cell| cell.to_string() == id).unwrap();
        hash(&cell).unwrap()[..16].to_owned()
    };
    let pinned = [
        ("smoke", "mobilenext-w0.35-s0", "9f26e7d409d67892"),
        ("cifar10", "mobilenext-w0.35-s0", "f841d5c5b7a67bae"),
        ("imagenet", "mobilenetv2-w1.0-s0", "15085133a9560ea2"),
        ("imagenet-subset", "mobilenetv2-w1.0-imagenet_val_910", "dfde989b78bcc37d"),
        ("imagewoof-search", "mobilenext-w0.35-s0-middle", "d9396441fe1d33c2"),
        ("imagewoof", "mobilenetv2-w0.35-s0", "4c19aeb4bb03b996"),
    ];
    assert_eq!(pinned.map(|(profile, id, _)| of(profile, id)), pinned.map(|(.., hash)| hash.to_owned()));
}

/// Committed rows of the foundation are of today's cells.
#[test]
fn no_row_of_the_foundation_is_stale() {
    let rows = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/foundation/results/rows"));
    let ledger = Ledger::read(rows);
    assert_eq!((ledger.rows.len(), ledger.problems.len()), (13 * 4, 0));
    let file = file();
    for row in &ledger.rows {
        let cells = cells(&file, &row.profile);
        let cell = cells.iter().find(|cell| cell.to_string() == row.cell).unwrap();
        assert_eq!(row.cell_hash, hash(cell).unwrap(), "{}", row.id());
        assert_eq!(row.axis("width"), Some(format!("{:?}", cell.network.width).as_str()));
        assert_eq!(row.axis("input"), Some(cell.input.to_string().as_str()));
    }
}

/// Every network of the table has the paper's row, and costs what was counted from the official code.
#[test]
fn paper_and_counted_costs_stand_beside_every_network() {
    let file = file();
    let paper = PaperTable::find(file.paper_table.as_ref().unwrap()).unwrap();
    let counted = PaperTable::find("mnext_width_counted").unwrap();
    for variant in &file.design.networks {
        for &width in &file.design.widths {
            let (texts, numbers) = ([("model", variant.paper.as_str())], [("width", width)]);
            assert!(paper.row(&texts, &numbers).and_then(|row| row.number("top1_pct")).is_some());
            let config = NetworkConfig { width, ..variant.network.parse().unwrap() };
            let cost = config.build().unwrap().cost(224, 224).unwrap();
            let row = counted.row(&texts, &numbers).unwrap();
            assert_eq!(row.number("madds_m").unwrap(), cost.madds_total as f64 / 1e6, "{} {width}", variant.paper);
        }
    }
}
