"""The targets: the highest ratio of CPU per operation, in every case of a service."""
from frame import plural

# The other pairs have no target.
TARGETS = {
    ("key-value server", "redis-server"): 0.85,
    ("key-value server with a log", "redis-server"): 1.0,
    ("files over HTTP/1.1", "nginx, sendfile"): 1.1,
    ("TCP proxy", "HAProxy"): 0.9,
    ("HTTP hello", "tokio, hyper"): 0.9,
    ("HTTP/2 hello", "tokio, axum"): 0.9,
    ("axum", "tokio"): 0.9,
    ("HTTP client", "reqwest on tokio"): 1.0,
    ("TLS", "tokio, hyper and rustls"): 1.0,
    ("chat", "tokio-tungstenite"): 0.8,
    ("workers on both cores", "tokio, multi-thread"): 1.0,
    ("workers on both cores", "nginx"): 1.0,
}


def verdict(ratios, target):
    """Whether a target is met, or in how many of its cases it is missed."""
    missed = sum(ratio > target for ratio in ratios)
    if missed == 0:
        return "met"
    return "**missed**" if missed == len(ratios) else f"**missed** in {missed} of {len(ratios)}"


# Differences below this are noise.
EQUAL = 1.03


def losses(pairs):
    """The pairs where windlass takes more CPU time, in words."""
    lines = []
    for (service, contender), rows in pairs.items():
        worse = [row.ratio for row in rows if row.ratio > EQUAL]
        if worse:
            lines.append(f"- {service}, beside {contender}: {spread(worse)} times the CPU time, "
                         f"in {len(worse)} of {plural(len(rows), 'case')}")
    if not lines:
        return "In no case does windlass take more CPU time.\n"
    return "windlass takes more CPU time here:\n\n" + "\n".join(lines) + "\n"


def spread(values):
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def table(rows):
    """One line per service and server, with the range of the ratios over the cases, and losses."""
    lines = [
        "| windlass as | beside | CPU, ratio | p99, ratio | target for CPU | |",
        "|---|---|---:|---:|---:|---|",
    ]
    pairs = {}
    ours = {(row.service, row.case): row for row in rows if not row.ratios}
    for row in rows:
        if row.ratios and not row.contender.startswith("windlass"):
            pairs.setdefault((row.service, row.contender), []).append(row)
    for pair, of_pair in pairs.items():
        ratios = [row.ratio for row in of_pair]
        p99 = [ours[row.service, row.case].p99 / row.p99 for row in of_pair if row.p99]
        target = TARGETS.get(pair)
        lines.append(
            f"| {pair[0]} | {pair[1]} | {spread(ratios)} | {spread(p99) if p99 else '–'} "
            f"| {f'≤ {target:g}' if target else ''} | {verdict(ratios, target) if target else ''} |"
        )
    return "\n".join(lines) + "\n\n" + losses(pairs)


def check(service):
    """Fails if a target is about a server that the service does not have."""
    names = {contender.name for contender in service.CONTENDERS}
    for name, contender in TARGETS:
        if name == service.NAME and contender not in names:
            raise RuntimeError(f"{name} has a target beside {contender}, which it does not measure")
