//! Bearer tokens that must not be taken, and what happens when their issuer is out.

use crate::harness::tokens::{
    AUDIENCE, ISSUER, Minter, Publisher, base64url, claims, in_file, issuer,
};
use crate::harness::{authority::Authority, eventually};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use signkeep::access::{Access, KeySource, Settings, Unknown};
use signkeep::clock::FrozenClock;
use signkeep::transport::Peer;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const NOW: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// Rules that trust one issuer, with a clock that stands still.
struct Desk {
    access: Access,
    clock: Arc<FrozenClock>,
    _folder: TempDir,
}

impl Desk {
    fn with(keys: impl FnOnce(&TempDir) -> KeySource) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FrozenClock::at(Timestamp::from_second(NOW).unwrap()));
        let issuers = vec![issuer(keys(&folder))];
        let settings = Settings { issuers, ..Settings::default() };
        let access = Access::new(settings, clock.clone()).unwrap();
        Self { access, clock, _folder: folder }
    }

    fn trusting(minter: &Minter) -> Self {
        Self::with(|folder| in_file(folder, &minter.jwks()))
    }

    async fn name(&self, token: &str) -> Result<String, String> {
        self.name_from(&peer(), token).await
    }

    async fn name_from(&self, peer: &Peer, token: &str) -> Result<String, String> {
        match self.access.identify(peer, Some(token)).await {
            Ok(caller) => Ok(caller.as_str().to_owned()),
            Err(Unknown::Token(why)) => Err(why),
            Err(other) => Err(other.to_string()),
        }
    }
}

fn peer() -> Peer {
    Peer::plain("grpc", "127.0.0.1:9".parse().unwrap())
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims("builder");
    change(&mut claims);
    claims
}

#[tokio::test]
async fn a_good_token_names_its_bearer_and_what_else_it_is_known_by() {
    let minter = Minter::new("k1");
    let desk = Desk::trusting(&minter);
    let claims = changed(|claims| {
        claims["aud"] = json!(["other", AUDIENCE]);
        claims["groups"] = json!(["deployers", "staff"]);
        claims["scope"] = json!("sign read");
    });
    let caller = desk.access.identify(&peer(), Some(&minter.with(claims))).await.unwrap();
    assert_eq!(caller.as_str(), "jwt:ci:builder");
    let attributes: Vec<_> = caller.attributes().collect();
    assert_eq!(
        attributes,
        ["group:ci:deployers", "group:ci:staff", "scope:ci:sign", "scope:ci:read"]
    );
}

