//! Calls into parquet code, which may panic on a damaged file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// `call`'s result, or the words of its panic, with nothing printed. Panics on other threads print as ever.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(false);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| words.to_string());
        words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "damaged".to_string())
    })
}
