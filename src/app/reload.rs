//! SIGHUP: reads the configuration file again and applies what can change in a running service,
//! which is who may do what, and the log's level: all of it or nothing. A bad file changes nothing
//! and is reported.

use crate::access::Access;
use crate::config::Config;
use crate::telemetry::Telemetry;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// Follows SIGHUP until it is dropped.
pub(super) async fn run(file: PathBuf, telemetry: Telemetry, access: Access) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be followed; the configuration is not reloaded");
            return;
        }
    };
    while hangups.recv().await.is_some() {
        match reload(&file, &telemetry, &access) {
            Ok(level) => tracing::info!(file = %file.display(), level, "configuration reloaded"),
            Err(error) => tracing::error!(
                file = %file.display(),
                error,
                "the configuration was not reloaded: what was in force stays in force",
            ),
        }
    }
}

fn reload(file: &Path, telemetry: &Telemetry, access: &Access) -> Result<String, String> {
    let config =
        Config::load(file, crate::config::environment()).map_err(|error| error.to_string())?;
    let rules = access.prepare(config.access()).map_err(|error| error.to_string())?;
    telemetry.set_level(&config.log.level).map_err(|error| error.to_string())?;
    access.apply(rules);
    Ok(config.log.level)
}
