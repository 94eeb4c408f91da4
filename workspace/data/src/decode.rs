//! Images to RGB bytes: JPEG and PNG equal to Pillow's `Image.open(..).convert("RGB")`, other formats by the `image` crate.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, BufRead, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat};
use mozjpeg::{ColorSpace, Decompress};

use crate::Picture;

/// From here on Pillow refuses an image as a decompression bomb; it only warns of half as many.
const MAX_PIXELS: usize = 178_956_970;

/// Bytes that decoding one image may take.
const MAX_MEMORY: usize = 1 << 30;

/// Pixels that all scans of a progressive image may visit: some 20 scans, as many as encoders write, of the largest image.
/// A scan may take ten bytes, and each is a walk over the whole image.
const MAX_VISITED: usize = 1 << 32;

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
    /// Nothing to see: scored, it would be a black image.
    #[error("its header claims {width} x {height} pixels, which are none")]
    NoPixels {
        /// As the header has it.
        width: usize,
        /// As the header has it.
        height: usize,
    },
    /// Bits within a byte the other way round.
    #[error("its bits lie in reverse order (TIFF's FillOrder 2), which is not read")]
    BitOrder,
    /// A decompression bomb, or a broken header.
    #[error("its header claims {width} x {height} pixels, which memory should not hold")]
    TooLarge {
        /// As the header has it.
        width: usize,
        /// As the header has it.
        height: usize,
    },
    /// A time bomb.
    #[error("its {scans} scans of {width} x {height} pixels are more work than an image is")]
    TooManyScans {
        /// As the file has them.
        scans: usize,
        /// As the header has it.
        width: usize,
        /// As the header has it.
        height: usize,
    },
    /// Whatever else the decoder found, in its own words.
    #[error("{0}")]
    Malformed(String),
}

/// Decodes by content, whatever the file's name. EXIF is ignored, its orientation too, as `Image.open` and torchvision's
/// folders do; and so is transparency, but that colours which a TIFF has multiplied with it are divided again. Of an
/// animation the first image is taken.
///
/// Where Pillow does otherwise: samples of 16 bits are scaled to 8 (`x * 255 / 65535`, rounded), and Pillow cuts those of grey
/// images off at 255; WebP's colours may differ by the rounding of its colour planes; a TIFF's orientation is ignored as
/// EXIF's is, and Pillow turns the image; what a GIF's first image leaves free of its screen is black, and in Pillow of a
/// colour of its palette.
///
/// # Errors
///
/// Bytes that are no whole image: nothing is filled up with grey. An image without pixels. A TIFF whose bits lie in reverse. An
/// image of more pixels than Pillow takes (178,956,970),
/// whose decoding would take more than 1 GiB, or whose scans visit more than 2^32 pixels.
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    decode_and_tell(bytes).map(|(picture, _)| picture)
}

/// The image, and whether a tag asks for it to be turned or mirrored, which is not done.
pub(crate) fn decode_and_tell(bytes: &[u8]) -> Result<(Picture, bool), DecodeError> {
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
    if pixels == 0 {
        return Err(DecodeError::NoPixels { width, height });
    }
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

/// What a JPEG's markers say before it is decoded.
#[derive(Default)]
struct Markers<'a> {
    scans: usize,
    /// What follows `Exif\0\0`.
    exif: Option<&'a [u8]>,
}

/// Walks from marker to marker, so that a thumbnail's are not counted, to the end of the image or of what is readable.
fn markers(bytes: &[u8]) -> Markers<'_> {
    let mut found = Markers::default();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff)) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            // The image's start, restarts and TEM stand alone.
            0x01 | 0xd0..=0xd8 => continue,
            0xd9 => break,
            _ => {}
        }
        let Some((length, _)) = rest.split_first_chunk() else { break };
        let Some((segment, after)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).max(2)) else {
            break;
        };
        match marker {
            0xda => found.scans += 1,
            0xe1 => found.exif = found.exif.or(segment[2..].strip_prefix(b"Exif\0\0")),
            _ => {}
        }
        rest = after;
    }
    found
}

