pub mod cost;
pub mod eval;
pub mod export;
pub mod golden;
pub mod plan;
pub mod quantise;
pub mod report;
pub mod run;
pub mod show;
pub mod table;
pub mod train;

use sandglass_study::{Build, Shelf, StudyEntry};

/// The studies, in the order of the report.
#[rustfmt::skip]
const STUDIES: &[StudyEntry] = &[
    sandglass_width::STUDY,
];

/// What this binary was built from.
pub fn build() -> Build {
    sandglass_study::build!()
}

/// All studies, on so many threads.
fn shelf(threads: Option<usize>) -> Shelf<'static> {
    Shelf::new(STUDIES, build(), threads)
}
