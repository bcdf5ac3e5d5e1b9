//! Making a log from the file.
//!
//! Every message is put where it stood: each batch names the position that it comes after, and the server stores
//! all of it or nothing. So an import that was killed goes on after what is there, once that has been compared with the
//! file; nothing is lost or doubled. Each commit is folded before it is sent, and nothing after one that
//! breaks is sent.

use super::{
    FileError,
    form::{Begin, End},
    lines::{Lines, Next},
};
use crate::{
    command::describe::AggregateDescription,
    event_log::{
        AppendError, EventLog, LoadError, StoredMessage, exclusion,
        whole::{LoggedMessage, WholeLog},
    },
    replay::{CommitFolder, Counts, Fault, Known, ReplayOptions},
};
use std::{
    collections::{HashMap, VecDeque},
    io::BufRead,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// The most messages of one batch: what the server takes.
pub const BATCH: usize = 1_000;
/// A batch is sent once it has so many bytes.
const BATCH_BYTES: usize = 2 << 20;
/// The number of batches that are read ahead.
const AHEAD: usize = 4;
/// The number of times that a batch is tried again where the log does not take it.
const ATTEMPTS: u32 = 20;
/// The pause before each of these.
const PAUSE: Duration = Duration::from_millis(500);

/// A log cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not begin where a log does, or leaves something out.
    #[error(
        "the file has nothing at position {position}: it can only be imported from the first to the last"
    )]
    Gap {
        /// The position that is missing.
        position: u64,
    },
    /// This build cannot fold what is in the file.
    #[error("this build cannot fold what is imported, and nothing from there on was: {0}")]
    Broken(Box<Fault>),
    /// The log is not empty, nor the beginning of what is imported.
    #[error(
        "the log is another one: at position {position} it has {found}. Import into a log that is empty, and that nobody writes to"
    )]
    OtherLog {
        /// The first position where they differ.
        position: u64,
        /// The mark of it.
        found: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log does not take it.
    #[error("{0}. Import again: it goes on where it was")]
    Append(#[from] AppendError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The destination of an import.
pub enum Target<'a> {
    /// Nowhere: it is only read and folded.
    Nowhere,
    /// This log.
    Log(&'a EventLog),
}

/// The settings of an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The aggregates that are taken as they are, since this program does not have them any more.
    pub left_out: Vec<String>,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The number of messages that are there now.
    pub messages: u64,
    /// The number of those that were there before.
    pub before: u64,
}

enum Step {
    Begin(Begin),
    Messages(Vec<LoggedMessage>),
    End(End),
}

/// Imports a file. `tell` hears how many of how many messages are done.
///
/// # Errors
///
/// Returns [`ImportError`]. What was imported up to then stays, and is gone on from the next time.
pub async fn import<'a>(
    target: Target<'_>,
    aggregates: impl Iterator<Item = &'a AggregateDescription>,
    file: impl BufRead + Send + 'static,
    options: &ImportOptions,
    mut tell: impl FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    let folding = ReplayOptions {
        left_out: options.left_out.clone(),
        ..ReplayOptions::default()
    };
    let known = Known::new(aggregates, HashMap::new(), &folding);
    let (give, mut take) = mpsc::channel(AHEAD);
    let reading = move || {
        let mut reading = Reading {
            known,
            give,
            position: 0,
            batch: Vec::new(),
            bytes: 0,
        };
        if let Err(error) = reading.read(file) {
            let _ = reading.give.blocking_send(Err(error));
        }
    };
    let thread = thread::Builder::new().name("import".to_owned());
    // Folding may go deep where an event does.
    let thread = thread.stack_size(4 << 20).spawn(reading);
    thread.map_err(ImportError::Thread)?;
    let (mut imported, mut last) = (Imported::default(), 0);
    let mut standing = None;
    while let Some(step) = take.recv().await {
        match step? {
            Step::Begin(begin) => {
                last = begin.last;
                standing = match &target {
                    Target::Nowhere => None,
                    Target::Log(log) => Some(Standing::of(log, &begin).await?),
                };
            }
            Step::Messages(messages) => {
                imported.messages += messages.len() as u64;
                if let Some(standing) = &mut standing {
                    imported.before += standing.take(messages).await?;
                }
                tell(imported.messages, last);
            }
            Step::End(end) => {
                if end.messages == imported.messages {
                    return Ok(imported);
                }
                return Err(FileError::Checksum.into());
            }
        }
    }
    // Whoever reads ends with an error, or with the end.
    Err(FileError::Short { line: 0 }.into())
}

