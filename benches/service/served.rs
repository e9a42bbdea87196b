//! The release binary under load.

use super::guard::Guard;
use super::{CALLERS, CONNECTIONS, Outcome, PIN, ROUND, Round, cpu_us};
use bytes::Bytes;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::proto::{CreateKeySetRequest, KeySet, SignRequest};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// The release binary, as a process.
pub(crate) struct Service {
    process: Child,
    channels: Vec<Channel>,
}

impl Service {
    pub(crate) async fn start(dir: &Path, module: &Path, guard: Guard) -> Outcome<Self> {
        let pin = dir.join("pin");
        std::fs::write(&pin, PIN)?;
        std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o600))?;
        let config = dir.join("signkeep.toml");
        std::fs::write(
            &config,
            format!(
                "[store]\nurl = \"sqlite:signkeep.db\"\n\n[log]\nlevel = \"warn\"\n\n\
                 [backends.token]\nkind = \"pkcs11\"\nmodule = \"{}\"\ntoken_label = \"signkeep\"\npin_file = \"pin\"\n\n\
                 [[listeners.http]]\naddress = \"127.0.0.1:0\"\n\n\
                 [[listeners.metrics]]\naddress = \"127.0.0.1:0\"\n\n{}",
                module.display(),
                guard.configuration(dir)?
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
            service.channels.push(guard.connect(dir, &address).await?);
        }
        Ok(service)
    }

    pub(crate) async fn create(&self, algorithm: &str) -> Outcome<()> {
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

    pub(crate) async fn load(&self, algorithm: &str) -> Outcome<Round> {
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
