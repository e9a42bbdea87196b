//! Ending a key: disabled at once, given up for deletion later, and both seen to.
//!
//! A call may be lost after KMS has carried it out, and what it has done may show late; so each is
//! repeated, and its effect read back. Nothing is done to a key that does not carry our tags.

use super::birth::{PAUSE_MAX, PAUSE_MIN};
use super::calls::{Shared, Tries, jittered};
use super::client::{Described, State};
use super::error::{Class, Fault};
use super::memory::{Birth, Fate};
use crate::backend::{Error, KeyRef, Kind, ObjectRef};
use crate::key::MaterialId;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long KMS keeps a key that is to be deleted: the least that AWS allows.
const WINDOW_DAYS: i32 = 7;
pub(super) const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Signs,
    Disabled,
    Gone,
}

impl Shared {
    /// Stops a key from signing, and sees to it that KMS has seen it.
    pub(super) async fn disable(&self, key: &KeyRef, by: Instant) -> Result<(), Error> {
        self.memory.ends(key.material, Fate::Disabled, Instant::now());
        let arn = key.object.as_str();
        if self.settled(arn, by).await? != Settled::Signs {
            return Ok(());
        }
        self.owned(arn, key.material, by).await?;
        let disable = || self.client.disable(arn);
        let disabled = self.call("DisableKey", &self.ends, Tries::Again, by, disable).await;
        match disabled {
            Ok(()) => {}
            // Being deleted, or disabled by a call whose answer was lost: the state says.
            Err(fault) if fault.class == Class::State => {}
            Err(fault) => return Err(Error::from(fault)),
        }
        let mut pause = PAUSE_MIN;
        let until = by.min(Instant::now() + self.settings.patience);
        while self.settled(arn, by).await? == Settled::Signs {
            let wait = jittered(pause);
            if Instant::now() + wait >= until {
                let message = format!("KMS still says that {arn} signs; it will be asked again");
                return Err(Error::new(Kind::Unavailable, "DisableKey", message).outcome_unknown());
            }
            sleep(wait).await;
            pause = (pause + pause / 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Has the deletion of a key scheduled; with no `object`, of every key of that id that can be
    /// found, and it takes time to be sure that there is none.
    pub(super) async fn destroy(
        &self,
        material: MaterialId,
        object: Option<&ObjectRef>,
        by: Instant,
    ) -> Result<(), Error> {
        self.memory.ends(material, Fate::Disabled, Instant::now());
        if let Some(object) = object {
            self.schedule(object.as_str(), material, by).await?;
            self.memory.ends(material, Fate::Destroyed, Instant::now());
            return Ok(());
        }
        match self.memory.birth(material) {
            Some(Birth::Not) => return Ok(()),
            Some(Birth::Made(arn)) => {
                self.schedule(&arn, material, by).await?;
                self.memory.ends(material, Fate::Destroyed, Instant::now());
                return Ok(());
            }
            Some(Birth::Perhaps) | None => {}
        }
        let mut arns: Vec<String> =
            self.by_alias(material, by).await?.map(|found| found.arn).into_iter().collect();
        if arns.is_empty() {
            let ours = self.scan(by).await?;
            let meant = ours.into_iter().filter(|found| found.label.material == Some(material));
            arns.extend(meant.map(|found| found.arn));
        }
        if arns.is_empty() {
            self.is_absent(material, "ScheduleKeyDeletion")?;
        }
        for arn in &arns {
            self.schedule(arn, material, by).await?;
        }
        self.memory.ends(material, Fate::Destroyed, Instant::now());
        Ok(())
    }

    async fn schedule(&self, arn: &str, material: MaterialId, by: Instant) -> Result<(), Error> {
        if self.settled(arn, by).await? == Settled::Gone {
            return Ok(());
        }
        self.owned(arn, material, by).await?;
        let schedule = || self.client.schedule_deletion(arn, WINDOW_DAYS);
        let scheduled =
            self.call("ScheduleKeyDeletion", &self.ends, Tries::Again, by, schedule).await;
        match scheduled {
            Ok(()) => {}
            // A repeated call, or somebody else's: the state says.
            Err(fault) if matches!(fault.class, Class::State | Class::NotFound) => {
                if self.settled(arn, by).await? != Settled::Gone {
                    return Err(Error::from(fault).outcome_unknown());
                }
            }
            Err(fault) => return Err(Error::from(fault)),
        }
        tracing::info!(
            backend = %self.settings.name, key = arn, %material, days = WINDOW_DAYS,
            "KMS will delete the key; until then the deletion can be cancelled"
        );
        Ok(())
    }

    /// What KMS says of a key now. A key that was just made here and is not seen yet signs.
    async fn settled(&self, arn: &str, by: Instant) -> Result<Settled, Fault> {
        match self.describe(arn, by).await {
            Ok(Described { state: State::Leaving, .. }) => Ok(Settled::Gone),
            Ok(Described { state: State::Disabled, .. }) => Ok(Settled::Disabled),
            Ok(_) => Ok(Settled::Signs),
            Err(fault) if fault.class == Class::NotFound => {
                let young = self.patiently(by, || self.describe(arn, by));
                match young.await {
                    Ok(Described { state: State::Leaving, .. }) => Ok(Settled::Gone),
                    Ok(Described { state: State::Disabled, .. }) => Ok(Settled::Disabled),
                    Ok(_) => Ok(Settled::Signs),
                    Err(fault) if fault.class == Class::NotFound => Ok(Settled::Gone),
                    Err(fault) => Err(fault),
                }
            }
            Err(fault) => Err(fault),
        }
    }
}
