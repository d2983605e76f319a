"""Files over HTTP/1.1, cached: the example `http_files` beside nginx and hyper on either runtime."""
import os

from frame import Case, Contender, binary, example, expects, nginx, plural, wrk

NAME = "files over HTTP/1.1"
SIZES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "10 MiB": 10 << 20}


def name(size):
    return size.replace(" ", "") + ".bin"


def body(size):
    return bytes(i * 31 % 251 for i in range(1 << 10)) * (SIZES[size] >> 10)


def root(folder):
    path = os.path.join(folder, "files")
    os.mkdir(path)
    for size in SIZES:
        with open(os.path.join(path, name(size)), "wb") as file:
            file.write(body(size))
    return path


def check(port):
    for size in SIZES:
        expects("/" + name(size), body(size))(port)


def load(size, connections):
    def run(port, seconds):
        return wrk(f"http://127.0.0.1:{port}/{name(size)}", connections, max(1, round(seconds)),
                   SIZES[size])

    return run


def by_nginx(folder, port):
    server = f"sendfile on; server {{ listen 127.0.0.1:{port}; root {root(folder)}; }}"
    return nginx(folder, server)


CONTENDERS = [
    Contender("windlass", lambda folder, port: [example("http_files"), root(folder), f"127.0.0.1:{port}"], check),
    Contender("nginx, sendfile", by_nginx, check),
    Contender("windlass, hyper", lambda folder, port: [binary("http_server"), root(folder), f"127.0.0.1:{port}"], check),
    Contender("tokio, hyper", lambda folder, port: [example("files_tokio"), root(folder), f"127.0.0.1:{port}"], check),
]
CASES = [
    Case(f"{size}, {plural(number, 'connection')}", "request", load(size, number))
    for size in SIZES for number in (1, 64)
]
