//! Sign: from one snapshot, without a lock and without the store; checked again before release.

use super::snapshot::{Line, Signer};
use super::{Error, Keyring, Sign, Signed};
use crate::audit::Origin;
use crate::backend::{self, Input};
use crate::key::{Algorithm, Digest, KeySetId, Kid, Refusal, Service};
use crate::metrics::Outcome;
use std::sync::Arc;
use std::time::Instant;

/// Times that a signature is made anew because its key was rotated out meanwhile.
const ATTEMPTS_MAX: usize = 3;

impl Keyring {
    /// Signs for `origin` with the current key, by `deadline`.
    pub async fn sign(
        &self,
        origin: &Origin,
        deadline: Instant,
        sign: Sign,
    ) -> Result<Signed, Error> {
        self.sign_with_current(origin, &sign.key_set, sign.expected, deadline, |_, signer| {
            fits(signer.algorithm, &sign.input)?;
            Ok((sign.input.clone(), ()))
        })
        .await
        .map(|(signed, ())| signed)
    }

    /// Signs what `prepare` makes for the key that is current; if that key stops being current
    /// before the signature is released, the signature is dropped and made anew.
    pub(super) async fn sign_with_current<T>(
        &self,
        _origin: &Origin,
        id: &KeySetId,
        expected: Option<Kid>,
        deadline: Instant,
        prepare: impl Fn(&Line, &Signer) -> Result<(Input, T), Error>,
    ) -> Result<(Signed, T), Error> {
        let algorithm = self.line(id)?.set.algorithm;
        let began = Instant::now();
        let outcome = self.try_with_current(id, expected, deadline, prepare).await;
        self.0.parts.metrics.signed(id, algorithm, counted(&outcome), began.elapsed());
        outcome
    }

    async fn try_with_current<T>(
        &self,
        id: &KeySetId,
        expected: Option<Kid>,
        deadline: Instant,
        prepare: impl Fn(&Line, &Signer) -> Result<(Input, T), Error>,
    ) -> Result<(Signed, T), Error> {
        self.certain_enough()?;
        for _ in 0..ATTEMPTS_MAX {
            let line = self.line(id)?;
            let signer = line.ready(expected)?;
            let (input, prepared) = prepare(&line, signer)?;
            let signature = signer.sign(input, deadline).await?;
            self.holds_its_store()?;
            if self.still_signs(id, signer.kid) {
                let (kid, algorithm) = (signer.kid, signer.algorithm);
                return Ok((Signed { signature, kid, algorithm }, prepared));
            }
        }
        let current = self.key_set(id)?.current().map(|key| key.kid);
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
    fn ready(self: &Line, expected: Option<Kid>) -> Result<&Signer, Error> {
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
    async fn sign(&self, input: Input, deadline: Instant) -> Result<Vec<u8>, Error> {
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

const fn counted<T>(outcome: &Result<T, Error>) -> Outcome {
    match outcome {
        Ok(_) => Outcome::Released,
        Err(Error::DeadlineExceeded { .. }) => Outcome::Late,
        Err(Error::Backend { source, .. }) if matches!(source.kind, backend::Kind::Throttled) => {
            Outcome::Overloaded
        }
        Err(Error::Backend { source, .. }) if matches!(source.kind, backend::Kind::TooLong) => {
            Outcome::Refused
        }
        Err(Error::Backend { .. } | Error::Fault(_) | Error::NoCurrentKey { .. }) => {
            Outcome::Failed
        }
        Err(_) => Outcome::Refused,
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
