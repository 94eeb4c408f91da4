//! The study as a program of its own: `manifold plan`, `manifold run`, `manifold table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_manifold::STUDY], sandglass_study::build!())
}
