//! Run, resume, borrow, verify: on a study that makes numbers, so that only the protocol is at work.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Barrier};

use common::{DURING, MICRO, Micro, STOPPED};
use sandglass_ledger::{Row, Status, read_predictions, write_cell};
use sandglass_study::{Manifest, Project, StudyError, Verify};

fn verify(micro: &Micro, which: Verify) -> Result<(), String> {
    verify_of(micro, "micro", which)
}

fn verify_of(micro: &Micro, study: &str, which: Verify) -> Result<(), String> {
    micro.open(study).unwrap().verify(which).map_err(|error| error.to_string())
}

#[test]
fn what_is_missing_is_run_once() {
    let micro = Micro::new();
    let one = Micro::made(|| assert!(micro.run("micro", "plain", Some("n3-s0")).unwrap()));
    assert_eq!(one, ["n3-s0"]);
    let rest = Micro::made(|| assert!(micro.run("micro", "plain", None).unwrap()));
    assert_eq!(rest, ["n1-s0", "n2-s0", "n4-s0", "n1-s1", "n2-s1", "n3-s1", "n4-s1"]);
    assert_eq!(Micro::made(|| assert!(micro.run("micro", "plain", None).unwrap())), [""; 0]);
    let ledger = micro.ledger();
    assert_eq!((ledger.rows.len(), ledger.problems.len()), (8 * 4, 0));
}

#[test]
fn a_done_cell_is_run_again_when_asked_from_the_start() {
    let micro = Micro::new();
    micro.run("micro", "plain", Some("n3-s0")).unwrap();
    let project = Project::around(micro.folder.path()).unwrap();
    let before = micro.row("n3-s0", "worth");
    let hash = before.cell_hash.clone();
    let left = project.run_of("micro", "plain", "n3-s0", &hash).join("left");
    std::fs::write(&left, "to go on from").unwrap();
    let cell = Some("n3-s0".to_owned());
    let args = sandglass_study::RunArgs { profile: None, cell, again: true, threads: None };
    let made = Micro::made(|| {
        micro.open("micro").unwrap().run(&args).unwrap();
    });
    assert_eq!(made, ["n3-s0"]);
    assert!(!left.exists());
    let after = micro.row("n3-s0", "worth");
    assert_eq!((after.value, after.checkpoint_hash), (before.value, before.checkpoint_hash));
}

/// Stopped while it was run again, a cell is gone on with by the same command, and begins anew once it was done.
#[test]
fn what_was_begun_again_is_gone_on_with() {
    let micro = Micro::new();
    micro.run("micro", "plain", Some("n3-s0")).unwrap();
    let hash = micro.row("n3-s0", "worth").cell_hash;
    let folder = Project::around(micro.folder.path()).unwrap().run_of("micro", "plain", "n3-s0", &hash);
    let [left, old] = ["left", "old"].map(|name| folder.join(name));
    let again = || {
        let cell = Some("n3-s0".to_owned());
        let args = sandglass_study::RunArgs { profile: None, cell, again: true, threads: None };
        micro.open("micro").unwrap().run(&args).unwrap()
    };
    std::fs::write(&old, "of before").unwrap();
    STOPPED.set(true);
    let code = again();
    STOPPED.set(false);
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(143)));
    assert!(left.exists() && !old.exists());
    // Neither a failure nor what is not at hand loses it.
    for setup in ["keep = true\nbroken = [3]", "keep = true\nabsent = true"] {
        micro.write("micro", &MICRO.replacen("keep = true", setup, 1));
        again();
        assert!(left.exists(), "{setup}");
    }
    micro.write("micro", MICRO);
    again();
    assert!(left.exists());
    again();
    assert!(!left.exists());
}

