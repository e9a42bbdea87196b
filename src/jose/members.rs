//! The members of a JSON object as they were written: claims (RFC 7519 section 4) and header
//! parameters (RFC 7515 section 4), of which two must never have the same name.
//!
//! Whoever judges an object and whoever reads it later must see the same one. Names are compared
//! after their escapes are undone, and an object with a name twice is no object here, because
//! parsers differ on which of the two counts.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// Claims that verifiers go by (RFC 7519 section 4.1).
pub const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// The members of a JSON object, in their order, each value as it was written.
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

/// A text that is not one JSON object whose members all have different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one JSON object whose members all have different names (line {line}, column {column})"
)]
pub struct NotMembers {
    /// Where it goes wrong, from 1.
    pub line: usize,
    /// Where in that line, from 1.
    pub column: usize,
}

impl Members {
    /// Reads the text of an object.
    pub fn parse(text: &[u8]) -> Result<Self, NotMembers> {
        serde_json::from_slice(text)
            .map_err(|error| NotMembers { line: error.line(), column: error.column() })
    }

    /// The value of a member, as it was written.
    pub fn value(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value.as_ref())
    }

    /// A member that is a string, its escapes undone; none if there is none or it is something
    /// else.
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.value(name)?.get()).ok()
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// The first name that some reader may take for another: one that only by its case is not one
    /// of `names`, or that only by its case is not the name of a member before it. Go's
    /// encoding/json finds members without regard to case.
    pub fn ambiguous(&self, names: &[&str]) -> Option<&str> {
        let meant: HashSet<String> = names.iter().map(|name| folded(name)).collect();
        let mut seen = HashSet::new();
        let mut members = self.iter().map(|(name, _)| name);
        members.find(|name| {
            let folded = folded(name);
            (meant.contains(&folded) && !names.contains(name)) || !seen.insert(folded)
        })
    }

    /// Sets a member: in the place of the one of that name, or at the end.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(member, _)| member == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// A name without its case. Up and down again, because some letters, such as the long s and the
/// Kelvin sign, meet others only on the way.
fn folded(name: &str) -> String {
    name.to_lowercase().to_uppercase().to_lowercase()
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut names = HashSet::new();
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("a member is given twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written_and_names_are_read() {
        let members = Members::parse(br#"{"big":1e400,"\u0061ud": ["\u0078"], "s":"\u0079"}"#);
        let members = members.unwrap();
        assert_eq!(members.value("big").unwrap().get(), "1e400");
        assert_eq!(members.value("aud").unwrap().get(), r#"["\u0078"]"#);
        assert_eq!(members.string("s").as_deref(), Some("y"));
        assert_eq!(members.string("big"), None);
        let names: Vec<_> = members.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["big", "aud", "s"]);
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_however_it_is_written() {
        for text in [r#"{"sub":1,"sub":2}"#, r#"{"sub":1,"\u0073ub":2}"#] {
            assert!(Members::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["[]", "", "{}{}", "null", r#"{"a":}"#] {
            assert!(Members::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_that_differs_from_another_only_by_case_is_ambiguous() {
        let of = |text: &str| {
            let members = Members::parse(text.as_bytes()).unwrap();
            members.ambiguous(&["iss", "kid", "Team"]).map(str::to_owned)
        };
        for name in ["ISS", "Iss", "i\u{17f}s", "\u{212a}id", "team", "TEAM"] {
            assert_eq!(of(&format!(r#"{{"a":1,"{name}":2}}"#)).as_deref(), Some(name));
        }
        assert_eq!(of(r#"{"\u0049ss":1}"#).as_deref(), Some("Iss"));
        assert_eq!(of(r#"{"scope":1,"other":2,"Scope":3}"#).as_deref(), Some("Scope"));
        assert_eq!(of(r#"{"iss":1,"kid":2,"Team":3,"Scope":{"ISS":1},"issuer":4}"#), None);
    }

    #[test]
    fn setting_a_member_takes_the_place_of_the_old_one() {
        let mut members = Members::parse(br#"{"a":1,"b":2}"#).unwrap();
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        members.set("a", raw("3"));
        members.set("c", raw("4"));
        let all: Vec<_> = members.iter().map(|(name, value)| format!("{name}{value}")).collect();
        assert_eq!(all, ["a3", "b2", "c4"]);
    }
}
