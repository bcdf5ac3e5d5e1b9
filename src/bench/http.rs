//! The least client of HTTP that there can be: one connection, one request in flight, and nothing made
//! of an answer but its status and its body. What it costs is not what is measured.

use super::BenchError;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The place of an answer's body in the buffer.
struct Answer {
    status: u16,
    head: usize,
    length: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Sends a request's bytes and reads the answer. The body is valid until the next call.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] unless the answer is a 200 that says how long it is.
    pub async fn ask(&mut self, request: &[u8]) -> Result<&[u8], BenchError> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let answer = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(BenchError::new("the server closed the connection"));
            }
            if let Some(answer) = parse(&self.buffer)?
                && self.buffer.len() >= answer.head + answer.length
            {
                break answer;
            }
        };
        let body = &self.buffer[answer.head..];
        match answer.status {
            200 => Ok(body),
            status => Err(BenchError::new(format!(
                "answered {status}: {}",
                String::from_utf8_lossy(body)
            ))),
        }
    }

    /// Sends a request whose answer has no end; read on with [`Connection::more`].
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the connection is gone.
    pub async fn begin(&mut self, request: &[u8]) -> Result<(), BenchError> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        Ok(())
    }

    /// Reads some more; what has been read and not taken.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the connection has ended.
    pub async fn more(&mut self) -> Result<&mut Vec<u8>, BenchError> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(BenchError::new("the stream has ended")),
            _ => Ok(&mut self.buffer),
        }
    }
}

/// A `GET` as bytes, with these header lines.
#[must_use]
pub fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// The address in a URL that a program printed.
///
/// # Errors
///
/// Returns [`BenchError`] when there is none in the line.
pub fn address_in(line: &str) -> Result<SocketAddr, BenchError> {
    let (_, rest) = line
        .split_once("http://")
        .ok_or_else(|| BenchError::new(format!("there is no address in {line:?}")))?;
    rest.trim().parse().map_err(BenchError::new)
}

fn parse(buffer: &[u8]) -> Result<Option<Answer>, BenchError> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..end]).map_err(BenchError::new)?;
    let unknown = || BenchError::new(format!("an answer of another form: {head}"));
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Ok(Some(Answer {
        status: status.ok_or_else(unknown)?,
        head: end + 4,
        length: length.ok_or_else(unknown)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_its_head_is_there() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap().is_none());
        let answer = parse(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}");
        let answer = answer.unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (404, 2));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn an_address_is_found_in_what_a_program_prints() {
        let address = address_in("  HTTP   http://127.0.0.1:8080").unwrap();
        assert_eq!(address.port(), 8080);
        assert!(address_in("NATS").is_err());
    }
}
