//! A TCP proxy before a server: what a bad network does, at the moment that a test chooses.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
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
}

impl Proxy {
    /// A proxy before `127.0.0.1:<port>`.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            target: format!("127.0.0.1:{port}"),
            mute: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
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
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.cut();
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
        thread::spawn(move || copy(client, server, || true));
        let shared = Arc::clone(self);
        thread::spawn(move || copy(server_2, client_2, || !shared.mute.load(Ordering::SeqCst)));
        Ok(())
    }

    fn cut(&self) {
        for connection in self.open.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Copies until either side ends, and then ends the other.
fn copy(mut from: TcpStream, mut to: TcpStream, passes: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if passes() && to.write_all(&buffer[..read]).is_err() {
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
