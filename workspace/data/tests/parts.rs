//! Which part of a set is read, that it is said, and that nothing beside it is lost in silence or taken for a class.

use std::fs;
use std::path::{Path, PathBuf};

use polars::prelude::{ParquetCompression, ParquetReader, ParquetWriter, SerReader};
use sandglass_data::{DataError, Dataset, Part, Repeated, Shared, open, shared_with_training};

const SHARD: &str = "parquet/shards/valid.parquet";

/// A folder of copies of fixtures.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(place, file)| folder.add(place, file));
        folder
    }

    /// Each of them a copy of one image, or of one shard.
    fn of(places: &[&str]) -> Self {
        let file = |place: &str| match place {
            // No two shards of a part are the same.
            "train-00001-of-00002.parquet" => "parquet/shards/train-00001-of-00002.parquet",
            place if place.to_lowercase().ends_with("parquet") => SHARD,
            _ => "grey.png",
        };
        Self::new(&places.iter().map(|place| (*place, file(place))).collect::<Vec<_>>())
    }

    fn add(&self, place: &str, file: &str) {
        let place = self.path().join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file), place).unwrap();
    }

    /// A copy with a byte of its own at the end, which decoders do not read.
    fn add_own(&self, place: &str, file: &str, byte: u8) {
        self.add(place, file);
        let place = self.path().join(place);
        let bytes = [fs::read(&place).unwrap(), vec![byte]].concat();
        fs::write(place, bytes).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    fn open(&self, part: Part) -> Result<Dataset, DataError> {
        open(self.path().to_str().unwrap(), part, None)
    }

    fn refusal(&self, part: Part) -> String {
        let message = self.open(part).err().expect("an error").to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }
}

#[test]
fn two_validation_parts_are_refused_and_named() {
    for (places, words) in [
        (&["train/a/1.png", "val/a/1.png", "valid/a/2.png"][..], ["val/", "valid/"]),
        (&["val/a/1.png", "Validation/a/2.png"], ["Validation/", "val/"]),
        (&["validation-00000-of-00001.parquet", "val.parquet"], ["validation-00000-of-00001.parquet", "val.parquet"]),
        (&["validation/0000.parquet", "val/0000.parquet"], ["validation/0000.parquet", "val/0000.parquet"]),
        (&["valid.parquet", "val/a/1.png"], ["parquet files", "images in val/"]),
        (&["test.parquet", "Test/a/1.png"], ["parquet files", "images in Test/"]),
        (&["valid.parquet", "data/valid.parquet"], ["holds two sets", "/data"]),
        (&["valid.parquet", "default/validation/0000.parquet"], ["holds two sets", "/default"]),
        (
            &["validation-00000-of-00001.parquet", "validation-00000-of-00001 (1).parquet"],
            ["validation-00000-of-00001 (1).parquet", "the same shard twice"],
        ),
        (&["valid.parquet", "valid - Copy.parquet"], ["valid - Copy.parquet", "the same shard twice"]),
        (&["test/0000.parquet", "test/0000 (2).parquet"], ["0000 (2).parquet", "the same shard twice"]),
        (&["Valid.parquet", "valid copy.parquet"], ["Valid.parquet", "the same shard twice"]),
    ] {
        let error = Folder::of(places).refusal(Part::Scored);
        assert!(words.iter().all(|word| error.contains(word)), "{places:?}: {error}");
    }
    // Of two shards it is the twin that is named.
    let [first, second, copy] = ["-00000-of-00002", "-00001-of-00002", "-00001-of-00002 (1)"];
    let error =
        Folder::of(&[first, second, copy].map(|shard| format!("valid{shard}.parquet")).each_ref().map(|s| &**s))
            .refusal(Part::Scored);
    assert!(error.contains("valid-00001-of-00002 (1).parquet and valid-00001-of-00002.parquet"), "{error}");

    let cifar = Folder::of(&["valid.parquet"]);
    fs::write(cifar.path().join("test_batch.bin"), b"").unwrap();
    assert!(cifar.refusal(Part::Scored).contains("CIFAR-10's *.bin and parquet files"));
}

