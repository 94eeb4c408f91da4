//! Whether a file holds further images behind its first: frames of an animation, pages. A walk over what its format calls
//! blocks; where they end early or make no sense, no further image is claimed.

use image::ImageFormat;

pub(super) fn follow(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Gif => gif(bytes),
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff => tiff(bytes),
        _ => None,
    }
    .unwrap_or(false)
}

/// Bytes of a palette, by the flags of a screen or an image.
fn palette(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// A second image descriptor.
fn gif(bytes: &[u8]) -> Option<bool> {
    // Behind the signature and the screen, whose fifth byte has the flags.
    let mut at = 13 + palette(*bytes.get(10)?);
    let mut images = 0;
    loop {
        match *bytes.get(at)? {
            0x2c => {
                images += 1;
                if images == 2 {
                    return Some(true);
                }
                // Place and size, flags, a palette, and the size of a code.
                at += 11 + palette(*bytes.get(at + 9)?);
            }
            // The kind of an extension.
            0x21 => at += 2,
            _ => return Some(false),
        }
        // Blocks with their lengths, up to an empty one.
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// The chunk that says how many frames there are comes before the image's own.
fn png(bytes: &[u8]) -> Option<bool> {
    let mut at: usize = 8;
    loop {
        let [a, b, c, d, kind @ ..] = bytes.get(at..)?.first_chunk::<8>()?;
        match kind {
            b"acTL" => {
                let frames = bytes.get(at + 8..)?.first_chunk()?;
                return Some(u32::from_be_bytes(*frames) > 1);
            }
            b"IDAT" | b"IEND" => return Some(false),
            _ => at = at.checked_add(12)?.checked_add(u32::from_be_bytes([*a, *b, *c, *d]) as usize)?,
        }
    }
}

/// More than one frame; chunks have an even number of bytes.
fn webp(bytes: &[u8]) -> Option<bool> {
    let (mut at, mut frames) = (12_usize, 0);
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let [kind @ .., a, b, c, d] = head;
        frames += usize::from(kind == b"ANMF");
        if frames == 2 {
            return Some(true);
        }
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        at = at.checked_add(8)?.checked_add(length)?.checked_add(length % 2)?;
    }
    Some(false)
}

/// A directory says where the next one lies, or 0.
fn tiff(bytes: &[u8]) -> Option<bool> {
    let is_big = bytes.starts_with(b"MM");
    let long = |at: usize| {
        let four = *bytes.get(at..)?.first_chunk()?;
        Some(if is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    let first = long(4)? as usize;
    let two = *bytes.get(first..)?.first_chunk()?;
    let entries = if is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) };
    Some(long(first.checked_add(2 + 12 * usize::from(entries))?)? != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gif_of(images: usize) -> Vec<u8> {
        let mut bytes = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
        for _ in 0..images {
            bytes.extend(b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0");
        }
        bytes.push(0x3b);
        bytes
    }

    fn png_of(frames: Option<u32>) -> Vec<u8> {
        let chunk = |kind: &[u8], data: &[u8]| [&(data.len() as u32).to_be_bytes(), kind, data, &[0; 4]].concat();
        let head = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &[0; 13])].concat();
        let control = frames.map_or(Vec::new(), |frames| chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat()));
        [head, control, chunk(b"IDAT", b"x")].concat()
    }

    fn webp_of(frames: usize) -> Vec<u8> {
        let frame = b"ANMF\x03\0\0\0abc\0";
        [b"RIFF\0\0\0\0WEBPVP8X\x02\0\0\0ab".to_vec(), frame.repeat(frames)].concat()
    }

    fn tiff_of(next: u32) -> Vec<u8> {
        let entry = [0; 12];
        [b"II*\0\x08\0\0\0\x01\0".as_slice(), &entry, &next.to_le_bytes()].concat()
    }

    #[test]
    fn further_images_are_found_and_a_single_one_has_none() {
        assert!(!follow(&gif_of(1), ImageFormat::Gif) && follow(&gif_of(2), ImageFormat::Gif));
        assert!(!follow(&png_of(None), ImageFormat::Png) && !follow(&png_of(Some(1)), ImageFormat::Png));
        assert!(follow(&png_of(Some(2)), ImageFormat::Png));
        assert!(!follow(&webp_of(1), ImageFormat::WebP) && follow(&webp_of(2), ImageFormat::WebP));
        assert!(!follow(&tiff_of(0), ImageFormat::Tiff) && follow(&tiff_of(30), ImageFormat::Tiff));
    }

    #[test]
    fn of_a_file_that_is_cut_short_nothing_is_claimed_that_is_not_there() {
        for (bytes, format) in [(gif_of(2), ImageFormat::Gif), (png_of(Some(2)), ImageFormat::Png)] {
            for end in 0..bytes.len() / 2 {
                assert!(!follow(&bytes[..end], format), "{end}");
            }
        }
        for (bytes, format) in [(webp_of(2), ImageFormat::WebP), (tiff_of(30), ImageFormat::Tiff)] {
            for end in 0..bytes.len() {
                let _ = follow(&bytes[..end], format);
            }
        }
        // Lengths beyond all bounds.
        let mut bytes = png_of(Some(2));
        bytes[8..12].fill(0xff);
        assert!(!follow(&bytes, ImageFormat::Png));
    }
}
