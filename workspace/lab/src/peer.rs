//! ONNX Runtime in a process of its own: `bench/onnxruntime_peer.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sandglass_study::{CellError, Project};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Names a Python that has onnxruntime.
const PYTHON: &str = "SANDGLASS_PYTHON";

/// One exported network, loaded. It waits while it is not asked.
pub(crate) struct OnnxRuntime {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    hello: Hello,
}

/// Its first line.
#[derive(Deserialize)]
struct Hello {
    onnxruntime: String,
    logits: Vec<f32>,
}

impl OnnxRuntime {
    /// # Errors
    /// `Skipped` where there is no Python with onnxruntime.
    pub fn start(project: &Project, file: &Path, size: usize, threads: usize) -> Result<Self, CellError> {
        let python = std::env::var_os(PYTHON).filter(|python| !python.is_empty()).map(PathBuf::from);
        let python = python.unwrap_or_else(|| project.root().join("bench/venv-infer/bin/python"));
        let needs = |reason: &dyn std::fmt::Display| {
            CellError::Skipped(format!(
                "ONNX Runtime is timed beside: {}: {reason}; `make peers` installs one, {PYTHON} names another",
                python.display()
            ))
        };
        let mut command = Command::new(&python);
        command.arg(project.root().join("bench/onnxruntime_peer.py")).arg(file);
        command.args([size.to_string(), threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| needs(&error))?;
        let (Some(asks), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(needs(&"has no standard input or output"));
        };
        let mut answers = BufReader::new(answers);
        match answer(&mut answers) {
            Ok(hello) => Ok(Self { process, asks, answers, hello }),
            Err(reason) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(needs(&reason))
            }
        }
    }

    pub fn version(&self) -> &str {
        &self.hello.onnxruntime
    }

    pub fn logits(&self) -> &[f32] {
        &self.hello.logits
    }

    /// Seconds of each of so many inferences.
    pub fn run(&mut self, count: usize) -> Result<Vec<f64>, CellError> {
        let failed = |reason: String| CellError::Failed(format!("ONNX Runtime: {reason}"));
        writeln!(self.asks, "{count}").and_then(|()| self.asks.flush()).map_err(|error| failed(error.to_string()))?;
        answer(&mut self.answers).map_err(failed)
    }
}

impl Drop for OnnxRuntime {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A line of JSON.
fn answer<T: DeserializeOwned>(answers: &mut BufReader<ChildStdout>) -> Result<T, String> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => Err("it stopped, and has said why above".to_owned()),
        Ok(_) => serde_json::from_str(&line).map_err(|error| format!("its answer is not understood: {error}")),
        Err(error) => Err(error.to_string()),
    }
}
