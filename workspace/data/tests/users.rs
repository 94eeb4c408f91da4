//! Sets as people have them: parts that are missing, labels that are names, files that are no images, shards that do not
//! belong together.

use std::fs;
use std::path::{Path, PathBuf};

use sandglass_data::{DataError, Dataset, DecodeError, Part, decode, open};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open_path(path: &Path, part: Part, classes: Option<usize>) -> Result<Dataset, DataError> {
    open(path.to_str().unwrap(), part, classes)
}

fn message(result: Result<Dataset, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn labels(set: &Dataset) -> Vec<u32> {
    (0..set.len()).map(|index| set.label(index)).collect()
}

fn names(set: &Dataset) -> Vec<String> {
    (0..set.len()).map(|index| set.image_name(index)).collect()
}

/// A folder of copies of fixtures.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (place, file) in files {
        let place = folder.path().join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(fixtures().join(file), place).unwrap();
    }
    folder
}

const VALID: &str = "parquet/shards/valid.parquet";

#[test]
fn a_missing_part_is_never_replaced_by_another() {
    let images = folder(&[("a/1.png", "grey.png"), ("b/2.png", "grey.png")]);
    let divided = folder(&[("train/a/1.png", "grey.png")]);
    let shards = folder(&[("train-00000-of-00001.parquet", VALID)]);
    let deep = folder(&[("default/train/0000.parquet", VALID)]);
    for set in [&images, &divided, &shards, &deep] {
        assert!(open_path(set.path(), Part::Train, None).is_ok());
        let error = open_path(set.path(), Part::Validation, None).err().unwrap();
        assert!(matches!(error, DataError::NoPart { .. }), "{error}");
        assert!(error.to_string().contains("has no validation part: it"), "{error}");
    }
    // What is not divided can be scored by who names it; of what is, the training part cannot.
    assert_eq!(open_path(images.path(), Part::Scored, None).unwrap().len(), 2);
    for set in [&divided, &shards, &deep] {
        assert!(matches!(open_path(set.path(), Part::Scored, None), Err(DataError::NoPart { .. })));
    }
    assert!(message(open_path(shards.path(), Part::Scored, None)).contains("train*.parquet alone"));
    // Whatever a training part is called by its writer.
    for name in ["training", "my-train-00000-of-00001", "imagenet_train", "trainval", "train[:10]", "Train-v2"] {
        let set = folder(&[(&format!("{name}.parquet"), VALID)]);
        let error = open_path(set.path(), Part::Scored, None).err().unwrap();
        assert!(matches!(error, DataError::NoPart { .. }), "{name}: {error}");
    }
    let lone = folder(&[("strain.parquet", VALID)]);
    assert_eq!(open_path(lone.path(), Part::Scored, None).unwrap().len(), 3);
    let lone = folder(&[("faces.parquet", VALID)]);
    assert_eq!(open_path(lone.path(), Part::Scored, None).unwrap().len(), 3);
    assert!(matches!(open_path(lone.path(), Part::Validation, None), Err(DataError::NoPart { .. })));
    let file = lone.path().join("faces.parquet");
    assert_eq!(open_path(&file, Part::Scored, None).unwrap().len(), 3);
    assert!(matches!(open_path(&file, Part::Validation, None), Err(DataError::NoPart { .. })));
}

#[test]
fn the_hubs_folders_and_pytorchs_names_of_parts_are_found() {
    for train in ["train/0000.parquet", "default/train/0000.parquet", "cifar100/train/0000.parquet"] {
        let validation = train.replace("train/", "test/");
        let set = folder(&[(train, "parquet/shards/train-00001-of-00002.parquet"), (&validation, VALID)]);
        assert_eq!(open_path(set.path(), Part::Train, None).unwrap().len(), 2, "{train}");
        assert_eq!(open_path(set.path(), Part::Validation, None).unwrap().len(), 3, "{train}");
    }
    let two = folder(&[("en/train/0000.parquet", VALID), ("de/train/0000.parquet", VALID)]);
    let error = message(open_path(two.path(), Part::Train, None));
    assert!(error.contains("holds two sets") && error.contains("/de") && error.contains("/en"), "{error}");
    for part in ["val", "valid", "validation"] {
        let set = folder(&[("train/a/1.png", "grey.png"), (&format!("{part}/a/2.png"), "grey.png")]);
        assert_eq!(names(&open_path(set.path(), Part::Validation, None).unwrap()), ["a/2.png"], "{part}");
    }
}

