//! A signing key as Auth0's API shows it.

use crate::key::{Key, State, StateName};
use crate::x509::{bundle, fingerprint, pem};
use jiff::Timestamp;
use serde::Serialize;

/// A signing key; serialises to Auth0's key object. Only what is true of it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct KeyObject {
    kid: String,
    cert: String,
    pkcs7: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_until: Option<String>,
    fingerprint: String,
    thumbprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

/// What rotating and revoking answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Named {
    cert: String,
    kid: String,
}

impl KeyObject {
    /// The object of `key`; none for one that Auth0 would not show, whose natural end has come.
    pub(super) fn of(key: &Key) -> Result<Option<Self>, bundle::Error> {
        let revoked = revoked_at(&key.state);
        if revoked.is_none() && !key.state.name().is_published() {
            return Ok(None);
        }
        let is = |name| (key.state.name() == name).then_some(true);
        let (current, next) = (is(StateName::Current), is(StateName::Next));
        let previous = is(StateName::Previous);
        Ok(Some(Self {
            kid: key.kid.to_string(),
            cert: auth0_lines(&pem(&key.certificate)),
            pkcs7: auth0_lines(&bundle::to_pem(&key.certificate)?),
            current,
            next,
            previous,
            current_since: key.state.current_since().map(time),
            current_until: key.state.history().map(|history| time(history.until)),
            fingerprint: fingerprint::sha1(&key.certificate),
            thumbprint: fingerprint::sha1_plain(&key.certificate),
            revoked: revoked.map(|_| true),
            revoked_at: revoked.map(time),
        }))
    }
}

impl Named {
    /// The name and the certificate of `key`.
    pub(super) fn of(key: &Key) -> Self {
        Self { cert: auth0_lines(&pem(&key.certificate)), kid: key.kid.to_string() }
    }
}

/// When a key was revoked, its material destroyed since or not.
pub(super) const fn revoked_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Revoked { revoked, .. } => Some(*revoked),
        State::Destroyed { revoked, .. } => *revoked,
        _ => None,
    }
}

/// Lines that end with CRLF, but for the last, which does not end.
fn auth0_lines(text: &str) -> String {
    text.trim_end().replace('\n', "\r\n")
}

/// In milliseconds, as JavaScript writes it: a client in Python takes nothing else.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}
