//! What an operator's credentials may do in KMS, found out without changing anything there.
//!
//! KMS has a DryRun for Sign alone. Reading can be tried, CreateAlias can be tried with an alias
//! that exists already, which fails after it has been allowed; that a key may be made, disabled or
//! deleted shows only when it is done, and is reported as not tried.

use super::AwsKmsBackend;
use super::client::Client;
use super::error::{Class, Fault};
use super::label;
use super::scan::Found;
use crate::key::{Algorithm, KeySpec, MaterialId, PublicKey, RsaBits};
use std::time::{Duration, Instant};

/// How long the search for a key of ours may take.
const PATIENCE: Duration = Duration::from_secs(25);

/// A permission of IAM and of key policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its name, e.g. `kms:Sign`.
    pub name: &'static str,
    /// Whether we have it.
    pub verdict: Verdict,
}

/// Whether we have a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// We have it.
    Granted,
    /// We lack it; what KMS said.
    Missing(String),
    /// Something else is wrong; what KMS said.
    Failed(String),
    /// It cannot be tried; why not.
    NotTried(&'static str),
}

impl AwsKmsBackend {
    /// Tries each permission that can be tried without changing anything.
    pub async fn inspect(&self) -> Vec<Permission> {
        let shared = &self.shared;
        let client = &shared.client;
        let mut permissions = Vec::new();
        let mut add = |name, verdict| permissions.push(Permission { name, verdict });
        add("kms:ListKeys", verdict(client.is_there().await));
        add("kms:ListAliases", verdict(client.aliases(None).await));
        let found = shared.scan(Instant::now() + PATIENCE).await.unwrap_or_default();
        let tags = match (found.first(), client.keys(None).await) {
            (Some(ours), _) => verdict(client.tags(&ours.arn).await),
            (None, Ok(page)) => match page.items.first() {
                Some(other) => verdict(client.tags(other).await),
                None => Verdict::NotTried("the account has no keys yet"),
            },
            (None, Err(_)) => Verdict::NotTried("the keys cannot be listed"),
        };
        add("kms:ListResourceTags", tags);
        let sample = found.iter().find(|key| key.label.material.is_some());
        let (describe, read, sign, alias) = match sample {
            Some(sample) => try_on(client, &shared.settings.instance, sample).await,
            None => {
                let none =
                    || Verdict::NotTried("it is tried on a key of ours, and there is none yet");
                let nobody = MaterialId::from_bytes([0; 16]);
                let alias = label::alias(&shared.settings.instance, nobody);
                let describe = match client.describe(&alias).await {
                    Err(fault) if fault.class == Class::Denied => verdict::<()>(Err(fault)),
                    _ => none(),
                };
                (describe, none(), none(), none())
            }
        };
        add("kms:DescribeKey", describe);
        add("kms:GetPublicKey", read);
        add("kms:Sign", sign);
        add("kms:CreateAlias", alias);
        let makes = "it shows only when a key is made";
        add("kms:CreateKey", Verdict::NotTried(makes));
        add("kms:TagResource", Verdict::NotTried(makes));
        add("kms:DisableKey", Verdict::NotTried("it shows only when a key is revoked"));
        add("kms:ScheduleKeyDeletion", Verdict::NotTried("it shows only when a key is destroyed"));
        permissions
    }
}

/// DescribeKey, GetPublicKey, Sign and CreateAlias on a key of ours.
async fn try_on(
    client: &Client,
    instance: &str,
    sample: &Found,
) -> (Verdict, Verdict, Verdict, Verdict) {
    let arn = sample.arn.as_str();
    let describe = verdict(client.describe(arn).await);
    let public = client.public_key(arn).await;
    let sign = match &public {
        Ok(public) => match algorithm(public) {
            Some(algorithm) => verdict(client.may_sign(arn, algorithm).await),
            None => Verdict::NotTried("the key is of a kind that is not used here"),
        },
        Err(_) => Verdict::NotTried("the public key cannot be read"),
    };
    let alias = match sample.label.material {
        Some(material) => {
            let alias = label::alias(instance, material);
            // Only one that is there: otherwise the trial would make it.
            match client.describe(&alias).await {
                Ok(found) if found.arn == arn => match client.create_alias(&alias, arn).await {
                    Err(fault) if fault.class == Class::Exists => Verdict::Granted,
                    other => verdict(other),
                },
                _ => Verdict::NotTried("the key that it is tried on has no alias"),
            }
        }
        None => Verdict::NotTried("the key that it is tried on has no alias"),
    };
    (describe, verdict(public), sign, alias)
}

/// An algorithm for a key.
fn algorithm(public: &PublicKey) -> Option<Algorithm> {
    let fits = |algorithm: &Algorithm| match public.spec() {
        Some(KeySpec::Rsa(_)) => *algorithm == Algorithm::Rs256,
        Some(spec) => algorithm.key_spec(RsaBits::default()) == spec,
        None => false,
    };
    Algorithm::ALL.into_iter().find(fits)
}

fn verdict<T>(result: Result<T, Fault>) -> Verdict {
    match result {
        Ok(_) => Verdict::Granted,
        Err(fault) if fault.class == Class::Denied => Verdict::Missing(fault.words),
        // It was allowed, and failed over the key's state.
        Err(fault) if matches!(fault.class, Class::State | Class::NotFound) => Verdict::Granted,
        Err(fault) => Verdict::Failed(fault.words),
    }
}
