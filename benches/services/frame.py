"""The frame of the services: servers in turns, CPU time from the system, ratios with their spread.

A service is a module with `NAME`, `CONTENDERS` and `CASES`. The first contender is windlass. Each
round starts all servers. Then each case loads them in turns, in another order each round. The
server is pinned to one core and its client to the other.
"""
import dataclasses, math, os, re, resource, shutil, signal, socket, statistics, subprocess, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SERVER_CORE, CLIENT_CORE = "0", "1"
# A ratio is noisy if its rounds differ by more than this.
NOISY = 0.15


# Each connection takes a file descriptor.
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Skip(Exception):
    """A program is missing, or does not support a case."""


@dataclasses.dataclass
class Load:
    """What a client has measured."""

    requests: int
    seconds: float
    p99: float | None = None  # ms
    cpu: float | None = None  # s, if the client is measured instead of the server


@dataclasses.dataclass
class Contender:
    name: str
    command: object  # (folder, port) -> list of words
    check: object = None  # (port) -> None, raises if replies are wrong
    cases: object = None  # names of cases; all if None
    cores: str = SERVER_CORE


@dataclasses.dataclass
class Case:
    name: str
    unit: str  # of an operation
    load: object  # (port, seconds) -> Load


@dataclasses.dataclass
class Sample:
    """One case of one contender in one round. CPU times are in µs per operation."""

    service: str
    case: str
    contender: str
    round: int
    cpu: float
    user: float  # share of the CPU time in user space, in ticks of 10 ms
    rate: float
    p99: float | None
    foreign: float  # cores that other processes kept busy


def example(name):
    return os.path.join(TARGET, "release/examples", name)


def binary(name):
    return os.path.join(TARGET, "release", name)


