//! What the committed report shows: `report/out/index.tsv`, a line for every claim and every cell behind it. Without it nobody
//! could tell a cell that is gone from one that was never run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use sandglass_ledger::{Answers, Row, predictions_path, read_answers};

use crate::claim::Judged;
use crate::{Project, StudyError};

/// Claims with their verdicts, and cells with the hash of their row files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub claims: BTreeMap<String, String>,
    /// By `study/profile/cell`.
    pub cells: BTreeMap<String, String>,
    /// The cells' files of predictions, likewise.
    pub predictions: BTreeMap<String, String>,
}

const HEADER: &str = "# kind\tname\tverdict, or BLAKE3 of the file";

impl Shown {
    /// Of the committed report; nothing where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn read(project: &Project) -> Result<Self, StudyError> {
        let path = Self::path(project);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = sandglass_files::read_text(&path).map_err(StudyError::io(&path))?;
        let mut shown = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split('\t').collect();
            let (of, name, value) = match fields[..] {
                ["claim", name, value] => (&mut shown.claims, name, value),
                ["cell", name, value] => (&mut shown.cells, name, value),
                ["predictions", name, value] => (&mut shown.predictions, name, value),
                _ => {
                    let message = format!("{line:?} is neither claim, cell nor predictions");
                    return Err(StudyError::Invalid { path, message });
                }
            };
            of.insert(name.to_owned(), value.to_owned());
        }
        Ok(shown)
    }

    /// What a report of today shows.
    ///
    /// # Errors
    /// A row file that cannot be read any more.
    pub fn now(project: &Project, rows: &[Row], judged: &[Judged<'_>]) -> Result<Self, StudyError> {
        let mut shown = Self::default();
        for of in judged {
            shown.claims.insert(of.claim.id.clone(), of.verdict.words().to_owned());
        }
        for row in rows {
            let name = format!("{}/{}/{}", row.study, row.profile, row.cell);
            if let Entry::Vacant(cell) = shown.cells.entry(name.clone()) {
                cell.insert(hash(&project.rows().join(format!("{name}.parquet")))?);
                let predictions = predictions_path(&project.predictions(), [&row.study, &row.profile, &row.cell]);
                if predictions.is_file() {
                    shown.predictions.insert(name, hash(&predictions)?);
                }
            }
        }
        Ok(shown)
    }

    pub fn text(&self) -> String {
        let claims = self.claims.iter().map(|(name, verdict)| format!("claim\t{name}\t{verdict}\n"));
        let cells = self.cells.iter().map(|(name, hash)| format!("cell\t{name}\t{hash}\n"));
        let predictions = self.predictions.iter().map(|(name, hash)| format!("predictions\t{name}\t{hash}\n"));
        format!("{HEADER}\n{}", claims.chain(cells).chain(predictions).collect::<String>())
    }

    pub fn path(project: &Project) -> PathBuf {
        project.root().join("report/out/index.tsv")
    }

    /// What this one shows and `now` does not have, in words: cells that are gone or changed, claims whose rows are gone.
    pub fn missed(&self, now: &Self) -> Vec<String> {
        let mut missed = Vec::new();
        let kinds = [("rows", &self.cells, &now.cells), ("predictions", &self.predictions, &now.predictions)];
        for (what, shown, found) in kinds {
            for (name, hash) in shown {
                match found.get(name) {
                    None => missed.push(format!("{name}: the committed report shows it, and its {what} are gone")),
                    Some(found) if found != hash => {
                        missed.push(format!("{name}: its {what} are not those that the committed report shows"));
                    }
                    Some(_) => {}
                }
            }
        }
        for (id, verdict) in &self.claims {
            let untested = crate::claim::Verdict::NotTested.words();
            match now.claims.get(id).map(String::as_str) {
                Some(found) if found == untested && verdict != untested => {
                    missed.push(format!("claim {id}: was {verdict}, and its rows are gone"));
                }
                None => missed.push(format!("claim {id}: was {verdict}, and is no longer in experiments/claims.toml")),
                Some(_) => {}
            }
        }
        missed
    }
}

/// The start of a file's BLAKE3.
fn hash(path: &Path) -> Result<String, StudyError> {
    let bytes = sandglass_files::read(path).map_err(StudyError::io(path))?;
    Ok(blake3::hash(&bytes).to_hex().chars().take(16).collect())
}

/// Files of predictions that are damaged, or do not fit the rows beside them: of another checkpoint, with another share of
/// right answers than any percentage among them, or boxes in another number of images than any row counts.
pub fn disagreeing_predictions(project: &Project, rows: &[Row]) -> Vec<String> {
    let mut cells: BTreeMap<[&str; 3], Vec<&Row>> = BTreeMap::new();
    for row in rows {
        cells.entry([&row.study, &row.profile, &row.cell]).or_default().push(row);
    }
    let problem = |(place, rows): (&[&str; 3], &Vec<&Row>)| {
        let path = predictions_path(&project.predictions(), *place);
        if !path.is_file() {
            return None;
        }
        let told = |reason: String| Some(format!("predictions of {}: {reason}", place.join("/")));
        let kept = match read_answers(&project.predictions(), *place) {
            Ok(kept) => kept,
            Err(error) => return told(error.to_string()),
        };
        if rows.iter().any(|row| row.checkpoint_hash.as_ref().is_some_and(|hash| hash != kept.checkpoint())) {
            return told("of another checkpoint than its rows".to_owned());
        }
        let kept = match kept {
            Answers::Labels(kept) => kept,
            // What their share of right answers is, who scores them says.
            Answers::Boxes(kept) => {
                let images = kept.boxes.images.len();
                let is_counted = rows.iter().any(|row| row.n == images as u64);
                return if is_counted { None } else { told(format!("of {images} images, and no row says so")) };
            }
        };
        if rows.iter().any(|row| row.unit == "%" && kept.are_of(row.value, row.n)) {
            return None;
        }
        let right = kept.right().into_iter().filter(|right| *right).count();
        told(format!("{right} of {} are right, and no row says so", kept.items.len()))
    };
    cells.iter().filter_map(problem).collect()
}

/// Why a cell that had rows has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its file is there and cannot be used.
    Damaged(String),
    /// The committed report shows it, or its checkpoint is listed.
    Gone,
}

/// The name under which problems tell of a cell's file.
pub(crate) fn file_of([study, profile, cell]: [&str; 3]) -> PathBuf {
    Path::new(study).join(profile).join(format!("{cell}.parquet"))
}
