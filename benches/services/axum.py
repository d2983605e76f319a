"""Hello and JSON by axum: `axum_hello` beside the same application on other runtimes, and nginx."""
from frame import Case, Contender, binary, example, expects, nginx, plural, wrk

NAME = "axum"
HELLO = b"ahoy\n"
SHIP = (b'{"name":"Windlass","knots":7.5,"crew":[{"name":"Anne","age":29},'
        b'{"name":"Mary","age":31}]}')


def load(path, body, connections):
    def run(port, seconds):
        return wrk(f"http://127.0.0.1:{port}{path}", connections, max(1, round(seconds)), len(body))

    return run


def check(port):
    for path, body in [("/", HELLO), ("/json", SHIP)]:
        expects(path, body)(port)


def peer(name):
    return lambda folder, port: [example("axum_peers"), name, f"127.0.0.1:{port}"]


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port};
        location = / {{ return 200 "ahoy\\n"; }}
        location = /json {{ default_type application/json; return 200 '{SHIP.decode()}'; }} }}""")


CONTENDERS = [
    Contender("windlass", lambda folder, port: [binary("axum_hello"), f"127.0.0.1:{port}"], check),
    *[Contender(name, peer(name), check) for name in ("tokio", "smol", "monoio", "compio")],
    Contender("nginx, return 200", by_nginx, check),
]
CASES = [
    Case(f"{what}, {plural(number, 'connection')}", "request", load(path, body, number))
    for what, path, body in [("hello", "/", HELLO), ("JSON", "/json", SHIP)]
    for number in (1, 64)
]
