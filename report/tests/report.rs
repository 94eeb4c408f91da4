//! The report on made-up sections: complete, escaped, and the same bytes for the same sections.

use std::collections::BTreeMap;
use std::path::Path;

use sandglass_report::{Content, Report, ReportError, build, drift, write};
use sandglass_study::claim::Verdict;
use sandglass_study::{
    Axis, Chart, Curves, Drawing, Entry, Figure, Layer, Mark, MarkedBox, Panel, Part, Photo, Pictures, Point, Record,
    Section, Series, Stack, Table,
};

fn axis(label: &str, words: &str, unit: &str) -> Axis {
    Axis { label: label.into(), words: words.into(), unit: unit.into() }
}

fn chart(name: &str) -> Chart {
    let point = |x: f64, y: f64| Point { x, y, spread: (x > 2.0).then_some(0.5) };
    let series = |name: &str, at: f64| Series {
        name: name.into(),
        points: vec![point(3.0, at + 1.0), point(1.0, at), point(2.0, at + 2.0)],
    };
    Chart {
        name: name.into(),
        title: format!("chart {name}"),
        x: axis("weight (g)", "weight", ""),
        y: axis("worth (points)", "worth", " points"),
        series: vec![series("first", 10.0), series("second", 20.0)],
        is_minor: name == "1",
        joined: true,
    }
}

fn section(name: &str) -> Section {
    let mut table = Table::new([("what", false), ("worth", true)]);
    let rows = vec![format!("{name}/plain/a#worth")];
    table.push([format!("{name} | <b>bold</b>\nline").into(), Entry::new("1.5", Mark::Ours, rows.clone())]);
    let both = vec![format!("{name}/plain/a#worth"), format!("{name}/plain/b#worth")];
    table.push([Entry::from("mean".to_owned()), Entry::new("2.5", Mark::Verdict(Verdict::Reproduced), both)]);
    table.push([Entry::from("lost".to_owned()), Entry::new("damaged", Mark::Damaged, Vec::new())]);
    let mut provenance = Table::new([("row", false)]);
    provenance.push([format!("{name}/plain/a#worth")]);
    Section {
        name: name.into(),
        title: format!("Study {name}"),
        question: "Which?".into(),
        parts: vec![
            Part::Table(table.clone()),
            Part::Notes(vec![format!("note on {name}")]),
            Part::Heading("Differences".into()),
            Part::Table(table),
            Part::Prose("What it means.".into()),
            Part::Figure(Figure { name: name.into(), caption: "Both.".into(), charts: vec![chart("0"), chart("1")] }),
            Part::Drawing(drawing(name)),
        ],
        provenance,
        commands: vec![("Again".into(), format!("sandglass run {name}"))],
        problems: vec![format!("{name}/plain/a#worth: stale")],
        ..Section::default()
    }
}

fn drawing(name: &str) -> Drawing {
    let layer = |from, to, is_depthwise| Layer { label: format!("{from} & {to}"), from, to, is_depthwise };
    let layers = vec![layer(8, 2, false), layer(2, 2, true), layer(2, 8, false)];
    let stacks = vec![Stack { title: "a < b".into(), family: "second".into(), layers, shortcuts: vec![(0, 2)] }];
    Drawing { name: format!("{name}-block"), words: "8, 2, 2, 8".into(), caption: "An hourglass.".into(), stacks }
}

fn records() -> BTreeMap<String, Record> {
    let of = |id: &str, seed| Record {
        id: id.into(),
        cell: id.split('#').next().unwrap_or_default().into(),
        value: format!("{seed} <i>worth</i>"),
        what: "worth, n = 1".into(),
        seed,
        facts: vec![("commit", "abc".into()), ("machine", "m & n".into())],
        command: format!("sandglass run --seed {seed}"),
    };
    let ids = ["width/plain/a#worth", "width/plain/b#worth", "darts/plain/a#worth"];
    ids.iter().zip(0..).map(|(id, seed)| ((*id).to_owned(), of(id, seed))).collect()
}

/// Into a folder, as the command does.
fn write_to(folder: &Path, report: &Report) -> Result<(), ReportError> {
    write(folder, &report.files(folder)?).map(|_| ())
}

