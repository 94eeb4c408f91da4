//! Calls into libraries that may panic on a damaged file.
//!
//! The hook asks which *thread* panics, not whether any call is under way, so that a panic elsewhere in the process
//! still prints. That is enough as long as polars works on the calling thread, which a reader with
//! `ParallelStrategy::None` does (the data crate's `tests/quiet.rs`); a writer encodes on polars' own threads unless `set_parallel(false)`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// `call`'s result, or the words of its panic, with nothing printed. Panics on other threads print as ever.
///
/// # Errors
/// The words of the panic.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    // A call within a call leaves the outer one quiet.
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(outer);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| words.to_string());
        words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "damaged".to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::catch;

    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| -> u8 { panic!("broken {}", 1) }), Err("broken 1".into()));
        // A call within a call.
        assert_eq!(catch(|| catch(|| -> u8 { panic!("inner") })), Ok(Err("inner".into())));
    }
}
