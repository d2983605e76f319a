"""TLS: `tls_server` beside nginx, with the same key: handshakes, and requests over open connections."""
import re, subprocess, tempfile

from frame import Case, Contender, Load, binary, example, http_body, nginx, program, run_client, wrk

NAME = "TLS"


class Identity:
    """A key and a certificate, which all servers use."""

    folder = None

    @classmethod
    def paths(cls):
        if cls.folder is None:
            openssl = program("openssl")
            cls.folder = tempfile.TemporaryDirectory(prefix="services-")
            name = cls.folder.name
            command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}/key", "-out",
                       f"{name}/chain", "-days", "30", "-subj", "/CN=localhost"]
            subprocess.run(command, check=True, capture_output=True)
        return cls.folder.name + "/chain", cls.folder.name + "/key"


def finish():
    if Identity.folder is not None:
        Identity.folder.cleanup()
        Identity.folder = None


def handshakes(port, seconds):
    seconds = max(1, round(seconds))
    text = run_client("openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-tls1_3",
                      "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-time", seconds, check=False)
    found = re.search(r"(\d+) connections in (\d+) real seconds", text)
    if not found or int(found[1]) == 0:
        raise RuntimeError(text)
    return Load(int(found[1]), float(found[2]))


def requests(port, seconds):
    return wrk(f"https://127.0.0.1:{port}/", 64, max(1, round(seconds)), 5)


def check(port):
    if not http_body(port, "/", tls=True).startswith(b"ahoy"):
        raise RuntimeError("an unexpected body over TLS")


def ours(folder, port):
    return [binary("tls_server"), f"127.0.0.1:{port}", *Identity.paths()]


def tokio(folder, port):
    return [example("tls_tokio"), f"127.0.0.1:{port}", *Identity.paths()]


def by_nginx(folder, port):
    chain, key = Identity.paths()
    return nginx(folder, f"""server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {chain};
        ssl_certificate_key {key}; ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
        location / {{ return 200 "ahoy over HTTP/1.1\\n"; }} }}""")


CONTENDERS = [
    Contender("windlass, hyper and rustls", ours, check),
    Contender("tokio, hyper and rustls", tokio, check),
    Contender("nginx, OpenSSL", by_nginx, check),
]
CASES = [
    Case("handshakes", "handshake", handshakes),
    Case("HTTPS, 64 connections", "request", requests),
]
