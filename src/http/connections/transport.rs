//! The layer that the bytes of a connection go through: nothing, or TLS.

use crate::http::tls::Tls;
use actix_web::rt::net::TcpStream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

/// A client's socket, with or without TLS.
#[derive(Debug)]
pub(in crate::http) enum Transport {
    Plain(TcpStream),
    // Some kilobytes, of which a connection without it has none.
    Secure(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Shakes hands where that is asked; fails where the client does not within `patience`.
    pub(in crate::http) async fn accept(
        stream: TcpStream,
        tls: Option<&Tls>,
        patience: Duration,
    ) -> io::Result<Self> {
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let accepted = timeout(patience, tls.accept(stream)).await;
        let accepted = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(error) = &accepted {
            metrics::counter!("headwater_tls_handshakes_failed_total").increment(1);
            tracing::debug!(%error, "a client does not shake hands");
        }
        Ok(Self::Secure(Box::new(accepted?)))
    }

    /// Runs `with` on what is there.
    fn on<R>(&mut self, with: impl FnOnce(Pin<&mut dyn Both>) -> R) -> R {
        match self {
            Self::Plain(stream) => with(Pin::new(stream)),
            Self::Secure(stream) => with(Pin::new(stream.as_mut())),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.on(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.on(|stream| stream.poll_shutdown(context))
    }
}
