//! A signature: exactly one call to KMS when all is well, and its answer verified.

use super::calls::{Shared, Tries};
use super::client::State;
use super::error::{Class, Fault};
use super::gate::Refused;
use super::memory::Fate;
use super::spec::Payload;
use super::verify;
use crate::backend::{Error, Input, KeyRef, Kind};
use std::time::{Duration, Instant};

const OP: &str = "Sign";
/// How long before the deadline a caller is told that KMS did not answer in time: a refusal that
/// comes with the deadline is one that the caller does not hear. At most a tenth of what is left.
const TELLING: Duration = Duration::from_millis(200);

impl Shared {
    /// Signs by `deadline`, or says why not.
    pub(super) async fn sign(
        &self,
        key: &KeyRef,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        let payload = Payload::new(key.algorithm, input)?;
        if Instant::now() >= deadline {
            return Err(Error::new(Kind::Late, OP, "the deadline had passed already"));
        }
        // KMS sees late what we have done: our own word comes first.
        match self.memory.fate(key.material) {
            Some(Fate::Disabled) => return Err(disabled(key)),
            Some(Fate::Destroyed) => return Err(gone(key)),
            None => {}
        }
        self.closed_circuit(OP)?;
        let inside = self.signatures.enter(deadline).await.map_err(refused)?;
        let now = Instant::now();
        let telling = TELLING.min(deadline.saturating_duration_since(now) / 10);
        let limit = (deadline - telling).min(now + self.settings.operation_timeout);
        let signature = self.call_sign(key, &payload, limit).await;
        drop(inside);
        // Not the caller's deadline, but ours: there is time to say so, and when to come again.
        let is_ours = limit < deadline;
        let signature = signature.map_err(|error| match error.kind {
            // The time went by while KMS had us go slow.
            Kind::Late if is_ours && self.signing.pace.is_slowed() => {
                Error { kind: Kind::Throttled, ..error }
            }
            Kind::Late if is_ours => Error { kind: Kind::Unavailable, ..error },
            _ => error,
        })?;
        verify::released(&key.public, &payload, signature)
    }

    async fn call_sign(
        &self,
        key: &KeyRef,
        payload: &Payload,
        limit: Instant,
    ) -> Result<Vec<u8>, Error> {
        let arn = key.object.as_str();
        let attempt = || self.client.sign(arn, payload);
        let sign = || self.call(OP, &self.signing, Tries::Again, limit, attempt);
        let is_young =
            || self.memory.is_young(key.material, self.settings.patience, Instant::now());
        let signed = match sign().await {
            Err(fault) if may_be_early(&fault) && is_young() => self.patiently(limit, sign).await,
            other => other,
        };
        match signed {
            Ok(signature) => Ok(signature),
            Err(fault) if may_be_early(&fault) => Err(self.why_not(key, fault, limit).await),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Asks KMS for the state of a key that did not sign: the code of Sign does not tell.
    async fn why_not(&self, key: &KeyRef, fault: Fault, limit: Instant) -> Error {
        match self.describe(key.object.as_str(), limit).await {
            Ok(found) => match found.state {
                State::Disabled => disabled(key),
                State::Leaving => gone(key),
                State::Enabled | State::Arriving => {
                    let message =
                        format!("{} does not sign yet, or no more: {}", key.object, fault.words);
                    Error::new(Kind::Unavailable, OP, message)
                }
                State::Other(state) => {
                    let message = format!("{} is in the state {state}", key.object);
                    Error::new(Kind::Inconsistent, OP, message)
                }
            },
            Err(described) if described.class == Class::NotFound => {
                tracing::error!(backend = %self.settings.name, key = %key.object, "KMS does not know a key that the store has");
                Error::new(Kind::NotFound, OP, format!("KMS knows no key {}", key.object))
            }
            Err(described) => described.into(),
        }
    }
}

fn may_be_early(fault: &Fault) -> bool {
    matches!(fault.class, Class::NotFound | Class::State)
}

fn disabled(key: &KeyRef) -> Error {
    Error::new(Kind::Denied, OP, format!("{} is disabled", key.object))
}

fn gone(key: &KeyRef) -> Error {
    Error::new(Kind::NotFound, OP, format!("{} is being deleted, or deleted", key.object))
}

/// Why nobody comes in, as the caller is told.
pub(super) fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Full => Error::new(Kind::Throttled, OP, "as many requests wait for KMS as may"),
        Refused::TooLong => {
            Error::new(Kind::Throttled, OP, "too many requests wait for KMS to be done in time")
        }
        Refused::Closed => Error::new(Kind::Unavailable, OP, "the backend is being stopped"),
    }
}
