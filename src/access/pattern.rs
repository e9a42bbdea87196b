//! Patterns over names: `*` stands for any characters but `/`, `**` for any characters at all, and
//! every other character for itself.
//!
//! There is deliberately no more to them than that. A name may hold any printable character, so
//! whatever else meant something here would be a way to say something that nobody meant.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes.
const LEN_MAX: usize = 1024;
/// What stands for the caller's name where that is allowed.
const CALLER: &str = "{caller}";

/// A pattern, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// Within a segment.
    Star,
    /// Across segments.
    Stars,
    /// The caller's name, as text.
    Caller,
}

/// A text that is not a pattern; says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(&'static str);

impl Pattern {
    /// A pattern in which `{caller}` stands for the name of whoever calls.
    pub fn with_caller(text: &str) -> Result<Self, InvalidPattern> {
        let mut parts = Vec::new();
        for (at, piece) in checked(text)?.split(CALLER).enumerate() {
            if at > 0 {
                parts.push(Part::Caller);
            }
            parts.extend(pieces(piece)?);
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of `text`; `caller` is put in as it is, whatever characters it
    /// has.
    pub fn matches(&self, text: &str, caller: &str) -> bool {
        let bytes = text.as_bytes();
        // Where what has been matched so far may end, in ascending order.
        let mut ends = vec![0];
        for part in &self.parts {
            ends = match part {
                Part::Text(literal) => after(bytes, &ends, literal.as_bytes()),
                Part::Caller => after(bytes, &ends, caller.as_bytes()),
                Part::Star => within_segment(bytes, &ends),
                Part::Stars => ends.first().map_or(Vec::new(), |at| (*at..=bytes.len()).collect()),
            };
            if ends.is_empty() {
                return false;
            }
        }
        ends.last() == Some(&bytes.len())
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.contains(CALLER) {
            return Err(InvalidPattern("must not hold {caller}, which stands in subjects only"));
        }
        Ok(Self { text: text.into(), parts: pieces(checked(text)?)?.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn checked(text: &str) -> Result<&str, InvalidPattern> {
    if (1..=LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(InvalidPattern("must have 1 to 1024 characters, none of them a control character"))
    }
}

fn pieces(text: &str) -> Result<Vec<Part>, InvalidPattern> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let literal = rest.find('*').unwrap_or(rest.len());
        let (before, after) = rest.split_at(literal);
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        let stars = after.len() - after.trim_start_matches('*').len();
        match stars {
            0 => {}
            1 => parts.push(Part::Star),
            2 => parts.push(Part::Stars),
            _ => {
                return Err(InvalidPattern(
                    "must have no more than two stars in a row: * within a segment, ** across",
                ));
            }
        }
        rest = after.trim_start_matches('*');
    }
    Ok(parts)
}

/// Where `literal` ends if it begins at one of `ends`.
fn after(text: &[u8], ends: &[usize], literal: &[u8]) -> Vec<usize> {
    let begins = |at: &&usize| text.get(**at..).is_some_and(|rest| rest.starts_with(literal));
    ends.iter().filter(begins).map(|at| at + literal.len()).collect()
}

/// Every place that can be reached from one of `ends` without crossing a `/`.
fn within_segment(text: &[u8], ends: &[usize]) -> Vec<usize> {
    let mut reached: Vec<usize> = Vec::new();
    for end in ends {
        // What a place before it reached in the same segment, it reaches too.
        if reached.last().is_none_or(|last| last < end) {
            let rest = text.get(*end..).unwrap_or_default();
            let open = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            reached.extend(*end..=end + open);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(text, "nobody")
    }

    #[test]
    fn one_star_stays_within_a_segment_and_two_go_across() {
        for (pattern, text, expected) in [
            ("spiffe://prod/ns/*/sa/issuer", "spiffe://prod/ns/auth/sa/issuer", true),
            ("spiffe://prod/ns/*/sa/issuer", "spiffe://prod/ns/a/b/sa/issuer", false),
            ("spiffe://prod/ns/**", "spiffe://prod/ns/a/b/sa/issuer", true),
            ("spiffe://prod/**/issuer", "spiffe://prod/issuer", false),
            ("spiffe://prod/**issuer", "spiffe://prod/issuer", true),
            ("jwt:ci:**", "jwt:ci:repo:acme/site:ref:refs/heads/main", true),
            ("jwt:ci:*", "jwt:ci:repo:acme/site", false),
            ("prod-*", "prod-", true),
            ("prod-*", "prod", false),
            ("*", "default", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ab/c", false),
            ("default", "default2", false),
            ("default", "xdefault", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} over {text}");
        }
    }

    #[test]
    fn no_other_character_means_anything() {
        for (pattern, text) in [("a?c", "abc"), ("[ab]", "a"), ("{a,b}", "a"), ("a.c", "abc")] {
            assert!(!matches(pattern, text), "{pattern} over {text}");
            assert!(matches(pattern, pattern));
        }
        assert!(!matches("\\*", "*"));
    }

    #[test]
    fn the_callers_name_is_text_whatever_it_holds() {
        let pattern = Pattern::with_caller("{caller}/*").unwrap();
        assert!(pattern.matches("jwt:ci:**/x", "jwt:ci:**"));
        assert!(!pattern.matches("jwt:ci:abc/x", "jwt:ci:**"));
        assert!(!pattern.matches("{caller}/x", "jwt:ci:a"));
        assert!("{caller}".parse::<Pattern>().is_err());
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a***b", "line\nbreak", &"x".repeat(1025)] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    /// The same by trying everything.
    fn slowly(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', '*', rest @ ..] => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            ['*', rest @ ..] => (0..=text.len())
                .take_while(|at| !text[..*at].contains(&'/'))
                .any(|at| slowly(rest, &text[at..])),
            [first, rest @ ..] => text.first() == Some(first) && slowly(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_trying_everything_says(pattern in "[ab/*]{1,8}", text in "[ab/]{0,8}") {
            prop_assume!(!pattern.contains("***"));
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), slowly(&p, &t));
        }
    }
}
