//! How a connection ends. Calls under way may finish first, within a grace; what has not ended by
//! then is dropped. Only a peer that would not be let in any more is cut off at once: its calls
//! under way are what it must not have.

use super::activity::Activity;
use super::limits::Limits;
use super::server::stopped;
use super::tls::Standing;
use hyper_util::server::graceful::GracefulConnection;
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a connection without a call under way may take over its end, e.g. to acknowledge it.
const LINGER: Duration = Duration::from_secs(2);

/// What bounds one connection.
pub struct Bounds {
    pub(super) limits: Limits,
    pub(super) activity: Activity,
    pub(super) stopping: watch::Receiver<bool>,
    /// Over TLS: whether the peer's certificate is still good enough.
    pub(super) standing: Option<Standing>,
    /// Where it comes from, for the log.
    pub(super) peer: Arc<str>,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Stopping,
    Idle,
    Old,
    Refused,
}

impl Bounds {
    /// The calls of the connection; whoever answers them counts them here.
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Serves `connection` until it ends by itself, or has to.
    pub async fn drive<C>(self, connection: C)
    where
        C: GracefulConnection,
        C::Error: Display,
    {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Ok(ended),
            why = self.reason() => Err(why),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(why) => {
                tracing::debug!(peer = %self.peer, ?why, "a connection is told to end");
                if why == Why::Refused {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = sleep(self.limits.grace) => return,
                    () = idle(&self.activity, LINGER) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %self.peer, "a connection broke off");
        }
    }

    /// Waits until the connection has to end.
    async fn reason(&self) -> Why {
        let mut stopping = self.stopping.clone();
        let refused = async {
            match &self.standing {
                Some(standing) => standing.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => Why::Stopping,
            () = refused => Why::Refused,
            () = sleep(around(self.limits.connection_age)) => Why::Old,
            () = idle(&self.activity, self.limits.idle_timeout) => Why::Idle,
        }
    }
}

/// Waits until there has been no call for `limit`, and for no more than half as long again.
async fn idle(activity: &Activity, limit: Duration) {
    let mut rest = Rest::default();
    while !rest.look(activity) {
        sleep(limit / 2).await;
    }
}

/// Tells from looks at a connection, one every half of its time, whether it is idle.
#[derive(Debug, Default)]
struct Rest {
    calls: Option<u64>,
    looks: u8,
}

impl Rest {
    /// Whether there has been no call since the look before the last.
    fn look(&mut self, activity: &Activity) -> bool {
        let calls = activity.at_rest();
        let same = calls.is_some() && calls == self.calls;
        self.looks = if same { self.looks + 1 } else { 0 };
        self.calls = calls;
        self.looks >= 2
    }
}

/// `span`, give or take a tenth, so that connections made together do not end together.
fn around(span: Duration) -> Duration {
    // Without randomness they end together, which is no reason not to end.
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    span.mul_f64(0.9 + 0.2 * f64::from(dice) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_a_call_is_idle_after_its_time() {
        let (mut rest, activity) = (Rest::default(), Activity::default());
        let looks = [rest.look(&activity), rest.look(&activity), rest.look(&activity)];
        assert_eq!(looks, [false, false, true]);
    }

    #[test]
    fn a_call_under_way_and_calls_in_between_keep_it_from_being_idle() {
        let (mut rest, activity) = (Rest::default(), Activity::default());
        let call = activity.begin();
        for _ in 0..5 {
            assert!(!rest.look(&activity));
        }
        drop(call);
        for _ in 0..5 {
            assert!(!rest.look(&activity));
            drop(activity.begin());
        }
        assert!(!rest.look(&activity));
        assert!(!rest.look(&activity));
        assert!(rest.look(&activity));
    }

    #[test]
    fn ages_differ_by_no_more_than_a_tenth() {
        let span = Duration::from_secs(1000);
        let ages: Vec<_> = (0..100).map(|_| around(span).as_secs()).collect();
        assert!(ages.iter().all(|age| (900..=1100).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| age != &ages[0]), "{ages:?}");
    }
}
