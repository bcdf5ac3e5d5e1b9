//! Writing the file from the log.

use super::{
    FileError,
    form::{self, Begin, End, ExclusionList},
    lines::{Lines, Next},
};
use crate::event_log::{EventLog, LoadError, StoredMessage, secret::hexadecimal};
use sha2::{Digest, Sha256};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek, SeekFrom, Write},
    path::Path,
};

/// A log cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file cannot be written, or what is there is no export.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else writes to the file.
    #[error("another export writes to this file")]
    InUse,
    /// The file holds an export of another log.
    #[error("what is in the file up to position {position} is of another log: name another file")]
    OtherLog {
        /// The position of the last message in the file.
        position: u64,
    },
    /// A line of the file cannot be written as JSON.
    #[error("what is exported cannot be written as JSON: {0}")]
    Form(#[from] serde_json::Error),
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The number of messages.
    pub messages: u64,
    /// The position of the last one.
    pub last: u64,
    /// The number of messages that were in the file before.
    pub before: u64,
}

/// The progress of an export.
struct Standing {
    begin: Begin,
    messages: u64,
    position: u64,
    hash: Sha256,
}

/// Exports the log, up to where it ends now, to a file, or to standard output where none is named. Goes on
/// where an export to that file was stopped. `tell` hears how many of how many messages are written.
///
/// # Errors
///
/// Returns [`ExportError`]. What is in the file up to then is kept, and gone on from the next time.
pub async fn export(
    log: &EventLog,
    path: Option<&Path>,
    mut tell: impl FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    let Some(path) = path else {
        let standing = begin(log).await?;
        let mut out = io::stdout().lock();
        return write(log, standing, &mut out, true, &mut tell).await;
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    if file.try_lock().is_err() {
        return Err(ExportError::InUse);
    }
    let exported = match resume(log, &mut file).await? {
        Resumed::Finished(exported) => return Ok(exported),
        Resumed::Here(standing) => write(log, standing, &mut file, false, &mut tell).await?,
        Resumed::Nothing => {
            file.set_len(0)?;
            file.rewind()?;
            let standing = begin(log).await?;
            write(log, standing, &mut file, true, &mut tell).await?
        }
    };
    file.sync_all()?;
    Ok(exported)
}

async fn begin(log: &EventLog) -> Result<Standing, ExportError> {
    let extent = log.extent().await?;
    let exclusions = log.exclusion_lists().await?;
    let exclusions = exclusions
        .into_iter()
        .filter(|it| it.position <= extent.last);
    let begin = Begin {
        first: extent.first.max(1),
        last: extent.last,
        exclusions: exclusions.map(list).collect(),
    };
    Ok(Standing {
        messages: 0,
        position: begin.first - 1,
        hash: Sha256::new(),
        begin,
    })
}

fn list(message: StoredMessage) -> ExclusionList {
    ExclusionList {
        data: String::from_utf8_lossy(&message.payload).into_owned(),
        subject: message.subject,
        position: message.position,
    }
}

enum Resumed {
    /// The file is empty, or as good as that.
    Nothing,
    Here(Standing),
    Finished(Exported),
}

/// Looks how far the file is, and brings it to the end of what is whole.
async fn resume(log: &EventLog, file: &mut File) -> Result<Resumed, ExportError> {
    let mut lines = Lines::new(BufReader::with_capacity(1 << 20, &mut *file));
    let begin = match lines.next()? {
        Some(Next::Begin(begin)) => begin,
        Some(_) => return Err(no_export()),
        None if lines.line() == 0 && form::may_begin(lines.unfinished()) => {
            return Ok(Resumed::Nothing);
        }
        None => return Err(no_export()),
    };
    let (mut messages, mut last) = (0, None);
    while let Some(next) = lines.next()? {
        match next {
            Next::Message(logged) => {
                messages += 1;
                last = Some(logged.message);
            }
            Next::End(_) => {
                let last = begin.last;
                let before = messages;
                return Ok(Resumed::Finished(Exported {
                    messages,
                    last,
                    before,
                }));
            }
            Next::Begin(_) => {
                let (line, reason) = (lines.line(), "it begins again".to_owned());
                return Err(FileError::Line { line, reason }.into());
            }
        }
    }
    let (whole, hash) = lines.whole();
    drop(lines);
    let position = last.as_ref().map_or(begin.first - 1, |it| it.position);
    if let Some(last) = last {
        let stands = log.message_at(last.position).await?;
        let same = |it: &StoredMessage| it.subject == last.subject && it.payload == last.payload;
        if !stands.as_ref().is_some_and(same) || log.end().await? < begin.last {
            return Err(ExportError::OtherLog { position });
        }
    }
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    Ok(Resumed::Here(Standing {
        begin,
        messages,
        position,
        hash,
    }))
}

fn no_export() -> ExportError {
    let reason = "it is not the beginning of an export".to_owned();
    FileError::Line { line: 1, reason }.into()
}

async fn write(
    log: &EventLog,
    mut standing: Standing,
    out: &mut (impl Write + ?Sized),
    anew: bool,
    tell: &mut impl FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    let before = standing.messages;
    let mut text = match anew {
        true => form::begin(&standing.begin)?,
        false => Vec::new(),
    };
    let last = standing.begin.last;
    let all = standing.messages + last.saturating_sub(standing.position);
    let mut whole = log.whole(standing.position, last);
    while let Some(messages) = whole.next().await? {
        standing.messages += messages.len() as u64;
        for logged in &messages {
            form::write(logged, &mut text)?;
        }
        standing.hash.update(&text);
        out.write_all(&text)?;
        text.clear();
        tell(standing.messages, all);
    }
    standing.hash.update(&text);
    let end = form::end(&End {
        messages: standing.messages,
        sha256: hexadecimal(&standing.hash.finalize()),
    })?;
    text.extend_from_slice(&end);
    out.write_all(&text)?;
    out.flush()?;
    Ok(Exported {
        messages: standing.messages,
        last,
        before,
    })
}
