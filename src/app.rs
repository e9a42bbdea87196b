//! The composition root: what is read in one place to see how the service hangs together.
//!
//! Build binds first, so that a taken port is known before a key is touched; then the store, the
//! backends, the keyring. Run serves as soon as the keyring stands, whether or not the HSM answers:
//! health says how things are, and what is down heals without a restart.

mod audit;
mod backends;
mod certificates;
mod file;
mod listeners;
mod pin_memory;
mod prober;
mod process;
mod reload;
mod seeder;
mod store;

pub use audit::{KeyringSeal, StoreSink};
#[cfg(feature = "aws-kms")]
pub use backends::aws_kms_settings;
pub use backends::pkcs11_settings;
pub use file::write_whole;
pub use listeners::{Addresses, Bound};
pub use pin_memory::StorePinMemory;
pub use store::{is_served, open_store};

use crate::access::Access;
use crate::audit::Recorder;
use crate::backend::Backend;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::health::Health;
use crate::key::BackendName;
use crate::keyring::{self, Keyring};
use crate::management::Management;
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Stop};
use crate::store::{Store, inspect};
use crate::telemetry::Telemetry;
use crate::transport::Address;
use crate::{grpc, http, management};
use anyhow::{Context, Result, anyhow};
use audit::{Audit, Noticed, Writing};
use backends::Opened;
use certificates::Certificates;
use listeners::{Taken, own_url};
use reload::Reload;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long store and backends may take to end their work, once nothing asks them any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a backend may take to say at start whether it can be used.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The service, built and bound, not serving yet.
pub struct App {
    config: Config,
    bound: Bound,
    store: Arc<dyn Store>,
    backends: BTreeMap<BackendName, Arc<dyn Backend>>,
    opened: BTreeMap<BackendName, Opened>,
    keyring: Keyring,
    recorder: Recorder,
    /// Until it begins to be written.
    audit: Option<Audit>,
    access: Access,
    health: Health,
    metrics: Metrics,
    management: Option<Arc<Management>>,
}

