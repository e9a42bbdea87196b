//! Probes: `/livez` says that the process answers at all, `/readyz` that it is fit to serve, and
//! if it is not, which part is out. Why it is out is for the operator, who has the log and
//! `signkeep doctor`: this listener is public.

use super::answer::json;
use crate::health::Report;
use crate::key::KeySetId;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};

/// 200 as long as requests are answered.
pub(super) fn live() -> Response {
    json(StatusCode::OK, serde_json::json!({ "status": "ok" }))
}

/// 200 when ready and 503 when not, with the state of each part: `ok` or `out`. Key sets
/// that lack a key are named and do not make the service unready: the others still sign.
pub(super) fn ready(report: &Report) -> Response {
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, body(report))
}

fn body(report: &Report) -> Value {
    let service = match report {
        Report { stopping: true, .. } => "stopping",
        Report { started: false, .. } => "starting",
        _ => "ok",
    };
    let backends: Map<_, _> = report
        .backends
        .iter()
        .map(|(name, reason)| (name.clone(), part(reason.as_deref())))
        .collect();
    let incomplete: Vec<_> = report
        .incomplete
        .iter()
        .filter(|name| name.parse::<KeySetId>().is_ok_and(|id| !id.is_internal()))
        .collect();
    let certificates: Map<_, _> = report
        .certificates
        .iter()
        .map(|(listener, worry)| (listener.clone(), attention(worry.as_deref())))
        .collect();
    serde_json::json!({
        "status": if report.is_ready() { "ready" } else { "not ready" },
        "service": service,
        "store": part(report.store.as_deref()),
        "backends": backends,
        "incomplete_key_sets": incomplete,
        "certificates": certificates,
    })
}

fn attention(worry: Option<&str>) -> Value {
    if worry.is_none() { "ok" } else { "needs attention" }.into()
}

fn part(reason: Option<&str>) -> Value {
    if reason.is_none() { "ok" } else { "out" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    #[tokio::test]
    async fn readiness_says_which_part_is_out_and_not_why() {
        let report = Report {
            started: true,
            store: Some("/var/lib/signkeep.db: disk full".to_owned()),
            backends: [("token".to_owned(), None)].into(),
            incomplete: vec!["default".to_owned(), "signkeep-audit".to_owned()],
            certificates: [("grpc 127.0.0.1:1".to_owned(), Some("expires".to_owned()))].into(),
            ..Report::default()
        };
        let response = ready(&report);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "status": "not ready",
                "service": "ok",
                "store": "out",
                "backends": { "token": "ok" },
                "incomplete_key_sets": ["default"],
                "certificates": { "grpc 127.0.0.1:1": "needs attention" },
            })
        );
    }
}
