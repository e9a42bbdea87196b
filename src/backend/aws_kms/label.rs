//! How a key in KMS says that it is ours: three tags, given to it in CreateKey itself, and an alias.
//!
//! The tags are what recovery goes by, since a key can exist without its alias but not without its
//! tags. The alias is unique in account and region, so of two who would complete one generation
//! only one succeeds; finding a key by it takes one call, and finding all of them one for every
//! hundred. Nothing is ever changed in KMS on a key
//! whose tags do not carry our instance's name and the material id that is meant.

use super::settings::TAG_PREFIX;
use crate::key::{KeySetId, MaterialId};
use std::collections::BTreeMap;

/// The tag that holds the instance; IAM policies go by it.
pub(super) const INSTANCE: &str = "signkeep:instance";
const MATERIAL: &str = "signkeep:material";
const KEY_SET: &str = "signkeep:key-set";

/// What a key's tags say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// Its material id, if there is one that can be read.
    pub(super) material: Option<MaterialId>,
    /// The key set that it was made for.
    pub(super) key_set: Option<KeySetId>,
}

/// The tags of a key that is about to be made.
pub(super) fn tags(
    instance: &str,
    material: MaterialId,
    key_set: &KeySetId,
) -> [(String, String); 3] {
    debug_assert!(INSTANCE.starts_with(TAG_PREFIX));
    [
        (INSTANCE.to_owned(), instance.to_owned()),
        (MATERIAL.to_owned(), material.to_string()),
        (KEY_SET.to_owned(), key_set.to_string()),
    ]
}

/// What the tags of one of `instance`'s keys say; none for a key that is not ours.
pub(super) fn read(instance: &str, tags: &BTreeMap<String, String>) -> Option<Label> {
    if tags.get(INSTANCE).map(String::as_str) != Some(instance) {
        return None;
    }
    Some(Label {
        material: tags.get(MATERIAL).and_then(|text| text.parse().ok()),
        key_set: tags.get(KEY_SET).and_then(|text| text.parse().ok()),
    })
}

/// What begins every alias that is ours or another instance's.
const ALIASES: &str = "alias/signkeep/";
/// What begins the aliases of the keys that AWS itself keeps in an account.
const ALIASES_OF_AWS: &str = "alias/aws/";

/// The alias of a key.
pub(super) fn alias(instance: &str, material: MaterialId) -> String {
    format!("{ALIASES}{instance}/{material}")
}

/// What an alias tells of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It is one of ours, with this material id.
    Ours(MaterialId),
    /// It is AWS's or another instance's.
    Others,
}

/// Whose key has this alias, if that is to be seen in it.
pub(super) fn named(instance: &str, alias: &str) -> Option<Named> {
    if alias.starts_with(ALIASES_OF_AWS) {
        return Some(Named::Others);
    }
    let (other, material) = alias.strip_prefix(ALIASES)?.split_once('/')?;
    match material.parse() {
        Ok(material) if other == instance => Some(Named::Ours(material)),
        Ok(_) => Some(Named::Others),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_by_no_other_instance() {
        let material = MaterialId::from_bytes([7; 16]);
        let key_set: KeySetId = "payments".parse().unwrap();
        let tags = tags("prod-1", material, &key_set).into();
        let label = Label { material: Some(material), key_set: Some(key_set) };
        assert_eq!(read("prod-1", &tags), Some(label));
        assert_eq!(read("prod-2", &tags), None);
        assert_eq!(read("prod-1", &BTreeMap::new()), None);
    }

    #[test]
    fn an_alias_tells_whose_key_it_is_or_nothing() {
        let material = MaterialId::from_bytes([7; 16]);
        let ours = alias("prod-1", material);
        assert_eq!(named("prod-1", &ours), Some(Named::Ours(material)));
        assert_eq!(named("prod-2", &ours), Some(Named::Others));
        assert_eq!(named("prod-1", "alias/aws/s3"), Some(Named::Others));
        for nothing in ["alias/signkeep/prod-1/x", "alias/signkeep/prod-1", "alias/theirs"] {
            assert_eq!(named("prod-1", nothing), None, "{nothing}");
        }
    }
}
