//! Opening a small source: every image is read and decoded once, in parallel, and what fits is kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::dataset::{Digest, Source, decoded, digest};
use crate::decode::LARGE;
use crate::{DataError, Picture, Remarks};

/// Images of one size are kept decoded, and hashed by their pixels, up to this many bytes of them: a constant, so that
/// no hash depends on a machine.
const SIZED: usize = 2 << 30;

/// Beside twice the files, bytes that the names of their images may take: a few bytes of a file may say one again and again.
const NAMES: u64 = 64 << 20;

/// Images that are decoded in parallel before they are put in place.
const CHUNK: usize = 1024;

/// Bytes of decoded images of differing sizes that one set may keep: a third of what the system has left, for two
/// processes may run side by side, each with a training and a validation part. Where the system does not say, none.
pub(crate) fn room() -> usize {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let left = || {
        let all = read(Path::new("/proc/meminfo"))?;
        let kib = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.strip_suffix("kB")?;
        kib.trim().parse::<usize>().ok()?.checked_mul(1024)
    };
    // A batch system's bound on this process, if there is one; "max" is no number.
    let allowed = || {
        let groups = read(Path::new("/proc/self/cgroup"))?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        read(&Path::new("/sys/fs/cgroup").join(group).join("memory.max"))?.trim().parse::<usize>().ok()
    };
    left().unwrap_or(0).min(allowed().unwrap_or(usize::MAX)) / 3
}

/// What came of reading all images.
pub(crate) struct Reading {
    pub names: Vec<String>,
    /// Of the encoded bytes.
    pub digests: Vec<Digest>,
    /// Places of the images of which there is something to remark.
    pub remarks: Vec<(u32, Remarks)>,
    /// Height and width, where all images share them and are kept.
    pub size: Option<(usize, usize)>,
    /// None where they do not fit.
    pub pictures: Option<Vec<Picture>>,
}

/// Keeps images of differing sizes up to `room` bytes decoded. `set` is named by errors.
///
/// # Errors
///
/// [`DataError::Broken`] names the images that cannot be read or decoded; [`DataError::Size`] of names out of all measure.
pub(crate) fn read_all(set: &str, source: &dyn Source, images: usize, room: usize) -> Result<Reading, DataError> {
    let (mut names, mut digests, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all_remarks, mut failures) = (Vec::new(), Vec::new());
    let (mut size, mut one_size, mut keep) = (None, true, true);
    let (mut total, mut named) = (0_usize, 0_u64);
    for part in parts(source.runs(), images) {
        let most = if one_size { room.max(SIZED) } else { room };
        // Counted while they are decoded, so that a chunk of large images is dropped one by one.
        let held = AtomicUsize::new(total);
        let read = |index| {
            let (digest, picture, remarks) = read(source, index)?;
            let bytes = picture.pixels.len();
            let size = (picture.height, picture.width);
            // A file of a few bytes may be a large image: none of these is held.
            let fits = keep && bytes <= LARGE && held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= most;
            Ok((digest, size, remarks, fits.then_some(picture)))
        };
        let chunk: Vec<Result<_, DataError>> = part.clone().into_par_iter().map(read).collect();
        let from = names.len();
        names.par_extend(part.into_par_iter().map(|index| source.name(index)));
        named += names[from..].iter().map(String::len).sum::<usize>() as u64;
        if named > source.total_bytes().saturating_mul(2).saturating_add(NAMES) {
            let reason = format!("the names of its first {} images are longer than its files", names.len());
            return Err(DataError::Size { set: set.to_owned(), reason });
        }
        for image in chunk {
            match image {
                Ok((digest, (height, width), remarks, picture)) => {
                    if remarks.is_any() {
                        all_remarks.push((digests.len() as u32, remarks));
                    }
                    digests.push(digest);
                    one_size &= *size.get_or_insert((height, width)) == (height, width);
                    total = total.saturating_add(height * width * 3);
                    keep &= picture.is_some();
                    pictures.extend(picture);
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        keep &= one_size || total <= room;
        if !keep {
            pictures = Vec::new();
        }
    }
    if !failures.is_empty() {
        return Err(DataError::broken(set, images, failures));
    }
    own_names(&mut names, source);
    let is_large = |(height, width): (usize, usize)| height * width * 3 > LARGE;
    let size = size.filter(|&size| one_size && total <= SIZED && !is_large(size));
    let keep = keep && (size.is_some() || total <= room);
    Ok(Reading { names, digests, remarks: all_remarks, size, pictures: keep.then_some(pictures) })
}

fn read(source: &dyn Source, index: usize) -> Result<(Digest, Picture, Remarks), DataError> {
    let encoded = source.encoded(index)?;
    let (mut picture, remarks) = decoded(source, index, &encoded)?;
    picture.pixels.shrink_to_fit();
    Ok((digest(&encoded), picture, remarks))
}

/// Runs one after another, for a row group is read whole; within a run in parallel.
fn parts(runs: &[usize], images: usize) -> Vec<Range<usize>> {
    let whole = [images];
    let runs = if runs.is_empty() { &whole[..] } else { runs };
    let mut parts = Vec::new();
    let mut from = 0;
    for run in runs {
        let end = from + run;
        parts.extend((from..end).step_by(CHUNK).map(|start| start..(start + CHUNK).min(end)));
        from = end;
    }
    parts
}

/// Images that share a name are called by where they lie.
fn own_names(names: &mut [String], source: &dyn Source) {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    names.iter().for_each(|name| *count.entry(name).or_default() += 1);
    let shared: Vec<usize> = (0..names.len()).filter(|&index| count[names[index].as_str()] > 1).collect();
    shared.into_iter().for_each(|index| names[index] = source.location(index));
}
