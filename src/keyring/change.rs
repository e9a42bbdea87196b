//! One change of one key set: decide, commit, publish.

use super::repeat::Job;
use super::snapshot::Line;
use super::{Barrier, Changed, Error, Event, Keyring, Mode};
use crate::audit::{self, Action, Origin, Record};
use crate::key::{KeySet, KeySetId, Kid, Missing, Refusal, Service};
use crate::store::{self, Change, Outcome};
use jiff::Timestamp;
use std::sync::Arc;

/// Times that a change is thought out anew because somebody else changed the key set.
const ATTEMPTS_MAX: usize = 5;

/// What a change is to become, decided on the key set as it stands.
pub(super) struct Decision {
    pub(super) after: KeySet,
    pub(super) subject: Option<Kid>,
    pub(super) caches_at_risk: Vec<String>,
    pub(super) record: Entry,
}

/// What the audit record says of a change.
pub(super) struct Entry {
    pub(super) action: Action,
    pub(super) reason: String,
    pub(super) detail: String,
}

/// What was decided about the key set as it stands.
pub(super) enum Verdict {
    /// Change it.
    Change(Box<Decision>),
    /// It is already so.
    AlreadySo(Option<Kid>),
}

impl Keyring {
    /// Carries out what `decide` makes of the key set as it stands; decides anew if somebody else
    /// changes it in between. When this returns success, every signature that is still to be
    /// released and every JWKS that is still to be served sees the change.
    pub(super) async fn change(
        &self,
        id: &KeySetId,
        job: &Job,
        decide: impl Fn(&KeySet, Timestamp) -> Result<Verdict, Error> + Send + Sync,
    ) -> Result<Changed, Error> {
        let _changing = self.0.changing.lock().await;
        self.reload_if_in_doubt().await?;
        for _ in 0..ATTEMPTS_MAX {
            let (before, now) = (self.set_even_deleted(id)?, self.now());
            let decision = match decide(&before, now)? {
                Verdict::Change(decision) => decision,
                Verdict::AlreadySo(kid) => {
                    job.in_time()?;
                    if let Some(answer) = job.answer(now, &before, kid, &[])? {
                        self.store().keep_answer(&answer).await.map_err(Error::Store)?;
                    }
                    return Ok(told(before, kid, Vec::new()));
                }
            };
            let Decision { after, subject, caches_at_risk, record } = *decision;
            match self.commit(job, Some(before), after, subject, &caches_at_risk, record).await {
                Ok(set) => return Ok(told(set, subject, caches_at_risk)),
                Err(Error::Store(error)) if error.kind == store::Kind::Conflict => {
                    self.reload().await?;
                }
                Err(error) => return Err(error),
            }
        }
        let current = self.set_even_deleted(id)?.current().map(|key| key.kid);
        Err(Refusal::Changed { current }.into())
    }

    /// Says what `decide` would make of the key set as it stands, and changes nothing.
    pub(super) fn preview(
        &self,
        id: &KeySetId,
        decide: impl Fn(&KeySet, Timestamp) -> Result<Verdict, Error>,
    ) -> Result<Changed, Error> {
        let (before, now) = (self.key_set(id)?, self.now());
        Ok(match decide(&before, now)? {
            Verdict::Change(decision) => {
                let Decision { after, subject, caches_at_risk, .. } = *decision;
                told(Arc::new(after), subject, caches_at_risk)
            }
            Verdict::AlreadySo(kid) => told(before, kid, Vec::new()),
        })
    }

    /// Either of the two.
    pub(super) async fn change_or_preview(
        &self,
        id: &KeySetId,
        job: &Job,
        mode: Mode,
        decide: impl Fn(&KeySet, Timestamp) -> Result<Verdict, Error> + Send + Sync,
    ) -> Result<Changed, Error> {
        match mode {
            Mode::Commit => self.change(id, job, decide).await,
            Mode::DryRun => self.preview(id, decide),
        }
    }

    /// The one place that writes to the store what a key set becomes; publishes it if it was
    /// written. The caller holds `changing`.
    pub(super) async fn commit(
        &self,
        job: &Job,
        before: Option<Arc<KeySet>>,
        mut after: KeySet,
        subject: Option<Kid>,
        caches_at_risk: &[String],
        Entry { action, reason, detail }: Entry,
    ) -> Result<Arc<KeySet>, Error> {
        let now = self.now();
        let answer = job.answer(now, &after, subject, caches_at_risk)?;
        let record = Record {
            key_set: Some(after.id.clone()),
            kid: subject,
            reason,
            detail,
            ..Record::new(now, &job.origin, action)
        };
        let change = Change { before, after: after.clone(), record, answer };
        job.begin_commit()?;
        // From here on, and whatever becomes of us, the store may say more than we know.
        self.0.doubt.begin();
        match self.store().commit(&change).await {
            Ok(revision) => {
                job.committed();
                after.revision = revision;
                let set = self.publish(after);
                self.0.doubt.end();
                self.0.parts.recorder.changed(&change.record);
                self.tell(&set, action, job, subject);
                Ok(set)
            }
            Err(error) => {
                match error.outcome {
                    Outcome::Unknown => self.wake(),
                    Outcome::Nothing => {
                        self.0.doubt.end();
                        job.not_committed();
                    }
                }
                Err(match error.kind {
                    store::Kind::KeySetExists => Error::KeySetExists { id: change.after.id },
                    store::Kind::PublicKeyInUse => Error::PublicKeyInUse,
                    store::Kind::RequestAnswered => Error::RequestIdReused,
                    _ => Error::Store(error),
                })
            }
        }
    }