#[cfg(unix)]
#[test]
fn two_names_of_one_folder_are_one_part() {
    let set = Folder::of(&["train/a/1.png", "validation/a/1.png"]);
    std::os::unix::fs::symlink("validation", set.path().join("val")).unwrap();
    assert_eq!(set.open(Part::Validation).unwrap().len(), 1);
}

#[test]
fn the_part_that_was_read_is_said_and_what_lies_beside_it() {
    for (places, part, said, beside) in [
        (
            &["train/a/1.png", "val/a/1.png", "test/a/1.png", "notes/x.txt"][..],
            Part::Scored,
            "val/",
            &["notes/", "test/"][..],
        ),
        (&["train/a/1.png", "val/a/1.png"], Part::Train, "train/", &[]),
        (&["a/1.png", "b/1.png"], Part::Scored, "all of it", &[]),
        (&["valid.parquet", "train.parquet", "test.parquet"], Part::Validation, "valid.parquet", &["test.parquet"]),
        (&["test.parquet", "train.parquet"], Part::Validation, "test.parquet", &[]),
        (
            &["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "train_more.parquet", "valid.parquet"],
            Part::Train,
            "train-00000-of-00002.parquet to train-00001-of-00002.parquet, 2 files",
            &["train_more.parquet"],
        ),
        (&["valid.parquet", "preview/1.png", "tables/x.txt"], Part::Scored, "valid.parquet", &["preview/"]),
        (&["default/test/0000.parquet"], Part::Scored, "default/test/0000.parquet", &[]),
        (&["valid (1).parquet"], Part::Scored, "valid (1).parquet", &[]),
    ] {
        let set = Folder::of(places).open(part).unwrap();
        assert_eq!((set.part(), set.beside()), (said, &beside.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..]));
        let listed =
            if beside.is_empty() { said.to_owned() } else { format!("{said}; not read: {}", beside.join(", ")) };
        assert_eq!(set.part_listing(), listed);
    }
    assert_eq!(open("embedded", Part::Scored, None).unwrap().part(), "validation, drawn");
}

#[test]
fn parts_are_known_in_any_case_of_letters() {
    for [train, validation] in [["Train", "Val"], ["TRAIN", "VALIDATION"], ["train", "Valid"]] {
        let set = Folder::of(&[&format!("{train}/a/1.png"), &format!("{validation}/a/1.png")]);
        assert_eq!(set.open(Part::Train).unwrap().part(), format!("{train}/"));
        let scored = set.open(Part::Validation).unwrap();
        assert_eq!((scored.part(), scored.classes()), (&*format!("{validation}/"), &["a".to_string()][..]));
        let set = Folder::of(&[&format!("{train}.parquet"), &format!("{validation}-00000-of-00001.PARQUET")]);
        assert_eq!(set.open(Part::Train).unwrap().part(), format!("{train}.parquet"));
        assert_eq!(set.open(Part::Validation).unwrap().len(), 3);
        let set = Folder::of(&[&format!("{train}/0000.parquet"), &format!("{validation}/0000.parquet")]);
        assert_eq!(set.open(Part::Validation).unwrap().part(), format!("{validation}/0000.parquet"));
    }
    let error = Folder::of(&["Train/a/1.png"]).refusal(Part::Scored);
    assert!(error.contains("has no validation part: it has Train/ but no val/"), "{error}");
    let error = Folder::of(&["train/a/1.png", "test/a/1.png"]).refusal(Part::Scored);
    assert!(error.ends_with("but no val/; test/ is scored where it is named itself"), "{error}");
}

