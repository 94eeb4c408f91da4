//! Whether a part is the training part once more: a link to it, or a copy.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Whether both are one file, or hold the same bytes. What cannot be read is like nothing.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    same_bytes(a, b).unwrap_or(false)
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let [a, b] = [a.canonicalize()?, b.canonicalize()?];
    if a == b {
        return Ok(true);
    }
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let [mut a, mut b] = [open(&a)?, open(&b)?];
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        a.consume(count);
        b.consume(count);
    }
}

fn open(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 16, sandglass_files::open(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_copies_are_the_same_and_one_byte_makes_another() {
        let folder = tempfile::tempdir().unwrap();
        let [a, copy, other, short] = ["a", "copy", "other", "short"].map(|name| folder.path().join(name));
        let mut bytes = vec![7; 200_000];
        std::fs::write(&a, &bytes).unwrap();
        std::fs::write(&copy, &bytes).unwrap();
        std::fs::write(&short, &bytes[1..]).unwrap();
        bytes[150_000] = 8;
        std::fs::write(&other, &bytes).unwrap();
        assert!(is_same(&a, &a) && is_same(&a, &copy));
        assert!(!is_same(&a, &other) && !is_same(&a, &short) && !is_same(&a, &folder.path().join("nothing")));
    }
}