    fn tell(&self, set: &KeySet, action: Action, job: &Job, subject: Option<Kid>) {
        self.0.parts.metrics.changed(&set.id, action);
        let (caller, request) = (&*job.origin.caller, &*job.origin.request);
        let kid = subject.map(tracing::field::display);
        let (key_set, action, revision) = (&set.id, action.as_str(), set.revision);
        tracing::info!(%key_set, action, caller, request, kid, revision, "key set changed");
        let missing = set.missing();
        if set.service == Service::Enabled && missing.any() {
            let Missing { current, next } = missing;
            tracing::error!(%key_set, lacks_current = current, lacks_next = next, "the key set is incomplete; what it lacks is generated as soon as its backend can");
        }
    }

    /// Takes note, in the record, of something that was asked and not done. Such things are counted
    /// with their like, since nothing bounds how often they happen.
    pub(super) fn not_done(
        &self,
        origin: &Origin,
        action: Action,
        id: &KeySetId,
        error: Error,
    ) -> Error {
        let refusal = error.is_refusal();
        self.0.parts.recorder.refused(Record {
            key_set: Some(id.clone()),
            outcome: if refusal { audit::Outcome::Refused } else { audit::Outcome::Failed },
            reason: error.reason().to_owned(),
            detail: if refusal { error.to_string() } else { String::new() },
            ..Record::new(self.now(), origin, action)
        });
        error
    }

    /// Makes the store's word ours: after a conflict, and when it is not known whether a commit was
    /// carried out. The caller holds `changing`.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        self.store().settle().await.map_err(Error::Store)?;
        let mut image = self.store().load().await.map_err(Error::Store)?;
        // In the order in which they were made, so that a watcher misses none.
        image.key_sets.sort_by_key(|set| set.revision);
        let known = self.0.snapshot.load_full();
        let mut gone = known.lines.clone();
        for set in image.key_sets {
            let before = gone.remove(&set.id);
            if before.as_ref().is_none_or(|line| line.set.revision != set.revision) {
                let after = self.publish(set);
                self.disable_in_passing(before.map(|line| Arc::clone(&line.set)), after);
            }
        }
        for line in gone.into_values().filter(|line| line.set.service != Service::Deleted) {
            let set = KeySet::clone(&line.set);
            let revision = image.revision;
            self.publish(KeySet { service: Service::Deleted, keys: Vec::new(), revision, ..set });
        }
        self.0.doubt.end();
        Ok(())
    }

    /// Keys that turn out to have been revoked are disabled too.
    fn disable_in_passing(&self, before: Option<Arc<KeySet>>, after: Arc<KeySet>) {
        let Some(before) = before else { return };
        let ring = self.clone();
        tokio::spawn(async move { ring.disable_revoked(&before, &after).await });
    }

    /// Swaps the snapshot and tells the watchers. The caller holds `changing`.
    fn publish(&self, set: KeySet) -> Arc<KeySet> {
        let line = Line::new(set, &self.0.parts.backends);
        let set = Arc::clone(&line.set);
        let snapshot = self.0.snapshot.load().with(line);
        let event = Event {
            key_sets: vec![Arc::clone(&set)],
            revision: snapshot.revision,
            snapshot: false,
        };
        self.0.snapshot.store(Arc::new(snapshot));
        // That nobody is watching is no error.
        drop(self.0.events.send(event));
        self.wake();
        set
    }

    /// The key set as it stands, deleted ones included: their material is still to be destroyed.
    fn set_even_deleted(&self, id: &KeySetId) -> Result<Arc<KeySet>, Error> {
        let snapshot = self.0.snapshot.load();
        let line = snapshot.lines.get(id).map(|line| Arc::clone(&line.set));
        line.ok_or_else(|| Error::KeySetNotFound { id: id.to_string() })
    }
}

fn told(key_set: Arc<KeySet>, subject: Option<Kid>, caches_at_risk: Vec<String>) -> Changed {
    let subject = subject.and_then(|kid| key_set.key(&kid).cloned());
    let barrier = Barrier::all(key_set.revision);
    Changed { key_set, subject, replayed: false, barrier, caches_at_risk }
}
