//! Single fields: what each may hold, and what it says in the domain.

use crate::grpc::proto as pb;
use crate::grpc::violations::Violations;
use crate::key::{Approval, Hold, Policy, RsaBits, StateName};
use crate::keyring::{Mode, PolicyUpdate, Update};
use std::time::Duration;

pub(super) const WHY_NEEDED: &str = "must say why a guard is overridden";
const NOT_A_STATE: &str =
    "must be one of PENDING, NEXT, CURRENT, PREVIOUS, RETIRED, REVOKED, DESTROYED";
pub(super) const MASK: &str = "must name what to change: policy, policy.propagation_delay, \
    policy.max_token_ttl, policy.retention, policy.rotation_period, policy.destroy_after, \
    policy.rsa_bits or rotation_hold";
/// The longest span that is taken for one, the range of google.protobuf.Duration.
const SECONDS_MAX: i64 = 315_576_000_000;
const TYP_LEN_MAX: usize = 64;

/// Takes over the field that `path` names, unless it names none. A span that is not set goes back
/// to its default.
pub(super) fn apply(path: &str, update: &mut Update, policy: &Policy, hold: bool) -> bool {
    let change: &mut PolicyUpdate = &mut update.policy;
    match path {
        "policy" => {
            *change = PolicyUpdate {
                propagation_delay: Some(policy.propagation_delay),
                max_token_ttl: Some(policy.max_token_ttl),
                retention: Some(policy.retention),
                rotation_period: Some(policy.rotation_period),
                destroy_after: Some(policy.destroy_after),
                rsa_bits: Some(policy.rsa_bits),
            }
        }
        "policy.propagation_delay" => change.propagation_delay = Some(policy.propagation_delay),
        "policy.max_token_ttl" => change.max_token_ttl = Some(policy.max_token_ttl),
        "policy.retention" => change.retention = Some(policy.retention),
        "policy.rotation_period" => change.rotation_period = Some(policy.rotation_period),
        "policy.destroy_after" => change.destroy_after = Some(policy.destroy_after),
        "policy.rsa_bits" => change.rsa_bits = Some(policy.rsa_bits),
        "rotation_hold" => update.rotation_hold = Some(if hold { Hold::On } else { Hold::Off }),
        _ => return false,
    }
    true
}

/// The states of ListKeys, in the order asked for, each once; none stands for the default.
pub(in crate::grpc) fn states(wrong: &mut Violations, states: &[i32]) -> Vec<StateName> {
    let mut known = Vec::new();
    for (at, state) in states.iter().enumerate() {
        match pb::KeyState::try_from(*state).ok().and_then(state_name) {
            Some(state) if known.contains(&state) => {}
            Some(state) => known.push(state),
            None => wrong.note(format!("states[{at}]"), NOT_A_STATE),
        }
    }
    known
}

const fn state_name(state: pb::KeyState) -> Option<StateName> {
    match state {
        pb::KeyState::Unspecified => None,
        pb::KeyState::Pending => Some(StateName::Pending),
        pb::KeyState::Next => Some(StateName::Next),
        pb::KeyState::Current => Some(StateName::Current),
        pb::KeyState::Previous => Some(StateName::Previous),
        pb::KeyState::Retired => Some(StateName::Retired),
        pb::KeyState::Revoked => Some(StateName::Revoked),
        pb::KeyState::Destroyed => Some(StateName::Destroyed),
    }
}

pub(super) fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Commit }
}

pub(super) fn approval(wrong: &mut Violations, force: bool, reason: &str) -> Approval {
    if !force {
        return Approval::Guarded;
    }
    if reason.trim().is_empty() {
        wrong.note("reason", WHY_NEEDED);
    }
    Approval::Forced
}

/// The policy with defaults for what is not set. Whether it holds together is the keyring's to say.
pub(super) fn policy(wrong: &mut Violations, given: &pb::Policy) -> Policy {
    let default = Policy::default();
    let mut field = |name: &str, value: Option<&prost_types::Duration>| {
        span(wrong, &format!("key_set.policy.{name}"), value)
    };
    let delay = field("propagation_delay", given.propagation_delay.as_ref());
    let ttl = field("max_token_ttl", given.max_token_ttl.as_ref());
    let retention = field("retention", given.retention.as_ref());
    let rotation_period = field("rotation_period", given.rotation_period.as_ref());
    let destroy_after = field("destroy_after", given.destroy_after.as_ref());
    let rsa_bits = match given.rsa_bits {
        0 => Some(default.rsa_bits),
        bits => u32::try_from(bits).ok().and_then(RsaBits::from_bits),
    };
    if rsa_bits.is_none() {
        wrong.note("key_set.policy.rsa_bits", "must be 2048, 3072 or 4096");
    }
    Policy {
        propagation_delay: delay.unwrap_or(default.propagation_delay),
        max_token_ttl: ttl.unwrap_or(default.max_token_ttl),
        retention,
        rotation_period,
        destroy_after: destroy_after.unwrap_or(default.destroy_after),
        rsa_bits: rsa_bits.unwrap_or(default.rsa_bits),
    }
}

pub(super) fn span(
    wrong: &mut Violations,
    field: &str,
    given: Option<&prost_types::Duration>,
) -> Option<Duration> {
    let given = given?;
    let seconds = u64::try_from(given.seconds).ok();
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match both((seconds, nanos)) {
        Some((seconds, nanos)) if given.seconds <= SECONDS_MAX => {
            Some(Duration::new(seconds, nanos))
        }
        _ => {
            wrong.note(field, "must be a span of time that is not negative, e.g. 900s");
            None
        }
    }
}

/// RFC 7515 section 4.1.9: a media type (RFC 6838 section 4.2), `application/` left out or not. The
/// empty text stands for the default.
pub(super) fn is_media_type(typ: &str) -> bool {
    let restricted = |name: &str| {
        name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    typ.is_empty() || typ.len() <= TYP_LEN_MAX && typ.splitn(2, '/').all(restricted)
}

/// Two things that are needed together.
pub(super) fn both<A, B>((a, b): (Option<A>, Option<B>)) -> Option<(A, B)> {
    a.zip(b)
}
