//! An AWS of the tests' own: ministack, which keeps every 12-digit account apart, so that all tests
//! of this process share one. A second one, started when it is first asked for, checks signatures
//! and policies.

use super::fault_proxy::FaultProxy;
use super::tools::{self, repository, test_tools};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The header of the tests' own calls, which a fault proxy lets pass.
pub(crate) const OWN: &str = "x-signkeep-test";

/// The region of every account.
pub(crate) const REGION: &str = "eu-central-1";

/// The secret of every account's root.
pub(crate) const SECRET: &str = "test";

static LENIENT: OnceCell<Ministack> = OnceCell::const_new();
static STRICT: OnceCell<Ministack> = OnceCell::const_new();
static ACCOUNTS: AtomicU64 = AtomicU64::new(100_000_000_001);

/// A running ministack. It ends with this process, whose end closes its standard input.
struct Ministack {
    address: String,
    _stdin: ChildStdin,
    _child: Child,
}

/// An account that nobody else uses, behind a fault proxy.
pub(crate) struct Account {
    /// Its number, which is its root's access key id too.
    pub(crate) id: String,
    /// What stands between it and its users.
    pub(crate) proxy: FaultProxy,
    address: String,
}

/// A user of an account's IAM.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl Ministack {
    fn start(auth: &str) -> Self {
        let python = python();
        let script = repository("tests/clients/python/ministack_guarded.py");
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(python);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg(script)
            .env("AUTH", auth)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log.path()).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(port) = line.trim().parse::<u16>() else {
            panic!("ministack did not start: {}", std::fs::read_to_string(log.path()).unwrap());
        };
        let stdin = child.stdin.take().unwrap();
        Self { address: format!("127.0.0.1:{port}"), _stdin: stdin, _child: child }
    }

    async fn started(auth: &'static str) -> Self {
        let ministack = tokio::task::spawn_blocking(|| Self::start(auth)).await.unwrap();
        super::eventually("ministack is healthy", Duration::from_secs(60), async || {
            let health = super::http::get(&ministack.address, "/_ministack/health").await.ok()?;
            (health.status == 200).then_some(())
        })
        .await;
        ministack
    }
}

impl Account {
    /// A fresh account where everything is allowed.
    pub(crate) async fn fresh() -> Self {
        Self::of(LENIENT.get_or_init(|| Ministack::started("false")).await).await
    }

    /// A fresh account where signatures and policies are checked; its root may do everything.
    pub(crate) async fn strict() -> Self {
        Self::of(STRICT.get_or_init(|| Ministack::started("true")).await).await
    }

    async fn of(ministack: &Ministack) -> Self {
        let id = ACCOUNTS.fetch_add(1, Ordering::Relaxed).to_string();
        let proxy = FaultProxy::to(&ministack.address).await;
        Self { id, proxy, address: ministack.address.clone() }
    }

    /// The account itself, past the proxy.
    pub(crate) fn direct(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Calls KMS as the test itself: no fault befalls it and no log shows it. Not for a strict
    /// account, as nothing is signed.
    pub(crate) async fn call(&self, op: &str, body: Value) -> Value {
        let scope = format!("{}/20260101/{REGION}/kms/aws4_request", self.id);
        let request = http::Request::post(self.proxy.endpoint())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{op}"))
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"),
            )
            .header(OWN, "1")
            .body(Full::<Bytes>::from(body.to_string()))
            .unwrap();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert!(status.is_success(), "{op} of the test itself: {status} {text}");
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() }
    }

    /// Every key's metadata, by its id, whatever its state and whoever made it.
    pub(crate) async fn keys(&self) -> BTreeMap<String, Value> {
        let listed = self.call("ListKeys", json!({})).await;
        let mut keys = BTreeMap::new();
        for key in listed["Keys"].as_array().unwrap() {
            let id = key["KeyId"].as_str().unwrap();
            let told = self.call("DescribeKey", json!({ "KeyId": id })).await;
            keys.insert(id.to_owned(), told["KeyMetadata"].clone());
        }
        keys
    }

    /// The ids of the keys in `state`, e.g. `Enabled`.
    pub(crate) async fn keys_in(&self, state: &str) -> Vec<String> {
        let keys = self.keys().await;
        let there = keys.into_iter().filter(|(_, key)| key["KeyState"] == state);
        there.map(|(id, _)| id).collect()
    }

    /// The keys that were made for `key_set`.
    pub(crate) async fn keys_of(&self, key_set: &str) -> BTreeMap<String, Value> {
        let mut keys = BTreeMap::new();
        for (id, key) in self.keys().await {
            let tags = self.tags(&id).await;
            if tags.get("signkeep:key-set").is_some_and(|name| name == key_set) {
                keys.insert(id, key);
            }
        }
        keys
    }

    /// The tags of a key.
    pub(crate) async fn tags(&self, id: &str) -> BTreeMap<String, String> {
        let told = self.call("ListResourceTags", json!({ "KeyId": id })).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tags = told["Tags"].as_array().unwrap().iter();
        tags.map(|tag| (text(&tag["TagKey"]), text(&tag["TagValue"]))).collect()
    }

    /// A user of a strict account with exactly this policy.
    pub(crate) async fn user(&self, policy: &Value) -> User {
        let told = self.grant(policy).await;
        let text = |field: &str| told[field].as_str().unwrap().to_owned();
        User { access_key_id: text("access_key_id"), secret_access_key: text("secret_access_key") }
    }

    /// Gives the user of [`Account::user`] this policy in place of the one before.
    pub(crate) async fn grant(&self, policy: &Value) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.json");
        std::fs::write(&file, policy.to_string()).unwrap();
        let script = repository("tests/clients/python/grant.py");
        let endpoint = self.direct();
        let args: [&Path; 5] =
            [&script, Path::new(&endpoint), Path::new(&self.id), Path::new("signkeep"), &file];
        let output = tools::run(python(), args).await;
        assert!(output.success, "{}", output.stderr);
        serde_json::from_str(&output.stdout).unwrap()
    }
}

/// The environment that ministack is installed in.
pub(crate) fn installed() -> PathBuf {
    test_tools().join("ministack")
}

/// The Python that has ministack.
fn python() -> PathBuf {
    let python = installed().join("bin/python3");
    assert!(python.exists(), "{} is missing; ./tests/run makes it", python.display());
    python
}

/// Bytes as KMS takes them in JSON.
pub(crate) fn blob(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}
