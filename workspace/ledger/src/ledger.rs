//! All rows of a folder, and what is wrong with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::file::read_cell;
use crate::row::Row;

/// A file or a row that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Relative to the ledger's root.
    pub path: PathBuf,
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The sound rows below a folder, in the order of their ids, and every problem found.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub rows: Vec<Row>,
    pub problems: Vec<Problem>,
}

impl Ledger {
    /// Reads `root/<study>/<profile>/<cell>.parquet`. A folder that does not exist holds no rows; nothing here fails
    /// as a whole, for one bad file must not hide the others.
    pub fn read(root: &Path) -> Self {
        let mut ledger = Self::default();
        let mut files = Vec::new();
        ledger.find_files(root, Path::new(""), 0, &mut files);
        files.sort();
        let mut owners = BTreeMap::new();
        for file in files {
            ledger.read_file(root, &file, &mut owners);
        }
        ledger.rows.sort_by_cached_key(Row::id);
        ledger.problems.sort();
        ledger
    }

    /// Reads one cell's file alone, for whoever asks often.
    pub fn read_one(root: &Path, study: &str, profile: &str, cell: &str) -> Self {
        let mut ledger = Self::default();
        let file = Path::new(study).join(profile).join(format!("{cell}.parquet"));
        if root.join(&file).exists() {
            ledger.read_file(root, &file, &mut BTreeMap::new());
        }
        ledger.rows.sort_by_cached_key(Row::id);
        ledger
    }

    fn read_file(&mut self, root: &Path, file: &Path, owners: &mut BTreeMap<String, PathBuf>) {
        match read_cell(&root.join(file)) {
            Ok(rows) => rows.into_iter().for_each(|row| self.take(file, row, owners)),
            Err(error) => self.blame(file, error.to_string()),
        }
    }

    fn find_files(&mut self, root: &Path, below: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let entries = match fs::read_dir(root.join(below)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && depth == 0 => return,
            Err(error) => return self.blame(below, format!("cannot be read: {error}")),
        };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            if depth < 2 && entry.path().is_dir() {
                self.find_files(root, &path, depth + 1, files);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }

    fn take(&mut self, file: &Path, row: Row, owners: &mut BTreeMap<String, PathBuf>) {
        let place = Path::new(&row.study).join(&row.profile).join(format!("{}.parquet", row.cell));
        // Two cells that measure the same thing are as wrong as a row that occurs twice.
        let meaning = row.meaning();
        let reason = if let Some(flaw) = row.flaw() {
            format!("row {}: {flaw}", row.id())
        } else if place != file {
            format!("row {}: belongs in {}", row.id(), place.display())
        } else if let Some(owner) = owners.get(&meaning) {
            format!("row {}: duplicate of the row in {}", row.id(), owner.display())
        } else {
            owners.insert(meaning, file.to_path_buf());
            self.rows.push(row);
            return;
        };
        self.blame(file, reason);
    }

    fn blame(&mut self, file: &Path, reason: String) {
        self.problems.push(Problem { path: file.to_path_buf(), reason });
    }

    /// The rows of one study's profile.
    pub fn of<'a>(&'a self, study: &'a str, profile: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.study == study && row.profile == profile)
    }

    /// The rows of one cell.
    pub fn cell<'a>(&'a self, study: &'a str, profile: &'a str, cell: &'a str) -> impl Iterator<Item = &'a Row> {
        self.of(study, profile).filter(move |row| row.cell == cell)
    }
}
