//! Images to RGB bytes: JPEG and PNG equal to Pillow's `Image.open(..).convert("RGB")`, other formats by the `image` crate.

mod further;
mod jpeg;
mod other;

use std::sync::{Mutex, PoisonError};

use image::ImageFormat;
use image::metadata::Orientation;

use crate::Picture;

/// From here on Pillow refuses an image as a decompression bomb; it only warns of half as many.
const MAX_PIXELS: usize = 178_956_970;

/// Bytes that decoding one image may take at once: what its decoder holds, the image as it is stored, and as RGB. Enough for
/// 96 megapixels in 8 bits in every format, but for inks (CMYK) in several scans.
const MAX_MEMORY: usize = 1 << 30;

/// Images that take more bytes than this are decoded one after another, whatever the number of threads.
pub(crate) const LARGE: usize = 64 << 20;

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
    /// Something else that is known, and lies where an image should.
    #[error("neither JPEG nor PNG, WebP, BMP, GIF, TIFF or PNM: it is {0}")]
    Other(&'static str),
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
    /// Sound, perhaps: a form of its format that the decoder does not know.
    #[error("of a form that is not read here ({0}): save it as plain RGB")]
    Unsupported(String),
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
/// animation, or of a file of several pages, the first image is taken.
///
/// Where Pillow does otherwise: samples of 16 bits are scaled to 8 (`x * 255 / 65535`, rounded), and Pillow cuts those of grey
/// images off at 255; WebP's colours may differ by the rounding of its colour planes; a TIFF's orientation is ignored as
/// EXIF's is, and Pillow turns the image; what a GIF's first image leaves free of its screen is black, and in Pillow of a
/// colour of its palette.
///
/// # Errors
///
/// Bytes that end before the image does: it is not filled up with grey. An image without pixels. A TIFF whose bits lie in reverse. An
/// image of more pixels than Pillow takes (178,956,970), whose decoding would take more than 1 GiB, or whose scans visit more
/// than 2^32 pixels.
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    decode_and_tell(bytes).map(|(picture, _)| picture)
}

/// What an image has or asks for, and its pixels do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// A tag (EXIF's, TIFF's) asks to turn or mirror it, which is not done.
    pub turned: bool,
    /// It is transparent somewhere: its colours are taken as if it were not.
    pub transparent: bool,
    /// Others follow it in its file (frames, pages), which are not taken.
    pub followed: bool,
    /// Its scans are damaged, and libjpeg went on with a warning: pixels may be grey, or of other places.
    pub damaged: bool,
}

/// A remark: whether it is made, its name in JSON, and in words.
pub type Remark = (fn(&Remarks) -> bool, &'static str, &'static str);

impl Remarks {
    /// Each that there may be.
    #[rustfmt::skip]
    pub const ALL: [Remark; 4] = [
        (|of| of.turned, "orientation_tags", "with an orientation tag, which is not applied"),
        (|of| of.transparent, "transparent", "transparent somewhere, which is passed over"),
        (|of| of.followed, "further_frames", "with further frames or pages, which are not read"),
        (|of| of.damaged, "damaged", "with damage that libjpeg warns of, decoded all the same"),
    ];

    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// The image as [`decode`] has it, and what of it is not heeded.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_and_tell(bytes: &[u8]) -> Result<(Picture, Remarks), DecodeError> {
    match bytes {
        [] => Err(DecodeError::Empty),
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes),
        _ => other::decode(bytes, format(bytes).ok_or_else(|| unknown(bytes))?),
    }
}

fn unknown(bytes: &[u8]) -> DecodeError {
    let head = &bytes[..bytes.len().min(sandglass_files::HEAD)];
    sandglass_files::kind(head).map_or(DecodeError::Unknown, DecodeError::Other)
}

fn is_turned(orientation: Orientation) -> bool {
    orientation != Orientation::NoTransforms
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

/// Calls `decode` unless the image is too large, and alone if it is large. `sample`: bytes that it takes for each pixel.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn an_orientation_is_told_and_not_applied() {
        // `make.py` writes a quarter's turn into this one; its pixels are those of `Image.open`.
        let (picture, turned) = decode_and_tell(&fixture("progressive.jpg")).unwrap();
        assert!(turned.turned);
        assert_eq!((picture.width, picture.height), (64, 80));
        assert!(!decode_and_tell(&fixture("colour.jpg")).unwrap().1.turned);
        // TIFF has a tag of its own: orientation (274), of one short.
        let mut bytes = fixture("formats/lzw.tiff");
        assert!(!decode_and_tell(&bytes).unwrap().1.turned);
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
        assert!(decode_and_tell(&bytes).unwrap().1.turned);
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
}
