//! The study as a program of its own: `width-resolution plan`, `width-resolution run`, `width-resolution table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_width_resolution::STUDY], sandglass_study::build!())
}
