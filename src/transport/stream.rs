//! The bytes of one connection, whatever they come over. A peer that stops reading is cut off here,
//! beneath every protocol: none of them would notice while there is something left to send.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

/// An open connection.
pub struct Stream {
    io: Io,
    /// What has been read from it and is to be read again.
    unread: Vec<u8>,
    write_timeout: Duration,
    /// When the write under way has taken too long. Kept, for making one costs more than a write.
    stall: Pin<Box<Sleep>>,
    stalled: bool,
}

/// What the bytes come over.
pub(super) enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn new(io: Io, write_timeout: Duration) -> Self {
        let stall = Box::pin(sleep(write_timeout));
        Self { io, unread: Vec::new(), write_timeout, stall, stalled: false }
    }

    /// Has `bytes` read again before all others.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(0..0, bytes.iter().copied());
    }

    /// The outcome of a write, or that the peer has left one unread for too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.stall.as_mut().reset(Instant::now() + self.write_timeout);
        }
        ready!(self.stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl Io {
    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match self {
            Self::Tcp(io) => Pin::new(io),
            Self::Unix(io) => Pin::new(io),
            Self::Tls(io) => Pin::new(io),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Tcp(io) => Pin::new(io),
            Self::Unix(io) => Pin::new(io),
            Self::Tls(io) => Pin::new(io),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return self.io.reader().poll_read(context, buffer);
        }
        let count = self.unread.len().min(buffer.remaining());
        let bytes: Vec<u8> = self.unread.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.io.writer().poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.io.writer().poll_write_vectored(context, bytes);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(io) => io.is_write_vectored(),
            Io::Unix(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.io.writer().poll_flush(context);
        self.unless_stalled(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.io.writer().poll_shutdown(context);
        self.unless_stalled(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair(write_timeout: Duration) -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(Io::Unix(ours), write_timeout), theirs)
    }

    #[tokio::test]
    async fn what_was_unread_comes_before_what_follows() {
        let (mut stream, mut peer) = pair(Duration::from_secs(60));
        stream.unread(b"one ");
        peer.write_all(b"two").await.unwrap();
        drop(peer);
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "one two");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let (mut stream, _peer) = pair(Duration::from_millis(50));
        let error = stream.write_all(&[0; 16 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_and_steadily_is_not() {
        let (mut stream, mut peer) = pair(Duration::from_millis(500));
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            let mut count = 0;
            while count < 4 << 20 {
                sleep(Duration::from_millis(10)).await;
                count += peer.read(&mut buffer).await.unwrap();
            }
        });
        stream.write_all(&[0; 4 << 20]).await.unwrap();
        reading.await.unwrap();
    }
}
