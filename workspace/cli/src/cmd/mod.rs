pub mod cost;
pub mod eval;
pub mod golden;
pub mod plan;
pub mod quantise;
pub mod report;
pub mod run;
pub mod show;
pub mod table;
pub mod train;

use sandglass_study::{Shelf, StudyEntry};

/// The studies, in the order of the report.
const STUDIES: [StudyEntry; 2] = [sandglass_width::STUDY, sandglass_quant_study::STUDY];

/// All studies, on so many threads.
fn shelf(threads: Option<usize>) -> Shelf<'static> {
    Shelf { entries: &STUDIES, build: sandglass_study::build!(), threads }
}
