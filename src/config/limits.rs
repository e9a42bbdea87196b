//! `[limits]`: how long things may take.

use super::document::{Document, Error};
use super::span::Span;
use serde::Deserialize;
use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest that a read or a signature may take, whatever deadline its caller sets.
    pub request_timeout: Duration,
    /// How long requests under way may go on after the service was asked to stop.
    pub drain_timeout: Duration,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    request_timeout: Span,
    drain_timeout: Span,
}

impl Default for Section {
    fn default() -> Self {
        Self { request_timeout: Span::from_secs(30), drain_timeout: Span::from_secs(10) }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>) -> Result<Limits, Error> {
        let second = Duration::from_secs(1);
        if !(second..=600 * second).contains(&self.request_timeout.get()) {
            return Err(document.wrong("limits.request_timeout", "must be between 1s and 10m"));
        }
        if self.drain_timeout.get() > 600 * second {
            return Err(document.wrong("limits.drain_timeout", "must be at most 10m"));
        }
        Ok(Limits {
            request_timeout: self.request_timeout.get(),
            drain_timeout: self.drain_timeout.get(),
        })
    }
}
