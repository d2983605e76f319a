"""A TCP proxy: the example `proxy` beside HAProxy, nginx's stream module and tokio.

The server behind it is an nginx on the client's core.
"""
import os, subprocess, tempfile

import frame
from frame import CLIENT_CORE, Case, Contender, Skip, binary, example, expects, nginx, program, wrk

NAME = "TCP proxy"
BULK = 10 << 20


class Backend:
    """The nginx behind all proxies. It starts with the first of them."""

    port = None

    @classmethod
    def start(cls):
        if cls.port is None:
            folder = tempfile.TemporaryDirectory(prefix="services-")
            with open(f"{folder.name}/bulk", "wb") as file:
                file.write(b"x" * BULK)
            with open(f"{folder.name}/small", "wb") as file:
                file.write(b"x" * 1024)
            cls.port = frame.free_port()
            server = f"""sendfile on; server {{ listen 127.0.0.1:{cls.port}; root {folder.name};
                location = / {{ return 200 "ahoy\\n"; }} }}"""
            command = ["taskset", "-c", CLIENT_CORE, *nginx(folder.name, server)]
            cls.folder, cls.process = folder, subprocess.Popen(command, cwd=folder.name)
        return cls.port


def finish():
    if Backend.port is not None:
        Backend.process.terminate()
        Backend.process.wait()
        Backend.folder.cleanup()
        Backend.port = None


def haproxy(*options):
    def command(folder, port):
        with open(f"{folder}/haproxy.cfg", "w") as file:
            file.write(haproxy_settings(port, Backend.start(), options))
        return [program("haproxy"), "-f", f"{folder}/haproxy.cfg", "-db"]

    return command


def haproxy_settings(port, backend, options):
    lines = "".join(f"  {option}\n" for option in options)
    return f"""global
  nbthread 1
  maxconn 5000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
{lines}listen proxy
  bind 127.0.0.1:{port}
  server backend 127.0.0.1:{backend}
"""


def stream(folder, port):
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if not os.path.exists(module):
        raise Skip("the stream module of nginx is not installed")
    with open(f"{folder}/load", "w") as file:
        file.write(f"load_module {module};")
    top = f"include {folder}/load; stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{Backend.start()}; }} }}"
    return nginx(folder, "", top=top)


def ours(folder, port):
    return [example("proxy"), f"127.0.0.1:{port}", f"127.0.0.1:{Backend.start()}"]


def tokio(folder, port):
    return [binary("proxy_tokio"), f"127.0.0.1:{port}", f"127.0.0.1:{Backend.start()}"]


check = expects("/", b"ahoy\n")


def load(path, connections, size=None):
    def run(port, seconds):
        return wrk(f"http://127.0.0.1:{port}{path}", connections, max(1, round(seconds)), size)

    return run


CONTENDERS = [
    Contender("windlass", ours, check),
    Contender("HAProxy", haproxy(), check),
    Contender("HAProxy, splice", haproxy("option splice-request", "option splice-response"), check,
              cases=["10 MiB, 4 connections"]),
    Contender("nginx, stream", stream, check),
    Contender("tokio, copy_bidirectional", tokio, check),
]
CASES = [
    Case("small, 1 connection", "request", load("/", 1)),
    Case("small, 64 connections", "request", load("/", 64)),
    # nginx sends the head and the file apart.
    Case("1 KiB, 64 connections", "request", load("/small", 64, 1024)),
    Case("10 MiB, 4 connections", "request", load("/bulk", 4, BULK)),
]
