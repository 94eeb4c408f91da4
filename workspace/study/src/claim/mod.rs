//! What the papers claim, as sentences over rows, and what rows say of them. Names of networks, data sets and metrics are in
//! `experiments/claims.toml` alone.

mod contrast;
mod count;
mod file;
mod judge;
mod printed;
mod prose;
mod rule;
mod told;

pub use contrast::{Contrast, Evidence, Selector};
pub use count::{Comparison, Count, Relation};
pub use file::{Claim, Claims, Origin, Test, Time};
pub use judge::{Judged, judge};
pub use printed::{Printed, PrintedCount};
pub use prose::{Prose, Unsupported};
pub use rule::{RULE, Verdict};
pub use told::{NAME, section};
