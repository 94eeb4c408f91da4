//! The study as a program of its own: `extra-depthwise plan`, `extra-depthwise run`, `extra-depthwise table`. It borrows from the width study.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_extra_depthwise::STUDY, sandglass_width::STUDY], sandglass_study::build!())
}
