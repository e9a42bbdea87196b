//! Looks at store and backends once a second and writes down how they are.
//!
//! Each part is asked with a time limit, so that one that hangs is reported as out and keeps
//! nobody from being asked again.

use super::backends::Opened;
use crate::audit::Recorder;
use crate::audit::recorder::Status;
use crate::backend::Backend;
use crate::health::{Health, Report};
use crate::key::BackendName;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::store::Store;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const PERIOD: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked at, and where it is written.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) backends: BTreeMap<BackendName, Arc<dyn Backend>>,
    pub(super) opened: BTreeMap<BackendName, Opened>,
    pub(super) keyring: Keyring,
    pub(super) recorder: Recorder,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// Goes on until it is dropped.
pub(super) async fn run(parts: Parts) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(&parts).await;
    }
}

async fn look(parts: &Parts) {
    // Side by side: one that hangs keeps no other from being seen.
    let probes = parts.backends.iter().map(async |(name, backend)| {
        let out = verdict(backend.probe()).await;
        (name.to_string(), out.or_else(|| bereft(&parts.keyring, name)))
    });
    let (store, backends) = tokio::join!(verdict(parts.store.probe()), join_all(probes));
    let backends = backends.into_iter().collect();
    let incomplete: Vec<_> = parts.keyring.incomplete().iter().map(ToString::to_string).collect();
    let sinks = parts.recorder.status();
    let audit = sinks.iter().map(|status| (status.sink.to_owned(), ill(status))).collect();
    let before = parts.health.report();
    parts.health.update(|report| {
        report.started = true;
        report.store = store;
        report.backends = backends;
        report.incomplete = incomplete;
        report.audit = audit;
    });
    let after = parts.health.report();
    parts.metrics.health(&after);
    sinks.iter().for_each(|status| parts.metrics.audit(status, parts.keyring.now()));
    for (name, opened) in &parts.opened {
        parts.metrics.load(name, opened.load());
        if let Some(flow) = opened.flow() {
            parts.metrics.flow(name, flow);
        }
    }
    tell(&before, &after);
}

/// A backend that answers and has none of the keys that sign is of no use: a token was put in the
/// place of another.
fn bereft(keyring: &Keyring, name: &BackendName) -> Option<String> {
    let why = "it holds none of the keys that sign; is it the place that they were made in?";
    keyring.is_bereft(name).then(|| why.to_owned())
}

/// None if the record is kept there and sealed, else why not.
fn ill(status: &Status) -> Option<String> {
    let unsealed = || status.unsealed.as_ref().map(|why| format!("no checkpoints: {why}"));
    status.broken.clone().or_else(unsealed)
}

/// None if it is well, else why it is out.
async fn verdict<E: Display>(probe: impl Future<Output = Result<(), E>>) -> Option<String> {
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_late) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Logs what has changed, once.
fn tell(before: &Report, after: &Report) {
    match (&before.store, &after.store) {
        (was, Some(why)) if was.as_ref() != Some(why) => tracing::error!(%why, "the store is out"),
        (Some(_), None) => tracing::info!("the store is well again"),
        _ => {}
    }
    for (backend, now) in &after.backends {
        match (before.backends.get(backend).and_then(Option::as_ref), now) {
            (was, Some(why)) if was != Some(why) => {
                tracing::error!(%backend, %why, "the backend is out");
            }
            (Some(_), None) => tracing::info!(%backend, "the backend is well again"),
            _ => {}
        }
    }
    for key_set in &after.incomplete {
        if !before.incomplete.contains(key_set) {
            tracing::error!(%key_set, "the key set lacks a current or a next key");
        }
    }
    for key_set in &before.incomplete {
        if !after.incomplete.contains(key_set) {
            tracing::info!(%key_set, "the key set is complete again");
        }
    }
}