#[test]
fn no_part_becomes_a_class_and_no_class_a_part() {
    for part in ["training", "Test", "testing", "dev", "eval"] {
        let error = Folder::of(&[&format!("{part}/a/1.png"), "cat/1.png"]).refusal(Part::Scored);
        assert!(error.contains(&format!("holds {part}/, which is no class by its name")), "{error}");
    }
    // Several sets have trains among their classes.
    for places in [["bus/1.png", "train/1.png"], ["bus/1.png", "train/steam/1.png"], ["bus/old/1.png", "Val/1.png"]] {
        for part in [Part::Train, Part::Scored] {
            let error = Folder::of(&places).refusal(part);
            assert!(error.contains(", a part by its name, and images in bus/ beside it"), "{error}");
        }
    }
    let below = Folder::of(&["val/bus/1.png", "val/train/1.png"]).open(Part::Scored).unwrap();
    assert_eq!(below.classes(), ["bus", "train"]);
    // Two parts by name are parts, whatever lies beside them.
    let set = Folder::of(&["train/a/1.png", "val/a/1.png", "unlabelled/1.png"]).open(Part::Train).unwrap();
    assert_eq!((set.len(), set.beside()), (1, &["unlabelled/".to_string()][..]));
}

#[test]
fn what_macos_puts_into_archives_is_passed_over_and_named() {
    let set = Folder::new(&[
        ("cat/1.png", "grey.png"),
        ("cat/._1.png", "make.py"),
        ("dog/2.jpg", "colour.jpg"),
        ("dog/__MACOSX/._2.png", "make.py"),
        ("._cat", "make.py"),
        ("__MACOSX/cat/1.png", "grey.png"),
    ]);
    let read = set.open(Part::Scored).unwrap();
    assert_eq!((read.len(), read.classes()), (2, &["cat".to_string(), "dog".to_string()][..]));
    assert_eq!(read.listing(), "2 images of 2 classes, 4 files passed over (2 ._* of macOS, 2 __MACOSX folder)");
    let divided = Folder::of(&["train/a/1.png", "val/a/1.png", "__MACOSX/val/a/1.png"]).open(Part::Scored).unwrap();
    assert_eq!((divided.len(), divided.passed_over()["__MACOSX folder"]), (1, 1));
    let shards = Folder::of(&["valid.parquet", "__MACOSX/val/a/1.png"]);
    shards.add("._valid.parquet", "make.py");
    shards.add("._train.parquet", "make.py");
    assert_eq!(shards.open(Part::Validation).unwrap().len(), 3);
}

#[test]
fn an_orientation_that_is_not_applied_is_counted() {
    // `progressive.jpg` asks for a quarter's turn.
    let set = Folder::new(&[("a/1.jpg", "progressive.jpg"), ("b/2.jpg", "colour.jpg")]).open(Part::Scored).unwrap();
    let turned = |set: &Dataset| set.remarked(|of| of.turned);
    assert_eq!(turned(&set), Some(1));
    assert_eq!(set.listing(), "2 images of 2 classes, 1 with an orientation tag, which is not applied");
    assert_eq!(set.picture(0).unwrap().width, 64);
    assert_eq!([0, 1].map(|index| turned(&set.subset("one", &[index]))), [Some(1), Some(0)]);
}

/// A GIF of two frames, of which the second is not read, and a transparent pixel, whose colour is.
#[test]
fn transparency_and_further_frames_are_counted() {
    let set = Folder::of(&["a/1.png"]);
    let frame = |color: [u8; 4]| image::Frame::new(image::RgbaImage::from_pixel(2, 2, image::Rgba(color)));
    let file = |name: &str| fs::File::create(set.path().join(name)).unwrap();
    let frames = [frame([9, 8, 7, 255]), frame([1, 2, 3, 255])];
    image::codecs::gif::GifEncoder::new(file("a/2.gif")).encode_frames(frames).unwrap();
    let clear = image::RgbaImage::from_pixel(2, 2, image::Rgba([5, 6, 7, 0]));
    clear.write_to(&mut file("a/3.png"), image::ImageFormat::Png).unwrap();
    let opaque = image::RgbaImage::from_pixel(2, 2, image::Rgba([5, 6, 7, 255]));
    opaque.write_to(&mut file("a/4.png"), image::ImageFormat::Png).unwrap();
    let set = set.open(Part::Scored).unwrap();
    assert_eq!((set.remarked(|of| of.transparent), set.remarked(|of| of.followed)), (Some(1), Some(1)));
    assert_eq!(set.picture(2).unwrap().pixels[..3], [5, 6, 7]);
    let told = "4 images of 1 class, 1 transparent somewhere, which is passed over, 1 with further frames or pages, which \
                are not read";
    assert_eq!(set.listing(), told);
}