#[test]
fn a_row_says_what_it_is_of_and_what_made_it() {
    let micro = Micro::new();
    micro.run("micro", "plain", Some("n3-s1")).unwrap();
    let row = micro.row("n3-s1", "worth");
    assert_eq!((row.value, row.n, row.seed, row.dataset.as_str()), (Some(301.0), 10, 1, "numbers"));
    assert_eq!((row.axis("kind"), row.axis("size")), (Some("1"), Some("3")));
    assert_eq!((row.samples, row.samples_at), (vec![1.0, 2.0], vec![5.0, 7.0]));
    // The commit of the program, the commits that made the file, and the time of all of them.
    assert_eq!((row.commit.as_str(), row.dirty, row.made_from.as_deref()), ("c0ffee", true, Some("numbers")));
    assert!((3600.0..3700.0).contains(&row.seconds), "{}", row.seconds);
    assert_eq!(row.made_by, ["earlier", "later"]);
    assert!(row.synthetic && !row.once && row.engine.is_none());
    assert_eq!(row.command, "sandglass run micro --profile plain --cell n3-s1");
    assert_eq!(micro.row("n3-s1", "digit").part.as_deref(), Some("first"));
    let project = Project::around(micro.folder.path()).unwrap();
    let left_out = micro.row("n3-s1", "left_out");
    assert!(left_out.once && left_out.value == Some(4.0), "what its making knows");
    let predictions = read_predictions(&project.predictions(), ["micro", "plain", "n3-s1"]).unwrap();
    assert_eq!(Some(predictions.checkpoint), row.checkpoint_hash);
    let items = predictions.items;
    assert_eq!((items.len(), items[2].name.as_str(), items[2].label, items[2].prediction), (3, "item 2", 2, 7));
}

#[test]
fn a_failure_is_a_row_and_the_run_goes_on() {
    let micro = Micro::new();
    micro.write("micro", &MICRO.replacen("keep = true", "keep = true\nbroken = [2]", 1));
    assert!(!micro.run("micro", "plain", None).unwrap());
    let row = micro.row("n2-s0", "worth");
    assert_eq!((row.status, row.error.as_deref()), (Status::Failed, Some("a number | is odd\n")));
    assert_eq!(micro.ledger().rows.len(), 6 * 4 + 2);
    // What failed is tried again, and once it works its row is the result's.
    micro.write("micro", MICRO);
    let again = Micro::made(|| assert!(micro.run("micro", "plain", None).unwrap()));
    assert_eq!(again, ["n2-s0", "n2-s1"]);
    assert_eq!(micro.row("n2-s0", "worth").status, Status::Ok);
}

#[test]
fn what_is_not_at_hand_skips_the_cell() {
    let micro = Micro::new();
    assert!(!micro.run("micro", "absent", Some("n1-s2")).unwrap());
    let ledger = micro.ledger();
    assert_eq!((ledger.rows[0].status, ledger.rows[0].id().as_str()), (Status::Skipped, "micro/absent/n1-s2#worth"));
}

#[test]
fn borrowed_cells_are_read_and_never_made() {
    let micro = Micro::new();
    // Seed 1 is the lender's, and not there yet; seed 5 is its own.
    let made = Micro::made(|| assert!(micro.run("micro", "more", None).unwrap()));
    assert_eq!(made, ["n1-s5", "n2-s5", "n3-s5", "n4-s5"]);
    micro.run("micro", "plain", Some("n4-s1")).unwrap();
    assert_eq!(Micro::made(|| assert!(micro.run("micro", "more", None).unwrap())), [""; 0]);
    assert!(!micro.path("results/rows/micro/more/n4-s1.parquet").exists());
    let section = micro.open("micro").unwrap().section().unwrap();
    let sandglass_study::Part::Table(table) = &section.parts[0] else { panic!() };
    let worth = |at: usize| (table.rows[at][0].text.as_str(), table.rows[at][1].text.as_str());
    // Eight of plain, four of absent, then those of more.
    assert_eq!([worth(12), worth(15), worth(16)], [("n1-s1", "-"), ("n4-s1", "401"), ("n1-s5", "105")]);
    assert_eq!(section.problems, [""; 0]);
}

