//! SHA-256, by which files are named in rows and manifests.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// In hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Of a file, in hex, without ever holding the file.
///
/// # Errors
/// As for [`open`](crate::open).
pub fn sha256_file(path: &Path) -> io::Result<String> {
    let mut file = crate::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From FIPS 180-2.
    #[test]
    fn abc() {
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), wanted);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert_eq!(sha256_file(file.path()).unwrap(), wanted);
    }
}
