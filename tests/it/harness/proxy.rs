//! A TCP proxy before a server: what a bad network does, at the moment that a test chooses.

use super::seed::Seed;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// A proxy on a free port. Dropping it cuts all connections and takes no more.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    /// The server's answers are read and thrown away.
    mute: AtomicBool,
    /// New connections are closed at once.
    closed: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    trap: Mutex<Option<(Vec<u8>, Fault)>>,
    /// Of the messages on subjects that begin so, some do not reach the client.
    loses: Option<(String, Mutex<Seed>)>,
    lost: AtomicU64,
}

/// What happens when a client sends a text that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server gets it, and its answers are lost from then on.
    Mute,
    /// The server gets it, and all connections are cut.
    CutAfter,
    /// All connections are cut before the server gets it.
    CutBefore,
}

impl Proxy {
    /// A proxy before `127.0.0.1:<port>`.
    pub fn start(port: u16) -> Self {
        Self::start_as(port, None)
    }

    /// A proxy before a nats-server that loses about a third of the messages on subjects that begin
    /// so, on their way to the client.
    pub fn losing(port: u16, subjects: &str, chance: Seed) -> Self {
        Self::start_as(port, Some((subjects.to_owned(), Mutex::new(chance))))
    }

    fn start_as(port: u16, loses: Option<(String, Mutex<Seed>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            target: format!("127.0.0.1:{port}"),
            mute: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
            trap: Mutex::new(None),
            loses,
            lost: AtomicU64::new(0),
        });
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // What cannot be connected is closed, as a server that is away would.
                let _ = shared.pass(client);
            }
        });
        proxy
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on the server gets everything, and its answers are lost.
    pub fn mute(&self) {
        self.shared.mute.store(true, Ordering::SeqCst);
    }

    /// Cuts all connections, and refuses new ones until [`Proxy::heal`].
    pub fn cut(&self) {
        self.shared.close();
    }

    /// Once, as soon as a client sends this text.
    pub fn when_sent(&self, text: &str, fault: Fault) {
        *self.shared.trap.lock().unwrap() = Some((text.as_bytes().to_vec(), fault));
    }

    /// How many messages were lost.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether what was waited for has been sent.
    pub fn has_happened(&self) -> bool {
        self.shared.trap.lock().unwrap().is_none()
    }

    /// New connections work as they should. Those that had lost answers are cut, since what was lost
    /// in the middle of a stream does not come back.
    pub fn heal(&self) {
        if self.shared.mute.swap(false, Ordering::SeqCst) {
            self.shared.cut();
        }
        self.shared.closed.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn pass(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.target)?;
        {
            let mut open = self.open.lock().unwrap();
            // Under the lock: a cut comes either before or after the connection is known.
            if self.closed.load(Ordering::SeqCst) {
                return Ok(());
            }
            open.push(client.try_clone()?);
            open.push(server.try_clone()?);
        }
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_2, server_2) = (client.try_clone()?, server.try_clone()?);
        let shared = Arc::clone(self);
        let mut seen = Vec::new();
        thread::spawn(move || {
            copy(client, server, |sent| {
                match shared.springs(&mut seen, sent) {
                    None => Passes::Yes,
                    Some(Fault::Mute) => {
                        shared.mute.store(true, Ordering::SeqCst);
                        Passes::Yes
                    }
                    Some(Fault::CutAfter) => {
                        shared.closed.store(true, Ordering::SeqCst);
                        Passes::AndEnds
                    }
                    Some(Fault::CutBefore) => {
                        shared.close();
                        Passes::No
                    }
                }
            });
        });
        let shared = Arc::clone(self);
        if shared.loses.is_some() {
            thread::spawn(move || {
                // It ends when either side does.
                let _ = shared.lose(&server_2, &client_2);
                let _ = server_2.shutdown(Shutdown::Both);
                let _ = client_2.shutdown(Shutdown::Both);
            });
            return Ok(());
        }
        thread::spawn(move || {
            copy(server_2, client_2, |_| {
                if shared.mute.load(Ordering::SeqCst) {
                    Passes::No
                } else {
                    Passes::Yes
                }
            });
        });
        Ok(())
    }

    /// Copies what a nats-server sends, operation by operation, without some of its messages.
    fn lose(&self, server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let Some((subjects, chance)) = &self.loses else {
            return Ok(());
        };
        let mut server = BufReader::new(server);
        loop {
            let mut operation = Vec::new();
            if server.read_until(b'\n', &mut operation)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&operation).into_owned();
            let words: Vec<_> = line.split_whitespace().collect();
            if let ["MSG" | "HMSG", subject, .., length] = words[..] {
                let length: usize = length.parse().map_err(io::Error::other)?;
                let head = operation.len();
                operation.resize(head + length + 2, 0);
                server.read_exact(&mut operation[head..])?;
                if subject.starts_with(subjects) && chance.lock().unwrap().once_in(3) {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            client.write_all(&operation)?;
        }
    }

    /// Looks for the text that is waited for, which may come in pieces.
    fn springs(&self, seen: &mut Vec<u8>, sent: &[u8]) -> Option<Fault> {
        let mut trap = self.trap.lock().unwrap();
        let Some((text, fault)) = &*trap else {
            seen.clear();
            return None;
        };
        seen.extend_from_slice(sent);
        if seen.windows(text.len()).any(|window| window == text) {
            let fault = *fault;
            *trap = None;
            return Some(fault);
        }
        let keep = seen.len().min(text.len() - 1);
        seen.drain(..seen.len() - keep);
        None
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    fn cut(&self) {
        for connection in self.open.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    Yes,
    No,
    AndEnds,
}

/// Copies until either side ends, and then ends the other.
fn copy(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> Passes) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let passes = passes(&buffer[..read]);
        if passes != Passes::No && to.write_all(&buffer[..read]).is_err() {
            break;
        }
        if passes == Passes::AndEnds {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[tokio::test]
async fn a_muted_proxy_stores_what_is_sent_and_loses_the_answer() {
    use super::{nats::Nats, poll::eventually};
    use std::time::Duration;

    let nats = Nats::start();
    let direct = nats.jetstream().await;
    let stream = direct
        .create_stream(async_nats::jetstream::stream::Config {
            name: "S".to_owned(),
            subjects: vec!["s".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap();
    let proxy = Proxy::start(nats.port());
    let client = async_nats::connect(proxy.nats_url()).await.unwrap();
    client.request("s", "one".into()).await.unwrap();

    proxy.mute();
    let mut append = tokio::spawn({
        let client = client.clone();
        async move { client.request("s", "two".into()).await }
    });
    eventually("the server has stored both", || {
        let info = stream.get_info();
        async move { (info.await.unwrap().state.messages == 2).then_some(()) }
    })
    .await;
    assert!(futures::poll!(&mut append).is_pending());
    append.abort();

    proxy.heal();
    eventually("the client is back", || async {
        let request = async_nats::Request::new().timeout(Some(Duration::from_millis(300)));
        client.send_request("s", request).await.ok()
    })
    .await;
}