/// As Spark, DuckDB and pyarrow name them.
#[test]
fn shards_of_any_name_in_a_folder_of_their_part_are_read() {
    let second = "parquet/shards/train-00001-of-00002.parquet";
    for [one, two] in [["part-00000-a1-c000.snappy", "part-00001-a1-c000.snappy"], ["data_0", "data_1"], ["a", "b"]] {
        let [one, two] = [one, two].map(|name| format!("validation/{name}.parquet"));
        let set = folder(&[(&one, VALID), (&two, second)]);
        assert_eq!(open_path(set.path(), Part::Scored, None).unwrap().len(), 5, "{one}");
        // A copy is still a copy.
        let copy = folder(&[(&one, VALID), (&one.replace(".parquet", " (1).parquet"), second)]);
        assert!(message(open_path(copy.path(), Part::Scored, None)).contains("the same shard twice"), "{one}");
    }
    // One shard packed in two ways, and two writes.
    for ([one, two], words) in [
        (["part-00000-a1-c000.snappy", "part-00000-a1-c000.gz"], "the same shard twice"),
        (["part-00000-a1-c000.snappy", "part-00000-b2-c000.snappy"], "two revisions of one part"),
        (["part-00000-a1-c000", "part-00001-b2-c000"], "two revisions of one part"),
    ] {
        let places = [one, two].map(|name| format!("validation/{name}.parquet"));
        let set = folder(&[(&places[0], VALID), (&places[1], second)]);
        let error = message(open_path(set.path(), Part::Scored, None));
        assert!(error.contains(words) && error.contains(one) && error.contains(two), "{error}");
    }
    let set =
        folder(&[("validation/part-00000-a1-c000.parquet", VALID), ("validation/part-00000-a1-c001.parquet", second)]);
    assert_eq!(open_path(set.path(), Part::Scored, None).unwrap().len(), 5, "two files of one write");
}

/// A part's own folder, and a file, which both are named themselves.
#[test]
fn a_folder_of_nothing_but_shards_is_one_part_and_a_shard_says_that_it_is_one() {
    let second = "parquet/shards/train-00001-of-00002.parquet";
    for [one, two] in
        [["0000", "0001"], ["part-00000-a1-c000.snappy", "part-00001-a1-c000.snappy"], ["data_0", "data_1"]]
    {
        let places = [one, two].map(|name| format!("default/validation/{name}.parquet"));
        let set = folder(&[(&places[0], VALID), (&places[1], second)]);
        let part = set.path().join("default/validation");
        assert_eq!(open_path(&part, Part::Scored, None).unwrap().len(), 5, "{one}");
        assert_eq!(open_path(&part, Part::Validation, None).unwrap().len(), 5, "{one}");
        // A training part is none that is scored.
        let train = set.path().join("train");
        fs::rename(&part, &train).unwrap();
        assert!(matches!(open_path(&train, Part::Scored, None), Err(DataError::NoPart { .. })), "{one}");
        assert_eq!(open_path(&train, Part::Train, None).unwrap().len(), 5, "{one}");
    }
    let gap = folder(&[("validation/0000.parquet", VALID), ("validation/0002.parquet", second)]);
    assert!(message(open_path(&gap.path().join("validation"), Part::Scored, None)).contains("0001.parquet"));
    let file = "validation-00000-of-00002.parquet";
    let set = folder(&[(file, VALID)]);
    let named = open_path(&set.path().join(file), Part::Scored, None).unwrap();
    assert_eq!(named.beside(), ["the other shards of the 2 of which its name says that it is number 0"]);
}

