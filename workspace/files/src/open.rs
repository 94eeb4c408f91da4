//! Opening what was named, if it is a file.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file to be read. Nothing else is opened: to open a pipe is to wait for whoever writes to it, and a device
/// reads as an empty file or as one without end.
///
/// # Errors
/// Whatever the system refuses; `InvalidInput`, which says what it is, of anything but a file.
pub fn open(path: &Path) -> io::Result<File> {
    let of = fs::metadata(path)?.file_type();
    match of.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", kind(of)))),
    }
}

/// All bytes of a regular file.
///
/// # Errors
/// As for [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn kind(of: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if of.is_fifo() {
            return "a named pipe";
        }
        if of.is_socket() {
            return "a socket";
        }
        if of.is_char_device() || of.is_block_device() {
            return "a device";
        }
    }
    if of.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that nobody writes to would be waited for.
    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_called_what_it_is_and_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket, file) =
            (folder.path().join("pipe"), folder.path().join("socket"), folder.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::write(&file, b"abc").unwrap();
        std::os::unix::fs::symlink(&pipe, folder.path().join("link")).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a named pipe"),
            (&folder.path().join("link"), "a named pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a device"),
            (folder.path(), "a folder"),
        ] {
            let refused = format!("it is {what}, not a file");
            assert_eq!(open(path).unwrap_err().to_string(), refused);
            assert_eq!(read(path).unwrap_err().to_string(), refused);
            assert_eq!(crate::read_text(path).unwrap_err().to_string(), refused);
            assert_eq!(crate::sha256_file(path).unwrap_err().to_string(), refused);
        }
        assert_eq!(read(&file).unwrap(), b"abc");
        assert_eq!(open(&folder.path().join("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
