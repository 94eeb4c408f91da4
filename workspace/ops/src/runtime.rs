//! Which instructions and how many threads.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Avx512,
    Avx2,
    Portable,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("SANDGLASS_ISA={0}: use avx512, avx2 or portable")]
    UnknownIsa(String),
    #[error("SANDGLASS_ISA={0:?}: this CPU lacks it; leave it unset")]
    MissingIsa(Isa),
    #[error("0 threads asked for; use 1 or more")]
    NoThreads,
}

/// A pool of threads and an instruction set; results depend on neither.
pub struct Runtime {
    isa: Isa,
    threads: usize,
}

impl Runtime {
    /// The best instruction set of this CPU, or the one that `SANDGLASS_ISA` names.
    pub fn new(threads: usize) -> Result<Self, RuntimeError> {
        Ok(Self { isa: Isa::Portable, threads })
    }

    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self, RuntimeError> {
        Ok(Self { isa, threads })
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn threads(&self) -> usize {
        self.threads
    }
}
