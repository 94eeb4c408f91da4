//! Batches, prepared ahead by threads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::{DataError, Dataset, Draws, Purpose, Transform};

/// Batches that each thread may be ahead.
const AHEAD: usize = 2;

/// Images that are shuffled together where a set is read in runs (parquet row groups).
pub(crate) const WINDOW: usize = 2048;

/// Images of a set, each with what is known of it: what a [`Loader`] makes batches of.
pub trait Examples: Clone + Send + 'static {
    /// What an image comes with: its class, or the objects in it.
    type Label: Send + 'static;
    /// An image's way into a batch.
    type Transform: Clone + Send + 'static;

    /// For errors.
    fn name(&self) -> &str;

    /// Number of images.
    fn count(&self) -> usize;

    /// Of all images and what they come with, the same on every machine.
    fn hash(&self) -> &str;

    /// Ranges of indices that are cheap to read together; one range where any order is as good.
    fn runs(&self) -> Vec<Range<usize>>;

    /// Height and width of the images in a batch.
    fn size(transform: &Self::Transform) -> (usize, usize);

    /// Writes image `index`, [height, width, 3] and normalised, into `image`, and gives its label.
    ///
    /// # Errors
    ///
    /// An image that cannot be read or decoded.
    fn prepare(
        &self,
        index: usize,
        transform: &Self::Transform,
        draws: &mut Draws,
        image: &mut [f32],
    ) -> Result<Self::Label, DataError>;
}

impl Examples for Dataset {
    type Label = u32;
    type Transform = Transform;

    fn name(&self) -> &str {
        self.name()
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn hash(&self) -> &str {
        self.hash()
    }

    fn runs(&self) -> Vec<Range<usize>> {
        self.runs()
    }

    fn size(transform: &Transform) -> (usize, usize) {
        transform.size()
    }

    fn prepare(
        &self,
        index: usize,
        transform: &Transform,
        draws: &mut Draws,
        image: &mut [f32],
    ) -> Result<u32, DataError> {
        transform.apply(&*self.lend(index)?, draws, image);
        Ok(self.label(index))
    }
}

/// Images and labels of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<L = u32> {
    /// [n, height, width, 3], normalised.
    pub images: Vec<f32>,
    /// One for each image: of a detection set the objects in it.
    pub labels: Vec<L>,
    /// Places in the data set.
    pub indices: Vec<u32>,
}

/// What an epoch is made of. Order and augmentation are pure functions of (seed, epoch, index).
#[derive(Clone)]
pub struct Loader<S: Examples = Dataset> {
    set: S,
    transform: S::Transform,
    batch: usize,
    threads: usize,
    /// None: in the set's own order, the last partial batch kept.
    seed: Option<u64>,
}

impl<S: Examples> Loader<S> {
    /// Shuffled by `seed`; the last partial batch is dropped.
    ///
    /// # Errors
    ///
    /// [`DataError::Size`] where no batch is left.
    pub fn training(
        set: &S,
        transform: S::Transform,
        batch: usize,
        seed: u64,
        threads: usize,
    ) -> Result<Self, DataError> {
        let loader =
            Self { set: set.clone(), transform, batch: batch.max(1), threads: threads.max(1), seed: Some(seed) };
        if loader.batches() == 0 {
            let reason = format!("{} images do not fill one batch of {batch}", set.count());
            return Err(DataError::Size { set: set.name().to_string(), reason });
        }
        Ok(loader)
    }

    /// Every image once, in order.
    pub fn evaluation(set: &S, transform: S::Transform, batch: usize, threads: usize) -> Self {
        Self { set: set.clone(), transform, batch: batch.max(1), threads: threads.max(1), seed: None }
    }

    /// Batches of an epoch.
    pub fn batches(&self) -> usize {
        match self.seed {
            Some(_) => self.set.count() / self.batch,
            None => self.set.count().div_ceil(self.batch),
        }
    }

    /// The images that batches are made of.
    pub fn set(&self) -> &S {
        &self.set
    }

    /// Height and width of the images in a batch.
    pub fn size(&self) -> (usize, usize) {
        S::size(&self.transform)
    }

