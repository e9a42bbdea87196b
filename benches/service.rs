//! What a signature costs above the raw token: the release binary on a fresh SoftHSM token, and a
//! bare loop of C_Sign on that same token, in turn, in one run. Quote the ratios: both sides see
//! the same machine in the same minute.
//!
//! `cargo bench --bench service`

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its table, and may end where a service must not"
)]

use bytes::Bytes;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use secrecy::SecretString;
use signkeep::backend::pkcs11::provision;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::proto::{CreateKeySetRequest, KeySet, SignRequest};
use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const PIN: &str = "bench-pin-1234";
/// P-256 `prime256v1`, DER of its object identifier.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let module = signkeep::cli::softhsm_module().map_err(|failure| failure.what)?;
    match std::env::var_os("SIGNKEEP_BENCH_DIR") {
        // SoftHSM reads its configuration's place from the environment of the process.
        None => {
            let parent = Path::new("/dev/shm");
            let parent = if parent.is_dir() { parent.into() } else { std::env::temp_dir() };
            let dir = tempfile::Builder::new().prefix("signkeep-bench").tempdir_in(parent)?;
            std::fs::create_dir(dir.path().join("tokens"))?;
            let conf = dir.path().join("softhsm2.conf");
            let tokens = dir.path().join("tokens");
            std::fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display()))?;
            let status = Command::new(std::env::current_exe()?)
                .env("SOFTHSM2_CONF", conf)
                .env("SIGNKEEP_BENCH_DIR", dir.path())
                .arg0("bench")
                .status()?;
            if status.success() { Ok(()) } else { Err("the benchmark failed".into()) }
        }
        Some(dir) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(Path::new(&dir), &module))
        }
    }
}

async fn run(dir: &Path, module: &Path) -> Outcome<()> {
    provision(module, "signkeep", &SecretString::from("so-pin-1234"), &SecretString::from(PIN))
        .map_err(|error| error.to_string())?;
    let service = Service::start(dir, module).await?;
    for algorithm in ["ES256", "RS256"] {
        service.create(algorithm).await?;
    }
    let threads = std::thread::available_parallelism()?.get();
    println!(
        "{CALLERS} callers on {CONNECTIONS} connections; raw loop with {threads} threads; medians of {ROUNDS} rounds of {} s",
        ROUND.as_secs()
    );
    println!(
        "| algorithm | raw/s | Sign/s | ratio | raw CPU/signature | server CPU/signature | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    let token = Token::open(module)?;
    for algorithm in ["ES256", "RS256"] {
        token.generate(algorithm)?;
        let (mut raw, mut served) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(token.load(algorithm, threads)?);
            served.push(service.load(algorithm).await?);
        }
        let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.rate).collect());
        let cpu = |rounds: &[Round]| median(rounds.iter().map(|round| round.cpu_us).collect());
        let rates: Vec<f64> = raw.iter().zip(&served).map(|(r, s)| s.rate / r.rate).collect();
        let cpus: Vec<f64> = raw.iter().zip(&served).map(|(r, s)| s.cpu_us / r.cpu_us).collect();
        println!(
            "| {algorithm} | {:.0} | {:.0} | {:.2} | {:.0} µs | {:.0} µs | {:.2} |",
            rate(&raw),
            rate(&served),
            median(rates),
            cpu(&raw),
            cpu(&served),
            median(cpus)
        );
    }
    Ok(())
}

/// One side of one round.
struct Round {
    rate: f64,
    cpu_us: f64,
}

/// The release binary, as a process.
struct Service {
    process: Child,
    channels: Vec<Channel>,
}

