use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{io, mem};

use super::*;
use crate::state::{Record, encode};

/// How call `at` fails, and with it every later one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Error(ErrorKind),
    ShortWrite,
    /// The power goes; of what was not synced, what lasts is decided by these bits.
    Crash(u64),
}

#[derive(Clone)]
enum Change {
    Bytes(PathBuf, Vec<u8>),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn apply(files: &mut Files, change: &Change) {
    match change {
        Change::Bytes(path, bytes) => drop(files.insert(path.clone(), bytes.clone())),
        Change::Rename(from, to) => {
            if let Some(bytes) = files.remove(from) {
                files.insert(to.clone(), bytes);
            }
        }
        Change::Remove(path) => drop(files.remove(path)),
    }
}

/// Files in memory: what is there, what would last, and what was done since.
struct TestDisk {
    there: RefCell<Files>,
    lasting: RefCell<Files>,
    pending: RefCell<Vec<Change>>,
    calls: Cell<usize>,
    fault: Option<(usize, Fault)>,
}

impl TestDisk {
    fn new(files: Files, fault: Option<(usize, Fault)>) -> Self {
        let (there, lasting) = (RefCell::new(files.clone()), RefCell::new(files));
        Self { there, lasting, pending: RefCell::default(), calls: Cell::new(0), fault }
    }

    fn call(&self) -> Result<(), Fault> {
        self.calls.set(self.calls.get() + 1);
        match self.fault {
            Some((at, fault)) if self.calls.get() == at || (self.calls.get() > at && fault != Fault::ShortWrite) => {
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self) -> io::Result<()> {
        self.call().map_err(|fault| match fault {
            Fault::Error(kind) => kind.into(),
            _ => ErrorKind::WriteZero.into(),
        })
    }

    fn change(&self, change: Change) {
        apply(&mut self.there.borrow_mut(), &change);
        self.pending.borrow_mut().push(change);
    }

    /// The files after the fault: as they are, or as they are found after a crash. Without the sync of its folder each
    /// rename may be lost or not; without its own sync a file may be as before, empty, half or full of zeros.
    fn after(self) -> Files {
        let Some((_, Fault::Crash(mut luck))) = self.fault else { return self.there.into_inner() };
        let mut files = self.lasting.into_inner();
        for mut change in self.pending.into_inner() {
            let mut draw = |of: u64| {
                let drawn = luck % of;
                luck /= of;
                drawn
            };
            let lasts = match &mut change {
                Change::Bytes(_, bytes) => {
                    let half = bytes.len() / 2;
                    let luck = draw(5);
                    match luck {
                        1 => bytes.clear(),
                        2 => bytes.truncate(half),
                        3 => bytes[half..].fill(0),
                        _ => {}
                    }
                    luck > 0
                }
                _ => draw(2) == 1,
            };
            if lasts {
                apply(&mut files, &change);
            }
        }
        files
    }
}

impl Disk for TestDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.there.borrow().get(path).cloned().ok_or(ErrorKind::NotFound.into())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let written = match self.call() {
            Ok(()) => bytes.len(),
            Err(Fault::Error(kind)) => return Err(kind.into()),
            Err(_) => bytes.len() / 2,
        };
        self.change(Change::Bytes(path.into(), bytes[..written].to_vec()));
        if written == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.refuse()?;
        let is_folder = path == Path::new("run");
        let mut pending = self.pending.borrow_mut();
        let (synced, kept) = mem::take(&mut *pending).into_iter().partition(|change| match change {
            Change::Bytes(file, _) => file == path,
            _ => is_folder,
        });
        *pending = kept;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| apply(&mut self.lasting.borrow_mut(), change));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.refuse()?;
        if !self.there.borrow().contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(Change::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.refuse()?;
        self.change(Change::Remove(path.into()));
        Ok(())
    }
}

fn bytes(epoch: u64) -> Vec<u8> {
    let record = Record { epoch, log: vec!["{\"epoch\": 1}".into()], ..Record::default() };
    let values: Vec<f32> = (0..20).map(|at| at as f32 + epoch as f32).collect();
    encode(&record, &[("weights/a".into(), &[4, 5], &values), ("momentum/a".into(), &[20], &values)]).unwrap()
}

fn store(disk: &TestDisk) -> Store<'_> {
    Store::new(disk, Path::new("run"))
}

