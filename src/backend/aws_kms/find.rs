//! Finding keys: one by its alias or its tags, all of them, and what it proves to find none.

use super::calls::{Shared, Tries};
use super::client::{Described, State};
use super::error::{Class, Fault};
use super::label::{self, Label};
use super::scan::Found;
use crate::backend::{Error, Kind, Listed, Material, ObjectRef};
use crate::key::{KeySpec, MaterialId};
use std::collections::HashSet;
use std::time::Instant;

impl Shared {
    /// The key pair of that id. That there is none is believed only after it could have appeared.
    pub(super) async fn find(
        &self,
        material: MaterialId,
        spec: KeySpec,
        by: Instant,
    ) -> Result<Option<Material>, Error> {
        let found = match self.by_alias(material, by).await? {
            Some(found) => Some(found),
            None => self.by_tag(material, by).await?,
        };
        let Some(found) = found else {
            self.is_absent(material, "DescribeKey")?;
            return Ok(None);
        };
        self.owned(&found.arn, material, by).await?;
        match found.state {
            State::Leaving => return Ok(None),
            State::Disabled => {
                let message =
                    format!("{} is disabled: KMS does not show its public key", found.arn);
                return Err(Error::new(Kind::Denied, "GetPublicKey", message));
            }
            State::Other(state) => {
                let message = format!("{} is in the state {state}", found.arn);
                return Err(Error::new(Kind::Inconsistent, "DescribeKey", message));
            }
            State::Enabled | State::Arriving => {}
        }
        let public = self.public_key(&found.arn, by).await?;
        if public.spec() != Some(spec) {
            let message = format!("{} is {public:?}, not {spec}", found.arn);
            return Err(Error::new(Kind::Inconsistent, "GetPublicKey", message));
        }
        Ok(Some(Material { object: ObjectRef::new(found.arn), public }))
    }

    /// Everything of ours that is not being deleted, as [`crate::backend::Backend::list`] has it.
    pub(super) async fn list(
        &self,
        expected: &HashSet<MaterialId>,
        by: Instant,
    ) -> Result<Vec<Listed>, Error> {
        let mut found = self.scan(by).await?;
        let seen: HashSet<_> = found.iter().map(|found| found.arn.clone()).collect();
        let young = self.memory.made_within(self.settings.absence, Instant::now());
        for (material, arn) in young.into_iter().filter(|(_, arn)| !seen.contains(arn)) {
            // KMS lists a new key late; that it is there is known.
            let label = Label { material: Some(material), key_set: None };
            found.push(Found { arn, label });
        }
        let (mut listed, mut relied_on) = (Vec::new(), Vec::new());
        for Found { arn, mut label } in found {
            let wanted = label.material.filter(|material| expected.contains(material));
            relied_on.extend(wanted.map(|material| (material, arn.clone())));
            if wanted.is_none_or(|material| self.watch.is_astray(material)) {
                label = match self.looked_at(&arn, by).await? {
                    Some(label) => label,
                    None => continue,
                };
            }
            let Label { material, key_set } = label;
            listed.push(Listed { material, object: ObjectRef::new(arn), key_set });
        }
        self.watch.rely_on(relied_on.into_iter());
        Ok(listed)
    }

    /// What the tags of a key say; none if it is not ours after all, or is being deleted.
    async fn looked_at(&self, arn: &str, by: Instant) -> Result<Option<Label>, Fault> {
        let label = match self.label(arn, &self.searches, by).await {
            Ok(Some(label)) => label,
            Ok(None) => return Ok(None),
            Err(fault) if fault.class == Class::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        // KMS may show late that a deletion is scheduled: that we have scheduled it is known.
        let (absence, now) = (self.settings.absence, Instant::now());
        let just_ended = |material| self.memory.is_just_destroyed(material, absence, now);
        if label.material.is_some_and(just_ended) {
            return Ok(None);
        }
        let stays = self.seen(arn, by).await?.is_some_and(|found| found.state != State::Leaving);
        Ok(stays.then_some(label))
    }

    pub(super) async fn by_alias(
        &self,
        material: MaterialId,
        by: Instant,
    ) -> Result<Option<Described>, Fault> {
        let alias = label::alias(&self.settings.instance, material);
        match self.describe(&alias, by).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.class == Class::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn by_tag(&self, material: MaterialId, by: Instant) -> Result<Option<Described>, Error> {
        let ours = self.scan(by).await?;
        let mut found: Option<Described> = None;
        for other in ours.into_iter().filter(|found| found.label.material == Some(material)) {
            let other = self.describe(&other.arn, by).await?;
            match &found {
                Some(first) if first.state != State::Leaving && other.state != State::Leaving => {
                    let message = format!(
                        "two keys have the material id {material}: {} and {}",
                        first.arn, other.arn
                    );
                    return Err(Error::new(Kind::Inconsistent, "ListKeys", message));
                }
                Some(first) if first.state != State::Leaving => {}
                _ => found = Some(other),
            }
        }
        Ok(found)
    }

    /// DescribeKey.
    pub(super) async fn describe(&self, id: &str, by: Instant) -> Result<Described, Fault> {
        let ask = || self.client.describe(id);
        self.call("DescribeKey", &self.questions, Tries::Again, by, ask).await
    }

    /// Refuses to go on with a key that does not carry our instance's name and the id that is meant.
    pub(super) async fn owned(
        &self,
        arn: &str,
        material: MaterialId,
        by: Instant,
    ) -> Result<(), Error> {
        let label = self.label(arn, &self.questions, by).await?;
        if label.is_some_and(|label| label.material == Some(material)) {
            return Ok(());
        }
        let instance = &self.settings.instance;
        let message = format!(
            "{arn} does not carry the tags of instance {instance} and material {material}; it is left alone"
        );
        Err(Error::new(Kind::Inconsistent, "ListResourceTags", message))
    }

    /// An error while it may still appear.
    pub(super) fn is_absent(&self, material: MaterialId, op: &'static str) -> Result<(), Error> {
        let now = Instant::now();
        let sought = now.saturating_duration_since(self.memory.sought_since(material, now));
        let absence = self.settings.absence;
        if sought >= absence {
            return Ok(());
        }
        let message = format!(
            "no key with material id {material} is to be seen; it may still appear, and is looked for again for {} s",
            absence.saturating_sub(sought).as_secs()
        );
        Err(Error::new(Kind::Unavailable, op, message))
    }
}
