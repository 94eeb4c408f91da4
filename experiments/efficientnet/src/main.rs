//! The study as a program of its own: `efficientnet plan`, `efficientnet run`, `efficientnet table`. It borrows from the width
//! study.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_efficientnet::STUDY, sandglass_width::STUDY], sandglass_study::build!())
}
