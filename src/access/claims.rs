//! What a token may say, for those who have claims signed and not bytes.
//!
//! Claims are judged as a verifier will read them: names and strings with their escapes undone, and
//! what cannot be read in one way only is refused. A claim that the policy fixes is written by the
//! service even where the caller has given the same.

use super::pattern::Pattern;
use crate::jose::{Members, REGISTERED};
use crate::key::words;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

/// What one binding lets a token say. Empty, it lets it say anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimsPolicy {
    /// Every member of `aud` matches one of them; none: any `aud`, or no `aud`.
    pub audiences: Option<Vec<Pattern>>,
    /// `sub` matches one of them; none: any `sub`, or no `sub`.
    pub subjects: Option<Vec<Pattern>>,
    /// Claims that there must be, and not as null.
    pub required: Vec<String>,
    /// Claims that there must not be.
    pub forbidden: Vec<String>,
    /// The longest lifetime; the usual one is cut to it.
    pub lifetime_max: Option<Duration>,
    /// Claims that the service adds, and that the caller can give in no other way.
    pub fixed: BTreeMap<String, Value>,
}

/// How long a token is to live, as its caller asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The time now, in seconds since 1970.
    pub now: i64,
    /// The span that is asked for; none: as `exp` says, or the usual one.
    pub asked: Option<Duration>,
}

/// A claim that the policy does not let a token have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{claim} {why}")]
pub struct ClaimRefused {
    /// The claim.
    pub claim: String,
    /// The rule, by its name in the policy; `names` is the one that all policies have.
    pub rule: &'static str,
    /// What would be right.
    pub why: String,
}

/// The rules, in the order in which they are held against claims.
const RULES: [&str; 7] =
    ["names", "forbidden", "fixed", "required", "audiences", "subjects", "lifetime_max"];

impl ClaimRefused {
    /// How many rules were passed before this one.
    pub(super) fn stage(&self) -> usize {
        RULES.iter().take_while(|rule| **rule != self.rule).count()
    }

    /// Nobody was there to judge.
    pub(super) fn unjudged() -> Self {
        refused("claims", "policy", "are allowed by no binding")
    }
}

impl ClaimsPolicy {
    /// The claims as they may be signed for `caller`, or the first rule that they break.
    pub fn judge(
        &self,
        caller: &str,
        claims: &Members,
        lifetime: Lifetime,
    ) -> Result<Members, ClaimRefused> {
        self.nothing_ambiguous(claims)?;
        self.nothing_forbidden(claims)?;
        let claims = self.with_fixed(claims)?;
        self.nothing_missing(&claims)?;
        if let Some(audiences) = &self.audiences {
            audience(audiences, caller, &claims)?;
        }
        if let Some(subjects) = &self.subjects {
            subject(subjects, caller, &claims)?;
        }
        if let Some(longest) = self.lifetime_max {
            short_enough(longest, &claims, lifetime)?;
        }
        Ok(claims)
    }

    /// A name that a verifier may take for one that is judged here would not be judged.
    fn nothing_ambiguous(&self, claims: &Members) -> Result<(), ClaimRefused> {
        let own = self.forbidden.iter().chain(&self.required).chain(self.fixed.keys());
        let names: Vec<&str> = REGISTERED.into_iter().chain(own.map(String::as_str)).collect();
        let why =
            "differs only by case from another name that verifiers may take it for; rename it";
        claims.ambiguous(&names).map_or(Ok(()), |name| Err(refused(name, "names", why)))
    }

    fn nothing_forbidden(&self, claims: &Members) -> Result<(), ClaimRefused> {
        match claims.iter().find(|(name, _)| self.forbidden.iter().any(|other| other == name)) {
            Some((name, _)) => Err(refused(name, "forbidden", "is forbidden here; leave it out")),
            None => Ok(()),
        }
    }

    fn nothing_missing(&self, claims: &Members) -> Result<(), ClaimRefused> {
        let missing = |name: &&String| claims.value(name).is_none_or(|value| value.get() == "null");
        match self.required.iter().find(missing) {
            Some(name) => {
                Err(refused(name, "required", "is required here, and not as null; add it"))
            }
            None => Ok(()),
        }
    }

    /// The claims with the fixed ones in them, in the service's own writing: an object that holds a
    /// name twice reads as equal to one of us and as something else to another.
    fn with_fixed(&self, claims: &Members) -> Result<Members, ClaimRefused> {
        let mut whole = claims.clone();
        for (name, fixed) in &self.fixed {
            let given = claims.value(name).map(|given| serde_json::from_str(given.get()).ok());
            if given.is_some_and(|given: Option<Value>| given.as_ref() != Some(fixed)) {
                let why = "is fixed here to another value; leave it out";
                return Err(refused(name, "fixed", why));
            }
            // A value that was read from a configuration can be written.
            if let Ok(text) = RawValue::from_string(fixed.to_string()) {
                whole.set(name, text);
            }
        }
        Ok(whole)
    }
}

