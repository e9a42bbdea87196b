//! Which keys are ours, found out with as few calls as is right.
//!
//! KMS cannot search by tag. ListKeys names every key of the account, a thousand a page, and
//! ListAliases every alias, a hundred a page; ours carry instance and material id. So most keys
//! explain themselves without a call of their own: ours by our alias, AWS's own and those of other
//! instances by theirs. Tags are read of the rest alone: keys of other people, and keys of ours
//! whose alias was never made or was taken away.
//!
//! An alias is enough to say that a key is there. It is not enough to change one: what is disabled
//! or deleted has shown its tags first (see [`super::end`]).
//!
//! What a key's tags say is kept, for tags do not change; that a key is not ours is believed for a
//! while only until it has been confirmed, since a key just made may show its tags late. A scan
//! asks slowly, in a lane of its own, so that it never stands in the way of a signature; one that
//! ran out of time goes on where it stopped.

use super::calls::{Lane, Shared, Tries};
use super::client::Described;
use super::error::{Class, Fault};
use super::label::{self, Label, Named};
use super::memory::{Bounded, lock};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// For how long it is believed that a key is not ours, until that is confirmed.
const FOREIGN_FOR: Duration = Duration::from_secs(60);
/// Pages of a list: more than an account has.
const PAGES_MAX: usize = 2000;

/// What the tags of the account's keys have said, by ARN.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<Bounded<String, Entry>>);

#[derive(Clone, Debug)]
enum Entry {
    Ours(Label),
    Foreign { first: Instant, last: Instant },
}

/// A key of ours, by its alias or by its tags; an alias does not tell the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) arn: String,
    pub(super) label: Label,
}

impl Directory {
    /// The key is ours: we have just made it.
    pub(super) fn made(&self, arn: &str, label: Label) {
        lock(&self.0).insert(arn.to_owned(), Entry::Ours(label));
    }
}

impl Shared {
    /// Every key of our instance, in whatever state.
    pub(super) async fn scan(&self, deadline: Instant) -> Result<Vec<Found>, Fault> {
        // The aliases first: a key that is made in between is then one without.
        let names = self.names(deadline).await?;
        let (mut ours, mut readable, mut denied) = (Vec::new(), 0_usize, None);
        for arn in self.arns(deadline).await? {
            match names.get(id_of(&arn)) {
                Some(Named::Ours(material)) => {
                    let label = Label { material: Some(*material), key_set: None };
                    ours.push(Found { arn, label });
                    continue;
                }
                Some(Named::Others) => continue,
                None => {}
            }
            match self.label(&arn, &self.searches, deadline).await {
                Ok(Some(label)) => ours.push(Found { arn, label }),
                Ok(None) => readable += 1,
                // Deleted in between.
                Err(fault) if fault.class == Class::NotFound => {}
                // Somebody else's key whose policy shuts us out.
                Err(fault) if fault.class == Class::Denied => denied = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        match denied {
            Some(fault) if ours.is_empty() && readable == 0 => Err(fault),
            _ => Ok(ours),
        }
    }

    /// What the aliases say of the keys that have one that says anything, by key id.
    async fn names(&self, deadline: Instant) -> Result<HashMap<String, Named>, Fault> {
        let (mut names, mut marker) = (HashMap::new(), None);
        for _ in 0..PAGES_MAX {
            let ask = || self.client.aliases(marker.clone());
            let page =
                self.call("ListAliases", &self.searches, Tries::Again, deadline, ask).await?;
            for (alias, target) in page.items {
                let Some(named) = label::named(&self.settings.instance, &alias) else { continue };
                let id = id_of(&target).to_owned();
                // Of several, ours counts.
                if matches!(named, Named::Ours(_)) || !names.contains_key(&id) {
                    names.insert(id, named);
                }
            }
            marker = page.next;
            if marker.is_none() {
                return Ok(names);
            }
        }
        Err(Fault::new(Class::Garbage, "ListAliases", "the pages do not end"))
    }

    /// The ARN of every key of the account.
    async fn arns(&self, deadline: Instant) -> Result<Vec<String>, Fault> {
        let (mut arns, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let ask = || self.client.keys(marker.clone());
            let page = self.call("ListKeys", &self.searches, Tries::Again, deadline, ask).await?;
            arns.extend(page.items);
            marker = page.next;
            if marker.is_none() {
                return Ok(arns);
            }
        }
        Err(Fault::new(Class::Garbage, "ListKeys", "the pages do not end"))
    }

    /// What the tags of a key say; none if it is not ours.
    pub(super) async fn label(
        &self,
        arn: &str,
        lane: &Lane,
        deadline: Instant,
    ) -> Result<Option<Label>, Fault> {
        let now = Instant::now();
        let known = lock(&self.directory.0).get(&arn.to_owned()).cloned();
        let first = match known {
            Some(Entry::Ours(label)) => return Ok(Some(label)),
            Some(Entry::Foreign { first, last }) => {
                let sure = last.duration_since(first) >= self.settings.absence.max(FOREIGN_FOR);
                if sure || now.saturating_duration_since(last) < FOREIGN_FOR {
                    return Ok(None);
                }
                Some(first)
            }
            None => None,
        };
        let ask = || self.client.tags(arn);
        let tags = self.call("ListResourceTags", lane, Tries::Again, deadline, ask).await?;
        let label = label::read(&self.settings.instance, &tags);
        let entry = match &label {
            Some(label) => Entry::Ours(label.clone()),
            None => Entry::Foreign { first: first.unwrap_or(now), last: now },
        };
        lock(&self.directory.0).insert(arn.to_owned(), entry);
        Ok(label)
    }

    /// DescribeKey at the pace of a search; none if KMS knows no such key, or not yet.
    pub(super) async fn seen(
        &self,
        arn: &str,
        deadline: Instant,
    ) -> Result<Option<Described>, Fault> {
        let ask = || self.client.describe(arn);
        match self.call("DescribeKey", &self.searches, Tries::Again, deadline, ask).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.class == Class::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// The id in a key's ARN, or the id itself.
fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
