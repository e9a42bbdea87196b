//! Revoke: withdraws one key, at once. It never waits for generation: what is then missing makes
//! the key set incomplete, and the rotator mends it as soon as the backend can.

use super::change::{Decision, Entry, Verdict};
use super::repeat::{Asked, Queue};
use super::rotate::caches_at_risk;
use super::{Changed, Context, Error, InvalidField, Keyring, Mode, Revoke};
use crate::audit::Action;
use crate::key::{Emergency, KeySet, Kid, PublicationLimits, Refusal, StateName};
use jiff::Timestamp;

impl Keyring {
    /// Revokes a key. Answers with that key as subject.
    pub async fn revoke(&self, mut context: Context, revoke: Revoke) -> Result<Changed, Error> {
        let id = revoke.key_set.clone();
        if revoke.mode == Mode::DryRun {
            context.request_id = None;
        }
        let asked = Asked::new(Action::Revoke, &id, &revoke)?;
        self.once(context, &id, asked, Queue::Prompt, move |ring, job| async move {
            ring.key_set(&revoke.key_set)?;
            let limits = ring.0.parts.limits;
            let decide = |set: &KeySet, now| revoke.decide(set, now, &limits);
            ring.not_destroyed(&revoke).await?;
            let before = ring.key_set(&revoke.key_set)?;
            let changed =
                ring.change_or_preview(&revoke.key_set, &job, revoke.mode, decide).await?;
            if revoke.mode == Mode::Commit {
                ring.disable_revoked(&before, &changed.key_set).await;
            }
            Ok(changed)
        })
        .await
    }

    /// A destroyed key is no longer in memory; it is refused in other words than an unknown one.
    async fn not_destroyed(&self, revoke: &Revoke) -> Result<(), Error> {
        let kid = revoke.kid;
        if self.key_set(&revoke.key_set)?.key(&kid).is_some() {
            return Ok(());
        }
        match self.store().key(&revoke.key_set, &kid).await.map_err(Error::Store)? {
            Some(key) if key.state.name() == StateName::Destroyed => {
                Err(Refusal::KeyDestroyed { kid }.into())
            }
            _ => Err(Refusal::KeyNotFound { kid }.into()),
        }
    }

    pub(super) async fn disable_revoked(&self, before: &KeySet, after: &KeySet) {
        let was = |kid: &Kid| before.key(kid).map(|key| key.state.name());
        for key in &after.keys {
            if key.state.name() == StateName::Revoked && was(&key.kid) != Some(StateName::Revoked) {
                self.disable(key).await;
            }
        }
    }
}

impl Revoke {
    fn decide(
        &self,
        set: &KeySet,
        now: Timestamp,
        limits: &PublicationLimits,
    ) -> Result<Verdict, Error> {
        self.fits(set)?;
        let after = set.revoke(now, self.kid, self.emergency, self.approval, &self.reason)?;
        let Some(after) = after else { return Ok(Verdict::AlreadySo(Some(self.kid))) };
        let promoted =
            set.next().filter(|next| after.current().map(|key| key.kid) == Some(next.kid));
        let caches_at_risk = caches_at_risk(now, promoted.map(|key| &key.state), limits);
        let reason = self.reason.clone();
        let detail = match (self.emergency, promoted) {
            (Emergency::No, _) => String::new(),
            (_, Some(next)) => format!("emergency; current is now {}", next.kid),
            (_, None) => "emergency; no key is current until one is generated".to_owned(),
        };
        Ok(Verdict::Change(Box::new(Decision {
            after,
            subject: Some(self.kid),
            caches_at_risk,
            record: Entry { action: Action::Revoke, reason, detail },
        })))
    }

    /// Refuses `replace_next` for a key in whose revocation the next key has no part: nothing is
    /// to be left out in silence.
    fn fits(&self, set: &KeySet) -> Result<(), Error> {
        let state = set.key(&self.kid).map(|key| key.state.name());
        let apart =
            matches!(state, Some(StateName::Next | StateName::Previous | StateName::Retired));
        if self.emergency == Emergency::ReplaceNext && apart {
            let field = "replace_next".to_owned();
            let why = "goes with the current key only; revoke that one, or leave replace_next out";
            return Err(Error::Invalid {
                fields: vec![InvalidField { field, why: why.to_owned() }],
            });
        }
        Ok(())
    }
}
