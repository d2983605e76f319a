"""A chat: one line to 10,000 WebSockets, in 50 rooms of 200, beside tokio-tungstenite."""
import select, subprocess

from frame import CLIENT_CORE, Case, Contender, Load, binary, example

NAME = "chat"
ROOMS, MEMBERS, QUICK_MEMBERS = 50, 200, 10
# Seconds to join, or to receive all lines.
TIME_LIMIT = 120


class Clients:
    """The members of a server's chat. They join before the measurement, and stay."""

    running = {}

    def __init__(self, port, members):
        words = [binary("chat_clients"), f"127.0.0.1:{port}", str(ROOMS), str(members)]
        self.process = subprocess.Popen(["taskset", "-c", CLIENT_CORE, *words], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.expect("ready")

    def expect(self, word=None):
        ready, _, _ = select.select([self.process.stdout], [], [], TIME_LIMIT)
        line = self.process.stdout.readline().strip() if ready else "out of time"
        if not line or word and line != word:
            raise RuntimeError(f"the members of the chat: {line!r}")
        return line

    @classmethod
    def of(cls, port, seconds):
        if port not in cls.running:
            members = QUICK_MEMBERS if seconds < 0.5 else MEMBERS
            cls.running[port] = Clients(port, members)
        return cls.running[port]


def finish_round():
    """The members leave before their servers end."""
    for clients in Clients.running.values():
        clients.process.kill()
        clients.process.wait()
    Clients.running.clear()


finish = finish_round


def load(port, seconds):
    clients = Clients.of(port, seconds)
    clients.process.stdin.write(f"{seconds}\n")
    clients.process.stdin.flush()
    lines, elapsed = clients.expect().split()
    return Load(int(lines), float(elapsed))


CONTENDERS = [
    Contender("windlass", lambda folder, port: [binary("web_chat"), f"127.0.0.1:{port}"]),
    Contender("tokio-tungstenite", lambda folder, port: [example("chat_tokio"), f"127.0.0.1:{port}"]),
]
CASES = [Case("10,000 members", "received line", load)]
