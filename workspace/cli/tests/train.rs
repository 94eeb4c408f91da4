//! The real binary: killed, stopped, resumed, on another number of threads and instruction set, refused.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const RECIPE: &str = "epochs = 3\nbatch = 8\nlr = 0.05\ndropout = 0.2\nlabel_smoothing = 0.1\nclip_grad_norm = 5.0\n\
    weight_decay = 1e-4\n[optimizer.sgd]\nmomentum = 0.9\nnesterov = true\n\
    [schedule.linear_warmup_cosine]\nwarmup_epochs = 1\n[ema]\ndecay = 0.9\nform = \"tf_warmup\"\n[augment]\nflip = true\n";

const COMMAND: &str = "train mobilenext --width 0.1 --input 16 --save-every 0 --threads 2";

/// A folder with a recipe, and with two classes of 32 training images, which are few images many times.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::write(place.path("recipe.toml"), RECIPE).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
        for (class, files) in [("a", ["colour.jpg", "grey.jpg"]), ("b", ["half.jpg", "full.jpg"])] {
            for (part, copies) in [("train", 16), ("val", 2)] {
                let folder = place.path("data").join(part).join(class);
                fs::create_dir_all(&folder).unwrap();
                for (copy, file) in (0..copies).flat_map(|copy| files.map(|file| (copy, file))) {
                    fs::copy(fixtures.join(file), folder.join(format!("{copy}-{file}"))).unwrap();
                }
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandglass"));
        command.args(COMMAND.split(' ')).arg("--data").arg(self.path("data"));
        command.arg("--recipe").arg(self.path("recipe.toml")).arg("--out").arg(self.path(out)).args(more);
        command
    }

    fn run(&self, out: &str, more: &[&str]) -> Output {
        self.command(out, more).output().unwrap()
    }

    fn spawn(&self, out: &str, more: &[&str]) -> Child {
        self.command(out, more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn model(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("model.safetensors")).unwrap()
    }
}

fn wait_for(path: &Path) {
    wait_until(|| path.exists(), path);
}

fn wait_until(has_come: impl Fn() -> bool, path: &Path) {
    for _ in 0..60_000 {
        if has_come() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} does not come", path.display());
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("sandglass:")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    text
}

fn epochs(log: &Path) -> Vec<u64> {
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["epoch"].as_u64().unwrap();
    fs::read_to_string(log).unwrap().lines().map(row).collect()
}

#[test]
fn kills_threads_and_paths_change_no_byte() {
    let place = Place::new();
    ok(&place.run("straight", &["--threads", "1"]));
    let straight = place.model("straight");

    // Killed as soon as it has saved anything new, wherever it is by then.
    let state = place.path("killed").join("state.safetensors");
    for threads in ["2", "1", "2"] {
        let before = fs::read(&state).unwrap_or_default();
        let mut child = place.spawn("killed", &["--threads", threads]);
        wait_until(|| fs::read(&state).is_ok_and(|now| now != before), &state);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it ended before it was killed");
        assert!(!place.path("killed").join("model.safetensors").exists());
    }
    ok(&place.run("killed", &["--threads", "2"]));
    assert!(place.model("killed") == straight);
    assert_eq!(epochs(&place.path("killed").join("log.jsonl")), [1, 2, 3]);

    ok(&place.command("portable", &[]).env("SANDGLASS_ISA", "portable").output().unwrap());
    assert!(place.model("portable") == straight, "portable");

    let again = place.run("straight", &[]);
    ok(&again);
    assert!(String::from_utf8_lossy(&again.stdout).contains("finished before"));
    ok(&place.run("seed", &["--seed", "1"]));
    assert!(place.model("seed") != straight, "the seed does nothing");
}

#[test]
fn signals_save_and_exit_with_their_codes() {
    let place = Place::new();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = place.spawn(signal, &["--epochs", "1000"]);
        wait_for(&place.path(signal).join("state.safetensors"));
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("saved; the same command resumes"), "{text}");
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint() {
    let place = Place::new();
    let steep = RECIPE.replace("lr = 0.05", "lr = 1e30").replace("clip_grad_norm = 5.0\n", "");
    fs::write(place.path("recipe.toml"), steep).unwrap();
    let text = error(&place.run("steep", &[]));
    assert!(text.contains("epoch 1, step") && text.contains("not finite"), "{text}");
    assert!(!place.path("steep").join("model.safetensors").exists());
    let bytes = fs::read(place.path("steep").join("state.safetensors")).unwrap();
    let state = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.chunks(4).all(|four| f32::from_le_bytes(four.try_into().unwrap()).is_finite());
    assert!(state.tensors().iter().all(|(_, view)| floats(view.data())));
}

#[test]
fn another_run_is_not_overwritten_and_damage_is_told() {
    let place = Place::new();
    ok(&place.run("out", &["--epochs", "1"]));
    let model = place.model("out");
    for (more, what) in [
        (["--seed", "5"], "seed"),
        (["--batch", "4"], "batch"),
        (["--epochs", "2"], "epochs"),
        (["--stem-stride", "1"], "stem stride"),
    ] {
        let text = error(&place.run("out", &[&["--epochs", "1"], &more[..]].concat()));
        assert!(text.contains("another run") && text.contains(what), "{text}");
    }
    assert!(place.model("out") == model);

    // The newest cut: the one before serves, and the end is the same.
    let state = place.path("out").join("state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(place.path("out").join("model.safetensors")).unwrap();
    ok(&place.run("out", &["--epochs", "1"]));
    assert!(place.model("out") == model);

    for name in ["state.safetensors", "state.previous.safetensors"] {
        fs::write(place.path("out").join(name), "rubbish").unwrap();
    }
    assert!(error(&place.run("out", &["--epochs", "1"])).contains("damaged"));
}

#[test]
fn bad_arguments_are_one_line() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    for (out, more, what) in [
        ("file", &[][..], "choose a folder"),
        ("a", &["--batch", "5000"], "do not fill one batch"),
        ("a", &["--batch", "0"], "batch"),
        ("a", &["--epochs", "0"], "epochs"),
        ("a", &["--threads", "0"], "threads"),
        ("a", &["--stem-stride", "3"], "stride"),
        ("a", &["--input", "0"], "0 x 0 pixels: use 1 to"),
        ("a", &["--input", "100000"], "100000 x 100000 pixels: use 1 to"),
        ("a", &["--classes", "1"], "classes"),
        ("a", &["--dev", "64"], "development split"),
        ("a", &["--dev", "0"], "a development split of 0 images"),
        ("a", &["--save-every=-1"], "--save-every"),
    ] {
        let text = error(&place.run(out, more));
        assert!(text.contains(what), "{more:?}: {text}");
        assert!(text.matches("(os error").count() < 2, "a cause is told twice: {text}");
    }
    let missing = ["train", "mobilenext", "--out", "a", "--recipe", "nowhere.toml"];
    let text = error(&Command::new(env!("CARGO_BIN_EXE_sandglass")).args(missing).output().unwrap());
    assert!(text.contains("neither a file nor one of"), "{text}");
    fs::write(place.path("recipe.toml"), RECIPE.replace("dropout", "dropuot")).unwrap();
    let text = error(&place.run("a", &[]));
    assert!(
        text.contains("recipe.toml: line 4: unknown field `dropuot`") && text.contains("did you mean `dropout`?"),
        "{text}"
    );
}

#[test]
fn what_was_read_is_said_and_a_missing_part_too() {
    let place = Place::new();
    fs::write(place.path("data/train/a/notes.txt"), "").unwrap();
    let output = place.run("out", &["--epochs", "1", "--json"]);
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(
            "training: 64 images of 2 classes, 1 file passed over (1 txt), 60 the same file as an earlier one\n"
        ),
        "{text}"
    );
    assert!(text.contains("validation: 8 images of 2 classes, 4 the same file as an earlier one\n"), "{text}");
    assert!(text.contains("8 of the images that are evaluated are training images too\n"), "{text}");
    assert!(text.contains("training part: train/\n") && text.contains("validation part: val/\n"), "{text}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["training"]["images"], &said["training"]["passed_over"]["txt"]), (&64.into(), &1.into()));
    let without = ["training", "evaluated"].map(|set| said[set]["classes_without_image"].clone());
    assert_eq!(without, [serde_json::json!([]), serde_json::json!([])]);
    assert_eq!((&said["evaluated"]["images"], &said["evaluated"]["classes"]), (&8.into(), &2.into()));
    assert_eq!((&said["training"]["part"], &said["evaluated"]["part"]), (&"train/".into(), &"val/".into()));

    fs::remove_dir_all(place.path("data/val")).unwrap();
    let output = place.run("alone", &["--epochs", "1"]);
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("has no validation part: it has train/ but no val/; nothing is evaluated"), "{text}");
    assert!(!fs::read_to_string(place.path("alone/log.jsonl")).unwrap().contains("\"eval_top1\":1"));
}