fn report() -> Report {
    let problems = ["x.parquet: is cut".to_owned(), "y.parquet: is cut".to_owned(), "x.parquet: is cut".to_owned()];
    let (sections, records) = ([section("width"), section("darts")], records());
    build(&Content { title: "Two studies", sections: &sections, problems: &problems, records: &records }).unwrap()
}

#[test]
fn the_same_sections_give_the_same_bytes() {
    let (one, other) = (report(), report());
    assert_eq!((one.markdown, one.html, one.figures), (other.markdown, other.html, other.figures));
}

/// The order is the caller's, and the first section is the headline.
#[test]
fn two_studies_stand_side_by_side() {
    let report = report();
    let place = |text: &str| report.markdown.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("## Study width") < place("## Study darts"));
    assert!(report.headline.contains("| width") && !report.headline.contains("darts"));
    // Each problem once, whoever tells of it.
    assert!(report.markdown.contains("4 row files or rows are not used:"));
    for problem in
        ["x.parquet: is cut", "y.parquet: is cut", "width/plain/a#worth: stale", "darts/plain/a#worth: stale"]
    {
        assert_eq!(
            (report.markdown.matches(problem).count(), report.html.matches(problem).count()),
            (1, 1),
            "{problem}"
        );
    }
    let files: Vec<&str> = report.figures.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(
        files,
        ["width-0.svg", "width-1.svg", "width-block.svg", "darts-0.svg", "darts-1.svg", "darts-block.svg"]
    );
}

#[test]
fn text_is_escaped() {
    let report = report();
    assert!(report.markdown.contains("| width \\| &lt;b>bold&lt;/b> line |"));
    assert!(!report.html.contains("<b>bold") && report.html.contains("bold"));
}

