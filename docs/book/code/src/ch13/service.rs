//! The programs of chapter 13 in processes of their own, and clients for them.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long to wait for a process, a connection or a reply.
const LIMIT: Duration = Duration::from_secs(20);

/// One of the two programs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    Good,
    Broken,
}

/// A parent and its processes. They are killed when the value is dropped.
#[derive(Debug)]
pub(super) struct Service {
    parent: Child,
    pub(super) address: SocketAddr,
}

impl Service {
    /// Starts the program with a number of processes, and waits for the first of them.
    pub(super) fn start(program: Program, count: usize) -> io::Result<Service> {
        // A port that is free now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let command = match program {
            Program::Good => "workers",
            Program::Broken => "broken-workers",
        };
        let parent = Command::new(env::current_exe()?)
            .args(["13", command, &address.to_string(), &count.to_string()])
            .stderr(Stdio::null()) // the log
            .spawn()?;
        let service = Service { parent, address };
        service.wait_for(|_| true)?;
        Ok(service)
    }

    /// Waits for a reply from a process that fits, and returns its number.
    pub(super) fn wait_for(&self, fits: impl Fn(u32) -> bool) -> io::Result<u32> {
        let start = Instant::now();
        loop {
            let process = Client::connect(self.address).and_then(|mut client| client.process());
            match process {
                Ok(process) if fits(process) => return Ok(process),
                Err(error) if start.elapsed() > LIMIT => return Err(error),
                _ if start.elapsed() > LIMIT => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => thread::sleep(Duration::from_millis(5)),
                Ok(_) => {}
            }
        }
    }

    /// Returns the numbers of all processes.
    pub(super) fn processes(&self, count: usize) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        while found.len() < count {
            found.push(self.wait_for(|process| !found.contains(&process))?);
        }
        Ok(found)
    }

    /// Connects clients until each of the processes has this many of them.
    pub(super) fn clients(&self, processes: &[u32], each: usize) -> io::Result<Vec<Client>> {
        let mut clients: Vec<(u32, Client)> = Vec::new();
        let start = Instant::now();
        while clients.len() < each * processes.len() {
            let mut client = Client::connect(self.address)?;
            let process = client.process()?;
            let count = clients.iter().filter(|known| known.0 == process).count();
            if processes.contains(&process) && count < each {
                clients.push((process, client));
            }
            if start.elapsed() > LIMIT {
                return Err(io::Error::other("a process gets no connections"));
            }
        }
        // In turns, so that neighbours belong to different processes.
        Ok(clients.into_iter().map(|(_, client)| client).collect())
    }

    /// Sends a signal to the parent.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.parent), signal)?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The processes end with their parent.
        self.parent.kill().ok();
        self.parent.wait().ok();
    }
}

/// Kills a process.
pub(super) fn kill(process: u32) -> io::Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| io::Error::other("no number of a process"))?;
    Ok(kill_process(process, Signal::KILL)?)
}

/// The resident memory of a process in bytes.
pub(super) fn memory(process: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.unwrap_or(0.0) * 1024.0)
}

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let stream = BufReader::new(stream);
        Ok(Client { stream })
    }

    /// Sends a line, and returns the reply.
    pub(super) fn request(&mut self, line: &str) -> io::Result<String> {
        let line = format!("{line}\n");
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut reply = String::new();
        match self.stream.read_line(&mut reply)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(reply.trim().to_owned()),
        }
    }

    fn process(&mut self) -> io::Result<u32> {
        let reply = self.request("process")?;
        let number = reply.trim_end_matches(" bye");
        number.parse().map_err(io::Error::other)
    }
}
