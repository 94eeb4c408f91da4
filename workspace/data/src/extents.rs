//! What a parquet file says of its own size, in its footer and before each page, read before polars decodes it: polars
//! reserves room for as much as is said, so that one damaged byte can ask for more memory than there is, which no guard
//! catches.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

/// Footers nest some six levels deep; a deeper one is damaged.
const DEEPEST: usize = 32;

/// Bytes that the header of a page may take; statistics in it hold two values at most.
const LONGEST_HEADER: u64 = 1 << 20;

/// Bytes that the footer may take: read, it takes up to nine times as much memory. That of a million images takes a tenth.
const LONGEST_FOOTER: u64 = 8 << 20;

/// Beside twice the file, bytes that a page may hold: those of a column that is one value throughout are more than the
/// file's.
const PAGE: u64 = 4 << 20;

/// How many times the file's bytes a column of a row group may hold, beside those of a page: pictures that are not packed
/// themselves become so much smaller in a file.
const PACKED: u64 = 16;

/// Bytes of a value that room is reserved for: a label's.
const VALUE: u64 = 8;

/// Whether every list and text of the footer fits into it. The file is left at its start.
///
/// Layout: the metadata in Thrift's compact protocol, its length in four bytes, `PAR1` (Apache Parquet, file format).
///
/// # Errors
/// One line on what does not fit.
pub(crate) fn check(file: &mut File) -> Result<(), String> {
    let unreadable = |error: std::io::Error| error.to_string();
    let bytes = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(bytes.saturating_sub(8))).map_err(unreadable)?;
    file.read_exact(&mut tail).map_err(|_| "it is too short".to_owned())?;
    let [a, b, c, d, magic @ ..] = tail;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if magic != *b"PAR1" {
        return Err("it does not end as one does".to_owned());
    }
    let start = bytes.checked_sub(8 + length).ok_or("its footer is longer than the file")?;
    if length > LONGEST_FOOTER {
        return Err(format!("its footer takes {length} bytes: of more than {LONGEST_FOOTER} none is read"));
    }
    let mut footer = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    file.by_ref().take(length).read_to_end(&mut footer).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Walk(&footer).fields(0).ok_or_else(|| "its footer is damaged".to_owned())
}

/// Whether every page of the column chunks at these places lies within its chunk, and holds no more than twice the file and
/// 4 MiB once it is unpacked, its values too at eight bytes each; and all pages of a chunk no more than 16 times the file.
///
/// Layout: pages one after the other, each a header in Thrift's compact protocol and as many bytes as it says.
///
/// # Errors
/// One line on what does not fit.
pub(crate) fn check_pages(file: &mut File, chunks: &[Range<u64>]) -> Result<(), String> {
    let unreadable = |error: std::io::Error| error.to_string();
    let bytes = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let most = bytes.saturating_mul(2).saturating_add(PAGE);
    for chunk in chunks {
        let mut at = chunk.start;
        let mut left = bytes.saturating_mul(PACKED).saturating_add(PAGE);
        while at < chunk.end {
            let mut header = Vec::new();
            // Nearly all are shorter than the first try.
            for length in [256, LONGEST_HEADER] {
                header.clear();
                file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
                file.by_ref().take(length.min(chunk.end - at)).read_to_end(&mut header).map_err(unreadable)?;
                if Walk(&header).page().is_some() {
                    break;
                }
            }
            let mut walk = Walk(&header);
            let Page { unpacked, packed, values } = walk.page().ok_or("the header of a page is damaged")?;
            if unpacked > most {
                return Err(format!("a page says that it holds {unpacked} bytes, and the file has {bytes}"));
            }
            left = left.checked_sub(unpacked).ok_or_else(|| {
                format!("a column of a row group holds more than {PACKED} times the {bytes} bytes of the file")
            })?;
            if values > most / VALUE {
                return Err(format!("a page says that it holds {values} values, and the file has {bytes} bytes"));
            }
            at += (header.len() - walk.0.len()) as u64;
            at = at.checked_add(packed).filter(|end| *end <= chunk.end).ok_or("a page is longer than its column")?;
        }
    }
    Ok(())
}

/// What a page says of itself: its bytes once they are unpacked, as they lie there, and its values.
#[derive(Debug, PartialEq)]
struct Page {
    unpacked: u64,
    packed: u64,
    values: u64,
}

