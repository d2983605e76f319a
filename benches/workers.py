#!/usr/bin/env python3
"""An HTTP service on one and on two cores: windlass' workers, tokio's multi-thread, nginx.

    cargo build --release -p windlass-benches --bin http_workers
    benches/workers.py [ROUNDS] [SECONDS]        # 5 and 5 by default: about five minutes

Needs wrk and nginx. wrk uses a share of the cores, so in addition to the requests per second this
prints the server's CPU time per request, over all of its processes, which doesn't depend on that
share. The servers alternate, round by round, and the results are medians.
"""
import os, re, shutil, signal, subprocess, sys, tempfile, time, urllib.request

ROUNDS, SECONDS = (int(word) for word in (sys.argv[1:] + ["5", "5"])[:2])
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVER = os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT + "/target"), "release/http_workers")
TICKS = os.sysconf("SC_CLK_TCK")
NAMES = {
    "processes": "windlass, processes",
    "each": "windlass, processes, one socket per worker",
    "threads": "windlass, threads",
    "tokio": "tokio, multi-thread",
    "nginx": "nginx",
}


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    pids += tree(int(child))
    except FileNotFoundError:
        pass  # it has exited
    return pids


def cpu(pid):
    """CPU time of the process and its descendants (s)."""
    total = 0
    for each in tree(pid):
        with open(f"/proc/{each}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def nginx(folder, port, workers):
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = f"""daemon off; worker_processes {workers}; pid {folder}/pid; error_log /dev/null;
        events {{ worker_connections 4096; }}
        http {{ access_log off; keepalive_requests 100000000; {paths}
          server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ahoy!\\n"; }} }} }}"""
    with open(f"{folder}/conf", "w") as file:
        file.write(conf)
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", f"{folder}/conf"]


def await_answer(url):
    for _ in range(200):
        try:
            return urllib.request.urlopen(url, timeout=1).read()
        except OSError:
            time.sleep(0.02)
    sys.exit(f"no answer from {url}")


def measure(kind, workers, port):
    """Requests per second, and the server's CPU time per request (µs)."""
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory() as folder:
        own = [SERVER, kind, f"127.0.0.1:{port}", str(workers)]
        command = nginx(folder, port, workers) if kind == "nginx" else own
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            await_answer(url)
            before = cpu(server.pid)
            wrk = ["wrk", "-t1", "-c64", f"-d{SECONDS}s", url]
            said = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
            used = cpu(server.pid) - before
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    if "Socket errors" in said:
        sys.exit(said)
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    return requests / SECONDS, used / requests * 1e6


def middle(values):
    return sorted(values)[len(values) // 2]


cases = [(kind, workers) for workers in (1, 2) for kind in NAMES]
found = {case: [] for case in cases}
for turn in range(ROUNDS):
    for number, case in enumerate(cases):
        found[case].append(measure(*case, 7900 + turn * len(cases) + number))
medians = {case: [middle(column) for column in zip(*found[case])] for case in cases}
base = medians["processes", 1][1]
print("| server | workers | requests/s | CPU a request | ratio |\n|---|---:|---:|---:|---:|")
for (kind, workers), (requests, time_each) in medians.items():
    print(f"| {NAMES[kind]} | {workers} | {requests:,.0f} | {time_each:.2f} µs | {time_each / base:.2f} |")
