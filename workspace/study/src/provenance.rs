//! Where a row comes from.

use sandglass_ledger::{Row, Status};

use crate::duration;

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

/// All that is known of a row, as a person reads it.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: String,
    /// `study/profile/cell`.
    pub cell: String,
    pub value: String,
    /// Metric, part and count.
    pub what: String,
    pub seed: u64,
    /// Of the cell: names and texts, in reading order.
    pub facts: Vec<(&'static str, String)>,
    /// Runs the cell again.
    pub command: String,
}

impl Record {
    pub fn of(row: &Row) -> Self {
        let value = match (row.status, row.value) {
            (Status::Ok, Some(value)) => format!("{value} {}", row.unit).trim_end().to_owned(),
            (status, _) => format!("{}: {}", status.word(), row.error.as_deref().unwrap_or("no reason given")),
        };
        let axes: Vec<String> = row.axes.iter().map(|axis| format!("{} {}", axis.name, axis.value)).collect();
        let synthetic = if row.synthetic { " (drawn by code)" } else { "" };
        let changes = if row.dirty { ", with changes" } else { "" };
        let none = || "none".to_owned();
        // The row has all of it; so much tells two apart.
        let start = |hash: &str| hash.chars().take(16).collect::<String>();
        let mut made_from = row.made_from.iter().flat_map(|from| from.split('+'));
        let mut facts = vec![
            ("of", axes.join(", ")),
            ("data set", format!("{}{synthetic}", row.dataset)),
            ("seed", row.seed.to_string()),
            ("commit", format!("{}{changes}", row.commit)),
            ("made by commits", row.made_by.join(", ")),
            ("definition and recipe", start(&row.cell_hash)),
            ("data", start(&row.data_hash)),
            ("made from", made_from.next().map(start).unwrap_or_default()),
            ("started from", made_from.next().map(str::to_owned).unwrap_or_default()),
            ("checkpoint", row.checkpoint_hash.clone().unwrap_or_else(none)),
            ("machine", format!("{}, {}, {} threads", row.machine, row.isa, row.threads)),
            ("engine", row.engine.clone().unwrap_or_else(|| "the one that trains".to_owned())),
            ("versions", row.versions.clone()),
            ("time", format!("{}, took {}", row.started, duration(row.seconds))),
        ];
        facts.retain(|(_, text)| !text.is_empty());
        let part = row.part.as_ref().map_or_else(String::new, |part| format!(" of {part}"));
        Self {
            id: row.id(),
            cell: format!("{}/{}/{}", row.study, row.profile, row.cell),
            value,
            what: format!("{}{part}, n = {}", row.metric, row.n),
            seed: row.seed,
            facts,
            command: row.command.clone(),
        }
    }
}
