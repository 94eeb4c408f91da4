//! The quantisation study as a program of its own: `quant plan`, `quant run`, `quant table`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandglass_study::main(&[sandglass_quant_study::STUDY], sandglass_study::build!())
}