fn saved(epochs: std::ops::RangeInclusive<u64>) -> Files {
    let disk = TestDisk::new(Files::new(), None);
    epochs.for_each(|epoch| store(&disk).save(&bytes(epoch)).unwrap());
    disk.after()
}

fn epoch_of(files: Files) -> Result<Option<u64>, StoreError> {
    let disk = TestDisk::new(files, None);
    store(&disk).load().map(|state| {
        state.map(|state| {
            assert_eq!(state, State::from_bytes(&bytes(state.record.epoch)).unwrap(), "a third state");
            state.record.epoch
        })
    })
}

/// Call by call until all pass, every fault: old or new, never a third; an error is reported; the next save works.
#[test]
fn a_save_that_fails_leaves_old_or_new() {
    for before in [0, 1, 2, 3] {
        let files = if before == 0 { Files::new() } else { saved(1..=before) };
        let errors = [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::Other].map(Fault::Error);
        let faults = errors.into_iter().chain([Fault::ShortWrite]).chain((0..200).map(Fault::Crash));
        for fault in faults {
            for at in 1.. {
                let disk = TestDisk::new(files.clone(), Some((at, fault)));
                let result = store(&disk).save(&bytes(before + 1));
                if disk.calls.get() < at {
                    assert!(result.is_ok());
                    assert!(at > 4, "only {at} calls");
                    break;
                }
                let found = disk.after();
                let epoch = epoch_of(found.clone()).unwrap_or_else(|error| panic!("{before} {fault:?} {at}: {error}"));
                let old = (before > 0).then_some(before);
                assert!(epoch == old || epoch == Some(before + 1), "{before} {fault:?} at {at}: {epoch:?}");
                assert!(result.is_err(), "{before} {fault:?} at {at}: silent");
                let next = TestDisk::new(found, None);
                store(&next).load().unwrap();
                store(&next).save(&bytes(before + 2)).unwrap();
                assert_eq!(epoch_of(next.after()).unwrap(), Some(before + 2));
            }
        }
    }
}

#[test]
fn every_damage_to_the_newest_is_seen_and_the_previous_serves() {
    let files = saved(1..=2);
    let newest = Path::new("run").join(NEWEST);
    let good = &files[&newest];
    let flips = (0..good.len() * 8).map(|bit| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cuts = (0..good.len()).map(|length| good[..length].to_vec());
    for bytes in flips.chain(cuts) {
        let mut files = files.clone();
        files.insert(newest.clone(), bytes);
        let disk = TestDisk::new(files, None);
        let state = store(&disk).load().unwrap().unwrap();
        let same = State::from_bytes(good).unwrap();
        assert!(state.record.epoch == 1 || state == same, "a damaged state was taken");
    }
}

#[test]
fn damage_to_both_is_an_error() {
    let mut files = saved(1..=2);
    files.values_mut().for_each(|bytes| bytes.truncate(100));
    assert!(matches!(epoch_of(files), Err(StoreError::Damaged { .. })));
}

/// After a load that fell back, a crash during the next save must not lose the good one.
#[test]
fn a_damaged_newest_never_replaces_a_good_previous() {
    for luck in 0..200 {
        for at in 1..12 {
            let mut files = saved(1..=2);
            files.get_mut(&Path::new("run").join(NEWEST)).unwrap().truncate(50);
            let disk = TestDisk::new(files, Some((at, Fault::Crash(luck))));
            let _ = store(&disk).load().map(|_| store(&disk).save(&bytes(2)));
            assert!(matches!(epoch_of(disk.after()), Ok(Some(1 | 2))), "{luck} {at}");
        }
    }
}
