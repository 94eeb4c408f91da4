//! Plan, run, resume, verify: on a bench that is a fake, so that only the study's own logic is at work.

mod common;

use common::{Fake, MICRO, Micro, open};
use sandglass_ledger::{Row, Status, write_cell};
use sandglass_study::plan::State;
use sandglass_study::run::{RunError, Tally, run};
use sandglass_study::verify::{Verdict, Verify, verify};
use sandglass_study::{Plan, StudyError, manifest::Manifest};

fn states(micro: &Micro) -> Vec<(String, State)> {
    let plan = Plan::of(&micro.study, &micro.study.profile[0], &micro.ledger()).unwrap();
    plan.cells.iter().map(|cell| (cell.cell.clone(), cell.state)).collect()
}

fn run_all(micro: &Micro, bench: &Fake) -> Tally {
    run(&micro.home, &micro.study, &micro.study.profile[0], None, bench, &mut |_| ()).unwrap()
}

fn check(micro: &Micro, which: Verify) -> Verdict {
    verify(&micro.home, &micro.study, &micro.study.profile[0], &micro.ledger(), which, &Fake::default()).unwrap()
}

#[test]
fn what_is_missing_is_run_once() {
    let micro = Micro::new();
    let planned = states(&micro);
    assert_eq!(planned.len(), 8);
    assert_eq!(planned[1], ("mobilenetv2-w1.0-s1".to_owned(), State::Missing));

    let bench = Fake::default();
    let only = Some("mobilenext-w0.35-s0");
    let one = run(&micro.home, &micro.study, &micro.study.profile[0], only, &bench, &mut |_| ()).unwrap();
    assert_eq!(one, Tally { done: 1, ..Tally::default() });
    assert_eq!(run_all(&micro, &bench), Tally { done: 7, kept: 1, ..Tally::default() });
    assert_eq!(run_all(&micro, &bench), Tally { kept: 8, ..Tally::default() });
    assert_eq!(bench.trained.borrow().len(), 8);
    assert!(states(&micro).iter().all(|(_, state)| *state == State::Done));

    let ledger = micro.ledger();
    assert_eq!((ledger.rows.len(), ledger.problems.len()), (8 * 4, 0));
    let top1 = ledger.cell("micro", "tiny", "mobilenext-w0.35-s0").find(|row| row.metric == "top1").unwrap();
    let count = ledger.cell("micro", "tiny", "mobilenext-w0.35-s0").find(|row| row.metric == "top1_count").unwrap();
    assert_eq!(top1.value.unwrap(), 100.0 * count.value.unwrap() / 1001.0);
    assert_eq!((top1.n, top1.samples.as_slice()), (1001, [50.0, 60.0].as_slice()));
}

#[test]
fn remaining_time_is_shared_by_cost() {
    let micro = Micro::new();
    let plan = Plan::of(&micro.study, &micro.study.profile[0], &micro.ledger()).unwrap();
    assert!((plan.remaining_seconds - 60.0).abs() < 1e-9);
    let of = |id: &str| plan.cells.iter().find(|cell| cell.cell == id).unwrap().expected_seconds;
    assert!(of("mobilenext-w1.0-s0") > 2.0 * of("mobilenext-w0.35-s0"));
}

#[test]
fn a_failure_is_a_row_and_the_run_goes_on() {
    let micro = Micro::new();
    let broken = Fake { failing: vec!["mobilenetv2-w1.0-s0".into()], ..Fake::default() };
    assert_eq!(run_all(&micro, &broken), Tally { done: 7, failed: 1, ..Tally::default() });
    let ledger = micro.ledger();
    let row = ledger.cell("micro", "tiny", "mobilenetv2-w1.0-s0").next().unwrap();
    assert_eq!(row.status, Status::Failed);
    assert_eq!(row.error.as_deref(), Some("loss is NaN at step 7 | stopped"));
    assert_eq!(states(&micro)[0].1, State::Failed);
    assert_eq!(run_all(&micro, &Fake::default()), Tally { done: 1, kept: 7, ..Tally::default() });
}

#[test]
fn data_that_is_not_at_hand_skips_the_cell() {
    let micro = Micro::new();
    let profile = &micro.study.profile[1];
    let tally = run(&micro.home, &micro.study, profile, None, &Fake::default(), &mut |_| ()).unwrap();
    assert_eq!(tally, Tally { skipped: 1, ..Tally::default() });
    let ledger = micro.ledger();
    assert_eq!(ledger.rows[0].status, Status::Skipped);
    assert_eq!(ledger.rows[0].id(), "micro/given/mobilenetv2-w0.35-images#top1");
}

