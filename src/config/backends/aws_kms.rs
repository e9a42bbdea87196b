//! `kind = "aws-kms"`: a region of AWS KMS. Credentials are no settings: they come by AWS's own
//! ways, such as a role.

use super::super::document::Error;
use super::{At, Section};
use crate::config::span::Span;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Calls under way at once beyond which KMS gains nothing.
const IN_FLIGHT_MAX: usize = 1024;
const RATE_MAX: u32 = 100_000;
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A region of AWS KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKms {
    /// The region; none: as AWS's own configuration says.
    pub region: Option<String>,
    /// Another place than AWS's own.
    pub endpoint_url: Option<String>,
    /// The profile in AWS's own configuration.
    pub profile: Option<String>,
    /// Tells this service's keys from others in the account: `a-z`, `0-9` and `-`.
    pub instance: String,
    /// The file with the policy that new keys get; none: AWS's default.
    pub key_policy_file: Option<PathBuf>,
    /// Whether new keys are multi-region keys.
    pub multi_region: bool,
    /// Tags that new keys get beside ours.
    pub tags: BTreeMap<String, String>,
    /// What stands in the description of new keys.
    pub description: Option<String>,
    /// The most signatures a second that are asked for.
    pub requests_per_second: u32,
    /// Signatures under way at once: 1 to 1024.
    pub in_flight: usize,
    /// How many may wait before more are refused: 1 to 1,048,576.
    pub queue: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long all attempts may take.
    pub operation_timeout: Duration,
}

pub(super) fn build(section: Section, queue: usize, at: &At<'_>) -> Result<AwsKms, Error> {
    if cfg!(not(feature = "aws-kms")) {
        let what = "this signkeep was built without AWS KMS; build it with --features aws-kms";
        return Err(at.wrong("kind", what));
    }
    let instance = section.instance.ok_or_else(|| {
        at.wrong(
            "instance",
            "is missing: a name that no other service in the account uses, e.g. prod-1",
        )
    })?;
    if instance.parse::<crate::key::BackendName>().is_err() {
        let right =
            "must be 1 to 63 characters of a-z, 0-9 and -, neither starting nor ending with -";
        return Err(at.wrong("instance", right));
    }
    if let Some(url) = &section.endpoint_url
        && !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
    {
        return Err(at.wrong("endpoint_url", "must begin with https:// or http://"));
    }
    let tags = section.tags.unwrap_or_default();
    if tags.keys().any(|key| key.starts_with("signkeep:") || key.starts_with("aws:")) {
        return Err(at.wrong("tags", "must not begin with signkeep: or aws:"));
    }
    let requests_per_second = section.requests_per_second.unwrap_or(300);
    if !(1..=RATE_MAX).contains(&requests_per_second) {
        return Err(at.wrong("requests_per_second", "must be between 1 and 100000"));
    }
    let in_flight = section.in_flight.unwrap_or(64);
    if !(1..=IN_FLIGHT_MAX).contains(&in_flight) {
        return Err(at.wrong("in_flight", "must be between 1 and 1024"));
    }
    let timeout = |field, span: Option<Span>, default| {
        let timeout = span.map_or(Duration::from_secs(default), Span::get);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(at.wrong(field, "must be longer than 0s and at most 60s"));
        }
        Ok(timeout)
    };
    let connect_timeout = timeout("connect_timeout", section.connect_timeout, 2)?;
    let attempt_timeout = timeout("attempt_timeout", section.attempt_timeout, 2)?;
    let operation_timeout = timeout("operation_timeout", section.operation_timeout, 6)?;
    if attempt_timeout > operation_timeout {
        return Err(at.wrong("attempt_timeout", "must not be longer than operation_timeout"));
    }
    Ok(AwsKms {
        region: section.region,
        endpoint_url: section.endpoint_url,
        profile: section.profile,
        instance,
        key_policy_file: section.key_policy_file.map(|file| at.directory.join(file)),
        multi_region: section.multi_region.unwrap_or(false),
        tags,
        description: section.description,
        requests_per_second,
        in_flight,
        queue,
        connect_timeout,
        attempt_timeout,
        operation_timeout,
    })
}
