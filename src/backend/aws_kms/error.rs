//! What KMS answers when it does not do as asked, sorted by what to do next.
//!
//! Codes are matched by name: some of the most common, throttling and denial among them, are not
//! modelled by the SDK. What is not known is sorted by its HTTP status.

use crate::backend::{Error, Kind, Outcome};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use std::error::Error as StdError;
use std::time::Duration;

/// Characters of an error's words that are kept.
const WORDS_MAX: usize = 400;

/// What is to be done about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// KMS says slow down.
    Throttled,
    /// Our own rate, queue or deadline leaves no room for the call: it was not made.
    NoRoom,
    /// KMS is out, or was not reached, or said that it failed: again later.
    Passing,
    /// The circuit is open: the call was not made.
    Open,
    /// The caller's deadline came first.
    Late,
    /// An answer that cannot be read.
    Garbage,
    /// We may not do that.
    Denied,
    /// KMS does not know us, or there are no credentials.
    Unknown,
    /// The key is disabled, being deleted, or not ready; DescribeKey says which.
    State,
    /// There is no such key or alias, or none is visible yet.
    NotFound,
    /// There is one already.
    Exists,
    /// Not offered in this region or by this emulator.
    Unsupported,
    /// The account has as many as it may have.
    Quota,
    /// The key policy of the settings is none, or would shut its author out.
    Policy,
    /// A DryRun that would have succeeded.
    DryRun,
    /// KMS calls the request wrong: a fault of ours, or of a setting.
    Wrong,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) op: &'static str,
    pub(super) words: String,
    pub(super) outcome: Outcome,
}

impl Fault {
    /// A failure after which it is certain that nothing was done.
    pub(super) fn new(class: Class, op: &'static str, words: impl Into<String>) -> Self {
        Self { class, op, words: words.into(), outcome: Outcome::Nothing }
    }

    /// No answer came in time.
    pub(super) fn silent(class: Class, op: &'static str, waited: Duration) -> Self {
        Self {
            class,
            op,
            words: format!("KMS did not answer within {} ms", waited.as_millis()),
            outcome: Outcome::Unknown,
        }
    }

    /// What the SDK reports.
    pub(super) fn from_sdk<E>(op: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let unknown = |class, words: String| Self { class, op, words, outcome: Outcome::Unknown };
        match &error {
            SdkError::ConstructionFailure(_) => {
                let words = chain(&error);
                Self::new(without_credentials(&words).unwrap_or(Class::Wrong), op, words)
            }
            SdkError::TimeoutError(_) => {
                unknown(Class::Passing, "KMS did not answer in time".into())
            }
            SdkError::DispatchFailure(failure) => {
                let words = chain(&error);
                match without_credentials(&words) {
                    Some(class) if !failure.is_io() && !failure.is_timeout() => {
                        Self::new(class, op, words)
                    }
                    _ => unknown(Class::Passing, words),
                }
            }
            SdkError::ResponseError(answer) => {
                let class = match answer.raw().status().as_u16() {
                    200..=299 => Class::Garbage,
                    _ => Class::Passing,
                };
                unknown(class, format!("KMS answered with what cannot be read: {}", chain(&error)))
            }
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                let code = answer.err().code().unwrap_or_default();
                let (class, outcome) = sort(code, status);
                let said = answer.err().message().unwrap_or("no words");
                let name = if code.is_empty() { "an error without a code" } else { code };
                let words = clipped(&format!("{name} (HTTP {status}): {said}"));
                Self { class, op, words, outcome }
            }
            _ => unknown(Class::Passing, chain(&error)),
        }
    }

    /// Whether KMS, or something in its place, has answered at all and is not failing.
    pub(super) const fn is_answer(&self) -> bool {
        !matches!(
            self.class,
            Class::Passing | Class::Garbage | Class::NoRoom | Class::Open | Class::Late
        )
    }

    /// Whether the same call may go well a moment later.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self.class, Class::Passing | Class::Throttled | Class::Garbage)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault.class {
            Class::Throttled | Class::NoRoom => Kind::Throttled,
            Class::Passing | Class::Open | Class::Garbage => Kind::Unavailable,
            Class::Late => Kind::Late,
            Class::Denied | Class::Unknown | Class::State | Class::Quota | Class::Policy => {
                Kind::Denied
            }
            Class::NotFound => Kind::NotFound,
            Class::Unsupported => Kind::Unsupported,
            Class::Exists | Class::DryRun | Class::Wrong => Kind::Inconsistent,
        };
        Self { kind, op: fault.op, message: fault.words, outcome: fault.outcome }
    }
}

/// What an error code of KMS means, and whether something may have been done all the same.
fn sort(code: &str, status: u16) -> (Class, Outcome) {
    let class = match code {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown" => Class::Throttled,
        "LimitExceededException" => Class::Quota,
        "MalformedPolicyDocumentException" => Class::Policy,
        "KMSInternalException"
        | "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalError"
        | "InternalServerError"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Class::Passing,
        "NotFoundException" => Class::NotFound,
        "DisabledException" | "KMSInvalidStateException" => Class::State,
        "AlreadyExistsException" => Class::Exists,
        "UnsupportedOperationException" => Class::Unsupported,
        "DryRunOperationException" => Class::DryRun,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "OptInRequired" => {
            Class::Denied
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => Class::Unknown,
        _ => match status {
            429 => Class::Throttled,
            500.. => Class::Passing,
            401 | 403 => Class::Denied,
            200..=299 => Class::Garbage,
            _ => Class::Wrong,
        },
    };
    let outcome = match class {
        Class::Passing | Class::Garbage => Outcome::Unknown,
        _ => Outcome::Nothing,
    };
    (class, outcome)
}

fn without_credentials(words: &str) -> Option<Class> {
    words.to_ascii_lowercase().contains("credential").then_some(Class::Unknown)
}

/// An error with its causes, for the log.
fn chain(error: &dyn StdError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    clipped(&words)
}

fn clipped(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_sorted_by_what_to_do_next() {
        for (code, status, class) in [
            ("ThrottlingException", 400, Class::Throttled),
            ("ThrottlingException", 503, Class::Throttled),
            ("LimitExceededException", 400, Class::Quota),
            ("MalformedPolicyDocumentException", 400, Class::Policy),
            ("KMSInternalException", 500, Class::Passing),
            ("DependencyTimeoutException", 503, Class::Passing),
            ("", 503, Class::Passing),
            ("", 429, Class::Throttled),
            ("NotFoundException", 400, Class::NotFound),
            ("DisabledException", 400, Class::State),
            ("KMSInvalidStateException", 400, Class::State),
            ("AccessDeniedException", 400, Class::Denied),
            ("ExpiredTokenException", 400, Class::Unknown),
            ("ValidationException", 400, Class::Wrong),
            ("", 200, Class::Garbage),
        ] {
            assert_eq!(sort(code, status).0, class, "{code} {status}");
        }
    }

    #[test]
    fn only_a_failure_of_kms_leaves_the_outcome_open() {
        assert_eq!(sort("ThrottlingException", 400).1, Outcome::Nothing);
        assert_eq!(sort("AccessDeniedException", 400).1, Outcome::Nothing);
        assert_eq!(sort("KMSInternalException", 500).1, Outcome::Unknown);
    }
}
