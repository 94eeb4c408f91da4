//! VOC's devkit in folders and archives, what becomes of its coordinates, and what is said of broken ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sandglass_data::{
    DataError, DetectionSet, Object, Part, Split, VOC_CLASSES, decode, find_data, open_detection, open_voc,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Id, annotation and image.
const KIT: [(&str, &str, &str); 3] =
    [("000001", "plain", "colour.jpg"), ("2008_000002", "person", "full.jpg"), ("000003", "crowd", "half.jpg")];

fn xml(name: &str) -> String {
    fs::read_to_string(format!("{FIXTURES}/voc/{name}.xml")).unwrap()
}

fn put(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder that holds `VOCdevkit/<year>`, with all images in train and the last in test.
fn devkit(years: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for year in years {
        let year = folder.path().join("VOCdevkit").join(year);
        for (id, annotation, image) in KIT {
            put(year.join(format!("Annotations/{id}.xml")), xml(annotation));
            put(year.join(format!("JPEGImages/{id}.jpg")), fs::read(format!("{FIXTURES}/{image}")).unwrap());
        }
        put(year.join("ImageSets/Main/train.txt"), "000001\n2008_000002\r\n000003\n\n");
        put(year.join("ImageSets/Main/test.txt"), "000003");
        put(year.join("ImageSets/Main/dog_train.txt"), "000001  1\n000003 -1\n");
    }
    folder
}

/// `VOCdevkit.tar` beside where `folder`'s `VOCdevkit` was.
fn packed(folder: &Path, below: &str) -> PathBuf {
    let path = folder.join("VOCdevkit.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    archive.append_dir_all(below, folder.join("VOCdevkit")).unwrap();
    archive.finish().unwrap();
    fs::remove_dir_all(folder.join("VOCdevkit")).unwrap();
    path
}

fn open(path: &Path, split: Split) -> Result<DetectionSet, DataError> {
    open_detection(path.to_str().unwrap(), split)
}

fn message(result: Result<DetectionSet, DataError>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(!message.contains('\n') && message.len() < 1000, "{message}");
    message
}

fn class(name: &str) -> u32 {
    VOC_CLASSES.iter().position(|class| *class == name).unwrap() as u32
}

fn fractions(edges: [f64; 4], width: f64, height: f64) -> [f32; 4] {
    [edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height].map(|edge| edge as f32)
}

#[test]
fn pixels_from_1_with_both_ends_become_the_edges_of_the_box() {
    let folder = devkit(&["VOC2007"]);
    let set = open(&folder.path().join("VOCdevkit/VOC2007"), Split::Train).unwrap();
    assert_eq!((set.len(), set.name(), set.synthetic()), (3, "VOC2007 train", false));
    let object = |name: &str, bounds, difficult, truncated| Object { class: class(name), bounds, difficult, truncated };
    // Columns 11 to 40 begin 10 pixels from the left and end 40 pixels from there.
    let dog = object("dog", fractions([10.0, 5.0, 40.0, 47.0], 61.0, 47.0), false, true);
    assert_eq!((set.objects(0), set.size(0)), (&[dog][..], (47, 61)));
    // Parts of an object are none, whatever they hold; what is not said is false.
    let person = object("person", fractions([0.0, 1.0, 30.0, 56.0], 40.0, 56.0), false, false);
    assert_eq!((set.objects(1), set.size(1)), (&[person][..], (56, 40)));
    let crowd = [
        object("sheep", [0.0, 0.0, 1.0, 1.0], true, false),
        object("sheep", fractions([16.0, 8.0, 17.0, 9.0], 51.0, 33.0), false, false),
        object("tvmonitor", fractions([9.5, 2.25, 20.75, 30.0], 51.0, 33.0), false, false),
    ];
    assert_eq!(set.objects(2), crowd);
    let numbers = [[1.0, 1.0, 51.0, 33.0], [17.0, 9.0, 17.0, 9.0], [10.5, 3.25, 20.75, 30.0]];
    for (object, numbers) in crowd.iter().zip(numbers) {
        let found = object.voc_bounds((33, 51));
        assert!(found.iter().zip(numbers).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}, not {numbers:?}");
    }
    let image = decode(&fs::read(format!("{FIXTURES}/full.jpg")).unwrap()).unwrap();
    assert_eq!((set.picture(1).unwrap(), set.image_name(1)), (image, "VOC2007/JPEGImages/2008_000002.jpg".to_string()));
    let listing =
        "3 images with 5 objects (1 of them difficult) of 20 classes, 1 of the images are in VOC2007 test too";
    assert_eq!((set.listing().as_str(), set.shared()), (listing, &[("VOC2007 test".to_owned(), 1)][..]));
}

#[test]
fn an_archive_is_the_folder_that_it_holds() {
    let folder = devkit(&["VOC2007"]);
    let kit = folder.path().join("VOCdevkit");
    let hashes = |path: &Path| [Split::Train, Split::Test].map(|split| open(path, split).unwrap().hash().to_string());
    let unpacked = hashes(&kit.join("VOC2007"));
    assert_ne!(unpacked[0], unpacked[1]);
    assert_eq!(hashes(&kit), unpacked, "the folder of a single year");
    let archive = packed(folder.path(), "VOCdevkit");
    for path in [&archive, &kit, &kit.join("VOC2007")] {
        assert_eq!(hashes(path), unpacked, "{}", path.display());
    }
    let set = open(&archive, Split::Test).unwrap();
    assert_eq!((set.len(), set.objects(0).len(), set.name()), (1, 3, "VOC2007 test"));
    let error = message(open(&kit.join("VOC2012"), Split::Test));
    assert!(error.contains("VOC2012: no such year: it has VOCdevkit/VOC2007/"), "{error}");
    // As `tar -cf VOCdevkit.tar .` writes it.
    let folder = devkit(&["VOC2007"]);
    assert_eq!(hashes(&packed(folder.path(), "./")), unpacked);
}

#[test]
fn years_are_joined_and_never_guessed() {
    let folder = devkit(&["VOC2007", "VOC2012"]);
    let kit = folder.path().join("VOCdevkit");
    let error = message(open(&kit, Split::Train));
    assert!(error.contains("holds several years: it has VOC2007/, VOC2012/; name one"), "{error}");
    let years = [kit.join("VOC2007"), kit.join("VOC2012")].map(|path| path.to_str().unwrap().to_string());
    let both = open_voc(&[(&years[0], Split::Test), (&years[1], Split::Train)]).unwrap();
    assert_eq!((both.name(), both.len()), ("VOC2007 test + VOC2012 train", 4));
    assert_eq!(both.image_name(0), "VOC2007/JPEGImages/000003.jpg");
    assert_eq!(both.image_name(3), "VOC2012/JPEGImages/000003.jpg");
    assert_eq!((both.objects(0), both.picture(0).unwrap()), (both.objects(3), both.picture(3).unwrap()));
    let error = message(open_voc(&[(&years[0], Split::Test), (&years[0], Split::Train)]));
    assert_eq!(error, "VOC2007 test + VOC2007 train: VOC2007/JPEGImages/000003.jpg is in two of the lists");
    assert!(message(open_detection("no such set", Split::Test)).contains("no such folder"));
    assert!(message(open(&folder.path().join("nothing/VOC2007"), Split::Test)).contains("no such folder"));
    let drawn = open_detection("embedded", Split::Val).unwrap();
    assert!(drawn.synthetic());
}

/// Anybody's set in the devkit's layout.
#[test]
fn classes_are_those_that_a_set_names() {
    let folder = devkit(&["VOC2007", "VOC2012"]);
    let years = ["VOC2007", "VOC2012"].map(|year| folder.path().join("VOCdevkit").join(year));
    let vocs = open(&years[0], Split::Train).unwrap();
    let names: BTreeSet<&str> =
        (0..vocs.len()).flat_map(|at| vocs.objects(at)).map(|object| VOC_CLASSES[object.class as usize]).collect();
    let own: Vec<&str> = std::iter::once("unicorn").chain(names.iter().copied()).collect();
    put(years[0].join("classes.txt"), format!("\u{feff}{}\r\n\n", own.join("\n")));
    let set = open(&years[0], Split::Train).unwrap();
    assert_eq!(set.classes(), own);
    for at in 0..set.len() {
        for (own, vocs) in set.objects(at).iter().zip(vocs.objects(at)) {
            assert_eq!(set.classes()[own.class as usize], VOC_CLASSES[vocs.class as usize]);
        }
    }
    let both = years.each_ref().map(|year| (year.to_str().unwrap(), Split::Train));
    assert_eq!(message(open_voc(&both)), "VOC2012 train: its classes are not those of VOC2007");
    for (classes, wanted) in [
        ("unicorn\n", "is not among the 1 of classes.txt"),
        ("dog\ncat\ndog\n", "classes.txt: names \"dog\" twice"),
        (" \n", "classes.txt: names no class"),
    ] {
        put(years[0].join("classes.txt"), classes);
        let error = message(open(&years[0], Split::Train));
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_classifier_is_told_what_it_was_given() {
    let folder = devkit(&["VOC2007"]);
    let year = folder.path().join("VOCdevkit/VOC2007");
    let error = sandglass_data::open(year.to_str().unwrap(), Part::Scored, None).err().unwrap().to_string();
    assert!(error.contains("it is a year of a VOC devkit, whose images have boxes"), "{error}");
}

#[test]
fn lists_are_read_strictly() {
    for (list, wanted) in [
        ("", "names no image"),
        ("\n \n", "names no image"),
        ("000001\n\n000001\n", "line 3: repeats 000001 of line 1"),
        (
            "000001 1\n",
            "line 1: \"000001 1\" is no image's id: lists of one class, with -1, 0 or 1 behind each, are not read",
        ),
        ("\u{feff}000001\n../000003\n", "line 2: \"../000003\" is no image's id"),
        ("000001\n../000003\n", "line 2: \"../000003\" is no image's id"),
        ("..\n", "line 1: \"..\" is no image's id"),
    ] {
        let folder = devkit(&["VOC2007"]);
        put(folder.path().join("VOCdevkit/VOC2007/ImageSets/Main/train.txt"), list);
        let error = message(open(&folder.path().join("VOCdevkit"), Split::Train));
        assert!(error.contains("ImageSets/Main/train.txt: ") && error.ends_with(wanted), "{error}");
    }
    let folder = devkit(&["VOC2007"]);
    let error = message(open(&folder.path().join("VOCdevkit"), Split::TrainVal));
    assert!(error.ends_with("ImageSets/Main/trainval.txt: is not there: it has train, test"), "{error}");
    put(folder.path().join("VOCdevkit/VOC2007/ImageSets/Main/val.txt"), [b'0', 0xff, b'\n']);
    assert!(message(open(&folder.path().join("VOCdevkit"), Split::Val)).contains("val.txt: is no UTF-8 text"));
}

/// Each fault is in the first image of three, whose annotation is `plain.xml`.
#[test]
fn a_broken_annotation_is_named_by_file_line_and_object() {
    let second =
        "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>";
    let cases: &[(&str, &str, &str)] = &[
        (
            "<xmin>11</xmin>",
            "<xmin>0</xmin>",
            "line 26, object 1: xmin 0 is outside the image, whose pixels run from 1 to 61",
        ),
        ("<xmin>11</xmin>", "<xmin>-3</xmin>", "line 26, object 1: xmin -3 is outside"),
        (
            "<ymax>47</ymax>",
            "<ymax>48</ymax>",
            "line 29, object 1: ymax 48 is outside the image, whose pixels run from 1 to 47",
        ),
        ("<xmax>40</xmax>", "<xmax>10</xmax>", "line 25, object 1: xmin 11 is beyond xmax 10"),
        ("<ymin>6</ymin>", "<ymin>NaN</ymin>", "line 27, object 1: ymin \"NaN\" is no number"),
        ("<ymin>6</ymin>", "<ymin>inf</ymin>", "line 27, object 1: ymin \"inf\" is no number"),
        ("<ymin>6</ymin>", "<ymin></ymin>", "line 27, object 1: ymin \"\" is no number"),
        ("<ymin>6</ymin>", "<ymin>6<!-- 1 -->2</ymin>", "line 27, object 1: <ymin> holds more than text"),
        ("<ymin>6</ymin>", "", "line 25, object 1: <bndbox> holds no <ymin>"),
        ("<ymin>6</ymin>", "<ymin>6</ymin><ymin>7</ymin>", "line 27, object 1: a second <ymin>"),
        ("<name>dog</name>", "<name>Dog</name>", "line 21, object 1: \"Dog\" is not among VOC's 20 classes"),
        ("<name>dog</name>", "", "line 20, object 1: <object> holds no <name>"),
        (
            "<difficult>0</difficult>",
            "<difficult>yes</difficult>",
            "line 24, object 1: difficult is \"yes\", neither 0 nor 1",
        ),
        ("<truncated>1</truncated>", "<truncated>2</truncated>", "line 23, object 1: truncated is \"2\", neither"),
        ("<width>61</width>", "<width>60</width>", "line 14: the size is 60 x 47, but the image's is 61 x 47"),
        ("<width>61</width>", "<width>0</width>", "line 15: width \"0\" is no number of pixels"),
        ("<width>61</width>", "<width>1e9</width>", "line 15: width \"1e9\" is no number of pixels"),
        ("<height>47</height>", "", "line 14: <size> holds no <height>"),
        ("</object>", "", "line 32: no XML that is read: expected 'object' tag"),
        (
            "<annotation>\n\t<folder>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]>\n<annotation>\n\t<folder>",
            "no XML that is read: ",
        ),
        ("<annotation>\n\t<folder>", "&b;<annotation>\n\t<folder>", "line 1: no XML that is read: "),
    ];
    let broken = |text: &[u8], wanted: &str| {
        let folder = devkit(&["VOC2007"]);
        put(folder.path().join("VOCdevkit/VOC2007/Annotations/000001.xml"), text);
        let error = message(open(&folder.path().join("VOCdevkit"), Split::Train));
        assert!(error.contains("1 broken of 3 images: ") && error.contains("Annotations/000001.xml: "), "{error}");
        assert!(error.contains(wanted), "{error}, without {wanted}");
    };
    let plain = xml("plain");
    for (from, to, wanted) in cases {
        assert_eq!(plain.matches(from).count(), 1, "{from}");
        broken(plain.replace(from, to).as_bytes(), wanted);
    }
    // Objects that are not the annotation's own children would not be seen.
    let wrapped = plain.replace("<object>", "<objects><object>").replace("</object>", "</object></objects>");
    broken(wrapped.as_bytes(), "line 20: <object> within <objects>, where an <object> is read in <annotation> alone");
    let capital = plain.replace("object>", "Object>");
    broken(capital.as_bytes(), "line 20: <Object>, where an <object> is read in <annotation> alone");
    let two = plain.replace("</object>", &format!("</object>\n{}", second.replace("9</xmax>", "99</xmax>")));
    broken(two.as_bytes(), "line 32, object 2: xmax 99 is outside");
    broken(b"", "line 1: the file is empty");
    broken(b" \n\t", "line 1: the file is empty");
    broken(b"<a/>", "line 1: <a>, not <annotation>");
    broken(&plain.as_bytes()[..300], "line ");
    broken(&[plain.as_bytes(), b"\xe9"].concat(), "holds a byte that is no UTF-8");
}

#[test]
fn all_that_is_missing_or_damaged_is_said_at_once() {
    let folder = devkit(&["VOC2007"]);
    let year = folder.path().join("VOCdevkit/VOC2007");
    fs::remove_file(year.join("JPEGImages/2008_000002.jpg")).unwrap();
    fs::remove_file(year.join("Annotations/000003.xml")).unwrap();
    let error = message(open(&year, Split::Train));
    assert!(error.starts_with("VOC2007 train: 2 broken of 3 images: "), "{error}");
    assert!(
        error.contains("2008_000002.jpg: is not there, but line 2 of ImageSets/Main/train.txt names it"),
        "{error}"
    );
    assert!(error.contains("Annotations/000003.xml: is not there"), "{error}");

    let folder = devkit(&["VOC2007"]);
    let image = folder.path().join("VOCdevkit/VOC2007/JPEGImages/000003.jpg");
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, &bytes[..bytes.len() / 2]).unwrap();
    for path in [folder.path().join("VOCdevkit"), packed(folder.path(), "VOCdevkit")] {
        let error = message(open(&path, Split::Test));
        assert!(error.contains("JPEGImages/000003.jpg: truncated"), "{error}");
    }
}

#[test]
fn a_year_is_named_within_its_archive() {
    let folder = devkit(&["VOC2007", "VOC2012"]);
    let archive = packed(folder.path(), "VOCdevkit");
    let error = message(open(&archive, Split::Test));
    assert!(error.contains("holds several years: it has VOCdevkit/VOC2007/, VOCdevkit/VOC2012/"), "{error}");
    for below in ["VOCdevkit/VOC2012", "VOC2012"] {
        assert_eq!(open(&archive.join(below), Split::Test).unwrap().name(), "VOC2012 test", "{below}");
    }
    let packed = folder.path().join("VOCdevkit.tar.gz");
    fs::write(&packed, b"\x1f\x8b\x08\0\0\0\0\0").unwrap();
    assert!(message(open(&packed, Split::Test)).contains("no plain tar archive: it is packed by gzip"));
}

#[test]
fn archives_that_are_not_what_they_claim_are_refused() {
    let folder = devkit(&["VOC2007"]);
    let path = packed(folder.path(), "VOCdevkit");
    let whole = fs::read(&path).unwrap();
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        message(open(&path, Split::Train))
    };
    assert!(error(b"").contains("no plain tar archive: it is an empty file"));
    assert!(error(&[b'x'; 2000]).contains("VOCdevkit.tar: "));
    // Ends within an image's bytes.
    let image = whole.windows(3).position(|bytes| bytes == [0xff, 0xd8, 0xff]).unwrap();
    let cut = error(&whole[..image + 100]);
    assert!(cut.contains("claims") && cut.contains("but the archive ends before: is it whole?"), "{cut}");
    // The same path twice: either could be meant.
    let mut archive = tar::Builder::new(whole[..whole.len() - 1024].to_vec());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    archive.append_data(&mut header, "VOCdevkit/VOC2007/ImageSets/Main/test.txt", &b"abc"[..]).unwrap();
    assert!(error(&archive.into_inner().unwrap()).contains("is in it twice"));
    // A size beyond the file, with a checksum that is right.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("VOCdevkit/VOC2007/ImageSets/Main/train.txt").unwrap();
    for size in [1 << 20, u64::MAX / 2, u64::MAX] {
        header.set_size(size);
        header.set_cksum();
        archive.get_mut().clear();
        archive.get_mut().extend(header.as_bytes());
        archive.get_mut().extend([b'0'; 700]);
        assert!(error(archive.get_ref()).contains("VOCdevkit.tar: "));
    }
}

/// Neither memory nor time is a hostile file's to take.
#[test]
fn hostile_annotations_are_refused() {
    let broken = |text: String, wanted: &str| {
        let folder = devkit(&["VOC2007"]);
        put(folder.path().join("VOCdevkit/VOC2007/Annotations/000001.xml"), text);
        let error = message(open(&folder.path().join("VOCdevkit"), Split::Train));
        assert!(error.contains(wanted), "{error}, without {wanted}");
    };
    broken("<a>".repeat(300_000), "line 1");
    broken("<annotation>".repeat(1_000_000), "takes 12000000 bytes; more than 1048576 are not read");
    broken(format!("<{}/>", "a".repeat(100_000)), "line 1: <aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...>, not");
    let attributes = |count: usize| (0..count).map(|at| format!(" a{at}=''")).collect::<String>();
    broken(format!("<annotation{}/>", attributes(200)), "<annotation> holds no <size>");
    broken(format!("<annotation{}/>", attributes(50_000)), "the file holds more than 256 attributes");
    broken((0..200).map(|at| format!("<a xmlns:b{at}='c'>")).collect(), "line 1: no XML");
    broken((0..20_000).map(|at| format!("<a xmlns:b{at}='c'>")).collect(), "the file holds more than 256 attributes");
    let entities: String =
        (1..20).map(|at| format!("<!ENTITY a{at} '{}'>", format!("&a{};", at - 1).repeat(10))).collect();
    broken(
        format!("<!DOCTYPE a [<!ENTITY a0 'boom'>{entities}]><annotation>&a19;</annotation>"),
        "no XML that is read",
    );
    broken(xml("plain").replace("dog", &"dog ".repeat(9_000)), "is not among VOC's 20 classes");
}

/// The counts of SOURCES-datasets.md, where the set is at hand.
#[test]
fn the_real_subset_is_what_its_source_says() {
    if find_data("VOCdevkit.tar").is_none() && find_data("VOCdevkit").is_none() {
        eprintln!("skipped: no VOCdevkit");
        return;
    }
    for (split, images, objects, easy, rarest) in [
        (Split::Train, 1800, 5267, 4312, ("diningtable", 62)),
        (Split::Val, 200, 670, 535, ("horse", 5)),
        (Split::Test, 600, 1869, 1438, ("horse", 14)),
    ] {
        let set = open_detection("VOCdevkit/VOC2007", split).unwrap();
        assert_eq!(
            set.listing(),
            format!("{images} images with {objects} objects ({} of them difficult) of 20 classes", objects - easy)
        );
        let set = set.without_difficult();
        let mut counts = [0; 20];
        (0..set.len()).flat_map(|at| set.objects(at)).for_each(|object| counts[object.class as usize] += 1);
        assert_eq!((counts.iter().sum::<usize>(), counts.iter().min().copied()), (easy, Some(rarest.1)));
        assert_eq!(counts[class(rarest.0) as usize], rarest.1);
        for at in 0..set.len() {
            for object in set.objects(at) {
                let numbers = object.voc_bounds(set.size(at));
                assert!(numbers.iter().all(|number| (number - number.round()).abs() < 1e-3), "{numbers:?}");
            }
        }
    }
}

#[test]
fn images_of_another_ending_and_unspecified_truncation_are_known() {
    let folder = devkit(&["VOC2007"]);
    let year = folder.path().join("VOCdevkit/VOC2007");
    let path = year.join("Annotations/000003.xml");
    fs::write(&path, xml("crowd").replace("<truncated>0</truncated>", "<truncated>Unspecified</truncated>")).unwrap();
    assert!(open(&year, Split::Test).unwrap().objects(0).iter().all(|object| !object.truncated));
    fs::rename(year.join("JPEGImages/000003.jpg"), year.join("JPEGImages/000003.png")).unwrap();
    let error = message(open(&year, Split::Test));
    assert!(error.contains("000003.jpg: is not there") && error.contains("; 000003.png lies there"), "{error}");
}
