//! Files that ask for too much, or hold something else.

use super::*;

fn reason(path: &Path) -> String {
    open("set", &[path.to_path_buf()], &[], None, Opened::ForUse).err().unwrap().to_string()
}

/// Three images, of which nothing is asked, and their labels.
fn write_three(path: &Path, labels: [i64; 3]) {
    let bytes = Column::new("bytes".into(), vec![b"x".as_slice(); 3]);
    let images = StructChunked::from_columns("image".into(), 3, &[bytes]).unwrap().into_series();
    let labels = Column::new("label".into(), labels.to_vec());
    let mut table = DataFrame::new(3, vec![images.into(), labels]).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut table).unwrap();
}

#[test]
fn a_second_column_of_labels_is_said_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let bytes = Column::new("bytes".into(), vec![b"P6 1 1 255 abc".as_slice(); 3]);
    let images = StructChunked::from_columns("image".into(), 3, &[bytes]).unwrap().into_series();
    let column = |name: &str, labels: [i64; 3]| Column::new(name.into(), labels.to_vec());
    let columns = vec![column("fine_label", [5, 6, 7]), images.into(), column("label", [1, 0, 1])];
    ParquetWriter::new(File::create(&path).unwrap()).finish(&mut DataFrame::new(3, columns).unwrap()).unwrap();
    let set = open("set", &[path], &[], None, Opened::ForUse).unwrap();
    assert_eq!((set.beside(), set.label(0)), (&["column fine_label".to_owned()][..], 1));
}

/// The reader would reserve room for 2^34 columns, and be ended by the system.
#[test]
fn a_footer_that_asks_for_more_memory_than_there_is_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let footer = [0x15, 2, 0x19, 0xfc, 0x80, 0x80, 0x80, 0x80, 0x40, 0x48, 1, b'a', 0, 0];
    let length = (footer.len() as u32).to_le_bytes();
    std::fs::write(&path, [b"PAR1".as_slice(), &footer, &length, b"PAR1"].concat()).unwrap();
    assert!(reason(&path).ends_with("not a readable parquet file: its footer is damaged"), "{}", reason(&path));
}

/// A column that is one value throughout takes next to no bytes, whatever its length.
#[test]
fn more_images_than_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let zeros = |name: &str| Column::new(name.into(), vec![0_i64; 100_000]);
    let bytes = Column::new("bytes".into(), vec![b"".as_slice(); 100_000]);
    let images = StructChunked::from_columns("image".into(), 100_000, &[bytes]).unwrap().into_series();
    let mut table = DataFrame::new(100_000, vec![images.into(), zeros("label")]).unwrap();
    ParquetWriter::new(File::create(&path).unwrap()).finish(&mut table).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
    assert!(reason(&path).ends_with("it says that it has more images than bytes"), "{}", reason(&path));
}

/// The page of labels says that it holds two gigabytes.
#[test]
fn a_page_that_asks_for_more_memory_than_the_file_can_fill_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    write_three(&path, [0, 1, 2]);
    let places = read(&path, chunks).unwrap();
    extents::check_pages(&mut File::open(&path).unwrap(), &places).unwrap();
    let mut file = std::fs::read(&path).unwrap();
    let chunk = places.last().unwrap();
    // The kind of page, then the size, a number that ends with the first byte below 0x80.
    let at = chunk.start as usize;
    assert_eq!((file[at], file[at + 2]), (0x15, 0x15));
    let size = file[at + 3..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
    file.splice(at + 3..at + 3 + size, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    std::fs::write(&path, file).unwrap();
    assert!(reason(&path).contains("a page says that it holds 2147483647 bytes"), "{}", reason(&path));
}

/// Fewer than none, which polars takes for as many as there are numbers: found by the mutation loop.
#[test]
fn a_page_of_fewer_values_than_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    write_three(&path, [0, 1, 2]);
    let chunk = read(&path, chunks).unwrap().pop().unwrap();
    let sound = std::fs::read(&path).unwrap();
    // The struct of a page, field 5 or 7, whose first field is its three values.
    let page = &sound[chunk.start as usize..chunk.end as usize];
    let at = page.windows(3).position(|head| head[0] & 0xf == 0xc && head[1..] == [0x15, 6]).unwrap();
    let mut file = sound.clone();
    file[chunk.start as usize + at + 2] = 5;
    std::fs::write(&path, file).unwrap();
    assert!(reason(&path).contains("the header of a page is damaged"), "{}", reason(&path));
}

/// A name is made for each class: found by the mutation loop.
#[test]
fn a_label_beyond_any_class_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    write_three(&path, [0, 1, 1 << 30]);
    assert!(reason(&path).contains("a label of 1073741824: more than 1048576 classes"), "{}", reason(&path));
}

/// Each image would read its row group anew before it fails.
#[test]
fn a_column_that_holds_no_images_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let numbers = |name: &str| Column::new(name.into(), (0..100_000_i64).collect::<Vec<_>>());
    let mut table = DataFrame::new(100_000, vec![numbers("image"), numbers("label")]).unwrap();
    ParquetWriter::new(File::create(&path).unwrap()).finish(&mut table).unwrap();
    assert!(reason(&path).ends_with("its column image holds no {bytes, path}"), "{}", reason(&path));
}
