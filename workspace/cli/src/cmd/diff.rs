//! `sandglass diff`: what changed between two folders of results, or two commits.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use sandglass_ledger::Ledger;
use sandglass_study::{Project, Shown};

#[derive(clap::Args)]
pub struct Args {
    /// A folder that holds results/rows, such a folder of rows itself, or a commit of this repository
    before: String,
    /// The same; the files at hand if left out
    #[arg(default_value = ".")]
    after: String,
    /// Markdown with a heading, for the summary of a pull request
    #[arg(long)]
    markdown: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (before, after) = (Side::open(&args.before)?, Side::open(&args.after)?);
    let table = sandglass_study::diff((&before.ledger, &before.shown), (&after.ledger, &after.shown));
    let lines = table.rows.len();
    let told = match (lines, args.markdown) {
        (0, _) => "No row and no verdict differs.\n".to_owned(),
        (_, true) => {
            format!(
                "### Results: {} against {}\n\n{lines} differences.\n\n{}",
                args.after,
                args.before,
                table.markdown()
            )
        }
        (_, false) => format!("{}{lines} differences\n", table.markdown()),
    };
    io::stdout().write_all(told.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Rows and verdicts of one side.
struct Side {
    ledger: Ledger,
    shown: Shown,
}

impl Side {
    fn open(name: &str) -> anyhow::Result<Self> {
        let folder = Path::new(name);
        if folder.is_dir() {
            return Self::at(folder);
        }
        let checkout = tempfile::tempdir()?;
        unpack(name, checkout.path())?;
        Self::at(checkout.path())
    }

    fn at(folder: &Path) -> anyhow::Result<Self> {
        let rows = folder.join("results/rows");
        if rows.is_dir() {
            return Ok(Self { ledger: Ledger::read(&rows), shown: Shown::read(&Project::around(folder)?)? });
        }
        let ledger = Ledger::read(folder);
        if ledger.rows.is_empty() && ledger.problems.is_empty() {
            bail!("{}: holds no rows", folder.display());
        }
        Ok(Self { ledger, shown: Shown::default() })
    }
}

/// The rows of a commit, and what its report showed.
fn unpack(commit: &str, to: &Path) -> anyhow::Result<()> {
    if commit.starts_with('-') {
        bail!("{commit}: neither a folder nor a commit");
    }
    let list =
        git(&["ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "results/rows", "report/out/index.tsv"])
            .with_context(|| format!("{commit}: neither a folder nor a commit"))?;
    std::fs::create_dir_all(to.join("results/rows"))?;
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::str::from_utf8(name)?;
        let path: PathBuf = to.join(name);
        sandglass_files::write(&path, &git(&["show", &format!("{commit}:{name}")])?)?;
    }
    Ok(())
}

fn git(arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("git").args(arguments).output().context("git")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}
