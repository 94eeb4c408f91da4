//! The walls of the house: what each crate may lean on, by the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every crate of the workspace and those of the workspace that it needs, itself among them; tests' needs do not count.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["workspace", "experiments"].map(|below| std::fs::read_dir(root.join(below)).unwrap());
    let folders = folders.into_iter().flatten().map(|entry| entry.unwrap().path()).chain([root.join("report")]);
    let mut direct = BTreeMap::new();
    for manifest in folders.map(|folder| folder.join("Cargo.toml")).filter(|path| path.is_file()) {
        let manifest: toml::Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let needs = manifest.get("dependencies").and_then(|of| of.as_table()).into_iter().flat_map(|of| of.keys());
        let own: BTreeSet<String> = needs.filter(|need| need.starts_with("sandglass-")).cloned().collect();
        direct.insert(name, own);
    }
    let all_of = |name: &String| {
        let (mut all, mut open) = (BTreeSet::new(), vec![name.clone()]);
        while let Some(name) = open.pop() {
            if all.insert(name.clone()) {
                open.extend(direct[&name].iter().cloned());
            }
        }
        (name.clone(), all)
    };
    direct.keys().map(all_of).collect()
}

#[test]
fn a_report_cannot_train_and_kernels_know_no_network_and_no_library_a_study() {
    let crates = crates();
    let set = |names: &[&str]| names.iter().map(|name| format!("sandglass-{name}")).collect::<BTreeSet<_>>();
    assert_eq!(crates["sandglass-files"], set(&["files"]));
    assert_eq!(crates["sandglass-ops"], set(&["ops"]));
    assert_eq!(crates["sandglass-ledger"], set(&["files", "ledger"]));
    assert_eq!(crates["sandglass-study"], set(&["files", "ledger", "study"]));
    assert_eq!(crates["sandglass-report"], set(&["files", "ledger", "study", "report"]));
    // Whoever wants the networks, the kernels or the trainer alone gets no study with them.
    for name in ["data", "detect", "infer", "models", "onnx", "quant", "reference", "train"] {
        let needs = &crates[&format!("sandglass-{name}")];
        assert!(needs.is_disjoint(&set(&["ledger", "study", "lab", "report", "cli"])), "{name}: {needs:?}");
    }
}
