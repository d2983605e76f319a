"""HTTP/2 hello: hyper on windlass beside nginx, 10 streams per connection."""
import re

from frame import Case, Contender, Load, binary, nginx, run_client

NAME = "HTTP/2 hello"


def load(connections):
    rates = {}

    def run(port, seconds):
        # h2load takes a number of requests. It follows from the rate of the run before.
        count = max(1_000, int(rates.get(port, 10_000) * seconds))
        text = run_client("h2load", "-n", count, "-c", connections, "-m", 10, "-t", 1,
                          f"http://127.0.0.1:{port}/")
        done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
        good = re.search(r"status codes: (\d+) 2xx", text)
        if int(done[1]) != count or int(good[1]) != count:
            raise RuntimeError(text)
        elapsed, unit = re.search(r"finished in ([\d.]+)(\w+),", text).groups()
        elapsed = float(elapsed) * {"s": 1, "ms": 1e-3}[unit]
        rates[port] = count / elapsed
        return Load(count, elapsed)

    return run


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port} http2; http2_max_requests 100000000;
        location / {{ return 200 "ahoy\\n"; }} }}""")


CONTENDERS = [
    Contender("windlass, hyper", lambda folder, port: [binary("http_server"), folder, f"127.0.0.1:{port}"]),
    Contender("nginx, return 200", by_nginx),
]
CASES = [Case(f"{number} connection{'s'[number == 1:]}", "request", load(number)) for number in (1, 16)]
