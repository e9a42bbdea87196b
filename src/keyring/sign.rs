//! Sign: from one snapshot, without a lock and without the store; checked again before release.

use super::snapshot::{Line, Signer};
use super::{Error, Keyring, Sign, Signed};
use crate::audit::{self, Action, Origin, Place, Record};
use crate::backend::{self, Input, Outcome};
use crate::key::{Algorithm, Digest, KeySetId, Kid, Refusal, Service};
use crate::metrics;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;

/// Times that a signature is made anew because its key was rotated out meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// What is asked of the current key.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) origin: &'a Origin,
    pub(super) action: Action,
    pub(super) id: &'a KeySetId,
    pub(super) expected: Option<Kid>,
    pub(super) deadline: Instant,
}

impl Asked<'_> {
    /// What is recorded of the signature if nothing more is ever heard of it.
    fn draft(&self, now: Timestamp, signer: &Signer, input: &Input) -> Record {
        let digest = match input {
            Input::Message(message) => Some(audit::Digest::of(message)),
            Input::Digest(digest) => {
                signer.algorithm.digest().and_then(|hash| audit::Digest::made(hash, digest))
            }
        };
        Record {
            key_set: Some(self.id.clone()),
            kid: Some(signer.kid),
            outcome: audit::Outcome::Withheld,
            digest,
            ..Record::new(now, self.origin, self.action)
        }
    }
}

impl Keyring {
    /// Signs for `origin` with the current key, by `deadline`.
    pub async fn sign(
        &self,
        origin: &Origin,
        deadline: Instant,
        sign: Sign,
    ) -> Result<Signed, Error> {
        let Sign { key_set, input, expected } = sign;
        let asked = Asked { origin, action: Action::Sign, id: &key_set, expected, deadline };
        self.sign_with_current(asked, |_, signer| {
            fits(signer.algorithm, &input)?;
            Ok((input.clone(), ()))
        })
        .await
        .map(|(signed, ())| signed)
    }

    /// Signs what `prepare` makes for the key that is current; if that key stops being current
    /// before the signature is released, the signature is dropped and made anew.
    pub(super) async fn sign_with_current<T>(
        &self,
        asked: Asked<'_>,
        prepare: impl Fn(&Line, &Signer) -> Result<(Input, T), Error>,
    ) -> Result<(Signed, T), Error> {
        let algorithm = self.line(asked.id)?.set.algorithm;
        let began = Instant::now();
        let outcome = self.try_with_current(asked, prepare).await;
        self.0.parts.metrics.signed(asked.id, algorithm, counted(&outcome), began.elapsed());
        outcome.map_err(|error| match may_have_signed(&error) {
            true => error,
            false => self.not_done(asked.origin, asked.action, asked.id, error),
        })
    }

    async fn try_with_current<T>(
        &self,
        asked: Asked<'_>,
        prepare: impl Fn(&Line, &Signer) -> Result<(Input, T), Error>,
    ) -> Result<(Signed, T), Error> {
        self.certain_enough()?;
        for _ in 0..ATTEMPTS_MAX {
            let line = self.line(asked.id)?;
            let signer = line.ready(asked.expected)?;
            let (input, prepared) = prepare(&line, signer)?;
            let mut place = self.0.parts.recorder.place(asked.deadline).await?;
            place.draft(|| asked.draft(self.now(), signer, &input));
            let signature = match signer.sign(input, asked.deadline).await {
                Ok(signature) => signature,
                Err(error) => {
                    unsigned(place, &error);
                    return Err(error);
                }
            };
            self.holds_its_store()?;
            // From the check to the answer nothing is awaited: what is recorded as released is.
            if self.still_signs(asked.id, signer.kid) {
                place.fill(|record| record.outcome = audit::Outcome::Done);
                let (kid, algorithm) = (signer.kid, signer.algorithm);
                return Ok((Signed { signature, kid, algorithm }, prepared));
            }
            place.fill(|record| record.reason = "KEY_SET_CHANGED".to_owned());
        }
        let current = self.key_set(asked.id)?.current().map(|key| key.kid);
        Err(Refusal::Changed { current }.into())
    }

