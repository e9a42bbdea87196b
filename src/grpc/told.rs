//! An error on its way to the wire, refusal or fault: a code, and the details that AIP-193 asks
//! for. Exactly one ErrorInfo stands in each, with every variable of the message repeated in its
//! metadata, so that no program has to read prose.

use super::proto::ErrorReason;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "signkeep";
const REASON_PREFIX: &str = "ERROR_REASON_";
/// The details travel in a header, and proxies allow 8 KiB of those in all.
const VIOLATIONS_MAX: usize = 16;
/// Longest piece of text in the details, in characters.
const TEXT_MAX: usize = 256;
/// Longest message, in characters.
const MESSAGE_MAX: usize = 1024;

/// An error that is being put together.
pub(super) struct Told {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl Told {
    /// An error with its code, its reason and its words.
    pub(super) fn new(code: Code, reason: ErrorReason, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: message.to_string(),
            metadata: HashMap::new(),
            details: ErrorDetails::new(),
        }
    }

    /// Puts a variable of the message into the metadata.
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), clipped(&value.to_string(), TEXT_MAX));
        self
    }

    /// Says that time mends it, and how much: RetryInfo, in whole seconds rounded up.
    pub(super) fn retry_in(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.details.set_retry_info(Some(Duration::from_secs(seconds)));
        self.with("retry_seconds", seconds)
    }

    /// Names what stands in the way: PreconditionFailure, with the reason as its type.
    pub(super) fn subject(mut self, subject: impl ToString) -> Self {
        self.details.add_precondition_failure_violation(
            name(self.reason),
            clipped(&subject.to_string(), TEXT_MAX),
            clipped(&self.message, TEXT_MAX),
        );
        self
    }

    /// Names what was asked for: ResourceInfo. `kind` is a message of the API.
    pub(super) fn resource(mut self, kind: &str, named: impl ToString) -> Self {
        self.details.set_resource_info(
            format!("{DOMAIN}.v1.{kind}"),
            clipped(&named.to_string(), TEXT_MAX),
            "",
            clipped(&self.message, TEXT_MAX),
        );
        self
    }

    /// Names a wrong field and what would be right: BadRequest. Beyond 16 fields the rest is left
    /// out.
    pub(super) fn field(mut self, field: &str, why: &str) -> Self {
        let named = self.details.bad_request();
        if named.is_none_or(|bad| bad.field_violations.len() < VIOLATIONS_MAX) {
            self.details
                .add_bad_request_violation(clipped(field, TEXT_MAX), clipped(why, TEXT_MAX));
        }
        self
    }

    /// The error as tonic sends it.
    pub(super) fn status(mut self) -> Status {
        self.details.set_error_info(name(self.reason), DOMAIN, self.metadata);
        let message = clipped(&self.message, MESSAGE_MAX);
        Status::with_error_details(self.code, message, self.details)
    }
}

/// `ErrorInfo.reason`: the name in the proto without its prefix.
pub(super) fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(REASON_PREFIX).unwrap_or(name)
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", text.split_at(at).0),
        None => text.to_owned(),
    }
}
