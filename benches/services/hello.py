"""HTTP/1.1 hello by hyper: `http_server`, with its limits, beside tokio and nginx.

`beside_tokio` is the same code on both runtimes. Its only limit is the time for a head.
"""
from frame import Case, Contender, binary, example, expects, nginx, plural, wrk

NAME = "HTTP hello"


def h1(connections):
    def run(port, seconds):
        return wrk(f"http://127.0.0.1:{port}/", connections, max(1, round(seconds)), 5)

    return run


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port};
        location / {{ return 200 "ahoy\\n"; }} }}""")


def bare(runtime):
    return lambda folder, port: ["prints", example("beside_tokio"), runtime]


check = expects("/", b"ahoy\n")
CONTENDERS = [
    Contender("windlass, hyper", lambda folder, port: [binary("http_server"), folder, f"127.0.0.1:{port}"], check),
    Contender("windlass, without limits", bare("windlass"), check),
    Contender("tokio, hyper", bare("tokio"), check),
    Contender("nginx, return 200", by_nginx, check),
]
CASES = [
    Case(f"HTTP/1.1, {plural(number, 'connection')}", "request", h1(number))
    for number in (1, 64, 1000)
]
