//! Keeps the certificates of all listeners fresh: looks at their files every half minute, takes
//! over what is new and good, keeps what is in force when it is not, and says so either way, in the
//! log, the metrics and the health. SIGHUP does the same at once, and follows paths that the
//! configuration has changed.

use super::listeners::Secured;
use super::reload::{Commit, Reload};
use crate::config::{Config, Listener, Listeners};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::transport::tls::{Fresh, Worry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks at the files.
const PERIOD: Duration = Duration::from_secs(30);
/// How often a worry that has not gone away is logged again, in looks: every six hours.
const REMINDER: u64 = 720;

/// The listeners with TLS and where it is said how they are.
#[derive(Clone)]
pub(super) struct Certificates {
    listeners: Vec<Secured>,
    /// The listeners as they were at start.
    started: Listeners,
    health: Health,
    metrics: Metrics,
    /// By listener: why the files of now are not in force.
    refused: Arc<Mutex<BTreeMap<Arc<str>, String>>>,
}

impl Certificates {
    pub(super) fn new(
        listeners: Vec<Secured>,
        started: Listeners,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        Self { listeners, started, health, metrics, refused: Arc::default() }
    }

    /// Looks at the files until it is dropped.
    pub(super) async fn run(self) {
        if self.listeners.is_empty() {
            return;
        }
        let mut looks: u64 = 0;
        let mut told = Vec::new();
        loop {
            let this = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "the certificates could not be looked at");
            }
            let worries = self.report();
            if worries != told || looks.is_multiple_of(REMINDER) {
                tell(&worries);
            }
            told = worries;
            looks += 1;
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn look(&self) {
        for listener in &self.listeners {
            match listener.tls.look() {
                None => {}
                Some(Ok(fresh)) => self.adopt(listener, fresh),
                Some(Err(error)) => self.refuse(listener, &error.to_string()),
            }
        }
    }

    fn adopt(&self, listener: &Secured, fresh: Fresh) {
        listener.tls.adopt(fresh);
        self.refused().remove(&listener.name);
        let until = listener.tls.set().certificate_ends().map(|until| until.to_string());
        tracing::info!(
            listener = &*listener.name,
            until,
            "certificates taken over; open connections stay"
        );
    }

    /// What was in force stays in force; [`Certificates::report`] tells of it.
    fn refuse(&self, listener: &Secured, error: &str) {
        self.refused().insert(listener.name.clone(), error.to_owned());
    }

    /// Writes down how things are; what someone should see to, by listener.
    fn report(&self) -> Vec<(Arc<str>, Worry)> {
        let mut worries = Vec::new();
        for listener in &self.listeners {
            let refused = self.refused().get(&listener.name).cloned();
            let ends = listener.tls.set().certificate_ends();
            self.metrics.certificate(&listener.name, ends, refused.is_some());
            let refused = refused.map(|why| {
                Worry::Now(format!(
                    "the new certificates are not good, and those in force stay in force: {why}"
                ))
            });
            let all = listener.tls.worries().into_iter().chain(refused);
            worries.extend(all.map(|worry| (listener.name.clone(), worry)));
        }
        let mut certificates = BTreeMap::new();
        for listener in &self.listeners {
            let first = worries.iter().find(|(name, _)| *name == listener.name);
            let why = first.map(|(_, worry)| worry.text().to_owned());
            certificates.insert(listener.name.to_string(), why);
        }
        self.health.update(|report| report.certificates = certificates);
        worries
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(worries: &[(Arc<str>, Worry)]) {
    for (listener, worry) in worries {
        match worry {
            Worry::Soon(what) => tracing::warn!(listener = &**listener, "{what}"),
            Worry::Now(what) => tracing::error!(listener = &**listener, "{what}"),
        }
    }
}

impl Reload for Certificates {
    fn prepare(&self, config: &Config) -> Result<Commit, String> {
        let same = is_same_but_for_files(&self.started, &config.listeners);
        if !same {
            tracing::warn!("the listeners are others now: that comes into force at a restart");
        }
        let mut commits: Vec<Commit> = Vec::new();
        for listener in &self.listeners {
            let said = config.listeners.all().nth(listener.index).filter(|_| same);
            let settings = said.and_then(|(_, said)| said.tls.clone());
            let settings = settings.unwrap_or_else(|| listener.tls.settings());
            match listener.tls.prepare(settings) {
                Ok(fresh) => {
                    let (this, listener) = (self.clone(), listener.clone());
                    commits.push(Box::new(move || this.adopt(&listener, fresh)));
                }
                Err(error) => {
                    self.refuse(listener, &error.to_string());
                    self.report();
                    return Err(format!("{}: {error}", listener.name));
                }
            }
        }
        let this = self.clone();
        Ok(Box::new(move || {
            for commit in commits {
                commit();
            }
            this.report();
        }))
    }
}

/// Whether nothing differs but the settings of TLS where there was TLS before.
fn is_same_but_for_files(before: &Listeners, now: &Listeners) -> bool {
    let shape = |listeners: &Listeners| -> Vec<_> {
        let shape = |(face, listener): (&'static str, &Listener)| {
            let has_tls = listener.tls.is_some();
            (face, listener.address.clone(), listener.mode, listener.limits, has_tls)
        };
        listeners.all().map(shape).collect()
    };
    shape(before) == shape(now)
}
