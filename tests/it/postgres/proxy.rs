//! Stands between a store and its server, and loses what it is told to lose.

use crate::harness::postgres::Database;
use signkeep::store::postgres::{Host, Settings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

/// What becomes of the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// The server never hears it.
    Withheld,
    /// The server carries it out, and its answer is lost.
    Unanswered,
    /// It is on its way until it is let go; nobody waits for its answer.
    Held,
}

/// What becomes of the connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Cut,
    Hung,
}

/// A way to the server by TCP.
pub(super) struct Proxy {
    address: SocketAddr,
    loses: Arc<Mutex<Option<(Commit, Then)>>>,
    hangs: watch::Sender<bool>,
    strands: watch::Sender<u64>,
    way: Way,
}

/// Where a COMMIT is held.
#[derive(Clone, Default)]
struct Way {
    reached: Arc<Notify>,
    go: Arc<Notify>,
}

impl Proxy {
    pub(super) async fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (loses, (hangs, hung)) = (Arc::default(), watch::channel(false));
        let (strands, stranded) = watch::channel(0);
        let way = Way::default();
        let held = way.clone();
        let (socket, lose) = (database.server().socket(), Arc::clone(&loses));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let lose = Arc::clone(&lose);
                let carrying = carry(client, socket.clone(), lose, hung.clone(), held.clone());
                let (mut stranded, since) = (stranded.clone(), *stranded.borrow());
                tokio::spawn(async move {
                    let mut carrying = Box::pin(carrying);
                    tokio::select! {
                        () = &mut carrying => {}
                        () = async { drop(stranded.wait_for(|now| *now > since).await) } => {
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self { address, loses, hangs, strands, way }
    }

    /// `settings` by this way.
    pub(super) fn settings(&self, settings: Settings) -> Settings {
        let host = Host::Tcp(self.address.ip().to_string());
        Settings { host, port: self.address.port(), ..settings }
    }

    /// Loses the next COMMIT, or the answer to it.
    pub(super) fn lose(&self, commit: Commit, then: Then) {
        *self.loses.lock().unwrap() = Some((commit, then));
    }

    /// Until a COMMIT is held.
    pub(super) async fn holds(&self) {
        self.way.reached.notified().await;
    }

    /// Lets the COMMIT that is held reach the server.
    pub(super) fn let_go(&self) {
        self.way.go.notify_one();
    }

    /// Forgets every connection that there is: neither end hears of the other any more, nor that it
    /// is gone. New ones pass.
    pub(super) fn strand(&self) {
        self.strands.send_modify(|number| *number += 1);
    }

    /// Lets nothing pass either way, new connections included, or lets everything pass again.
    pub(super) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }
}

async fn carry(
    mut client: TcpStream,
    socket: PathBuf,
    loses: Arc<Mutex<Option<(Commit, Then)>>>,
    mut hung: watch::Receiver<bool>,
    way: Way,
) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let (mut up, mut down) = ([0; 16384], [0; 16384]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Some(chunk) = read.ok().and_then(|n| up.get(..n)).filter(|c| !c.is_empty()) else {
                    return;
                };
                hung.wait_for(|hung| !hung).await.unwrap();
                let commits = chunk.windows(7).any(|window| window == b"COMMIT\0");
                let lost = commits.then(|| loses.lock().unwrap().take()).flatten();
                if lost.is_some_and(|(commit, _)| commit == Commit::Held) {
                    way.reached.notify_one();
                    way.go.notified().await;
                }
                if lost.is_none_or(|(commit, _)| commit != Commit::Withheld)
                    && server.write_all(chunk).await.is_err()
                {
                    return;
                }
                match lost {
                    None => {}
                    Some((commit, then)) => {
                        if commit == Commit::Unanswered {
                            assert!(server.read(&mut down).await.unwrap() > 0);
                        }
                        match then {
                            Then::Cut => return,
                            Then::Hung => std::future::pending().await,
                        }
                    }
                }
            }
            read = server.read(&mut down) => {
                let Some(chunk) = read.ok().and_then(|n| down.get(..n)).filter(|c| !c.is_empty()) else {
                    return;
                };
                hung.wait_for(|hung| !hung).await.unwrap();
                if client.write_all(chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}
