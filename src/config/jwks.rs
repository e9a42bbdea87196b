//! `[jwks]`: how long verifiers may cache what is published.

use super::document::{Document, Error};
use super::span::Span;
use crate::key::PublicationLimits;
use serde::Deserialize;
use std::time::Duration;

/// How the JWKS may be cached (RFC 9111, RFC 5861), and where it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// `max-age`.
    pub max_age: Duration,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Duration,
    /// `stale-if-error`.
    pub stale_if_error: Duration,
    /// What verifiers reach the HTTP face by, without a slash at the end; none: its own address.
    pub public_url: Option<String>,
}

impl Jwks {
    /// What policies are checked against.
    pub fn limits(&self, lease: Duration) -> PublicationLimits {
        PublicationLimits {
            max_age: self.max_age,
            stale_while_revalidate: self.stale_while_revalidate,
            lease,
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    max_age: Span,
    stale_while_revalidate: Span,
    stale_if_error: Span,
    public_url: String,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            max_age: Span::from_secs(15),
            stale_while_revalidate: Span::from_secs(15),
            stale_if_error: Span::from_secs(24 * 3600),
            public_url: String::new(),
        }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>) -> Result<Jwks, Error> {
        let day = Duration::from_secs(24 * 3600);
        let week = 7 * day;
        for (field, span, most, words) in [
            ("jwks.max_age", self.max_age, day, "24h"),
            ("jwks.stale_while_revalidate", self.stale_while_revalidate, day, "24h"),
            ("jwks.stale_if_error", self.stale_if_error, week, "7d"),
        ] {
            let whole_seconds = span.get().subsec_nanos() == 0;
            if span.get() > most || !whole_seconds {
                let what = format!("must be whole seconds, at most {words}");
                return Err(document.wrong(field, what));
            }
        }
        let public_url = match self.public_url.trim_end_matches('/') {
            "" => None,
            url if is_url(url) => Some(url.to_owned()),
            _ => {
                return Err(document.wrong(
                    "jwks.public_url",
                    "must be an http or https URL without query or fragment, e.g. https://issuer.example",
                ));
            }
        };
        Ok(Jwks {
            max_age: self.max_age.get(),
            stale_while_revalidate: self.stale_while_revalidate.get(),
            stale_if_error: self.stale_if_error.get(),
            public_url,
        })
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |character: char| {
        character.is_ascii_graphic() && !matches!(character, '?' | '#' | '"' | '<' | '>' | '\\')
    };
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain))
}
