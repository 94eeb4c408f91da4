//! Files that are read strictly and written whole or not at all; and a guard around readers that panic.

#![warn(clippy::missing_errors_doc)]

mod atomic;
mod guard;
mod hash;
mod kind;
mod open;
mod strict_toml;
mod text;

pub use atomic::{write, write_with};
pub use guard::catch;
pub use hash::{sha256, sha256_file};
pub use kind::{HEAD, kind};
pub use open::{open, read};
pub use strict_toml::{TomlError, from_toml};
pub use text::read_text;