impl App {
    /// Takes the ports, opens the store and the backends, and builds the keyring.
    pub async fn build(config: Config) -> Result<Self> {
        process::keep_memory_private()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let access = Access::new(config.access(), clock.clone())?;
        if access.is_closed() {
            tracing::error!(
                "nobody may do anything: the configuration has no [[policy]]; `signkeep config defaults` shows one"
            );
        }
        let bound = Bound::bind(&config.listeners, &clock).await?;
        let store = open_store(&config.store)
            .await
            .with_context(|| format!("the store {}", config.store))?;
        inspect(&*store, clock.now()).await.context("the audit record")?;
        let mut backends: BTreeMap<BackendName, Arc<dyn Backend>> = BTreeMap::new();
        let mut opened = BTreeMap::new();
        for (name, settings) in &config.backends {
            let backend = Opened::open(name, settings, &store)
                .await
                .with_context(|| format!("the backend {name}"))?;
            backends.insert(name.clone(), backend.port());
            opened.insert(name.clone(), backend);
        }
        let metrics = Metrics::new();
        let audit = Audit::new(&config.audit, &store, Arc::clone(&clock))?;
        let keyring = Keyring::open(keyring::Parts {
            store: store.clone(),
            backends: backends.clone(),
            clock,
            limits: config.publication_limits(),
            certificates: config.certificates,
            metrics: metrics.clone(),
            recorder: audit.recorder.clone(),
        })
        .await
        .context("the keys")?;
        let management = management(&config, &bound, &keyring)?;
        Ok(Self {
            config,
            bound,
            store,
            backends,
            opened,
            keyring,
            recorder: audit.recorder.clone(),
            audit: Some(audit),
            access,
            health: Health::default(),
            metrics,
            management,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.bound.addresses()
    }

    /// Serves until it is asked to stop by `shutdown`, then drains. `ready` is called once every
    /// face answers and the key sets of the file have been looked after, with why it cannot sign if
    /// it cannot; `file` is read again on SIGHUP.
    pub async fn run(
        mut self,
        shutdown: Shutdown,
        telemetry: Telemetry,
        file: PathBuf,
        ready: impl FnOnce(&Addresses, Option<String>) -> Result<()>,
    ) -> Result<()> {
        let stop = shutdown.stop();
        let addresses = self.addresses();
        let drain = self.config.limits.drain_timeout;
        let shutdown = Arc::new(shutdown);
        let mut helpers = JoinSet::new();
        let writing = self.audit.take().map(|audit| audit.begin(&self.keyring));
        let signals = shutdown.clone();
        helpers.spawn(async move {
            if let Err(error) = signals.follow_signals(drain).await {
                tracing::error!(%error, "signals cannot be followed; stopping");
                signals.end();
            }
        });
        let (keyring, soft) = (self.keyring.clone(), stop.clone());
        helpers.spawn(async move { keyring.run_rotator(soft.soft()).await });
        helpers.spawn(until_soft(
            stop.clone(),
            prober::run(prober::Parts {
                store: self.store.clone(),
                backends: self.backends.clone(),
                opened: self.opened.clone(),
                keyring: self.keyring.clone(),
                recorder: self.recorder.clone(),
                health: self.health.clone(),
                metrics: self.metrics.clone(),
            }),
        ));
        let certificates = Certificates::new(
            self.bound.secured(),
            self.config.listeners.clone(),
            self.health.clone(),
            self.metrics.clone(),
        );
        helpers.spawn(until_soft(stop.clone(), certificates.clone().run()));
        let reloads: Vec<Box<dyn Reload>> =
            vec![Box::new(telemetry), Box::new(self.access.clone()), Box::new(certificates)];
        helpers.spawn(until_soft(stop.clone(), reload::run(file, Arc::new(reloads))));
        if let Some(management) = self.management.clone() {
            helpers.spawn(until_soft(stop.clone(), async move { management.prepare().await }));
        }
        let mut faces = self.serve(&stop);

        let seeds = self.config.key_sets.clone();
        let seeder = seeder::Seeder::new(self.keyring.clone(), seeds);
        let left = stop.until_hard(seeder.once()).await.flatten();
        if let Some(left) = left {
            helpers.spawn(until_soft(stop.clone(), left.until_done()));
        }
        let outage = stop.until_hard(self.outage()).await.flatten();
        if !stop.begun() {
            ready(&addresses, outage)?;
        }

        let outcome = tokio::select! {
            biased;
            () = stop.soft() => Ok(()),
            ended = faces.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                // Asked to, in the moment between the two looks.
                _ if stop.begun() => Ok(()),
                _ => Err(anyhow!("a listener ended by itself")),
            },
        };
        self.health.update(|report| report.stopping = true);
        shutdown.begin();
        let drained = async { while faces.join_next().await.is_some() {} };
        if stop.until_hard(drained).await.is_none() {
            tracing::warn!("requests under way are dropped");
        }
        faces.shutdown().await;
        shutdown.end();
        helpers.shutdown().await;
        self.close(writing).await;
        tracing::info!("stopped");
        outcome
    }

    /// Starts every face on its listeners.
    fn serve(&self, stop: &Stop) -> JoinSet<Result<()>> {
        let mut faces = JoinSet::new();
        let Taken { grpc, http, metrics, management } = self.bound.take();
        let (limits, usual) = (self.config.limits, grpc::Settings::default());
        let deps = grpc::Deps {
            access: self.access.clone(),
            refusals: Arc::new(Noticed::new(self.recorder.clone(), Arc::new(SystemClock))),
            keyring: self.keyring.clone(),
            health: self.health.clone(),
            settings: grpc::Settings {
                request_timeout_max: limits.request_timeout,
                change_timeout_max: usual.change_timeout_max.max(limits.request_timeout),
                drain_timeout: limits.drain_timeout,
                ..usual
            },
        };
        let soft = stop.clone();
        faces.spawn(async move {
            grpc::serve(grpc, deps, async move { soft.soft().await }).await.context("gRPC")
        });
        for listener in http {
            let router = http::router(http::State {
                keyring: self.keyring.clone(),
                health: self.health.clone(),
                default_key_set: self.config.default_key_set.clone(),
                settings: publication(&self.config, own_url(&listener)),
            });
            let soft = stop.clone();
            faces.spawn(async move {
                http::serve(listener, router, async move { soft.soft().await }).await;
                Ok(())
            });
        }
        for listener in metrics {
            let router = http::metrics::router(self.metrics.clone());
            let soft = stop.clone();
            faces.spawn(async move {
                http::serve(listener, router, async move { soft.soft().await }).await;
                Ok(())
            });
        }
        if let Some(face) = &self.management {
            for listener in management {
                let router = face.clone().router(listener.name());
                let soft = stop.clone();
                faces.spawn(async move {
                    http::serve(listener, router, async move { soft.soft().await }).await;
                    Ok(())
                });
            }
        }
        faces
    }

    /// Why a backend cannot be used; none: all of them can.
    async fn outage(&self) -> Option<String> {
        for (name, backend) in &self.backends {
            match tokio::time::timeout(OUTAGE_TIMEOUT, backend.probe()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(format!("backend {name}: {error}")),
                Err(_late) => return Some(format!("backend {name} does not answer")),
            }
        }
        None
    }

    async fn close(self, writing: Option<Writing>) {
        if tokio::time::timeout(CLOSE_TIMEOUT, self.keyring.settled()).await.is_err() {
            tracing::warn!(
                "a change that is under way is cut short; what it left is ended at the next start"
            );
        }
        // The last checkpoint still needs its backend.
        if let Some(writing) = writing {
            writing.end(CLOSE_TIMEOUT).await;
        }
        for (name, backend) in &self.backends {
            if tokio::time::timeout(CLOSE_TIMEOUT, backend.stop()).await.is_err() {
                tracing::warn!(backend = %name, "the backend did not end its work in time");
            }
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("the store did not close in time");
        }
    }
}

/// How the JWKS is served on the listener that is reached by `own_url`.
fn publication(config: &Config, own_url: String) -> http::Settings {
    http::Settings {
        max_age: config.jwks.max_age,
        stale_while_revalidate: config.jwks.stale_while_revalidate,
        stale_if_error: config.jwks.stale_if_error,
        public_url: config.jwks.public_url.clone(),
        own_url,
    }
}

/// The API for Auth0's clients, if there is one.
fn management(
    config: &Config,
    bound: &Bound,
    keyring: &Keyring,
) -> Result<Option<Arc<Management>>> {
    let addresses = bound.addresses().management;
    let Some(settings) = config.management.clone() else {
        return Ok(None);
    };
    let port = addresses.iter().find_map(Address::tcp).map_or(443, |address| address.port());
    let opened = Management::open(management::Parts {
        keyring: keyring.clone(),
        settings,
        // Each domain has a URL of its own.
        publication: publication(config, String::new()),
        port,
        outside: None,
    });
    Ok(Some(Arc::new(opened.context("the Management API")?)))
}

/// Does `work` until the soft stop.
async fn until_soft(stop: Stop, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stop.soft() => {}
    }
}