#[test]
fn another_study_lends_too() {
    let micro = Micro::new();
    let text = MICRO.replace("name = \"micro\"", "name = \"other\"").replace(
        "minutes = 1\n[profile.setup]\nseeds = [0, 1]\nkeep = true",
        "minutes = 1\nborrow = \"micro/plain\"\n[profile.setup]\nseeds = [0]",
    );
    let text = text.replace(
        "borrow = \"micro/plain\"\n[profile.setup]\nseeds = [1, 5]",
        "borrow = \"other/plain\"\n[profile.setup]\nseeds = [0]",
    );
    micro.write("other", &text);
    micro.run("micro", "plain", None).unwrap();
    for profile in ["plain", "more"] {
        assert_eq!(Micro::made(|| assert!(micro.run("other", profile, None).unwrap())), [""; 0], "{profile}");
    }
}

#[test]
fn a_circle_of_borrowing_is_refused() {
    let micro = Micro::new();
    micro.write("micro", &MICRO.replacen("minutes = 1", "minutes = 1\nborrow = \"micro/more\"", 1));
    let error = micro.open("micro").err().unwrap().to_string();
    assert!(error.contains("borrows in a circle"), "{error}");
    for (borrow, reason) in [("micro", "use \"study/profile\""), ("micro/x", "no such profile"), ("x/y", "not found")] {
        micro.write("micro", &MICRO.replace("micro/plain", borrow));
        let error = micro.open("micro").err().unwrap().to_string();
        assert!(error.contains(reason), "{borrow}: {error}");
    }
}

/// A second process, in the middle of the first one's work.
#[test]
fn a_cell_that_another_process_works_on_is_busy_and_leaves_no_row() {
    let micro = Rc::new(Micro::new());
    let other = micro.clone();
    let during = move |cell: &str| {
        let during = DURING.take();
        let (all, one) = (other.run("micro", "plain", Some(cell)), other.ledger());
        assert!(all.unwrap(), "busy is no failure");
        assert!(one.cell("micro", "plain", cell).next().is_none(), "busy leaves no row");
        DURING.set(during);
    };
    DURING.set(Some(Rc::new(during)));
    let made = Micro::made(|| assert!(micro.run("micro", "plain", None).unwrap()));
    DURING.take();
    assert_eq!(made.len(), 8, "each once: {made:?}");
}

#[test]
fn two_processes_on_one_profile_write_every_row_once() {
    let micro = Micro::new();
    let root = Arc::new(micro.folder);
    let start = Arc::new(Barrier::new(2));
    let threads = [0, 1].map(|_| {
        let (root, start) = (root.clone(), start.clone());
        std::thread::spawn(move || {
            let entry = [common::NUMBERS];
            let shelf = sandglass_study::Shelf::new(&entry, sandglass_study::Build::new("c0ffee", b""), None);
            let study = shelf.find(root.path().join("experiments/micro").to_str().unwrap()).unwrap();
            start.wait();
            let args = sandglass_study::RunArgs { profile: None, cell: None, again: false, threads: None };
            study.run(&args).unwrap();
            common::MADE.take()
        })
    });
    let mut made: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    made.sort();
    assert_eq!(made, ["n1-s0", "n1-s1", "n2-s0", "n2-s1", "n3-s0", "n3-s1", "n4-s0", "n4-s1"]);
    let project = Project::around(root.path()).unwrap();
    let ledger = sandglass_ledger::Ledger::read(&project.rows());
    assert_eq!((ledger.rows.len(), ledger.problems.len()), (8 * 4, 0));
    assert_eq!(Manifest::read(&project).unwrap().checkpoint.len(), 8);
}

