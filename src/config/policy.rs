//! `[[policy]]`: who may do what with which key sets.

use super::document::{Document, Error};
use super::list::OneOrMore;
use super::span::Span;
use crate::access::{Action, Binding, ClaimsPolicy, Limits, Pattern, Role, could_name};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::time::Duration;

/// Claims that say who issued a token, and when: the service's own.
const OWN_CLAIMS: [&str; 4] = ["iss", "iat", "exp", "jti"];

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    callers: OneOrMore<String>,
    key_sets: OneOrMore<String>,
    roles: OneOrMore<Role>,
    rate: Option<u32>,
    concurrency: Option<u32>,
    claims: Option<Claims>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Claims {
    audiences: Option<OneOrMore<String>>,
    subjects: Option<OneOrMore<String>>,
    required: OneOrMore<String>,
    forbidden: OneOrMore<String>,
    lifetime_max: Option<Span>,
    fixed: BTreeMap<String, toml::Value>,
}

/// Says what is wrong with a field of one binding.
struct Wrong<'a, 'd> {
    document: &'a Document<'d>,
    at: usize,
}

impl Section {
    /// The binding that stands at place `at`, from 0.
    pub(super) fn build(self, document: &Document<'_>, at: usize) -> Result<Binding, Error> {
        let wrong = Wrong { document, at };
        for (field, empty) in [
            ("callers", self.callers.0.is_empty()),
            ("key_sets", self.key_sets.0.is_empty()),
            ("roles", self.roles.0.is_empty()),
        ] {
            if empty {
                return Err(wrong.field(field, "must have at least one entry"));
            }
        }
        let binding = Binding {
            callers: wrong.patterns("callers", &self.callers.0, caller)?,
            key_sets: wrong.patterns("key_sets", &self.key_sets.0, key_set)?,
            roles: self.roles.0,
            limits: Limits {
                rate: wrong.limit("rate", self.rate)?,
                concurrency: wrong.limit("concurrency", self.concurrency)?,
            },
            claims: None,
        };
        let Some(claims) = self.claims else {
            return Ok(binding);
        };
        if binding.gives(Action::Sign) || !binding.gives(Action::SignJwt) {
            let why =
                "hold for the role jwt-signer alone: whoever may sign bytes can sign any claims";
            return Err(wrong.field("claims", why));
        }
        Ok(Binding { claims: Some(claims.build(&wrong)?), ..binding })
    }
}

impl Claims {
    fn build(self, wrong: &Wrong<'_, '_>) -> Result<ClaimsPolicy, Error> {
        let list = |field, texts: Option<OneOrMore<String>>| {
            let read = |text: &str| Pattern::with_caller(text).map_err(|error| error.to_string());
            texts.map(|texts| wrong.patterns(field, &texts.0, read)).transpose()
        };
        let lifetime_max = self.lifetime_max.map(Span::get);
        if lifetime_max.is_some_and(|longest| longest < Duration::from_secs(1)) {
            return Err(wrong.field("claims.lifetime_max", "must be at least 1s"));
        }
        let mut fixed = BTreeMap::new();
        for (name, value) in self.fixed {
            let field = format!("claims.fixed.{name}");
            if OWN_CLAIMS.contains(&name.as_str()) {
                return Err(wrong.field(&field, "is set by the service; leave it out"));
            }
            let value = json(value).ok_or_else(|| {
                wrong.field(
                    &field,
                    "must be text, a number, true or false, a list or a table of those",
                )
            })?;
            fixed.insert(name, value);
        }
        let forbidden = self.forbidden.0;
        let needed = self.required.0.iter().chain(fixed.keys());
        if let Some(both) = needed.into_iter().find(|name| forbidden.contains(name)) {
            let why = format!("{both} is forbidden, and also required or fixed: choose one");
            return Err(wrong.field("claims.forbidden", why));
        }
        Ok(ClaimsPolicy {
            audiences: list("claims.audiences", self.audiences)?,
            subjects: list("claims.subjects", self.subjects)?,
            required: self.required.0,
            forbidden,
            lifetime_max,
            fixed,
        })
    }
}

impl Wrong<'_, '_> {
    fn field(&self, field: &str, what: impl Display) -> Error {
        self.document.wrong(&format!("policy.{}.{field}", self.at), what)
    }

    fn patterns(
        &self,
        field: &str,
        texts: &[String],
        read: impl Fn(&str) -> Result<Pattern, String>,
    ) -> Result<Vec<Pattern>, Error> {
        let one =
            |text: &String| read(text).map_err(|why| self.field(field, format!("{text:?} {why}")));
        texts.iter().map(one).collect()
    }

    fn limit(&self, field: &str, given: Option<u32>) -> Result<Option<NonZeroU32>, Error> {
        let read = |number| {
            NonZeroU32::new(number).ok_or_else(|| {
                self.field(
                    field,
                    "must be at least 1; leave it out for no limit, or the binding for no calls",
                )
            })
        };
        given.map(read).transpose()
    }
}

fn caller(text: &str) -> Result<Pattern, String> {
    let pattern: Pattern = text.parse().map_err(|error| format!("{error}"))?;
    if could_name(text) {
        Ok(pattern)
    } else {
        Err("names nobody: names begin with spiffe://, dns:, uri:, subject:, uid:, gid:, jwt:, group: or scope:, or are anonymous@loopback".to_owned())
    }
}

fn key_set(text: &str) -> Result<Pattern, String> {
    let named =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
    if !text.bytes().all(named) {
        return Err(
            "names no key set: their names have a-z, 0-9 and -; * stands for any".to_owned()
        );
    }
    if text.starts_with("signkeep-") {
        return Err(
            "names the service's own key sets, which nobody is given; leave it out".to_owned()
        );
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// The value as JSON; none if it is, or holds, a date or a number that JSON cannot write.
fn json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)?.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(list) => {
            Value::Array(list.into_iter().map(json).collect::<Option<_>>()?)
        }
        toml::Value::Table(table) => {
            let member = |(name, value)| Some((name, json(value)?));
            Value::Object(table.into_iter().map(member).collect::<Option<_>>()?)
        }
    })
}
