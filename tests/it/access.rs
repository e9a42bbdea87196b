//! Who may do what, over a real connection: the whole table, and that whatever the policy refuses
//! goes no further.

mod claims;
mod command;
mod limits;
mod page;
mod properties;
mod reload;
mod secured;
mod table;
mod tokens;

use crate::harness::ring::{Life, World};
use crate::harness::tokens::{Minter, in_file, issuer};
use signkeep::access::{Access, Binding, Settings};
use signkeep::grpc::proto as pb;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::{self, Deps, Refusal, Refusals};
use signkeep::health::Health;
use signkeep::transport::tls::Tls;
use signkeep::transport::{Limits, Listener};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on loopback that takes tokens of one issuer, with a vault that counts.
struct Guarded {
    world: World,
    life: Life,
    access: Access,
    minter: Minter,
    address: SocketAddr,
    channel: Channel,
    noted: Arc<Noted>,
    folder: TempDir,
    _stop: oneshot::Sender<()>,
}

/// Every refusal that the face told of: caller, action, key set, reason.
#[derive(Default)]
struct Noted(Mutex<Vec<(String, String, String, String)>>);

impl Refusals for Noted {
    fn refused(&self, refusal: &Refusal<'_>) {
        self.0.lock().unwrap().push((
            refusal.origin.caller.to_string(),
            refusal.action.map(|action| action.to_string()).unwrap_or_default(),
            refusal.key_set.map(ToString::to_string).unwrap_or_default(),
            refusal.reason.to_owned(),
        ));
    }
}

impl Guarded {
    /// One with the key sets `default` and `other`.
    async fn by(policy: Vec<Binding>) -> Self {
        Self::with(policy, None).await
    }

    /// The same with TLS, if it has some.
    async fn with(policy: Vec<Binding>, tls: Option<Tls>) -> Self {
        let world = World::new().await;
        let life = world.life().await;
        life.create().await.unwrap();
        let other = signkeep::keyring::Create { id: "other".parse().unwrap(), ..life.creation() };
        life.ring.create(crate::harness::ring::context(None), other).await.unwrap();
        for _certificate in 0..4 {
            world.vault.signature_arrives().await;
        }
        let minter = Minter::new("k1");
        let folder = tempfile::tempdir().unwrap();
        let access = Access::new(settings(&minter, &folder, policy), world.clock.clone()).unwrap();
        let noted = Arc::new(Noted::default());
        let deps = Deps {
            access: access.clone(),
            refusals: noted.clone(),
            keyring: life.ring.clone(),
            health: Health::default(),
            settings: grpc::Settings::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::plain("grpc", listener, Limits::GRPC).unwrap();
        let listener = match tls {
            Some(tls) => listener.with_tls(tls),
            None => listener,
        };
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(grpc::serve(vec![listener], deps, async {
            stopped.await.ok();
        }));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { world, life, access, minter, address, channel, noted, folder, _stop: stop }
    }

    /// Puts other bindings into force.
    fn rule(&self, policy: Vec<Binding>) {
        let settings = settings(&self.minter, &self.folder, policy);
        self.access.apply(self.access.prepare(settings).unwrap());
    }

    fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel.clone())
    }

    fn signing(&self) -> SigningServiceClient<Channel> {
        SigningServiceClient::new(self.channel.clone())
    }

    /// `message` as the caller `jwt:ci:{sub}` sends it; for an empty `sub` as nobody with a token.
    fn from<T>(&self, sub: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !sub.is_empty() {
            let header = format!("Bearer {}", self.minter.token(sub));
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        request
    }

    async fn sign(&self, sub: &str, key_set: &str) -> Result<pb::SignResponse, Status> {
        let request = self.from(sub, sign(key_set));
        self.signing().sign(request).await.map(tonic::Response::into_inner)
    }

    async fn sign_jwt(&self, sub: &str, claims: &str) -> Result<pb::SignJwtResponse, Status> {
        let request = pb::SignJwtRequest {
            key_set: "default".into(),
            payload: Some(pb::sign_jwt_request::Payload::ClaimsJson(claims.into())),
            ..pb::SignJwtRequest::default()
        };
        let request = self.from(sub, request);
        self.signing().sign_jwt(request).await.map(tonic::Response::into_inner)
    }
}

fn settings(minter: &Minter, folder: &TempDir, policy: Vec<Binding>) -> Settings {
    let issuers = vec![issuer(in_file(folder, &minter.jwks()))];
    Settings { issuers, policy, ..Settings::default() }
}

fn sign(key_set: &str) -> pb::SignRequest {
    pb::SignRequest {
        key_set: key_set.into(),
        input: Some(pb::sign_request::Input::Message("message".into())),
        ..pb::SignRequest::default()
    }
}

fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    (status.code(), info.reason)
}

/// Whether the policy let the call through, whatever came of it.
fn let_through<T>(outcome: &Result<T, Status>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(status) => {
            let (code, reason) = reason(status);
            let refused = reason == "CALLER_NOT_ALLOWED";
            assert_eq!(refused, code == Code::PermissionDenied, "{status:?}");
            assert_ne!(code, Code::Unauthenticated, "{status:?}");
            !refused
        }
    }
}
