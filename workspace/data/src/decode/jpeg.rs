//! JPEG by libjpeg, bit for bit what Pillow has.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress};

use super::{DecodeError, Remarks, is_turned, within_memory};
use crate::Picture;

/// Pixels that all scans of a progressive image may visit: some 20 scans, as many as encoders write, of the largest image.
/// A scan may take ten bytes, and each is a walk over the whole image.
const MAX_VISITED: usize = 1 << 32;

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
    progressive: bool,
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
            0xc2 | 0xc6 | 0xca | 0xce => found.progressive = true,
            0xe1 => found.exif = found.exif.or(segment[2..].strip_prefix(b"Exif\0\0")),
            _ => {}
        }
        rest = after;
    }
    found
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Picture, Remarks), DecodeError> {
    let ended = Cell::new(false);
    let markers = markers(bytes);
    let turned = markers.exif.and_then(Orientation::from_exif_chunk).is_some_and(is_turned);
    let remarks = Remarks { turned, ..Remarks::default() };
    // libjpeg's errors unwind, without passing through the panic hook.
    let outcome = catch_unwind(AssertUnwindSafe(|| read(UntilEnd { rest: bytes, ended: &ended }, &markers)));
    match outcome {
        _ if ended.get() => Err(DecodeError::Truncated),
        Ok(result) => result.map(|picture| (picture, remarks)),
        Err(payload) => {
            let reason = payload.downcast_ref::<String>().map_or("not a readable JPEG", String::as_str);
            Err(DecodeError::Malformed(reason.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn read(source: UntilEnd<'_>, markers: &Markers<'_>) -> Result<Picture, DecodeError> {
    let malformed = |error: io::Error| DecodeError::Malformed(error.to_string());
    let header = Decompress::new_reader(source).map_err(malformed)?;
    let (width, height) = header.size();
    let (space, components) = match header.color_space() {
        ColorSpace::JCS_GRAYSCALE => (ColorSpace::JCS_GRAYSCALE, 1),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => (ColorSpace::JCS_CMYK, 4),
        _ => (ColorSpace::JCS_RGB, 3),
    };
    let scans = markers.scans;
    // An image of several scans is gathered as coefficients of two bytes each.
    let gathered = if markers.progressive || scans > 1 { 2 * components } else { 0 };
    let as_rgb = if components == 3 { 0 } else { 3 };
    let sample = components + gathered + as_rgb;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

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
}
