//! Pictures to files.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Compress};

use crate::Picture;

/// Why a picture cannot be a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a picture of {width} x {height} pixels cannot be a JPEG: {reason}")]
pub struct EncodeError {
    width: usize,
    height: usize,
    reason: String,
}

/// A JPEG file; `quality` from 0 to 100.
///
/// # Errors
///
/// A picture without pixels, or of more than 65,535 along a side.
pub fn encode_jpeg(picture: &Picture, quality: f32) -> Result<Vec<u8>, EncodeError> {
    let &Picture { width, height, ref pixels } = picture;
    let failed = |reason: String| EncodeError { width, height, reason };
    if pixels.is_empty() || pixels.len() != width * height * 3 {
        return Err(failed(format!("it has {} bytes", pixels.len())));
    }
    let write = || {
        let mut file = Compress::new(ColorSpace::JCS_RGB);
        file.set_size(width, height);
        file.set_quality(quality);
        let mut started = file.start_compress(Vec::new())?;
        started.write_scanlines(pixels)?;
        started.finish()
    };
    // libjpeg's errors unwind, without passing through the panic hook.
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(written) => written.map_err(|error| failed(error.to_string())),
        Err(payload) => {
            Err(failed(payload.downcast_ref::<String>().map_or_else(|| "libjpeg refuses it".into(), Clone::clone)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn what_is_written_is_read_again() {
        let (width, height) = (40, 24);
        // Smooth, so that little is lost.
        let pixel = |at: usize| [(at % width * 6) as u8, (at / width * 10) as u8, 128];
        let picture = Picture { width, height, pixels: (0..width * height).flat_map(pixel).collect() };
        let file = encode_jpeg(&picture, 90.0).unwrap();
        assert_eq!(file, encode_jpeg(&picture, 90.0).unwrap());
        let read = decode(&file).unwrap();
        assert_eq!((read.width, read.height), (width, height));
        let furthest = read.pixels.iter().zip(&picture.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(furthest < Some(16), "{furthest:?}");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for (width, height, bytes) in [(0, 0, 0), (3, 3, 26), (70_000, 1, 210_000)] {
            let picture = Picture { width, height, pixels: vec![0; bytes] };
            let error = encode_jpeg(&picture, 90.0).unwrap_err().to_string();
            assert!(error.contains("cannot be a JPEG"), "{error}");
        }
    }
}
