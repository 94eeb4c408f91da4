//! The study as a program of its own: `identity plan`, `identity run`, `identity table`. It borrows from the width study.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_identity::STUDY, sandglass_width::STUDY], sandglass_study::build!())
}
