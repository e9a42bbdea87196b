//! How busy a connection is: calls under way, counted without a lock, for they are counted on the
//! path of every signature.

use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// The calls of one connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A call under way, until it is dropped.
#[derive(Debug)]
pub struct Call(Arc<Counts>);

/// A body that holds its call under way until it has been sent or given up.
#[derive(Debug)]
pub struct Counted<B> {
    body: B,
    _call: Call,
}

impl Activity {
    /// A call begins.
    pub fn begin(&self) -> Call {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Call(self.0.clone())
    }

    /// How many calls there have been, if none is under way.
    pub(super) fn at_rest(&self) -> Option<u64> {
        // Read first, so that a call that begins in between counts as under way.
        let ended = self.0.ended.load(Ordering::Acquire);
        let begun = self.0.begun.load(Ordering::Acquire);
        (begun == ended).then_some(ended)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

impl<B> Counted<B> {
    /// `body`, which ends `call` with it.
    pub const fn new(body: B, call: Call) -> Self {
        Self { body, _call: call }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_at_rest_when_every_call_has_ended() {
        let activity = Activity::default();
        assert_eq!(activity.at_rest(), Some(0));
        let clone = activity.clone();
        let (one, other) = (activity.begin(), clone.begin());
        assert_eq!(activity.at_rest(), None);
        drop(one);
        assert_eq!(activity.at_rest(), None);
        drop(other);
        assert_eq!(activity.at_rest(), Some(2));
    }
}
