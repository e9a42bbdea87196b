//! What a request's headers say about the answer it wants (RFC 9110 sections 12.5.3 and 13.1.2),
//! as pure functions. Headers that cannot be read count as not sent, so that the worst that bad
//! ones do is to cost a full answer.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, HeaderName, IF_NONE_MATCH};

/// Whether gzip is acceptable and no less welcome than no encoding.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for item in values(headers, &ACCEPT_ENCODING).flat_map(|value| value.split(',')) {
        let (coding, weight) = weighted(item);
        let place = match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut gzip,
            "identity" => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        *place = Some(weight);
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Whether one of the validators that the caller holds is `etag`, by weak comparison (RFC 9110
/// section 8.8.3.2): then nothing has changed for it.
pub(super) fn holds(headers: &HeaderMap, etag: &str) -> bool {
    values(headers, &IF_NONE_MATCH)
        .any(|value| value.trim() == "*" || Tags(value).any(|tag| tag == etag))
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// A coding and its weight in thousandths; a weight that cannot be read is zero.
fn weighted(item: &str) -> (&str, u16) {
    let mut parts = item.split(';').map(str::trim);
    let coding = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    (coding, weight.map_or(1000, |text| thousandths(text).unwrap_or(0)))
}

/// `qvalue` (RFC 9110 section 12.4.2) in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// The entity tags in a list, quotes included and `W/` left off; ends at the first that is none. A
/// tag may hold commas, so the list is not simply split.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches([' ', '\t', ',']);
        let rest = rest.strip_prefix("W/").unwrap_or(rest);
        let inside = rest.strip_prefix('"')?;
        let end = inside.find('"')? + 2;
        let (tag, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn gzip_is_used_when_it_is_accepted_and_only_then() {
        for (wanted, values) in [
            (false, &[][..]),
            (false, &[""]),
            (true, &["gzip"]),
            (true, &["x-gzip"]),
            (true, &["GZIP"]),
            (true, &["br, gzip;q=0.8, deflate"]),
            (true, &["br", "gzip"]),
            (true, &["*"]),
            (true, &["gzip;q=1.000"]),
            (true, &["gzip ; q=0.001"]),
            (true, &["gzip;Q=1"]),
            (true, &["*;q=0, gzip"]),
            (false, &["gzip;q=0"]),
            (false, &["gzip;q=0.000"]),
            (false, &["gzip;q=0, *"]),
            (false, &["*;q=0"]),
            (false, &["identity"]),
            (false, &["identity, gzip;q=0.5"]),
            (true, &["identity;q=0.5, gzip;q=0.5"]),
            (true, &["identity;q=0, gzip;q=0.1"]),
            (false, &["gzip;q=1.5"]),
            (false, &["gzip;q=-1"]),
            (false, &["gzip;q="]),
            (false, &["gzip;q=0.0001"]),
            (false, &["gzipped, notgzip"]),
        ] {
            let headers = headers(ACCEPT_ENCODING, values);
            assert_eq!(accepts_gzip(&headers), wanted, "{values:?}");
        }
    }

    #[test]
    fn validators_are_compared_weakly_in_lists_and_in_several_headers() {
        for (wanted, values) in [
            (false, &[][..]),
            (true, &["\"a\""]),
            (true, &["W/\"a\""]),
            (true, &["*"]),
            (true, &[" * "]),
            (true, &["\"b\", W/\"a\""]),
            (true, &["\"b\",\"a\""]),
            (true, &["\"b\"", "\"a\""]),
            (true, &["\"x,y\" ,, \"a\""]),
            (false, &["\"b\""]),
            (false, &["\"A\""]),
            (false, &["a"]),
            (false, &["\"a"]),
            (false, &["w/\"a\""]),
            (false, &["\"b,\"a\""]),
            (false, &["\"a-gzip\""]),
            (false, &["\"*\""]),
        ] {
            let headers = headers(IF_NONE_MATCH, values);
            assert_eq!(holds(&headers, "\"a\""), wanted, "{values:?}");
        }
    }

    #[test]
    fn headers_that_are_not_text_count_as_not_sent() {
        let mut headers = HeaderMap::new();
        let garbage = HeaderValue::from_bytes(b"\"a\"\xff").unwrap();
        headers.append(IF_NONE_MATCH, garbage.clone());
        headers.append(ACCEPT_ENCODING, garbage);
        assert!(!holds(&headers, "\"a\""));
        assert!(!accepts_gzip(&headers));
    }
}
