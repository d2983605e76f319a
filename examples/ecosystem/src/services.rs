//! Services of the tests: each starts its program in a folder of its own, on a free port, and
//! stops it when it is dropped.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The user that servers run as if they refuse to be root: `nobody`.
const NOBODY: u32 = 65534;

/// The time that a service may take to start.
const START: Duration = Duration::from_secs(60);

/// A running program with its folder.
#[derive(Debug)]
pub struct Service {
    child: Child,
    /// The signal that stops it at once with its child processes.
    signal: &'static str,
    /// The folder of its files.
    pub folder: Folder,
    /// Its address, on loopback.
    pub addr: SocketAddr,
}

/// Returns a service, or ends the test with a line that says why it is skipped.
#[macro_export]
macro_rules! service_or_skip {
    ($start:expr) => {
        match $start.unwrap() {
            Some(service) => service,
            None => return,
        }
    };
}

/// Returns whether the programs are installed, and prints a line if not.
pub fn are_installed(programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = format!("{path}:/usr/sbin:/sbin:/usr/local/bin");
    let has = |program: &&&str| {
        folders
            .split(':')
            .any(|folder| Path::new(folder).join(program).exists())
    };
    match programs.iter().find(|program| !has(program)) {
        None => true,
        Some(missing) => {
            // The standard error of the process, which the test harness doesn't capture.
            let line = format!("SKIPPED: {missing} is not installed\n");
            let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
            false
        }
    }
}

impl Service {
    /// PostgreSQL with the user `postgres`, the database `postgres` and no password.
    pub fn postgres() -> io::Result<Option<Service>> {
        if !are_installed(&["initdb", "postgres"]) {
            return Ok(None);
        }
        let folder = Folder::new("postgres")?;
        let data = folder.0.join("data");
        let mut init = Command::new("initdb");
        init.args([
            "--auth=trust",
            "--no-sync",
            "--username=postgres",
            "--pgdata",
        ])
        .arg(&data);
        let made = as_nobody(&mut init, &folder)?
            .current_dir(&folder.0)
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&made.stderr).into_owned(),
            ));
        }
        let addr = free_addr()?;
        let mut command = Command::new("postgres");
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder.0)
            .current_dir(&folder.0);
        command.args([
            "-p",
            &addr.port().to_string(),
            "-h",
            "127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        as_nobody(&mut command, &folder)?;
        let mut service = Service::start(command, "INT", folder, addr)?;
        service.wait_for_line("ready to accept connections", true)?;
        Ok(Some(service))
    }

    /// Redis, without files.
    pub fn redis() -> io::Result<Option<Service>> {
        if !are_installed(&["redis-server"]) {
            return Ok(None);
        }
        let (folder, addr) = (Folder::new("redis")?, free_addr()?);
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &addr.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command.arg("--dir").arg(&folder.0);
        let service = Service::start(command, "KILL", folder, addr)?;
        service.wait_for_port()?;
        Ok(Some(service))
    }

    /// nginx with the server blocks that `servers` returns for an address and a folder.
    pub fn nginx(servers: impl FnOnce(SocketAddr, &Path) -> String) -> io::Result<Option<Service>> {
        if !are_installed(&["nginx"]) {
            return Ok(None);
        }
        let (folder, addr) = (Folder::new("nginx")?, free_addr()?);
        let servers = servers(addr, &folder.0);
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;
             events {{}}
             http {{
                 access_log off; client_body_temp_path body; proxy_temp_path proxy;
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 {servers}
             }}"
        );
        fs::write(folder.0.join("nginx.conf"), config)?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(&folder.0)
            .args(["-c", "nginx.conf", "-e", "error.log"]);
        let service = Service::start(command, "KILL", folder, addr)?;
        service.wait_for_port()?;
        Ok(Some(service))
    }

    /// A session bus, and its address.
    pub fn dbus() -> io::Result<Option<(Service, String)>> {
        if !are_installed(&["dbus-daemon"]) {
            return Ok(None);
        }
        let folder = Folder::new("dbus")?;
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", "--print-address"]);
        command.arg(format!(
            "--address=unix:path={}",
            folder.0.join("bus").display()
        ));
        let mut service = Service::start(command, "KILL", folder, ([127, 0, 0, 1], 0).into())?;
        let address = service.wait_for_line("unix:path=", false)?;
        Ok(Some((service, address.trim().to_owned())))
    }

    /// NATS.
    pub fn nats() -> io::Result<Option<Service>> {
        if !are_installed(&["nats-server"]) {
            return Ok(None);
        }
        let (folder, addr) = (Folder::new("nats")?, free_addr()?);
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &addr.port().to_string()]);
        let service = Service::start(command, "KILL", folder, addr)?;
        service.wait_for_port()?;
        Ok(Some(service))
    }

    fn start(
        mut command: Command,
        signal: &'static str,
        folder: Folder,
        addr: SocketAddr,
    ) -> io::Result<Service> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn()?;
        Ok(Service {
            child,
            signal,
            folder,
            addr,
        })
    }

    /// Waits for a line with a text on one of the outputs, which then are read to their ends.
    fn wait_for_line(&mut self, text: &str, on_stderr: bool) -> io::Result<String> {
        let output: Box<dyn Read + Send> = match on_stderr {
            true => Box::new(self.child.stderr.take().expect("the output is piped")),
            false => Box::new(self.child.stdout.take().expect("the output is piped")),
        };
        let mut output = BufReader::new(output);
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("the service ended: {all}")));
            }
            if line.contains(text) {
                thread::spawn(move || io::copy(&mut output, &mut io::sink()));
                return Ok(line);
            }
            all += &line;
        }
    }

    fn wait_for_port(&self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            match TcpStream::connect(self.addr) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > START => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let signal = format!("-{}", self.signal);
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status();
        if !sent.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Creates a folder among the temporary files.
    pub fn new(name: &str) -> io::Result<Folder> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("windlass-{name}-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command as another user, if this process is root, and gives it the folder.
fn as_nobody<'a>(command: &'a mut Command, folder: &Folder) -> io::Result<&'a mut Command> {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        chown(&folder.0, Some(NOBODY), Some(NOBODY))?;
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
}

/// Returns an address of loopback that is free now.
pub fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Returns the number of threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
