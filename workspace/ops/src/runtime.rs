//! Which instructions, how many threads, and the pool that runs them.
//!
//! Work is cut into tasks by shape alone and every task writes a place of its own, so results depend neither on the
//! number of threads nor on which thread took which task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::lanes;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with its F, VL, BW and DQ parts: 16 lanes.
    Avx512,
    /// AVX2 with FMA: 8 lanes.
    Avx2,
    /// Plain Rust.
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

/// A pool of threads and an instruction set. Dropping it ends its threads.
pub struct Runtime {
    isa: Isa,
    workers: Vec<Worker>,
    /// Held by the call that has the workers: jobs that are used again, so that a call allocates nothing.
    turn: Mutex<Vec<Arc<Job>>>,
}

struct Worker {
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

/// What a worker is to do next. A job takes the place of one that was not fetched: a call begins when the one before it
/// has all its tasks finished.
#[derive(Default)]
struct Mailbox {
    job: Mutex<Option<Arc<Job>>>,
    /// Whether to look: who waits takes no lock.
    full: AtomicBool,
    /// Nothing comes any more.
    closed: AtomicBool,
}

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// One call of [`Runtime::run`]. How it is shared, and why that is safe:
///
/// - It lies behind an `Arc`, laid into the workers' mailboxes. Who is awake, the caller first of all, *claims* its
///   tasks one by one, by a counter. The caller waits for tasks that are claimed and not finished, never for a worker:
///   one that did not wake in time, or whose core does other work, holds up nobody.
/// - The task lives on the caller's stack. It is reached only by who has claimed an index below `tasks`, and the caller
///   leaves only when every index is finished. A worker that comes late claims nothing, and what it then touches, the
///   counters, it owns with the others.
/// - Each task's writes reach the caller: finishing one is a release, and the caller acquires the last.
/// - A panic is caught where it happens, counts as finished, and goes on in the caller.
/// - It is used again when nobody holds it any more, which exclusive access through its `Arc` proves.
/// - Nobody waits for a lock that is held while a task runs: the pool's `turn` is tried, never waited for, and to claim or to
///   finish a task takes none.
/// - Who waits spins for a moment, since operators follow each other closely, and then sleeps: on a busy core a
///   spinning thread takes the time of the one that it waits for.
struct Job {
    task: *const Task<'static>,
    tasks: usize,
    /// The next task to claim; beyond `tasks` when all are claimed.
    next: AtomicUsize,
    unfinished: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

// SAFETY: `task` is the one field that is neither by itself; what it points at is Sync, and there while a claimed task is
// unfinished.
unsafe impl Send for Job {}
// SAFETY: as above.
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
    fn idle() -> Self {
        const NOTHING: &Task<'static> = &|_| ();
        Self {
            task: NOTHING,
            tasks: 0,
            next: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            panic: Mutex::new(None),
            caller: std::thread::current(),
        }
    }

    /// One of `jobs` that nobody else holds, or a new one, with all its tasks to do.
    fn free(jobs: &mut Vec<Arc<Job>>, task: *const Task<'static>, tasks: usize) -> Arc<Job> {
        let fresh = |job: &mut Job| {
            (job.task, job.tasks) = (task, tasks);
            (job.next, job.unfinished) = (AtomicUsize::new(0), AtomicUsize::new(tasks));
            job.caller = std::thread::current();
        };
        for job in &mut *jobs {
            if let Some(free) = Arc::get_mut(job) {
                fresh(free);
                return job.clone();
            }
        }
        let mut job = Self::idle();
        fresh(&mut job);
        let job = Arc::new(job);
        jobs.push(job.clone());
        job
    }

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
                let mut first = lock(&self.panic);
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

/// A poisoned lock is one whose holder panicked; nothing here leaves what it guards half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    fn put(&self, job: Arc<Job>) {
        let before = lock(&self.job).replace(job);
        self.full.store(true, Ordering::Release);
        drop(before);
    }

    fn take(&self) -> Option<Arc<Job>> {
        if !self.full.load(Ordering::Relaxed) {
            return None;
        }
        // Before the job is taken: what comes in between is taken with it, or found the next time.
        self.full.store(false, Ordering::Relaxed);
        lock(&self.job).take()
    }
}

/// A worker's life: until the pool closes its mailbox.
fn serve(mailbox: &Mailbox) {
    while !mailbox.closed.load(Ordering::Acquire) {
        match spin(|| mailbox.take()) {
            // Whoever fills or closes the mailbox unparks, before or after this.
            None => std::thread::park(),
            Some(job) => {
                if job.work() {
                    job.caller.unpark();
                }
            }
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
        // A worker holds two at most, one in hand and one in its mailbox.
        let jobs = (0..2 * threads).map(|_| Arc::new(Job::idle())).collect();
        let mut runtime = Self { isa, workers: Vec::new(), turn: Mutex::new(jobs) };
        let started = Arc::new(AtomicUsize::new(0));
        for _ in 1..threads {
            let mailbox = Arc::new(Mailbox::default());
            let (own, started) = (mailbox.clone(), started.clone());
            let thread = std::thread::Builder::new().name("sandglass".into()).spawn(move || {
                started.fetch_add(1, Ordering::Relaxed);
                drop(started);
                serve(&own);
            })?;
            runtime.workers.push(Worker { mailbox, thread });
        }
        // A thread that starts allocates; none does so in the middle of a call.
        while started.load(Ordering::Relaxed) < runtime.workers.len() {
            std::thread::yield_now();
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
        let Some(mut jobs) = turn.filter(|_| !self.workers.is_empty() && tasks > 1) else {
            (0..tasks).for_each(task);
            return;
        };
        // SAFETY: only the lifetime changes, and `wait` below outlasts every use.
        let task = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        let job = Job::free(&mut jobs, task, tasks);
        for Worker { mailbox, thread } in self.workers.iter().take(tasks - 1) {
            mailbox.put(job.clone());
            thread.thread().unpark();
        }
        if !job.work() {
            job.wait();
        }
        let panic = lock(&job.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for Worker { mailbox, thread } in self.workers.drain(..) {
            mailbox.closed.store(true, Ordering::Release);
            thread.thread().unpark();
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
                // SAFETY: each task has a place of its own.
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