/// The reader that folds the file, on a thread of its own.
struct Reading {
    known: Known,
    give: mpsc::Sender<Result<Step, ImportError>>,
    position: u64,
    batch: Vec<LoggedMessage>,
    bytes: usize,
}

impl Reading {
    fn read(&mut self, file: impl BufRead) -> Result<(), ImportError> {
        let mut lines = Lines::new(file);
        let begin = match lines.next()? {
            Some(Next::Begin(begin)) => begin,
            Some(_) => {
                let reason = "it is not the beginning of an export".to_owned();
                return Err(FileError::Line { line: 1, reason }.into());
            }
            None => return Err(FileError::Short { line: lines.line() }.into()),
        };
        if begin.first > 1 {
            return Err(ImportError::Gap { position: 1 });
        }
        self.known.exclusions = exclusions(&begin);
        let mut folder = CommitFolder::new(Arc::new(self.known.clone()));
        let mut counts = Counts::default();
        let last = begin.last;
        if !self.hand_on(Step::Begin(begin)) {
            return Ok(());
        }
        loop {
            let logged = match lines.next()? {
                Some(Next::Message(logged)) => logged,
                Some(Next::End(_)) if self.position != last => {
                    let position = self.position + 1;
                    return Err(ImportError::Gap { position });
                }
                Some(Next::End(end)) => {
                    self.flush();
                    self.hand_on(Step::End(end));
                    return Ok(());
                }
                Some(Next::Begin(_)) => {
                    let (line, reason) = (lines.line(), "it begins again".to_owned());
                    return Err(FileError::Line { line, reason }.into());
                }
                None => {
                    self.flush();
                    return Err(FileError::Short { line: lines.line() }.into());
                }
            };
            self.position += 1;
            if logged.message.position != self.position {
                let position = self.position;
                return Err(ImportError::Gap { position });
            }
            if !is_of_log(&logged.message.subject) {
                let reason = format!("{:?} is no subject of a log", logged.message.subject);
                let line = lines.line();
                return Err(FileError::Line { line, reason }.into());
            }
            if let Some(fault) = folder.apply(&logged.message, &mut counts) {
                // All before it is imported.
                self.flush();
                return Err(ImportError::Broken(Box::new(fault)));
            }
            self.bytes += logged.message.payload.len();
            self.batch.push(logged);
            let full = self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES;
            if full && !self.flush() {
                return Ok(());
            }
        }
    }

    /// Hands on what has come together; false when nobody takes it any more.
    fn flush(&mut self) -> bool {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        batch.is_empty() || self.hand_on(Step::Messages(batch))
    }

    fn hand_on(&self, step: Step) -> bool {
        self.give.blocking_send(Ok(step)).is_ok()
    }
}

fn exclusions(begin: &Begin) -> HashMap<String, exclusion::Exclusions> {
    let lists = begin.exclusions.iter().map(|list| StoredMessage {
        subject: list.subject.clone(),
        position: list.position,
        time: 0,
        stored: jiff::Timestamp::UNIX_EPOCH,
        traceparent: None,
        payload: list.data.clone().into(),
    });
    exclusion::by_commits(&lists.collect::<Vec<_>>())
}

/// Returns whether a message of this subject may be put into a log: never is one sent anywhere else.
fn is_of_log(subject: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_graphic() && !b"*>".contains(&byte);
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(sign);
    let mut tokens = subject.split('.');
    matches!(tokens.next(), Some("evt" | "claim" | "log"))
        && subject.contains('.')
        && tokens.all(is_token)
}

/// The log that is imported to, and what stands in it from an import before.
struct Standing<'a> {
    log: &'a EventLog,
    /// The position of its last message.
    last: u64,
    whole: WholeLog,
    ahead: VecDeque<LoggedMessage>,
}

