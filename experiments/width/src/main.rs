//! The width study as a program of its own: `width plan`, `width run`, `width table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_width::STUDY], sandglass_study::build!())
}
