//! A study with its cells, its place and its rows.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use sandglass_ledger::{Ledger, Row, is_plain_name};

use crate::borrow::{Lent, Place};
use crate::claim::Evidence;
use crate::manifest::Manifest;
use crate::shown::{Lost, Shown, file_of};
use crate::{Axes, Build, Experiment, Head, Keyed, Profile, Project, Results, Scale, State, StudyError, StudyFile};

/// Borrowing from a profile that borrows itself is followed so many times.
const DEPTH: usize = 8;

/// A study that was read and found sound: whatever would keep one of its rows from being written was refused.
pub struct Opened<E: Experiment> {
    pub(crate) experiment: E,
    pub(crate) file: StudyFile<E::Design, E::Setup>,
    pub(crate) head: Head,
    path: PathBuf,
    pub(crate) project: Project,
    pub(crate) ledger: Rc<Ledger>,
    /// What the committed report shows, and which checkpoints are listed.
    shown: Shown,
    manifest: Manifest,
    pub(crate) build: Build,
    /// Parallel to the file's profiles.
    pub(crate) cells: Vec<Vec<Placed<E::Cell>>>,
}

/// A cell and where its rows lie.
#[derive(Clone, Debug)]
pub struct Placed<C> {
    pub keyed: Keyed<C>,
    pub place: Place,
    pub is_borrowed: bool,
}

/// A profile and its cells.
pub(crate) struct ProfileCells<'a, E: Experiment> {
    pub profile: &'a Profile<E::Setup>,
    pub cells: &'a [Placed<E::Cell>],
}

/// Finds what another study lends: study, profile.
pub(crate) type Lender<'a> = dyn Fn(&str, &str) -> Result<Vec<Lent>, StudyError> + 'a;

impl<E: Experiment> Opened<E> {
    pub(crate) fn open(
        path: &Path,
        experiment: E,
        build: Build,
        ledger: Rc<Ledger>,
        lender: &Lender<'_>,
    ) -> Result<Self, StudyError> {
        let (file, keyed) = read(path, &experiment)?;
        let invalid = |message: String| StudyError::Invalid { path: path.into(), message };
        let lent = (0..file.profile.len())
            .map(|at| lent(&file, &keyed, at, lender, DEPTH).map_err(&invalid))
            .collect::<Result<Vec<_>, _>>()?;
        let place = |keyed: Keyed<E::Cell>, Lent { place, .. }: Lent, profile: &str| {
            let is_borrowed = place.study != file.name || place.profile != profile;
            Placed { keyed, place, is_borrowed }
        };
        let cells = keyed.into_iter().zip(lent).zip(&file.profile).map(|((cells, lent), profile)| {
            cells.into_iter().zip(lent).map(|(cell, lent)| place(cell, lent, &profile.name)).collect()
        });
        let cells = cells.collect();
        let project = Project::around(path)?;
        let (shown, manifest) = (Shown::read(&project)?, Manifest::read(&project)?);
        let head = file.head();
        Ok(Self { path: path.into(), head, experiment, file, project, ledger, shown, manifest, build, cells })
    }

    /// Whether study.toml, read anew, still defines a cell as it did when this process read it.
    pub(crate) fn still_defines(&self, profile: &str, cell: &Keyed<E::Cell>) -> Result<(), StudyError> {
        let (file, keyed) = read(&self.path, &self.experiment)?;
        let mut cells =
            file.profile.iter().zip(&keyed).filter(|(other, _)| other.name == profile).flat_map(|(_, cells)| cells);
        match cells.any(|other| other.id == cell.id && other.hash == cell.hash) {
            true => Ok(()),
            false => Err(StudyError::Changed { path: self.path.clone(), cell: cell.id.clone() }),
        }
    }

    /// Profiles with their cells: all, or the one named.
    pub(crate) fn profiles(&self, only: Option<&str>) -> Result<Vec<ProfileCells<'_, E>>, StudyError> {
        let only = only.map(|name| self.file.profile(Some(name))).transpose()?.map(|profile| profile.name.as_str());
        let all = self.file.profile.iter().zip(&self.cells).map(|(profile, cells)| ProfileCells { profile, cells });
        Ok(all.filter(|of_profile| only.is_none_or(|only| of_profile.profile.name == only)).collect())
    }

    /// The one profile that is named, or the first.
    pub(crate) fn profile(&self, name: Option<&str>) -> Result<ProfileCells<'_, E>, StudyError> {
        let name = &self.file.profile(name)?.name;
        let empty = || StudyError::Refused(format!("profile {name} has no cells"));
        self.profiles(Some(name))?.pop().ok_or_else(empty)
    }

    /// Every cell with its rows, for a section.
    pub(crate) fn results(&self, only: Option<&str>) -> Result<Results<'_, E>, StudyError> {
        let scales = self.profiles(only)?;
        let scales = scales.iter().map(|of_profile| Scale::new(self, of_profile));
        Ok(Results {
            experiment: &self.experiment,
            head: &self.head,
            design: &self.file.design,
            scales: scales.collect(),
        })
    }

    /// How a cell stands by these rows, which are its own and those of the cell that it is measured on.
    pub(crate) fn state(&self, cell: &Placed<E::Cell>, ledger: &Ledger) -> State {
        let rows_of = |place: &Place| -> Vec<&Row> {
            let is_of = |row: &&Row| [&row.study, &row.profile, &row.cell].map(String::as_str) == place.names();
            ledger.rows.iter().filter(is_of).collect()
        };
        let rows = rows_of(&cell.place);
        let checkpoint = |rows: &[&Row]| rows.iter().find_map(|row| row.checkpoint_hash.clone());
        let on = self.experiment.measured_on(&cell.keyed.cell);
        match on.and_then(|on| Some((checkpoint(&rows)?, checkpoint(&rows_of(&on))?))) {
            Some((measured, now)) if measured != now => State::Stale,
            _ => State::of(&rows, &cell.keyed.hash),
        }
    }

    /// Why a cell that had rows has none; None where it has some, or never had.
    pub(crate) fn lost<C>(&self, cell: &Placed<C>) -> Option<Lost> {
        let names @ [study, profile, id] = cell.place.names();
        if let Some(problem) = self.ledger.problems.iter().find(|problem| problem.path == file_of(names)) {
            return Some(Lost::Damaged(problem.reason.clone()));
        }
        if self.ledger.cell(study, profile, id).next().is_some() {
            return None;
        }
        let is_known = self.shown.cells.contains_key(&names.join("/")) || self.manifest.find(&cell.place).is_some();
        is_known.then_some(Lost::Gone)
    }

    /// Every row of a cell's very definition, as this study sees it.
    pub(crate) fn seen(&self) -> Vec<Evidence<'_>> {
        let mut seen = Vec::new();
        for (profile, cells) in self.file.profile.iter().zip(&self.cells) {
            for cell in cells {
                let [study, of, id] = cell.place.names();
                let is_stale = self.state(cell, &self.ledger) == State::Stale;
                let rows = self.ledger.cell(study, of, id).filter(|_| !is_stale);
                seen.extend(rows.map(|row| Evidence { study: &self.head.name, profile: &profile.name, row }));
            }
        }
        seen
    }

    /// What a profile lends.
    pub(crate) fn lent_by(&self, profile: &str) -> Result<Vec<Lent>, StudyError> {
        let ProfileCells { cells, .. } = self.profile(Some(profile))?;
        Ok(cells.iter().map(|cell| Lent { hash: cell.keyed.hash.clone(), place: cell.place.clone() }).collect())
    }
}

