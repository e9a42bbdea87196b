//! ListKeys and GetKey: from memory, but for keys whose material is gone or that are history.

use super::{Cursor, Error, Keyring, Page};
use crate::key::{Key, KeySet, KeySetId, Kid, Refusal, StateName};
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
        let mut page = Page { keys: Vec::new(), pending: Vec::new(), after: None };
        for state in ORDER.into_iter().skip(from.unwrap_or(0)) {
            if !states.contains(&state) {
                continue;
            }
            let place = after.filter(|cursor| cursor.state == state).map(|c| (c.created, c.kid));
            // One more than fits tells whether there is another page.
            let room = (limit + 1).saturating_sub(page.keys.len());
            match state {
                StateName::Pending if after.is_none() => {
                    let room = u32::try_from(limit).unwrap_or(u32::MAX);
                    page.pending = self.store().reserved(id, room).await.map_err(Error::Store)?;
                }
                StateName::Pending => {}
                StateName::Destroyed => {
                    let room = u32::try_from(room).unwrap_or(u32::MAX);
                    let keys = self.store().keys(id, &[state], place, room).await;
                    page.keys.extend(keys.map_err(Error::Store)?.into_iter().map(Arc::new));
                }
                _ => page.keys.extend(newest_first(&set, state, place).into_iter().take(room)),
            }
        }
        if page.keys.len() > limit {
            page.keys.truncate(limit);
            page.after = page.keys.last().map(|key| Cursor {
                state: key.state.name(),
                created: key.created,
                kid: key.kid,
            });
        }
        Ok(page)
    }
}

fn newest_first(
    set: &KeySet,
    state: StateName,
    after: Option<(jiff::Timestamp, Kid)>,
) -> Vec<Arc<Key>> {
    let place = |key: &Arc<Key>| (key.created, key.kid);
    let mut keys: Vec<_> = set.keys.iter().filter(|key| key.state.name() == state).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(place(key)));
    keys.into_iter().filter(|key| after.is_none_or(|after| place(key) < after)).cloned().collect()
}
