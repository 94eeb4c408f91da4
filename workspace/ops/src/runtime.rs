//! Which instructions, how many threads, and the pool that runs them.
//!
//! Work is cut into tasks by shape alone and every task writes a place of its own, so results depend neither on the
//! number of threads nor on which thread took which task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

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

    /// As `SANDGLASS_ISA` spells it.
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
    ///
    /// # Errors
    /// A name that is unknown, or of one that this CPU lacks.
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

/// Why no [`Runtime`] could be made.
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
///
/// How a call is shared, and why that is safe:
///
/// - A call is a [`Job`] behind an `Arc`, sent to the workers by a channel each. Who is awake, the caller first of all,
///   *claims* its tasks one by one, by a counter. The caller waits for tasks that are claimed and not finished, never
///   for a worker: one that did not wake in time, or whose core does other work, holds up nobody.
/// - The task lives on the caller's stack. It is reached only by who has claimed an index below `tasks`, and the caller
///   leaves only when every index is finished. A worker that comes late claims nothing, and what it then touches, the
///   counters, it owns with the others.
/// - Each task's writes reach the caller: finishing one is a release, and the caller acquires the last.
/// - A panic is caught where it happens, counts as finished, and goes on in the caller.
/// - No lock is held while a task runs, and none at all is taken to claim or to finish one.
/// - Who waits spins for a moment, since operators follow each other closely, and then sleeps: on a busy core a
///   spinning thread takes the time of the one that it waits for.
pub struct Runtime {
    isa: Isa,
    workers: Vec<Worker>,
    /// Of the call that has the workers.
    turn: Mutex<()>,
}

struct Worker {
    jobs: Sender<Arc<Job>>,
    thread: JoinHandle<()>,
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// One call of [`Runtime::run`].
struct Job {
    task: *const Task<'static>,
    tasks: usize,
    /// The next task to claim; beyond `tasks` when all are claimed.
    next: AtomicUsize,
    unfinished: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

// `task` is the one field that is neither Send nor Sync by itself; what it points at is Sync, and there while a claimed
// task is unfinished.
unsafe impl Send for Job {}
unsafe impl Sync for Job {}

/// How long to spin: as long as most serial stretches between two operators, far shorter than a scheduler's slice.
const SPIN: Duration = Duration::from_micros(20);

/// Spins until `ready` gives something; None after [`SPIN`].
fn spin<T>(ready: impl Fn() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        match ready() {
            None if began.elapsed() < SPIN => std::hint::spin_loop(),
            outcome => return outcome,
        }
    }
}

impl Job {
    /// Runs tasks until none is left to claim; true if the last to finish was run here.
    fn work(&self) -> bool {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return false;
            }
            // SAFETY: `task` is claimed here and not finished, so the caller is in `wait` or in `work`.
            let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*self.task)(task) }));
            if let Err(payload) = outcome {
                // One is handed on; another is never dropped, since a payload's drop may itself panic.
                let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::forget(first.replace(payload));
            }
            if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
                return true;
            }
        }
    }

    /// For the caller: until every task is finished.
    fn wait(&self) {
        let done = || (self.unfinished.load(Ordering::Acquire) == 0).then_some(());
        if spin(done).is_none() {
            while done().is_none() {
                std::thread::park();
            }
        }
    }
}

/// A worker's life: until the pool drops its sender.
fn serve(jobs: &Receiver<Arc<Job>>) {
    while let Some(job) = spin(|| jobs.try_recv().ok()).or_else(|| jobs.recv().ok()) {
        if job.work() {
            job.caller.unpark();
        }
    }
}

impl Runtime {
    /// `threads` threads, the caller's included, on the instruction set of [`Isa::from_env`].
    ///
    /// # Errors
    /// A number of threads out of range, an unknown or missing instruction set, or threads that could not be started.
    pub fn new(threads: usize) -> Result<Self, RuntimeError> {
        Self::with_isa(threads, Isa::from_env()?)
    }

    /// As `new`, on a given instruction set.
    ///
    /// # Errors
    /// As for `new`.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self, RuntimeError> {
        if !isa.is_available() {
            return Err(RuntimeError::MissingIsa(isa.name()));
        }
        if !(1..=1024).contains(&threads) {
            return Err(RuntimeError::Threads(threads));
        }
        let mut runtime = Self { isa, workers: Vec::new(), turn: Mutex::new(()) };
        for _ in 1..threads {
            let (jobs, receiver) = channel();
            let thread = std::thread::Builder::new().name("sandglass".into()).spawn(move || serve(&receiver))?;
            runtime.workers.push(Worker { jobs, thread });
        }
        Ok(runtime)
    }

    /// The instruction set that kernels run on: one that this CPU has.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads that share a call, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0) .. task(tasks - 1)`, each once, on all threads that are free; returns when all are done.
    ///
    /// A call from within a task, or beside another thread's call, has no workers and runs on its own thread.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let turn = match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if self.workers.is_empty() || tasks <= 1 || turn.is_none() {
            (0..tasks).for_each(task);
            return;
        }
        // SAFETY: only the lifetime changes, and `wait` below outlasts every use.
        let task = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        let job = Arc::new(Job {
            task,
            tasks,
            next: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(tasks),
            panic: Mutex::new(None),
            caller: std::thread::current(),
        });
        for worker in self.workers.iter().take(tasks - 1) {
            // A worker's thread ends only with its sender, so that sending cannot fail; if it did, the others work.
            let _ = worker.jobs.send(job.clone());
        }
        if !job.work() {
            job.wait();
        }
        let panic = job.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for Worker { jobs, thread } in self.workers.drain(..) {
            drop(jobs);
            let _ = thread.join();
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

    /// Each call's closure and its data are gone when the next begins: a worker that came late to one would write into
    /// freed memory, or into a later call's counts.
    #[test]
    fn many_short_calls_leave_nobody_behind() {
        let runtime = Runtime::with_isa(16, Isa::Portable).unwrap();
        for call in 0..4_000 {
            let tasks = 2 + call % 15;
            let mut places = vec![0; tasks];
            let shared = crate::scratch::Shared::new(&mut places);
            runtime.run(tasks, &|task| {
                // Now and then a core is given away in the middle of a task, so that others claim the rest.
                if (call + task) % 7 == 0 {
                    std::thread::yield_now();
                }
                unsafe { *shared.at(task) += call + task };
            });
            assert!(places.iter().enumerate().all(|(task, place)| *place == call + task));
        }
    }

    #[test]
    fn callers_side_by_side_and_calls_within_tasks_all_get_their_work_done() {
        let runtime = Runtime::with_isa(4, Isa::Portable).unwrap();
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        runtime.run(5, &|_| {
                            runtime.run(3, &|_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * 500 * 5 * 3);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_as_it_was_and_the_pool_survives() {
        for threads in [1, 2, 8] {
            let runtime = Runtime::with_isa(threads, Isa::Portable).unwrap();
            for _ in 0..200 {
                let finished = AtomicUsize::new(0);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    runtime.run(12, &|task| {
                        if task == 11 {
                            resume_unwind(Box::new("task 11"));
                        }
                        finished.fetch_add(1, Ordering::Relaxed);
                    })
                }));
                assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"task 11"));
                assert_eq!(finished.into_inner(), 11);
            }
            runtime.run(4, &|_| ());
        }
    }

    #[test]
    fn bad_requests_are_errors() {
        assert!(matches!(Runtime::with_isa(0, Isa::Portable), Err(RuntimeError::Threads(0))));
        assert!(matches!(Runtime::with_isa(1_000_000, Isa::Portable), Err(RuntimeError::Threads(_))));
    }
}