#[test]
fn kept_files_are_listed_after_each_cell_and_compared() {
    let micro = Micro::new();
    let project = Project::around(micro.folder.path()).unwrap();
    micro.run("micro", "plain", Some("n3-s0")).unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (writer, beside) = (seen.clone(), project.clone());
    let count = move |_: &str| writer.borrow_mut().push(Manifest::read(&beside).unwrap().checkpoint.len());
    DURING.set(Some(Rc::new(count)));
    micro.run("micro", "plain", None).unwrap();
    DURING.take();
    assert_eq!(*seen.borrow(), [1, 2, 3, 4, 5, 6, 7]);
    let listed = Manifest::read(&project).unwrap();
    assert_eq!(listed.checkpoint.len(), 8);
    for which in [Verify::None, Verify::Smallest, Verify::All] {
        assert_eq!(verify(&micro, which), Ok(()));
    }

    let path = project.checkpoints().join("micro/plain/n4-s0.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"401").unwrap();
    assert!(verify(&micro, Verify::None).unwrap_err().contains("plain/n4-s0: "), "found without measuring");
    std::fs::remove_file(&path).unwrap();
    assert!(verify(&micro, Verify::None).unwrap_err().contains("is missing"));
    micro.run("micro", "plain", None).unwrap();
    assert!(verify(&micro, Verify::None).unwrap_err().contains("is missing"), "a run does not forget what was listed");
    std::fs::write(&path, bytes).unwrap();

    // A file on the hub is asked for only where it is measured again, and no network is no disagreement.
    let manifest = project.checkpoints().join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let entry = "file = \"micro/plain/n4-s0.safetensors\"\n";
    let hub = "[checkpoint.hub]\nrepo = \"a/b\"\nrevision = \"c\"\nfile = \"d\"\n";
    std::fs::write(&manifest, text.replace(entry, hub)).unwrap();
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    for which in [Verify::None, Verify::All] {
        assert_eq!(verify(&micro, which), Ok(()));
    }
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    std::fs::write(&manifest, text).unwrap();

    // What is no longer asked for leaves the list; its row stays.
    micro.write("micro", &MICRO.replace("keep = true", ""));
    micro.run("micro", "plain", None).unwrap();
    assert_eq!(Manifest::read(&project).unwrap().checkpoint, []);
    assert_eq!((verify(&micro, Verify::All), micro.ledger().rows.len()), (Ok(()), 8 * 4));
    // Asked for again and at hand, it is listed again; asked for and gone, it is missed.
    micro.write("micro", MICRO);
    std::fs::remove_file(&path).unwrap();
    micro.run("micro", "plain", None).unwrap();
    assert_eq!(Manifest::read(&project).unwrap().checkpoint.len(), 7);
    assert!(verify(&micro, Verify::None).unwrap_err().contains("n4-s0: its checkpoint is to be kept"));
}

#[test]
fn a_row_that_the_file_does_not_support_is_found() {
    let micro = Micro::new();
    micro.run("micro", "plain", None).unwrap();
    let change = |cell: &str, change: fn(Row) -> Row| {
        let ledger = micro.ledger();
        let rows: Vec<Row> = ledger.cell("micro", "plain", cell).cloned().map(change).collect();
        write_cell(&Project::around(micro.folder.path()).unwrap().rows(), &rows).unwrap();
    };
    change("n1-s0", |row| Row { value: row.value.map(|value| value + 1.0), ..row });
    assert_eq!(verify(&micro, Verify::None), Ok(()));
    let error = verify(&micro, Verify::Smallest).unwrap_err();
    assert!(error.contains("plain/n1-s0: digit is 1 now, 2 in the row"), "{error}");
    change("n1-s0", |row| Row { value: row.value.map(|value| value - 1.0), ..row });
    // Of each kind the cheapest alone, and of its seeds the first.
    change("n1-s1", |row| Row { value: row.value.map(|value| value + 1.0), ..row });
    assert_eq!(verify(&micro, Verify::Smallest), Ok(()));
    assert!(verify(&micro, Verify::All).is_err());
    change("n1-s1", |row| Row { engine: Some("another".into()), ..row });
    assert_eq!(verify(&micro, Verify::All), Ok(()), "an engine that is not here is no disagreement");
}

#[test]
fn times_are_never_compared() {
    let micro = Micro::new();
    micro.write("micro", &MICRO.replacen("keep = true", "keep = true\nonce = true", 1));
    micro.run("micro", "plain", None).unwrap();
    assert!(micro.row("n2-s0", "time").once);
    assert_eq!(verify(&micro, Verify::All), Ok(()));
}

#[test]
fn an_unknown_cell_or_profile_is_one_clear_error() {
    let micro = Micro::new();
    assert!(matches!(micro.run("micro", "plain", Some("x")), Err(StudyError::Cell { .. })));
    let error = micro.run("micro", "plane", None).unwrap_err().to_string();
    assert_eq!(error, "study micro has no profile \"plane\"; it has plain, absent, more");
}

#[test]
fn a_new_definition_makes_rows_stale_and_says_so() {
    let micro = Micro::new();
    micro.run("micro", "plain", Some("n1-s0")).unwrap();
    let ledger = micro.ledger();
    let rows: Vec<Row> =
        ledger.rows.iter().cloned().map(|row| Row { cell_hash: "of another definition".into(), ..row }).collect();
    let project = Project::around(micro.folder.path()).unwrap();
    write_cell(&project.rows(), &rows).unwrap();
    let stranger = Row { cell: "n9-s0".into(), seed: 9, ..rows[0].clone() };
    write_cell(&project.rows(), &[stranger]).unwrap();
    let section = micro.open("micro").unwrap().section().unwrap();
    assert_eq!(section.problems.len(), 2, "{:?}", section.problems);
    assert!(section.problems[0].contains("n1-s0") && section.problems[0].contains("stale"));
    assert!(section.problems[1].contains("n9-s0") && section.problems[1].contains("no such cell"));
    assert_eq!(Micro::made(|| assert!(micro.run("micro", "plain", Some("n1-s0")).unwrap())), ["n1-s0"]);
}

/// What was measured elsewhere is not undone by a machine that has not the data.
#[test]
fn an_attempt_that_is_skipped_leaves_older_rows() {
    let micro = Micro::new();
    micro.run("micro", "plain", Some("n1-s0")).unwrap();
    let project = Project::around(micro.folder.path()).unwrap();
    let older = |row: &Row| Row { cell_hash: "of another definition".into(), ..row.clone() };
    write_cell(&project.rows(), &micro.ledger().rows.iter().map(older).collect::<Vec<_>>()).unwrap();
    let predictions = micro.path("results/predictions/micro/plain/n1-s0.parquet");
    micro.write("micro", &MICRO.replacen("keep = true", "keep = true\nabsent = true", 1));
    assert!(!micro.run("micro", "plain", Some("n1-s0")).unwrap());
    assert_eq!((micro.row("n1-s0", "worth").value, predictions.is_file()), (Some(100.0), true));
}

/// Rows of a checkpoint that has been trained anew are no longer those of what they name.
#[test]
fn rows_of_an_older_checkpoint_are_stale() {
    let micro = Micro::new();
    micro.run("micro", "plain", None).unwrap();
    let text = MICRO.replace("name = \"micro\"", "name = \"other\"").replace("borrow = \"micro/plain\"\n", "");
    micro.write("other", &text.replacen("keep = true", "on = \"micro/plain\"", 1));
    let stale = || micro.open("other").unwrap().section().unwrap().problems;
    let made = || Micro::made(|| assert!(micro.run("other", "plain", None).unwrap())).len();
    assert_eq!((made(), made(), stale()), (8, 0, Vec::new()));
    assert_eq!(verify_of(&micro, "other", Verify::All), Ok(()));

    // The lender's cell is made anew: another file, and the row of it.
    let kept = micro.path("results/checkpoints/micro/plain/n3-s1.safetensors");
    std::fs::write(&kept, "3").unwrap();
    let error = verify_of(&micro, "other", Verify::All).unwrap_err();
    assert!(error.contains("is not the file of row other/plain/n3-s1#"), "{error}");
    let hash = sandglass_files::sha256_file(&kept).unwrap();
    let anew = |row: &Row| Row { checkpoint_hash: Some(hash.clone()), ..row.clone() };
    let ledger = micro.ledger();
    let rows: Vec<Row> = ledger.cell("micro", "plain", "n3-s1").map(anew).collect();
    write_cell(&Project::around(micro.folder.path()).unwrap().rows(), &rows).unwrap();
    assert!(stale().len() == 1 && stale()[0].contains("other/plain/n3-s1#") && stale()[0].contains("stale"));
    assert_eq!((made(), made(), stale()), (1, 0, Vec::new()));
}

/// A file that this program cannot read may be a newer one's.
#[test]
fn rows_that_cannot_be_read_are_left_alone() {
    let micro = Micro::new();
    micro.run("micro", "plain", None).unwrap();
    let path = micro.path("results/rows/micro/plain/n2-s0.parquet");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..100]).unwrap();
    let made = Micro::made(|| assert!(!micro.run("micro", "plain", None).unwrap(), "it is said by the exit code"));
    assert_eq!((made, std::fs::read(&path).unwrap().len()), (vec![], 100));
}

