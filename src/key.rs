//! The domain: what a signing key is, how its life runs, and what should happen next.
//!
//! Ground floor of the house. Nothing here does I/O, is async, knows a wire format or reads a
//! clock: every function takes `now` and values, and returns values. The store, the backends and
//! the faces are all built on these types, so what the lifecycle contract promises can be read and
//! property-tested here alone.

mod algorithm;
mod id;
mod key_set;
mod plan;
mod policy;
mod public;
mod state;

pub use algorithm::{Algorithm, Curve, Digest, KeySpec, RsaBits, UnknownAlgorithm};
pub use id::{BackendName, InvalidId, KeySetId, Kid, MaterialId};
pub use key_set::{
    Approval, Born, Emergency, Hold, InvalidIssuer, Issuer, Key, KeySet, Missing, Place, Refusal,
    Reservation, Service, Undo,
};
pub use plan::{Act, Step, plan, rotation_due};
pub use policy::{InvalidPolicy, Policy, PublicationLimits, Retention};
pub use public::{InvalidPublicKey, PublicKey};
pub use state::{History, State, StateName, TransitionError, UnknownState};

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Clock skew between an issuer and a verifier that `tokens_until` allows for.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// `at` moved later by `span`; stops at the end of representable time instead of overflowing.
pub fn later(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span)
        .ok()
        .and_then(|span| at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `at` moved earlier by `span`; stops at the start of representable time instead of overflowing.
pub fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span)
        .ok()
        .and_then(|span| at.checked_sub(span).ok())
        .unwrap_or(Timestamp::MIN)
}

/// The units in which people write how long something lasts, in milliseconds.
pub const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Whether a character cannot be seen but changes how a text looks: a control character, one that
/// has no width, breaks a line, or turns the direction of writing.
pub fn is_unseen(character: char) -> bool {
    let hidden = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{2069}'];
    character.is_control()
        || character == '\u{feff}'
        || hidden.iter().any(|range| range.contains(&character))
}

/// How long something lasts, as people write it, days the largest unit: `1h30m`, `90d`; `0s` for
/// nothing. Fractions of a millisecond are left out.
pub fn words(span: Duration) -> String {
    let mut left = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, scale) in UNITS {
        let count = left / scale;
        left %= scale;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// How long after `now` the instant `at` comes; zero when it has passed.
pub fn until(now: Timestamp, at: Timestamp) -> Duration {
    at.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}
