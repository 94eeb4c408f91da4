//! The study as a program of its own: `voc plan`, `voc run`, `voc table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_voc::STUDY], sandglass_study::build!())
}
