//! Recipes: what is read, what is refused and how, and what the schedules come to.

use std::collections::BTreeSet;

use sandglass_models::{After, Graph, NetworkConfig, NetworkName, Node, Role};
use sandglass_train::{Ema, EmaForm, OptimizerConfig, Recipe, RecipeError, SchedulePlan};

fn built_in(name: &str) -> Recipe {
    Recipe::from_toml(Recipe::built_in(name).unwrap()).unwrap()
}

#[test]
fn imagenet_is_the_papers_recipe() {
    let recipe = built_in("imagenet");
    assert_eq!((recipe.epochs, recipe.batch, recipe.lr, recipe.weight_decay), (200, 256, 0.05, 4e-5));
    assert_eq!(recipe.optimizer, OptimizerConfig::Sgd { momentum: 0.9, nesterov: false });
    assert_eq!(recipe.label_smoothing, 0.0);
    assert_eq!(recipe.lr_at(0, 0, 5000), 0.05);
    assert!((recipe.lr_at(100, 0, 5000) - 0.025).abs() < 1e-12);
}

#[test]
fn the_official_recipe_warms_up_and_cools_down() {
    let recipe = built_in("imagenet-official");
    assert_eq!(recipe.lr_at(0, 100, 2500), 1e-4);
    assert!(recipe.lr_at(2, 0, 2500) < 0.1 && recipe.lr_at(3, 0, 2500) > 0.099);
    assert_eq!([recipe.lr_at(200, 0, 2500), recipe.lr_at(209, 2499, 2500)], [1e-5; 2]);
}

/// MobileNeXt's official code for networks in EfficientNet's frame: x0.97 every 2.4 epochs, which change at whole ones.
#[test]
fn the_official_recipe_of_gated_networks_decays_in_steps() {
    let recipe = built_in("imagenet-se");
    let rate = |epoch: u64| recipe.lr_at(epoch, 0, 2502);
    assert_eq!((rate(0), rate(3)), (1e-6, 0.12 * 0.97));
    assert!((rate(24) / (0.12 * 0.97f64.powi(10)) - 1.0).abs() < 1e-12);
    assert_eq!((recipe.dropout, recipe.drop_connect, recipe.ema.map(|ema| ema.decay)), (0.2, 0.2, Some(0.9999)));
    // Left out of what is hashed where nothing is dropped.
    assert!(recipe.canonical().unwrap().contains("\"drop_connect\":0.2"));
    assert!(!built_in("imagenet").canonical().unwrap().contains("drop_connect"));
}

/// EfficientNet's later blocks and the official gated networks have a momentum of their own.
#[test]
fn a_recipe_may_say_the_batch_norms_momentum() {
    let graph = NetworkConfig::new(NetworkName::MobileNeXtSeS).build().unwrap();
    let momenta = |graph: &Graph| {
        let norms = graph.nodes().iter().filter_map(|node| match node {
            Node::Conv { unit, .. } => match &unit.after {
                After::Norm(norm) | After::BiasNorm(norm) => Some(norm.momentum),
                After::Bias => None,
            },
            _ => None,
        });
        norms.map(f32::to_bits).collect::<BTreeSet<u32>>()
    };
    let recipe = built_in("imagewoof");
    assert_eq!(momenta(&recipe.trained(graph.clone())), BTreeSet::from([0.01f32.to_bits()]));
    assert!(!recipe.canonical().unwrap().contains("norm_momentum"));
    let recipe = Recipe { norm_momentum: Some(0.1), ..recipe };
    assert_eq!(momenta(&recipe.trained(graph)), BTreeSet::from([0.1f32.to_bits()]));
    assert!(recipe.canonical().unwrap().contains("\"norm_momentum\":0.1"));
    for momentum in [0.0, -0.1, 1.5, f64::NAN] {
        assert!(Recipe { norm_momentum: Some(momentum), ..recipe.clone() }.check().is_err(), "{momentum}");
    }
}

#[test]
fn built_in_recipes_are_valid() {
    let names: Vec<_> = Recipe::built_in_names().collect();
    assert_eq!(names.len(), 9);
    names.into_iter().for_each(|name| drop(built_in(name)));
    assert!(Recipe::built_in("smokes").is_none());
}

