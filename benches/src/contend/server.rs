//! Shared by all servers, for their parameters, listening, and the end.

use std::{
    fmt::Display,
    fs,
    future::Future,
    io::{Read, Write},
    path::PathBuf,
    process, thread,
    time::Duration,
};

use anyhow::{Result, bail};

use super::meter::{Heap, Params, print, resident};
use super::runtime::Runtime;

pub(crate) const ANY: &str = "127.0.0.1:0";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The work of a server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) proto: Proto,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Time limit for an idle connection.
    pub(crate) timeout: Option<Duration>,
    /// Number of pending sleeps beside the connections.
    pub(crate) idle_timers: u64,
    /// A connection holds no buffer while it is idle.
    pub(crate) is_shared: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Proto {
    Echo,
    /// One request per connection.
    Churn,
    Udp,
    Unix,
}

impl Server {
    pub(crate) fn new(proto: &str, params: &Params) -> Result<Server> {
        let proto = match proto {
            "echo" => Proto::Echo,
            "churn" => Proto::Churn,
            "udp" => Proto::Udp,
            "unix" => Proto::Unix,
            other => bail!("no such server: {other}"),
        };
        raise_descriptors()?;
        Ok(Server {
            proto,
            size: params.or("size", 64) as usize,
            timeout: (params.or("idle_timeout", 0) > 0).then_some(Duration::from_secs(30)),
            idle_timers: params.or("idle_timers", 0),
            is_shared: params.text("buffer") == Some("shared"),
        })
    }

    /// Size of a connection's buffer.
    pub(crate) fn buffer(&self) -> usize {
        self.size.max(2048)
    }

    pub(crate) fn path(&self) -> PathBuf {
        std::env::temp_dir().join(format!("windlass-benches-{}.sock", process::id()))
    }

    /// Prints the address. From now on, the end of standard input exits the process, after it has
    /// printed its memory usage.
    pub(crate) fn listens(&self, at: impl Display) {
        let buffer = if self.is_shared { 0 } else { self.buffer() };
        let path = self.path();
        thread::spawn(move || {
            let start = (Heap::now().live, resident());
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            print("heap_start_bytes", start.0 as f64);
            print("heap_bytes", Heap::now().live as f64);
            print("rss_start_bytes", start.1 as f64);
            print("rss_bytes", resident() as f64);
            print("buffer_bytes", buffer as f64);
            let _ = fs::remove_file(path);
            process::exit(0);
        });
        println!("listening {at}");
        std::io::stdout().flush().expect("the suite reads this");
    }
}

/// Runs one of a contender's servers, beside the idle timers.
pub(crate) fn run<R, T, U, D>(
    server: &Server,
    tcp: fn(Server) -> T,
    unix: fn(Server) -> U,
    udp: fn(Server) -> D,
) -> Result<()>
where
    R: Runtime,
    T: Future<Output = Result<()>>,
    U: Future<Output = Result<()>>,
    D: Future<Output = Result<()>>,
{
    let server = server.clone();
    R::block_on(async move {
        for _ in 0..server.idle_timers {
            R::detach(R::spawn(R::sleep(HOUR)));
        }
        match server.proto {
            Proto::Echo | Proto::Churn => tcp(server).await,
            Proto::Unix => unix(server).await,
            Proto::Udp => udp(server).await,
        }
    })
}

/// Defines `connection`, which spawns the task of a connection on the runtime. Its functions
/// `answer` and `echo` serve streams that read into borrowed buffers. They are a macro because
/// tokio has its own traits, which have the same names.
macro_rules! connection_tasks {
    ($runtime:ident) => {
        fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, server: &Server) {
            let size = server.buffer();
            match (server.proto, server.timeout) {
                (Proto::Churn, _) => $runtime::detach($runtime::spawn(answer(stream, server.size))),
                (_, None) => $runtime::detach($runtime::spawn(echo(stream, size))),
                (_, Some(limit)) => {
                    $runtime::detach($runtime::spawn(echo_in_time(stream, size, limit)))
                }
            }
        }

        /// One request of that many bytes.
        async fn answer(
            mut stream: impl AsyncRead + AsyncWrite + Unpin,
            size: usize,
        ) -> io::Result<()> {
            let mut buffer = vec![0; size];
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&buffer).await
        }

        /// Until the peer closes.
        async fn echo(
            mut stream: impl AsyncRead + AsyncWrite + Unpin,
            size: usize,
        ) -> io::Result<()> {
            let mut buffer = vec![0; size];
            loop {
                let n = stream.read(&mut buffer).await?;
                if n == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..n]).await?;
            }
        }
    };
}
pub(crate) use connection_tasks;

/// Up to the hard limit.
pub(crate) fn raise_descriptors() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
