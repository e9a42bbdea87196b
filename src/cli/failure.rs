//! What the command line says when something did not work: what happened, the reason, what to do.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output;
use crate::config;

/// How a command ends, as `--help` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done,
    /// It was refused, or failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The service cannot be reached.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
    }
}

/// Why a command did not do as it was asked, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What happened.
    pub what: String,
    /// The service's reason, e.g. `KEY_NOT_FOUND`.
    pub reason: Option<String>,
    /// What to do, a sentence each.
    pub mend: Vec<String>,
}

impl Failure {
    /// Something failed here.
    pub fn new(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), reason: None, mend: Vec::new() }
    }

    /// The command line asks for something that cannot be.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what) }
    }

    /// Nothing answers at `server`.
    pub fn unreachable(server: &str, why: &str) -> Self {
        Self::unreachable_by("--server", server, why)
    }

    /// Nothing answers at `server`, which the option `option` names.
    pub fn unreachable_by(option: &str, server: &str, why: &str) -> Self {
        Self {
            exit: Exit::Unreachable,
            ..Self::new(format!("no service answers at {server}: {why}"))
        }
        .mend(format!(
            "start one with `signkeep dev` or `signkeep serve`, or name another with {option}"
        ))
    }

    /// The same with one more thing to do.
    #[must_use]
    pub fn mend(mut self, what: impl Into<String>) -> Self {
        self.mend.push(what.into());
        self
    }

    /// The same with what to do about it in the key set that was spoken of.
    #[must_use]
    pub fn of(self, key_set: &str) -> Self {
        match self.reason.as_deref().and_then(|reason| advice_for(key_set, reason)) {
            Some(advice) => self.mend(advice),
            None => self,
        }
    }

    /// Says it on standard error.
    pub fn print(&self) {
        let mut lines = vec![format!("error: {}", self.what)];
        lines.extend(self.reason.iter().map(|reason| format!("reason: {reason}")));
        lines.extend(self.mend.iter().map(|mend| format!("to do: {mend}")));
        for line in lines {
            output::note(&line);
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason = info.map(|info| info.reason.clone());
        let mut failure = Self::new(match status.message() {
            "" => format!("the service answered {}", name(status.code())),
            message => message.to_owned(),
        });
        for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
            if !failure.what.contains(&violation.description) {
                failure
                    .what
                    .push_str(&format!("\n  {}: {}", violation.field, violation.description));
            }
        }
        let wait = details.retry_info().and_then(|retry| retry.retry_delay);
        let metadata = |key: &str| info.and_then(|info| info.metadata.get(key));
        let kid = metadata("kid").map(String::as_str);
        if let Some(advice) = advice(reason.as_deref(), kid, wait) {
            failure.mend.push(advice);
        }
        if metadata("committed").is_some_and(|committed| committed == "true") {
            failure.mend.push(
                "the change was made; repeat with the same --request-id to see it confirmed"
                    .to_owned(),
            );
        }
        if let Some(request) = metadata("request_id") {
            failure.mend.push(format!("the service's log has more under request {request}"));
        }
        if let Some(cause) = status.source().filter(|_| reason.is_none()) {
            failure.what = format!("the connection broke off: {}", innermost(cause));
            failure.exit = Exit::Unreachable;
            failure.mend.push(
                "if the service wants a certificate, show one that it takes with --cert-file and --key-file; its log says what was wrong with the one that it saw".to_owned(),
            );
            failure.mend.push(
                "if it is another port of the service, name the gRPC one with --server".to_owned(),
            );
        }
        if reason.is_none() && status.code() == Code::Unavailable {
            failure.exit = Exit::Unreachable;
        }
        failure.reason = Some(reason.unwrap_or_else(|| name(status.code()).to_owned()));
        failure
    }
}

/// What mends a refusal, by its reason.
fn advice(reason: Option<&str>, kid: Option<&str>, wait: Option<Duration>) -> Option<String> {
    let after = wait.map(|wait| format!("in {}", config::words(round(wait))));
    let later = |then: &str| match &after {
        Some(after) => format!("try again {after}{then}"),
        None => format!("try again later{then}"),
    };
    Some(match reason? {
        "KEY_SET_NOT_FOUND" => "`signkeep key-sets list` shows what there is".to_owned(),
        // Force does not help where there is no next key yet; that refusal names no key.
        "NEXT_KEY_NOT_PROPAGATED" if kid.is_none() => later(""),
        "NEXT_KEY_NOT_PROPAGATED" | "TOKENS_STILL_VALID" => {
            later(", or use --force with a --reason and accept what verifiers will see")
        }
        "CURRENT_KEY" => {
            "rotate first, or use --emergency with a --reason: the next key takes over at once"
                .to_owned()
        }
        "NOTHING_TO_ROLL_BACK" => {
            "only a rotation that was the last change can be rolled back; rotate or revoke instead"
                .to_owned()
        }
        "DIGEST_LENGTH" => {
            "hash with the algorithm's own function, e.g. SHA-256 for ES256; or leave out --digest"
                .to_owned()
        }
        "CALLER_NOT_ALLOWED" => {
            "whoever keeps the service's policy can give the role; `signkeep policy explain` says what is missing"
                .to_owned()
        }
        "INVALID_REQUEST" => "correct what is named, then try again".to_owned(),
        "CALLER_UNKNOWN" => {
            "show who you are with --cert-file and --key-file, or with --token-file".to_owned()
        }
        "REQUEST_ID_REUSED" => "choose another --request-id".to_owned(),
        "BACKEND_UNAVAILABLE" | "STORE_UNAVAILABLE" | "AUDIT_UNAVAILABLE" => {
            format!("{}; `signkeep doctor` finds out what is wrong", later(""))
        }
        "LEASE_EXPIRED" | "NO_CURRENT_KEY" | "OVERLOADED" | "RATE_LIMITED" | "SHUTTING_DOWN"
        | "WATCH_LAGGED" => later(""),
        "DEADLINE_EXCEEDED" => "try again, or allow more with --timeout".to_owned(),
        "MESSAGE_TOO_LARGE" => "hash the message and sign the digest with --digest".to_owned(),
        _ => return after.map(|after| format!("try again {after}")),
    })
}

