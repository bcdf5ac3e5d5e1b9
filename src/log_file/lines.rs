//! Reading the file from its beginning, a message at a time.

use super::form::{self, Begin, Body, End, Line, Part};
use crate::event_log::{
    StoredMessage,
    secret::hexadecimal,
    whole::{LoggedMessage, Trace},
};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, Read};

/// The longest line: a message of the largest size in Base64, and what is around it.
const LONGEST: u64 = 4 << 20;
/// The most parts of a message that are put together: more than fit into one.
const PARTS: u32 = 1 << 16;

/// The file is none of a log, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("the file cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// A line is not as it has to be.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// The fault of it.
        reason: String,
    },
    /// It ends before its end.
    #[error("the file ends after line {line}, in the middle: it was not exported to its end")]
    Short {
        /// The number of lines that are there.
        line: u64,
    },
    /// It was changed after it was exported.
    #[error("the file is not what was exported: its checksum is another one")]
    Checksum,
}

/// The next piece of the file.
#[derive(Debug)]
pub(super) enum Next {
    Begin(Begin),
    Message(LoggedMessage),
    End(End),
}

/// Reads a file.
pub(super) struct Lines<R> {
    file: R,
    line: u64,
    text: Vec<u8>,
    assembly: Assembly,
    hash: Sha256,
    /// The bytes of all that is whole, and the hash of them.
    whole: (u64, Sha256),
    read: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(file: R) -> Self {
        Self {
            file,
            line: 0,
            text: Vec::new(),
            assembly: Assembly::default(),
            hash: Sha256::new(),
            whole: (0, Sha256::new()),
            read: 0,
        }
    }

    /// Reads what comes next; `None` where the file ends, be it in the middle of a line or of a message.
    pub(super) fn next(&mut self) -> Result<Option<Next>, FileError> {
        loop {
            self.text.clear();
            let mut line = (&mut self.file).take(LONGEST);
            let bytes = line.read_until(b'\n', &mut self.text)? as u64;
            if self.text.last() != Some(&b'\n') {
                return match bytes {
                    LONGEST => Err(self.wrong("it is longer than any".to_owned())),
                    _ => Ok(None),
                };
            }
            self.line += 1;
            self.read += bytes;
            let text = std::str::from_utf8(&self.text[..self.text.len() - 1]);
            let line = text.map_err(|error| error.to_string()).and_then(form::read);
            let next = match line.map_err(|reason| self.wrong(reason))? {
                Line::End(end) => {
                    if hexadecimal(&self.hash.clone().finalize()) != end.sha256 {
                        return Err(FileError::Checksum);
                    }
                    Some(Next::End(end))
                }
                Line::Begin(begin) => Some(Next::Begin(begin)),
                Line::Part(part) => {
                    let message = self.assembly.add(part);
                    message
                        .map_err(|reason| self.wrong(reason))?
                        .map(Next::Message)
                }
            };
            self.hash.update(&self.text);
            if let Some(next) = next {
                self.whole = (self.read, self.hash.clone());
                return Ok(Some(next));
            }
        }
    }

    fn wrong(&self, reason: String) -> FileError {
        FileError::Line {
            line: self.line,
            reason,
        }
    }

    /// The bytes of the line that was not ended.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.text
    }

    /// The number of lines so far.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The bytes up to the end of the last whole message, and the hash of them.
    pub(super) fn whole(&self) -> (u64, Sha256) {
        self.whole.clone()
    }
}

/// Puts the parts of one message together.
#[derive(Default)]
pub(super) struct Assembly {
    begun: Option<Begun>,
}

struct Begun {
    position: u64,
    subject: String,
    trace: Option<Trace>,
    /// Which part was the last, of how many.
    last: (u32, u32),
    body: Vec<u8>,
}

impl Assembly {
    /// Adds the next part; returns the message when it was its last one.
    pub(super) fn add(&mut self, part: Part) -> Result<Option<LoggedMessage>, String> {
        let Part {
            position,
            number: (number, count),
            subject,
            body,
            trace,
        } = part;
        let event = match body {
            Body::Whole(_) if self.begun.is_some() => return Err(unfinished()),
            Body::Whole(body) => return Ok(Some(message(subject, position, body.into(), trace))),
            Body::Event(event) => event,
        };
        if count > PARTS {
            return Err("its commit has more parts than any".to_owned());
        }
        let begun = match (self.begun.take(), number) {
            (None, 1) => Begun {
                position,
                subject,
                trace,
                last: (1, count),
                body: [b"[", &event[..]].concat(),
            },
            (Some(mut begun), _)
                if begun.position == position
                    && begun.subject == subject
                    && begun.trace == trace
                    && (begun.last.0 + 1, begun.last.1) == (number, count) =>
            {
                begun.last.0 = number;
                begun.body.push(b',');
                begun.body.extend_from_slice(&event);
                begun
            }
            (None, _) => return Err("the first part of its commit is not there".to_owned()),
            (Some(_), _) => return Err(unfinished()),
        };
        if number < count {
            self.begun = Some(begun);
            return Ok(None);
        }
        let Begun {
            subject,
            trace,
            mut body,
            ..
        } = begun;
        body.push(b']');
        Ok(Some(message(subject, position, body, trace)))
    }
}

fn unfinished() -> String {
    "the commit before it is not complete".to_owned()
}

fn message(subject: String, position: u64, body: Vec<u8>, trace: Option<Trace>) -> LoggedMessage {
    LoggedMessage {
        message: StoredMessage {
            subject,
            position,
            time: 0,
            stored: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
            payload: body.into(),
        },
        trace,
    }
}
