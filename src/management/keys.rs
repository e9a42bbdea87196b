//! `/api/v2/keys/signing`: the four calls.
//!
//! Rotate is the one that must not be repeated by mistake. Official clients send it again by
//! themselves when the connection breaks off, and cannot know whether the first was carried out.
//! So it names the current key that it found on its arrival, refuses while the next key is younger
//! than any client goes on trying, and answers nothing that makes a client try again once the
//! change may have been made.

use super::call::{Admitted, Call, nothing_in};
use super::key_object::{KeyObject, Named, revoked_at};
use super::refusal::{Refusal, answer};
use super::{Face, Management, Revocation, Scope};
use crate::key::{
    Approval, Emergency, Key, KeySet, Kid, Refusal as Guard, StateName, later, until,
};
use crate::keyring::{Error, Listed, Mode, Revoke, Rotate};
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// What the record gives as the reason of what is asked for here.
const REASON: &str = "auth0-api";
/// How long a rotation may take: a slow HSM generates an RSA key. Longer than clients wait, who
/// then find out by asking again that it is under way, or done.
const ROTATE_MAX: Duration = Duration::from_secs(110);
/// How long a revocation may take.
const REVOKE_MAX: Duration = Duration::from_secs(30);
/// How long looking something up may take.
const READ_MAX: Duration = Duration::from_secs(20);
/// The least age of a next key at which it is rotated in here, whatever the key set's
/// propagation delay: no client goes on trying for as long as that.
const SETTLED: Duration = Duration::from_secs(60);
/// Revoked keys in the list.
const REVOKED_SHOWN: usize = 3;
/// Destroyed keys among which the last revoked ones are looked for.
const DESTROYED_SEEN: usize = 64;

/// A kid in a path that may be no text.
type Name = Result<Path<String>, PathRejection>;

/// GET `/keys/signing`.
pub(super) async fn list(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
) -> Response {
    match face.admit(&call, &headers, &[Scope::ReadSigningKeys]).await {
        Ok(admitted) => admitted.answer(face.management.listed(&call).await),
        Err(refusal) => refusal.into_response(),
    }
}

/// GET `/keys/signing/{kid}`.
pub(super) async fn one(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    name: Name,
) -> Response {
    match face.admit(&call, &headers, &[Scope::ReadSigningKeys]).await {
        Ok(admitted) => admitted.answer(face.management.shown(&call, name).await),
        Err(refusal) => refusal.into_response(),
    }
}

