//! `[profile.setup]`: which cells it makes, and what it refuses.

use sandglass_files::from_toml;
use sandglass_lab::{Classifier, Compared, ImageSetup, Recipes, Variant, Work};
use sandglass_study::hash;
use sandglass_train::Recipe;

const SETUP: &str =
    "data = \"images\"\ninput = 128\nclasses = 10\ncrop_pct = 0.875\nrecipe = \"tiny-imagenet\"\nseeds = [0, 1]\n";

fn cells(text: &str) -> Result<Vec<Classifier>, String> {
    let setup: ImageSetup = from_toml(text).map_err(|error| error.to_string())?;
    let networks =
        ["mobilenetv2", "mobilenext"].map(|network| Variant { network: network.into(), paper: network.into() });
    let compared = Compared { networks: &networks, widths: &[1.0, 0.35], recipes: &Recipes::new() };
    setup.cells(compared).map_err(|error| error.to_string())
}

fn ids(text: &str) -> Vec<String> {
    cells(text).unwrap().iter().map(ToString::to_string).collect()
}

fn recipe(cell: &Classifier) -> &Recipe {
    let Work::Train(recipe) = &cell.work else { panic!("{cell} is not trained") };
    recipe
}

#[test]
fn an_axis_at_its_default_does_not_show_in_an_id() {
    let expected = ["mobilenetv2-w1.0-s0", "mobilenext-w1.0-s0", "mobilenetv2-w0.35-s0", "mobilenext-w0.35-s0"];
    assert_eq!(ids(SETUP)[..4], expected);
    let inputs = SETUP.to_owned() + "inputs = [96, 128]\nwidths = [0.35]\n";
    let expected =
        ["mobilenetv2-w0.35-i96-s0", "mobilenext-w0.35-i96-s0", "mobilenetv2-w0.35-s0", "mobilenext-w0.35-s0"];
    assert_eq!(ids(&inputs)[..4], expected);
    let resizes: Vec<_> = cells(&inputs).unwrap().iter().map(|cell| cell.evaluation.resize).collect();
    assert_eq!(resizes[1..3], [Some(109), Some(146)]);
    // So a profile that borrows finds the same cell.
    assert_eq!(hash(&cells(&inputs).unwrap()[2]).unwrap(), hash(&cells(SETUP).unwrap()[2]).unwrap());
}

/// Every key that came after the foundation is left out of the definition while it is at its default.
#[test]
fn later_keys_are_part_of_a_definition_only_where_they_are_used() {
    let of = |text: &str| hash(&cells(text).unwrap()[0]).unwrap();
    let plain = "data = \"embedded\"\ninput = 32\nclasses = 10\nrecipe = \"smoke\"\nseeds = [0]\n";
    let definition = serde_json::to_value(&cells(plain).unwrap()[0]).unwrap();
    let keys: Vec<&String> = definition.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["network", "width", "classes", "stem_stride", "input", "data", "seed", "work"]);
    for same in
        ["holdout = 0", "drop_copies = false", "evaluate_every = 5", "keep = [{ seeds = \"all\" }]", "[evaluation]"]
    {
        assert_eq!(of(&format!("{plain}{same}\n")), of(plain), "{same}");
    }
    for other in
        ["holdout = 10", "drop_copies = true", "[evaluation]\nresize = 40", "[evaluation]\nmean = [0.5, 0.5, 0.5]"]
    {
        let text = plain.replace("\"smoke\"", "\"tiny-imagenet\"");
        assert_ne!(of(&format!("{text}{other}\n")), of(&text), "{other}");
    }
}

#[test]
fn variations_change_what_they_name_and_nothing_else() {
    let text = SETUP.to_owned()
        + "widths = [0.35]\nvary = [{ name = \"middle\" }, { name = \"small\", set = { lr = 0.3, augment = { smallest_area = 0.08 } } }]\n";
    let cells = cells(&text).unwrap();
    let expected = ["mobilenetv2-w0.35-s0-middle", "mobilenext-w0.35-s0-middle", "mobilenetv2-w0.35-s0-small"];
    assert_eq!(ids(&text)[..3], expected);
    let (middle, small) = (recipe(&cells[0]), recipe(&cells[2]));
    let base = Recipe::from_toml(Recipe::built_in("tiny-imagenet").unwrap()).unwrap();
    assert_eq!(*middle, base);
    let mut expected = base;
    (expected.lr, expected.augment.smallest_area) = (0.3, 0.08);
    assert_eq!(*small, expected);
    let mistyped = text.replace("lr = 0.3", "lrr = 0.3");
    assert!(self::cells(&mistyped).unwrap_err().contains("variation small of recipe tiny-imagenet"));

    // What the scale sets holds for each of them, unless they say otherwise.
    let set = self::cells(&(text + "set = { epochs = 3, lr = 0.7 }\n")).unwrap();
    let (middle, small) = (recipe(&set[0]), recipe(&set[2]));
    assert_eq!((middle.epochs, middle.lr, small.epochs, small.lr), (3, 0.7, 3, 0.3));
    let mistyped = SETUP.to_owned() + "set = { epoch = 3 }\n";
    assert!(self::cells(&mistyped).unwrap_err().contains("set, recipe tiny-imagenet"));
}

