//! What reading takes: a few kB of parquet say one value again and again, a few kB of a picture are very many pixels.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use image::{DynamicImage, ImageFormat};
use sandglass_data::{Part, decode, open};

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

/// What a call gives, and the most bytes that it held at once.
fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    let given = call();
    (given, PEAK.load(SeqCst) - before)
}

/// What is found in 600 rows of 256 KiB each.
fn opened<T>(
    file: &str,
    then: impl FnOnce(Result<sandglass_data::Dataset, sandglass_data::DataError>) -> T,
) -> (T, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/repeated").join(file);
    assert!(std::fs::metadata(&path).unwrap().len() < 4096);
    peak(|| then(open(path.to_str().unwrap(), Part::Scored, None)))
}

/// One test, for what another one holds meanwhile would be counted too.
#[test]
fn memory_is_bounded() {
    a_value_that_is_said_again_and_again_is_held_once();
    ninety_six_megapixels_fit_into_the_bound_in_every_format();
}

/// 1 GiB, of fewer pixels; what libjpeg takes is not Rust's to count.
fn ninety_six_megapixels_fit_into_the_bound_in_every_format() {
    const SIDE: u32 = 1500;
    let most = ((1_u64 << 30) * u64::from(SIDE * SIDE) / 96_000_000) as usize;
    let images = || {
        [
            DynamicImage::new_luma8(SIDE, SIDE),
            DynamicImage::new_luma_a8(SIDE, SIDE),
            DynamicImage::new_rgb8(SIDE, SIDE),
            DynamicImage::new_rgba8(SIDE, SIDE),
            DynamicImage::new_luma16(SIDE, SIDE),
            DynamicImage::new_rgb16(SIDE, SIDE),
            DynamicImage::new_rgba16(SIDE, SIDE),
        ]
    };
    use ImageFormat::{Bmp, Gif, Png, Pnm, Tiff, WebP};
    for format in [Png, WebP, Bmp, Gif, Tiff, Pnm] {
        for image in images() {
            let (color, mut bytes) = (image.color(), Cursor::new(Vec::new()));
            // Not every format has every kind of pixel.
            if image.write_to(&mut bytes, format).is_err() {
                continue;
            }
            drop(image);
            let (picture, held) = peak(|| decode(bytes.get_ref()).unwrap());
            assert_eq!((picture.width, picture.height), (SIDE as usize, SIDE as usize));
            // 16 bits in a TIFF are more than the bound has room for: fewer pixels are read.
            let is_wide = format == Tiff && color.bytes_per_pixel() > 4;
            assert!(held <= most || is_wide, "{format:?} {color:?}: {held} of {most} bytes");
            println!("{format:?} {color:?}: {:.1} bytes a pixel", held as f64 / f64::from(SIDE * SIDE));
        }
    }
}

fn a_value_that_is_said_again_and_again_is_held_once() {
    let ((images, name), bytes) = opened("images.parquet", |set| {
        let set = set.unwrap();
        (set.len(), set.image_name(599))
    });
    assert_eq!((images, name.as_str()), (600, "images.parquet row 599"), "no path is as long as its image");
    assert!(bytes < 64 << 20, "{bytes}");
    for labels in ["labels.parquet", "dictionary.parquet"] {
        let (error, bytes) = opened(labels, |set| set.err().unwrap().to_string());
        assert!(error.ends_with("row 0 has a label of 262144 bytes: no name of a class"), "{error}");
        assert!(bytes < 64 << 20, "{labels}: {bytes}");
    }
}
