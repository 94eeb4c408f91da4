//! Memory that a thread keeps between calls, so that a step allocates nothing.

use std::cell::RefCell;

#[derive(Default)]
struct Slot<T>(Vec<T>);

impl<T: Copy + Default> Slot<T> {
    /// `len` numbers of four bytes on a cache line; their values are whatever the last use left.
    fn take(&mut self, len: usize) -> &mut [T] {
        const LINE: usize = 16;
        if self.0.len() < len + LINE {
            self.0 = vec![T::default(); len + LINE];
        }
        let start = self.0.as_ptr().align_offset(64).min(LINE);
        &mut self.0[start..start + len]
    }
}

thread_local! {
    static CALL: RefCell<Slot<f32>> = RefCell::default();
    static TASK: RefCell<Slot<f32>> = RefCell::default();
    static WORDS: RefCell<Slot<i32>> = RefCell::default();
}

/// For one operator call: packed weights and partial sums that its tasks share. Calls do not nest.
pub(crate) fn for_call<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    CALL.with_borrow_mut(|slot| f(slot.take(len)))
}

/// For one task of a call. Tasks do not nest.
pub(crate) fn for_task<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    TASK.with_borrow_mut(|slot| f(slot.take(len)))
}

/// As [`for_task`], for kernels in 8 bits.
pub(crate) fn words_for_task<R>(len: usize, f: impl FnOnce(&mut [i32]) -> R) -> R {
    WORDS.with_borrow_mut(|slot| f(slot.take(len)))
}

/// A place that tasks write side by side, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: a pointer alone; who follows it answers for that, at `at`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// The place is borrowed for this call alone: who follows the pointer sees that it is still there.
    pub fn new(place: &mut [T]) -> Self {
        Self(place.as_mut_ptr())
    }

    /// # Safety
    /// Inside the place, and no other task uses that part.
    pub unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset) }
    }
}
