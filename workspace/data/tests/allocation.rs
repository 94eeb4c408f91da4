//! A few kB of parquet say one value again and again: reading them takes at most twice the file and 64 MiB, beside the pictures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use sandglass_data::{Part, open};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is found in 600 rows of 256 KiB each, and the most bytes that it took.
fn peak<T>(
    file: &str,
    then: impl FnOnce(Result<sandglass_data::Dataset, sandglass_data::DataError>) -> T,
) -> (T, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/repeated").join(file);
    assert!(std::fs::metadata(&path).unwrap().len() < 4096);
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    let found = then(open(path.to_str().unwrap(), Part::Scored, None));
    (found, PEAK.load(SeqCst) - before)
}

#[test]
fn a_value_that_is_said_again_and_again_is_held_once() {
    let ((images, name), bytes) = peak("images.parquet", |set| {
        let set = set.unwrap();
        (set.len(), set.image_name(599))
    });
    assert_eq!((images, name.as_str()), (600, "images.parquet row 599"), "no path is as long as its image");
    assert!(bytes < 64 << 20, "{bytes}");
    for labels in ["labels.parquet", "dictionary.parquet"] {
        let (error, bytes) = peak(labels, |set| set.err().unwrap().to_string());
        assert!(error.ends_with("row 0 has a label of 262144 bytes: no name of a class"), "{error}");
        assert!(bytes < 64 << 20, "{labels}: {bytes}");
    }
}