#[test]
fn a_full_recipe_is_read() {
    let text = "epochs = 500\nbatch = 512\nlr = 0.12\nweight_decay = 1e-5\nclip_grad_norm = 5.0\n\
        [optimizer.rmsprop_tf]\nalpha = 0.9\nmomentum = 0.9\neps = 1e-3\n\
        [schedule.timm_step]\ndecay_epochs = 2.4\ndecay_rate = 0.97\nwarmup_epochs = 3\nwarmup_lr = 1e-6\n\
        [ema]\ndecay = 0.9999\nform = \"tf_warmup\"\n[augment]\njitter = 0.4\n";
    let recipe = Recipe::from_toml(text).unwrap();
    assert_eq!(recipe.optimizer, OptimizerConfig::RmspropTf { alpha: 0.9, momentum: 0.9, eps: 1e-3 });
    assert_eq!(recipe.ema, Some(Ema { decay: 0.9999, form: EmaForm::TfWarmup }));
    assert_eq!((recipe.clip_grad_norm, recipe.augment.jitter), (Some(5.0), 0.4));
    assert!(matches!(recipe.schedule, SchedulePlan::TimmStep { .. }));
    assert!((recipe.lr_at(5, 0, 10) / (0.12 * 0.97 * 0.97) - 1.0).abs() < 1e-12);
}

#[test]
fn unknown_keys_are_named_with_line_and_near_miss() {
    let smoke = Recipe::built_in("smoke").unwrap();
    let line = |key: &str| 1 + smoke.lines().position(|line| line.starts_with(key)).unwrap();
    for (key, typo) in [
        ("momentum", "momentun"),
        ("flip", "flipp"),
        ("warmup_epochs", "warm_epochs"),
        ("weight_decay", "weigth_decay"),
    ] {
        let error = Recipe::from_toml(&smoke.replacen(key, typo, 1)).unwrap_err().to_string();
        let wanted = [format!("line {}:", line(key)), typo.to_string(), format!("did you mean `{key}`?")];
        assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = Recipe::from_toml(&smoke.replace("[schedule.linear_warmup_cosine]", "[schedule.linear_warmup_cosin]"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("did you mean `linear_warmup_cosine`?"), "{error}");
}

#[test]
fn bad_values_and_bad_syntax_are_errors() {
    let smoke = Recipe::built_in("smoke").unwrap();
    for (from, to) in [
        ("epochs = 4", "epochs = 0"),
        ("batch = 32", "batch = 0"),
        ("lr = 0.02", "lr = nan"),
        ("lr = 0.02", "lr = -1.0"),
        ("label_smoothing = 0.1", "label_smoothing = 1.0"),
        ("label_smoothing = 0.1", "dropout = 2.0"),
        ("momentum = 0.9", "momentum = 1.5"),
        ("[schedule.linear_warmup_cosine]\nwarmup_epochs = 1", "[schedule.linear_warmup_cosine]\nwarmup_epochs = nan"),
    ] {
        let error = Recipe::from_toml(&smoke.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, RecipeError::Value { .. }), "{to}: {error}");
    }
    for (from, to) in
        [("epochs = 4", "epochs = -1"), ("lr = 0.02", "lr = "), ("[augment]", "[augment"), ("lr = 0.02", "")]
    {
        let error = Recipe::from_toml(&smoke.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, RecipeError::Toml(_)), "{to}: {error}");
    }
}

#[test]
fn a_hash_is_of_the_meaning() {
    let smoke = Recipe::built_in("smoke").unwrap();
    let hash = Recipe::from_toml(smoke).unwrap().hash().unwrap();
    let same = smoke.replace("lr = 0.02", "lr = 2e-2 # the same\ndropout = 0.0");
    assert_eq!(Recipe::from_toml(&same).unwrap().hash().unwrap(), hash);
    assert_ne!(Recipe::from_toml(&smoke.replace("lr = 0.02", "lr = 0.2")).unwrap().hash().unwrap(), hash);
}

/// A key that is added later must be left out at its default: rows and states of today stay this recipe's.
#[test]
fn hashes_of_built_in_recipes_are_pinned() {
    let pinned = [
        ("smoke", "17ca5a6d1acec3de"),
        ("cifar10", "c6fa4c5e17ba35de"),
        ("imagewoof", "d6ab63b40b7e4cdf"),
        ("tiny-imagenet", "877c763e805e1a82"),
        ("imagenet", "1efcff210f1f0f21"),
        ("imagenet-official", "b31034e9d3d703c6"),
    ];
    let hash = |name: &str| built_in(name).hash().unwrap()[..16].to_owned();
    assert_eq!(pinned.map(|(name, _)| hash(name)), pinned.map(|(_, hash)| hash.to_owned()));
}

#[test]
fn norms_and_biases_never_decay() {
    let mut recipe = built_in("smoke");
    recipe.weight_decay = 0.5;
    for (role, with, without) in [
        (Role::ConvWeight, 0.5, 0.5),
        (Role::LinearWeight, 0.5, 0.5),
        (Role::DepthwiseWeight, 0.5, 0.0),
        (Role::NormWeight, 0.0, 0.0),
        (Role::NormBias, 0.0, 0.0),
        (Role::LinearBias, 0.0, 0.0),
    ] {
        recipe.decay_depthwise = true;
        assert_eq!(recipe.decay(role), with);
        recipe.decay_depthwise = false;
        assert_eq!(recipe.decay(role), without);
    }
}
