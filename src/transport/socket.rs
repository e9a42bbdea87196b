//! Taking a port or a socket file, and accepting on it.

use super::address::Address;
use super::peer::{Credentials, Peer};
use super::stream::Io;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio::time::timeout;

/// Connections that the system holds for us until we accept them.
const BACKLOG: u32 = 1024;
/// How long whoever listens on a socket that is there already may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Someone else has it.
    #[error("is taken by another program, perhaps another signkeep")]
    Taken,
    /// The path of the socket is another file's.
    #[error("is a file that is no socket, and is left alone")]
    NoSocket,
    /// The system says no.
    #[error("needs more privileges than this process has")]
    Denied,
    /// Something else.
    #[error("cannot be listened on ({0})")]
    Other(io::Error),
}

/// A port or socket that is taken.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed when this is dropped, unless it has become another's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Socket {
    /// Takes `address`; `mode` is who may connect, if it is a socket file.
    pub(super) async fn bind(address: &Address, mode: u32) -> Result<Self, BindError> {
        match address {
            Address::Tcp(address) => {
                TcpListener::bind(address).await.map(Self::Tcp).map_err(BindError::from)
            }
            Address::Unix(path) => unix(path, mode).await,
        }
    }

    /// Where it is, a port 0 having become one that is free.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    /// The next connection, and who is at its other end as far as the system knows.
    pub(super) async fn accept(&self, name: &Arc<str>) -> io::Result<(Io, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, peer = %from, "TCP_NODELAY could not be set");
                }
                Ok((Io::Tcp(stream), Peer::plain(name.clone(), from)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let whose = stream.peer_cred()?;
                let credentials = Some(Credentials { uid: whose.uid(), gid: whose.gid() });
                let listener = name.clone();
                let peer = Peer { listener, address: None, certificates: Vec::new(), credentials };
                Ok((Io::Unix(stream), peer))
            }
        }
    }
}

/// The file is there before anyone listens on it, and by the time someone does its mode is right: so
/// no umask is touched, which threads share, and nobody slips in between.
async fn unix(path: &Path, mode: u32) -> Result<Socket, BindError> {
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&metadata) };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Socket::Unix(socket.listen(BACKLOG)?, file))
}

/// Removes a socket that nobody answers on any more.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NoSocket);
    }
    // One whose backlog is full does not answer, and is somebody's all the same.
    let Ok(Err(error)) = timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await else {
        return Err(BindError::Taken);
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            tracing::info!(socket = %path.display(), "removing a socket that nobody listens on");
            Ok(fs::remove_file(path)?)
        }
        io::ErrorKind::NotFound => Ok(()),
        io::ErrorKind::PermissionDenied => Err(BindError::Denied),
        _ => Err(BindError::Taken),
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, socket = %self.path.display(), "the socket could not be removed");
        }
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("s.sock")
        }

        async fn bind(&self, mode: u32) -> Result<Socket, BindError> {
            Socket::bind(&Address::Unix(self.path()), mode).await
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_says_whose_process_calls_and_goes_with_its_listener() {
        let folder = Folder::new();
        let socket = folder.bind(0o620).await.unwrap();
        let metadata = fs::symlink_metadata(folder.path()).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o620);
        let _client = UnixStream::connect(folder.path()).await.unwrap();
        let (_io, peer) = socket.accept(&"grpc unix".into()).await.unwrap();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        assert_eq!(peer.credentials, Some(Credentials { uid, gid }));
        assert_eq!((peer.address, &*peer.listener), (None, "grpc unix"));
        drop(socket);
        assert!(!folder.path().exists());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_listens_on_is_taken_and_stays() {
        let folder = Folder::new();
        let theirs = folder.bind(0o600).await.unwrap();
        assert!(matches!(folder.bind(0o600).await, Err(BindError::Taken)));
        assert!(folder.path().exists());
        drop(theirs);
    }

    #[tokio::test]
    async fn a_socket_that_a_crash_left_behind_is_replaced() {
        let folder = Folder::new();
        drop(std::os::unix::net::UnixListener::bind(folder.path()).unwrap());
        assert!(folder.path().exists());
        let _socket = folder.bind(0o600).await.unwrap();
        UnixStream::connect(folder.path()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        fs::write(folder.path(), "precious").unwrap();
        assert!(matches!(folder.bind(0o600).await, Err(BindError::NoSocket)));
        assert_eq!(fs::read_to_string(folder.path()).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_another_has_put_in_our_place_is_not_removed() {
        let folder = Folder::new();
        let ours = folder.bind(0o600).await.unwrap();
        let aside = folder.0.path().join("aside.sock");
        let _theirs = std::os::unix::net::UnixListener::bind(&aside).unwrap();
        fs::rename(&aside, folder.path()).unwrap();
        drop(ours);
        assert!(folder.path().exists());
    }
}
