//! `/api/v2/keys/custom-signing`: public keys of the customer's own in the domain's JWKS.
//!
//! They would bring in trust from outside: whoever holds such a key makes tokens that verify by our
//! JWKS, and no HSM guards it. It is not to be had, and who may ask is told so in Auth0's way.

use super::call::Call;
use super::refusal::Refusal;
use super::{Face, Scope};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// GET.
pub(super) async fn read(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
) -> Response {
    refused(&face, &call, &headers, &[Scope::ReadCustomSigningKeys]).await
}

/// PUT.
pub(super) async fn set(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
) -> Response {
    let needed = [Scope::CreateCustomSigningKeys, Scope::UpdateCustomSigningKeys];
    refused(&face, &call, &headers, &needed).await
}

/// DELETE.
pub(super) async fn remove(
    State(face): State<Face>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
) -> Response {
    refused(&face, &call, &headers, &[Scope::DeleteCustomSigningKeys]).await
}

async fn refused(face: &Face, call: &Call, headers: &HeaderMap, needed: &[Scope]) -> Response {
    match face.admit(call, headers, needed).await {
        Ok(admitted) => {
            let text = "Custom signing keys are not enabled for this domain.";
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "feature_not_enabled", text);
            admitted.answer(Err(refusal))
        }
        Err(refusal) => refusal.into_response(),
    }
}