    /// The batches of `epoch` from number `first` on. A batch with broken images is an error that names them; the
    /// batches after it still come.
    pub fn epoch(&self, epoch: u64, first: usize) -> Epoch<S::Label> {
        let order: Arc<[u32]> = self.order(epoch).into();
        let workers = (0..self.threads).map(|worker| {
            let (sender, batches) = sync_channel(AHEAD);
            let (loader, order) = (self.clone(), order.clone());
            let numbers = (first + worker..self.batches()).step_by(self.threads);
            // A thread that could not start shows as a closed channel.
            let thread = thread::Builder::new().spawn(move || loader.work(epoch, numbers, &order, &sender)).ok();
            Worker { batches, thread }
        });
        let left = self.batches().saturating_sub(first);
        Epoch { set: self.set.name().to_string(), workers: workers.collect(), next: 0, left }
    }

    fn order(&self, epoch: u64) -> Vec<u32> {
        let Some(seed) = self.seed else { return (0..self.set.count() as u32).collect() };
        let mut runs = self.set.runs();
        Draws::new(seed, Purpose::Order, epoch, 0).shuffle(&mut runs);
        let mut order: Vec<u32> = Vec::with_capacity(self.set.count());
        let mut shuffled = 0;
        let mut window = 0;
        for (at, run) in runs.iter().enumerate() {
            order.extend(run.start as u32..run.end as u32);
            if order.len() - shuffled >= WINDOW || at + 1 == runs.len() {
                window += 1;
                Draws::new(seed, Purpose::Order, epoch, window).shuffle(&mut order[shuffled..]);
                shuffled = order.len();
            }
        }
        order
    }

    fn work(
        &self,
        epoch: u64,
        numbers: impl Iterator<Item = usize>,
        order: &[u32],
        sender: &SyncSender<Result<Batch<S::Label>, DataError>>,
    ) {
        for number in numbers {
            let indices = &order[number * self.batch..((number + 1) * self.batch).min(order.len())];
            if sender.send(self.prepare(epoch, indices)).is_err() {
                return;
            }
        }
    }

    fn prepare(&self, epoch: u64, indices: &[u32]) -> Result<Batch<S::Label>, DataError> {
        let (height, width) = self.size();
        let mut images = vec![0.0; indices.len() * height * width * 3];
        let (mut labels, mut failures) = (Vec::with_capacity(indices.len()), Vec::new());
        for (&index, image) in indices.iter().zip(images.chunks_exact_mut(height * width * 3)) {
            let mut draws = Draws::new(self.seed.unwrap_or(0), Purpose::Augment, epoch, u64::from(index));
            match self.set.prepare(index as usize, &self.transform, &mut draws, image) {
                Ok(label) => labels.push(label),
                Err(error) => failures.push(error.to_string()),
            }
        }
        if !failures.is_empty() {
            return Err(DataError::broken(self.set.name(), self.set.count(), failures));
        }
        Ok(Batch { images, labels, indices: indices.to_vec() })
    }
}

struct Worker<L> {
    batches: Receiver<Result<Batch<L>, DataError>>,
    thread: Option<JoinHandle<()>>,
}

/// The batches of one epoch in order; dropping it ends the threads, which may take them a batch's time.
pub struct Epoch<L = u32> {
    set: String,
    /// Batch n comes from worker n modulo their number, so the order needs no sorting.
    workers: Vec<Worker<L>>,
    next: usize,
    left: usize,
}

impl<L> Drop for Epoch<L> {
    fn drop(&mut self) {
        // First every channel, so that none waits for a reader; then the threads, so that none outlives its epoch.
        let threads: Vec<_> = self.workers.drain(..).filter_map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic has shown as a closed channel.
            let _ = thread.join();
        }
    }
}

impl<L> Iterator for Epoch<L> {
    type Item = Result<Batch<L>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = self.workers[self.next].batches.recv();
        self.next = (self.next + 1) % self.workers.len();
        self.left -= 1;
        Some(batch.unwrap_or_else(|_| Err(DataError::Stopped { set: self.set.clone() })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedded, Fit, Part};

    #[test]
    fn dropping_an_epoch_ends_its_threads() {
        let set = Embedded { size: 8, train: 1000, ..Embedded::default() }.open(Part::Train).unwrap();
        let transform = Transform::new(Fit::Own { height: 8, width: 8 }, None);
        let loader = Loader::training(&set, transform, 16, 0, 3).unwrap();
        let holders = set.holders();
        for taken in [0, 1, 7, loader.batches()] {
            let mut epoch = loader.epoch(0, 0);
            // Each thread holds a loader of its own, and there is more to do than it may be ahead.
            assert_eq!(set.holders(), holders + 3);
            assert_eq!(epoch.by_ref().take(taken).filter(Result::is_ok).count(), taken);
            drop(epoch);
            assert_eq!(set.holders(), holders, "after {taken} batches");
        }
    }
}
