//! How the service ends: softly, then hard.
//!
//! The first SIGTERM or SIGINT asks everyone to finish what is under way and to take nothing new.
//! What has not finished when the drain limit has passed, or at a second signal, is dropped. So an
//! idle connection can hold up the end for no longer than the limit.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Over,
}

/// The side that ends the service.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// The side that is told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Phase>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }
}

impl Shutdown {
    /// A view for someone who is to be told.
    pub fn stop(&self) -> Stop {
        Stop(self.0.subscribe())
    }

    /// Begins the soft stop; of no effect if it has begun.
    pub fn begin(&self) {
        self.raise(Phase::Draining);
    }

    /// Ends everything now.
    pub fn end(&self) {
        self.raise(Phase::Over);
    }

    /// Follows SIGTERM and SIGINT: the first begins the soft stop; a second, or the end of `drain`,
    /// ends everything. Returns then; fails if signals cannot be followed.
    pub async fn follow_signals(&self, drain: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut asked = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let stop = self.stop();
        tokio::select! {
            () = asked() => tracing::info!("asked to stop; finishing what is under way"),
            () = stop.soft() => {}
        }
        self.begin();
        tokio::select! {
            () = asked() => tracing::warn!("asked again; stopping now"),
            () = tokio::time::sleep(drain) => {}
            () = stop.hard() => {}
        }
        self.end();
        Ok(())
    }

    fn raise(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }
}

impl Stop {
    /// Waits for the soft stop: nothing new is to be taken.
    pub async fn soft(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits for the hard stop: whatever is still under way is to be dropped.
    pub async fn hard(&self) {
        self.reached(Phase::Over).await;
    }

    /// Whether the soft stop has begun.
    pub fn begun(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// What `work` comes to, or none if the hard stop comes first; the work is dropped then.
    pub async fn until_hard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.hard() => None,
        }
    }

    /// A shutdown that is gone counts as over.
    async fn reached(&self, phase: Phase) {
        let mut phases = self.0.clone();
        let _gone = phases.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn the_soft_stop_comes_before_the_hard_one() {
        let shutdown = Shutdown::default();
        let stop = shutdown.stop();
        assert!(!stop.begun());
        shutdown.begin();
        stop.soft().await;
        assert!(stop.begun());
        assert_eq!(stop.until_hard(ready(7)).await, Some(7));
        shutdown.end();
        stop.hard().await;
        assert_eq!(stop.until_hard(pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn the_hard_stop_is_a_soft_one_too_and_is_not_taken_back() {
        let shutdown = Shutdown::default();
        let stop = shutdown.stop();
        shutdown.end();
        shutdown.begin();
        stop.soft().await;
        stop.hard().await;
    }

    #[tokio::test]
    async fn a_shutdown_that_is_gone_stops_everyone() {
        let shutdown = Shutdown::default();
        let stop = shutdown.stop();
        drop(shutdown);
        stop.hard().await;
    }

    #[tokio::test]
    async fn the_drain_limit_ends_what_does_not_finish() {
        let shutdown = Shutdown::default();
        let stop = shutdown.stop();
        shutdown.begin();
        shutdown.follow_signals(Duration::ZERO).await.unwrap();
        assert_eq!(stop.until_hard(pending::<()>()).await, None);
    }
}
