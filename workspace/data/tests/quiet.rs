//! Panics of the parquet reader are caught on the thread that called it: nothing is printed. A file of its own, for the
//! hook that counts belongs to the process.

use std::fs;
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sandglass_data::{Part, open};

static PRINTED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn damaged_parquet_prints_nothing_and_other_panics_do() {
    let usual = take_hook();
    set_hook(Box::new(|_| {
        PRINTED.fetch_add(1, Ordering::SeqCst);
    }));
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parquet/shards/valid.parquet");
    let whole = fs::read(fixture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("valid.parquet");
    let mut panics = 0;
    // In the footer, where bits were found that the reader does not survive.
    let first = whole.len() * 8 - 4900;
    for bit in first..first + 200 {
        let mut broken = whole.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &broken).unwrap();
        let error = open(folder.path().to_str().unwrap(), Part::Validation, None).err();
        panics += usize::from(error.is_some_and(|error| error.to_string().contains("called `Option::unwrap()`")));
    }
    let (damaged, outside) = (PRINTED.load(Ordering::SeqCst), thread::spawn(|| panic!("elsewhere")).join());
    set_hook(usual);
    assert!(panics > 0, "nothing panicked: look for another bit");
    assert_eq!((damaged, outside.is_err(), PRINTED.load(Ordering::SeqCst)), (0, true, 1));
}
