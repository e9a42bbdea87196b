//! The claims of a token, on their way to JSON text. What they mean is the keyring's to judge; here
//! it is only made sure that they are a JSON object.

use super::violations::Violations;
use bytes::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value as Json};

/// How deep claims may be nested.
const DEPTH_MAX: usize = 32;
/// Every integer up to here is one double and no other (2^53).
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The text of a structure, the value of `field`. Numbers are doubles on the wire: those that are
/// integers a double holds exactly are written as integers.
pub(super) fn from_struct(wrong: &mut Violations, field: &str, claims: Struct) -> Option<Bytes> {
    let mut path = vec![field.to_owned()];
    let object = object(claims, &mut path)
        .and_then(|object| serde_json::to_vec(&object).map_err(|_| "must be a JSON object"));
    match object {
        Ok(text) => Some(text.into()),
        Err(why) => {
            wrong.note(path.join("."), why);
            None
        }
    }
}

/// A text that is a JSON object, kept as it is.
pub(super) fn from_text(wrong: &mut Violations, text: String) -> Option<Bytes> {
    let blank = [' ', '\t', '\n', '\r'];
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) if depth(&text) > DEPTH_MAX => {
            wrong.note("claims_json", "must not be nested deeper than 32 levels");
            None
        }
        Ok(_) if text.trim_start_matches(blank).starts_with('{') => Some(text.into()),
        Ok(_) => {
            wrong.note("claims_json", "must be the text of a JSON object");
            None
        }
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let why = "must be the text of a JSON object; it is not JSON at";
            wrong.note("claims_json", format!("{why} line {line}, column {column}"));
            None
        }
    }
}

/// How deep a JSON text is nested.
fn depth(json: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                now = now.saturating_add(1);
                deepest = deepest.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// On an error `path` is left where it is.
fn object(fields: Struct, path: &mut Vec<String>) -> Result<Json, &'static str> {
    let mut object = Map::new();
    for (name, field) in fields.fields {
        path.push(name.clone());
        object.insert(name, value(field, path)?);
        path.pop();
    }
    Ok(Json::Object(object))
}

fn value(given: Value, path: &mut Vec<String>) -> Result<Json, &'static str> {
    if path.len() > DEPTH_MAX {
        return Err("must not be nested deeper than 32 levels");
    }
    match given.kind {
        None => Err("must have a value"),
        Some(Kind::NullValue(_)) => Ok(Json::Null),
        Some(Kind::BoolValue(yes)) => Ok(Json::Bool(yes)),
        Some(Kind::StringValue(text)) => Ok(Json::String(text)),
        Some(Kind::NumberValue(number)) => integer(number)
            .or_else(|| Number::from_f64(number))
            .map(Json::Number)
            .ok_or("must be a finite number"),
        Some(Kind::StructValue(fields)) => object(fields, path),
        Some(Kind::ListValue(list)) => {
            let mut items = Vec::new();
            for (at, item) in list.values.into_iter().enumerate() {
                path.push(at.to_string());
                items.push(value(item, path)?);
                path.pop();
            }
            Ok(Json::Array(items))
        }
    }
}

/// The number as an integer, if it is one that a double holds exactly.
fn integer(number: f64) -> Option<Number> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an integer within 2^53 is the same in both"
    )]
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(Number::from(number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Error;
    use prost_types::ListValue;

    fn of(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn claims(fields: &[(&str, Value)]) -> Struct {
        let named = |(name, value): &(&str, Value)| ((*name).to_owned(), value.clone());
        Struct { fields: fields.iter().map(named).collect() }
    }

    fn text(claims: Struct) -> Result<String, String> {
        let mut wrong = Violations::default();
        let text = from_struct(&mut wrong, "claims", claims);
        match wrong.finish(text) {
            Ok(text) => Ok(String::from_utf8(text.to_vec()).unwrap()),
            Err(Error::Invalid { fields }) => Err(fields[0].field.clone()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn integers_stay_integers_and_fractions_fractions() {
        let numbers = [0.0, -0.0, 1.0, -7.0, 1_795_000_000.0, 9_007_199_254_740_992.0, 0.5, 1e300];
        let values = numbers.map(|number| of(Kind::NumberValue(number))).to_vec();
        let list = of(Kind::ListValue(ListValue { values }));
        assert_eq!(
            text(claims(&[("n", list)])).unwrap(),
            r#"{"n":[0,0,1,-7,1795000000,9007199254740992,0.5,1e+300]}"#
        );
    }

    #[test]
    fn every_kind_of_value_is_carried_over() {
        let inner = claims(&[("text", of(Kind::StringValue("a \"b\" é".into())))]);
        let all = claims(&[
            ("null", of(Kind::NullValue(0))),
            ("object", of(Kind::StructValue(inner))),
            ("yes", of(Kind::BoolValue(true))),
        ]);
        assert_eq!(text(all).unwrap(), r#"{"null":null,"object":{"text":"a \"b\" é"},"yes":true}"#);
    }

    #[test]
    fn what_is_not_json_is_named_by_its_path() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let values = vec![of(Kind::BoolValue(true)), of(Kind::NumberValue(number))];
            let list = of(Kind::ListValue(ListValue { values }));
            let nested = of(Kind::StructValue(claims(&[("b", list)])));
            assert_eq!(text(claims(&[("a", nested)])), Err("claims.a.b.1".to_owned()));
        }
        let empty = Value { kind: None };
        assert_eq!(text(claims(&[("x", empty)])), Err("claims.x".to_owned()));
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| {
            (1..depth).fold(claims(&[]), |inner, _| claims(&[("d", of(Kind::StructValue(inner)))]))
        };
        assert!(text(nested(32)).is_ok());
        assert!(text(nested(40)).is_err());
    }

    #[test]
    fn nesting_of_text_has_the_same_bound() {
        let taken = |text: String| from_text(&mut Violations::default(), text).is_some();
        let nested = |lists: usize| format!("{{\"a\":{}{}}}", "[".repeat(lists), "]".repeat(lists));
        assert!(taken(nested(31)));
        assert!(!taken(nested(32)));
        assert!(!taken(nested(100)));
        let text = format!(r#"{{"a":"\"{}","b":[[],[]]}}"#, "[{".repeat(40));
        assert!(taken(text));
        let wide = vec!["[]"; 100].join(",");
        assert!(taken(format!(r#"{{"a":[{wide}]}}"#)));
    }

    #[test]
    fn json_text_is_kept_as_it_is() {
        let text = " {\"z\": 123456789012345678901234567890, \"a\": [1.0]}\n";
        let mut wrong = Violations::default();
        let kept = from_text(&mut wrong, text.to_owned());
        assert_eq!(wrong.finish(kept).unwrap(), text.as_bytes());
    }

    #[test]
    fn text_that_is_no_json_object_is_refused_without_being_repeated() {
        let deep = "[".repeat(5000);
        for text in ["", "[]", "\"{}\"", "null", "{", "{} {}", "{\"secret\":}", "{'a':1}", &deep] {
            let mut wrong = Violations::default();
            let kept = from_text(&mut wrong, text.to_owned());
            let Err(Error::Invalid { fields }) = wrong.finish(kept) else {
                panic!("{text} was taken");
            };
            assert_eq!(fields[0].field, "claims_json");
            assert!(!fields[0].why.contains("secret"));
        }
    }
}