fn is_turned(orientation: Orientation) -> bool {
    orientation != Orientation::NoTransforms
}

fn jpeg(bytes: &[u8]) -> Result<(Picture, bool), DecodeError> {
    let ended = Cell::new(false);
    let Markers { scans, exif } = markers(bytes);
    let turned = exif.and_then(Orientation::from_exif_chunk).is_some_and(is_turned);
    // libjpeg's errors unwind, without passing through the panic hook.
    let outcome = catch_unwind(AssertUnwindSafe(|| read_jpeg(UntilEnd { rest: bytes, ended: &ended }, scans)));
    match outcome {
        _ if ended.get() => Err(DecodeError::Truncated),
        Ok(result) => result.map(|picture| (picture, turned)),
        Err(payload) => {
            let reason = payload.downcast_ref::<String>().map_or("not a readable JPEG", String::as_str);
            Err(DecodeError::Malformed(reason.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn read_jpeg(source: UntilEnd<'_>, scans: usize) -> Result<Picture, DecodeError> {
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
        if scans.saturating_mul(width * height) > MAX_VISITED {
            return Err(DecodeError::TooManyScans { scans, width, height });
        }
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

/// A PNG without its colour profile: it is not used, and the decoder would unpack it, whatever its size, before it tells the
/// image's.
fn without_profile(png: &[u8]) -> Cow<'_, [u8]> {
    let (mut kept, mut from, mut at) = (Vec::new(), 0, 8);
    while let Some([a, b, c, d, kind @ ..]) = png.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        // Beside its bytes a chunk has a length, a kind and a checksum.
        let end = at.saturating_add(12).saturating_add(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if kind == b"iCCP" && end <= png.len() {
            kept.extend_from_slice(&png[from..at]);
            from = end;
        }
        at = end;
    }
    match from {
        0 => Cow::Borrowed(png),
        _ => Cow::Owned([kept.as_slice(), &png[from..]].concat()),
    }
}

const FILL_ORDER: u16 = 266;
const EXTRA_SAMPLES: u16 = 338;

/// A tag of a TIFF's first image, where it is one number; none where it is not there, or the file is damaged.
fn tiff_tag(bytes: &[u8], wanted: u16) -> Option<u16> {
    let is_big = bytes.starts_with(b"MM");
    let short = |at: usize| {
        let two = *bytes.get(at..)?.first_chunk()?;
        Some(if is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    };
    let four = *bytes.get(4..)?.first_chunk()?;
    let directory = if is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) } as usize;
    let entries = (0..usize::from(short(directory)?)).map(|entry| directory + 2 + 12 * entry);
    // Numbers of two bytes stand at the start of the entry's last four, in either order of bytes.
    entries.into_iter().find(|&entry| short(entry) == Some(wanted)).and_then(|entry| short(entry + 8))
}

/// Colours that were multiplied with their transparency, as they were before: in whole numbers, as Pillow has them.
fn divided_by_alpha(image: &image::RgbaImage) -> Vec<u8> {
    let divided = |color: u8, alpha: u8| (u32::from(color) * 255).checked_div(alpha.into()).unwrap_or(0).min(255) as u8;
    image.pixels().flat_map(|&image::Rgba([r, g, b, alpha])| [r, g, b].map(|color| divided(color, alpha))).collect()
}

fn other(bytes: &[u8], format: ImageFormat) -> Result<(Picture, bool), DecodeError> {
    let malformed = |error: image::ImageError| match error {
        image::ImageError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        other => DecodeError::Malformed(other.to_string().replace('\n', "; ")),
    };
    let tag = |tag| if format == ImageFormat::Tiff { tiff_tag(bytes, tag) } else { None };
    if tag(FILL_ORDER) == Some(2) {
        return Err(DecodeError::BitOrder);
    }
    let bytes = if format == ImageFormat::Png { without_profile(bytes) } else { Cow::Borrowed(bytes) };
    let read = || {
        let mut reader = image::ImageReader::with_format(Cursor::new(&*bytes), format);
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(MAX_MEMORY as u64);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(malformed)?;
        // A damaged tag is no reason to refuse an image that is not turned anyway.
        let turned = decoder.orientation().is_ok_and(is_turned);
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        // As it is stored, and RGB where that is another array.
        let stored = usize::from(decoder.color_type().bytes_per_pixel());
        let sample = if decoder.color_type() == image::ColorType::Rgb8 { stored } else { stored + 3 };
        within_memory((width, height), sample, || {
            let image = image::DynamicImage::from_decoder(decoder).map_err(malformed)?;
            let pixels = match tag(EXTRA_SAMPLES) {
                Some(1) if image.color().has_alpha() => divided_by_alpha(&image.into_rgba8()),
                _ => image.into_rgb8().into_raw(),
            };
            Ok((Picture { width, height, pixels }, turned))
        })
    };
    // A decoder's panic is the file's fault, not the program's.
    sandglass_files::catch(read).unwrap_or_else(|panic| Err(DecodeError::Malformed(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// The image with its last scan once more, so many times, and a header of another size.
    fn with_scans(more: usize, side: u16) -> Vec<u8> {
        let mut bytes = fixture("progressive.jpg");
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
        let last = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
        let scan = bytes[last..bytes.len() - 2].to_vec();
        bytes.splice(last..last, scan.repeat(more));
        bytes
    }

    #[test]
    fn scans_are_counted_and_a_time_bomb_is_refused() {
        let [plain, progressive] = ["colour.jpg", "progressive.jpg"].map(|name| markers(&fixture(name)).scans);
        assert_eq!((plain, progressive), (1, 10));
        // A thumbnail's markers lie within a segment.
        let mut bytes = fixture("colour.jpg");
        bytes.splice(2..2, [0xff, 0xe2, 0, 6, 0xff, 0xda, 0xff, 0xda]);
        assert_eq!(markers(&bytes).scans, 1);
        assert!(decode(&bytes).is_ok());

        let many = DecodeError::TooManyScans { scans: 1010, width: 4000, height: 4000 };
        assert_eq!(decode(&with_scans(1000, 4000)), Err(many));
        // As many of few pixels, or few of as many, are none.
        for sound in [decode(&with_scans(1000, 64)), decode(&with_scans(0, 400))] {
            assert!(!matches!(sound, Err(DecodeError::TooManyScans { .. })), "{sound:?}");
        }
    }

    #[test]
    fn an_orientation_is_told_and_not_applied() {
        // `make.py` writes a quarter's turn into this one; its pixels are those of `Image.open`.
        let (picture, turned) = decode_and_tell(&fixture("progressive.jpg")).unwrap();
        assert!(turned);
        assert_eq!((picture.width, picture.height), (64, 80));
        assert!(!decode_and_tell(&fixture("colour.jpg")).unwrap().1);
        // TIFF has a tag of its own: orientation (274), of one short.
        let mut bytes = fixture("formats/lzw.tiff");
        assert!(!decode_and_tell(&bytes).unwrap().1);
        let entries = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let count = u16::from_le_bytes(bytes[entries..entries + 2].try_into().unwrap()) as usize;
        let directory = bytes[entries + 2..entries + 2 + 12 * count].to_vec();
        let mut turned: Vec<[u8; 12]> = directory.as_chunks::<12>().0.to_vec();
        turned.push([0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
        turned.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
        let moved = (bytes.len() as u32).to_le_bytes();
        bytes[4..8].copy_from_slice(&moved);
        bytes.extend((count as u16 + 1).to_le_bytes());
        bytes.extend(turned.concat());
        bytes.extend([0; 4]);
        assert!(decode_and_tell(&bytes).unwrap().1);
    }

    /// One line of RGBA pixels, with these tags beside those that it needs.
    fn tiff(pixels: &[[u8; 4]], more: &[[u16; 2]]) -> Vec<u8> {
        let mut bytes = [b"II".as_slice(), &42_u16.to_le_bytes(), &16_u32.to_le_bytes()].concat();
        bytes.extend([8, 0].repeat(4));
        let tags = |at: u16| {
            let width = pixels.len() as u16;
            let plain = [[256, width], [257, 1], [259, 1], [262, 2], [273, at], [277, 4], [278, 1], [279, 4 * width]];
            let mut tags: Vec<(u16, u32, u16)> =
                plain.iter().chain(more).map(|[tag, value]| (*tag, 1, *value)).collect();
            tags.push((258, 4, 8));
            tags.sort();
            tags
        };
        let count = tags(0).len() as u16;
        bytes.extend(count.to_le_bytes());
        for (tag, count, value) in tags(16 + 2 + 12 * count + 4) {
            bytes.extend([tag.to_le_bytes(), 3_u16.to_le_bytes()].concat());
            bytes.extend([count.to_le_bytes(), u32::from(value).to_le_bytes()].concat());
        }
        bytes.extend([0; 4]);
        bytes.extend(pixels.concat());
        bytes
    }

    /// The colours that Pillow 13 gives, whose `RGBa` is divided in whole numbers.
    #[test]
    fn colours_that_are_multiplied_with_their_alpha_are_divided_again() {
        let pixels = [[10, 20, 30, 128], [7, 8, 9, 0], [1, 2, 3, 255], [200, 0, 0, 100]];
        let read = |more: &[[u16; 2]]| decode(&tiff(&pixels, more)).unwrap().pixels;
        assert_eq!(read(&[[EXTRA_SAMPLES, 1]]), [19, 39, 59, 0, 0, 0, 1, 2, 3, 255, 0, 0]);
        assert_eq!(read(&[[EXTRA_SAMPLES, 2]]), [10, 20, 30, 7, 8, 9, 1, 2, 3, 200, 0, 0]);
    }

    #[test]
    fn bits_in_reverse_order_are_refused_by_their_tag() {
        let pixels = [[10, 20, 30, 255]];
        assert_eq!(decode(&tiff(&pixels, &[[EXTRA_SAMPLES, 2], [FILL_ORDER, 2]])), Err(DecodeError::BitOrder));
        assert!(decode(&tiff(&pixels, &[[EXTRA_SAMPLES, 2], [FILL_ORDER, 1]])).is_ok());
    }

    #[test]
    fn a_picture_without_pixels_is_broken() {
        let none = |width, height| Err(DecodeError::NoPixels { width, height });
        for (bytes, width, height) in
            [("P5 0 0 255\n", 0, 0), ("P6 0 5 255\n", 0, 5), ("P5 5 0 255\n", 5, 0), ("P4 0 0\n", 0, 0)]
        {
            assert_eq!(decode(bytes.as_bytes()), none(width, height), "{bytes}");
        }
        let mut bytes = fixture("formats/colour.gif");
        bytes[6..10].fill(0);
        assert_eq!(decode(&bytes), none(0, 0));
    }

    /// The profile says nothing that is used, and is not unpacked: damaged, it would be told of.
    #[test]
    fn the_colour_profile_of_a_png_is_never_looked_at() {
        let plain = fixture("grey.png");
        let profile = [b"\0\0\0\x09iCCP".as_slice(), b"x\0\0no zlib"[..9].as_ref(), &[0; 4]].concat();
        let with = [&plain[..33], &profile, &plain[33..]].concat();
        assert!(matches!(without_profile(&plain), Cow::Borrowed(_)));
        assert_eq!(*without_profile(&with), plain[..]);
        assert_eq!(decode(&with), decode(&plain));
        // Cut within it, it is cut.
        assert!(decode(&with[..40]).is_err());
    }
}