/// POST `/keys/signing/rotate`.
pub(super) async fn rotate(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let needed = [Scope::CreateSigningKeys, Scope::UpdateSigningKeys];
    match face.admit(&call, &headers, &needed).await {
        Ok(admitted) => {
            let rotated = match nothing_in(body).await {
                Ok(()) => face.management.rotated(&call, &admitted).await,
                Err(refusal) => Err(refusal),
            };
            admitted.answer(rotated)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// PUT `/keys/signing/{kid}/revoke`.
pub(super) async fn revoke(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    name: Name,
    body: Body,
) -> Response {
    match face.admit(&call, &headers, &[Scope::UpdateSigningKeys]).await {
        Ok(admitted) => {
            let revoked = match nothing_in(body).await {
                Ok(()) => face.management.revoked(&call, &admitted, name).await,
                Err(refusal) => Err(refusal),
            };
            admitted.answer(revoked)
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl Management {
    /// Next, current, previous ones, and the last few that were revoked.
    async fn listed(&self, call: &Call) -> Result<Response, Refusal> {
        let id = &call.domain.key_set;
        let set = self.keyring.key_set(id)?;
        let gone = [StateName::Destroyed];
        let destroyed = self.keyring.keys(id, &gone, None, DESTROYED_SEEN);
        let destroyed = in_time(destroyed).await?.keys;
        let destroyed = destroyed.into_iter().filter_map(|listed| match listed {
            Listed::Key(key) => Some(key),
            Listed::Pending(_) => None,
        });
        let mut revoked: Vec<_> = set.keys.iter().cloned().chain(destroyed).collect();
        revoked.retain(|key| revoked_at(&key.state).is_some());
        revoked.sort_by_key(|key| std::cmp::Reverse((revoked_at(&key.state), key.kid)));
        revoked.truncate(REVOKED_SHOWN);
        let shown = set.published().into_iter().chain(&revoked);
        let objects: Vec<_> = shown.map(|key| object(key)).collect::<Result<_, _>>()?;
        Ok(answer(StatusCode::OK, &objects))
    }

    async fn shown(&self, call: &Call, name: Name) -> Result<Response, Refusal> {
        let kid = kid(name)?;
        let key = in_time(self.keyring.key(&call.domain.key_set, &kid)).await?;
        Ok(answer(StatusCode::OK, &object(&key)?))
    }

    async fn rotated(&self, call: &Call, admitted: &Admitted) -> Result<Response, Refusal> {
        let id = &call.domain.key_set;
        let (before, now) = (self.keyring.key_set(id)?, self.keyring.now());
        before.may_rotate(now, Approval::Guarded).map_err(|guard| Refusal::from(&guard))?;
        settled(&before, now).map_err(|guard| Refusal::from(&guard))?;
        let turn = self.rotations.take(id, now).map_err(|wait| {
            let text = "The signing keys have been rotated as often as is allowed in 24 hours";
            Refusal::too_many(text, wait)
        })?;
        let rotate = Rotate {
            key_set: id.clone(),
            expected_current: before.current().map(|key| key.kid),
            approval: Approval::Guarded,
            reason: REASON.to_owned(),
            mode: Mode::Commit,
        };
        match self.keyring.rotate(admitted.context(call, ROTATE_MAX), rotate).await {
            Ok(changed) => made(&changed.key_set),
            Err(error) if error.nothing_changed() => {
                turn.give_back();
                Err(error.into())
            }
            Err(error) => self.perhaps_rotated(call, &before, &error),
        }
    }

    /// The answer where the keyring cannot say whether it has rotated: what the key set shows, and
    /// if that shows nothing, that the caller must look, in a way that makes no client try again.
    fn perhaps_rotated(
        &self,
        call: &Call,
        before: &KeySet,
        error: &Error,
    ) -> Result<Response, Refusal> {
        let after = self.keyring.key_set(&call.domain.key_set)?;
        let kid = |key: Option<&Arc<Key>>| key.map(|key| key.kid);
        if kid(after.current()) == kid(before.next()) {
            return made(&after);
        }
        tracing::error!(%error, "it is not known whether a rotation was made");
        Err(Refusal::bad_request(
            "rotation_in_doubt",
            "Whether the signing key was rotated is not known at the moment. List the keys in a minute before you rotate again.",
        ))
    }

    async fn revoked(
        &self,
        call: &Call,
        admitted: &Admitted,
        name: Name,
    ) -> Result<Response, Refusal> {
        let (id, kid) = (&call.domain.key_set, kid(name)?);
        let key = in_time(self.keyring.key(id, &kid)).await?;
        match key.state.name() {
            _ if revoked_at(&key.state).is_some() => return Ok(named(&key)),
            StateName::Previous => {}
            StateName::Current | StateName::Next => {
                return Err(Refusal::bad_request(
                    "operation_not_allowed",
                    "You can only revoke the previously used signing key; rotate first.",
                ));
            }
            _ => return Err(Refusal::key_not_found()),
        }
        let revoke = Revoke {
            key_set: id.clone(),
            kid,
            approval: match self.settings.auth0.revocation {
                Revocation::AtOnce => Approval::Forced,
                Revocation::Guarded => Approval::Guarded,
            },
            emergency: Emergency::No,
            reason: REASON.to_owned(),
            mode: Mode::Commit,
        };
        match self.keyring.revoke(admitted.context(call, REVOKE_MAX), revoke).await {
            Ok(_) => Ok(named(&key)),
            Err(error) if error.nothing_changed() => Err(error.into()),
            // To be told so once more does no harm: a revocation can be repeated.
            Err(error) => match in_time(self.keyring.key(id, &kid)).await {
                Ok(key) if revoked_at(&key.state).is_some() => Ok(named(&key)),
                _ => Err(error.into()),
            },
        }
    }
}

/// What `look` finds, if it does in time.
async fn in_time<T>(look: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = Err(Error::DeadlineExceeded { committed: Some(false) });
    tokio::time::timeout(READ_MAX, look).await.unwrap_or(late)
}

/// Refuses while the next key may have come of a request that this one is a repetition of.
fn settled(set: &KeySet, now: jiff::Timestamp) -> Result<(), Guard> {
    let next = set.next().ok_or(Guard::NextKeyMissing)?;
    let ready = later(next.state.publish_time(), SETTLED);
    if now < ready {
        return Err(Guard::NextKeyNotPropagated { kid: next.kid, ready, wait: until(now, ready) });
    }
    Ok(())
}

fn made(set: &KeySet) -> Result<Response, Refusal> {
    match set.next() {
        Some(next) => Ok(answer(StatusCode::CREATED, &Named::of(next))),
        // Revoked in the moment between: nothing to show, and nothing to try again.
        None => Err(Refusal::from(&Guard::NextKeyMissing)),
    }
}

fn named(key: &Key) -> Response {
    answer(StatusCode::OK, &Named::of(key))
}

fn object(key: &Key) -> Result<KeyObject, Refusal> {
    match KeyObject::of(key) {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(Refusal::key_not_found()),
        Err(error) => Err(Error::Fault(format!("certificate of {}: {error}", key.kid)).into()),
    }
}

/// The kid in a path. What can be none is as unknown as one that does not exist.
fn kid(name: Name) -> Result<Kid, Refusal> {
    let kid = name.ok().and_then(|Path(name)| name.parse().ok());
    kid.ok_or_else(Refusal::key_not_found)
}
