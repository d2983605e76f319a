"""HTTP/1.1 hello: hyper on windlass beside hyper on tokio and nginx."""
from frame import Case, Contender, example, expects, nginx, wrk

NAME = "HTTP hello"


def h1(connections):
    def run(port, seconds):
        return wrk(f"http://127.0.0.1:{port}/", connections, max(1, round(seconds)), 5)

    return run


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port};
        location / {{ return 200 "ahoy\\n"; }} }}""")


check = expects("/", b"ahoy\n")
CONTENDERS = [
    Contender("windlass, hyper", lambda folder, port: ["prints", example("beside_tokio"), "windlass"], check),
    Contender("tokio, hyper", lambda folder, port: ["prints", example("beside_tokio"), "tokio"], check),
    Contender("nginx, return 200", by_nginx, check),
]
CASES = [Case(f"HTTP/1.1, {number} connection{'s'[number == 1:]}", "request", h1(number)) for number in (1, 64, 1000)]