#[test]
fn images_that_repeat_others_are_counted() {
    let set = Folder::of(&["a/1.png", "a/2.png", "b/1.png"]).open(Part::Scored).unwrap();
    assert_eq!(set.repeated(), Some(Repeated { images: 2, elsewhere: 1 }));
    assert!(set.listing().ends_with("classes, 2 the same file as an earlier one (1 of them under another label)"));
    assert_eq!(set.subset("two", &[0, 1]).repeated(), Some(Repeated { images: 1, elsewhere: 0 }));
    let apart = Folder::of(&["a/1.png"]);
    apart.add_own("b/1.png", "grey.png", 1);
    assert_eq!(apart.open(Part::Scored).unwrap().listing(), "2 images of 2 classes");
    let [one, two] = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
    let twins = Folder::new(&[(one, SHARD), (two, SHARD)]);
    assert!(twins.refusal(Part::Train).contains("train-00001-of-00002.parquet hold the same bytes"));
}

#[cfg(unix)]
#[test]
fn two_classes_that_are_one_folder_are_refused() {
    let set = Folder::of(&["a/1.png", "c/1.png"]);
    std::os::unix::fs::symlink("a", set.path().join("b")).unwrap();
    assert!(set.refusal(Part::Scored).ends_with("its classes a and b are one folder, by a link"));
}

/// Of the set's validation images.
fn shared(set: &Folder) -> Result<Shared, String> {
    let scored = set.open(Part::Scored).unwrap();
    shared_with_training(set.path().to_str().unwrap(), &scored).map_err(|error| {
        assert!(matches!(error, DataError::NoPart { .. }), "{error}");
        error.to_string()
    })
}

#[test]
fn validation_images_that_are_training_images_are_counted_and_a_copied_part_refused() {
    let set = Folder::of(&["train/a/1.png", "train/b/2.png", "val/a/1.png", "val/b/2.png"]);
    let told = "val/ is train/ once more: its validation images are its training images";
    assert!(shared(&set).unwrap_err().ends_with(told));
    // Under other names, and once more.
    fs::rename(set.path().join("val/a/1.png"), set.path().join("val/a/one.png")).unwrap();
    set.add("val/a/more.png", "grey.png");
    assert_eq!(shared(&set), Ok(Shared::Images(3)));
    // Beside more training images, and among others.
    set.add_own("train/a/3.png", "grey.png", 1);
    assert_eq!(shared(&set), Ok(Shared::Images(3)));
    set.add_own("val/a/3.png", "grey.png", 2);
    assert_eq!(shared(&set), Ok(Shared::Images(3)));
    // What is wrong with the training part is no fault of the validation part, and is said.
    fs::create_dir(set.path().join("train/empty")).unwrap();
    assert!(matches!(shared(&set), Ok(Shared::Unknown(reason)) if reason.contains("without images: empty")));

    let [one, two] = ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"];
    let told = format!("{two} is {one} once more: its validation images are its training images");
    assert!(shared(&Folder::of(&[one, two])).unwrap_err().ends_with(&told));
    // The same images in a file of other bytes.
    let packed = Folder::of(&[one]);
    let mut table = ParquetReader::new(fs::File::open(packed.path().join(one)).unwrap()).finish().unwrap();
    let file = fs::File::create(packed.path().join(two)).unwrap();
    ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed).finish(&mut table).unwrap();
    assert_ne!(fs::read(packed.path().join(one)).unwrap(), fs::read(packed.path().join(two)).unwrap());
    assert_eq!(shared(&packed), Ok(Shared::Images(3)));
    for apart in [Folder::of(&[two]), Folder::of(&["a/1.png", "b/1.png"])] {
        assert_eq!(shared(&apart), Ok(Shared::NoTraining));
    }
    let embedded = open("embedded", Part::Scored, None).unwrap();
    assert_eq!(shared_with_training("embedded", &embedded).unwrap(), Shared::NoTraining);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_in_no_circles() {
    use std::os::unix::fs::symlink;
    let linked = Folder::of(&["train/a/1.png"]);
    symlink("train", linked.path().join("val")).unwrap();
    assert!(shared(&linked).unwrap_err().contains("val/ is train/ once more"));
    // Three links to the folder that they lie in are three paths at each step: 3^16 at the old limit.
    for beside in ["val/a/1.png", "valid.parquet"] {
        let set = Folder::of(&[beside]);
        let old = set.path().join("old");
        fs::create_dir(&old).unwrap();
        ["l1", "l2", "l3"].iter().for_each(|link| symlink(".", old.join(link)).unwrap());
        assert!(!set.open(Part::Scored).unwrap().is_empty());
        // An image below is still found.
        set.add("old/deep/1.png", "grey.png");
        match set.open(Part::Scored) {
            Ok(read) => assert_eq!(read.beside(), ["old/"]),
            Err(error) => assert!(error.to_string().contains("images in old/ beside it"), "{error}"),
        }
    }
}