/// RFC 7519 section 4.1.3: a string, or an array of them.
fn audience(allowed: &[Pattern], caller: &str, claims: &Members) -> Result<(), ClaimRefused> {
    let given = claims.value("aud").and_then(|value| {
        let text = value.get();
        serde_json::from_str::<String>(text)
            .map(|one| vec![one])
            .or_else(|_| serde_json::from_str::<Vec<String>>(text))
            .ok()
    });
    let given = given.unwrap_or_default();
    let fits = |one: &String| allowed.iter().any(|pattern| pattern.matches(one, caller));
    if !given.is_empty() && given.iter().all(fits) {
        return Ok(());
    }
    let why = format!("must be {}, or an array of such strings", one_of(allowed));
    Err(refused("aud", "audiences", why))
}

fn subject(allowed: &[Pattern], caller: &str, claims: &Members) -> Result<(), ClaimRefused> {
    let given = claims.string("sub");
    if given.is_some_and(|given| allowed.iter().any(|pattern| pattern.matches(&given, caller))) {
        return Ok(());
    }
    Err(refused("sub", "subjects", format!("must be {}", one_of(allowed))))
}

fn short_enough(
    longest: Duration,
    claims: &Members,
    lifetime: Lifetime,
) -> Result<(), ClaimRefused> {
    let short = match claims.value("exp") {
        None => lifetime.asked.is_none_or(|asked| asked <= longest),
        Some(value) => serde_json::from_str::<i64>(value.get()).is_ok_and(|exp| {
            let left = u64::try_from(exp.saturating_sub(lifetime.now)).unwrap_or(0);
            Duration::from_secs(left) <= longest
        }),
    };
    if short {
        return Ok(());
    }
    let why = format!("must lie at most {} from now, in whole seconds", words(longest));
    Err(refused("exp", "lifetime_max", why))
}

fn one_of(allowed: &[Pattern]) -> String {
    match allowed {
        [] => "left out: none is allowed".to_owned(),
        [one] => format!("a string like {one}"),
        many => {
            let many: Vec<_> = many.iter().map(Pattern::as_str).collect();
            format!("a string like one of {}", many.join(", "))
        }
    }
}

