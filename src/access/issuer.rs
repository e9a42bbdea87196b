//! An issuer of bearer tokens, and where its keys come from.
//!
//! Keys at a URL are fetched in the background: before they are needed, again when the answer says
//! that it is old, and out of turn at most once in a while when a token names a key that nobody
//! knows. No request ever causes a fetch of its own, so nobody can use this service to knock at the
//! issuer's door.

use super::Unusable;
use super::fetch::{Answer, Fetcher};
use crate::clock::Clock;
use crate::jose::VerifyingKeys;
use crate::key::{Algorithm, later};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// How long keys are taken for fresh if their issuer does not say, and the bounds of what it may
/// say.
const FRESH: Duration = Duration::from_secs(5 * 60);
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_secs(60 * 60);
/// The pause after the first failure, and the longest.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Keys are fetched out of turn no more often than this.
const COOLDOWN: Duration = Duration::from_secs(10);
/// How long a call waits for keys that are fetched out of turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whose bearer tokens are taken, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What it is called in callers' names: `jwt:{name}:{sub}`.
    pub name: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// What must be among their `aud`.
    pub audience: String,
    /// Where its keys are.
    pub keys: KeySource,
    /// What it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may differ from ours.
    pub leeway: Duration,
    /// The claim that lists groups; none: groups are not looked at.
    pub groups_claim: Option<String>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS in a file; read again at every reload.
    File(PathBuf),
    /// A JWKS at a URL.
    Url {
        /// https, or http on loopback.
        url: String,
        /// The authorities that its server's certificate is checked against, PEM; none: the
        /// system's.
        ca_file: Option<PathBuf>,
        /// How long keys serve on after they were last fetched, while they cannot be fetched again.
        keep: Duration,
    },
}

/// An issuer's keys as they are now.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) keys: Arc<VerifyingKeys>,
    /// Counts up whenever the keys change.
    pub(super) generation: u64,
    /// Counts the attempts to fetch them.
    attempts: u64,
    /// Until when they serve; none: for ever.
    until: Option<Timestamp>,
    /// When that was last tried.
    attempt: Timestamp,
}

/// Keeps an issuer's keys, up to date if they are at a URL.
pub(super) struct Keys {
    held: watch::Receiver<Held>,
    wanted: Arc<Notify>,
    fetching: Option<AbortHandle>,
}

impl Keys {
    pub(super) fn of(issuer: &Issuer, clock: &Arc<dyn Clock>) -> Result<Self, Unusable> {
        let unusable = |why: String| Unusable { issuer: issuer.name.clone(), why };
        let wanted = Arc::new(Notify::new());
        match &issuer.keys {
            KeySource::File(file) => {
                let text = std::fs::read(file).map_err(|error| {
                    unusable(format!("jwks_file {} cannot be read: {error}", file.display()))
                })?;
                let keys = VerifyingKeys::parse(&text)
                    .map_err(|error| unusable(format!("jwks_file {} {error}", file.display())))?;
                if keys.is_empty() {
                    let why = "has no key that verifies signatures";
                    return Err(unusable(format!("jwks_file {} {why}", file.display())));
                }
                let held = Held::new(keys, None, clock.now());
                // Nothing is sent any more: what is held stays.
                let (_, held) = watch::channel(held);
                Ok(Self { held, wanted, fetching: None })
            }
            KeySource::Url { url, ca_file, keep } => {
                let fetcher = Fetcher::new(url, ca_file.as_deref()).map_err(unusable)?;
                let nothing = Held::new(VerifyingKeys::default(), Some(clock.now()), clock.now());
                let (holder, held) = watch::channel(nothing);
                let refresher = Refresher {
                    name: issuer.name.clone(),
                    fetcher,
                    keep: *keep,
                    clock: clock.clone(),
                    holder,
                    wanted: wanted.clone(),
                };
                let fetching = Some(tokio::spawn(refresher.run()).abort_handle());
                Ok(Self { held, wanted, fetching })
            }
        }
    }

    /// The keys, if they still serve.
    pub(super) fn held(&self, now: Timestamp) -> Option<Held> {
        let held = self.held.borrow().clone();
        held.until.is_none_or(|until| now < until).then_some(held)
    }

    /// Has the keys fetched out of turn, unless that was done just now, and waits for them.
    pub(super) async fn fetched_again(&self, now: Timestamp) {
        if self.fetching.is_none() {
            return;
        }
        let mut held = self.held.clone();
        let (attempt, attempts) = {
            let held = held.borrow_and_update();
            (held.attempt, held.attempts)
        };
        // The first fetch of all is under way without having been asked for.
        if attempts > 0 && now < later(attempt, COOLDOWN) {
            return;
        }
        self.wanted.notify_one();
        // Whether it came in time is seen by looking again.
        let _ = tokio::time::timeout(PATIENCE, held.changed()).await;
    }

    /// Whether they come from a URL.
    pub(super) const fn are_fetched(&self) -> bool {
        self.fetching.is_some()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(fetching) = &self.fetching {
            fetching.abort();
        }
    }
}

impl Held {
    fn new(keys: VerifyingKeys, until: Option<Timestamp>, attempt: Timestamp) -> Self {
        Self { keys: Arc::new(keys), generation: 0, attempts: 0, until, attempt }
    }
}

/// Fetches an issuer's keys again and again.
struct Refresher {
    name: String,
    fetcher: Fetcher,
    keep: Duration,
    clock: Arc<dyn Clock>,
    holder: watch::Sender<Held>,
    wanted: Arc<Notify>,
}

impl Refresher {
    async fn run(self) {
        let mut retry = RETRY_MIN;
        loop {
            let pause = match self.fetch().await {
                Ok(fresh) => {
                    retry = RETRY_MIN;
                    // Well before those that are held stop serving.
                    fresh.min(self.keep / 2)
                }
                Err(why) => {
                    tracing::error!(
                        issuer = self.name,
                        why,
                        "the keys for bearer tokens cannot be fetched; those that are held serve on for a while"
                    );
                    self.holder.send_modify(|held| {
                        held.attempts += 1;
                        held.attempt = self.clock.now();
                    });
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    pause
                }
            };
            let done = self.clock.now();
            let due = tokio::time::sleep(pause);
            tokio::pin!(due);
            loop {
                tokio::select! {
                    () = &mut due => break,
                    () = self.wanted.notified() => {
                        if self.clock.now() >= later(done, COOLDOWN) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// For how long the keys are fresh, or why there are none.
    async fn fetch(&self) -> Result<Duration, String> {
        let Answer { body, max_age } = self.fetcher.fetch().await?;
        let keys = VerifyingKeys::parse(&body).map_err(|error| format!("the answer {error}"))?;
        if keys.is_empty() {
            return Err("the answer has no key that verifies signatures".to_owned());
        }
        let until = later(self.clock.now(), self.keep);
        self.holder.send_modify(|held| {
            if *held.keys != keys {
                tracing::info!(issuer = self.name, keys = keys.len(), "keys for bearer tokens");
                held.keys = Arc::new(keys);
                held.generation += 1;
            }
            held.attempts += 1;
            held.until = Some(until);
            held.attempt = self.clock.now();
        });
        Ok(max_age.unwrap_or(FRESH).clamp(FRESH_MIN, FRESH_MAX))
    }
}