#[test]
fn hidden_folders_among_the_classes_are_counted() {
    let set =
        Folder::of(&["a/1.png", "b/1.png", ".ipynb_checkpoints/1.png", "a/.old/1.png"]).open(Part::Scored).unwrap();
    assert_eq!((set.len(), set.passed_over()["hidden folder"]), (2, 2));
}

#[test]
fn names_that_differ_in_their_unicode_form_are_said_to() {
    let set = Folder::of(&["train/caf\u{e9}/1.png", "val/cafe\u{301}/2.png"]);
    let error = set.refusal(Part::Scored);
    assert!(error.contains("is not among the classes in train/, where") && error.contains("Unicode form"), "{error}");
    assert!(Folder::of(&["train/cafe/1.png", "val/caff/2.png"]).refusal(Part::Scored).ends_with("classes in train/"));
}

#[test]
fn the_first_rows_of_a_part_as_the_hub_converts_them_are_found() {
    let set = Folder::of(&["default/partial-train/0000.parquet", "default/partial-validation/0000.parquet"]);
    assert_eq!(
        set.open(Part::Validation).unwrap().part(),
        "default/partial-validation/0000.parquet, the first rows of a larger part"
    );
    assert_eq!(
        set.open(Part::Train).unwrap().part(),
        "default/partial-train/0000.parquet, the first rows of a larger part"
    );
}

#[test]
fn an_empty_part_is_named_and_not_the_full_one() {
    let set = Folder::of(&["val/a/1.png", "val/b/2.png"]);
    let train = set.path().join("train");
    fs::create_dir(&train).unwrap();
    for part in [Part::Scored, Part::Validation, Part::Train] {
        let error = set.refusal(part);
        assert!(error.starts_with(&format!("{}: ", train.display())) && !error.contains("val"), "{error}");
    }
    // Loose files are no classes.
    set.add("train/1.png", "grey.png");
    let error = set.refusal(Part::Scored);
    assert!(error.contains("train: holds no class folders"), "{error}");
    let set = Folder::of(&["train/a/1.png"]);
    fs::create_dir(set.path().join("val")).unwrap();
    let error = set.refusal(Part::Scored);
    assert!(error.contains(&format!("{}: holds no image", set.path().join("val").display())), "{error}");
    let set = Folder::of(&["validation/0000.parquet"]);
    fs::create_dir(set.path().join("Train")).unwrap();
    assert!(set.refusal(Part::Train).ends_with("has no train*.parquet; Train/ holds none"));
}