#[test]
fn each_family_may_have_its_own_recipe_and_each_width_its_seeds() {
    let own = SETUP
        .replace("recipe =", "own_recipe = { mobilenetv2 = \"tiny-imagenet\", mobilenext = \"imagenet\" } # recipe =");
    let epochs: Vec<u64> = cells(&own).unwrap().iter().map(|cell| recipe(cell).epochs).collect();
    assert_eq!(epochs[..4], [60, 200, 60, 200]);
    let partial = own.replace(", mobilenext = \"imagenet\"", "");
    assert!(cells(&partial).unwrap_err().contains("own_recipe has none for mobilenext"));

    let text = SETUP.to_owned()
        + "seeds_at = [{ widths = [0.35], seeds = [3] }]\nkeep = [{ seeds = \"first\" }, { seeds = \"all\", widths = [1.0] }]\n";
    let setup: ImageSetup = from_toml(&text).unwrap();
    let cells = cells(&text).unwrap();
    let kept: Vec<(String, bool)> = cells.iter().map(|cell| (cell.to_string(), setup.keeps(cell))).collect();
    assert!(
        kept.contains(&("mobilenext-w0.35-s3".into(), true)) && kept.contains(&("mobilenext-w1.0-s1".into(), true))
    );
    assert_eq!(kept.len(), 2 * 3);
    let setup: ImageSetup = from_toml(&text.replace("[1.0]", "[0.5]")).unwrap();
    assert!(cells.iter().filter(|cell| cell.seed == 1).all(|cell| !setup.keeps(cell)));
}

#[test]
fn contradictions_are_named() {
    for (from, to, reason) in [
        ("recipe = \"tiny-imagenet\"", "recipe = \"tiny\"", "no recipe \"tiny\"; there are smoke"),
        ("seeds = [0, 1]", "", "needs either data, recipe and seeds, or given checkpoints"),
        ("crop_pct = 0.875", "crop_pct = 1.5", "crop_pct = 1.5: use a share above 0, up to 1"),
        ("crop_pct = 0.875", "crop_pct = 0.875\nevaluation = { resize = 146 }", "use one of them"),
        ("crop_pct = 0.875", "evaluation = { std = [0.0, 1.0, 1.0] }", "std"),
        // A crop of the padded image never follows a centre crop.
        ("recipe = \"tiny-imagenet\"", "recipe = \"cifar10\"", "set augment.smallest_area, no pad_crop"),
        ("input = 128", "input = 0", "a resize to 0 pixels"),
        ("input =", "inputt =", "did you mean `input`?"),
        // What is named and is not there does nothing in silence.
        (
            "recipe = \"tiny-imagenet\"\nseeds = [0, 1]",
            "set = { epochs = 3 }\ngiven = [{ network = \"mobilenetv2\", width = 1.0, weights = \"w\", sha256 = \"0\", data = \"d\" }]",
            "given checkpoints have none",
        ),
        ("seeds = [0, 1]", "seeds = [0]\nwidths = [0.5]", "widths: the design has no 0.5"),
        ("seeds = [0, 1]", "seeds = [0]\nkeep = [{ seeds = \"all\", widths = [0.5] }]", "keep: there is no width 0.5"),
        ("seeds = [0, 1]", "seeds_at = [{ widths = [1.0], seeds = [0] }]", "width 0.35 has no seeds"),
        (
            "seeds = [0, 1]",
            "seeds_at = [{ widths = [1.0, 1.0], seeds = [0] }]\nseeds = [0]",
            "width 1.0 is listed twice",
        ),
        ("seeds = [0, 1]", "seeds = [0]\nown_recipe = { mobilenetv9 = \"smoke\" }", "no network \"mobilenetv9\""),
    ] {
        let error = cells(&SETUP.replace(from, to)).expect_err(to);
        assert!(error.contains(reason), "{to}: {error}");
    }
}