#[test]
fn given_weights_are_known_by_their_hash_and_scored_again_on_demand() {
    let mut micro = Micro::new();
    let weights = micro.folder.path().join("weights.safetensors");
    std::fs::write(&weights, b"weights").unwrap();
    let bench = Fake { given: Some(weights), ..Fake::default() };
    let run_given = |micro: &Micro| run(&micro.home, &micro.study, &micro.study.profile[1], None, &bench, &mut |_| ());
    assert_eq!(run_given(&micro).unwrap().failed, 1, "another hash is another checkpoint");

    let hash = sandglass_study::manifest::sha256(b"weights");
    micro.study = open(micro.folder.path(), &MICRO.replace("sha256 = \"00\"", &format!("sha256 = \"{hash}\"")));
    assert_eq!(run_given(&micro).unwrap().done, 1);
    let check =
        |which| verify(&micro.home, &micro.study, &micro.study.profile[1], &micro.ledger(), which, &bench).unwrap();
    assert_eq!(check(Verify::All).equal, ["mobilenetv2-w0.35-images"]);
    assert_eq!(check(Verify::Smallest), Verdict::default());
}

#[test]
fn another_recipe_makes_rows_stale() {
    let mut micro = Micro::new();
    run_all(&micro, &Fake::default());
    micro.study = open(micro.folder.path(), &MICRO.replace("lr = 0.1", "lr = 0.2"));
    assert!(states(&micro).iter().all(|(_, state)| *state == State::Stale));
}

#[test]
fn one_checkpoint_per_network_is_kept_and_compared() {
    let micro = Micro::new();
    run_all(&micro, &Fake::default());
    let manifest = Manifest::read(&micro.home).unwrap();
    let listed: Vec<&str> = manifest.checkpoint.iter().map(|entry| entry.cell.as_str()).collect();
    assert_eq!(listed, ["mobilenetv2-w0.35-s0", "mobilenetv2-w1.0-s0", "mobilenext-w0.35-s0", "mobilenext-w1.0-s0"]);
    let smallest =
        Verdict { equal: vec!["mobilenetv2-w0.35-s0".into(), "mobilenext-w0.35-s0".into()], ..Verdict::default() };
    assert_eq!(check(&micro, Verify::Smallest), smallest);
    assert_eq!(check(&micro, Verify::All).equal.len(), 4);
    assert_eq!(check(&micro, Verify::None), Verdict::default());
}

#[test]
fn a_checkpoint_that_changed_is_found_without_evaluation() {
    let micro = Micro::new();
    run_all(&micro, &Fake::default());
    let path = micro.home.checkpoints().join("micro/tiny/mobilenext-w1.0-s0.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let verdict = check(&micro, Verify::None);
    assert_eq!(verdict.different.len(), 1);
    assert!(verdict.different[0].starts_with("mobilenext-w1.0-s0: "), "{}", verdict.different[0]);
    std::fs::remove_file(&path).unwrap();
    assert!(check(&micro, Verify::None).different[0].contains("is missing"));
    run_all(&micro, &Fake::default());
    assert!(check(&micro, Verify::None).different[0].contains("is missing"), "a run does not forget what was listed");
}

#[test]
fn a_row_that_the_checkpoint_does_not_support_is_found() {
    let micro = Micro::new();
    run_all(&micro, &Fake::default());
    let ledger = micro.ledger();
    let rows = ledger.cell("micro", "tiny", "mobilenetv2-w0.35-s0").cloned();
    let better: Vec<Row> = rows.map(|row| Row { value: row.value.map(|value| value + 1.0), ..row }).collect();
    write_cell(&micro.home.rows(), &better).unwrap();
    assert_eq!(check(&micro, Verify::None).different, Vec::<String>::new());
    let verdict = check(&micro, Verify::Smallest);
    assert!(verdict.different[0].starts_with("mobilenetv2-w0.35-s0: top1_count is "), "{:?}", verdict.different);
}

#[test]
fn an_unknown_cell_or_profile_is_one_clear_error() {
    let micro = Micro::new();
    let error = run(&micro.home, &micro.study, &micro.study.profile[0], Some("x"), &Fake::default(), &mut |_| ());
    assert!(matches!(error, Err(RunError::Study(StudyError::Cell { .. }))));
    let error = micro.study.profile(Some("smok")).unwrap_err().to_string();
    assert_eq!(error, "study micro has no profile \"smok\"; it has tiny, given");
}
