//! What stands between a KMS client and the emulator: it passes calls on, fails them by a script,
//! and writes every attempt down.
//!
//! An emulator answers at once, always, and forgives much. KMS throttles, loses answers after the
//! work is done, shows a new key late, and pages. A test says which of that happens to which
//! operation, and then asserts what came of it and how often it was tried.

mod habits;
mod wire;

use habits::Habits;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused with this status and code; nothing is done.
    Error(u16, &'static str),
    /// It is done, and refused with this status and code all the same.
    ErrorAfter(u16, &'static str),
    /// It is never answered; nothing is done.
    Hang,
    /// It is done, and never answered.
    HangAfter,
    /// It is done and answered, later.
    Delay(Duration),
    /// It is answered at once, as if done, and done later.
    DoneLate(Duration),
    /// The connection is reset; nothing is done.
    Reset,
    /// The connection is closed; nothing is done.
    DropBefore,
    /// It is done, and the connection closed without an answer.
    DropAfter,
    /// It is done, and the answer breaks off in the middle.
    HalfBody,
    /// The answer is 200 with something that is not JSON; nothing is done.
    Garbage,
}

/// As KMS throttles: with 400.
pub(crate) const THROTTLED: Fault = Fault::Error(400, "ThrottlingException");

/// As KMS is down.
pub(crate) const DOWN: Fault = Fault::Error(503, "ServiceUnavailableException");

/// One call that reached the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The operation, e.g. `Sign`.
    pub(crate) op: String,
    /// The key or alias that it names; empty if none.
    pub(crate) subject: String,
    /// The fault that was in store for it.
    pub(crate) fault: Option<Fault>,
    /// The status that the client was told; none: nothing, or nothing yet.
    pub(crate) status: Option<u16>,
}

/// A proxy in front of an emulator. It ends with the runtime that it was started in.
#[derive(Clone)]
pub(crate) struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
}

/// A call, as it was read.
struct Call {
    op: String,
    subject: String,
    body: Value,
    request: wire::Request,
    /// Whether it is the test's own, which no fault befalls and no log shows.
    own: bool,
}

/// What becomes of a call on the wire.
enum Reply {
    Whole(wire::Response),
    Half(wire::Response),
    Silence,
    Close,
    Reset,
}

struct Rule {
    op: &'static str,
    skip: usize,
    left: usize,
    fault: Fault,
}

struct State {
    upstream: wire::Upstream,
    rules: Mutex<Vec<Rule>>,
    quotas: Mutex<HashMap<&'static str, Quota>>,
    log: Mutex<Vec<Attempt>>,
    habits: Mutex<Habits>,
    struck: Semaphore,
}

/// So many calls in any one second.
struct Quota {
    per_second: usize,
    accepted: Vec<Instant>,
}

impl FaultProxy {
    /// A proxy to the emulator at `upstream` (`127.0.0.1:port`) that changes nothing yet.
    pub(crate) async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            upstream: wire::Upstream::new(upstream),
            rules: Mutex::default(),
            quotas: Mutex::default(),
            log: Mutex::default(),
            habits: Mutex::default(),
            struck: Semaphore::new(0),
        });
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(wire::serve(stream, Arc::clone(&served)));
            }
        });
        Self { address, state }
    }

    /// Where KMS is, to the client.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` calls of `op` fare so, after what was said of it before; `*` is any
    /// operation.
    pub(crate) fn next(&self, op: &'static str, times: usize, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule { op, skip: 0, left: times, fault });
    }

    /// The calls of `op` before the n-th pass, and that one fares so.
    pub(crate) fn nth(&self, op: &'static str, number: usize, fault: Fault) {
        let skip = number - 1;
        self.state.rules.lock().unwrap().push(Rule { op, skip, left: 1, fault });
    }

    /// Waits until a fault has struck, and what it does to the call is done.
    pub(crate) async fn strikes(&self) {
        self.state.struck.acquire().await.unwrap().forget();
    }

    /// Every call of `op` fares so, until [`FaultProxy::mend`].
    pub(crate) fn always(&self, op: &'static str, fault: Fault) {
        self.next(op, usize::MAX, fault);
    }

    /// Of any second's calls of `op` this many are let through, and the rest throttled.
    pub(crate) fn quota(&self, op: &'static str, per_second: usize) {
        let quota = Quota { per_second, accepted: Vec::new() };
        self.state.quotas.lock().unwrap().insert(op, quota);
    }

    /// A key or alias younger than this is not found.
    pub(crate) fn youth(&self, youth: Duration) {
        self.state.habits.lock().unwrap().youth = youth;
    }

    /// Lists come in pages of at most this size, and no larger than was asked for.
    pub(crate) fn pages(&self, size: usize) {
        self.state.habits.lock().unwrap().page = Some(size);
    }

    /// Nothing fails any more, and there are no quotas.
    pub(crate) fn mend(&self) {
        self.state.rules.lock().unwrap().clear();
        self.state.quotas.lock().unwrap().clear();
        self.state.habits.lock().unwrap().youth = Duration::ZERO;
    }

    /// Every attempt since the start or [`FaultProxy::forget`].
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.state.log.lock().unwrap().clone()
    }

    /// How often `op` was tried; `*` counts all.
    pub(crate) fn count(&self, op: &str) -> usize {
        let log = self.state.log.lock().unwrap();
        log.iter().filter(|attempt| op == "*" || attempt.op == op).count()
    }

    /// The operations in the order in which they came.
    pub(crate) fn ops(&self) -> Vec<String> {
        self.state.log.lock().unwrap().iter().map(|attempt| attempt.op.clone()).collect()
    }

    /// Starts a new log.
    pub(crate) fn forget(&self) {
        self.state.log.lock().unwrap().clear();
    }
}