#[test]
fn one_sharding_each_number_once() {
    let one = "validation-00000-of-00001.parquet";
    let [first, second] = ["validation-00000-of-00002.parquet", "validation-00001-of-00002.parquet"];
    let case = |files: &[&str]| {
        // No two shards of a part are the same.
        let second = "parquet/shards/train-00001-of-00002.parquet";
        let file = |file: &str| if file == "validation-00001-of-00002.parquet" { second } else { VALID };
        let files: Vec<(&str, &str)> = files.iter().map(|place| (*place, file(place))).collect();
        let set = folder(&files);
        open_path(set.path(), Part::Validation, None)
    };
    assert_eq!(case(&[one]).unwrap().len(), 3);
    assert_eq!(case(&[second, first]).unwrap().len(), 5);
    let error = message(case(&["validation_00000_of_00002.parquet"]));
    assert!(error.contains("00001-of-00002"), "{error}");
    for (files, words) in [
        (&[one, first, second][..], [one, first]),
        (&[first, "validation-00001-of-00003.parquet"], [first, "validation-00001-of-00003.parquet"]),
        (&["validation.parquet", first, second], ["validation.parquet", first]),
        (
            &["validation-00000-of-00001-aaaa.parquet", "validation-00000-of-00001-bbbb.parquet"],
            ["-aaaa.parquet", "two revisions"],
        ),
        (&[second], [second, first]),
        (&[first, "validation-00002-of-00002.parquet"], ["validation-00002-of-00002", second]),
        (&["validation/0000.parquet", "validation/0002.parquet"], ["0002.parquet", "0001.parquet is not beside it"]),
    ] {
        let error = message(case(files));
        assert!(words.iter().all(|word| error.contains(word)), "{files:?}: {error}");
    }
}

fn labelled(name: &str) -> PathBuf {
    fixtures().join("parquet/labels").join(name).with_extension("parquet")
}

#[test]
fn labels_of_every_integer_width_are_read() {
    for width in ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"] {
        let set = open_path(&labelled(width), Part::Scored, Some(10)).unwrap();
        assert_eq!((labels(&set), set.names_classes()), (vec![2, 0, 1], false), "{width}");
        assert!(message(open_path(&labelled(width), Part::Scored, Some(2))).contains("label 2 is beyond"));
    }
    assert_eq!(labels(&open_path(&labelled("labels"), Part::Scored, None).unwrap()), [1, 0, 1]);
    let fine = open_path(&labelled("fine_label"), Part::Scored, None).unwrap();
    assert_eq!((labels(&fine), fine.classes()), (vec![1, 0, 1], &["a".to_string(), "b".to_string()][..]));
}

#[test]
fn labels_that_are_names_are_mapped_by_name() {
    for name in ["text", "dictionary"] {
        // Among ImageNet's classes by wnid, else by their own sorted names; never by their order in the file.
        let set = open_path(&labelled(name), Part::Scored, Some(1000)).unwrap();
        assert_eq!(labels(&set), [999, 0, 1], "{name}");
        assert_eq!(labels(&open_path(&labelled(name), Part::Scored, Some(3)).unwrap()), [2, 0, 1], "{name}");
        let error = message(open_path(&labelled(name), Part::Scored, Some(26)));
        assert!(error.contains("its 3 classes (n01440764 to n15075141) are not the classifier's 26"), "{error}");
    }
    let set = open_path(&labelled("dictionary_named"), Part::Scored, Some(3)).unwrap();
    assert_eq!((labels(&set), set.classes()[2].as_str()), (vec![2, 0, 1], "frog"));
    let error = message(open_path(&labelled("text_stray"), Part::Scored, None));
    assert!(error.contains("the label \"cow\" is not among its class names"), "{error}");
}

#[test]
fn a_label_that_is_missing_is_named_by_row_and_no_sound_file_is_blamed() {
    for (name, wanted) in [
        ("hidden", "row 1 has no label (-1)"),
        ("null", "row 2 has no label (null)"),
        ("float", "its column label holds f64: no numbers or names of classes, from row 0 on"),
        ("date", "its column label holds dates: no numbers or names of classes, from row 0 on"),
        ("timestamp", "its column label holds timestamps: no numbers"),
        ("decimal", "its column label holds decimal numbers: no numbers or names"),
        ("no_labels", "no column of labels (label, labels, fine_label) among its image, caption"),
    ] {
        let error = message(open_path(&labelled(name), Part::Scored, None));
        assert!(error.contains(wanted) && !error.contains("not a readable"), "{error}");
        assert!(error.contains(&format!("{name}.parquet")), "{error}");
    }
}

