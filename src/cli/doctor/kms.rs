//! AWS KMS: region, credentials, each permission that can be tried, and whether the keys there are
//! those that the store knows.

use super::finding::{Finding, Findings};
use crate::app::aws_kms_settings;
use crate::backend::aws_kms::{AwsKmsBackend, Permission, Verdict};
use crate::backend::{Backend, Listed};
use crate::config::{AwsKms, Config, words};
use crate::key::{BackendName, KeySet};
use crate::keyring::destroyed;
use crate::store::Store;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const POLICY: &str = "see docs/aws-kms-policy.json";

/// Looks at one backend; `store` is none while the service runs.
pub(super) async fn backend(
    name: &BackendName,
    settings: &AwsKms,
    (config, store): (&Config, Option<&Arc<dyn Store>>),
    findings: &mut Findings,
) {
    let about = |what: &str| format!("backend {name}, {what}");
    let settings = match aws_kms_settings(name, settings) {
        Ok(settings) => settings,
        Err(error) => {
            let mend = format!("correct backends.{name}.key_policy_file");
            findings.add(Finding::wrong(about("key policy"), format!("{error:#}"), mend));
            return;
        }
    };
    let opened = match AwsKmsBackend::open(settings).await {
        Ok(opened) => opened,
        Err(error) => {
            let mend = "correct the setting that it names";
            findings.add(Finding::wrong(about("settings"), error.to_string(), mend));
            return;
        }
    };
    let looking = look(&opened, (name, config, store), findings);
    if tokio::time::timeout(PATIENCE, looking).await.is_err() {
        let mend = "look at the network between here and KMS, and at its status page";
        findings.add(Finding::wrong(about("KMS"), "it does not answer in time", mend));
    }
    opened.stop().await;
}

async fn look(
    opened: &AwsKmsBackend,
    (name, config, store): (&BackendName, &Config, Option<&Arc<dyn Store>>),
    findings: &mut Findings,
) {
    permissions(name, &opened.inspect().await, findings);
    let window = opened.deletion_window();
    for (id, seed) in &config.key_sets {
        if seed.backend == *name && seed.policy.destroy_after < window {
            let what = format!(
                "destroy_after of key set {id} is {}, and KMS deletes no key sooner than {} after it was asked to",
                words(seed.policy.destroy_after),
                words(window),
            );
            let mend = "nothing, if that is meant: the key is disabled at once";
            findings.add(Finding::warning(format!("backend {name}, deletion"), what, mend));
        }
    }
    if let Some(store) = store {
        keys(name, opened, store, findings).await;
    }
}

fn permissions(name: &BackendName, tried: &[Permission], findings: &mut Findings) {
    let about = |what: &str| format!("backend {name}, {what}");
    let (mut granted, mut not_tried) = (Vec::new(), Vec::new());
    for Permission { name: permission, verdict } in tried {
        match verdict {
            Verdict::Granted => granted.push(*permission),
            Verdict::NotTried(why) => not_tried.push(format!("{permission} ({why})")),
            Verdict::Missing(said) => {
                let mend = format!("grant {permission}; {POLICY}");
                findings.add(Finding::wrong(about(permission), said.clone(), mend));
            }
            Verdict::Failed(said) => {
                let mend = "look at region, endpoint, credentials and the clock of this machine";
                findings.add(Finding::wrong(about(permission), said.clone(), mend));
            }
        }
    }
    if !granted.is_empty() {
        findings.add(Finding::ok(about("permissions"), granted.join(", ")));
    }
    if !not_tried.is_empty() {
        let what = format!("not tried: {}", not_tried.join(", "));
        findings.add(Finding::ok(about("permissions"), format!("{what}; {POLICY}")));
    }
}

/// Keys of ours that the store does not know, or knows to be destroyed.
async fn keys(
    name: &BackendName,
    opened: &AwsKmsBackend,
    store: &Arc<dyn Store>,
    findings: &mut Findings,
) {
    let about = format!("backend {name}, keys");
    let image = match store.load().await {
        Ok(image) => image,
        Err(error) => {
            findings.add(Finding::wrong(about, error.to_string(), "mend the store"));
            return;
        }
    };
    let published = image.key_sets.iter().flat_map(KeySet::published);
    let expected = published.map(|key| key.material).collect();
    let listed = match opened.list(&expected).await {
        Ok(listed) => listed,
        Err(error) => {
            let mend = "grant what is missing, or try again when KMS answers";
            findings.add(Finding::wrong(about, error.to_string(), mend));
            return;
        }
    };
    let keys = image.key_sets.iter().flat_map(|set| &set.keys).map(|key| key.material);
    let others = image.reserved.iter().chain(&image.abandoned).map(|other| other.material);
    let known: HashSet<_> = keys.chain(others).collect();
    let (mut strange, mut revived) = (Vec::new(), Vec::new());
    let unknown = |key: &&Listed| key.material.is_none_or(|material| !known.contains(&material));
    for key in listed.iter().filter(unknown) {
        match destroyed(store.as_ref(), name, key).await {
            Ok(Some(_)) => revived.push(key.object.as_str()),
            _ => strange.push(key.object.as_str()),
        }
    }
    if !revived.is_empty() {
        findings.add(Finding::warning(
            about.clone(),
            format!("somebody has cancelled the deletion of {}, which were destroyed", revived.join(", ")),
            "find out who did that and why; the service schedules their deletion again when it starts, and hourly",
        ));
    }
    if !strange.is_empty() {
        findings.add(Finding::warning(
            about,
            format!("the store does not know {}", strange.join(", ")),
            "if another store uses the same instance, give each its own; schedule the deletion of what nobody needs",
        ));
    } else if revived.is_empty() {
        let what = format!("{} of this instance, and the store knows them all", listed.len());
        findings.add(Finding::ok(about, what));
    }
}
