//! `/metrics`, on a listener of its own: what it tells is nobody's business but the operator's.

use crate::metrics::Metrics;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The routes of the metrics listener: `/metrics` in OpenMetrics text.
pub fn router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(async move || exposition(&metrics)))
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let headers = [
                (CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
            ];
            (headers, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