impl Service {
    async fn start(dir: &Path, module: &Path) -> Outcome<Self> {
        let pin = dir.join("pin");
        std::fs::write(&pin, PIN)?;
        std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o600))?;
        let config = dir.join("signkeep.toml");
        std::fs::write(
            &config,
            format!(
                "[store]\nurl = \"sqlite:signkeep.db\"\n\n[log]\nlevel = \"warn\"\n\n\
                 [backends.token]\nkind = \"pkcs11\"\nmodule = \"{}\"\ntoken_label = \"signkeep\"\npin_file = \"pin\"\n\n\
                 [[listeners.grpc]]\naddress = \"127.0.0.1:0\"\n\n[[listeners.http]]\naddress = \"127.0.0.1:0\"\n\n\
                 [[listeners.metrics]]\naddress = \"127.0.0.1:0\"\n\n\
                 [[policy]]\ncallers = \"anonymous@loopback\"\nkey_sets = \"*\"\nroles = [\"signer\", \"admin\"]\n",
                module.display()
            ),
        )?;
        let addresses = dir.join("addresses.json");
        let process = Command::new(env!("CARGO_BIN_EXE_signkeep"))
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--addresses-file")
            .arg(&addresses)
            .env_remove("SIGNKEEP_BENCH_DIR")
            .spawn()?;
        let mut service = Self { process, channels: Vec::new() };
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
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
            service.channels.push(endpoint.connect().await?);
        }
        Ok(service)
    }

    async fn create(&self, algorithm: &str) -> Outcome<()> {
        let key_set = KeySet {
            id: algorithm.to_lowercase(),
            algorithm: algorithm.to_owned(),
            issuer: "https://issuer.example/".to_owned(),
            ..KeySet::default()
        };
        let request = CreateKeySetRequest { key_set: Some(key_set), ..Default::default() };
        KeyServiceClient::new(self.channels[0].clone()).create_key_set(request).await?;
        Ok(())
    }

    async fn load(&self, algorithm: &str) -> Outcome<Round> {
        let before = cpu_us(self.process.id())?;
        let (signed, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let callers = (0..CALLERS).map(|caller| {
            let mut client = SigningServiceClient::new(self.channels[caller % CONNECTIONS].clone());
            let request = SignRequest {
                key_set: algorithm.to_lowercase(),
                input: Some(Input::Message(Bytes::from_static(
                    b"a message of some forty bytes, or so...",
                ))),
                ..SignRequest::default()
            };
            let signed = Arc::clone(&signed);
            tokio::spawn(async move {
                while began.elapsed() < ROUND {
                    client.sign(request.clone()).await?;
                    signed.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, tonic::Status>(())
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await??;
        }
        let signed = signed.load(Ordering::Relaxed) as f64;
        let rate = signed / began.elapsed().as_secs_f64();
        Ok(Round { rate, cpu_us: (cpu_us(self.process.id())? - before) / signed })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The token without us.
struct Token {
    pkcs11: Pkcs11,
    slot: cryptoki::slot::Slot,
    anchor: Session,
}

impl Token {
    fn open(module: &Path) -> Outcome<Self> {
        let pkcs11 = Pkcs11::new(module)?;
        // Provisioning has initialised the module for the whole process already.
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(())
            | Err(cryptoki::error::Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        let found = pkcs11.get_slots_with_initialized_token()?.into_iter().find(|slot| {
            pkcs11.get_token_info(*slot).is_ok_and(|token| token.label().trim() == "signkeep")
        });
        let slot = found.ok_or("the token is not there")?;
        let anchor = pkcs11.open_rw_session(slot)?;
        anchor.login(UserType::User, Some(&AuthPin::from(PIN)))?;
        Ok(Self { pkcs11, slot, anchor })
    }

    fn generate(&self, algorithm: &str) -> Outcome<()> {
        let (mechanism, mut public) = match algorithm {
            "ES256" => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.to_vec())]),
            _ => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])],
            ),
        };
        public.push(Attribute::Token(true));
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(format!("raw {algorithm}").into_bytes()),
        ];
        self.anchor.generate_key_pair(&mechanism, &public, &private)?;
        Ok(())
    }

    /// One C_SignInit and C_Sign after the other in every thread, as cryptoki makes them.
    fn load(&self, algorithm: &str, threads: usize) -> Outcome<Round> {
        let me = std::process::id();
        let (signed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (before, began) = (cpu_us(me)?, Instant::now());
        // Not the whole of self: a session is not to be shared.
        let (pkcs11, slot) = (&self.pkcs11, self.slot);
        let loops = std::thread::scope(|scope| {
            let raw = || -> Outcome<()> {
                let session = pkcs11.open_ro_session(slot)?;
                let label = Attribute::Label(format!("raw {algorithm}").into_bytes());
                let key = *session.find_objects(&[label])?.first().ok_or("no raw key")?;
                // A DigestInfo for SHA-256 has 51 bytes.
                let (mechanism, input) = match algorithm {
                    "ES256" => (Mechanism::Ecdsa, vec![7; 32]),
                    _ => (Mechanism::RsaPkcs, vec![7; 51]),
                };
                while !stop.load(Ordering::Relaxed) {
                    session.sign(&mechanism, key, &input)?;
                    signed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let loops: Vec<_> = (0..threads).map(|_| scope.spawn(raw)).collect();
            while began.elapsed() < ROUND {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
            loops.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        let took = began.elapsed().as_secs_f64();
        for outcome in loops {
            outcome.map_err(|_| "a raw thread panicked")??;
        }
        let signed = signed.load(Ordering::Relaxed) as f64;
        Ok(Round { rate: signed / took, cpu_us: (cpu_us(me)? - before) / signed })
    }
}

/// User and system time of a process so far, in microseconds, by the kernel's clock ticks.
fn cpu_us(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").ok_or("odd stat line")?.1.split(' ');
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    Ok(ticks as f64 * 1e6 / ticks_a_second as f64)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
