//! Prints `results/SCHEMA.md`.

fn main() {
    print!("{}", sandglass_ledger::schema_markdown());
}