impl<'a> Standing<'a> {
    async fn of(log: &'a EventLog, begin: &Begin) -> Result<Self, ImportError> {
        let extent = log.extent().await?;
        if extent.first > 1 || extent.last > begin.last {
            let position = if extent.first > 1 { 1 } else { begin.last + 1 };
            let found = log.message_at(position).await?;
            let found = found.map_or("nothing any more".to_owned(), |it| it.subject);
            return Err(ImportError::OtherLog { position, found });
        }
        Ok(Self {
            log,
            last: extent.last,
            whole: log.whole(0, extent.last),
            ahead: VecDeque::new(),
        })
    }

    /// Takes the next messages, and returns how many of them were there before.
    async fn take(&mut self, mut messages: Vec<LoggedMessage>) -> Result<u64, ImportError> {
        let before = messages.partition_point(|it| it.message.position <= self.last);
        for logged in messages.drain(..before) {
            self.compare(&logged).await?;
        }
        self.put(&messages).await?;
        Ok(before as u64)
    }

    async fn compare(&mut self, logged: &LoggedMessage) -> Result<(), ImportError> {
        if self.ahead.is_empty() {
            self.ahead
                .extend(self.whole.next().await?.unwrap_or_default());
        }
        let found = self.ahead.pop_front();
        let trace = found.as_ref().map(|found| &found.trace);
        let same_trace = trace.is_some_and(|trace| *trace == logged.trace);
        let position = logged.message.position;
        is_same(found.as_ref().map(|found| &found.message), &logged.message)?;
        match same_trace {
            true => Ok(()),
            false => Err(ImportError::OtherLog {
                position,
                found: "the same of another trace".to_owned(),
            }),
        }
    }

    async fn put(&mut self, mut messages: &[LoggedMessage]) -> Result<(), ImportError> {
        let mut attempts = 0;
        while let Some(first) = messages.first() {
            let after = first.message.position - 1;
            let error = match self.log.put_back(messages, after).await {
                Ok(()) => return Ok(()),
                Err(error @ AppendError::Refused(_)) => return Err(error.into()),
                Err(error) => error,
            };
            attempts += 1;
            if attempts == ATTEMPTS {
                return Err(error.into());
            }
            // What became of it stands in the log.
            let Ok(end) = self.log.end().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let stored = messages.partition_point(|it| it.message.position <= end);
            if end > after + stored as u64 || end < after {
                let position = (after + stored as u64).min(end) + 1;
                let found = self.log.message_at(position).await?;
                let found = found.map_or("nothing any more".to_owned(), |it| it.subject);
                return Err(ImportError::OtherLog { position, found });
            }
            if let Some(last) = messages[..stored].last() {
                let found = self.log.message_at(last.message.position).await?;
                is_same(found.as_ref(), &last.message)?;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
            messages = &messages[stored..];
        }
        Ok(())
    }
}

fn is_same(found: Option<&StoredMessage>, wanted: &StoredMessage) -> Result<(), ImportError> {
    let same = found.is_some_and(|found| {
        found.position == wanted.position
            && found.subject == wanted.subject
            && found.payload == wanted.payload
    });
    match same {
        true => Ok(()),
        false => Err(ImportError::OtherLog {
            position: wanted.position,
            found: match found {
                Some(found) if found.subject == wanted.subject => {
                    format!("something else on {}", found.subject)
                }
                Some(found) => format!("{}, not {}", found.subject, wanted.subject),
                None => "nothing".to_owned(),
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_log;

    #[test]
    fn nothing_is_sent_but_what_belongs_into_a_log() {
        for subject in [
            "evt.order.o-1",
            "claim.email.abc",
            "log.secret",
            "evt.a.b.c",
        ] {
            assert!(is_of_log(subject), "{subject}");
        }
        for subject in [
            "",
            "evt",
            "evt.",
            "evt..a",
            "evt.a b.c",
            "evt.*.c",
            "evt.>",
            "cmd.order.o-1.place",
            "$JS.API.STREAM.DELETE.EVENTS",
            "evt.a.b\r\nPUB x 0",
        ] {
            assert!(!is_of_log(subject), "{subject:?}");
        }
    }
}