def program(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Skip(f"{name} is not installed")
    return path


def build():
    """Builds the programs that are measured."""
    for package, flags in [
        ("windlass", ["--example=resp_server", "--example=proxy", "--example=http_files"]),
        ("windlass-web", ["--bins", "--examples"]),
        ("windlass-benches", ["--bins"]),
    ]:
        command = ["cargo", "build", "--release", "-q", "-p", package, *flags]
        subprocess.run(command, cwd=ROOT, check=True)


def plural(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def run_client(*command, cores=CLIENT_CORE, timeout=120, check=True):
    """Runs a client on its core. Returns its output."""
    command = ["taskset", "-c", cores, program(command[0]), *map(str, command[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def fetch(port, request, length=None, tls=False):
    """Sends bytes and returns the response: `length` bytes, or all until the server closes."""
    import ssl

    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        if tls:
            context = ssl._create_unverified_context()
            stream = context.wrap_socket(stream)
        stream.sendall(request)
        got = b""
        while length is None or len(got) < length:
            chunk = stream.recv(1 << 20)
            if not chunk:
                break
            got += chunk
        return got


def http_body(port, path, tls=False):
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    head, _, body = fetch(port, request, tls=tls).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"{path}: {head!r}")
    return body


def expects(path, body, tls=False):
    """A check that a path has a body."""

    def check(port):
        got = http_body(port, path, tls)
        if got != body:
            raise RuntimeError(f"{path}: {len(got)} bytes that differ from {len(body)}")

    return check


def wrk(url, connections, seconds, size=None):
    """Runs wrk. Fails if a response has an error, or if responses are shorter than `size`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    text = run_client(*command, url)
    if "Socket errors" in text or "Non-2xx" in text:
        raise RuntimeError(f"wrk {url}: {text}")
    count, amount = re.search(r"(\d+) requests in [\d.]+\w+, ([\d.]+\w+) read", text).groups()
    requests = int(count)
    if requests == 0 and seconds < 20:  # a busy machine, or large files
        return wrk(url, connections, 4 * seconds, size)
    # wrk counts requests that have ended, and bytes as they come.
    if size and quantity(amount) < 0.98 * requests * size:
        raise RuntimeError(f"wrk {url}: short responses: {text}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    return Load(requests, float(seconds), p99 and float(p99[1]) * unit[p99[2]])


def quantity(text):
    number, unit = re.match(r"([\d.]+)(\w+)", text).groups()
    return float(number) * {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[unit]


def nginx(folder, servers, workers=1, top=""):
    """The command of an nginx with these server blocks of HTTP."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{name}_temp_path {folder}/{name};" for name in kinds)
    http = f"""http {{ access_log off; keepalive_requests 100000000; tcp_nodelay on; {paths}
        {servers} }}""" if servers else ""
    # Root would give the files to another user.
    user = "user root;" if os.getuid() == 0 else ""
    conf = f"""{user} daemon off; worker_processes {workers}; pid {folder}/pid;
        error_log {folder}/error.log; {top} events {{ worker_connections 20000; }} {http}"""
    path = os.path.join(folder, f"nginx-{len(os.listdir(folder))}.conf")
    with open(path, "w") as file:
        file.write(conf)
    return [program("nginx"), "-c", path, "-p", folder]


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    pids += tree(int(child))
    except FileNotFoundError:
        pass  # it has exited
    return pids


def cpu(pid):
    """CPU time of a process and its descendants in seconds, and the part in user space."""
    total, user, both = 0, 0, 0
    for each in tree(pid):
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/schedstat") as times:
                    total += int(times.read().split()[0])
            with open(f"/proc/{each}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        user += int(fields[11])
        both += int(fields[11]) + int(fields[12])
    return total / 1e9, user, both


def machine_busy():
    """Seconds that all cores were busy, with the hypervisor's."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


class Server:
    """A running contender, on a port of its own."""

    def __init__(self, contender):
        self.contender = contender
        self.folder = tempfile.mkdtemp(prefix="services-")
        self.port = free_port()
        try:
            command = contender.command(self.folder, self.port)
            # A command that does not take a port prints its address.
            prints_port = command[0] == "prints"
            self.log = open(os.path.join(self.folder, "log"), "w+")
            self.process = subprocess.Popen(
                ["taskset", "-c", contender.cores, *(command[1:] if prints_port else command)],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                start_new_session=True,
            )
            self.await_start(prints_port)
            if contender.check:
                contender.check(self.port)
        except BaseException:
            self.stop()
            raise

    def await_start(self, prints_port):
        for _ in range(500):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.contender.name} has exited: {self.output()}")
            if prints_port:
                found = re.search(r"127\.0\.0\.1:(\d+)", self.output())
                if not found:
                    time.sleep(0.02)
                    continue
                self.port = int(found[1])
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.contender.name} does not listen: {self.output()}")

    def output(self):
        with open(os.path.join(self.folder, "log")) as log:
            return log.read()

    def stop(self):
        process = getattr(self, "process", None)
        if process:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(service, case, server, round_, seconds):
    foreign = machine_busy()
    (cpu_before, user_before, both_before), start = cpu(server.process.pid), time.monotonic()
    own = os.times()
    load = case.load(server.port, seconds)
    now = os.times()
    elapsed = time.monotonic() - start
    cpu_after, user_after, both_after = cpu(server.process.pid)
    clients = sum(now[:4]) - sum(own[:4])
    used = cpu_after - cpu_before
    subject = used if load.cpu is None else load.cpu
    ticks = max(both_after - both_before, 1)
    return Sample(
        service=service.NAME, case=case.name, contender=server.contender.name, round=round_,
        cpu=subject / load.requests * 1e6, user=(user_after - user_before) / ticks,
        rate=load.requests / load.seconds, p99=load.p99,
        foreign=max(0, machine_busy() - foreign - used - clients) / elapsed,
    )


def weight(service):
    """The number of loads per round, to divide the time between services."""
    return len(service.CONTENDERS) * (len(service.CASES) + 1)


def run(service, rounds, seconds, report=print, end=math.inf):
    """Measures a service. Returns the samples, the reasons of what was skipped, and failures.

    A round begins only if it probably ends before `end` on the monotonic clock.
    """
    samples, skipped, failures, longest = [], {}, [], 0
    for round_ in range(rounds):
        start = time.monotonic()
        if start + longest > end:
            break
        servers = []
        try:
            for contender in service.CONTENDERS:
                try:
                    servers.append(Server(contender))
                except Skip as reason:
                    skipped[contender.name] = str(reason)
                except Exception as error:
                    failures.append(f"{service.NAME}, {contender.name}: {error}")
            for number, case in enumerate(service.CASES):
                shift = (round_ + number) % max(len(servers), 1)
                for server in servers[shift:] + servers[:shift]:
                    only = server.contender.cases
                    if only is not None and case.name not in only:
                        continue
                    try:
                        if number == 0:
                            case.load(server.port, min(seconds, 0.5))  # warm-up
                        sample = measure(service, case, server, round_, seconds)
                    except Skip as reason:
                        skipped[case.name] = str(reason)
                        continue
                    except Exception as error:  # the other samples continue
                        failures.append(f"{service.NAME}, {case.name}, {server.contender.name}: {error}")
                        continue
                    samples.append(sample)
                    report(f"{service.NAME}: round {round_ + 1}: {case.name}: {sample.contender}: "
                           f"{sample.cpu:.2f} µs, {sample.rate:,.0f}/s, foreign {sample.foreign:.2f}")
        finally:
            getattr(service, "finish_round", lambda: None)()
            for server in servers:
                server.stop()
        longest = max(longest, time.monotonic() - start)
    return samples, skipped, failures


@dataclasses.dataclass
class Row:
    """The medians of a contender in a case."""

    service: str
    case: str
    unit: str
    contender: str
    cpu: float
    user: float
    rate: float
    p99: float | None
    # CPU of windlass divided by that of this contender, in each round.
    ratios: list
    foreign: float

    @property
    def ratio(self):
        return statistics.median(self.ratios) if self.ratios else None

    def is_noisy(self):
        return bool(self.ratios) and max(self.ratios) - min(self.ratios) > NOISY * self.ratio


def rows(service, samples):
    ours = service.CONTENDERS[0].name
    found = []
    for case in service.CASES:
        of_case = [it for it in samples if it.service == service.NAME and it.case == case.name]
        base = {it.round: it.cpu for it in of_case if it.contender == ours}
        for contender in service.CONTENDERS:
            own = [it for it in of_case if it.contender == contender.name]
            if not own:
                continue
            median = lambda name: statistics.median(getattr(it, name) for it in own)
            ratios = [base[it.round] / it.cpu for it in own if it.round in base]
            found.append(Row(
                service.NAME, case.name, case.unit, contender.name, median("cpu"), median("user"),
                median("rate"), median("p99") if own[0].p99 is not None else None,
                [] if contender.name == ours else ratios, median("foreign"),
            ))
    return found
