//! Which account, which region and how much of it: everything that is decided before the first
//! call, and refused here if it can never work.

use crate::key::BackendName;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Tags that a key may have (AWS), less the three that are ours.
const TAGS_MAX: usize = 47;
/// Bytes of a key policy (AWS).
const POLICY_MAX: usize = 32 * 1024;
/// Bytes of a description (AWS), less what is put before it.
const DESCRIPTION_MAX: usize = 8000;
/// Calls under way at once beyond which KMS gains nothing.
const IN_FLIGHT_MAX: usize = 1024;
/// Tags that begin so are ours, see [`super::label`].
pub(super) const TAG_PREFIX: &str = "signkeep:";

/// Where the keys are, and how KMS is to be used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The backend's name.
    pub name: BackendName,
    /// Tells this service's keys from those of others in the account: stands in tags and aliases.
    pub instance: String,
    /// The region; none: as the SDK's default chain says.
    pub region: Option<String>,
    /// Another place than AWS's own, for emulators and VPC endpoints.
    pub endpoint_url: Option<String>,
    /// The profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// Fixed credentials, for tests and emulators; none: the SDK's default chain.
    pub credentials: Option<StaticCredentials>,
    /// The policy that new keys get, as JSON; none: AWS's default.
    pub key_policy: Option<String>,
    /// Whether new keys are multi-region keys.
    pub multi_region: bool,
    /// Tags that new keys get beside ours.
    pub tags: BTreeMap<String, String>,
    /// What stands in the description of new keys.
    pub description: Option<String>,
    /// The most signatures a second that are asked for; below the account's quota, which others
    /// share.
    pub requests_per_second: u32,
    /// Signatures under way at once: 1 to 1024.
    pub in_flight_max: usize,
    /// Signatures that may wait, at least 1.
    pub queue_max: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one attempt at a call may take.
    pub attempt_timeout: Duration,
    /// How long a call may take with all its attempts.
    pub operation_timeout: Duration,
    /// How long a key just made may stay invisible.
    pub patience: Duration,
    /// For how long not finding a key proves nothing: it may have been made and not be visible yet.
    pub absence: Duration,
}

/// An access key, for tests and emulators.
#[derive(Clone)]
pub struct StaticCredentials {
    /// The id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticCredentials({})", self.access_key_id)
    }
}

/// A setting that cannot work: it does not mend itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Misconfigured {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Settings {
    /// The defaults, for the keys of `instance`.
    pub fn new(name: BackendName, instance: impl Into<String>) -> Self {
        Self {
            name,
            instance: instance.into(),
            region: None,
            endpoint_url: None,
            profile: None,
            credentials: None,
            key_policy: None,
            multi_region: false,
            tags: BTreeMap::new(),
            description: None,
            requests_per_second: 300,
            in_flight_max: 64,
            queue_max: 1024,
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_secs(6),
            patience: Duration::from_secs(20),
            absence: Duration::from_secs(300),
        }
    }

    /// The settings themselves, if they can work.
    pub(super) fn checked(self) -> Result<Self, Misconfigured> {
        check_instance(&self.instance)?;
        if let Some(url) = &self.endpoint_url {
            let known = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
            ensure(known, "endpoint_url", "must begin with https:// or http://")?;
        }
        if let Some(policy) = &self.key_policy {
            let json = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(policy);
            ensure(json.is_ok(), "key_policy", "must be a key policy, a JSON object")?;
            ensure(policy.len() <= POLICY_MAX, "key_policy", "must have at most 32 KiB")?;
        }
        ensure(self.tags.len() <= TAGS_MAX, "tags", "must be at most 47")?;
        for (key, value) in &self.tags {
            let ours = key.starts_with(TAG_PREFIX) || key.starts_with("aws:");
            ensure(!ours, "tags", "must not begin with signkeep: or aws:")?;
            let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
            ensure(
                fits,
                "tags",
                "must have keys of 1 to 128 and values of at most 256 characters",
            )?;
        }
        let described = self.description.as_ref().is_none_or(|text| text.len() <= DESCRIPTION_MAX);
        ensure(described, "description", "must have at most 8000 bytes")?;
        ensure(self.requests_per_second >= 1, "requests_per_second", "must be at least 1")?;
        let in_range = (1..=IN_FLIGHT_MAX).contains(&self.in_flight_max);
        ensure(in_range, "in_flight_max", "must be 1 to 1024")?;
        ensure(self.queue_max >= 1, "queue_max", "must be at least 1")?;
        for (field, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("attempt_timeout", self.attempt_timeout),
            ("operation_timeout", self.operation_timeout),
        ] {
            ensure(!timeout.is_zero(), field, "must be longer than 0s")?;
        }
        let ordered = self.attempt_timeout <= self.operation_timeout;
        ensure(ordered, "attempt_timeout", "must not be longer than operation_timeout")?;
        Ok(self)
    }
}

/// Refuses a name that does not fit into tags, aliases and IAM patterns.
pub fn check_instance(instance: &str) -> Result<(), Misconfigured> {
    let bytes = instance.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = bytes.len() <= 63
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-');
    ensure(
        fits,
        "instance",
        "must be 1 to 63 characters of a-z, 0-9 and -, neither starting nor ending with -",
    )
}

fn ensure(holds: bool, field: &'static str, right: &str) -> Result<(), Misconfigured> {
    if holds { Ok(()) } else { Err(Misconfigured { field, message: right.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Settings)) -> Option<&'static str> {
        let mut settings = Settings::new("kms".parse().unwrap(), "prod-1");
        change(&mut settings);
        settings.checked().err().map(|wrong| wrong.field)
    }

    #[test]
    fn the_defaults_can_work() {
        assert_eq!(refused(|_| {}), None);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        assert_eq!(refused(|it| it.instance = "Prod/1".into()), Some("instance"));
        assert_eq!(refused(|it| it.instance = String::new()), Some("instance"));
        assert_eq!(refused(|it| it.endpoint_url = Some("kms".into())), Some("endpoint_url"));
        assert_eq!(refused(|it| it.key_policy = Some("[]".into())), Some("key_policy"));
        let ours = [("signkeep:instance".to_owned(), "x".to_owned())];
        assert_eq!(refused(|it| it.tags = ours.into()), Some("tags"));
        assert_eq!(refused(|it| it.queue_max = 0), Some("queue_max"));
        assert_eq!(refused(|it| it.in_flight_max = 2000), Some("in_flight_max"));
        assert_eq!(refused(|it| it.attempt_timeout = Duration::ZERO), Some("attempt_timeout"));
        let long = Duration::from_secs(60);
        assert_eq!(refused(|it| it.attempt_timeout = long), Some("attempt_timeout"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = StaticCredentials {
            access_key_id: "AKIA".to_owned(),
            secret_access_key: "hush".to_owned(),
        };
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
