//! An inference allocates nothing, from the first on, on any number of threads.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandglass_infer::{Options, Plan};
use sandglass_models::{NetworkConfig, NetworkName};
use sandglass_ops::Runtime;

/// The system's, counting.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_inference_allocates_nothing() {
    for name in [NetworkName::MobileNetV2, NetworkName::MobileNeXt, NetworkName::ResNet50] {
        let width = if name == NetworkName::ResNet50 { 1.0 } else { 0.35 };
        let graph = NetworkConfig { width, classes: 10, ..NetworkConfig::new(name) }.build().unwrap();
        let weights = common::weights(&graph);
        for (threads, batch, memory_groups) in [(1, 1, 1), (2, 2, 1), (3, 2, 4)] {
            let images = common::values(batch * 64 * 64 * 3, 0);
            let runtime = Arc::new(Runtime::new(threads).unwrap());
            let options = Options { batch, memory_groups };
            let mut plan = Plan::new(runtime, &graph, &weights, (64, 64), options).unwrap();
            let before = COUNT.load(Ordering::SeqCst);
            let mut sum = 0.0;
            for _ in 0..20 {
                sum += plan.run(&images).unwrap().get(0).unwrap()[0];
            }
            let count = COUNT.load(Ordering::SeqCst) - before;
            assert_eq!(count, 0, "{name}, {threads} threads, {batch} images");
            assert!(sum.is_finite());
        }
    }
}
