"""The HTTP client `windlass::http` beside reqwest on tokio. Here the clients are measured."""
from frame import Case, Contender, Load, example, nginx, run_client

NAME = "HTTP client"
MEASURES_CLIENTS = True
BODY = "x" * 1000
# Each client has an nginx of its own, so the port tells whose turn it is.
CLIENT_OF = {}


def server_for(client):
    def command(folder, port):
        CLIENT_OF[port] = client
        return nginx(folder, f"""server {{ listen 127.0.0.1:{port};
            location / {{ return 200 "{BODY}"; }} }}""")

    return command


def load(at_once):
    def run(port, seconds):
        text = run_client(example("http_clients"), CLIENT_OF[port], f"http://127.0.0.1:{port}/",
                          at_once, seconds)
        requests, elapsed, cpu, p99 = (float(word) for word in text.split())
        return Load(int(requests), elapsed, p99, cpu)

    return run


CONTENDERS = [
    Contender("windlass", server_for("windlass")),
    Contender("reqwest on tokio", server_for("reqwest")),
]
CASES = [Case(f"{number} at once", "request", load(number)) for number in (1, 16, 64)]