#[test]
fn parts_and_shards_name_the_same_classes() {
    let [cat, hen] = ["parquet/hub/plain_text/test-00000-of-00001.parquet", "parquet/labels/other_names.parquet"];
    let set = folder(&[("train-00000-of-00002.parquet", cat), ("train-00001-of-00002.parquet", hen)]);
    let error = message(open_path(set.path(), Part::Train, None));
    assert!(error.contains("train-00001-of-00002.parquet: its") && error.contains("train-00000"), "{error}");
    let set = folder(&[("train.parquet", cat), ("test.parquet", hen)]);
    let open = |part| open_path(set.path(), part, None).unwrap();
    let error = open(Part::Validation).check_same_classes(&open(Part::Train)).unwrap_err().to_string();
    assert!(error.contains("class 2 is \"hen\" among the validation images and \"frog\""), "{error}");
}

#[test]
fn folders_are_walked_down_in_torchvisions_order_and_what_is_passed_over_is_counted() {
    let image = "grey.png";
    let set = folder(&[
        ("ant/2.png", image),
        ("ant/10.PNG", image),
        ("ant/sub/1.jpg", image),
        ("ant/sub-a/1.jpg", image),
        ("ant/sub/deep/0.bmp", "formats/colour.bmp"),
        ("ant/notes.txt", "make.py"),
        ("ant/more.HEIC", "make.py"),
        ("bee/.cache/1.png", image),
        ("bee/1.webp", "formats/lossless.webp"),
        ("bee/README", "make.py"),
        ("README.md", "make.py"),
        ("lost.png", image),
    ]);
    let open = || open_path(set.path(), Part::Scored, Some(2)).unwrap();
    let expected = ["ant/10.PNG", "ant/2.png", "ant/sub/1.jpg", "ant/sub-a/1.jpg", "ant/sub/deep/0.bmp", "bee/1.webp"];
    assert_eq!(names(&open()), expected);
    let passed_over = [
        ("heic", 1),
        ("hidden folder", 1),
        ("md beside the class folders", 1),
        ("png beside the class folders", 1),
        ("txt", 1),
        ("without extension", 1),
    ];
    let found: Vec<(String, u64)> = open().passed_over().iter().map(|(kind, count)| (kind.clone(), *count)).collect();
    assert_eq!(found, passed_over.map(|(kind, count)| (kind.to_string(), count)));
    assert!(
        open().listing().starts_with("6 images of 2 classes, 6 files passed over (1 heic, "),
        "{}",
        open().listing()
    );
}

/// Tiny-ImageNet as it comes.
#[test]
fn images_below_a_folder_of_their_class_are_its() {
    let set = folder(&[
        ("train/n01443537/images/n01443537_0.JPEG", "grey.png"),
        ("train/n01443537/n01443537_boxes.txt", "make.py"),
        ("train/n01629819/images/n01629819_0.JPEG", "colour.jpg"),
    ]);
    let train = open_path(set.path(), Part::Train, None).unwrap();
    assert_eq!(
        (labels(&train), train.listing().as_str()),
        (vec![0, 1], "2 images of 2 classes, 1 file passed over (1 txt)")
    );
}

