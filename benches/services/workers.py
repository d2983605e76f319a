"""Workers: windlass's processes and threads beside tokio's multi-thread and nginx, on two cores.

The client shares the cores, so only the CPU per request counts.
"""
from frame import Case, Contender, binary, expects, fetch, nginx, wrk

NAME = "workers on both cores"
BOTH = "0,1"


def ours(kind):
    return lambda folder, port: [binary("http_workers"), kind, f"127.0.0.1:{port}", "2"]


def by_nginx(folder, port):
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port};
        location / {{ return 200 "ahoy!\\n"; }} }}""", workers=2)


def load(port, seconds):
    return wrk(f"http://127.0.0.1:{port}/", 64, max(1, round(seconds)), 6)


def check(port):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nahoy!\n"
    got = fetch(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", len(answer))
    if got != answer:
        raise RuntimeError(f"port {port}: {got!r}")


CONTENDERS = [
    Contender("windlass, processes", ours("processes"), check, cores=BOTH),
    Contender("windlass, threads", ours("threads"), check, cores=BOTH),
    Contender("tokio, multi-thread", ours("tokio"), check, cores=BOTH),
    Contender("nginx", by_nginx, expects("/", b"ahoy!\n"), cores=BOTH),
]
CASES = [Case("HTTP/1.1, 64 connections", "request", load)]
