//! Ctrl-C and the scheduler's signal: save and stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The first SIGINT or SIGTERM asks for a save, the second ends the program at once.
#[derive(Clone, Debug)]
pub struct Signal {
    stop: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Signal {
    /// From now on.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
            flag::register_usize(signal, number.clone(), signal as usize)?;
            flag::register(signal, stop.clone())?;
        }
        Ok(Self { stop, number })
    }

    /// Set once a signal came.
    pub fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    /// Which signal came; 0 if none did.
    pub fn number(&self) -> i32 {
        self.number.load(Ordering::Relaxed) as i32
    }
}
