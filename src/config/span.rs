//! Durations as people write them: `90d`, `15m`, `1h30m`, `0s`.

/// Writes a duration as [`Span`] reads it.
pub use crate::key::words;

use crate::key::UNITS;
use serde::de::{Deserialize, Deserializer, Error as _};
use std::str::FromStr;
use std::time::Duration;

const WEEK: (&str, u64) = ("w", 7 * 86_400_000);

/// A duration in words: whole numbers with the units w, d, h, m, s and ms, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// A text that is not a duration; says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration in words such as 15m, 24h, 90d, 1h30m or 0s")]
pub struct InvalidSpan;

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(InvalidSpan);
        }
        while !rest.is_empty() {
            let (number, after) = split(rest, |character| character.is_ascii_digit());
            let (unit, after) = split(after, |character| character.is_ascii_alphabetic());
            let (_, scale) =
                UNITS.iter().chain([&WEEK]).find(|(name, _)| *name == unit).ok_or(InvalidSpan)?;
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(*scale))
                .and_then(|part| total.checked_add(part))
                .ok_or(InvalidSpan)?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn split(text: &str, of_it: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|character| !of_it(character)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<u64, InvalidSpan> {
        text.parse::<Span>().map(|span| span.get().as_secs())
    }

    #[test]
    fn durations_are_read_as_words() {
        assert_eq!(seconds("90d"), Ok(90 * 86400));
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert_eq!(seconds("2w"), Ok(14 * 86400));
        assert_eq!(seconds("0s"), Ok(0));
        assert_eq!("250ms".parse::<Span>().map(Span::get), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "15",
            "m",
            "-1s",
            "1.5h",
            "1y",
            "1 fortnight",
            "99999999999999999999s",
            "999999999999999w",
            "1h30",
            "m15",
        ] {
            assert_eq!(seconds(text), Err(InvalidSpan), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for seconds in [0, 1, 59, 60, 90, 3600, 5400, 86400, 90 * 86400 + 61] {
            let span = Duration::from_secs(seconds);
            assert_eq!(words(span).parse::<Span>().map(Span::get), Ok(span));
        }
        assert_eq!(words(Duration::from_millis(1500)), "1s500ms");
    }
}
