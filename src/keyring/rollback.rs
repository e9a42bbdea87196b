//! Rollback: undoes a Rotate, if that was the last change of key state, and holds rotation.

use super::change::{Decision, Entry, Verdict};
use super::repeat::{Asked, Queue};
use super::{Changed, Context, Error, Keyring, Mode, Rollback};
use crate::audit::Action;
use crate::key::KeySet;
use jiff::Timestamp;

impl Keyring {
    /// Rolls a key set back. Answers with the key that stops signing as subject.
    pub async fn roll_back(
        &self,
        mut context: Context,
        rollback: Rollback,
    ) -> Result<Changed, Error> {
        let id = rollback.key_set.clone();
        if rollback.mode == Mode::DryRun {
            context.request_id = None;
        }
        let asked = Asked::new(Action::Rollback, &id, &rollback)?;
        self.once(context, &id, asked, Queue::Prompt, move |ring, job| async move {
            ring.key_set(&rollback.key_set)?;
            let decide = |set: &KeySet, now| rollback.decide(set, now);
            ring.change_or_preview(&rollback.key_set, &job, rollback.mode, decide).await
        })
        .await
    }
}

impl Rollback {
    fn decide(&self, set: &KeySet, now: Timestamp) -> Result<Verdict, Error> {
        set.expect_current(self.expected_current)?;
        let after = set.roll_back(now)?;
        let reinstated = after.current().map(|key| format!("current is again {}", key.kid));
        Ok(Verdict::Change(Box::new(Decision {
            after,
            subject: set.current().map(|key| key.kid),
            caches_at_risk: Vec::new(),
            record: Entry {
                action: Action::Rollback,
                reason: self.reason.clone(),
                detail: reinstated.unwrap_or_default(),
            },
        })))
    }
}