impl State {
    async fn answer(self: &Arc<Self>, request: wire::Request) -> Reply {
        let call = Call::read(request);
        let fault = if call.own { None } else { self.fate(&call.op) };
        let entry = (!call.own).then(|| {
            let mut log = self.log.lock().unwrap();
            let (op, subject) = (call.op.clone(), call.subject.clone());
            log.push(Attempt { op, subject, fault, status: None });
            log.len() - 1
        });
        let reply = match fault {
            None => Reply::Whole(self.carry_out(&call).await),
            Some(Fault::Error(status, code)) => Reply::Whole(refusal(status, code)),
            Some(Fault::ErrorAfter(status, code)) => {
                self.carry_out(&call).await;
                Reply::Whole(refusal(status, code))
            }
            Some(Fault::Hang) => Reply::Silence,
            Some(Fault::HangAfter) => {
                self.carry_out(&call).await;
                Reply::Silence
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Reply::Whole(self.carry_out(&call).await)
            }
            Some(Fault::DoneLate(time)) => {
                let state = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    state.carry_out(&call).await;
                });
                Reply::Whole(wire::Response::json(200, &json!({})))
            }
            Some(Fault::Reset) => Reply::Reset,
            Some(Fault::DropBefore) => Reply::Close,
            Some(Fault::DropAfter) => {
                self.carry_out(&call).await;
                Reply::Close
            }
            Some(Fault::HalfBody) => Reply::Half(self.carry_out(&call).await),
            Some(Fault::Garbage) => Reply::Whole(wire::Response::garbage()),
        };
        if fault.is_some() {
            self.struck.add_permits(1);
        }
        if let (Some(entry), Reply::Whole(response)) = (entry, &reply) {
            // The log may have been started anew since.
            if let Some(attempt) = self.log.lock().unwrap().get_mut(entry) {
                attempt.status = Some(response.status);
            }
        }
        reply
    }

    /// Does the work, as KMS would and not only as the emulator does.
    async fn carry_out(&self, call: &Call) -> wire::Response {
        let refused = self.habits.lock().unwrap().refuse(call);
        if let Some((status, code)) = refused {
            return refusal(status, code);
        }
        let request = self.habits.lock().unwrap().prepare(call);
        let response = self.upstream.send(request).await;
        self.habits.lock().unwrap().observe(call, response)
    }

    fn fate(&self, op: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.left > 0 && (rule.op == op || rule.op == "*"));
        if let Some(rule) = rule {
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.left = if rule.left == usize::MAX { rule.left } else { rule.left - 1 };
            return Some(rule.fault);
        }
        let mut quotas = self.quotas.lock().unwrap();
        let quota = quotas.get_mut(op)?;
        let now = Instant::now();
        quota.accepted.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        if quota.accepted.len() < quota.per_second {
            quota.accepted.push(now);
            return None;
        }
        Some(THROTTLED)
    }
}

impl Call {
    fn read(request: wire::Request) -> Self {
        let target = request.header("x-amz-target").unwrap_or_default();
        let op = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let named = ["KeyId", "TargetKeyId"].iter().find_map(|field| body[field].as_str());
        let subject = named.unwrap_or_default().to_owned();
        let own = request.header(super::ministack::OWN).is_some();
        Self { op, subject, body, request, own }
    }
}

fn refusal(status: u16, code: &str) -> wire::Response {
    let body = json!({ "__type": code, "message": format!("{code}, as the test has it") });
    wire::Response::json(status, &body)
}
