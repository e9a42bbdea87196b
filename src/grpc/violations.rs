//! Collects everything that is wrong with a request, so that the caller learns it in one answer.

use crate::key::{KeySetId, Kid, is_unseen};
use crate::keyring::{Error, InvalidField, RequestId};
use std::fmt::Display;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 512;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Violations {
    fields: Vec<InvalidField>,
    internal: Option<KeySetId>,
}

impl Violations {
    /// Notes a wrong field and what would be right.
    pub(super) fn note(&mut self, field: impl Into<String>, why: impl Display) {
        self.fields.push(InvalidField { field: field.into(), why: why.to_string() });
    }

    /// The value, or a note that it is wrong.
    pub(super) fn check<T, E: Display>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|why| self.note(field, why)).ok()
    }

    /// The key set that a request is about. Those that the service keeps for itself do not exist to
    /// callers.
    pub(super) fn key_set(&mut self, field: &str, text: &str) -> Option<KeySetId> {
        let id: KeySetId = self.check(field, text.parse())?;
        if id.is_internal() {
            self.internal = Some(id.clone());
        }
        Some(id)
    }

    /// A key's name.
    pub(super) fn kid(&mut self, field: &str, text: &str) -> Option<Kid> {
        self.check(field, text.parse())
    }

    /// A key's name that may be left out.
    pub(super) fn optional_kid(&mut self, field: &str, text: &str) -> Option<Kid> {
        (!text.is_empty()).then(|| self.kid(field, text)).flatten()
    }

    /// A request id that may be left out.
    pub(super) fn request_id(&mut self, text: &str) -> Option<RequestId> {
        (!text.is_empty()).then(|| self.check("request_id", text.parse())).flatten()
    }

    /// A reason that may be left out.
    pub(super) fn reason(&mut self, text: &str) {
        if text.chars().count() > REASON_CHARS_MAX || text.chars().any(is_unseen) {
            let why =
                "must be at most 512 characters, none of them a control character or invisible";
            self.note("reason", why);
        }
    }

    /// The request if nothing is wrong with it.
    pub(super) fn finish<T>(self, request: Option<T>) -> Result<T, Error> {
        match (self.internal, request) {
            (None, Some(request)) if self.fields.is_empty() => Ok(request),
            (Some(id), _) if self.fields.is_empty() => {
                Err(Error::KeySetNotFound { id: id.to_string() })
            }
            _ => Err(Error::Invalid { fields: self.fields }),
        }
    }
}
