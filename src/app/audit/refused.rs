//! Calls that were not let through, on their way into the record.

use crate::access;
use crate::audit::{Action, Outcome, Record, Recorder};
use crate::clock::Clock;
use crate::grpc::{Refusal, Refusals};
use std::sync::Arc;

/// Hands refusals to the recorder, which counts them so that nobody can flood the record.
pub(crate) struct Noticed {
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl Noticed {
    pub(crate) const fn new(recorder: Recorder, clock: Arc<dyn Clock>) -> Self {
        Self { recorder, clock }
    }
}

impl Refusals for Noticed {
    fn refused(&self, refusal: &Refusal<'_>) {
        let action = refusal.action.map_or(Action::View, recorded);
        self.recorder.refused(Record {
            key_set: refusal.key_set.cloned(),
            outcome: Outcome::Refused,
            reason: refusal.reason.to_owned(),
            ..Record::new(self.clock.now(), refusal.origin, action)
        });
    }
}

/// What the record calls it. Whoever is not known has looked, whatever else was wanted; and a hold
/// is set and lifted by UpdateKeySet.
const fn recorded(action: access::Action) -> Action {
    match action {
        access::Action::View => Action::View,
        access::Action::Sign => Action::Sign,
        access::Action::SignJwt => Action::SignJwt,
        access::Action::Rotate => Action::Rotate,
        access::Action::Revoke => Action::Revoke,
        access::Action::Rollback => Action::Rollback,
        access::Action::Hold | access::Action::Update => Action::Update,
        access::Action::Create => Action::Create,
        access::Action::Disable => Action::Disable,
        access::Action::Enable => Action::Enable,
        access::Action::Delete => Action::Delete,
    }
}
