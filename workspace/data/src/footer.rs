//! The footer of a parquet file, walked before polars decodes it: polars reserves room for as many entries as a list says
//! that it has, so that one damaged byte can ask for more memory than there is, which no guard catches.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Footers nest some six levels deep; a deeper one is damaged.
const DEEPEST: usize = 32;

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
    let mut footer = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    file.by_ref().take(length).read_to_end(&mut footer).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Walk(&footer).fields(0).ok_or_else(|| "its footer is damaged".to_owned())
}

/// What is left of a footer. Every method is `None` where the bytes end too soon or say what cannot be.
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

    /// A struct: fields until a zero.
    fn fields(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            // The field's number follows in full where its distance from the last does not fit into the head.
            if head >> 4 == 0 {
                self.number()?;
            }
            match head & 0xf {
                // A field that is true or false has its value in its kind.
                1 | 2 => {}
                kind => self.value(kind, depth)?,
            }
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
        // Structs in structs without end, a number without end.
        assert_eq!(Walk(&[0x1c; 100]).fields(0), None);
        assert_eq!(Walk(&[[0x15].as_slice(), &[0x80; 20]].concat()).fields(0), None);
    }
}
