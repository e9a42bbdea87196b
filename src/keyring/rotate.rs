//! Rotate: `next → current`, `current → previous`, and a fresh `next`.

use super::change::{Decision, Entry, Verdict};
use super::generate::{Brief, Fresh};
use super::repeat::{Asked, Job, Queue};
use super::{Changed, Context, Error, Keyring, Mode, Rotate};
use crate::audit::Action;
use crate::key::{Key, KeySet, PublicationLimits, State};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Keyring {
    /// Rotates a key set. The fresh key is generated first, while nothing is locked and nothing has
    /// changed; then one short change moves all three. Answers with the old current key as subject.
    pub async fn rotate(&self, mut context: Context, rotate: Rotate) -> Result<Changed, Error> {
        let id = rotate.key_set.clone();
        if rotate.mode == Mode::DryRun {
            context.request_id = None;
        }
        let asked = Asked::new(Action::Rotate, &id, &rotate)?;
        self.once(context, &id, asked, Queue::Generating, move |ring, job| async move {
            ring.key_set(&rotate.key_set)?;
            match rotate.mode {
                Mode::DryRun => {
                    let limits = &ring.0.parts.limits;
                    ring.preview(&rotate.key_set, |set, now| rotate.decide(set, now, None, limits))
                }
                Mode::Commit => ring.rotate_once(&job, &rotate).await,
            }
        })
        .await
    }

    pub(super) async fn rotate_once(&self, job: &Job, rotate: &Rotate) -> Result<Changed, Error> {
        let _turn = self.0.generating.lock(&rotate.key_set).await;
        job.in_time()?;
        let set = self.standing(&rotate.key_set)?;
        set.expect_current(rotate.expected_current)?;
        set.may_rotate(self.now(), rotate.approval)?;
        let limits = &self.0.parts.limits;
        self.generate_and(Brief::from(&*set), |fresh| async move {
            let decide = |set: &KeySet, now| rotate.decide(set, now, Some(&fresh), limits);
            self.change(&rotate.key_set, job, decide).await
        })
        .await
    }
}

impl Rotate {
    fn decide(
        &self,
        set: &KeySet,
        now: Timestamp,
        fresh: Option<&Fresh>,
        limits: &PublicationLimits,
    ) -> Result<Verdict, Error> {
        set.expect_current(self.expected_current)?;
        let fresh = fresh.map(|fresh| fresh.publish(now, &set.policy));
        let after = set.rotate(now, self.approval, fresh)?;
        Ok(Verdict::Change(Box::new(Decision {
            caches_at_risk: caches_at_risk(now, set.next().map(|key| &key.state), limits),
            subject: set.current().map(|key| key.kid),
            record: Entry {
                action: Action::Rotate,
                reason: self.reason.clone(),
                detail: format!("current {} to {}", name(set.current()), name(after.current())),
            },
            after,
        })))
    }
}

fn name(key: Option<&Arc<Key>>) -> String {
    key.map_or_else(|| "none".to_owned(), |key| key.kid.to_string())
}

/// Verifiers that do not ask again at once when they meet a kid that they do not know, and how long
/// they may stay without it, by their defaults.
const SLOW_VERIFIERS: [(&str, Duration); 4] = [
    ("jose, npm (asks again after 30 s)", Duration::from_secs(30)),
    ("express-oauth2-jwt-bearer (asks again after 30 s)", Duration::from_secs(30)),
    ("PyJWT PyJWKClient (asks again after 30 s)", Duration::from_secs(30)),
    (".NET ConfigurationManager (asks again after 5 min)", Duration::from_secs(300)),
];
/// One that never asks again before `max-age` has passed.
const PATIENT_VERIFIER: &str = "go-jwt-middleware (asks again when max-age has passed)";

/// Verifiers that may not hold a key which begins to sign at `now`, since it was published less
/// than their own waiting time ago.
pub(super) fn caches_at_risk(
    now: Timestamp,
    becoming_current: Option<&State>,
    limits: &PublicationLimits,
) -> Vec<String> {
    let Some(State::Next { published, .. }) = becoming_current else { return Vec::new() };
    let known_for = crate::key::until(*published, now);
    let patient = (PATIENT_VERIFIER, limits.max_age + limits.stale_while_revalidate);
    let slow = SLOW_VERIFIERS.iter().chain([&patient]).filter(|(_, wait)| known_for < *wait);
    slow.map(|(name, _)| (*name).to_owned()).collect()
}
