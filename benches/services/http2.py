"""HTTP/2 hello: `axum_hello` beside axum on tokio, and nginx. 10 streams per connection."""
import os, re, tempfile

import axum
from frame import Case, Contender, Load, nginx, plural, run_client

NAME = "HTTP/2 hello"


def load(connections):
    def run(port, seconds):
        with tempfile.TemporaryDirectory(prefix="services-") as folder:
            log = os.path.join(folder, "log")
            text = run_client("h2load", "-D", max(1, round(seconds)), "-c", connections, "-m", 10,
                              "-t", 1, "--log-file", log, f"http://127.0.0.1:{port}/")
            times = log_times(log)
        done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
        good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
        if int(done[1]) == 0 or [done[2], done[3], *good.groups()[1:]] != ["0"] * 5:
            raise RuntimeError(text)
        elapsed, unit = re.search(r"finished in ([\d.]+)(\w+),", text).groups()
        elapsed = float(elapsed) * {"s": 1, "ms": 1e-3}[unit]
        return Load(int(done[1]), elapsed, times[len(times) * 99 // 100] / 1e3)

    return run


def log_times(path):
    """The times of the requests in µs, in ascending order."""
    with open(path) as log:
        return sorted(int(line.split()[2]) for line in log)


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port} http2; http2_max_requests 100000000;
        location / {{ return 200 "ahoy\\n"; }} }}""")


CONTENDERS = [
    Contender("windlass, axum", axum.CONTENDERS[0].command),
    Contender("tokio, axum", axum.peer("tokio")),
    Contender("nginx, return 200", by_nginx),
]
CASES = [Case(plural(number, "connection"), "request", load(number)) for number in (1, 16)]