#[test]
fn a_class_without_images_is_refused_by_name() {
    let set = folder(&[("a/1.png", "grey.png"), ("b/1.png", "grey.png"), ("lost+found/.x", "make.py")]);
    let error = message(open_path(set.path(), Part::Scored, Some(3)));
    assert!(error.contains("class folders without images: lost+found"), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_links_in_circles_and_names_that_are_no_text_do_no_harm() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let set = folder(&[("a/1.png", "grey.png")]);
    let made = std::process::Command::new("mkfifo").arg(set.path().join("a/pipe.png")).status();
    if made.is_ok_and(|status| status.success()) {
        let opened = open_path(set.path(), Part::Scored, None).unwrap();
        assert_eq!((opened.len(), opened.passed_over()["no regular file"]), (1, 1));
    }
    std::os::unix::fs::symlink(set.path(), set.path().join("a/circle")).unwrap();
    let error = message(open_path(set.path(), Part::Scored, None));
    assert!(error.contains("lies too deep") || error.contains("symbolic links"), "{error}");
    fs::remove_file(set.path().join("a/circle")).unwrap();
    if fs::create_dir(set.path().join(OsStr::from_bytes(b"caf\xe9"))).is_ok() {
        let error = message(open_path(set.path(), Part::Scored, None));
        assert!(error.contains("name is not UTF-8: \"caf\\xE9\""), "{error}");
    }
}

#[test]
fn other_formats_are_what_pillow_sees() {
    let mut seen = 0;
    for entry in fs::read_dir(fixtures().join("formats")).unwrap() {
        let path = entry.unwrap().path();
        let twin = path.with_file_name(format!("{}.png", path.file_name().unwrap().to_str().unwrap()));
        if twin.exists() {
            let decoded = |path: &Path| decode(&fs::read(path).unwrap());
            assert_eq!(decoded(&path), decoded(&twin), "{}", path.display());
            assert!(decoded(&path).is_ok());
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}

#[test]
fn a_scanned_page_is_no_bomb() {
    let bytes = fs::read(fixtures().join("formats/page.png")).unwrap();
    assert!(bytes.len() * 1024 < 2480 * 3508);
    let page = decode(&bytes).unwrap();
    assert_eq!((page.width, page.height), (2480, 3508));
    let dark = page.pixels.chunks_exact(3).filter(|pixel| *pixel == [0; 3]).count();
    assert_eq!((dark, &page.pixels[(300 * 2480 + 300) * 3..][..3]), (1, &[0u8; 3][..]));
}

/// As its archive unpacks.
#[test]
fn tiny_imagenets_own_validation_folder_is_read_by_its_list() {
    let set = folder(&[
        ("train/n01443537/images/n01443537_0.png", "grey.png"),
        ("train/n01629819/images/n01629819_0.png", "grey.png"),
        ("val/images/val_0.png", "grey.png"),
        ("val/images/val_1.png", "grey.png"),
        ("val/images/val_10.png", "grey.png"),
    ]);
    let list = set.path().join("val/val_annotations.txt");
    let box_of = "\t0\t32\t44\t62\n";
    let lines = |lines: &[(&str, &str)]| {
        let lines = lines.iter().map(|(image, class)| format!("{image}\t{class}{box_of}"));
        fs::write(&list, lines.collect::<String>()).unwrap();
    };
    let error = message(open_path(set.path(), Part::Validation, None));
    assert!(error.contains("val/images: is not among the classes in train/: val_annotations.txt, in which"), "{error}");
    let all = [("val_0.png", "n01629819"), ("val_1.png", "n01443537"), ("val_10.png", "n01629819")];
    lines(&all);
    let read = open_path(set.path(), Part::Validation, None).unwrap();
    assert_eq!(labels(&read), [1, 0, 1]);
    assert_eq!(names(&read), ["images/val_0.png", "images/val_1.png", "images/val_10.png"]);
    assert_eq!(read.class_count(), 2);

    let refused = || message(open_path(set.path(), Part::Validation, None));
    lines(&all[..2]);
    assert!(refused().ends_with("does not name images/val_10.png"), "{}", refused());
    lines(&[all[0], all[1], all[2], ("val_2.png", "n01443537")]);
    assert!(
        refused().ends_with("val_annotations.txt: line 4 names an image that is not there: val_2.png"),
        "{}",
        refused()
    );
    lines(&[all[0], all[1], ("val_10.png", "n09999999")]);
    assert!(refused().ends_with("line 3: \"n09999999\" is not among the classes in train/"), "{}", refused());
    lines(&[all[0], all[0], all[1], all[2]]);
    assert!(refused().ends_with("line 2 names val_0.png once more"), "{}", refused());
    fs::write(&list, "val_0.png\n").unwrap();
    assert!(refused().ends_with("line 1 has no image and class"), "{}", refused());
    // Cut short within the box, or within the class.
    let whole = format!("val_0.png\tn01629819{box_of}val_1.png\tn01443537{box_of}val_10.png\tn01629819{box_of}");
    for (cut, fields) in [(1, 0), (4, 5), (8, 4), (15, 2)] {
        fs::write(&list, &whole[..whole.len() - cut]).unwrap();
        match fields {
            0 => assert_eq!(open_path(set.path(), Part::Validation, None).unwrap().len(), 3),
            _ => {
                assert!(refused().ends_with(&format!("line 3 has {fields} fields where line 1 has 6")), "{}", refused())
            }
        }
    }
    // Of two images of one name the list means one.
    fs::write(&list, format!("{whole}\n")).unwrap();
    fs::create_dir(set.path().join("val/images/more")).unwrap();
    fs::copy(fixtures().join("grey.png"), set.path().join("val/images/more/val_1.png")).unwrap();
    let error = refused();
    assert!(error.contains("line 2 names one of ") && error.contains("images/more/val_1.png"), "{error}");
    fs::remove_dir_all(set.path().join("val/images/more")).unwrap();
    // Without the training images' folders the classes are the list's own; the list is not passed over, all else is.
    fs::write(set.path().join("val/notes.md"), "").unwrap();
    let alone = open_path(&set.path().join("val"), Part::Scored, Some(2)).unwrap();
    assert_eq!(
        (labels(&alone), alone.classes().to_vec()),
        (vec![1, 0, 1], ["n01443537", "n01629819"].map(String::from).to_vec())
    );
    let passed_over: Vec<(&str, u64)> =
        alone.passed_over().iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(passed_over, [("md beside the class folders", 1)]);
}

#[test]
fn a_sound_picture_that_is_not_read_is_not_called_broken() {
    let error = decode(&fs::read(fixtures().join("formats/palette.tif")).unwrap()).unwrap_err();
    assert!(matches!(error, DecodeError::Unsupported(_)), "{error}");
    assert!(error.to_string().ends_with("save it as plain RGB"), "{error}");
}

/// torchvision has two classes there, and somebody may have meant one.
#[test]
fn classes_that_differ_in_case_alone_are_said() {
    let twins = folder(&[("Dog/1.png", "grey.png"), ("ant/2.png", "grey.png"), ("dog/3.png", "alpha.png")]);
    let set = open_path(twins.path(), Part::Scored, None).unwrap();
    assert_eq!(set.case_twins(), ["Dog and dog"]);
    assert!(set.listing().contains("classes whose names differ in case alone (Dog and dog)"), "{}", set.listing());
    let plain = folder(&[("cat/1.png", "grey.png"), ("dog/3.png", "grey.png")]);
    assert!(open_path(plain.path(), Part::Scored, None).unwrap().case_twins().is_empty());
}

#[test]
fn where_a_set_was_read_from_is_known() {
    let set = folder(&[("a/1.png", "grey.png"), ("b/2.png", "alpha.png")]);
    assert_eq!(open_path(set.path(), Part::Scored, None).unwrap().path(), Some(set.path()));
    assert_eq!(open("embedded", Part::Train, None).unwrap().path(), None);
    let shards =
        folder(&[("cropped/train-00000-of-00001.parquet", VALID), ("full/train-00000-of-00001.parquet", VALID)]);
    let error = message(open_path(shards.path(), Part::Scored, None));
    assert!(error.contains("parquet files in folders such as cropped/ are scored where these are named"), "{error}");
}

/// As CIFAR-10's archive unpacks into somebody's folder.
#[test]
fn cifar10_is_found_in_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("data_batch_1.bin"), "").unwrap();
    let error = message(open_path(folder.path(), Part::Train, None));
    assert!(error.contains("cifar-10-batches-bin/data_batch_1.bin: holds 0 bytes"), "{error}");
}
