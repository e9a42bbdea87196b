//! What a signature in KMS costs above a bare call of the SDK: the binary and the SDK in front of
//! the same emulator, in turn, in one run. Quote the ratios: the emulator alone signs a thousand
//! times a second at most, and is no measure of AWS.
//!
//! `./tests/run --no-run` installs the emulator; `cargo bench --bench kms --features aws-kms`

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its table, and may end where a service must not"
)]

use aws_config::BehaviorVersion;
use aws_sdk_kms::config::{Credentials, Region};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::proto::{CreateKeySetRequest, KeySet, SignRequest};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";
const CALLERS: [usize; 2] = [1, 64];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const MESSAGE: &[u8] = b"a message of some forty bytes, or so...";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let (_emulator, endpoint) = emulator()?;
    let service = Service::start(dir.path(), &endpoint).await?;
    let bare = Bare::open(&endpoint).await?;
    println!("ES256, medians of {ROUNDS} rounds of {} s", ROUND.as_secs());
    println!("| callers | SDK/s | Sign/s | ratio | SDK median | Sign median | added |");
    println!("|---|---|---|---|---|---|---|");
    for callers in CALLERS {
        let (mut alone, mut served) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(load(callers, || bare.clone().sign()).await?);
            served.push(load(callers, || service.clone().sign()).await?);
        }
        let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.rate).collect());
        let took = |rounds: &[Round]| median(rounds.iter().map(|round| round.took_us).collect());
        let ratios = alone.iter().zip(&served).map(|(a, s)| s.rate / a.rate).collect();
        println!(
            "| {callers} | {:.0} | {:.0} | {:.2} | {:.0} µs | {:.0} µs | {:.0} µs |",
            rate(&alone),
            rate(&served),
            median(ratios),
            took(&alone),
            took(&served),
            took(&served) - took(&alone),
        );
    }
    Ok(())
}

/// One side of one round.
struct Round {
    rate: f64,
    took_us: f64,
}

async fn load<F>(callers: usize, call: impl Fn() -> F) -> Outcome<Round>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let began = Instant::now();
    let mut took = Vec::new();
    let one = || async {
        let mut took = Vec::new();
        while began.elapsed() < ROUND {
            let asked = Instant::now();
            call().await?;
            took.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        Outcome::Ok(took)
    };
    for outcome in futures_util::future::join_all((0..callers).map(|_| one())).await {
        took.extend(outcome?);
    }
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Round { rate, took_us: median(took) })
}

/// The SDK without us.
#[derive(Clone)]
struct Bare {
    client: aws_sdk_kms::Client,
    key: String,
}

impl Bare {
    async fn open(endpoint: &str) -> Outcome<Self> {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new(ACCOUNT, "test", None, None, "bench"))
            .load()
            .await;
        let client = aws_sdk_kms::Client::new(&config);
        let order = client.create_key().key_spec(KeySpec::EccNistP256);
        let made = order.key_usage(KeyUsageType::SignVerify).send().await?;
        let key = made.key_metadata.ok_or("no metadata")?.key_id;
        Ok(Self { client, key })
    }

    async fn sign(self) -> Outcome<()> {
        let digest = Sha256::digest(MESSAGE).to_vec();
        let call = self.client.sign().key_id(self.key).message(Blob::new(digest));
        let call = call.message_type(MessageType::Digest);
        call.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send().await?;
        Ok(())
    }
}

/// The binary, as a process.
#[derive(Clone)]
struct Service {
    channel: Channel,
    _process: std::sync::Arc<Process>,
}

impl Service {
    async fn start(dir: &Path, endpoint: &str) -> Outcome<Self> {
        let config = dir.join("signkeep.toml");
        std::fs::write(
            &config,
            format!(
                "[store]\nurl = \"sqlite:signkeep.db\"\n\n[log]\nlevel = \"warn\"\n\n\
                 [backends.kms]\nkind = \"aws-kms\"\nregion = \"{REGION}\"\ninstance = \"bench\"\n\
                 endpoint_url = \"{endpoint}\"\nrequests_per_second = 100000\n\n\
                 [[listeners.grpc]]\naddress = \"127.0.0.1:0\"\n\n[[listeners.http]]\naddress = \"127.0.0.1:0\"\n\n\
                 [[listeners.metrics]]\naddress = \"127.0.0.1:0\"\n\n\
                 [[policy]]\ncallers = \"anonymous@loopback\"\nkey_sets = \"*\"\nroles = [\"signer\", \"admin\"]\n"
            ),
        )?;
        let addresses = dir.join("addresses.json");
        let process = Process(
            Command::new(env!("CARGO_BIN_EXE_signkeep"))
                .arg("serve")
                .arg("--config")
                .arg(&config)
                .arg("--addresses-file")
                .arg(&addresses)
                .env("AWS_ACCESS_KEY_ID", ACCOUNT)
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .spawn()?,
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        let address = loop {
            if let Ok(text) = std::fs::read(&addresses) {
                let json: serde_json::Value = serde_json::from_slice(&text)?;
                break json["grpc"][0].as_str().ok_or("no gRPC address")?.to_owned();
            }
            if Instant::now() > deadline {
                return Err("the service did not start within 30 s".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let channel = endpoint.connect().await?;
        let key_set = KeySet {
            id: "bench".to_owned(),
            algorithm: "ES256".to_owned(),
            issuer: "https://issuer.example/".to_owned(),
            ..KeySet::default()
        };
        let request = CreateKeySetRequest { key_set: Some(key_set), ..Default::default() };
        KeyServiceClient::new(channel.clone()).create_key_set(request).await?;
        Ok(Self { channel, _process: std::sync::Arc::new(process) })
    }

    async fn sign(self) -> Outcome<()> {
        let request = SignRequest {
            key_set: "bench".to_owned(),
            input: Some(Input::Message(Bytes::from_static(MESSAGE))),
            ..SignRequest::default()
        };
        SigningServiceClient::new(self.channel).sign(request).await?;
        Ok(())
    }
}

/// A child that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The emulator of the tests, and where it is.
fn emulator() -> Outcome<(Process, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = std::env::var_os("TEST_TOOLS");
    let tools = tools.map_or_else(|| top.join("target/test-tools"), PathBuf::from);
    let mut process = Command::new(tools.join("ministack/bin/python3"))
        .arg(top.join("tests/clients/python/ministack_guarded.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("ministack cannot be started, ./tests/run installs it: {error}")
        })?;
    let stdout = process.stdout.take().ok_or("no standard output")?;
    let process = Process(process);
    let mut port = String::new();
    BufReader::new(stdout).read_line(&mut port)?;
    Ok((process, format!("http://127.0.0.1:{}", port.trim())))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
