//! What KMS does and the emulator does not: it shows new keys late, pages its lists, and refuses
//! what the emulator lets pass.
//!
//! The states of keys are known from the calls that were seen, so that no call of the proxy's own
//! is needed, which in front of an emulator that checks signatures it could not sign.

use super::wire::{Request, Response};
use super::{Call, refusal};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The most bytes that KMS signs as they are.
const RAW_MAX: usize = 4096;

/// What has been seen, and what is made of it.
#[derive(Default)]
pub(super) struct Habits {
    pub(super) youth: Duration,
    pub(super) page: Option<usize>,
    born: HashMap<String, Instant>,
    /// By alias: the key, and when it was given.
    aliases: HashMap<String, (String, Instant)>,
    states: HashMap<String, Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Enabled,
    Disabled,
    PendingDeletion,
}

impl Habits {
    /// What KMS would say to a call that the emulator would take.
    pub(super) fn refuse(&self, call: &Call) -> Option<(u16, &'static str)> {
        if !call.subject.is_empty() && self.is_young(&call.subject) {
            return Some((400, "NotFoundException"));
        }
        let state = self.states.get(self.key(&call.subject)).copied().unwrap_or(Life::Enabled);
        let by_alias = call.subject.contains("alias/");
        let pending = state == Life::PendingDeletion;
        match call.op.as_str() {
            "Sign" if raw_length(&call.body) > RAW_MAX => Some((400, "ValidationException")),
            "GetPublicKey" if state == Life::Disabled => Some((400, "DisabledException")),
            "DisableKey"
            | "EnableKey"
            | "ScheduleKeyDeletion"
            | "CreateAlias"
            | "TagResource"
            | "CancelKeyDeletion"
            | "ListResourceTags"
                if by_alias =>
            {
                Some((400, "NotFoundException"))
            }
            "GetPublicKey"
            | "EnableKey"
            | "DisableKey"
            | "TagResource"
            | "ScheduleKeyDeletion"
            | "CreateAlias"
                if pending =>
            {
                Some((400, "KMSInvalidStateException"))
            }
            "CancelKeyDeletion" if !pending => Some((400, "KMSInvalidStateException")),
            _ => None,
        }
    }

    /// The request that has to go to the emulator.
    pub(super) fn prepare(&self, call: &Call) -> Request {
        // What is changed here is not signed any more.
        if self.page.is_none() || list_of(&call.op).is_none() {
            return call.request.clone();
        }
        let mut body = call.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("Marker");
            fields.remove("Limit");
        }
        call.request.with_body(&body)
    }

    /// The answer that goes to the client, once what it says has been noted.
    pub(super) fn observe(&mut self, call: &Call, response: Response) -> Response {
        if response.status != 200 {
            return response;
        }
        let told: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        let key = self.key(&call.subject).to_owned();
        match call.op.as_str() {
            "CreateKey" => {
                let id = told["KeyMetadata"]["KeyId"].as_str().unwrap_or_default().to_owned();
                self.born.insert(id, Instant::now());
            }
            "CreateAlias" => {
                let alias = call.body["AliasName"].as_str().unwrap_or_default().to_owned();
                self.aliases.insert(alias, (key, Instant::now()));
            }
            "DeleteAlias" => {
                self.aliases.remove(call.body["AliasName"].as_str().unwrap_or_default());
            }
            "DisableKey" | "CancelKeyDeletion" => {
                self.states.insert(key, Life::Disabled);
            }
            "EnableKey" => {
                self.states.insert(key, Life::Enabled);
            }
            "ScheduleKeyDeletion" => {
                self.states.insert(key, Life::PendingDeletion);
            }
            "Sign" if call.body["DryRun"] == true => {
                return refusal(412, "DryRunOperationException");
            }
            _ => {}
        }
        match list_of(&call.op) {
            Some(list) => self.page(list, &call.body, told),
            None => response,
        }
    }

    /// The part of a list that the client asked for, without what is too young to be in it.
    fn page(&self, list: &str, asked: &Value, mut told: Value) -> Response {
        let Some(items) = told[list].as_array_mut() else {
            return Response::json(200, &told);
        };
        items.retain(|item| {
            let name = ["KeyId", "AliasName"].iter().find_map(|field| item[field].as_str());
            !name.is_some_and(|name| self.is_young(name))
        });
        let limit = asked["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let wanted = limit.unwrap_or_else(|| usual_page(list));
        let size = self.page.map_or(wanted, |most| most.min(wanted));
        let from: usize = asked["Marker"].as_str().map_or(0, |marker| marker.parse().unwrap());
        let rest = items.len().saturating_sub(from + size);
        let page: Vec<Value> = items.iter().skip(from).take(size).cloned().collect();
        let mut answer = json!({ list: page, "Truncated": rest > 0 });
        if rest > 0 {
            answer["NextMarker"] = Value::from((from + size).to_string());
        }
        Response::json(200, &answer)
    }

    /// The id of the key that an id, ARN or alias names.
    fn key<'a>(&'a self, subject: &'a str) -> &'a str {
        if let Some(at) = subject.find("alias/") {
            return self.aliases.get(&subject[at..]).map_or(subject, |(key, _)| key.as_str());
        }
        subject.rsplit('/').next().unwrap_or(subject)
    }

    fn is_young(&self, subject: &str) -> bool {
        let young = |at: &Instant| at.elapsed() < self.youth;
        let alias = subject.find("alias/").and_then(|at| self.aliases.get(&subject[at..]));
        alias.is_some_and(|(_, given)| young(given))
            || self.born.get(self.key(subject)).is_some_and(young)
    }
}

/// The field that a listing answers in.
fn list_of(op: &str) -> Option<&'static str> {
    match op {
        "ListKeys" => Some("Keys"),
        "ListAliases" => Some("Aliases"),
        "ListResourceTags" => Some("Tags"),
        _ => None,
    }
}

/// How many items KMS puts on a page when it is not told.
fn usual_page(list: &str) -> usize {
    if list == "Keys" { 100 } else { 50 }
}

/// How many bytes are to be signed as they are; 0 for a digest.
fn raw_length(body: &Value) -> usize {
    if body["MessageType"] == "DIGEST" {
        return 0;
    }
    let text = body["Message"].as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}
