//! `signkeep serve`: the service.

use super::Failure;
use super::anew::start_anew_beside;
use crate::app::{Addresses, App};
use crate::config::{self, Config};
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long work that cannot be cancelled may hold up the end of the process.
const LINGER: Duration = Duration::from_secs(2);

/// Run the service.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration; `signkeep config defaults` prints every setting. A softhsm2.conf beside it
    /// is SoftHSM's, unless SOFTHSM2_CONF names another.
    #[arg(long, env = "SIGNKEEP_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Where to write the addresses that are really listened on, as JSON, once the service answers.
    #[arg(long, value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    start_anew_beside(&args.config)?;
    let config = Config::load(&args.config, config::environment())?;
    serve(config, &args.config, args.addresses_file.as_deref(), |addresses, outage| {
        if let Some(why) = outage {
            tracing::error!(%why, "up, but cannot sign; `signkeep doctor` says more");
        }
        for address in &addresses.grpc {
            tracing::info!(%address, "gRPC");
        }
        for address in &addresses.http {
            tracing::info!(%address, "HTTP");
        }
        for address in &addresses.metrics {
            tracing::info!(%address, "metrics");
        }
        Ok(())
    })
}

/// Serves until a signal ends it; `greet` is called once it answers, with why it cannot
/// sign if it cannot.
pub(super) fn serve(
    config: Config,
    file: &Path,
    addresses_file: Option<&Path>,
    greet: impl FnOnce(&Addresses, Option<String>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let telemetry =
        Telemetry::start(&config.log).map_err(|error| Failure::new(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        let app = App::build(config).await?;
        let ready = |addresses: &Addresses, outage: Option<String>| {
            if let Some(file) = addresses_file {
                addresses.write(file)?;
            }
            greet(addresses, outage).map_err(|failure| anyhow::anyhow!(failure.what))
        };
        app.run(Shutdown::default(), telemetry, file.to_owned(), ready).await?;
        Ok(())
    });
    // Dropped, it would wait without limit for a write that hangs, e.g. into a pipe nobody reads.
    runtime.shutdown_timeout(LINGER);
    ended
}
