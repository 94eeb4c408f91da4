//! A hash of the whole file, kept inside the file: checked before any byte is parsed.
//!
//! Parquet readers trust the sizes that they find, and end the program when one asks for too much memory, so a damaged
//! file must not reach one. The seal finds damage and edits; it is no signature against someone who seals anew.

const MARK: &[u8] = b"sandglass-seal-blake3:";
const DIGITS: usize = 64;

/// The metadata value to write first: the mark and zeros in the place of the hash.
pub fn unsealed() -> String {
    format!("{}{}", String::from_utf8_lossy(MARK), "0".repeat(DIGITS))
}

/// Where the digits lie. The last mark counts: a parquet file's metadata follows its data.
fn digits_at(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let mark = bytes.windows(MARK.len()).rposition(|window| window == MARK)?;
    let start = mark + MARK.len();
    (start + DIGITS <= bytes.len()).then_some(start..start + DIGITS)
}

fn hash_around(bytes: &[u8], digits: &std::ops::Range<usize>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..digits.start]).update(&[b'0'; DIGITS]).update(&bytes[digits.end..]);
    hasher.finalize().to_hex().to_string()
}

/// Fills in the hash; false where the file holds no place for it.
#[must_use]
pub fn seal(bytes: &mut [u8]) -> bool {
    let Some(digits) = digits_at(bytes) else { return false };
    let hash = hash_around(bytes, &digits);
    bytes[digits].copy_from_slice(hash.as_bytes());
    true
}

/// Whether these are the bytes that were sealed.
pub fn is_intact(bytes: &[u8]) -> bool {
    digits_at(bytes).is_some_and(|digits| bytes[digits.clone()] == *hash_around(bytes, &digits).as_bytes())
}
