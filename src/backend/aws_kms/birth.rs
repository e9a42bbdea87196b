//! Making a key, where every step may be lost or seen late.
//!
//! CreateKey is the one step that must not be repeated: KMS takes no token by which it would know
//! the second call for the first. Everything else is safe to repeat, and is read back rather than
//! waited for.

use super::calls::{Shared, Tries, jittered};
use super::client;
use super::error::{Class, Fault};
use super::label::{self, Label};
use super::memory::Birth;
use crate::backend::{Error, Kind, Material, ObjectRef, Order, Outcome};
use crate::key::{KeySpec, MaterialId, PublicKey};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The first pause before something is read back; it grows by half up to [`PAUSE_MAX`].
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Shared {
    /// Makes a key, gives it its alias, and reads its public key.
    pub(super) async fn generate(&self, order: &Order, by: Instant) -> Result<Material, Error> {
        let (material, spec) = (order.material, order.spec);
        let there = self.by_alias(material, by).await.inspect_err(|_| {
            // Nothing was asked for yet: whoever ends this has nothing to look for.
            if self.memory.birth(material).is_none() {
                self.memory.born(material, Birth::Not, Instant::now());
            }
        });
        if let Some(found) = there? {
            let message =
                format!("there is a key with material id {material} already: {}", found.arn);
            return Err(Error::new(Kind::Inconsistent, "CreateKey", message));
        }
        let arn = self.create(order, by).await?;
        // From here on there is a key that costs money, and whoever abandons it will find it.
        let rest = async {
            self.name(material, &arn, by).await?;
            self.public_key(&arn, by).await
        };
        let public = rest.await.map_err(Error::from).map_err(Error::outcome_unknown)?;
        match public.spec() {
            Some(made) if made == spec => Ok(Material { object: ObjectRef::new(arn), public }),
            _ => Err(Error::new(
                Kind::Inconsistent,
                "CreateKey",
                format!("asked for {spec}, got {public:?} in {arn}"),
            )
            .outcome_unknown()),
        }
    }

    async fn create(&self, order: &Order, by: Instant) -> Result<String, Error> {
        let Order { material, key_set, spec } = order;
        let settings = &self.settings;
        let mut description = format!("signkeep {}: {key_set}", settings.instance);
        if let Some(words) = &settings.description {
            description = format!("{words} ({description})");
        }
        let mut tags = label::tags(&settings.instance, *material, key_set).to_vec();
        tags.extend(settings.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        let birth = client::Birth {
            spec: *spec,
            tags,
            description,
            policy: settings.key_policy.as_deref(),
            multi_region: settings.multi_region,
        };
        // Before the call: a caller who goes away in the middle of it leaves the outcome open.
        self.memory.born(*material, Birth::Perhaps, Instant::now());
        let create = || self.client.create(&birth);
        match self.call("CreateKey", &self.births, Tries::Once, by, create).await {
            Ok(arn) => {
                self.memory.born(*material, Birth::Made(arn.clone()), Instant::now());
                let label = Label { material: Some(*material), key_set: Some(key_set.clone()) };
                self.directory.made(&arn, label);
                Ok(arn)
            }
            Err(fault) => {
                if fault.outcome == Outcome::Nothing {
                    self.memory.born(*material, Birth::Not, Instant::now());
                }
                let error = refused_birth(fault, *spec);
                if error.kind == Kind::Unsupported {
                    self.memory.refuses(*spec, error.message.clone());
                }
                Err(error)
            }
        }
    }

    /// Gives a new key its alias. That it has it already is success: an answer was lost.
    async fn name(&self, material: MaterialId, arn: &str, by: Instant) -> Result<(), Fault> {
        let alias = label::alias(&self.settings.instance, material);
        let attempt = || self.client.create_alias(&alias, arn);
        let create = || self.call("CreateAlias", &self.names, Tries::Again, by, attempt);
        match self.patiently(by, create).await {
            Err(fault) if fault.class == Class::Exists => {
                let named = self.patiently(by, || self.describe(&alias, by)).await?;
                if named.arn == arn { Ok(()) } else { Err(fault) }
            }
            other => other,
        }
    }

    pub(super) async fn public_key(&self, arn: &str, by: Instant) -> Result<PublicKey, Fault> {
        let ask = || self.client.public_key(arn);
        self.patiently(by, || self.call("GetPublicKey", &self.questions, Tries::Again, by, ask))
            .await
    }

    /// Asks again while a key that was just made cannot be seen, or is not ready.
    pub(super) async fn patiently<T, F>(&self, by: Instant, ask: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let until = by.min(Instant::now() + self.settings.patience);
        let mut pause = PAUSE_MIN;
        loop {
            match ask().await {
                Err(fault) if matches!(fault.class, Class::NotFound | Class::State) => {
                    let wait = jittered(pause);
                    if Instant::now() + wait >= until {
                        return Err(fault);
                    }
                    sleep(wait).await;
                    pause = (pause + pause / 2).min(PAUSE_MAX);
                }
                other => return other,
            }
        }
    }
}

/// That a kind of key is not offered, or that there are too many, is said in our own words.
fn refused_birth(fault: Fault, spec: KeySpec) -> Error {
    match fault.class {
        Class::Unsupported => unsupported(&fault, spec),
        // KMS names the parameter that it does not know.
        Class::Wrong if names_spec(&fault.words) => unsupported(&fault, spec),
        Class::Policy => {
            let message = format!(
                "KMS refuses the key policy; correct the file that key_policy_file names and start again: {}",
                fault.words
            );
            tracing::error!(message);
            Error { message, ..Error::from(fault) }
        }
        Class::Quota => {
            tracing::error!(error = %fault.words, "the account may have no more keys; ask AWS for more");
            Error::from(fault)
        }
        _ => Error::from(fault),
    }
}

fn names_spec(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["keyspec", "key spec", "customermasterkeyspec"].iter().any(|name| words.contains(name))
}

fn unsupported(fault: &Fault, spec: KeySpec) -> Error {
    let named = super::spec::key_spec(spec);
    let message = format!("KMS makes no {spec} keys ({}) there: {}", named.as_str(), fault.words);
    Error::new(Kind::Unsupported, "CreateKey", message)
}
