//! What every call passes through on its way in and out, whichever service it is for: an id, a
//! caller, a deadline, a place among those under way, one line in the log. It is also where errors
//! that tonic makes by itself are given the form that all errors have here.

use super::call::{Call, REQUEST_ID, request_id};
use super::deadline::{Deadline, Work};
use super::{Settings, status};
use crate::access::Access;
use crate::transport::Peer;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::http::{self, HeaderMap, HeaderValue, request};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;
use tracing::{Instrument, Span, field};

/// How much longer than its deadline a call is left to answer in its own words.
const MARGIN: Duration = Duration::from_millis(100);
/// Longest part of a path that is logged, in characters.
const PATH_LOGGED: usize = 96;
const STATUS: &str = "grpc-status";
const DETAILS: &str = "grpc-status-details-bin";

/// The way in and out.
pub(super) struct Edge {
    routes: Routes,
    access: Access,
    settings: Settings,
    stopping: watch::Receiver<bool>,
    places: Arc<Semaphore>,
}

impl Edge {
    /// Leads those whom `access` knows to `routes`, as many at once as there are `places`; refuses
    /// new work once `stopping` says so.
    pub(super) fn new(
        routes: Routes,
        access: Access,
        settings: Settings,
        places: Arc<Semaphore>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { routes, access, settings, stopping, places }
    }

    /// Answers one call. Never fails and never panics: whatever goes wrong becomes a status.
    pub(super) async fn answer(
        &self,
        peer: &Peer,
        request: http::Request<Body>,
    ) -> http::Response<Body> {
        let (mut head, body) = request.into_parts();
        let id = request_id(&head.headers);
        let path: String = head.uri.path().chars().take(PATH_LOGGED).collect();
        let span = tracing::info_span!(
            "rpc",
            rpc = path.trim_start_matches('/'),
            request = &*id,
            caller = field::Empty,
            key_set = field::Empty,
            kid = field::Empty,
        );
        let started = Instant::now();
        let mut response = async {
            match self.admit(&mut head, peer, &id, started).await {
                Ok(admitted) => self.run(head, body, admitted).await,
                Err(refused) => refused.into_http(),
            }
        }
        .instrument(span.clone())
        .await;
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        span.in_scope(|| log(response.headers(), &path, started.elapsed()));
        response
    }

    async fn admit(
        &self,
        head: &mut request::Parts,
        peer: &Peer,
        id: &Arc<str>,
        now: Instant,
    ) -> Result<Admitted, Status> {
        let probed = is_probe(head.uri.path());
        if *self.stopping.borrow() && !probed {
            return Err(status::shutting_down());
        }
        let caller = self.access.identify(peer, None).await;
        let caller = caller.map_err(|_| status::caller_unknown())?;
        Span::current().record("caller", caller.as_str());
        let work = Work::at(head.uri.path());
        let deadline = Deadline::take(&mut head.headers, work, now, &self.settings)
            .map_err(|_| status::malformed_timeout())?;
        let place = if probed || work == Work::Stream {
            None
        } else {
            let place = self.places.clone().try_acquire_owned();
            Some(place.map_err(|_| status::overloaded())?)
        };
        let id = id.clone();
        let listener = peer.listener.clone();
        let call = Call { id, caller, listener, deadline };
        Ok(Admitted { call, work, place })
    }

    async fn run(
        &self,
        mut head: request::Parts,
        body: Body,
        admitted: Admitted,
    ) -> http::Response<Body> {
        let Admitted { call, work, place } = admitted;
        let id = call.id.clone();
        let end = call.deadline.end().filter(|_| work != Work::Stream);
        let ours = !is_probe(head.uri.path());
        head.extensions.insert(call);
        let request = http::Request::from_parts(head, body);
        let work = AssertUnwindSafe(self.routes.clone().oneshot(request)).catch_unwind();
        let ended = match end {
            None => Ok(work.await),
            Some(end) => tokio::time::timeout_at((end + MARGIN).into(), work).await,
        };
        drop(place);
        match ended {
            Ok(Ok(Ok(response))) if ours => in_our_words(response, &id),
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => status::fault(&id, &"the handler panicked").into_http(),
            Err(_elapsed) => status::deadline_exceeded().into_http(),
        }
    }
}

/// A call that may go on.
struct Admitted {
    call: Call,
    work: Work,
    place: Option<OwnedSemaphorePermit>,
}

fn is_probe(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.")
}

/// The response, or if it is an error that tonic made by itself, that error as we tell it. Errors
/// of ours carry details; tonic's carry none.
fn in_our_words(response: http::Response<Body>, id: &str) -> http::Response<Body> {
    if !response.headers().contains_key(STATUS) || response.headers().contains_key(DETAILS) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => status::foreign(&status, id).into_http(),
        _ => response,
    }
}

/// One line per call; for a stream it is the line of its beginning.
fn log(headers: &HeaderMap, path: &str, took: Duration) {
    let code = headers.get(STATUS).map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()));
    let ms = took.as_secs_f64() * 1e3;
    match code {
        Code::Ok if Work::at(path) == Work::Change => tracing::info!(?code, ms, "answered"),
        Code::Ok => tracing::debug!(?code, ms, "answered"),
        _ => tracing::info!(?code, reason = reason(headers), ms, "not done"),
    }
}

/// `ErrorInfo.reason` of an error; empty for one of a service that is not ours.
fn reason(headers: &HeaderMap) -> String {
    let status = Status::from_header_map(headers);
    let info = status.and_then(|status| status.get_details_error_info());
    info.map(|info| info.reason).unwrap_or_default()
}

#[cfg(test)]
mod tests;
