//! The calls that we make to KMS, narrowed to what we need of them: one attempt each, decoded.
//!
//! The SDK's own retries are off. They pace a whole client after one throttle, and with one lost
//! answer they make two keys; when to try again is decided in [`super::calls`].

use super::error::{Class, Fault};
use super::settings::{Misconfigured, Settings};
use super::spec::{self, Payload};
use crate::jose::spki;
use crate::key::{Algorithm, KeySpec, PublicKey};
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyState, KeyUsageType, MessageType, Tag};
use std::collections::BTreeMap;
use std::fmt;

/// Keys on one page of ListKeys, the most that AWS allows.
const PAGE: i32 = 1000;
/// Aliases on one page of ListAliases, likewise.
const ALIAS_PAGE: i32 = 100;
/// Tags on one page, the most that a key can have.
const TAG_PAGE: i32 = 50;

/// KMS in one region of one account.
#[derive(Clone)]
pub(super) struct Client(aws_sdk_kms::Client);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// A key that is to be made.
#[derive(Debug)]
pub(super) struct Birth<'a> {
    pub(super) spec: KeySpec,
    pub(super) tags: Vec<(String, String)>,
    pub(super) description: String,
    pub(super) policy: Option<&'a str>,
    pub(super) multi_region: bool,
}

/// A key as DescribeKey shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) arn: String,
    pub(super) state: State,
}

/// A key's state, as far as it makes a difference here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It signs.
    Enabled,
    /// It does not sign.
    Disabled,
    /// It is being deleted: gone for us.
    Leaving,
    /// It is not ready yet.
    Arriving,
    /// Something that our keys never are.
    Other(String),
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

