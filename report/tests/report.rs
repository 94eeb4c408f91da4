//! The report on made-up sections: complete, escaped, and the same bytes for the same sections.

use sandglass_report::{Report, ReportError, build, write};
use sandglass_study::{Axis, Chart, Figure, Part, Point, Section, Series, Table};

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
    }
}

fn section(name: &str) -> Section {
    let mut table = Table::new([("what", false), ("worth", true)]);
    table.push([format!("{name} | <b>bold</b>\nline"), "1.5".to_owned()]);
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
        ],
        provenance,
        commands: vec![("Again".into(), format!("sandglass run {name}"))],
        problems: vec![format!("{name}/plain/a#worth: stale")],
        data: serde_json::Value::Null,
    }
}

fn report() -> Report {
    let problems = ["x.parquet: is cut".to_owned(), "y.parquet: is cut".to_owned(), "x.parquet: is cut".to_owned()];
    build("Two studies", &[section("width"), section("darts")], &problems).unwrap()
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
    assert!(report.headline.contains("note on width") && !report.headline.contains("darts"));
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
    assert_eq!(files, ["width-0.svg", "width-1.svg", "darts-0.svg", "darts-1.svg"]);
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
    for outside in ["src=", "<link", "@import", "url(", "<script"] {
        assert!(!report.html.contains(outside), "{outside}");
    }
    assert_eq!(report.html.matches("<div role=\"img\" aria-label=\"").count(), 4);
    assert_eq!((report.html.matches("<figure>").count(), report.html.matches("<svg").count()), (2, 4));
    let words = "chart 0: worth against weight; first from 10.0 points at 1.0 to 11.0 points at 3.0, \
                 second from 20.0 points at 1.0 to 21.0 points at 3.0.";
    assert!(report.html.contains(words) && report.markdown.contains(words));
    for (_, svg) in &report.figures {
        assert!(svg.contains("first") && svg.contains("second"), "every chart has its legend");
        assert_eq!(svg.matches("<polygon").count(), 2 * (3 + 1), "a marker for each point and in the legend");
        assert!(!svg.contains("NaN") && !svg.contains("currentColor"));
    }
}

#[test]
fn files_are_written_the_readme_spliced_and_old_figures_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (readme, out) = (folder.path().join("README.md"), folder.path().join("report/out"));
    let report = report();
    std::fs::write(&readme, "# Sandglass\n").unwrap();
    assert!(matches!(write(folder.path(), &report), Err(ReportError::Markers { .. })));
    std::fs::write(&readme, "# Sandglass\n<!-- BEGIN: headline -->\n<!-- END: headline -->\nmore\n").unwrap();
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("width-7.svg"), "of a scale that is gone").unwrap();
    std::fs::write(out.join("notes.txt"), "somebody's").unwrap();
    write(folder.path(), &report).unwrap();
    let text = std::fs::read_to_string(&readme).unwrap();
    assert!(text.contains("note on width") && text.ends_with("<!-- END: headline -->\nmore\n"));
    let mut files: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let expected = ["darts-0.svg", "darts-1.svg", "index.html", "notes.txt", "report.md", "width-0.svg", "width-1.svg"];
    assert_eq!(files, expected);
    let before = std::fs::metadata(&readme).unwrap().modified().unwrap();
    write(folder.path(), &report).unwrap();
    assert_eq!(std::fs::metadata(&readme).unwrap().modified().unwrap(), before, "what has not changed is not written");
}

#[test]
fn no_study_is_an_empty_report() {
    let report = build("Nothing", &[], &[]).unwrap();
    assert!(report.markdown.contains("Every row file that was found is sound and used.") && report.headline.is_empty());
}
