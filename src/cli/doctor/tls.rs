//! Whether a listener's certificate, key, client CAs and revocation lists can be served with.

use super::finding::{Finding, Findings};
use crate::clock::SystemClock;
use crate::transport::Protocol;
use crate::transport::tls::{Settings, Tls, Worry};
use std::sync::Arc;

pub(super) fn run(about: &str, settings: &Settings, findings: &mut Findings) {
    // What is spoken on top makes no difference to the files.
    let tls = match Tls::load(settings.clone(), Protocol::Http2, Arc::new(SystemClock)) {
        Ok(tls) => tls,
        Err(error) => {
            findings.add(Finding::wrong(about, error.to_string(), "correct or replace that file"));
            return;
        }
    };
    let worries = tls.worries();
    if worries.is_empty() {
        let until = tls.set().certificate_ends();
        let until = until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
        findings.add(Finding::ok(about, format!("the certificate is good {until}")));
    }
    for worry in worries {
        let mend = "the running service takes new files over by itself within half a minute";
        findings.add(match worry {
            Worry::Soon(what) => Finding::warning(about, what, mend),
            Worry::Now(what) => Finding::wrong(about, what, mend),
        });
    }
    if let Some(oddity) = tls.set().disorder() {
        let mend = "put the server's own certificate first, then the one that signed it, and so on";
        findings.add(Finding::warning(about, oddity, mend));
    }
}
