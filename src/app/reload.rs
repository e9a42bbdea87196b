//! SIGHUP: reads the configuration file again and applies what can change in a running service: all
//! of it or nothing. A bad file changes nothing and is reported.
//!
//! Whoever has something that can change puts a [`Reload`] on the list. Each first makes ready what
//! it is asked for, which may fail; only when all are ready does each put it into force, which may
//! not.

use crate::config::Config;
use crate::telemetry::Telemetry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Something that can change in a running service.
pub(super) trait Reload: Send + Sync {
    /// Makes ready what `config` says; or why that cannot be. May read files.
    fn prepare(&self, config: &Config) -> Result<Commit, String>;
}

/// Puts into force what was made ready. It cannot fail.
pub(super) type Commit = Box<dyn FnOnce() + Send>;

/// What reloads, in the order in which it comes into force.
pub(super) type Reloads = Arc<Vec<Box<dyn Reload>>>;

/// Follows SIGHUP until it is dropped.
pub(super) async fn run(file: PathBuf, reloads: Reloads) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be followed; the configuration is not reloaded");
            return;
        }
    };
    while hangups.recv().await.is_some() {
        let (named, reloads) = (file.clone(), reloads.clone());
        let work = tokio::task::spawn_blocking(move || all_or_none(&named, &reloads));
        match work.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => tracing::info!(file = %file.display(), "configuration reloaded"),
            Err(error) => tracing::error!(
                file = %file.display(),
                error,
                "the configuration was not reloaded: what was in force stays in force",
            ),
        }
    }
}

fn all_or_none(file: &Path, reloads: &[Box<dyn Reload>]) -> Result<(), String> {
    let config =
        Config::load(file, crate::config::environment()).map_err(|error| error.to_string())?;
    let commits = reloads
        .iter()
        .map(|reload| reload.prepare(&config))
        .collect::<Result<Vec<Commit>, String>>()?;
    for commit in commits {
        commit();
    }
    Ok(())
}

impl Reload for Telemetry {
    fn prepare(&self, config: &Config) -> Result<Commit, String> {
        let level = self.level(&config.log.level).map_err(|error| error.to_string())?;
        let telemetry = self.clone();
        Ok(Box::new(move || {
            if let Err(error) = telemetry.apply(level) {
                tracing::error!(%error, "the log's level could not be changed");
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Part {
        is_good: bool,
        in_force: Arc<AtomicUsize>,
    }

    impl Reload for Part {
        fn prepare(&self, _: &Config) -> Result<Commit, String> {
            let in_force = self.in_force.clone();
            if self.is_good {
                Ok(Box::new(move || {
                    in_force.fetch_add(1, Ordering::Relaxed);
                }))
            } else {
                Err("the third part is bad".to_owned())
            }
        }
    }

    fn outcome(parts: &[bool]) -> (Result<(), String>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signkeep.toml");
        let text = "[backends.token]\nkind = \"pkcs11\"\nmodule = \"m.so\"\ntoken_label = \"t\"\npin_file = \"pin\"\n";
        std::fs::write(&file, text).unwrap();
        let in_force = Arc::new(AtomicUsize::new(0));
        let part = |is_good: &bool| -> Box<dyn Reload> {
            Box::new(Part { is_good: *is_good, in_force: in_force.clone() })
        };
        let parts: Vec<_> = parts.iter().map(part).collect();
        let outcome = all_or_none(&file, &parts);
        (outcome, in_force.load(Ordering::Relaxed))
    }

    #[test]
    fn all_parts_come_into_force_or_none_does() {
        assert_eq!(outcome(&[true, true, true]), (Ok(()), 3));
        assert_eq!(outcome(&[true, true, false]), (Err("the third part is bad".to_owned()), 0));
    }
}
