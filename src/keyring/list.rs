//! ListKeys and GetKey: from memory, but for keys whose material is gone or that are history.

use super::{Cursor, Error, Keyring, Listed, Page};
use crate::key::{Key, KeySetId, Kid, Refusal, StateName};
use jiff::Timestamp;
use std::sync::Arc;

/// The order in which states are listed.
const ORDER: [StateName; 7] = [
    StateName::Next,
    StateName::Current,
    StateName::Previous,
    StateName::Pending,
    StateName::Retired,
    StateName::Revoked,
    StateName::Destroyed,
];
const PUBLISHED: [StateName; 3] = [StateName::Next, StateName::Current, StateName::Previous];

impl Keyring {
    /// One key of a key set; a destroyed one comes from the store.
    pub async fn key(&self, id: &KeySetId, kid: &Kid) -> Result<Arc<Key>, Error> {
        if let Some(key) = self.key_set(id)?.key(kid) {
            return Ok(Arc::clone(key));
        }
        let key = self.store().key(id, kid).await.map_err(Error::Store)?;
        key.map(Arc::new).ok_or_else(|| Refusal::KeyNotFound { kid: *kid }.into())
    }

    /// At most `limit` keys in any of `states` (none: the published ones) after `after`: next,
    /// current, previous, then the rest; within a state the newest first.
    pub async fn keys(
        &self,
        id: &KeySetId,
        states: &[StateName],
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Error> {
        let set = self.key_set(id)?;
        let states = if states.is_empty() { &PUBLISHED[..] } else { states };
        let from = after.and_then(|cursor| ORDER.iter().position(|state| *state == cursor.state));
        let mut keys: Vec<Listed> = Vec::new();
        for state in ORDER.into_iter().skip(from.unwrap_or(0)) {
            if !states.contains(&state) {
                continue;
            }
            let place = after.filter(|cursor| cursor.state == state).map(|c| (c.created, c.id));
            // One more than fits tells whether there is another page.
            let room = (limit + 1).saturating_sub(keys.len());
            let found = match state {
                _ if room == 0 => break,
                StateName::Pending => self.pending(id, place).await?,
                StateName::Destroyed => self.destroyed(id, place, room).await?,
                _ => {
                    let keys = set.keys.iter().filter(|key| key.state.name() == state);
                    newest_first(keys.cloned().map(Listed::Key).collect(), place)
                }
            };
            keys.extend(found.into_iter().take(room));
        }
        let more = keys.len() > limit;
        keys.truncate(limit);
        let after = keys.last().filter(|_| more).map(Listed::cursor);
        Ok(Page { keys, after })
    }

    async fn pending(&self, id: &KeySetId, after: Option<Place>) -> Result<Vec<Listed>, Error> {
        // A key set generates one key at a time: there are few.
        let reserved = self.store().reserved(id, u32::MAX).await.map_err(Error::Store)?;
        Ok(newest_first(reserved.into_iter().map(Listed::Pending).collect(), after))
    }

    async fn destroyed(
        &self,
        id: &KeySetId,
        after: Option<Place>,
        room: usize,
    ) -> Result<Vec<Listed>, Error> {
        let after = after.map(|(created, kid)| (created, Kid::from_thumbprint(kid)));
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let keys = self.store().keys(id, &[StateName::Destroyed], after, room).await;
        Ok(keys.map_err(Error::Store)?.into_iter().map(|key| Listed::Key(Arc::new(key))).collect())
    }
}

/// A place among the keys of one state: when an entry was created, and its id.
type Place = (Timestamp, [u8; 32]);

impl Listed {
    fn cursor(&self) -> Cursor {
        let (created, id) = self.place();
        let state = match self {
            Self::Key(key) => key.state.name(),
            Self::Pending(_) => StateName::Pending,
        };
        Cursor { state, created, id }
    }

    fn place(&self) -> Place {
        match self {
            Self::Key(key) => (key.created, *key.kid.as_bytes()),
            Self::Pending(reserved) => {
                let mut id = [0; 32];
                let material = reserved.material.as_bytes();
                id.iter_mut().zip(material).for_each(|(to, from)| *to = *from);
                (reserved.reserved, id)
            }
        }
    }
}

fn newest_first(mut all: Vec<Listed>, after: Option<Place>) -> Vec<Listed> {
    all.retain(|listed| after.is_none_or(|after| listed.place() < after));
    all.sort_by_key(|listed| std::cmp::Reverse(listed.place()));
    all
}
