//! Whether the service is fit to serve: written by the prober in [`crate::app`], read by the faces'
//! probes and by gRPC health.

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The shared view of how the service is.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<Report>>);

/// How each part is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether anything has been looked at yet.
    pub started: bool,
    /// Whether the service is on its way out.
    pub stopping: bool,
    /// Why the store is out; none: it is well.
    pub store: Option<String>,
    /// By backend name: why it is out; none: it is well.
    pub backends: BTreeMap<String, Option<String>>,
    /// Key sets that lack a current or a next key.
    pub incomplete: Vec<String>,
    /// By listener with TLS: what someone should see to; none: all is well. It makes nothing
    /// unready.
    pub certificates: BTreeMap<String, Option<String>>,
}

impl Report {
    /// Ready to serve: looked at, staying, the store well and at least one backend well.
    pub fn is_ready(&self) -> bool {
        self.started
            && !self.stopping
            && self.store.is_none()
            && self.backends.values().any(Option::is_none)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Report::default())))
    }
}

impl Health {
    /// The latest report.
    pub fn report(&self) -> Report {
        self.0.borrow().clone()
    }

    /// Changes the report; watchers are told only if it differs.
    pub fn update(&self, change: impl FnOnce(&mut Report)) {
        self.0.send_if_modified(|report| {
            let before = report.clone();
            change(report);
            *report != before
        });
    }

    /// Follows the reports.
    pub fn watch(&self) -> watch::Receiver<Report> {
        self.0.subscribe()
    }
}
