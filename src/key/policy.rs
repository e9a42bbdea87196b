//! How long things last in a key set: propagation, tokens, retention, rotation, destruction.

use super::{RsaBits, words};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// No span in a policy is longer, so that no sum of two leaves the range of a timestamp.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The policy of one key set. Well-formed once it has passed [`Policy::checked`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a key is published before it may sign.
    pub propagation_delay: Duration,
    /// The longest lifetime of a token; SignJwt refuses a longer one.
    pub max_token_ttl: Duration,
    /// How long a previous key stays published after it stopped signing; see [`Policy::keeps`].
    pub retention: Option<Duration>,
    /// How often keys rotate by themselves; none: only when asked.
    pub rotation_period: Option<Duration>,
    /// How long the material of a retired or revoked key is kept. An emergency does not wait.
    pub destroy_after: Duration,
    /// Modulus length of RSA keys generated from now on.
    pub rsa_bits: RsaBits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            propagation_delay: Duration::from_secs(15 * 60),
            max_token_ttl: DAY,
            retention: None,
            rotation_period: None,
            destroy_after: 7 * DAY,
            rsa_bits: RsaBits::default(),
        }
    }
}

/// How long a previous key stays published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Until an operator revokes it.
    UntilRevoked,
    /// That long after it stopped signing, and never before its last token has expired.
    For(Duration),
}

/// What a service serves its JWKS with, and so the least that a propagation delay has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationLimits {
    /// The JWKS' `max-age`.
    pub max_age: Duration,
    /// The JWKS' `stale-while-revalidate`.
    pub stale_while_revalidate: Duration,
    /// Counted into the least propagation delay; nothing else hangs on it while one process serves.
    pub lease: Duration,
}

impl PublicationLimits {
    /// The shortest propagation delay after which no honest cache lacks the key.
    pub fn propagation_delay_min(&self) -> Duration {
        self.max_age.saturating_add(self.stale_while_revalidate).saturating_add(self.lease)
    }
}

impl Policy {
    /// How long previous keys are kept published: as set; else with automatic rotation
    /// `max_token_ttl` and an hour, so that the JWKS stays bounded; else until they are revoked.
    pub fn keeps(&self) -> Retention {
        match (self.retention, self.rotation_period) {
            (Some(retention), _) => Retention::For(retention),
            (None, Some(_)) => Retention::For(self.max_token_ttl.saturating_add(HOUR)),
            (None, None) => Retention::UntilRevoked,
        }
    }

    /// What differs in `after`, each in words: `max_token_ttl 24h to 2h`.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let span = |span: Option<Duration>| span.map_or_else(|| "unset".to_owned(), words);
        let fields = |policy: &Self| {
            [
                ("propagation_delay", words(policy.propagation_delay)),
                ("max_token_ttl", words(policy.max_token_ttl)),
                ("retention", span(policy.retention)),
                ("rotation_period", span(policy.rotation_period)),
                ("destroy_after", words(policy.destroy_after)),
                ("rsa_bits", policy.rsa_bits.bits().to_string()),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(after));
        let differing = pairs.filter(|((_, before), (_, after))| before != after);
        differing
            .map(|((name, before), (_, after))| format!("{name} {before} to {after}"))
            .collect()
    }

    /// The policy itself if it holds together, else everything that is wrong with it.
    pub fn checked(self, limits: &PublicationLimits) -> Result<Self, Vec<InvalidPolicy>> {
        let mut wrong = Vec::new();
        let mut check = |field, fits: bool, why: String| {
            if !fits {
                wrong.push(InvalidPolicy { field, why });
            }
        };
        let least = limits.propagation_delay_min();
        check(
            "propagation_delay",
            (least..=LONGEST).contains(&self.propagation_delay),
            format!(
                "must be between {} (JWKS max-age, stale-while-revalidate and one lease) and ten years",
                words(least)
            ),
        );
        check(
            "max_token_ttl",
            (Duration::from_secs(1)..=LONGEST).contains(&self.max_token_ttl),
            "must be between one second and ten years".to_owned(),
        );
        check(
            "retention",
            self.retention.is_none_or(|span| (self.max_token_ttl..=LONGEST).contains(&span)),
            format!(
                "must be at least max_token_ttl ({}), at most ten years",
                words(self.max_token_ttl)
            ),
        );
        check(
            "rotation_period",
            self.rotation_period
                .is_none_or(|span| (self.propagation_delay..=LONGEST).contains(&span)),
            format!(
                "must be at least propagation_delay ({}), at most ten years",
                words(self.propagation_delay)
            ),
        );
        check(
            "destroy_after",
            self.destroy_after <= LONGEST,
            "must be at most ten years".to_owned(),
        );
        if wrong.is_empty() { Ok(self) } else { Err(wrong) }
    }
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct InvalidPolicy {
    /// The field, as the API and the configuration file name it.
    pub field: &'static str,
    /// What would be right.
    pub why: String,
}
