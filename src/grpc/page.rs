//! Paging: sizes, and tokens that say where the next page starts.
//!
//! A token is a version, a hash of what was listed, and a place in it. It carries no authority: it
//! is checked so that a mistake is noticed, not so that nobody can make one up, and a made-up one
//! yields what its maker may list anyway.

use super::convert;
use super::proto as pb;
use super::violations::Violations;
use crate::key::{KeySetId, StateName};
use crate::keyring::{Cursor, Error};
use base64ct::{Base64UrlUnpadded, Encoding};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

const SIZE_DEFAULT: usize = 50;
const SIZE_MAX: usize = 500;
const VERSION: u8 = 1;
/// Length of the hash in a token, in bytes.
const BOUND_LEN: usize = 16;
/// No token of ours is longer, in characters.
const TOKEN_LEN_MAX: usize = 256;
const FOREIGN: &str =
    "must be next_page_token from the answer before, with the rest of the request unchanged";

/// ListKeys, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The key set.
    pub(super) key_set: KeySetId,
    /// Which keys; empty for the default.
    pub(super) states: Vec<StateName>,
    /// Where the page starts; none: at the beginning.
    pub(super) after: Option<Cursor>,
    /// At most this many.
    pub(super) limit: usize,
}

impl Keys {
    /// The request, or everything that is wrong with it.
    pub(super) fn asked(request: &pb::ListKeysRequest) -> Result<Self, Error> {
        let mut wrong = Violations::default();
        let key_set = wrong.key_set("key_set", &request.key_set);
        let states = convert::states(&mut wrong, &request.states);
        let limit = size(&mut wrong, request.page_size);
        let bound = key_set.as_ref().map(|id| Self::bound(id, &states));
        let after = bound.and_then(|bound| {
            let place = open(&mut wrong, &request.page_token, &bound)?;
            let cursor = read_cursor(&place);
            if cursor.is_none() {
                wrong.note("page_token", FOREIGN);
            }
            cursor
        });
        wrong.finish(key_set.map(|key_set| Self { key_set, states, after, limit }))
    }

    /// The token of the page that starts after `cursor`.
    pub(super) fn token(&self, cursor: Cursor) -> String {
        seal(&Self::bound(&self.key_set, &self.states), &write_cursor(cursor))
    }

    fn bound(key_set: &KeySetId, states: &[StateName]) -> [u8; BOUND_LEN] {
        let states: Vec<_> = states.iter().map(|state| state.as_str()).collect();
        bound(&format!("keys/{key_set}/{}", states.join(",")))
    }
}

/// ListKeySets, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeySets {
    /// Where the page starts; none: at the beginning.
    pub(super) after: Option<KeySetId>,
    /// At most this many.
    pub(super) limit: usize,
}

impl KeySets {
    /// The request, or everything that is wrong with it.
    pub(super) fn asked(request: &pb::ListKeySetsRequest) -> Result<Self, Error> {
        let mut wrong = Violations::default();
        let limit = size(&mut wrong, request.page_size);
        let place = open(&mut wrong, &request.page_token, &bound("key-sets"));
        let after = place.and_then(|place| {
            let id = std::str::from_utf8(&place).ok().and_then(|id| id.parse().ok());
            if id.is_none() {
                wrong.note("page_token", FOREIGN);
            }
            id
        });
        wrong.finish(Some(Self { after, limit }))
    }

    /// The token of the page that starts after `id`.
    pub(super) fn token(id: &KeySetId) -> String {
        seal(&bound("key-sets"), id.as_str().as_bytes())
    }
}

/// 0 stands for the default; more than the maximum for the maximum.
fn size(wrong: &mut Violations, given: i32) -> usize {
    match usize::try_from(given) {
        Ok(0) => SIZE_DEFAULT,
        Ok(size) => size.min(SIZE_MAX),
        Err(_) => {
            wrong.note("page_size", "must not be negative; 0 stands for 50");
            SIZE_DEFAULT
        }
    }
}

fn bound(listed: &str) -> [u8; BOUND_LEN] {
    let mut bound = [0; BOUND_LEN];
    let hash = Sha256::digest(listed);
    bound.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    bound
}

fn seal(bound: &[u8; BOUND_LEN], place: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(&[&[VERSION], bound.as_slice(), place].concat())
}

