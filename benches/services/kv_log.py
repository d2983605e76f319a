"""The key-value server with persistence: an append-only file that is synced each second."""
from frame import Case, Contender
from kv import check, load, ours, redis

NAME = "key-value server with a log"
CONTENDERS = [
    Contender("windlass", ours("--log", "{folder}/log", "--sync", "everysec"), check),
    Contender("redis-server", redis("--appendonly", "yes", "--appendfsync", "everysec"), check),
]
CASES = [Case(f"SET, depth {depth}", "request", load("set", depth)) for depth in (1, 16)]
