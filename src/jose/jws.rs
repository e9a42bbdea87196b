//! JWS compact serialisation (RFC 7515 section 7.1), in the three parts that signing needs.
//!
//! The protected header depends on the key and the `typ` alone, so it can be encoded once and kept;
//! the signing input is what goes to the backend; the compact form adds the signature that comes
//! back.

use super::base64url;
use crate::key::{Algorithm, Kid};
use serde_json::Value;
use serde_json::value::RawValue;

/// The encoded protected header `{"alg":…,"kid":…,"typ":…}`, then `further` members as they were
/// written; `typ` may be any text and is escaped as JSON demands.
pub fn protected(
    algorithm: Algorithm,
    kid: &Kid,
    typ: &str,
    further: &[(String, Box<RawValue>)],
) -> String {
    let typ = Value::from(typ);
    let mut header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":{typ}"#);
    for (name, value) in further {
        header.push_str(&format!(",{}:{}", Value::from(name.as_str()), value.get()));
    }
    header.push('}');
    base64url(header.as_bytes())
}

/// What is signed (RFC 7515 section 5.1): the encoded header, a full stop, the encoded payload.
pub fn signing_input(protected: &str, payload: &[u8]) -> String {
    format!("{protected}.{}", base64url(payload))
}

/// The compact serialisation of a signing input and its signature in JWS form.
pub fn compact(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", base64url(signature))
}
