//! JPEG and PNG to RGB bytes, equal to Pillow's `Image.open(..).convert("RGB")`.

use std::cell::Cell;
use std::io::{self, BufRead, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::ImageDecoder;
use mozjpeg::{ColorSpace, Decompress};

use crate::Picture;

/// Pillow's own bound against decompression bombs.
const MAX_PIXELS: usize = 89_478_485;

/// No honest image packs more pixels than this into a byte; a header that claims so would only fill memory.
const MAX_PIXELS_PER_BYTE: usize = 1024;

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No byte at all.
    #[error("empty")]
    Empty,
    /// The first bytes are neither format's.
    #[error("neither JPEG nor PNG")]
    Unknown,
    /// The bytes end before the image does.
    #[error("truncated")]
    Truncated,
    /// A decompression bomb, or a broken header.
    #[error("its header claims {width} x {height} pixels, which {bytes} bytes do not hold or memory should not")]
    TooLarge {
        /// As the header has it.
        width: usize,
        /// As the header has it.
        height: usize,
        /// Length of the encoded image.
        bytes: usize,
    },
    /// Whatever else the decoder found, in its own words.
    #[error("{0}")]
    Malformed(String),
}

/// Decodes by content, whatever the file's name; EXIF (orientation too) is ignored.
///
/// # Errors
///
/// Bytes that are no whole JPEG or PNG: nothing is filled up with grey.
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
        [0x89, b'P', b'N', b'G', ..] => png(bytes),
        _ => Err(DecodeError::Unknown),
    }
}

fn check_size(width: usize, height: usize, bytes: usize) -> Result<(), DecodeError> {
    let pixels = width.saturating_mul(height);
    if pixels > MAX_PIXELS || pixels > bytes.saturating_mul(MAX_PIXELS_PER_BYTE) {
        return Err(DecodeError::TooLarge { width, height, bytes });
    }
    Ok(())
}

/// Fails at the end of input, where libjpeg would invent an end marker and fill up with grey.
struct UntilEnd<'a> {
    rest: &'a [u8],
    ended: &'a Cell<bool>,
}

impl Read for UntilEnd<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.rest.read(into)
    }
}

impl BufRead for UntilEnd<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
            return Err(io::Error::other("end of input"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

fn jpeg(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let ended = Cell::new(false);
    // libjpeg's errors unwind, without passing through the panic hook.
    let outcome = catch_unwind(AssertUnwindSafe(|| read_jpeg(UntilEnd { rest: bytes, ended: &ended }, bytes.len())));
    match outcome {
        _ if ended.get() => Err(DecodeError::Truncated),
        Ok(result) => result,
        Err(payload) => {
            let reason = payload.downcast_ref::<String>().map_or("not a readable JPEG", String::as_str);
            Err(DecodeError::Malformed(reason.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn read_jpeg(source: UntilEnd<'_>, bytes: usize) -> Result<Picture, DecodeError> {
    let malformed = |error: io::Error| DecodeError::Malformed(error.to_string());
    let header = Decompress::new_reader(source).map_err(malformed)?;
    let (width, height) = header.size();
    check_size(width, height, bytes)?;
    let space = match header.color_space() {
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        _ => ColorSpace::JCS_RGB,
    };
    let mut image = header.to_colorspace(space).map_err(malformed)?;
    let samples: Vec<u8> = image.read_scanlines().map_err(malformed)?;
    image.finish().map_err(malformed)?;
    let pixels = match space {
        ColorSpace::JCS_GRAYSCALE => grey_to_rgb(&samples),
        ColorSpace::JCS_CMYK => inverted_cmyk_to_rgb(&samples),
        _ => samples,
    };
    Ok(Picture { width, height, pixels })
}

fn grey_to_rgb(samples: &[u8]) -> Vec<u8> {
    samples.iter().flat_map(|&grey| [grey; 3]).collect()
}

/// Files with four components hold inverted inks: Adobe does so, and Pillow takes it for granted.
fn inverted_cmyk_to_rgb(samples: &[u8]) -> Vec<u8> {
    let blend = |ink: u8, white: u8| {
        let product = u32::from(255 - ink) * u32::from(white) + 128;
        white - (((product >> 8) + product) >> 8) as u8
    };
    samples.as_chunks::<4>().0.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| blend(ink, k))).collect()
}

fn png(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let malformed = |error: image::ImageError| match error {
        image::ImageError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        other => DecodeError::Malformed(other.to_string()),
    };
    let decoder = image::codecs::png::PngDecoder::new(Cursor::new(bytes)).map_err(malformed)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height, bytes.len())?;
    let image = image::DynamicImage::from_decoder(decoder).map_err(malformed)?;
    Ok(Picture { width, height, pixels: image.into_rgb8().into_raw() })
}
