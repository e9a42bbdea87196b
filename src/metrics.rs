//! What the service counts, for OpenMetrics. There is no global registry: whoever counts is handed
//! a [`Metrics`], and clones of one share its numbers.
//!
//! Labels come from closed lists or from the configuration, never from a caller's input, so their
//! number is bounded.

use crate::audit::Action;
use crate::health::Report;
use crate::key::{Algorithm, BackendName, KeySetId};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the signing histogram, in seconds: from a token in memory to a network HSM at
/// its limit.
const SIGN_SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The service's numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    signatures: Family<SignatureLabels, Counter>,
    sign_duration: Family<AlgorithmLabel, Histogram, fn() -> Histogram>,
    key_changes: Family<ChangeLabels, Counter>,
    due_failed: Family<DueLabels, Counter>,
    incomplete_key_sets: Gauge,
    unexplained_objects: Gauge,
    absent_keys: Gauge,
    store_up: Gauge,
    backend_up: Family<BackendLabel, Gauge>,
    queue_depth: Family<BackendLabel, Gauge>,
    workers_busy: Family<BackendLabel, Gauge>,
    sessions_open: Family<BackendLabel, Gauge>,
    certificate_expires: Family<ListenerLabel, Gauge>,
    tls_reload_failed: Family<ListenerLabel, Gauge>,
}