/// What mends a refusal in one key set, by its reason.
fn advice_for(key_set: &str, reason: &str) -> Option<String> {
    Some(match reason {
        "KEY_NOT_FOUND" => {
            format!("`signkeep keys list --all --key-set {key_set}` shows every key of the key set")
        }
        "KEY_SET_CHANGED" => {
            format!("look at `signkeep keys list --key-set {key_set}` and decide again")
        }
        "ROTATION_HOLD" => format!(
            "lift the hold with `signkeep key-sets update {key_set} --rotation-hold off`; the key that was rolled back may sign again then"
        ),
        "KEY_SET_DISABLED" => {
            format!("`signkeep key-sets enable {key_set}` lets it sign again")
        }
        "KEY_SET_IN_USE" => format!(
            "`signkeep key-sets disable {key_set}`, then revoke every key that is neither retired nor revoked"
        ),
        _ => return None,
    })
}

/// The innermost cause: "Connection refused" says more than "transport error".
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn round(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_says_what_why_and_what_to_do() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info(
                "NEXT_KEY_NOT_PROPAGATED",
                "signkeep",
                [("kid".to_owned(), "young".to_owned())],
            )
            .set_retry_info(Some(Duration::from_millis(851_200)));
        let status = Status::with_error_details(
            Code::FailedPrecondition,
            "verifiers may not hold the next key yet",
            details,
        );
        let failure = Failure::from(status);
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.what, "verifiers may not hold the next key yet");
        assert_eq!(failure.reason.as_deref(), Some("NEXT_KEY_NOT_PROPAGATED"));
        let mend = failure.mend.join(" ");
        assert!(mend.contains("14m12s") && mend.contains("--force"), "{mend}");
    }

    #[test]
    fn force_is_not_advised_where_there_is_no_next_key() {
        let mut details = ErrorDetails::new();
        details.set_error_info("NEXT_KEY_NOT_PROPAGATED", "signkeep", []);
        let status = Status::with_error_details(Code::FailedPrecondition, "no next key", details);
        let mend = Failure::from(status).mend.join(" ");
        assert!(mend.contains("try again later") && !mend.contains("--force"), "{mend}");
    }

    #[test]
    fn advice_names_the_key_set_that_was_spoken_of() {
        for (reason, advice) in [
            ("ROTATION_HOLD", "`signkeep key-sets update payments --rotation-hold off`"),
            ("KEY_SET_DISABLED", "`signkeep key-sets enable payments`"),
            ("KEY_SET_IN_USE", "`signkeep key-sets disable payments`"),
            ("KEY_NOT_FOUND", "`signkeep keys list --all --key-set payments`"),
            ("KEY_SET_CHANGED", "`signkeep keys list --key-set payments`"),
        ] {
            let mut details = ErrorDetails::new();
            details.set_error_info(reason, "signkeep", []);
            let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
            let mend = Failure::from(status).of("payments").mend.join(" ");
            assert!(mend.contains(advice), "{reason}: {mend}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_REQUEST", "signkeep", [])
            .add_bad_request_violation("key_set", "must be a name")
            .add_bad_request_violation("page_size", "must not be negative");
        let status = Status::with_error_details(Code::InvalidArgument, "malformed", details);
        let what = Failure::from(status).what;
        assert!(what.contains("key_set: must be a name"), "{what}");
        assert!(what.contains("page_size: must not be negative"), "{what}");
    }

    #[test]
    fn a_service_that_is_not_there_has_its_own_exit_code() {
        let bare = Failure::from(Status::unavailable("connection refused"));
        assert_eq!(bare.exit, Exit::Unreachable);
        let mut details = ErrorDetails::new();
        details.set_error_info("BACKEND_UNAVAILABLE", "signkeep", []);
        let answered = Status::with_error_details(Code::Unavailable, "the HSM is out", details);
        assert_eq!(Failure::from(answered).exit, Exit::Failed);
    }

    #[test]
    fn an_empty_message_is_replaced_by_the_code() {
        let failure = Failure::from(Status::new(Code::DataLoss, ""));
        assert_eq!(failure.what, "the service answered DATA_LOSS");
    }
}
