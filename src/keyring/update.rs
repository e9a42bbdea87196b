//! UpdateKeySet, DisableKeySet, EnableKeySet, DeleteKeySet: what changes a key set and no key.

use super::change::{Decision, Entry, Verdict};
use super::repeat::{Asked, Queue};
use super::{Changed, Context, Error, InvalidField, Keyring, PolicyUpdate, Update};
use crate::audit::Action;
use crate::key::{Hold, KeySet, KeySetId, Policy, Refusal, Service, words};
use jiff::Timestamp;

impl Keyring {
    /// Changes policy or hold, as one.
    pub async fn update(
        &self,
        context: Context,
        id: KeySetId,
        update: Update,
    ) -> Result<Changed, Error> {
        let asked = Asked::new(Action::Update, &id, &update)?;
        let key_set = id.clone();
        self.once(context, &id, asked, Queue::Prompt, move |ring, job| async move {
            let set = ring.key_set(&key_set)?;
            let policy = update.policy.applied_to(&set.policy);
            if policy.rsa_bits != set.policy.rsa_bits {
                ring.supported(&set.backend, set.algorithm, &policy).await?;
            }
            let decide = |set: &KeySet, _now: Timestamp| ring.updated(set, &update);
            let changed = ring.change(&key_set, &job, decide).await?;
            ring.tell_of_slow_destruction(&changed.key_set);
            Ok(changed)
        })
        .await
    }

    /// Tells whoever reads the log that the backend keeps what it has to destroy for longer than
    /// the policy of `set` waits before it asks.
    pub(super) fn tell_of_slow_destruction(&self, set: &KeySet) {
        let Ok(backend) = self.backend(&set.backend) else {
            return;
        };
        let (window, asked) = (backend.deletion_window(), set.policy.destroy_after);
        if asked < window {
            let (asked, window) = (words(asked), words(window));
            tracing::warn!(
                key_set = %set.id, backend = %set.backend, destroy_after = asked,
                "{} deletes no key sooner than {window} after it was asked to: {asked} after its end a key of this key set is given up for deletion, and for {window} more it is there, disabled, and whoever may cancel the deletion can bring it back",
                backend.kind(),
            );
        }
    }

    /// Enables, disables or deletes. Deleting needs a disabled key set without published keys.
    pub async fn set_service(
        &self,
        context: Context,
        id: KeySetId,
        service: Service,
        reason: String,
    ) -> Result<Changed, Error> {
        let verb = match service {
            Service::Enabled => Action::Enable,
            Service::Disabled => Action::Disable,
            Service::Deleted => Action::Delete,
        };
        let key_set = id.clone();
        let asked = Asked::new(verb, &id, &reason)?;
        self.once(context, &id, asked, Queue::Prompt, move |ring, job| async move {
            ring.key_set(&key_set)?;
            let decide = |set: &KeySet, _now: Timestamp| {
                if set.service == service {
                    return Ok(Verdict::AlreadySo(None));
                }
                let after = match service {
                    Service::Deleted => set.delete()?,
                    _ => KeySet { service, ..set.clone() },
                };
                Ok(change(after, verb, reason.clone(), String::new()))
            };
            ring.change(&key_set, &job, decide).await
        })
        .await
    }

    fn updated(&self, set: &KeySet, update: &Update) -> Result<Verdict, Error> {
        if update.etag.is_some_and(|etag| etag != set.revision) {
            let current = set.current().map(|key| key.kid);
            return Err(Refusal::Changed { current }.into());
        }
        let mut policy = update.policy.applied_to(&set.policy);
        if policy != set.policy {
            policy = policy.checked(&self.0.parts.limits).map_err(|wrong| Error::Invalid {
                fields: wrong.into_iter().map(InvalidField::from).collect(),
            })?;
        }
        let mut after = set.with_policy(policy);
        after.rotation_hold = update.rotation_hold.unwrap_or(set.rotation_hold);
        if after == *set {
            return Ok(Verdict::AlreadySo(None));
        }
        let mut changes = set.policy.changes(&after.policy);
        if after.rotation_hold != set.rotation_hold {
            let hold = |hold| if hold == Hold::On { "on" } else { "off" };
            let (before, after) = (hold(set.rotation_hold), hold(after.rotation_hold));
            changes.push(format!("rotation_hold {before} to {after}"));
        }
        let detail = changes.join("; ");
        Ok(change(after, Action::Update, update.reason.clone(), detail))
    }
}

impl PolicyUpdate {
    /// The policy with these fields changed; not checked yet.
    pub fn applied_to(&self, policy: &Policy) -> Policy {
        Policy {
            propagation_delay: self.propagation_delay.unwrap_or(policy.propagation_delay),
            max_token_ttl: self.max_token_ttl.unwrap_or(policy.max_token_ttl),
            retention: self.retention.unwrap_or(policy.retention),
            rotation_period: self.rotation_period.unwrap_or(policy.rotation_period),
            destroy_after: self.destroy_after.unwrap_or(policy.destroy_after),
            rsa_bits: self.rsa_bits.unwrap_or(policy.rsa_bits),
        }
    }
}

fn change(after: KeySet, action: Action, reason: String, detail: String) -> Verdict {
    let record = Entry { action, reason, detail };
    Verdict::Change(Box::new(Decision { after, subject: None, caches_at_risk: Vec::new(), record }))
}
