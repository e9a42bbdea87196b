//! `[log]`: what is logged, and how.

use super::document::{Document, Error};
use serde::Deserialize;

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level (error, warn, info, debug, trace), or directives such as `info,signkeep=debug`.
    pub level: String,
    /// How a line looks.
    pub format: Form,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Form::Auto }
    }
}

impl Log {
    pub(super) fn checked(self, document: &Document<'_>) -> Result<Self, Error> {
        let fits = |directive: &str| {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            let known = ["off", "error", "warn", "info", "debug", "trace"];
            known.contains(&level.trim().to_ascii_lowercase().as_str())
        };
        if self.level.split(',').all(fits) {
            Ok(self)
        } else {
            Err(document.wrong(
                "log.level",
                "must be off, error, warn, info, debug or trace, or directives such as info,signkeep=debug",
            ))
        }
    }
}