impl Client {
    /// Settles region and credentials by the SDK's default chain. Nothing is called in KMS.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Misconfigured> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(fixed) = &settings.credentials {
            let (id, secret) = (&fixed.access_key_id, &fixed.secret_access_key);
            loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "fixed"));
        }
        let shared = loader.load().await;
        if shared.region().is_none() {
            return Err(Misconfigured {
                field: "region",
                message:
                    "neither the settings nor AWS's own configuration name one, e.g. eu-central-1"
                        .to_owned(),
            });
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.connect_timeout)
            .operation_timeout(settings.operation_timeout)
            .build();
        let mut config = aws_sdk_kms::config::Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(url) = &settings.endpoint_url {
            config = config.endpoint_url(url);
        }
        Ok(Self(aws_sdk_kms::Client::from_conf(config.build())))
    }

    /// CreateKey; the ARN.
    pub(super) async fn create(&self, birth: &Birth<'_>) -> Result<String, Fault> {
        const OP: &str = "CreateKey";
        let mut tags = Vec::new();
        for (key, value) in &birth.tags {
            let tag = Tag::builder().tag_key(key).tag_value(value).build();
            tags.push(tag.map_err(|error| Fault::new(Class::Wrong, OP, error.to_string()))?);
        }
        let answer = self
            .0
            .create_key()
            .key_spec(spec::key_spec(birth.spec))
            .key_usage(KeyUsageType::SignVerify)
            .description(&birth.description)
            .set_policy(birth.policy.map(str::to_owned))
            .multi_region(birth.multi_region)
            .set_tags(Some(tags))
            .send()
            .await
            .map_err(|error| Fault::from_sdk(OP, error))?;
        let arn = answer.key_metadata.and_then(|metadata| metadata.arn);
        arn.ok_or_else(|| lacking(OP, "the ARN"))
    }

    /// CreateAlias.
    pub(super) async fn create_alias(&self, alias: &str, arn: &str) -> Result<(), Fault> {
        let answer = self.0.create_alias().alias_name(alias).target_key_id(arn).send().await;
        answer.map(drop).map_err(|error| Fault::from_sdk("CreateAlias", error))
    }

    /// DescribeKey, by ARN or alias.
    pub(super) async fn describe(&self, id: &str) -> Result<Described, Fault> {
        const OP: &str = "DescribeKey";
        let answer = self.0.describe_key().key_id(id).send().await;
        let answer = answer.map_err(|error| Fault::from_sdk(OP, error))?;
        let metadata = answer.key_metadata.ok_or_else(|| lacking(OP, "the key"))?;
        let arn = metadata.arn.ok_or_else(|| lacking(OP, "the ARN"))?;
        Ok(Described { arn, state: state(metadata.key_state) })
    }

    /// GetPublicKey, decoded.
    pub(super) async fn public_key(&self, arn: &str) -> Result<PublicKey, Fault> {
        const OP: &str = "GetPublicKey";
        let answer = self.0.get_public_key().key_id(arn).send().await;
        let answer = answer.map_err(|error| Fault::from_sdk(OP, error))?;
        if answer.key_usage.is_some_and(|usage| usage != KeyUsageType::SignVerify) {
            return Err(Fault::new(Class::Wrong, OP, "the key is not for signing"));
        }
        let der = answer.public_key.ok_or_else(|| lacking(OP, "the key"))?;
        spki::from_der(der.as_ref())
            .map_err(|error| Fault::new(Class::Garbage, OP, format!("the public key {error}")))
    }

    /// Sign; the signature as KMS forms it.
    pub(super) async fn sign(&self, arn: &str, payload: &Payload) -> Result<Vec<u8>, Fault> {
        const OP: &str = "Sign";
        let answer = self
            .0
            .sign()
            .key_id(arn)
            .signing_algorithm(spec::algorithm(payload.algorithm))
            .message_type(payload.message_type())
            .message(Blob::new(payload.octets.to_vec()))
            .send()
            .await
            .map_err(|error| Fault::from_sdk(OP, error))?;
        let signature = answer.signature.ok_or_else(|| lacking(OP, "the signature"))?;
        Ok(signature.into_inner())
    }

    /// Sign with DryRun: whether it would be allowed. What an emulator signs all the same is
    /// dropped.
    pub(super) async fn may_sign(&self, arn: &str, algorithm: Algorithm) -> Result<(), Fault> {
        let length = algorithm.digest().map_or(1, crate::key::Digest::output_len);
        let kind = algorithm.digest().map_or(MessageType::Raw, |_| MessageType::Digest);
        let answer = self
            .0
            .sign()
            .key_id(arn)
            .signing_algorithm(spec::algorithm(algorithm))
            .message_type(kind)
            .message(Blob::new(vec![0; length]))
            .dry_run(true)
            .send()
            .await;
        match answer.map_err(|error| Fault::from_sdk("Sign", error)) {
            Err(fault) if fault.class == Class::DryRun => Ok(()),
            other => other.map(drop),
        }
    }

    /// ListResourceTags, every page.
    pub(super) async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>, Fault> {
        let (mut found, mut marker) = (BTreeMap::new(), None);
        // A key has at most 50 tags: a second page is not to be expected, a fourth is an error.
        for _ in 0..4 {
            let asked = self.0.list_resource_tags().key_id(arn).limit(TAG_PAGE);
            let answer = asked.set_marker(marker).send().await;
            let answer = answer.map_err(|error| Fault::from_sdk("ListResourceTags", error))?;
            let tags = answer.tags.unwrap_or_default();
            found.extend(tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)));
            marker = answer.next_marker.filter(|_| answer.truncated);
            if marker.is_none() {
                return Ok(found);
            }
        }
        Err(Fault::new(Class::Garbage, "ListResourceTags", "the pages do not end"))
    }

    /// ListKeys, one page: the ARNs.
    pub(super) async fn keys(&self, marker: Option<String>) -> Result<Page<String>, Fault> {
        let answer = self.0.list_keys().limit(PAGE).set_marker(marker).send().await;
        let answer = answer.map_err(|error| Fault::from_sdk("ListKeys", error))?;
        let keys = answer.keys.unwrap_or_default();
        Ok(Page {
            items: keys.into_iter().filter_map(|key| key.key_arn).collect(),
            next: answer.next_marker.filter(|_| answer.truncated),
        })
    }

    /// ListAliases, one page: each alias that has a key, and the id of that.
    pub(super) async fn aliases(
        &self,
        marker: Option<String>,
    ) -> Result<Page<(String, String)>, Fault> {
        let answer = self.0.list_aliases().limit(ALIAS_PAGE).set_marker(marker).send().await;
        let answer = answer.map_err(|error| Fault::from_sdk("ListAliases", error))?;
        let aliases = answer.aliases.unwrap_or_default().into_iter();
        Ok(Page {
            items: aliases.filter_map(|alias| alias.alias_name.zip(alias.target_key_id)).collect(),
            next: answer.next_marker.filter(|_| answer.truncated),
        })
    }

    /// ListKeys for one key: whether KMS answers us.
    pub(super) async fn is_there(&self) -> Result<(), Fault> {
        let answer = self.0.list_keys().limit(1).send().await;
        answer.map(drop).map_err(|error| Fault::from_sdk("ListKeys", error))
    }

    /// DisableKey.
    pub(super) async fn disable(&self, arn: &str) -> Result<(), Fault> {
        let answer = self.0.disable_key().key_id(arn).send().await;
        answer.map(drop).map_err(|error| Fault::from_sdk("DisableKey", error))
    }

    /// ScheduleKeyDeletion.
    pub(super) async fn schedule_deletion(&self, arn: &str, days: i32) -> Result<(), Fault> {
        let asked = self.0.schedule_key_deletion().key_id(arn).pending_window_in_days(days);
        asked.send().await.map(drop).map_err(|error| Fault::from_sdk("ScheduleKeyDeletion", error))
    }
}

fn state(state: Option<KeyState>) -> State {
    match state {
        Some(KeyState::Enabled) => State::Enabled,
        Some(KeyState::Disabled) => State::Disabled,
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => State::Leaving,
        Some(KeyState::Creating | KeyState::Updating) => State::Arriving,
        Some(other) => State::Other(other.as_str().to_owned()),
        None => State::Other("unknown".to_owned()),
    }
}

fn lacking(op: &'static str, what: &str) -> Fault {
    let mut fault = Fault::new(Class::Garbage, op, format!("{what} is missing in KMS's answer"));
    fault.outcome = crate::backend::Outcome::Unknown;
    fault
}