    /// Whether `kid` is still the key that signs for this key set: whoever keeps a signature waiting
    /// before it is handed to the transport asks again at that instant.
    pub fn still_signs(&self, id: &KeySetId, kid: Kid) -> bool {
        self.holds_its_store().is_ok()
            && self.line(id).is_ok_and(|line| line.ready(Some(kid)).is_ok())
    }
}

impl Line {
    /// The key to sign with, if the key set signs and has the key that the caller expects.
    pub(super) fn ready(&self, expected: Option<Kid>) -> Result<&Signer, Error> {
        if self.set.service != Service::Enabled {
            return Err(Error::Disabled { id: self.set.id.clone() });
        }
        let signer = self.signer.as_ref();
        match (signer, expected) {
            (Some(signer), Some(kid)) if signer.kid != kid => {
                Err(Refusal::Changed { current: Some(signer.kid) }.into())
            }
            (Some(signer), _) => Ok(signer),
            (None, _) => Err(Error::NoCurrentKey { id: self.set.id.clone() }),
        }
    }
}

impl Signer {
    pub(super) async fn sign(&self, input: Input, deadline: Instant) -> Result<Vec<u8>, Error> {
        let name = &self.backend_name;
        let failed = |source| Error::Backend { name: name.clone(), source };
        let backend = self.backend.as_ref().ok_or_else(|| {
            let why = "the configuration has no backend of that name";
            failed(backend::Error::new(backend::Kind::Unavailable, "find backend", why))
        })?;
        match backend.sign(&Arc::clone(&self.key), input, deadline).await {
            Ok(signature) if signature.len() == self.key.public.signature_len() => Ok(signature),
            Ok(signature) => {
                let why = format!("got a signature of {} bytes", signature.len());
                Err(failed(backend::Error::new(backend::Kind::Inconsistent, "sign", why)))
            }
            Err(error) if error.kind == backend::Kind::Late => {
                Err(Error::DeadlineExceeded { committed: Some(false) })
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Records that a backend returned no signature, if it may have made one; else gives the place back.
fn unsigned(place: Place, error: &Error) {
    if may_have_signed(error) {
        place.fill(|record| {
            record.outcome = audit::Outcome::Lost;
            error.reason().clone_into(&mut record.reason);
        });
    } else {
        place.leave();
    }
}

const fn may_have_signed(error: &Error) -> bool {
    match error {
        Error::DeadlineExceeded { .. } => true,
        Error::Backend { source, .. } => matches!(source.outcome, Outcome::Unknown),
        _ => false,
    }
}

const fn counted<T>(outcome: &Result<T, Error>) -> metrics::Outcome {
    use metrics::Outcome as Counted;
    match outcome {
        Ok(_) => Counted::Released,
        Err(Error::DeadlineExceeded { .. }) => Counted::Late,
        Err(Error::Backend { source, .. }) if matches!(source.kind, backend::Kind::Throttled) => {
            Counted::Overloaded
        }
        Err(Error::Backend { source, .. }) if matches!(source.kind, backend::Kind::TooLong) => {
            Counted::Refused
        }
        Err(
            Error::Backend { .. }
            | Error::Fault(_)
            | Error::NoCurrentKey { .. }
            | Error::Unrecorded(_),
        ) => Counted::Failed,
        Err(_) => Counted::Refused,
    }
}

/// Refuses a digest that the algorithm does not sign: backends check little.
fn fits(algorithm: Algorithm, input: &Input) -> Result<(), Error> {
    let given = match input {
        Input::Message(_) => return Ok(()),
        Input::Digest(digest) => digest.len(),
    };
    match algorithm.digest().map(Digest::output_len) {
        None => Err(Error::DigestNotAllowed),
        Some(wanted) if wanted == given => Ok(()),
        Some(wanted) => Err(Error::DigestLength { algorithm, wanted, given }),
    }
}