#[tokio::test]
async fn no_claim_may_be_missing_or_wrong() {
    let minter = Minter::new("k1");
    let desk = Desk::trusting(&minter);
    for (claims, word) in [
        (changed(|claims| claims["aud"] = json!("other")), "audience"),
        (changed(|claims| claims["aud"] = json!(["other"])), "audience"),
        (changed(|claims| claims["aud"] = json!({ AUDIENCE: 1 })), "audience"),
        (changed(|claims| claims["aud"] = Value::Null), "audience"),
        (changed(|claims| claims["iss"] = json!("https://evil.example/")), "issuer"),
        (changed(|claims| claims["iss"] = json!(ISSUER.trim_end_matches('/'))), "issuer"),
        (changed(|claims| claims["iss"] = json!([ISSUER])), "iss"),
        (changed(|claims| claims["exp"] = json!(NOW - 60)), "expired"),
        (changed(|claims| claims["exp"] = json!("4000000000")), "exp"),
        (changed(|claims| claims["exp"] = json!(-1)), "exp"),
        (changed(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))), "exp"),
        (changed(|claims| claims["nbf"] = json!(NOW + 61)), "not valid yet"),
        (changed(|claims| claims["nbf"] = json!("now")), "not valid yet"),
        (changed(|claims| claims["sub"] = json!("")), "sub"),
        (changed(|claims| claims["sub"] = json!(7)), "sub"),
        (changed(|claims| claims["sub"] = json!("a\nb")), "printable"),
        (changed(|claims| claims["sub"] = json!("b\u{fc}ilder")), "printable"),
        (changed(|claims| claims["groups"] = json!(vec!["g"; 257])), "256"),
    ] {
        let refused = desk.name(&minter.with(claims.clone())).await.unwrap_err();
        assert!(refused.contains(word), "{claims}: {refused}");
    }
    for claims in [
        changed(|claims| claims["exp"] = json!(NOW - 59)),
        changed(|claims| claims["exp"] = json!(1_800_000_000.5)),
        changed(|claims| claims["exp"] = json!(1e300)),
        changed(|claims| claims["nbf"] = json!(NOW + 60)),
    ] {
        assert!(desk.name(&minter.with(claims.clone())).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn a_signature_counts_only_if_the_issuers_own_key_made_it_by_its_own_algorithm() {
    let (minter, thief) = (Minter::new("k1"), Minter::new("k1"));
    let desk = Desk::trusting(&minter);
    let payload = claims("builder").to_string();
    let none = |alg: &str| {
        let header = base64url(format!(r#"{{"alg":"{alg}","kid":"k1"}}"#).as_bytes());
        format!("{header}.{}.", base64url(payload.as_bytes()))
    };
    let hmac = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&header, &claims("builder"), &key).unwrap()
    };
    let good = minter.token("builder");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = base64url(claims("admin").to_string().as_bytes());
    let with_own_key = json!({ "alg": "ES256", "kid": "k1", "jwk": thief.jwk() }).to_string();
    for (token, word) in [
        (none("none"), "algorithm"),
        (none("None"), "algorithm"),
        (none("ES256"), "does not verify"),
        (hmac(minter.public()), "algorithm"),
        (hmac(minter.jwks().as_bytes()), "algorithm"),
        (thief.token("builder"), "does not verify"),
        (thief.over(&with_own_key, &payload), "does not verify"),
        (Minter::new("k2").token("builder"), "does not publish"),
        (minter.over(r#"{"alg":"RS256","kid":"k1"}"#, &payload), "not for its algorithm"),
        (minter.over(r#"{"alg":"ES384","kid":"k1"}"#, &payload), "algorithm"),
        (minter.over(r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#, &payload), "signed JWT"),
        (minter.over(r#"{"alg":"ES256","kid":"k1","\u006bid":"k2"}"#, &payload), "signed JWT"),
        (minter.over(r#"{"alg":"ES256","kid":7}"#, &payload), "signed JWT"),
        (minter.over(r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":true}"#, &payload), "crit"),
        (minter.over(r#"{"kid":"k1"}"#, &payload), "signed JWT"),
        (minter.over(r#"{"alg":"ES256","kid":"k1"}"#, r#"{"sub":"a","sub":"b"}"#), "signed JWT"),
        (format!("{header}.{other}.{signature}"), "does not verify"),
        (format!("{signed}.{signature}="), "signed JWT"),
        (format!("{good}."), "signed JWT"),
        (format!(".{good}"), "signed JWT"),
        (signed.to_owned(), "signed JWT"),
        (String::new(), "signed JWT"),
        ("..".to_owned(), "signed JWT"),
        (format!("{good}{}", "A".repeat(8 * 1024)), "8 KiB"),
    ] {
        let refused = desk.name(&token).await.unwrap_err();
        assert!(refused.contains(word), "{token}: {refused}");
        assert!(!refused.contains("builder") && !refused.contains("k1"), "it repeats: {refused}");
    }
    assert_eq!(desk.name(&good).await.unwrap(), "jwt:ci:builder");
}

#[tokio::test]
async fn a_token_without_a_kid_needs_an_issuer_with_one_fitting_key() {
    let (one, two) = (Minter::new("k1"), Minter::new("k2"));
    let token = one.over(r#"{"alg":"ES256"}"#, &claims("builder").to_string());
    assert!(Desk::trusting(&one).name(&token).await.is_ok());
    let both = json!({ "keys": [one.jwk(), two.jwk()] }).to_string();
    let refused = Desk::with(|folder| in_file(folder, &both)).name(&token).await.unwrap_err();
    assert!(refused.contains("which"), "{refused}");
}

#[tokio::test]
async fn a_bad_token_is_no_way_back_to_the_certificates_name() {
    let minter = Minter::new("k1");
    let desk = Desk::trusting(&minter);
    let client = Authority::new("a test's own").client(&["spiffe://test.example/issuer"]);
    let certificate = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
    let peer = Peer { certificates: vec![certificate.to_vec()], ..peer() };
    let alone = desk.access.identify(&peer, None).await.unwrap();
    assert_eq!(alone.as_str(), "spiffe://test.example/issuer");
    assert!(desk.name_from(&peer, "no token").await.is_err());
    assert_eq!(desk.name_from(&peer, &minter.token("a")).await.unwrap(), "jwt:ci:a");
}

#[tokio::test]
async fn a_token_is_not_remembered_beyond_its_end() {
    let minter = Minter::new("k1");
    let desk = Desk::trusting(&minter);
    let token = minter.with(changed(|claims| claims["exp"] = json!(NOW + 60)));
    for _ in 0..2 {
        assert!(desk.name(&token).await.is_ok());
    }
    desk.clock.advance(Duration::from_secs(119));
    assert!(desk.name(&token).await.is_ok());
    desk.clock.advance(Duration::from_secs(1));
    assert!(desk.name(&token).await.unwrap_err().contains("expired"));
}

/// A desk that has fetched the issuer's keys.
async fn fetched(minter: &Minter) -> (Desk, Publisher) {
    let publisher = Publisher::start(&minter.jwks()).await;
    let desk = Desk::with(|_| publisher.source(HOUR));
    let token = minter.token("builder");
    eventually("the keys are fetched", Duration::from_secs(20), async || {
        desk.name(&token).await.ok()
    })
    .await;
    (desk, publisher)
}

#[tokio::test]
async fn keys_are_fetched_in_the_background_and_never_for_a_call() {
    let minter = Minter::new("k1");
    let (desk, publisher) = fetched(&minter).await;
    let asked = publisher.asked();
    for at in 0..200 {
        desk.name(&minter.token(&format!("builder-{at}"))).await.unwrap();
        let unknown = Minter::new("unknown").token("builder");
        assert!(desk.name(&unknown).await.unwrap_err().contains("does not publish"));
    }
    assert_eq!(publisher.asked(), asked, "the cooldown holds");
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_asked_for_once_the_cooldown_is_over() {
    let (old, new) = (Minter::new("k1"), Minter::new("k2"));
    let (desk, publisher) = fetched(&old).await;
    publisher.publish(&new.jwks());
    let asked = publisher.asked();
    desk.clock.advance(Duration::from_secs(11));
    assert_eq!(desk.name(&new.token("builder")).await.unwrap(), "jwt:ci:builder");
    assert_eq!(publisher.asked(), asked + 1);
    let gone = desk.name(&old.token("builder")).await.unwrap_err();
    assert!(gone.contains("does not publish"), "remembered beyond its key: {gone}");
}

#[tokio::test]
async fn keys_serve_on_for_a_while_when_their_issuer_is_out() {
    let minter = Minter::new("k1");
    let (desk, publisher) = fetched(&minter).await;
    publisher.set_down(true);
    let token = minter.token("builder");
    desk.clock.advance(HOUR - Duration::from_secs(1));
    assert!(desk.name(&token).await.is_ok());
    desk.clock.advance(Duration::from_secs(1));
    let refused = desk.name(&token).await.unwrap_err();
    assert!(refused.contains("cannot be fetched"), "{refused}");
    publisher.set_down(false);
    desk.clock.advance(Duration::from_secs(11));
    eventually("it is back", Duration::from_secs(30), async || desk.name(&token).await.ok()).await;
}

#[tokio::test]
async fn an_issuer_that_is_out_from_the_start_keeps_nobody_else_out() {
    let publisher = Publisher::start("<html>").await;
    let desk = Desk::with(|_| publisher.source(HOUR));
    let refused = desk.name(&Minter::new("k1").token("builder")).await.unwrap_err();
    assert!(refused.contains("cannot be fetched"), "{refused}");
    assert!(desk.access.identify(&peer(), None).await.is_ok());
}