fn refused(claim: &str, rule: &'static str, why: impl Display) -> ClaimRefused {
    ClaimRefused { claim: claim.to_owned(), rule, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CALLER: &str = "spiffe://prod/issuer";

    fn patterns(all: &[&str]) -> Option<Vec<Pattern>> {
        Some(all.iter().map(|text| Pattern::with_caller(text).unwrap()).collect())
    }

    /// The claims as they would be signed, or claim and rule.
    fn judged(policy: &ClaimsPolicy, claims: &str) -> Result<String, (String, &'static str)> {
        judged_for(policy, claims, None)
    }

    fn judged_for(
        policy: &ClaimsPolicy,
        claims: &str,
        asked: Option<Duration>,
    ) -> Result<String, (String, &'static str)> {
        let claims = Members::parse(claims.as_bytes()).unwrap();
        let lifetime = Lifetime { now: 1_000, asked };
        match policy.judge(CALLER, &claims, lifetime) {
            Ok(members) => {
                let all = members.iter().map(|(name, value)| format!("{name}={value}"));
                Ok(all.collect::<Vec<_>>().join(" "))
            }
            Err(refused) => Err((refused.claim, refused.rule)),
        }
    }

    #[track_caller]
    fn refuses(policy: &ClaimsPolicy, claims: &str, claim: &str, rule: &'static str) {
        assert_eq!(judged(policy, claims), Err((claim.to_owned(), rule)), "{claims}");
    }

    #[test]
    fn every_member_of_aud_must_be_allowed() {
        let audiences = patterns(&["https://api.example/*", "internal"]);
        let policy = ClaimsPolicy { audiences, ..ClaimsPolicy::default() };
        for claims in [
            r#"{"aud":"internal"}"#,
            r#"{"aud":["internal","https://api.example/a"]}"#,
            r#"{"\u0061ud":"\u0069nternal"}"#,
        ] {
            assert!(judged(&policy, claims).is_ok(), "{claims}");
        }
        for claims in [
            "{}",
            r#"{"aud":"other"}"#,
            r#"{"aud":"https://api.example/a/b"}"#,
            r#"{"aud":[]}"#,
            r#"{"aud":["internal","other"]}"#,
            r#"{"aud":["internal",["internal"]]}"#,
            r#"{"aud":["internal",1]}"#,
            r#"{"aud":{"internal":1}}"#,
            r#"{"aud":null}"#,
            r#"{"\u0061ud":"other"}"#,
        ] {
            refuses(&policy, claims, "aud", "audiences");
        }
    }

    #[test]
    fn a_name_that_differs_from_a_ruled_one_only_by_case_is_refused() {
        let policy = ClaimsPolicy {
            required: vec!["tenant".into()],
            forbidden: vec!["admin".into()],
            fixed: BTreeMap::from([("env".to_owned(), json!("prod"))]),
            ..ClaimsPolicy::default()
        };
        for name in ["Aud", "EXP", "i\u{17f}s", "Tenant", "ADMIN", "Env"] {
            let claims = format!(r#"{{"tenant":1,"{name}":2}}"#);
            refuses(&policy, &claims, name, "names");
        }
        refuses(&policy, r#"{"tenant":1,"a":2,"A":3}"#, "A", "names");
    }

    #[test]
    fn a_subject_may_be_the_callers_own_name_and_nothing_that_looks_like_a_pattern() {
        let subjects = patterns(&["{caller}", "service-*"]);
        let policy = ClaimsPolicy { subjects, ..ClaimsPolicy::default() };
        assert!(judged(&policy, r#"{"sub":"spiffe://prod/issuer"}"#).is_ok());
        assert!(judged(&policy, r#"{"sub":"service-7"}"#).is_ok());
        for claims in
            ["{}", r#"{"sub":"spiffe://prod/other"}"#, r#"{"sub":"{caller}"}"#, r#"{"sub":7}"#]
        {
            refuses(&policy, claims, "sub", "subjects");
        }
        // A caller whose name is a pattern speaks for nobody but itself.
        let named = |sub: &str| {
            let claims = Members::parse(json!({ "sub": sub }).to_string().as_bytes()).unwrap();
            policy.judge("jwt:ci:**", &claims, Lifetime { now: 0, asked: None }).is_ok()
        };
        assert!(named("jwt:ci:**"));
        assert!(!named("jwt:ci:somebody"));
    }

    #[test]
    fn required_claims_must_be_there_and_forbidden_ones_not() {
        let policy = ClaimsPolicy {
            required: vec!["tenant".into()],
            forbidden: vec!["admin".into()],
            ..ClaimsPolicy::default()
        };
        assert!(judged(&policy, r#"{"tenant":""}"#).is_ok());
        refuses(&policy, r#"{"tenant": null }"#, "tenant", "required");
        refuses(&policy, "{}", "tenant", "required");
        refuses(&policy, r#"{"tenant":1,"admin":false}"#, "admin", "forbidden");
        refuses(&policy, r#"{"tenant":1,"\u0061dmin":false}"#, "admin", "forbidden");
    }

    #[test]
    fn fixed_claims_are_added_and_written_by_the_service() {
        let policy = ClaimsPolicy {
            fixed: BTreeMap::from([("env".to_owned(), json!({ "name": "prod" }))]),
            required: vec!["env".into()],
            ..ClaimsPolicy::default()
        };
        let expected = r#"env={"name":"prod"}"#;
        for claims in ["{}", r#"{"env":{"name":"prod"}}"#, r#"{"env":{"name":"x","name":"prod"}}"#]
        {
            assert_eq!(judged(&policy, claims).unwrap(), expected, "{claims}");
        }
        for claims in [r#"{"env":"prod"}"#, r#"{"env":{"name":"test"}}"#, r#"{"env":null}"#] {
            refuses(&policy, claims, "env", "fixed");
        }
    }

    #[test]
    fn a_lifetime_is_refused_if_it_is_asked_for_and_too_long() {
        let policy = ClaimsPolicy {
            lifetime_max: Some(Duration::from_secs(600)),
            ..ClaimsPolicy::default()
        };
        assert!(judged(&policy, "{}").is_ok());
        assert!(judged(&policy, r#"{"exp":1600}"#).is_ok());
        for claims in [r#"{"exp":1601}"#, r#"{"exp":1e3}"#, r#"{"exp":"1100"}"#, r#"{"exp":null}"#]
        {
            refuses(&policy, claims, "exp", "lifetime_max");
        }
        let lasting = |seconds| judged_for(&policy, "{}", Some(Duration::from_secs(seconds)));
        assert!(lasting(600).is_ok());
        assert_eq!(lasting(601), Err(("exp".to_owned(), "lifetime_max")));
    }
}
