//! Images to RGB bytes: JPEG and PNG equal to Pillow's `Image.open(..).convert("RGB")`, other formats by the `image` crate.

use std::cell::Cell;
use std::io::{self, BufRead, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use image::{ImageDecoder, ImageFormat};
use mozjpeg::{ColorSpace, Decompress};

use crate::Picture;

/// From here on Pillow refuses an image as a decompression bomb; it only warns of half as many.
const MAX_PIXELS: usize = 178_956_970;

/// Bytes that decoding one image may take.
const MAX_MEMORY: usize = 1 << 30;

/// Images that take more bytes than this are decoded one after another, whatever the number of threads.
const LARGE: usize = 64 << 20;

static ONE_LARGE: Mutex<()> = Mutex::new(());

/// Why bytes are no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No byte at all.
    #[error("empty")]
    Empty,
    /// The first bytes are no known format's.
    #[error("neither JPEG nor PNG, WebP, BMP, GIF, TIFF or PNM")]
    Unknown,
    /// The bytes end before the image does.
    #[error("truncated")]
    Truncated,
    /// A decompression bomb, or a broken header.
    #[error("its header claims {width} x {height} pixels, which memory should not hold")]
    TooLarge {
        /// As the header has it.
        width: usize,
        /// As the header has it.
        height: usize,
    },
    /// Whatever else the decoder found, in its own words.
    #[error("{0}")]
    Malformed(String),
}

/// Decodes by content, whatever the file's name; EXIF (orientation too) is ignored, and so is transparency. Of an
/// animation the first image is taken.
///
/// Samples of 16 bits are scaled to 8 (`x * 255 / 65535`, rounded), where Pillow cuts those of grey images off at 255. WebP's
/// colours may differ from Pillow's by the rounding of its colour planes.
///
/// # Errors
///
/// Bytes that are no whole image: nothing is filled up with grey. An image of more pixels than Pillow takes (178,956,970),
/// or whose decoding would take more than 1 GiB.
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
        _ => other(bytes, format(bytes).ok_or(DecodeError::Unknown)?),
    }
}

fn format(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some(ImageFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'B', b'M', ..] => Some(ImageFormat::Bmp),
        [b'G', b'I', b'F', b'8', ..] => Some(ImageFormat::Gif),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(ImageFormat::Tiff),
        [b'P', b'1'..=b'7', ..] => Some(ImageFormat::Pnm),
        _ => None,
    }
}

/// Calls `decode` unless the image is too large, and alone if it is large. `sample`: bytes for each pixel.
fn within_memory<T>(
    (width, height): (usize, usize),
    sample: usize,
    decode: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let pixels = width.saturating_mul(height);
    let memory = pixels.saturating_mul(sample);
    if pixels > MAX_PIXELS || memory > MAX_MEMORY {
        return Err(DecodeError::TooLarge { width, height });
    }
    let _alone = (memory > LARGE).then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    decode()
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
    let outcome = catch_unwind(AssertUnwindSafe(|| read_jpeg(UntilEnd { rest: bytes, ended: &ended })));
    match outcome {
        _ if ended.get() => Err(DecodeError::Truncated),
        Ok(result) => result,
        Err(payload) => {
            let reason = payload.downcast_ref::<String>().map_or("not a readable JPEG", String::as_str);
            Err(DecodeError::Malformed(reason.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn read_jpeg(source: UntilEnd<'_>) -> Result<Picture, DecodeError> {
    let malformed = |error: io::Error| DecodeError::Malformed(error.to_string());
    let header = Decompress::new_reader(source).map_err(malformed)?;
    let (width, height) = header.size();
    let (space, components) = match header.color_space() {
        ColorSpace::JCS_GRAYSCALE => (ColorSpace::JCS_GRAYSCALE, 1),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => (ColorSpace::JCS_CMYK, 4),
        _ => (ColorSpace::JCS_RGB, 3),
    };
    // Samples, the coefficients of two bytes that a progressive image is gathered in, and RGB where it is another array.
    let sample = 3 * components + if components == 3 { 0 } else { 3 };
    within_memory((width, height), sample, || {
        let mut image = header.to_colorspace(space).map_err(malformed)?;
        let samples: Vec<u8> = image.read_scanlines().map_err(malformed)?;
        image.finish().map_err(malformed)?;
        let pixels = match space {
            ColorSpace::JCS_GRAYSCALE => grey_to_rgb(&samples),
            ColorSpace::JCS_CMYK => inverted_cmyk_to_rgb(&samples),
            _ => samples,
        };
        Ok(Picture { width, height, pixels })
    })
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

fn other(bytes: &[u8], format: ImageFormat) -> Result<Picture, DecodeError> {
    let malformed = |error: image::ImageError| match error {
        image::ImageError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        other => DecodeError::Malformed(other.to_string().replace('\n', "; ")),
    };
    let read = || {
        let mut reader = image::ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(MAX_MEMORY as u64);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(malformed)?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        // As it is stored, and RGB where that is another array.
        let stored = usize::from(decoder.color_type().bytes_per_pixel());
        let sample = if decoder.color_type() == image::ColorType::Rgb8 { stored } else { stored + 3 };
        within_memory((width, height), sample, || {
            let image = image::DynamicImage::from_decoder(decoder).map_err(malformed)?;
            Ok(Picture { width, height, pixels: image.into_rgb8().into_raw() })
        })
    };
    // A decoder's panic is the file's fault, not the program's.
    sandglass_files::catch(read).unwrap_or_else(|panic| Err(DecodeError::Malformed(panic)))
}
