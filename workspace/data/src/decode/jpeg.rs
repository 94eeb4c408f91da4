//! JPEG by libjpeg, bit for bit what Pillow has.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{ptr, thread};

use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress};
use mozjpeg_sys::{jpeg_common_struct, jpeg_error_mgr};

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

thread_local! {
    /// Whether libjpeg warned while it decoded the image that is at hand.
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// Of libjpeg's messages those below 0 are warnings: it goes on, and fills up what it cannot read.
extern "C-unwind" fn heed(_: &mut jpeg_common_struct, level: i32) {
    if level < 0 {
        WARNED.set(true);
    }
}

extern "C-unwind" fn stop(_: &mut jpeg_common_struct) {
    resume_unwind(Box::new(()));
}

extern "C-unwind" fn reset(_: &mut jpeg_common_struct) {}

/// What libjpeg calls with errors and warnings. The other of its kind, which mozjpeg makes, is deaf to warnings; this one has no
/// words for errors.
fn heeding() -> jpeg_error_mgr {
    jpeg_error_mgr {
        error_exit: Some(stop),
        emit_message: Some(heed),
        output_message: Some(reset),
        format_message: None,
        reset_error_mgr: Some(reset),
        msg_code: 0,
        msg_parm: Default::default(),
        trace_level: 0,
        num_warnings: 0,
        jpeg_message_table: ptr::null(),
        last_jpeg_message: 0,
        addon_message_table: ptr::null(),
        first_addon_message: 0,
        last_addon_message: 0,
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Picture, Remarks), DecodeError> {
    let ended = Cell::new(false);
    let markers = markers(bytes);
    let turned = markers.exif.and_then(Orientation::from_exif_chunk).is_some_and(is_turned);
    // libjpeg's errors unwind, without passing through the panic hook.
    let attempt = |errors: Option<jpeg_error_mgr>| -> thread::Result<Result<Picture, DecodeError>> {
        catch_unwind(AssertUnwindSafe(|| read(UntilEnd { rest: bytes, ended: &ended }, errors, &markers)))
    };
    WARNED.set(false);
    let outcome = attempt(Some(heeding()));
    let damaged = WARNED.get();
    match outcome {
        _ if ended.get() => Err(DecodeError::Truncated),
        Ok(result) => result.map(|picture| (picture, Remarks { turned, damaged, ..Remarks::default() })),
        // Once more, for the words.
        Err(_) => {
            let payload = attempt(None).err();
            let reason = payload.as_ref().and_then(|payload| payload.downcast_ref::<String>());
            let reason = reason.map_or("not a readable JPEG", String::as_str);
            Err(DecodeError::Malformed(reason.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn read(source: UntilEnd<'_>, errors: Option<jpeg_error_mgr>, markers: &Markers<'_>) -> Result<Picture, DecodeError> {
    let malformed = |error: io::Error| DecodeError::Malformed(error.to_string());
    let header = match errors {
        Some(errors) => Decompress::with_err(errors).from_reader(source),
        None => Decompress::new_reader(source),
    };
    let header = header.map_err(malformed)?;
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

    fn is_damaged(bytes: &[u8]) -> bool {
        super::decode(bytes).unwrap().1.damaged
    }

    /// libjpeg decodes them all, and warns of "premature end of data segment", "bad Huffman code" or "extraneous bytes".
    #[test]
    fn damage_that_libjpeg_goes_on_after_is_told() {
        for name in ["colour.jpg", "grey.jpg", "cmyk.jpg", "ycck.jpg", "half.jpg", "full.jpg", "progressive.jpg"] {
            let sound = fixture(name);
            assert!(!is_damaged(&sound), "{name}");
            // What follows the image is none of it.
            assert!(!is_damaged(&[&sound[..], b"x"].concat()), "{name}");
            // The last scan ends early, and the image with it.
            let scan = sound.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
            let mut short = sound.clone();
            short.drain(scan + (sound.len() - scan) / 2..sound.len() - 2);
            assert!(is_damaged(&short), "{name}");
        }
        let mut extra = fixture("colour.jpg");
        extra.splice(2..2, *b"xyz");
        assert!(is_damaged(&extra));
        assert!(!is_damaged(&fixture("colour.jpg")), "a warning is of one image");
    }

    #[test]
    fn errors_keep_their_words() {
        let mut bytes = fixture("colour.jpg");
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 4] = 9;
        assert_eq!(decode(&bytes), Err(DecodeError::Malformed("Unsupported JPEG data precision 9".to_owned())));
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
