//! What a file is, by how it starts.

/// Bytes of a file that [`kind`] looks at.
pub const HEAD: usize = 512;

/// What a file is that starts so, in words: of the kinds that are taken for one another, or lie where a download should.
/// None of any other.
pub fn kind(head: &[u8]) -> Option<&'static str> {
    const INDEX: &[u8] = b"\"weight_map\"";
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    Some(match head {
        [] => "an empty file",
        [0xff, 0xd8, 0xff, ..] => "a JPEG image",
        [0x89, b'P', b'N', b'G', ..] => "a PNG image",
        [b'G', b'I', b'F', b'8', ..] => "a GIF image",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF image",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "a WebP image",
        [b'P', b'A', b'R', b'1', ..] => "a parquet file",
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => "an Arrow file",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x1f, 0x8b, ..] => "packed by gzip",
        [b'B', b'Z', b'h', ..] => "packed by bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "packed by xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "packed by zstd",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "an array of NumPy's",
        [0x80, 2..=5, ..] => "a pickle",
        _ if head.get(257..262) == Some(b"ustar") => "a tar archive",
        _ if head.starts_with(b"version https://git-lfs.github.com/spec/") => {
            "a pointer of git-lfs in place of the file, which git lfs pull fetches"
        }
        _ if text.starts_with(b"{") && head.windows(INDEX.len()).any(|window| window == INDEX) => {
            "the index of a checkpoint that lies in several files"
        }
        _ if text.starts_with(b"{") || text.starts_with(b"[") => "JSON",
        _ if text.starts_with(b"<") => "a page of HTML or XML",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_place_of_another_file_is_told() {
        for (head, what) in [
            (&b""[..], "an empty file"),
            (b"\x89PNG\r\n\x1a\n", "a PNG image"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs"),
            (b"{\"metadata\": {}, \"weight_map\": {", "the index of a checkpoint"),
            (b"\xef\xbb\xbf {\"a\": 1}", "JSON"),
            (b"\n<!DOCTYPE html>", "a page of HTML"),
        ] {
            assert!(kind(head).unwrap().starts_with(what), "{what}");
        }
        let mut tar = [0; HEAD];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(kind(&tar), Some("a tar archive"));
        assert_eq!((kind(&[0; HEAD]), kind(b"index,wnid,name")), (None, None));
    }
}
