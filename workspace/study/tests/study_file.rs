//! `study.toml`: mistakes are answered with line and near-miss, before anything is run.

mod common;

use common::{MICRO, Micro};

fn error(text: &str) -> String {
    let micro = Micro::new();
    micro.write("micro", text);
    let error = micro.open("micro").err().expect("refused").to_string();
    error.replace(&format!("{}/experiments/micro/", micro.folder.path().display()), "")
}

#[test]
fn unknown_keys_are_refused_with_line_and_near_miss() {
    let message = error(&MICRO.replacen("seeds =", "seed =", 1));
    assert!(message.starts_with("study.toml:15: unknown field `seed`"), "{message}");
    assert!(message.ends_with("did you mean `seeds`?"), "{message}");
    let message = error(&MICRO.replacen("sizes =", "size =", 1));
    assert!(message.starts_with("study.toml:8: ") && message.ends_with("did you mean `sizes`?"), "{message}");
    let message = error(&format!("question2 = 1\n{MICRO}"));
    assert!(message.starts_with("study.toml:1: unknown field `question2`"), "{message}");
    assert!(error("name = = 1").starts_with("study.toml:1: "));
}

/// What would keep a row from being written is refused when the file is read.
#[test]
fn what_no_row_could_be_written_of_is_refused_at_once() {
    let message = error(&MICRO.replacen("name = \"plain\"", "name = \"ImageNet 100\"", 1));
    assert!(message.contains("profile \"ImageNet 100\": use letters, digits"), "{message}");
    let message = error(&MICRO.replacen("name = \"absent\"", "name = \"plain\"", 1));
    assert!(message.contains("profile plain occurs twice"), "{message}");
    let message = error(&MICRO.replacen("sizes = [1, 2", "sizes = [1, 1, 2", 1));
    assert!(message.contains("profile plain: cell n1-s0 occurs twice"), "{message}");
    let message = error(&MICRO.replacen("seeds = [0, 1]", "seeds = [0, 0]", 1));
    assert!(message.contains("profile plain: cell n1-s0 occurs twice"), "{message}");
    let message = error(&MICRO.replacen("seeds = [0, 1]", "seeds = []", 1));
    assert!(message.contains("profile plain: has no cells"), "{message}");
    // A copy that keeps the name would share rows with the original.
    let micro = Micro::new();
    micro.write("copy", MICRO);
    let message = micro.open("copy").err().unwrap().to_string();
    assert!(message.contains("name = \"micro\", but its folder is \"copy\""), "{message}");
    let message = error(&MICRO.replacen("seeds = [1, 5]", "seeds = [5]", 1));
    assert!(message.contains("it has no cell that is defined as one of these"), "{message}");
    let message = error(&MICRO.replacen("minutes = 1", "minutes = -1", 1));
    assert!(message.contains("profile plain: minutes must be a number from 0"), "{message}");
}

#[test]
fn a_method_is_named_or_called_as_the_study() {
    let micro = Micro::new();
    micro.write(
        "mine",
        &MICRO
            .replacen("name = \"micro\"", "name = \"mine\"\nmethod = \"other\"", 1)
            .replace("micro/plain", "mine/plain"),
    );
    assert_eq!(micro.open("mine").unwrap().name(), "mine");
    micro.write("mine", &MICRO.replacen("name = \"micro\"", "name = \"mine\"", 1).replace("micro/plain", "mine/plain"));
    let message = micro.open("mine").err().unwrap().to_string();
    assert!(message.contains("no method is called \"mine\"; there are micro, other"), "{message}");
}
