//! Bakes the commit into the binary: what runs may have been built from another one than lies in the checkout by then.
//!
//! Shared by the packages of all binaries (`build = ".."` in their manifests).

use std::path::{Path, PathBuf};
use std::process::Command;

/// What binaries are made of, below the repository's root.
const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "workspace", "experiments", "report/Cargo.toml", "report/src", "report/templates"];

fn main() {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(&package);
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    // HEAD names a branch, whose own file moves with each commit; packed, it lies in packed-refs.
    let branch = git(root, &["symbolic-ref", "-q", "HEAD"]);
    for name in [Some("HEAD".to_owned()), branch, Some("packed-refs".to_owned())].into_iter().flatten() {
        if let Some(path) = git(root, &["rev-parse", "--git-path", &name]) {
            let path = root.join(path);
            if path.exists() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
    }
    // The last commit that changed them: one that adds results alone makes no other program.
    let commit = match git(root, &[&["log", "-1", "--format=%H", "--"], &SOURCES[..]].concat())
        .filter(|hash| !hash.is_empty())
    {
        Some(commit) => {
            let changes = git(root, &[&["status", "--porcelain", "--"], &SOURCES[..]].concat());
            commit + if changes.is_some_and(|changes| changes.is_empty()) { "" } else { "+changes" }
        }
        None => "unknown".to_owned(),
    };
    println!("cargo:rustc-env=SANDGLASS_COMMIT={commit}");
    println!("cargo:rustc-env=SANDGLASS_LOCK={}", root.join("Cargo.lock").display());
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
