//! What the threads do: sign, and say how the token is.
//!
//! A thread owns a session for as long as it lives, and takes jobs from the queue that all signers
//! share. A job whose deadline has passed while it waited is dropped; C_Sign itself cannot be
//! cancelled, so a caller may also stop waiting while the token still works for it.

use super::error::{Fault, name};
use super::fate::{Fate, Fates};
use super::mechanism::Payload;
use super::object;
use super::queue::Queue;
use super::seat::{Handle, Occupant, Seat};
use super::token::{Failure, Link, Patience, Token, late};
use crate::backend::{Error, KeyRef, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::oneshot;

/// What all threads of a backend share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) token: Token,
    pub(super) fates: Fates,
    pub(super) signing: Queue<Job>,
    pub(super) management: Queue<Task>,
    pub(super) busy: AtomicUsize,
}

impl Shared {
    fn at_work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let done = work();
        self.busy.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

/// Work for a signer.
#[derive(Debug)]
pub(super) enum Job {
    /// A signature.
    Sign {
        key: Arc<KeyRef>,
        payload: Payload,
        deadline: Instant,
        answer: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    /// Whether it could sign.
    Probe { deadline: Instant, answer: oneshot::Sender<Result<(), Error>> },
}

/// Work for the management thread, which may take seconds.
pub(super) struct Task(pub(super) Box<Work>);

type Work = dyn FnOnce(&Shared, &Seat) + Send;

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// A signer's life.
pub(super) fn sign_until_closed(shared: &Shared, seat: &Seat) {
    while let Some(job) = shared.signing.pop() {
        // A signer is free again before its caller knows the answer, and whoever asked may have
        // stopped waiting for it.
        match job {
            Job::Sign { key, payload, deadline, answer } => {
                if !answer.is_closed() {
                    let result = shared.at_work(|| sign(shared, seat, &key, &payload, deadline));
                    let _ = answer.send(result);
                }
            }
            Job::Probe { deadline, answer } => {
                let result = shared.at_work(|| probe(shared, seat, deadline));
                let _ = answer.send(result);
            }
        }
    }
    leave(seat);
}

/// The management thread's life.
pub(super) fn manage_until_closed(shared: &Shared, seat: &Seat) {
    while let Some(Task(work)) = shared.management.pop() {
        work(shared, seat);
    }
    leave(seat);
}

fn leave(seat: &Seat) {
    if let Err(error) = seat.leave() {
        tracing::debug!(%error, "a session was not closed");
    }
}

fn sign(
    shared: &Shared,
    seat: &Seat,
    key: &KeyRef,
    payload: &Payload,
    deadline: Instant,
) -> Result<Vec<u8>, Error> {
    if Instant::now() >= deadline {
        return Err(late());
    }
    let fate = shared.fates.of(key.material);
    match fate {
        Some(Fate::Disabled) => {
            return Err(Error::new(Kind::Denied, "C_Sign", "the key is disabled"));
        }
        Some(Fate::Destroyed) => {
            return Err(Error::new(Kind::NotFound, "C_Sign", "the key is destroyed"));
        }
        Some(Fate::Ailing(ailment)) if Instant::now() < ailment.until => {
            return Err(Error::new(
                Kind::Unavailable,
                "C_Sign",
                format!(
                    "the token fails this key with {}, even after it was re-initialised; \
                     tried again after a pause",
                    name(ailment.code)
                ),
            ));
        }
        Some(Fate::Lost | Fate::Ailing(_)) | None => {}
    }
    let incurable = match fate {
        Some(Fate::Ailing(ailment)) => Some(ailment.code),
        _ => None,
    };
    let work = |occupant: &mut Occupant, link: &Link| {
        let (mechanism, octets) = payload.call(&link.offer)?;
        let private = match find(occupant, key) {
            // It was made sure of already that the key is not there.
            Err(Fault::Absent) if fate == Some(Fate::Lost) => {
                return Err(Fault::Ours(Fault::Absent.into_error()));
            }
            found => found?,
        };
        Ok(occupant.session.sign(&mechanism, private, &octets)?)
    };
    let result = shared.token.run_for_key(seat, deadline, Patience::KeepPause, incurable, work);
    match &result {
        Ok(signature) if signature.len() != key.public.signature_len() => {
            return Err(Error::new(
                Kind::Inconsistent,
                "C_Sign",
                format!(
                    "the token made a signature of {} bytes; one by {} has {}",
                    signature.len(),
                    key.algorithm,
                    key.public.signature_len()
                ),
            ));
        }
        Ok(_) if fate.is_some() => shared.fates.is_well(key.material),
        Ok(_) => {}
        Err(Failure { error, .. }) if error.kind == Kind::NotFound => {
            shared.fates.is_lost(key.material);
        }
        Err(Failure { incurable: Some(code), error }) => {
            tracing::error!(material = %key.material, %error,
                "a key fails although the token was re-initialised for it");
            shared.fates.is_ailing(key.material, *code, Instant::now());
        }
        Err(_) => {}
    }
    result.map_err(|failure| failure.error)
}

/// The handle of the key that is meant: remembered, or found and compared.
fn find(occupant: &mut Occupant, key: &KeyRef) -> Result<cryptoki::object::ObjectHandle, Fault> {
    if let Some(handle) = occupant.handle(key.material) {
        return match handle.public == key.public {
            true => Ok(handle.object),
            false => Err(other_key(key)),
        };
    }
    let spec = key.public.spec().filter(|_| key.public.fits(key.algorithm));
    let Some(spec) = spec else {
        return Err(Error::new(
            Kind::Inconsistent,
            "C_FindObjects",
            format!("{} does not sign with such a key", key.algorithm),
        )
        .into());
    };
    let Some((object, public)) = object::read(&occupant.session, key.material, spec)? else {
        occupant.ask_token()?;
        return Err(Fault::Absent);
    };
    if public != key.public {
        return Err(other_key(key));
    }
    occupant.keep(key.material, Handle { object, public });
    Ok(object)
}

fn other_key(key: &KeyRef) -> Fault {
    Error::new(
        Kind::Inconsistent,
        "C_GetAttributeValue",
        format!(
            "the key with CKA_ID {} is not the one in the store: its public key is another",
            key.material
        ),
    )
    .into()
}

fn probe(shared: &Shared, seat: &Seat, deadline: Instant) -> Result<(), Error> {
    shared.token.run(seat, deadline, Patience::TryNow, |occupant, _| occupant.ask_token())
}