#[test]
fn files_beside_the_parts_and_in_parts_that_are_not_read_are_counted() {
    let set = Folder::of(&["train/a/1.png", "val/a/1.png", "test/1.png", "test/deep/2.png", "notes/x.txt"]);
    for file in ["words.txt", "README", "val/list.csv", "test/.hidden/x.png"] {
        set.add(file, "make.py");
    }
    let counted = |part: Part| {
        let set = set.open(part).unwrap();
        set.passed_over().iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>()
    };
    let beside = ["1 txt beside the parts", "1 without extension beside the parts"];
    assert_eq!(counted(Part::Scored), [&["1 csv beside the class folders", "2 png in test/"][..], &beside].concat());
    assert_eq!(counted(Part::Train), [&["2 png in test/"][..], &beside].concat());
}

/// For torchvision a cat in `dog/cat/` is a dog.
#[test]
fn folders_within_class_folders_are_said() {
    let nested = |places: &[&str]| Folder::of(places).open(Part::Scored).unwrap();
    let set = nested(&["dog/1.png", "dog/cat/1.png", "hen/1.png"]);
    assert_eq!((set.nested(), set.classes().len()), (&["dog/cat/".to_owned()][..], 2));
    assert!(set.listing().contains(", the folder dog/cat/ within a class is taken for that class's"));
    // Classes that lie a folder deeper than they should, and a folder that is called as another class is.
    assert_eq!(nested(&["pets/cat/1.png", "pets/dog/1.png"]).nested(), ["pets/cat/", "pets/dog/"]);
    assert_eq!(nested(&["cat/1.png", "dog/cat/1.png"]).nested(), ["dog/cat/"]);
    // Tiny-ImageNet's own.
    let set = nested(&["cat/images/1.png", "dog/images/1.png", "dog/images/2.png"]);
    assert!(set.nested().is_empty() && !set.listing().contains("within"));
}

#[test]
fn every_extension_of_pnm_is_read() {
    let set = Folder::of(&["a/1.png"]);
    for (at, extension) in ["pnm", "pbm", "pgm", "ppm", "PNM", "pam"].into_iter().enumerate() {
        fs::write(set.path().join(format!("a/{at}.{extension}")), [b"P6 1 1 255\n", &[at as u8; 3][..]].concat())
            .unwrap();
    }
    let set = set.open(Part::Scored).unwrap();
    assert_eq!((set.len(), set.passed_over().len()), (7, 0));
}

#[test]
fn images_that_are_decoded_with_damage_are_counted() {
    let set = Folder::new(&[("a/1.jpg", "colour.jpg"), ("b/2.jpg", "colour.jpg")]);
    let path = set.path().join("b/2.jpg");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 2;
    bytes.drain(end - 200..end);
    fs::write(path, bytes).unwrap();
    let set = set.open(Part::Scored).unwrap();
    assert_eq!(set.remarked(|of| of.damaged), Some(1));
    assert!(
        set.listing().ends_with(", 1 with damage that libjpeg warns of, decoded all the same"),
        "{}",
        set.listing()
    );
}

#[test]
fn what_lies_there_instead_of_a_set_is_said() {
    let arrow = Folder::new(&[("data.arrow", "grey.png"), ("state.json", "grey.png")]).refusal(Part::Scored);
    assert!(arrow.contains("nor *.parquet") && arrow.ends_with("; passed over: 1 arrow, 1 json"), "{arrow}");
    let saved = Folder::new(&[("train/data.arrow", "grey.png"), ("test/data.arrow", "grey.png")]);
    assert!(saved.refusal(Part::Train).contains("; passed over: 1 arrow beside"), "{}", saved.refusal(Part::Train));
    let divided = Folder::of(&["split=train/0.parquet", "split=valid/0.parquet"]);
    let refusal = divided.refusal(Part::Scored);
    assert!(refusal.contains("2 parquet; parquet files in folders such as split=train/ are scored where"), "{refusal}");
    assert_eq!(open(divided.path().join("split=valid").to_str().unwrap(), Part::Scored, None).unwrap().len(), 3);
}