/// What is left of a footer or a header. Every method is `None` where the bytes end too soon or say what cannot be.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The same with a sign, which is its lowest bit. None where it is negative.
    fn count(&mut self) -> Option<u64> {
        let number = self.number()?;
        (number & 1 == 0).then_some(number >> 1)
    }

    /// A struct: fields until a zero.
    fn fields(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let mut last = 0;
        while let Some(kind) = self.field(&mut last)? {
            self.plain(kind, depth)?;
        }
        Some(())
    }

    /// The header of a page: its bytes once they are unpacked (field 2), as they lie there (field 3), and in the struct of its
    /// kind (5 to 8) its values (field 1), beside other numbers, none of which is negative.
    fn page(&mut self) -> Option<Page> {
        let (mut unpacked, mut packed, mut values, mut last) = (None, None, 0, 0);
        while let Some(kind) = self.field(&mut last)? {
            match (last, kind) {
                (2, 5) => unpacked = Some(self.count()?),
                (3, 5) => packed = Some(self.count()?),
                (5..=8, 12) => {
                    let mut inner = 0;
                    while let Some(kind) = self.field(&mut inner)? {
                        match (inner, kind) {
                            (1, 5) => values = self.count()?,
                            (_, 5) => drop(self.count()?),
                            _ => self.plain(kind, 0)?,
                        }
                    }
                }
                _ => self.plain(kind, 0)?,
            }
        }
        Some(Page { unpacked: unpacked?, packed: packed?, values })
    }

    /// The kind of the next field of a struct, and its number in `last`; `Some(None)` at the struct's end.
    fn field(&mut self, last: &mut u64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        // The number follows in full where its distance from the last does not fit into the head.
        *last = match head >> 4 {
            0 => self.count()?,
            distance => last.checked_add(u64::from(distance))?,
        };
        Some(Some(head & 0xf))
    }

    /// The value of a struct's field.
    fn plain(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            // A field that is true or false has its value in its kind.
            1 | 2 => Some(()),
            kind => self.value(kind, depth),
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let length = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                // Every entry takes a byte at least.
                if length > self.0.len() as u64 {
                    return None;
                }
                (0..length).try_for_each(|_| self.value(head & 0xf, depth + 1))
            }
            12 => self.fields(depth + 1),
            // Maps (11) and whatever comes later occur in no footer.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct with a list of two texts, true, a number, and a struct within.
    const SOUND: &[u8] = &[0x19, 0x28, 1, b'a', 2, b'b', b'c', 0x11, 0x15, 0x80, 1, 0x1c, 0x15, 2, 0, 0];

    #[test]
    fn a_sound_footer_is_walked_to_its_end() {
        let mut walk = Walk(SOUND);
        assert_eq!((walk.fields(0), walk.0.len()), (Some(()), 0));
    }

    #[test]
    fn a_footer_that_is_cut_short_or_claims_too_much_is_refused() {
        for end in 0..SOUND.len() {
            assert_eq!(Walk(&SOUND[..end]).fields(0), None, "{end}");
        }
        // A list of 2^34 texts, and a text of as many bytes.
        assert_eq!(Walk(&[0x19, 0xf8, 0x80, 0x80, 0x80, 0x80, 0x40, 1, b'a', 0]).fields(0), None);
        assert_eq!(Walk(&[0x18, 0x80, 0x80, 0x80, 0x80, 0x40, b'a', 0]).fields(0), None);
        // A page of 100 bytes, 5 as it lies there; and one that says no size, or one below 0.
        let page = |values| Some(Page { unpacked: 100, packed: 5, values });
        assert_eq!(Walk(&[0x15, 0, 0x15, 200, 1, 0x15, 10, 0]).page(), page(0));
        // Of 7 values; and of fewer than none, in either field.
        assert_eq!(Walk(&[0x15, 0, 0x15, 200, 1, 0x15, 10, 0x2c, 0x15, 14, 0x15, 2, 0, 0]).page(), page(7));
        assert_eq!(Walk(&[0x15, 0, 0x15, 200, 1, 0x15, 10, 0x2c, 0x15, 13, 0x15, 2, 0, 0]).page(), None);
        assert_eq!(Walk(&[0x15, 0, 0x15, 200, 1, 0x15, 10, 0x2c, 0x15, 14, 0x15, 1, 0, 0]).page(), None);
        assert_eq!(Walk(&[0x15, 0, 0x25, 10, 0]).page(), None);
        assert_eq!(Walk(&[0x15, 0, 0x15, 1, 0x15, 10, 0]).page(), None);
        // Structs in structs without end, a number without end.
        assert_eq!(Walk(&[0x1c; 100]).fields(0), None);
        assert_eq!(Walk(&[[0x15].as_slice(), &[0x80; 20]].concat()).fields(0), None);
    }
}
