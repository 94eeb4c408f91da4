//! Where a row comes from.

/// What the program was built from: baked into it, for the checkout at hand may be another one.
#[derive(Clone, Debug)]
pub struct Build {
    /// Hash of the commit, or `unknown`.
    pub commit: String,
    /// Whether sources had changes beyond the commit.
    pub dirty: bool,
    pub versions: String,
}

/// The build of the binary that says this. Its package's `build` is `workspace/cli/build.rs`.
#[macro_export]
macro_rules! build {
    () => {
        $crate::Build::new(env!("SANDGLASS_COMMIT"), include_bytes!(env!("SANDGLASS_LOCK")))
    };
}

impl Build {
    /// From `build.rs`: a commit, or one and `+changes`; and the lock file, whose hash says which crates were used.
    pub fn new(commit: &str, lock: &[u8]) -> Self {
        let (commit, dirty) = match commit.strip_suffix("+changes") {
            Some(commit) => (commit, true),
            None => (commit, false),
        };
        let lock = blake3::hash(lock).to_hex();
        let versions = format!("sandglass {}, Cargo.lock {}", env!("CARGO_PKG_VERSION"), &lock[..12]);
        Self { commit: commit.to_owned(), dirty, versions }
    }

    /// The commit, and `+changes` where there were some.
    pub fn named(&self) -> String {
        self.commit.clone() + if self.dirty { "+changes" } else { "" }
    }
}

/// The CPU's model name where the system tells it, else its architecture.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |model| model.trim().to_owned())
}

/// Now, in UTC, as `2026-01-31T12:00:00Z`.
pub(crate) fn timestamp() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp(since.as_secs() as i64, 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