/// A process that has run for long must not write over the rows of a newer definition.
#[test]
fn a_study_that_was_changed_meanwhile_stops_the_run() {
    let micro = Rc::new(Micro::new());
    let other = micro.clone();
    DURING.set(Some(Rc::new(move |cell: &str| {
        if cell == "n2-s0" {
            other.write(
                "micro",
                &MICRO.replacen("seeds = [0, 1]", "seeds = [0]", 1).replace("borrow = \"micro/plain\"", ""),
            );
        }
    })));
    let mut outcome = Ok(true);
    let made = Micro::made(|| outcome = micro.run("micro", "plain", None));
    DURING.take();
    assert_eq!(made, ["n1-s0", "n2-s0", "n3-s0", "n4-s0"], "what is still defined alike goes on");
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("was changed since this run began: n1-s1"), "{error}");
}

#[test]
fn predictions_are_the_checkpoints_or_are_found_out() {
    let micro = Micro::new();
    micro.run("micro", "plain", None).unwrap();
    let folder = micro.path("results/predictions/micro/plain");
    assert_eq!(verify(&micro, Verify::All), Ok(()));
    std::fs::copy(folder.join("n2-s0.parquet"), folder.join("n1-s0.parquet")).unwrap();
    assert!(verify(&micro, Verify::Smallest).unwrap_err().contains("of another checkpoint than the rows"));
    std::fs::remove_file(folder.join("n1-s0.parquet")).unwrap();
    assert!(verify(&micro, Verify::Smallest).unwrap_err().contains("n1-s0.parquet"));
    // A cell that fails takes its old predictions with it.
    micro.write("micro", &MICRO.replacen("keep = true", "keep = true\nbroken = [2]", 1));
    std::fs::remove_file(micro.path("results/rows/micro/plain/n2-s0.parquet")).unwrap();
    micro.run("micro", "plain", Some("n2-s0")).unwrap();
    assert!(!folder.join("n2-s0.parquet").exists());
}

