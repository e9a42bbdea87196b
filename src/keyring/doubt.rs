//! When it is not known whether a commit was carried out.
//!
//! The store's word counts, not ours: a change that may have been made is in doubt until the store
//! has been read again, after whatever it was still writing. Until then nothing is answered that a
//! caller could take for a confirmation; and since the key that signs may have been taken out, it
//! does not go on signing for long.

use super::{Error, Keyring};
use crate::store;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long signing goes on in doubt: well within the clock skew that `tokens_until` allows for.
const SIGNING_IN_DOUBT_MAX: Duration = Duration::from_secs(30);

/// Since when there is a doubt, if there is one. Read on every signature, so it takes no lock.
#[derive(Default)]
pub(super) struct Doubt {
    /// Milliseconds from `origin`, and one; nought for no doubt.
    since: AtomicU64,
    origin: OnceLock<Instant>,
}

impl Doubt {
    /// There is a doubt from now on; of no effect if there was one before.
    pub(super) fn begin(&self) {
        let now = self.elapsed_ms() + 1;
        let _was = self.since.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.since.store(0, Ordering::SeqCst);
    }

    pub(super) fn is_there(&self) -> bool {
        self.since.load(Ordering::SeqCst) != 0
    }

    fn age(&self) -> Duration {
        match self.since.load(Ordering::SeqCst) {
            0 => Duration::ZERO,
            since => Duration::from_millis((self.elapsed_ms() + 1).saturating_sub(since)),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        let origin = self.origin.get_or_init(Instant::now);
        u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Keyring {
    /// Refuses if another process may serve the store by now: it may have withdrawn the key that
    /// signs here.
    pub fn holds_its_store(&self) -> Result<(), Error> {
        self.store().standing().map_err(Error::Store)
    }

    /// Refuses to sign once a doubt is too old, or if another process may serve the store.
    pub(super) fn certain_enough(&self) -> Result<(), Error> {
        self.holds_its_store()?;
        if self.0.doubt.age() <= SIGNING_IN_DOUBT_MAX {
            return Ok(());
        }
        let why = "the store does not say whether the last change was made, so the key that signs may have been withdrawn";
        Err(Error::Store(store::Error::new(store::Kind::Unavailable, "sign", why)))
    }

    /// Reads the store again if there is a doubt.
    pub(super) async fn clear_doubt(&self) -> Result<(), Error> {
        if !self.0.doubt.is_there() {
            return Ok(());
        }
        let _changing = self.0.changing.lock().await;
        self.reload_if_in_doubt().await
    }

    /// The same for one who holds `changing`.
    pub(super) async fn reload_if_in_doubt(&self) -> Result<(), Error> {
        if self.0.doubt.is_there() { self.reload().await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_keeps_the_time_at_which_it_began_until_it_ends() {
        let doubt = Doubt::default();
        assert!(!doubt.is_there());
        assert_eq!(doubt.age(), Duration::ZERO);
        doubt.begin();
        let since = doubt.since.load(Ordering::SeqCst);
        doubt.begin();
        assert_eq!(doubt.since.load(Ordering::SeqCst), since);
        assert!(doubt.is_there());
        doubt.end();
        assert!(!doubt.is_there());
    }
}