/// The folder's name stays, and rows of the log would look as if they were of the same images.
#[test]
fn another_validation_part_under_the_same_name_is_said() {
    let place = Place::new();
    let more = ["--epochs", "1", "--json"];
    let said = |output: &Output| {
        ok(output);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (json["epochs_evaluated_on_others"].clone(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(said(&place.run("out", &more)).0, serde_json::json!([]));
    assert_eq!(said(&place.run("out", &more)).0, serde_json::json!([]));
    fs::remove_file(place.path("data/val/a/0-grey.jpg")).unwrap();
    let (epochs, text) = said(&place.run("out", &more));
    assert_eq!(epochs, serde_json::json!([1]));
    assert!(text.contains("epochs 1 to 1 were evaluated on other images"), "{text}");
}

/// Labels that are numbers say no more classes than they go up to.
#[test]
fn the_card_names_all_outputs() {
    let place = Place::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures/parquet/labels/int64.parquet");
    let arguments = ["--data", data.to_str().unwrap(), "--classes", "7", "--batch", "2", "--epochs", "1"];
    ok(&place.run("out", &arguments));
    let card = fs::read_to_string(place.path("out/model.toml")).unwrap();
    assert!(card.contains("\"0\"") && card.contains("\"6\"") && !card.contains("\"7\""), "{card}");
}

#[test]
fn a_recipe_that_is_no_utf8_is_called_what_it_is() {
    let place = Place::new();
    let utf16: Vec<u8> = RECIPE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(place.path("recipe.toml"), [b"\xff\xfe", &utf16[..]].concat()).unwrap();
    assert!(error(&place.run("a", &[])).contains("recipe.toml: it is UTF-16 text"));
    fs::write(place.path("recipe.toml"), [RECIPE.as_bytes(), b"# d\xe9j\xe0"].concat()).unwrap();
    assert!(error(&place.run("a", &[])).contains("is no UTF-8, as in Latin-1 text"));
}

/// Nor is a pipe waited for in the place of a recipe, deaf to signals.
#[test]
fn a_recipe_that_is_no_file_is_refused_at_once() {
    let place = Place::new();
    fs::remove_file(place.path("recipe.toml")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("recipe.toml")).status().unwrap().success());
    assert!(error(&place.run("a", &[])).contains("recipe.toml: it is a named pipe, not a file"));
}

#[test]
fn a_closed_output_is_no_error() {
    let place = Place::new();
    for command in ["cost --all --json", "show mobilenetv2"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sandglass"));
        let mut child = child.args(command.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    }
    let mut child = place.command("a", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert!(place.path("a").join("model.safetensors").exists());
}