/// How a request for a signature ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a signature.
    Released,
    /// The request was at fault.
    Refused,
    /// There was no room in the queue.
    Overloaded,
    /// The caller's deadline passed.
    Late,
    /// The backend, or the service itself, failed.
    Failed,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// How busy a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait for a worker.
    pub queue_depth: usize,
    /// Workers at work.
    pub workers_busy: usize,
    /// Sessions open on the token.
    pub sessions_open: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignatureLabels {
    key_set: String,
    algorithm: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlgorithmLabel {
    algorithm: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    key_set: String,
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DueLabels {
    key_set: String,
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All numbers at nought.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("signkeep");
        registry.register(
            "build",
            "The version that is running",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let registry = &mut registry;
        Self(Arc::new(Inner {
            signatures: add(
                registry,
                "signatures",
                "Requests for a signature, by how they ended",
                Family::default(),
            ),
            sign_duration: timed(
                registry,
                "sign_duration",
                "Time from request to signature, waiting included",
            ),
            key_changes: add(
                registry,
                "key_changes",
                "Committed changes of keys and key sets",
                Family::default(),
            ),
            due_failed: add(
                registry,
                "due_failed",
                "Attempts that failed at what the clock or a missing key asked for",
                Family::default(),
            ),
            incomplete_key_sets: add(
                registry,
                "incomplete_key_sets",
                "Key sets that lack a current or a next key",
                Gauge::default(),
            ),
            unexplained_objects: add(
                registry,
                "unexplained_objects",
                "Objects in backends that the store does not know, when last looked for",
                Gauge::default(),
            ),
            absent_keys: add(
                registry,
                "absent_keys",
                "Keys that sign or will sign and were not in their backend when last looked for",
                Gauge::default(),
            ),
            store_up: add(registry, "store_up", "Whether the store answers", Gauge::default()),
            backend_up: add(
                registry,
                "backend_up",
                "Whether the backend answers",
                Family::default(),
            ),
            queue_depth: add(
                registry,
                "queue_depth",
                "Requests that wait for a worker",
                Family::default(),
            ),
            workers_busy: add(registry, "workers_busy", "Workers at work", Family::default()),
            sessions_open: add(
                registry,
                "sessions_open",
                "Sessions open on the token",
                Family::default(),
            ),
            certificate_expires: {
                let family = Family::default();
                registry.register_with_unit(
                    "tls_certificate_expires",
                    "When the listener's certificate expires, in Unix time",
                    Unit::Seconds,
                    family.clone(),
                );
                family
            },
            tls_reload_failed: add(
                registry,
                "tls_reload_failed",
                "Whether the listener's files hold something that was not good, so that it goes on with what it had",
                Family::default(),
            ),
            registry: std::mem::take(registry),
        }))
    }

    /// Counts a request for a signature by a key set that exists, and how long it took if it was
    /// answered with one.
    pub fn signed(
        &self,
        key_set: &KeySetId,
        algorithm: Algorithm,
        outcome: Outcome,
        took: Duration,
    ) {
        let labels = SignatureLabels {
            key_set: key_set.as_str().to_owned(),
            algorithm: algorithm.name(),
            outcome: outcome.label(),
        };
        self.0.signatures.get_or_create(&labels).inc();
        if outcome == Outcome::Released {
            let label = AlgorithmLabel { algorithm: algorithm.name() };
            self.0.sign_duration.get_or_create(&label).observe(took.as_secs_f64());
        }
    }

    /// Counts a committed change.
    pub fn changed(&self, key_set: &KeySetId, action: Action) {
        let labels = ChangeLabels { key_set: key_set.as_str().to_owned(), action: action.as_str() };
        self.0.key_changes.get_or_create(&labels).inc();
    }

    /// Counts an attempt that failed at what was due, e.g. `rotate` or `generate_next`.
    pub fn due_failed(&self, key_set: &KeySetId, action: &'static str) {
        let labels = DueLabels { key_set: key_set.as_str().to_owned(), action };
        self.0.due_failed.get_or_create(&labels).inc();
    }

    /// Takes over how many objects in the backends the store cannot explain.
    pub fn unexplained(&self, objects: usize) {
        self.0.unexplained_objects.set(gauge(objects));
    }

    /// Takes over how many keys their backends do not hold.
    pub fn absent(&self, keys: usize) {
        self.0.absent_keys.set(gauge(keys));
    }

    /// Takes over what health knows of the store, the backends and incomplete key sets.
    pub fn health(&self, report: &Report) {
        let inner = &self.0;
        inner.store_up.set(i64::from(report.store.is_none() && report.started));
        inner.incomplete_key_sets.set(gauge(report.incomplete.len()));
        for (name, reason) in &report.backends {
            let label = BackendLabel { backend: name.clone() };
            inner.backend_up.get_or_create(&label).set(i64::from(reason.is_none()));
        }
    }

    /// Takes over how busy a backend is.
    pub fn load(&self, backend: &BackendName, load: Load) {
        let label = BackendLabel { backend: backend.as_str().to_owned() };
        for (family, value) in [
            (&self.0.queue_depth, load.queue_depth),
            (&self.0.workers_busy, load.workers_busy),
            (&self.0.sessions_open, load.sessions_open),
        ] {
            family.get_or_create(&label).set(gauge(value));
        }
    }

    /// Takes over when the certificate of a listener ends, and whether newer files were refused.
    pub fn certificate(&self, listener: &str, ends: Option<Timestamp>, refused: bool) {
        let label = ListenerLabel { listener: listener.to_owned() };
        let ends = ends.map_or(i64::MAX, Timestamp::as_second);
        self.0.certificate_expires.get_or_create(&label).set(ends);
        self.0.tls_reload_failed.get_or_create(&label).set(i64::from(refused));
    }

    /// Everything in OpenMetrics text format 1.0.0, `# EOF` included.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry)?;
        Ok(out)
    }
}

fn add<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: Clone + prometheus_client::registry::Metric,
{
    registry.register(name, help, metric.clone());
    metric
}

fn timed(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> Family<AlgorithmLabel, Histogram, fn() -> Histogram> {
    let family =
        Family::new_with_constructor((|| Histogram::new(SIGN_SECONDS)) as fn() -> Histogram);
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_units_and_labels_are_those_of_openmetrics() {
        let metrics = Metrics::new();
        let key_set = "default".parse().unwrap();
        let took = Duration::from_micros(700);
        metrics.signed(&key_set, Algorithm::Es256, Outcome::Released, took);
        metrics.signed(&key_set, Algorithm::Es256, Outcome::Late, took);
        metrics.changed(&key_set, Action::Rotate);
        metrics.health(&Report {
            started: true,
            backends: [("kms".to_owned(), Some("out".to_owned())), ("token".to_owned(), None)]
                .into(),
            incomplete: vec!["a".to_owned(), "b".to_owned()],
            ..Report::default()
        });
        let load = Load { queue_depth: 3, workers_busy: 2, sessions_open: 4 };
        metrics.load(&"token".parse().unwrap(), load);
        let text = metrics.encode().unwrap();
        for line in [
            concat!("signkeep_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            r#"signkeep_signatures_total{key_set="default",algorithm="ES256",outcome="released"} 1"#,
            r#"signkeep_signatures_total{key_set="default",algorithm="ES256",outcome="late"} 1"#,
            r#"signkeep_sign_duration_seconds_count{algorithm="ES256"} 1"#,
            r#"signkeep_sign_duration_seconds_bucket{le="0.0005",algorithm="ES256"} 0"#,
            r#"signkeep_sign_duration_seconds_bucket{le="0.001",algorithm="ES256"} 1"#,
            r#"signkeep_key_changes_total{key_set="default",action="rotate"} 1"#,
            "signkeep_incomplete_key_sets 2",
            "signkeep_store_up 1",
            r#"signkeep_backend_up{backend="token"} 1"#,
            r#"signkeep_backend_up{backend="kms"} 0"#,
            r#"signkeep_queue_depth{backend="token"} 3"#,
            r#"signkeep_workers_busy{backend="token"} 2"#,
            r#"signkeep_sessions_open{backend="token"} 4"#,
            "# UNIT signkeep_sign_duration_seconds seconds",
            "# EOF",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn clones_share_their_numbers() {
        let metrics = Metrics::new();
        let key_set = "default".parse().unwrap();
        let clone = metrics.clone();
        clone.changed(&key_set, Action::Revoke);
        metrics.changed(&key_set, Action::Revoke);
        let text = metrics.encode().unwrap();
        let line = r#"signkeep_key_changes_total{key_set="default",action="revoke"} 2"#;
        assert!(text.contains(line), "{text}");
    }
}
