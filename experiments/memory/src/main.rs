//! The study as a program of its own: `memory plan`, `memory run`, `memory table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_memory::STUDY], sandglass_study::build!())
}
