"""A key-value server: the example `resp_server` beside redis-server and the same code on tokio."""
import re

from frame import Case, Contender, Load, binary, example, fetch, program, run_client

NAME = "key-value server"
# redis-benchmark needs the number of requests in advance. It follows from the rate of the run before.
# For the first run, it follows from these.
FIRST_RATE = {1: 20_000, 16: 200_000}
SEED = ["-r", "100000", "-d", "64", "-c", "50"]


def check(port):
    """The same replies from all."""
    requests = (b"SET rope hemp\r\nGET rope\r\nSET rope x NX\r\nSET rope steel EX 100 XX\r\nTTL rope\r\n"
                b"INCR turns\r\nMGET rope none turns\r\nDEL rope turns\r\nEXISTS rope\r\nQUIT\r\n")
    replies = (b"+OK\r\n$4\r\nhemp\r\n$-1\r\n+OK\r\n:100\r\n:1\r\n*3\r\n$5\r\nsteel\r\n$-1\r\n$1\r\n1\r\n"
               b":2\r\n:0\r\n+OK\r\n")
    got = fetch(port, requests)
    if got != replies:
        raise RuntimeError(f"port {port}: {got!r}")


def load(command, depth):
    last = [FIRST_RATE[depth]]

    def run(port, seconds):
        count = max(2_000, int(last[0] * seconds))
        text = run_client("redis-benchmark", "-p", port, "-t", command, "-n", count, "-P", depth,
                          *SEED, "--csv")
        # It ends with an error if a reply is one.
        row = re.search(rf'^"{command.upper()}.*$', text, re.M)[0]
        rate, _, _, _, _, p99, _ = (float(word) for word in re.findall(r'"([\d.]+)"', row))
        last[0] = rate
        return Load(count, count / rate, p99)

    return run


def redis(*options):
    def command(folder, port):
        base = [program("redis-server"), "--port", str(port), "--io-threads", "1", "--save", "",
                "--dir", folder, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]
        return base + list(options)

    return command


def ours(*options):
    def command(folder, port):
        base = [example("resp_server"), "--listen", f"127.0.0.1:{port}"]
        return base + [word.format(folder=folder) for word in options]

    return command


def tokio(folder, port):
    return [binary("resp_tokio"), f"127.0.0.1:{port}"]


CONTENDERS = [
    Contender("windlass", ours(), check),
    Contender("redis-server", redis(), check),
    Contender("tokio, same code", tokio, check),
]
CASES = [
    Case(f"{command.upper()}, depth {depth}", "request", load(command, depth))
    for depth in (1, 16) for command in ("set", "get")
]
