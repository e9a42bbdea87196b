//! What stands before a service and ends TLS for it, and can lose an answer on its way back: the
//! connection breaks off after the service has answered and before the client hears of it.

use crate::harness::authority::Authority;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The proxy; it ends when it is dropped.
pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Where the service is; none yet.
    backend: Mutex<Option<String>>,
    /// Answers to POSTs that are still to be lost.
    to_lose: AtomicUsize,
    /// POSTs that came.
    posts: AtomicUsize,
}

impl Proxy {
    /// A proxy on a port of its own, with a certificate by `authority`.
    pub(super) async fn start(authority: &Authority) -> Self {
        let issued = authority.server();
        let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let known = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), known.clone());
                // That a client goes away is its own affair.
                tokio::spawn(async move { carry(client, acceptor, shared).await.ok() });
            }
        });
        Self { port, shared, task }
    }

    /// What clients call it.
    pub(super) fn domain(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Leads to the service at `backend`.
    pub(super) fn lead_to(&self, backend: &str) {
        *self.shared.backend.lock().unwrap() = Some(backend.to_owned());
    }

    /// Loses the answer to the next POST under `/api/`.
    pub(super) fn lose_next_answer(&self) {
        self.shared.to_lose.store(1, Ordering::SeqCst);
        self.shared.posts.store(0, Ordering::SeqCst);
    }

    /// POSTs under `/api/` that have come since.
    pub(super) fn posts(&self) -> usize {
        self.shared.posts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, as long as both sides have something to say.
async fn carry(
    client: TcpStream,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
) -> std::io::Result<()> {
    let backend = shared.backend.lock().unwrap().clone().expect("it leads nowhere");
    let mut client = acceptor.accept(client).await?;
    let mut service = TcpStream::connect(backend).await?;
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut loses = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                if asked[..read].starts_with(b"POST /api/") {
                    shared.posts.fetch_add(1, Ordering::SeqCst);
                    loses = shared.to_lose.swap(0, Ordering::SeqCst) == 1;
                }
                service.write_all(&asked[..read]).await?;
            }
            read = service.read(&mut answered) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                if loses {
                    // The service has answered, so what was asked is done; the client never hears,
                    // and its connection is reset.
                    return client.get_ref().0.set_zero_linger();
                }
                client.write_all(&answered[..read]).await?;
            }
        }
    }
}
