//! What the streams have in common: work in a task of its own, and a last word when it ends.

use super::status;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::Instrument;

/// How long a peer that reads nothing is waited for with the last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The sending half of a stream of answers.
pub(super) type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// Does a stream's `work` in a task of its own. If it fails, or panics, the stream ends with that
/// as its status. `request` is the request's id.
pub(super) fn spawn<T: Send + 'static>(
    answers: Answers<T>,
    request: Arc<str>,
    work: impl Future<Output = Result<(), Status>> + Send + 'static,
) {
    let task = async move {
        let last = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(last)) => last,
            Err(_panic) => status::fault(&request, &"the work of a stream panicked"),
        };
        // A peer that does not listen does not hear why.
        let _ = tokio::time::timeout(LAST_WORD, answers.send(Err(last))).await;
    };
    tokio::spawn(task.in_current_span());
}

/// Resolves at `end`; never if there is none.
pub(super) async fn late(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}
