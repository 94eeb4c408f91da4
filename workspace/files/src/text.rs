//! Text files, with an answer to what is no UTF-8.

use std::io;
use std::path::Path;

/// What a file that is no UTF-8 text probably is.
#[derive(Debug, thiserror::Error)]
enum NoText {
    #[error("it is UTF-16 text: save it as UTF-8")]
    Utf16,
    #[error("line {line} holds a byte that is no UTF-8, as in Latin-1 text: save it as UTF-8")]
    NoUtf8 { line: usize },
    #[error("it is no text")]
    Binary,
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// As for [`open`](crate::open); `InvalidData`, which says what it is, of a file that is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = crate::read(path)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    text(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn text(bytes: Vec<u8>) -> Result<String, NoText> {
    // Latin text of two bytes a letter has a zero in every other place.
    let zeros = bytes.iter().take(64).filter(|byte| **byte == 0).count();
    let is_half_zero = zeros > 0 && zeros * 3 >= bytes.len().min(64);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || is_half_zero {
        return Err(NoText::Utf16);
    }
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        if bytes.contains(&0) { NoText::Binary } else { NoText::NoUtf8 { line } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_called_what_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            read_text(file.path()).map_err(|error| error.to_string())
        };
        let utf16: Vec<u8> = "epochs = 3\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read(&[b"\xff\xfe", &utf16[..]].concat()).unwrap_err().contains("UTF-16"));
        assert!(read(&utf16).unwrap_err().contains("UTF-16"), "without a mark too");
        assert!(read(b"a = 1\n# caf\xe9\n").unwrap_err().contains("line 2 holds a byte that is no UTF-8"));
        assert_eq!(read("\u{feff}a = \"é\"".as_bytes()), Ok("a = \"é\"".to_owned()));
        assert!(read(&[&[b'x'; 300][..], b"\0\xff"].concat()).unwrap_err().contains("no text"));
        assert_eq!(read_text(Path::new("/nowhere/at/all")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
