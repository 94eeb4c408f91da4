//! Which instructions, how many threads, and the pool that runs them.
//!
//! Work is cut into tasks by shape alone and every task writes a place of its own, so results depend neither on the
//! number of threads nor on which thread took which task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::lanes;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Avx512,
    Avx2,
    Portable,
}

impl Isa {
    /// From the widest to the one that every CPU has.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// True if this CPU can run it.
    pub fn is_available(self) -> bool {
        lanes::detected(self)
    }

    /// The widest one that this CPU has, or the one that the environment variable `SANDGLASS_ISA` names.
    pub fn from_env() -> Result<Self, RuntimeError> {
        match std::env::var("SANDGLASS_ISA") {
            Ok(name) if !name.is_empty() => {
                let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
                let isa = isa.ok_or(RuntimeError::UnknownIsa(name))?;
                if isa.is_available() { Ok(isa) } else { Err(RuntimeError::MissingIsa(isa.name())) }
            }
            _ => Ok(Isa::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("SANDGLASS_ISA={0} is not known: use avx512, avx2 or portable, or leave it unset")]
    UnknownIsa(String),
    #[error("SANDGLASS_ISA={0}, but this CPU lacks it: use another path, or leave it unset")]
    MissingIsa(&'static str),
    #[error("{0} threads asked for: use 1 to 1024")]
    Threads(usize),
    #[error("no thread could be started: {0}")]
    Spawn(#[from] std::io::Error),
}

/// A pool of threads and an instruction set.
pub struct Runtime {
    isa: Isa,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One call at a time.
    turn: Mutex<()>,
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

struct Shared {
    /// Rises by one with each call, after `job` is set.
    epoch: AtomicUsize,
    job: Mutex<Option<Job>>,
    wake: Condvar,
    next: AtomicUsize,
    /// Workers that have not finished the present call.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const Task<'static>,
    tasks: usize,
}

// The pointer is used only between the start of a call and the moment `busy` is back at zero, while the caller waits.
unsafe impl Send for Job {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About 50 microseconds: operators follow each other more closely than a sleeping thread wakes.
const SPINS: usize = 20_000;

impl Shared {
    fn work(&self, job: Job) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= job.tasks {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| unsafe { (*job.task)(task) })).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a call after `seen`; None when the pool closes.
    fn wait(&self, seen: usize) -> Option<(usize, Job)> {
        for _ in 0..SPINS {
            if self.epoch.load(Ordering::Acquire) != seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut job = lock(&self.job);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let epoch = self.epoch.load(Ordering::Acquire);
            match *job {
                Some(job) if epoch != seen => return Some((epoch, job)),
                _ => job = self.wake.wait(job).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Runtime {
    /// `threads` threads, the caller's included, on the instruction set of [`Isa::from_env`].
    pub fn new(threads: usize) -> Result<Self, RuntimeError> {
        Self::with_isa(threads, Isa::from_env()?)
    }

    /// As `new`, on a given instruction set; one that this CPU lacks is an error.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self, RuntimeError> {
        if !isa.is_available() {
            return Err(RuntimeError::MissingIsa(isa.name()));
        }
        if !(1..=1024).contains(&threads) {
            return Err(RuntimeError::Threads(threads));
        }
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            wake: Condvar::new(),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut runtime = Self { isa, shared, workers: Vec::new(), turn: Mutex::new(()) };
        for _ in 1..threads {
            let shared = runtime.shared.clone();
            let worker = std::thread::Builder::new().name("sandglass".into()).spawn(move || {
                let mut seen = 0;
                while let Some((epoch, job)) = shared.wait(seen) {
                    seen = epoch;
                    shared.work(job);
                    shared.busy.fetch_sub(1, Ordering::Release);
                }
            })?;
            runtime.workers.push(worker);
        }
        Ok(runtime)
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0) .. task(tasks - 1)`, each once, on all threads; returns when all are done.
    /// `task` must not call this pool again.
    pub(crate) fn run(&self, tasks: usize, task: &Task<'_>) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(task);
            return;
        }
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // The lifetime is restored by waiting below, before `task` can go away.
        let task = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        let job = Job { task, tasks };
        {
            let mut slot = lock(&shared.job);
            *slot = Some(job);
            shared.next.store(0, Ordering::Relaxed);
            shared.busy.store(self.workers.len(), Ordering::Relaxed);
            shared.epoch.fetch_add(1, Ordering::Release);
            shared.wake.notify_all();
        }
        shared.work(job);
        let mut spins = 0;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a kernel task panicked");
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        {
            let _slot = lock(&self.shared.job);
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let runtime = Runtime::with_isa(threads, Isa::Portable).unwrap();
            for tasks in [0, 1, 2, 5, 100] {
                let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    runtime.run(tasks, &|task| {
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_survives() {
        let runtime = Runtime::with_isa(2, Isa::Portable).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.run(4, &|task| assert!(task != 2))));
        assert!(outcome.is_err());
        runtime.run(4, &|_| ());
    }

    #[test]
    fn bad_requests_are_errors() {
        assert!(matches!(Runtime::with_isa(0, Isa::Portable), Err(RuntimeError::Threads(0))));
        assert!(matches!(Runtime::with_isa(1_000_000, Isa::Portable), Err(RuntimeError::Threads(_))));
    }
}