#[test]
fn studies_that_borrow_from_each_other_are_refused() {
    let micro = Micro::new();
    let lend = |from: &str| MICRO.replace("borrow = \"micro/plain\"", &format!("borrow = \"{from}\""));
    micro.write("micro", &lend("other/plain"));
    micro.write("other", &lend("micro/plain").replace("name = \"micro\"", "name = \"other\""));
    let error = micro.open("micro").err().unwrap().to_string();
    assert!(error.contains("the studies micro, other, micro borrow from each other in a circle"), "{error}");
}

#[test]
fn all_studies_come_in_the_lists_order() {
    let micro = Micro::new();
    micro.write("other", &MICRO.replace("name = \"micro\"", "name = \"other\"").replace("micro/plain", "other/plain"));
    micro.write(
        "a-mine",
        &MICRO
            .replace("name = \"micro\"", "name = \"a-mine\"\nmethod = \"micro\"")
            .replace("micro/plain", "a-mine/plain"),
    );
    let entries = [common::OTHER, common::NUMBERS];
    let shelf = sandglass_study::Shelf::new(&entries, sandglass_study::Build::new("c0ffee", b""), None);
    let studies = shelf.all(&Project::around(micro.folder.path()).unwrap()).unwrap();
    let names: Vec<&str> = studies.iter().map(|study| study.name()).collect();
    assert_eq!(names, ["other", "micro", "a-mine"]);
    micro.run("micro", "plain", Some("n1-s0")).unwrap();
    let studies = shelf.all(&Project::around(micro.folder.path()).unwrap()).unwrap();
    assert_eq!(studies[0].strangers(&["other"]), ["micro: rows of a study that is not here"]);
}