#[test]
fn the_page_stands_alone_and_speaks() {
    let report = report();
    for outside in ["src=", "<link", "@import", "url(", "fetch(", "http:", "https:"] {
        let html = report.html.replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(report.html.matches("role=\"img\" aria-label=\"").count(), 6);
    assert_eq!((report.html.matches("<figure").count(), report.html.matches("<svg").count()), (4, 6));
    let words = "chart 0: worth against weight; first from 10.0 points at 1.0 to 11.0 points at 3.0, \
                 second from 20.0 points at 1.0 to 21.0 points at 3.0.";
    assert!(report.html.contains(words) && report.markdown.contains(words));
    for (file, svg) in &report.figures {
        assert!(!svg.contains("NaN") && !svg.contains("currentColor"));
        if !file.contains("block") {
            assert!(svg.contains("first") && svg.contains("second"), "every chart has its legend");
            assert_eq!(svg.matches("<polygon").count(), 2 * (3 + 1), "a marker for each point and in the legend");
        }
    }
}

/// Two bars of 16 and 8 about nearly the same value: the page shows both whole, one twice as long as the other.
#[test]
fn bars_are_not_cut_off() {
    let point = |x: f64, y: f64, spread: f64| Point { x, y, spread: Some(spread) };
    let series = vec![Series { name: "one".into(), points: vec![point(1.0, 10.0, 8.0), point(2.0, 10.1, 4.0)] }];
    let charts = vec![Chart { series, ..chart("0") }];
    let figure = Figure { name: "bars".into(), caption: "Bars.".into(), charts };
    let section = Section { name: "s".into(), parts: vec![Part::Figure(figure)], ..Section::default() };
    let content = Content { title: "Bars", sections: &[section], problems: &[], records: &BTreeMap::new() };
    let svg = build(&content).unwrap().figures.swap_remove(0).1;
    let number = |line: &str, name: &str| -> f64 {
        let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let upright = |line: &&str| line.contains("#2B7BBA") && number(line, "x1") == number(line, "x2");
    let lines = svg.split('<').filter(|line| line.starts_with("line "));
    let lengths: Vec<f64> = lines.filter(upright).map(|line| (number(line, "y1") - number(line, "y2")).abs()).collect();
    assert!(lengths.len() == 2 && (lengths[0] / lengths[1] - 2.0).abs() < 0.05, "{lengths:?}");
}

/// What the points of a panel say nothing about is said beside it, and it is marked for the style.
#[test]
fn a_minor_panel_says_so() {
    let html = report().html;
    assert_eq!(html.matches("class=\"panel minor\"").count(), 2);
    assert_eq!(html.matches("says nothing of the question").count(), 2);
}

/// A family has one colour in charts and drawings; the layers that filter each channel alone are filled.
#[test]
fn families_keep_their_colour() {
    let report = report();
    let of = |name: &str| &report.figures.iter().find(|(file, _)| file == name).unwrap().1;
    let colour = "#d06a1c";
    assert!(of("width-block.svg").contains(colour) && of("width-0.svg").to_lowercase().contains(colour));
    assert_eq!(of("width-block.svg").matches("fill-opacity=\"0.85\"").count(), 1);
    assert!(of("width-block.svg").contains("a &lt; b") && of("width-block.svg").contains("8 &amp; 2"));
}

/// Points are joined in their order, the same scale along both axes: 4 wide and 2 high fills the square's width and half of
/// its height, upwards.
#[test]
fn curves_are_drawn_point_by_point() {
    let panel = |name: &str, curves: &[&[[f64; 2]]]| Panel {
        name: name.into(),
        title: format!("{name} < x"),
        words: format!("panel \"{name}\""),
        curves: curves.iter().map(|curve| curve.to_vec()).collect(),
    };
    let panels = vec![
        panel("loop", &[&[[-2.0, 0.0], [2.0, 0.0]], &[[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]]]),
        panel("point", &[&[[3.0, 3.0]]]),
        panel("empty", &[]),
    ];
    let curves = Curves { name: "path".into(), caption: "Each on its own.".into(), panels };
    let section = Section { name: "s".into(), parts: vec![Part::Curves(curves)], ..Section::default() };
    let content = Content { title: "Curves", sections: &[section], problems: &[], records: &BTreeMap::new() };
    let report = build(&content).unwrap();
    let files: Vec<&str> = report.figures.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["path-loop.svg", "path-point.svg", "path-empty.svg"]);
    let svg = &report.figures[0].1;
    assert!(
        svg.contains("points=\"8.0,167.0 188.0,167.0\"") && svg.contains("points=\"188.0,167.0 98.0,77.0 8.0,167.0\"")
    );
    assert!(
        svg.contains("stroke-width=\"1.2\"") && svg.contains("stroke-width=\"2.2\"") && svg.contains("loop &lt; x")
    );
    assert!(report.figures[1].1.contains("points=\"98.0,122.0\""));
    assert!(!report.figures[2].1.contains("polyline") && report.figures.iter().all(|(_, svg)| !svg.contains("NaN")));
    assert!(report.html.contains("<figure class=\"curves\">") && report.html.contains("Each on its own."));
    assert!(report.markdown.contains("(path-loop.svg)") && report.markdown.contains("Each on its own."));
}

/// Whose box it is can be told without colour, and what is shown without eyes.
#[test]
fn photographs_have_their_boxes_drawn_over_them() {
    let marked =
        |series: usize, label: &str| MarkedBox { series, label: label.into(), bounds: [10.0, 20.0, 50.0, 80.0] };
    let photo = Photo {
        name: "0".into(),
        title: "a<b>.jpg".into(),
        words: "a.jpg: there is dog; \"one\" finds cat.".into(),
        jpeg: b"\xff\xd8\xff jpeg".to_vec(),
        side: 80.0,
        boxes: vec![marked(0, "dog"), marked(1, "cat & dog"), marked(2, "dog 80 %")],
    };
    let series = ["what is there", "one", "two"].map(String::from).to_vec();
    let (name, caption) = ("seen".into(), "From a set: drawn by hand.".into());
    let pictures = Part::Pictures(Pictures { name, caption, series, photos: vec![photo] });
    let section = Section { name: "s".into(), parts: vec![pictures], ..Section::default() };
    let content = Content { title: "Seen", sections: &[section], problems: &[], records: &BTreeMap::new() };
    let report = build(&content).unwrap();
    let (file, svg) = &report.figures[0];
    assert_eq!(file, "seen-0.svg");
    // Three times as large as the box's units.
    assert_eq!(svg.matches("<rect x=\"30.0\" y=\"60.0\" width=\"120.0\" height=\"180.0\"").count(), 6);
    let drawn = |stroke: &str| svg.matches(&format!("stroke-width=\"2\" stroke-dasharray=\"{stroke}\"")).count();
    assert_eq!(["", "7 4", "1.5 4"].map(drawn), [1, 1, 1]);
    assert!(svg.contains("href=\"data:image/jpeg;base64,/9j/IGpwZWc=\""), "{svg}");
    assert!(svg.contains("a&lt;b&gt;.jpg") && svg.contains(">cat &amp; dog</text>"));
    assert!(report.html.contains("<figure class=\"pictures\">") && report.html.contains("finds cat.\""));
    assert!(report.markdown.contains("(seen-0.svg)") && report.markdown.contains("drawn by hand."));
}

/// A number opens its row; several rows open as a list of which each opens in turn; what has no rows does not open.
#[test]
fn every_number_opens_where_it_comes_from() {
    let html = report().html;
    let (before, _) = html.split_once("\">1.5</button>").unwrap();
    let (_, row) = before.rsplit_once("popovertarget=\"").unwrap();
    let (_, opened) = html.split_once(&format!("popover id=\"{row}\"")).unwrap();
    assert!(opened.split_once("</div>").unwrap().0.contains("width/plain/a</a>"), "{row}");
    assert!(html.contains("popovertarget=\"rows.0\">2.5</button>"), "both rows and the list of them");
    for target in html.split("popovertarget=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert_eq!(html.matches(&format!(" id=\"{target}\"")).count(), 1, "{target}");
    }
    assert!(html.contains("<dt>machine</dt><dd>m &#38; n</dd>") && !html.contains("<i>worth"));
    assert!(html.contains("<td class=\"lost right\">damaged</td>"));
    assert!(html.contains("<td class=\"yes right\">"));
}

