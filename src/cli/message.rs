//! The API's messages as JSON, by the names of the protobuf JSON form, and as words.

use crate::config::words;
use crate::grpc::proto as pb;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A key as JSON.
pub(super) fn key(key: &pb::Key) -> Value {
    let mut object = Object::default();
    object.text("kid", &key.kid);
    object.text("keySet", &key.key_set);
    object.text("algorithm", &key.algorithm);
    object.text("state", key.state().as_str_name());
    object.time("createTime", key.create_time.as_ref());
    object.time("publishTime", key.publish_time.as_ref());
    object.time("currentSinceTime", key.current_since_time.as_ref());
    object.time("currentUntilTime", key.current_until_time.as_ref());
    object.time("revokeTime", key.revoke_time.as_ref());
    object.text("revokeReason", &key.revoke_reason);
    object.text("certificatePem", &key.certificate_pem);
    object.text("publicKeyPem", &key.public_key_pem);
    object.text("thumbprintSha1", &key.thumbprint_sha1);
    object.text("thumbprintSha256", &key.thumbprint_sha256);
    object.text("backend", &key.backend);
    object.time("rotatableTime", key.rotatable_time.as_ref());
    object.time("tokensUntilTime", key.tokens_until_time.as_ref());
    object.time("destroyTime", key.destroy_time.as_ref());
    object.into()
}

/// Keys as a JSON array.
pub(super) fn keys(list: &[pb::Key]) -> Value {
    list.iter().map(key).collect()
}

/// A key that may be absent, as JSON.
pub(super) fn maybe_key(maybe: Option<&pb::Key>) -> Value {
    maybe.map_or(Value::Null, key)
}

/// A key set as JSON.
pub(super) fn key_set(set: &pb::KeySet) -> Value {
    let mut object = Object::default();
    object.text("id", &set.id);
    object.text("algorithm", &set.algorithm);
    object.text("backend", &set.backend);
    object.text("issuer", &set.issuer);
    if let Some(policy) = &set.policy {
        object.set("policy", self::policy(policy));
    }
    object.text("state", set.state().as_str_name());
    object.set("rotationHold", set.rotation_hold.into());
    object.set("incomplete", set.incomplete.into());
    object.text("etag", &set.etag);
    object.time("createTime", set.create_time.as_ref());
    object.set("keys", keys(&set.keys));
    object.time("nextRotationTime", set.next_rotation_time.as_ref());
    object.set("canRollBack", set.can_roll_back.into());
    object.into()
}

/// How certain a change is, as JSON.
pub(super) fn barrier(barrier: Option<&pb::Barrier>) -> Value {
    barrier.map_or(Value::Null, |barrier| {
        json!({
            "allAcknowledged": barrier.all_acknowledged,
            "leasesExpired": barrier.leases_expired,
            "replicasStillPublishing": barrier.replicas_still_publishing,
            "revision": barrier.revision.to_string(),
        })
    })
}

/// A policy as JSON; spans in seconds with an `s`, as protobuf writes them.
fn policy(policy: &pb::Policy) -> Value {
    let mut object = Object::default();
    object.span("propagationDelay", policy.propagation_delay.as_ref());
    object.span("maxTokenTtl", policy.max_token_ttl.as_ref());
    object.span("retention", policy.retention.as_ref());
    object.span("rotationPeriod", policy.rotation_period.as_ref());
    object.span("destroyAfter", policy.destroy_after.as_ref());
    object.set("rsaBits", policy.rsa_bits.into());
    object.into()
}

/// The state in one lower-case word, e.g. `current`.
pub(super) fn state(key: &pb::Key) -> String {
    plain(key.state().as_str_name(), "KEY_STATE_")
}

/// Whether the key set serves, in one lower-case word.
pub(super) fn set_state(set: &pb::KeySet) -> String {
    plain(set.state().as_str_name(), "KEY_SET_STATE_")
}

/// A time for people, RFC 3339 in UTC to the second; `-` for none.
pub(super) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| Timestamp::from_second(time.seconds).ok())
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// A span for people; `-` for none.
pub(super) fn span(span: Option<&prost_types::Duration>) -> String {
    span.map_or_else(|| "-".to_owned(), |span| words(duration(span)))
}

/// A span of the API as a duration; a negative one, which is never sent, as zero.
pub(super) fn duration(span: &prost_types::Duration) -> Duration {
    Duration::new(u64::try_from(span.seconds).unwrap_or(0), u32::try_from(span.nanos).unwrap_or(0))
}

/// A duration as the API takes it.
pub(super) fn to_span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Text that is set; what is empty is left out, as protobuf does.
    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.set(name, text.into());
        }
    }

    fn time(&mut self, name: &str, time: Option<&prost_types::Timestamp>) {
        let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        if let Some(time) = time {
            self.set(name, time.to_string().into());
        }
    }

    fn span(&mut self, name: &str, span: Option<&prost_types::Duration>) {
        if let Some(span) = span {
            self.set(name, format!("{}s", duration(span).as_secs_f64()).into());
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_names_of_the_protobuf_json_form() {
        let sent = pb::Key {
            kid: "k".to_owned(),
            state: pb::KeyState::Current.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            ..pb::Key::default()
        };
        let expected = json!({
            "kid": "k",
            "state": "KEY_STATE_CURRENT",
            "createTime": "1970-01-01T00:00:01.5Z",
        });
        assert_eq!(key(&sent), expected);
        assert_eq!(state(&sent), "current");
    }

    #[test]
    fn spans_are_written_in_seconds() {
        let sent = pb::Policy {
            max_token_ttl: Some(to_span(Duration::from_secs(90))),
            propagation_delay: Some(to_span(Duration::from_millis(1500))),
            rsa_bits: 2048,
            ..pb::Policy::default()
        };
        let expected = json!({"maxTokenTtl": "90s", "propagationDelay": "1.5s", "rsaBits": 2048});
        assert_eq!(policy(&sent), expected);
    }
}