/// The place in a token; none for the empty token and, with a note, for one that is not ours.
fn open(wrong: &mut Violations, token: &str, bound: &[u8; BOUND_LEN]) -> Option<Vec<u8>> {
    if token.is_empty() {
        return None;
    }
    let place = (token.len() <= TOKEN_LEN_MAX)
        .then(|| Base64UrlUnpadded::decode_vec(token).ok())
        .flatten()
        .and_then(|bytes| {
            let rest = bytes.strip_prefix(&[VERSION])?;
            rest.strip_prefix(bound.as_slice()).map(<[u8]>::to_vec)
        });
    if place.is_none() {
        wrong.note("page_token", FOREIGN);
    }
    place
}

/// State (its number in [`StateName::ALL`]), microseconds since 1970 (8 bytes, big-endian), id.
fn write_cursor(cursor: Cursor) -> Vec<u8> {
    let state = StateName::ALL.iter().position(|state| *state == cursor.state);
    let state = state.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
    let created = cursor.created.as_microsecond().to_be_bytes();
    [&[state], created.as_slice(), cursor.id.as_slice()].concat()
}

fn read_cursor(place: &[u8]) -> Option<Cursor> {
    let (state, rest) = place.split_first()?;
    let (created, id) = rest.split_first_chunk::<8>()?;
    Some(Cursor {
        state: *StateName::ALL.get(usize::from(*state))?,
        created: Timestamp::from_microsecond(i64::from_be_bytes(*created)).ok()?,
        id: id.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key_set: &str, page_token: &str, states: &[pb::KeyState]) -> pb::ListKeysRequest {
        pb::ListKeysRequest {
            key_set: key_set.to_owned(),
            page_token: page_token.to_owned(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            page_size: 0,
        }
    }

    fn cursor() -> Cursor {
        Cursor {
            state: StateName::Previous,
            created: "2026-11-23T10:00:00.123456Z".parse().unwrap(),
            id: [7; 32],
        }
    }

    fn wrong_field(asked: Result<Keys, Error>) -> String {
        match asked {
            Err(Error::Invalid { fields }) => fields[0].field.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_leads_back_to_its_place() {
        let states = [pb::KeyState::Revoked, pb::KeyState::Previous];
        let first = Keys::asked(&request("default", "", &states)).unwrap();
        assert_eq!(first.after, None);
        let token = first.token(cursor());
        let second = Keys::asked(&request("default", &token, &states)).unwrap();
        assert_eq!(second.after, Some(cursor()));
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let states = [pb::KeyState::Revoked];
        let token = Keys::asked(&request("default", "", &states)).unwrap().token(cursor());
        for (key_set, states) in
            [("other", &states[..]), ("default", &[]), ("default", &[pb::KeyState::Next])]
        {
            assert_eq!(wrong_field(Keys::asked(&request(key_set, &token, states))), "page_token");
        }
        let sets = KeySets::token(&"default".parse().unwrap());
        assert_eq!(wrong_field(Keys::asked(&request("default", &sets, &[]))), "page_token");
    }

    #[test]
    fn a_garbled_token_is_refused() {
        let good = Keys::asked(&request("default", "", &[])).unwrap().token(cursor());
        for at in 0..good.len() {
            let mut garbled = good.clone().into_bytes();
            garbled[at] = b'!';
            let garbled = String::from_utf8(garbled).unwrap();
            assert_eq!(wrong_field(Keys::asked(&request("default", &garbled, &[]))), "page_token");
            assert_eq!(
                wrong_field(Keys::asked(&request("default", &good[..at.max(1)], &[]))),
                "page_token"
            );
        }
        let long = "A".repeat(60_000);
        assert_eq!(wrong_field(Keys::asked(&request("default", &long, &[]))), "page_token");
    }

    #[test]
    fn key_sets_are_paged_by_their_ids() {
        let id: KeySetId = "default".parse().unwrap();
        let page_token = KeySets::token(&id);
        let asked = KeySets::asked(&pb::ListKeySetsRequest { page_size: 7, page_token }).unwrap();
        assert_eq!(asked, KeySets { after: Some(id), limit: 7 });
    }

    #[test]
    fn a_page_size_has_a_default_a_maximum_and_no_sign() {
        let sized = |page_size| {
            KeySets::asked(&pb::ListKeySetsRequest { page_size, page_token: String::new() })
        };
        assert_eq!(sized(0).unwrap().limit, 50);
        assert_eq!(sized(1).unwrap().limit, 1);
        assert_eq!(sized(501).unwrap().limit, 500);
        assert!(
            matches!(sized(-1), Err(Error::Invalid { fields }) if fields[0].field == "page_size")
        );
    }
}