/// A study's file and, parallel to its profiles, their cells. Whatever would keep a row from being written is refused.
#[expect(clippy::type_complexity, reason = "a file and what is parallel to a part of it")]
fn read<E: Experiment>(
    path: &Path,
    experiment: &E,
) -> Result<(StudyFile<E::Design, E::Setup>, Vec<Vec<Keyed<E::Cell>>>), StudyError> {
    let file = StudyFile::<E::Design, E::Setup>::read(path)?;
    let mut keyed = Vec::new();
    for profile in &file.profile {
        let invalid = |message: String| StudyError::Invalid {
            path: path.into(),
            message: format!("profile {}: {message}", profile.name),
        };
        let cells = experiment.cells(&file.design, &profile.setup).map_err(|error| invalid(error.to_string()))?;
        let cells = cells.into_iter().map(Keyed::new).collect::<Result<Vec<_>, _>>()?;
        check(&cells).map_err(invalid)?;
        keyed.push(cells);
    }
    Ok((file, keyed))
}

/// Ids must be names of files, and differ; so must what rows say of their cells.
fn check<C: Axes>(cells: &[Keyed<C>]) -> Result<(), String> {
    if cells.is_empty() {
        return Err("has no cells".into());
    }
    for (at, cell) in cells.iter().enumerate() {
        if !is_plain_name(&cell.id) {
            return Err(format!(
                "cell {:?}: use letters, digits, '-', '_' and '.', at most 200, for it names a file",
                cell.id
            ));
        }
        if cells.iter().take(at).any(|other| other.id == cell.id) {
            return Err(format!("cell {} occurs twice: what makes it is listed twice", cell.id));
        }
        let meaning = |cell: &C| (cell.axes(), cell.dataset(), cell.seed());
        if let Some(other) = cells.iter().take(at).find(|other| meaning(&other.cell) == meaning(&cell.cell)) {
            return Err(format!("cells {} and {} have the same axes, data and seed", other.id, cell.id));
        }
    }
    Ok(())
}

/// Where each cell of profile `at` lies, in order.
fn lent<D, S, C>(
    file: &StudyFile<D, S>,
    keyed: &[Vec<Keyed<C>>],
    at: usize,
    lender: &Lender<'_>,
    depth: usize,
) -> Result<Vec<Lent>, String> {
    let (Some(profile), Some(cells)) = (file.profile.get(at), keyed.get(at)) else { return Ok(Vec::new()) };
    let theirs = match &profile.borrow {
        None => Vec::new(),
        Some(_) if depth == 0 => return Err(format!("profile {} borrows in a circle", profile.name)),
        Some(name) => {
            let wrong = |reason: &str| format!("profile {}: borrow = {name:?}: {reason}", profile.name);
            let (study, other) = name.split_once('/').ok_or_else(|| wrong("use \"study/profile\""))?;
            if study == file.name {
                let at = file.profile.iter().position(|profile| profile.name == other);
                lent(file, keyed, at.ok_or_else(|| wrong("there is no such profile"))?, lender, depth - 1)?
            } else {
                lender(study, other).map_err(|error| wrong(&error.to_string()))?
            }
        }
    };
    if let Some(name) = &profile.borrow
        && !theirs.iter().any(|lent| cells.iter().any(|cell| cell.hash == lent.hash))
    {
        return Err(format!(
            "profile {}: borrow = {name:?}: it has no cell that is defined as one of these",
            profile.name
        ));
    }
    let place = |cell: &Keyed<C>| {
        let own = || Place { study: file.name.clone(), profile: profile.name.clone(), cell: cell.id.clone() };
        let place = theirs.iter().find(|lent| lent.hash == cell.hash).map_or_else(own, |lent| lent.place.clone());
        Lent { hash: cell.hash.clone(), place }
    };
    Ok(cells.iter().map(place).collect())
}
