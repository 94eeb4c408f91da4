//! The directory of a zip file whose entries are stored as they are, as `torch.save` writes it.
//!
//! The `zip` crate reserves memory by counts that the file claims; here nothing is larger than the bytes it came from.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::Problem;

const MAX_DIRECTORY: u64 = 16 << 20;
const END: u32 = 0x0605_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END64: u32 = 0x0606_4b50;
const ENTRY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

/// One file in the archive.
pub(super) struct Entry {
    pub name: String,
    pub size: u64,
    header: u64,
    checksum: u32,
}

/// All entries, in the directory's order.
pub(super) fn entries(file: &mut File, length: u64) -> Result<Vec<Entry>, Problem> {
    let (at, size) = directory(file, length)?;
    if size > MAX_DIRECTORY {
        return Err(Problem::TooLarge { what: "a zip directory", size, limit: MAX_DIRECTORY });
    }
    let directory = read_at(file, at, size as usize)?;
    let mut rest = directory.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        entries.push(entry(&mut rest, length)?);
    }
    Ok(entries)
}

impl Entry {
    /// Where the entry's bytes start.
    pub fn start(&self, file: &mut File) -> Result<u64, Problem> {
        let local = read_at(file, self.header, 30)?;
        if u32_at(&local, 0)? != LOCAL {
            return Err(Problem::Zip("an entry is not where the directory says"));
        }
        let names = u64::from(u16_at(&local, 26)?) + u64::from(u16_at(&local, 28)?);
        Ok(self.header + 30 + names)
    }

    /// Compares the bytes with the checksum in the directory.
    pub fn verify(&self, file: &mut File) -> Result<(), Problem> {
        let start = self.start(file)?;
        file.seek(SeekFrom::Start(start))?;
        let (mut hasher, mut left) = (crc32fast::Hasher::new(), self.size);
        let mut buffer = [0; 1 << 16];
        while left > 0 {
            let bytes = &mut buffer[..left.min(1 << 16) as usize];
            file.read_exact(bytes).map_err(|_| Problem::Zip("the file ends within an entry"))?;
            hasher.update(bytes);
            left -= bytes.len() as u64;
        }
        if hasher.finalize() == self.checksum { Ok(()) } else { Err(Problem::Checksum(self.name.clone())) }
    }
}

/// Offset and size of the directory.
fn directory(file: &mut File, length: u64) -> Result<(u64, u64), Problem> {
    // The end record is 22 bytes and a comment of up to 65,535.
    let tail_start = length.saturating_sub(22 + 0xffff);
    let tail = read_at(file, tail_start, (length - tail_start) as usize)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&at| u32_at(&tail, at).is_ok_and(|signature| signature == END))
        .ok_or(Problem::Zip("no directory: the file is cut short"))?;
    let (mut size, mut at) = (u64::from(u32_at(&tail, end + 12)?), u64::from(u32_at(&tail, end + 16)?));
    if at == 0xffff_ffff || size == 0xffff_ffff {
        let locator = end.checked_sub(20).ok_or(Problem::Zip("no zip64 directory"))?;
        if u32_at(&tail, locator)? != END64_LOCATOR {
            return Err(Problem::Zip("no zip64 directory"));
        }
        let end64 = read_at(file, u64_at(&tail, locator + 8)?, 56)?;
        if u32_at(&end64, 0)? != END64 {
            return Err(Problem::Zip("no zip64 directory"));
        }
        (size, at) = (u64_at(&end64, 40)?, u64_at(&end64, 48)?);
    }
    match at.checked_add(size) {
        Some(end) if end <= length => Ok((at, size)),
        _ => Err(Problem::Zip("the directory lies outside the file")),
    }
}

/// Takes the next entry off the directory.
fn entry(rest: &mut &[u8], length: u64) -> Result<Entry, Problem> {
    if u32_at(rest, 0)? != ENTRY {
        return Err(Problem::Zip("the directory is damaged"));
    }
    let [flags, method] = [u16_at(rest, 8)?, u16_at(rest, 10)?];
    let checksum = u32_at(rest, 16)?;
    let mut sizes = [u32_at(rest, 24)?, u32_at(rest, 20)?, u32_at(rest, 42)?].map(u64::from);
    let [name, extra, comment] = [u16_at(rest, 28)?, u16_at(rest, 30)?, u16_at(rest, 32)?].map(usize::from);
    let short = || Problem::Zip("the directory is damaged");
    let name_bytes = rest.get(46..46 + name).ok_or_else(short)?;
    let extra_bytes = rest.get(46 + name..46 + name + extra).ok_or_else(short)?;
    *rest = rest.get(46 + name + extra + comment..).ok_or_else(short)?;

    let name = String::from_utf8_lossy(name_bytes).into_owned();
    let mut wide = zip64(extra_bytes);
    for size in sizes.iter_mut().filter(|size| **size == 0xffff_ffff) {
        *size = u64_at(wide, 0)?;
        wide = &wide[8..];
    }
    let [size, packed, header] = sizes;
    if method != 0 || flags & 1 != 0 || size != packed {
        return Err(Problem::Packed(name));
    }
    if header.checked_add(30).and_then(|start| start.checked_add(size)).is_none_or(|end| end > length) {
        return Err(Problem::OutsideFile(name));
    }
    Ok(Entry { name, size, header, checksum })
}

/// The 64-bit sizes among an entry's extra fields.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let (Ok(id), Ok(size)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = 4 + usize::from(size);
        match extra.get(4..end) {
            Some(field) if id == 1 => return field,
            Some(_) => extra = &extra[end..],
            None => break,
        }
    }
    &[]
}

/// Never more than the file has.
pub(super) fn read_at(file: &mut File, at: u64, size: usize) -> Result<Vec<u8>, Problem> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.by_ref().take(size as u64).read_to_end(&mut bytes)?;
    if bytes.len() == size { Ok(bytes) } else { Err(Problem::Zip("the file is cut short")) }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Problem> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Problem> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Problem> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Problem> {
    let array = bytes.get(at..).and_then(|rest| rest.first_chunk());
    array.copied().ok_or(Problem::Zip("the directory is damaged"))
}
