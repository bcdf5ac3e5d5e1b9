//! The bytes of one connection.

use super::{Connection, Place, Transport, explained::explained};
use crate::http::cors::{Origin, Origins};
use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// A client's connection, which ends when it is cut, or when the client takes nothing of what is
/// written for too long.
#[derive(Debug)]
pub(in crate::http) struct ClientStream {
    stream: Transport,
    place: Place,
    /// The time a client may take nothing.
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    instead: Option<Instead>,
    /// Whose pages may read what is refused, and of which of them the last request was.
    origins: Origins,
    origin: Option<Origin>,
}

/// The refusal that is written in the place of the parser's own, after which the server closes.
#[derive(Debug)]
enum Instead {
    /// These bytes are written, of which so many have been.
    Writing(Vec<u8>, usize),
    /// Bytes that the client still sends are read, until then: what is closed with something unread is reset,
    /// and the refusal with it.
    Lingering(Pin<Box<Sleep>>),
}

/// The time a client whose request is refused may take to hear it.
const LINGERING: Duration = Duration::from_secs(1);

impl ClientStream {
    pub(in crate::http) fn new(
        stream: Transport,
        place: Place,
        patience: Duration,
        origins: Origins,
    ) -> Self {
        Self {
            stream,
            place,
            patience,
            waiting: None,
            instead: None,
            origins,
            origin: None,
        }
    }

    pub(in crate::http) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.place.0)
    }

    /// Is ready with an error once the connection is cut, and wakes whoever asks when it is.
    fn poll_cut(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        let connection = &self.place.0;
        connection.task.register(context.waker());
        if connection.cut.load(Relaxed) {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        Poll::Pending
    }

    fn poll_some(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => {
                self.moves();
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_patience(context).map(Err),
        }
    }

    /// The client has taken something.
    fn moves(&mut self) {
        if self.waiting.take().is_some() {
            self.place.0.blocked.store(false, Relaxed);
        }
    }

    /// Is ready with an error once the client has taken nothing for too long, or the connection is cut.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Poll::Ready(error) = self.poll_cut(context) {
            return Poll::Ready(error);
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| {
            self.place.0.blocked.store(true, Relaxed);
            Box::pin(tokio::time::sleep(patience))
        });
        ready!(waiting.as_mut().poll(context));
        metrics::counter!("headwater_http_connections_closed_total", "reason" => "slow")
            .increment(1);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Does what stands in the place of writing `length` bytes.
    fn poll_instead(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.instead.take() {
                None => return Poll::Ready(Ok(length)),
                Some(Instead::Writing(bytes, done)) if done == bytes.len() => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                    let until = Box::pin(tokio::time::sleep(LINGERING));
                    self.instead = Some(Instead::Lingering(until));
                }
                Some(Instead::Writing(bytes, done)) => {
                    let written = self.poll_some(context, &bytes[done..]);
                    let count = match written {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                        Poll::Ready(Ok(count)) => count,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => 0,
                    };
                    self.instead = Some(Instead::Writing(bytes, done + count));
                    if count == 0 {
                        return Poll::Pending;
                    }
                }
                Some(Instead::Lingering(mut until)) => {
                    if !self.poll_rest(context) && until.as_mut().poll(context).is_pending() {
                        self.instead = Some(Instead::Lingering(until));
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Reads what comes, and tells whether nothing comes any more.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> bool {
        let mut bytes = [0; 4096];
        loop {
            let mut some = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut some) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !some.filled().is_empty() => {}
                Poll::Ready(_) => return true,
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(origin) = self.origins.named_in(&buffer.filled()[before..]) {
            self.origin = Some(origin.clone());
        }
        if read.is_pending()
            && let Poll::Ready(error) = self.poll_cut(context)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            match explained(bytes, self.origin.as_ref()) {
                None => return self.poll_some(context, bytes),
                Some(instead) => self.instead = Some(Instead::Writing(instead, 0)),
            }
        }
        self.poll_instead(context, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS what is written may wait here.
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.moves();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.poll_patience(context).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
