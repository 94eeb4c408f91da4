//! The formats that the `image` crate decodes.

use std::borrow::Cow;
use std::io::{self, Cursor};

use image::{DynamicImage, ImageDecoder, ImageFormat};

use super::{DecodeError, MAX_MEMORY, Remarks, further, is_turned, within_memory};
use crate::Picture;

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

/// Bytes for each pixel that a decoder holds beside the image as it is stored, and lets go of before that becomes RGB: measured,
/// see `tests/allocation.rs`.
fn held(format: ImageFormat, stored: usize) -> usize {
    match format {
        // Of an animation a canvas and a frame, of four bytes each.
        ImageFormat::WebP => 8,
        ImageFormat::Gif => 4,
        // The image once more.
        ImageFormat::Tiff => stored,
        _ => 0,
    }
}

fn is_transparent(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().any(|pixel| pixel.0[1] != u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] != u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().any(|pixel| pixel.0[1] != u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().any(|pixel| pixel.0[3] != u16::MAX),
        DynamicImage::ImageRgba32F(image) => image.pixels().any(|pixel| pixel.0[3] < 1.0),
        _ => false,
    }
}

/// In one line, and without the inner form of a chunk's name: `ChunkType { type: IDAT, .. }`.
fn in_words(error: &image::ImageError) -> String {
    let text = error.to_string().replace('\n', "; ");
    match text.split_once("ChunkType { type: ").and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
        Some((head, (chunk, tail))) => format!("{head}{}{tail}", chunk.split(',').next().unwrap_or_default()),
        None => text,
    }
}

pub(super) fn decode(bytes: &[u8], format: ImageFormat) -> Result<(Picture, Remarks), DecodeError> {
    let malformed = |error: image::ImageError| match error {
        image::ImageError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        image::ImageError::Unsupported(_) => DecodeError::Unsupported(in_words(&error)),
        other => DecodeError::Malformed(in_words(&other)),
    };
    let tag = |tag| if format == ImageFormat::Tiff { tiff_tag(bytes, tag) } else { None };
    if tag(FILL_ORDER) == Some(2) {
        return Err(DecodeError::BitOrder);
    }
    let followed = further::follow(bytes, format);
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
        let stored = usize::from(decoder.color_type().bytes_per_pixel());
        let as_rgb = if decoder.color_type() == image::ColorType::Rgb8 { 0 } else { 3 };
        within_memory((width, height), stored + as_rgb.max(held(format, stored)), || {
            let image = DynamicImage::from_decoder(decoder).map_err(malformed)?;
            let transparent = is_transparent(&image);
            let pixels = match tag(EXTRA_SAMPLES) {
                Some(1) if image.color().has_alpha() => divided_by_alpha(&image.into_rgba8()),
                _ => image.into_rgb8().into_raw(),
            };
            Ok((Picture { width, height, pixels }, Remarks { turned, transparent, followed, damaged: false }))
        })
    };
    // A decoder's panic is the file's fault, not the program's.
    sandglass_files::catch(read).unwrap_or_else(|panic| Err(DecodeError::Malformed(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
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
