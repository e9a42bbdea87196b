//! Where a listener is: `127.0.0.1:50051` or `unix:/run/signkeep.sock`.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How an address of a Unix socket begins.
const UNIX: &str = "unix:";
/// The longest path of a Unix socket that every system takes, in bytes.
const PATH_MAX: usize = 103;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port; 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Neither a port nor a socket.
    #[error(
        "must be an IP address and a port, e.g. 127.0.0.1:50051, or a Unix socket, e.g. unix:/run/signkeep/grpc.sock"
    )]
    Form,
    /// A socket without a path.
    #[error("names no path: after unix: comes a file, e.g. unix:/run/signkeep/grpc.sock")]
    NoPath,
    /// A path that the system would not take.
    #[error("has a path of more than {PATH_MAX} bytes, which no Unix socket can have")]
    TooLong,
}

impl Address {
    /// The same, a relative path being taken from `directory`.
    pub fn within(self, directory: &Path) -> Result<Self, InvalidAddress> {
        match self {
            Self::Tcp(_) => Ok(self),
            Self::Unix(path) => {
                let path = directory.join(path);
                if path.as_os_str().len() > PATH_MAX {
                    return Err(InvalidAddress::TooLong);
                }
                Ok(Self::Unix(path))
            }
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The port's address; none of a Unix socket.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix(UNIX) {
            Some("") => Err(InvalidAddress::NoPath),
            Some(path) if path.len() > PATH_MAX => Err(InvalidAddress::TooLong),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| InvalidAddress::Form),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in ["127.0.0.1:50051", "[::1]:0", "0.0.0.0:443", "unix:/run/signkeep.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost:1", "127.0.0.1", "unix", "http://127.0.0.1:1"] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress::Form), "{text}");
        }
        assert_eq!("unix:".parse::<Address>(), Err(InvalidAddress::NoPath));
        let long = format!("unix:/{}", "a".repeat(PATH_MAX));
        assert_eq!(long.parse::<Address>(), Err(InvalidAddress::TooLong));
    }

    #[test]
    fn a_relative_socket_lies_in_the_directory_and_must_still_fit() {
        let address: Address = "unix:s.sock".parse().unwrap();
        let within = address.clone().within(Path::new("/etc/signkeep")).unwrap();
        assert_eq!(within.to_string(), "unix:/etc/signkeep/s.sock");
        let deep = format!("/{}", "a".repeat(PATH_MAX));
        assert_eq!(address.within(Path::new(&deep)), Err(InvalidAddress::TooLong));
    }

    #[test]
    fn loopback_and_sockets_are_local() {
        for (text, local) in [
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/s", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
