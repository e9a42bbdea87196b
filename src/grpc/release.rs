//! The last check of a signature on a stream, at the instant at which the transport takes it.
//!
//! An answer may wait long after it was made, behind others, for the peer to open its flow-control
//! window. The key may be withdrawn meanwhile, and whoever withdrew it has been told that it signs
//! no more. So the check stands here, where the transport asks for the answer, and not where the
//! answer is made.
//!
//! A unary answer needs none of this: from the keyring's last check until hyper has taken the body
//! nothing is awaited.

use super::status;
use crate::key::{KeySetId, Kid, Refusal, Service};
use crate::keyring::{Error, Keyring};
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;

/// The key that an answer was signed with.
pub(super) struct Seal {
    keyring: Keyring,
    key_set: KeySetId,
    kid: Kid,
    request: Arc<str>,
}

impl Seal {
    /// A signature that `kid` of `key_set` made. `request` is the request's id.
    pub(super) const fn new(
        keyring: Keyring,
        key_set: KeySetId,
        kid: Kid,
        request: Arc<str>,
    ) -> Self {
        Self { keyring, key_set, kid, request }
    }

    /// Passes if the key still signs; else says what the caller is told in place of the signature.
    pub(super) fn check(&self) -> Result<(), Status> {
        let Self { keyring, key_set, kid, request } = self;
        if keyring.still_signs(key_set, *kid) {
            return Ok(());
        }
        let set = keyring.holds_its_store().and_then(|()| keyring.key_set(key_set));
        let error = match set {
            Err(error) => error,
            Ok(set) if set.service != Service::Enabled => Error::Disabled { id: set.id.clone() },
            Ok(set) => Refusal::Changed { current: set.current().map(|key| key.kid) }.into(),
        };
        Err(status::of(error, request))
    }
}

/// An answer of a stream on its way to the transport.
pub(super) struct Waiting<T> {
    /// The answer.
    pub(super) answer: T,
    /// The key that it was signed with, if it is a signature.
    pub(super) seal: Option<Seal>,
}

/// Hands the answers of one stream to the transport one at a time, each as `release` makes it at
/// that instant. After each it makes the transport look whether the peer has room for more, so that
/// no more than one answer is ever taken for a peer that reads nothing.
pub(super) struct Releasing<S, F> {
    answers: S,
    release: F,
    rest: bool,
}

impl<S, F> Releasing<S, F> {
    /// Hands over `answers`.
    pub(super) const fn new(answers: S, release: F) -> Self {
        Self { answers, release, rest: false }
    }
}

impl<S, F, T> Stream for Releasing<S, F>
where
    S: Stream + Unpin,
    F: FnMut(S::Item) -> T + Unpin,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if std::mem::take(&mut self.rest) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = std::task::ready!(Pin::new(&mut self.answers).poll_next(cx));
        self.rest = next.is_some();
        Poll::Ready(next.map(|answer| (self.release)(answer)))
    }
}
