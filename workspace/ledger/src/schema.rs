//! The schema as data and as `results/SCHEMA.md`.

use crate::row::Row;

/// Changes whenever a column is added, renamed or retyped.
pub const SCHEMA_VERSION: u32 = 2;

/// One column of the parquet files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// Type in words.
    pub kind: &'static str,
    pub doc: &'static str,
}

/// `results/SCHEMA.md`, made from the row's field docs.
pub fn schema_markdown() -> String {
    let mut text = format!(
        "# Result rows, schema {SCHEMA_VERSION}\n\n\
         Made from the docs of `Row` in `workspace/ledger/src/row.rs`; a test keeps the two equal.\n\n\
         A row is one metric of one cell. A cell is one file, `results/rows/<study>/<profile>/<cell>.parquet`, written \
         whole and then renamed into place: there is no shared file, so cells run anywhere and are merged by copying. \
         A cell that failed or was skipped is a row too. The file's last metadata entry, `sandglass.seal`, is the \
         BLAKE3 of the whole file with the seal's own digits read as zeros: a file that was cut or changed is named in \
         the report and not used. Files of schema 1 are read as schema 2: `variant`, `width` and `scale` become axes, \
         `recipe_hash` is `cell_hash`.\n\n\
         | column | type | meaning |\n| --- | --- | --- |\n"
    );
    for Column { name, kind, doc } in Row::SCHEMA {
        text.push_str(&format!("| `{name}` | {kind} | {} |\n", doc.trim()));
    }
    text
}