#[test]
fn ids_are_unique() {
    let html = report().html;
    let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn files_are_written_the_readme_spliced_and_old_figures_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (readme, out) = (folder.path().join("README.md"), folder.path().join("report/out"));
    let report = report();
    std::fs::write(&readme, "# Sandglass\n").unwrap();
    assert!(matches!(write_to(folder.path(), &report), Err(ReportError::Markers { .. })));
    std::fs::write(&readme, "# Sandglass\n<!-- BEGIN: headline -->\n<!-- END: headline -->\nmore\n").unwrap();
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("width-7.svg"), "of a scale that is gone").unwrap();
    std::fs::write(out.join("notes.txt"), "somebody's").unwrap();
    write_to(folder.path(), &report).unwrap();
    let text = std::fs::read_to_string(&readme).unwrap();
    assert!(text.contains("| width") && text.ends_with("<!-- END: headline -->\nmore\n"));
    let mut files: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let expected = [
        "darts-0.svg",
        "darts-1.svg",
        "darts-block.svg",
        "index.html",
        "notes.txt",
        "report.md",
        "width-0.svg",
        "width-1.svg",
        "width-block.svg",
    ];
    assert_eq!(files, expected);
    let before = std::fs::metadata(&readme).unwrap().modified().unwrap();
    write_to(folder.path(), &report).unwrap();
    assert_eq!(std::fs::metadata(&readme).unwrap().modified().unwrap(), before, "what has not changed is not written");
    // Whoever looks whether it still stands sees what was edited, what is gone and what is nobody's.
    let files = report.files(folder.path()).unwrap();
    assert_eq!(drift(folder.path(), &files).unwrap(), Vec::<std::path::PathBuf>::new());
    std::fs::write(out.join("report.md"), "edited").unwrap();
    std::fs::remove_file(out.join("width-0.svg")).unwrap();
    std::fs::write(out.join("width-7.svg"), "old").unwrap();
    let found: Vec<_> =
        drift(folder.path(), &files).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(found, ["report.md", "width-0.svg", "width-7.svg"]);
}

#[test]
fn no_study_is_an_empty_report() {
    let content = Content { title: "Nothing", sections: &[], problems: &[], records: &BTreeMap::new() };
    let report = build(&content).unwrap();
    assert!(report.markdown.contains("Every row file that was found is sound and used.") && report.headline.is_empty());
}
