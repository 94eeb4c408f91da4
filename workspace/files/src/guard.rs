//! Calls into libraries that may panic on a strange file.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static QUIET: AtomicUsize = AtomicUsize::new(0);
static HOOK: Once = Once::new();

/// `call`'s result, or the words of its panic, with nothing printed.
///
/// The hook looks at a count, not at a thread, for some libraries work on threads of their own. A panic there reaches
/// the caller only where the library hands it on.
///
/// # Errors
/// The words of the panic.
pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if QUIET.load(Ordering::SeqCst) == 0 {
                usual(info);
            }
        }));
    });
    QUIET.fetch_add(1, Ordering::SeqCst);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.fetch_sub(1, Ordering::SeqCst);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| words.to_string());
        words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_its_words() {
        assert_eq!(super::catch(|| 7), Ok(7));
        assert_eq!(super::catch(|| -> u8 { panic!("broken {}", 1) }), Err("broken 1".into()));
    }
}
