"""Whole services: windlass's examples beside the programs that people would pick otherwise.

    python3 benches/services [NAME ...] [--rounds N] [--seconds N] [--out DIR] [--quick]
    python3 benches/services kv proxy --counts        # system calls and instructions instead

Names: kv, kv_log, files, proxy, hello, axum, http2, client, tls, chat, workers. Without names, all.
Writes services.md, services.json and services.svg to the folder.
"""
import argparse, dataclasses, importlib, json, math, os, platform, shutil, signal, statistics, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chart, counts, frame, targets

NAMES = ["kv", "kv_log", "files", "proxy", "hello", "axum", "http2", "client", "tls", "chat", "workers"]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows):
    """One line per pair: windlass, the first row of each case, and another server."""
    lines = [
        "| service | case | beside | ratio of CPU (range) | CPU per operation (µs) | operations/s | p99 (ms) |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if not row.ratios:
            ours = row
            continue
        pair = lambda name: f"{number(getattr(ours, name))} / {number(getattr(row, name))}"
        mark = "~" if row.is_noisy() else ""
        lines.append(
            f"| {row.service} | {row.case} | {row.contender} "
            f"| {mark}{row.ratio:.2f} ({min(row.ratios):.2f}–{max(row.ratios):.2f}) "
            f"| {pair('cpu')} | {pair('rate')} | {pair('p99')} |"
        )
    return "\n".join(lines)


def noise(rows):
    """How busy unrelated processes kept the cores, and how many ratios are noisy."""
    pairs = [row for row in rows if row.ratios]
    if not pairs:
        return ""
    foreign = statistics.median(row.foreign for row in pairs)
    noisy = sum(row.is_noisy() for row in pairs)
    return (f"Unrelated processes used {foreign:.2f} of {os.cpu_count()} cores meanwhile (median). "
            f"Of {len(pairs)} ratios, {noisy} vary by more than {frame.NOISY:.0%} between rounds (~).")


def update_readme(part, text):
    """Replaces the text between the marks of a part in the README."""
    path = os.path.join(frame.ROOT, "benches/README.md")
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    with open(path) as file:
        page = file.read()
    before, rest = page.split(begin)
    _, after = rest.split(end)
    with open(path, "w") as file:
        file.write(f"{before}{begin}\n{text}{end}{after}")


def rounds_taken(samples):
    """The number of rounds, as a range if the services have different ones."""
    last = {}
    for sample in samples:
        last[sample.service] = max(last.get(sample.service, 0), sample.round + 1)
    least, most = min(last.values(), default=0), max(last.values(), default=0)
    return f"{least}" if least == most else f"{least} to {most}"


def versions():
    """The programs that took part."""
    lines = []
    for name, flag in [("redis-server", "-v"), ("nginx", "-v"), ("haproxy", "-v"), ("wrk", "-v"),
                       ("h2load", "--version"), ("openssl", "version"), ("rustc", "-V")]:
        try:
            done = subprocess.run([frame.program(name), flag], capture_output=True, text=True)
            lines.append((done.stdout + done.stderr).strip().split("\n")[0])
        except frame.Skip as reason:
            lines.append(str(reason))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7, help="at most")
    parser.add_argument("--seconds", type=float, default=1, help="of each load")
    parser.add_argument("--minutes", type=float, default=math.inf,
                        help="fewer rounds, so that all takes about this long without the build")
    parser.add_argument("--out", default=os.path.join(frame.TARGET, "benches"))
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--counts", action="store_true", help="counts system calls and instructions")
    parser.add_argument("--update-readme", action="store_true", help="puts the table into benches/README.md")
    parser.add_argument("--from", dest="sources", metavar="FILE", action="append", default=[],
                        help="measures nothing, reports a services.json; of several, the later one's\n"
                             "samples stand for the services that it has")
    parser.add_argument("--no-build", action="store_true", help="the programs are built already")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"the services are {', '.join(NAMES)}")
    # The servers are stopped then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    if not options.no_build and not options.sources:
        frame.build()
    stored = []
    for source in options.sources:
        with open(source) as file:
            newer = [frame.Sample(**sample) for sample in json.load(file)]
        services = {it.service for it in newer}
        stored = [it for it in stored if it.service not in services] + newer
    rounds, seconds = (1, 0.2) if options.quick else (options.rounds, options.seconds)
    os.makedirs(options.out, exist_ok=True)
    samples, rows, skipped, counted, failures = [], [], {}, [], []
    services = [importlib.import_module(name) for name in options.names or NAMES]
    end = time.monotonic() + 60 * options.minutes
    for number, service in enumerate(services):
        targets.check(service)
        try:
            if options.counts:
                counted += counts.run(service, print)
                continue
            of_service, reasons = [it for it in stored if it.service == service.NAME], {}
            if not options.sources:
                share = frame.weight(service) / sum(map(frame.weight, services[number:]))
                now = time.monotonic()
                until = now + share * (end - now)
                of_service, reasons, failed = frame.run(service, rounds, seconds, end=until)
                failures += failed
            samples += of_service
            skipped |= {f"{service.NAME}: {what}": reason for what, reason in reasons.items()}
            rows += frame.rows(service, of_service)
        except frame.Skip as reason:
            skipped[service.NAME] = str(reason)
        except Exception as error:  # the other services continue
            failures.append(f"{service.NAME}: {error}")
        finally:
            getattr(service, "finish", lambda: None)()
    text = counts.table(counted) if options.counts else table(rows)
    text += "".join(f"\n- skipped: {what}: {reason}" for what, reason in skipped.items())
    text += "".join(f"\n- failed: {failure}" for failure in failures)
    length = "" if stored else f" of {seconds:g} s each"
    if samples:
        text += f"\n\n{rounds_taken(samples)} rounds{length}. {noise(rows)}"
    text += f"\n\n{platform.system()} {platform.release()}; {'; '.join(versions())}.\n"
    stem = os.path.join(options.out, "services-counts" if options.counts else "services")
    with open(stem + ".md", "w") as file:
        file.write(text)
    if not options.counts:
        with open(stem + ".json", "w") as file:
            json.dump([dataclasses.asdict(sample) for sample in samples], file, indent=1)
        with open(stem + ".svg", "w") as file:
            file.write(chart.draw(rows))
    if options.update_readme:
        for suffix in ("json", "svg"):
            shutil.copy(f"{stem}.{suffix}", os.path.join(frame.ROOT, "benches/results"))
        update_readme("verdict", targets.table(rows) + f"\n{noise(rows)}\n")
        update_readme("services", text)
    print(text)
    print(f"written to {stem}.*")
    sys.exit(bool(failures))


main()
