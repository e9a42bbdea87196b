//! Finding our keys without their aliases: every key of the account, by its tags.
//!
//! KMS cannot search by tag, so each key is asked once. What a key's tags say is kept, for tags do
//! not change; that a key is not ours is believed for a while only until it has been confirmed,
//! since a key just made may show its tags late. So a scan that ran out of time goes on where it
//! stopped, and one that is repeated asks little.

use super::calls::{Shared, Tries};
use super::error::{Class, Fault};
use super::label::{self, Label};
use super::memory::{Bounded, lock};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// For how long it is believed that a key is not ours, until that is confirmed.
const FOREIGN_FOR: Duration = Duration::from_secs(60);
/// Pages of ListKeys: more keys than an account has.
const PAGES_MAX: usize = 1000;

/// What is known of the account's keys, by ARN.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<Bounded<String, Entry>>);

#[derive(Clone, Debug)]
enum Entry {
    Ours(Label),
    Foreign { first: Instant, last: Instant },
}

/// A key of ours.
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
    /// Every key with our instance's tags, in whatever state.
    pub(super) async fn scan(&self, deadline: Instant) -> Result<Vec<Found>, Fault> {
        let (mut ours, mut readable, mut denied) = (Vec::new(), 0_usize, None);
        let mut marker = None;
        for _ in 0..PAGES_MAX {
            let page = self
                .call("ListKeys", &self.questions, Tries::Again, deadline, || {
                    self.client.keys(marker.clone())
                })
                .await?;
            for arn in page.arns {
                match self.label(&arn, deadline).await {
                    Ok(Some(label)) => ours.push(Found { arn, label }),
                    Ok(None) => readable += 1,
                    // Deleted in between.
                    Err(fault) if fault.class == Class::NotFound => {}
                    // Somebody else's key whose policy shuts us out.
                    Err(fault) if fault.class == Class::Denied => denied = Some(fault),
                    Err(fault) => return Err(fault),
                }
            }
            marker = page.next;
            if marker.is_none() {
                return match denied {
                    Some(fault) if ours.is_empty() && readable == 0 => Err(fault),
                    _ => Ok(ours),
                };
            }
        }
        Err(Fault::new(Class::Garbage, "ListKeys", "the pages do not end"))
    }

    /// What the tags of a key say; none if it is not ours.
    pub(super) async fn label(&self, arn: &str, deadline: Instant) -> Result<Option<Label>, Fault> {
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
        let tags = self
            .call("ListResourceTags", &self.questions, Tries::Again, deadline, || {
                self.client.tags(arn)
            })
            .await?;
        let label = label::read(&self.settings.instance, &tags);
        let entry = match &label {
            Some(label) => Entry::Ours(label.clone()),
            None => Entry::Foreign { first: first.unwrap_or(now), last: now },
        };
        lock(&self.directory.0).insert(arn.to_owned(), entry);
        Ok(label)
    }
}
