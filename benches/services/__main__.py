"""Whole services: windlass's examples beside the programs that people would pick otherwise.

    python3 benches/services [NAME ...] [--rounds N] [--seconds N] [--out DIR] [--quick]
    python3 benches/services kv proxy --counts        # system calls and instructions instead

Names: kv, kv_log, files, proxy, hello, http2, tls, chat, workers. Without names, all of them.
Writes services.md, services.json and services.svg to the folder.
"""
import argparse, dataclasses, importlib, json, os, platform, subprocess, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chart, counts, frame

NAMES = ["kv", "kv_log", "files", "proxy", "hello", "http2", "tls", "chat", "workers"]


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def ratio(row):
    if row.ratio is None:
        return "1"
    mark = "~" if row.is_noisy() else ""
    return f"{mark}{row.ratio:.2f} ({min(row.ratios):.2f}–{max(row.ratios):.2f})"


def table(rows):
    lines = [
        "| service | case | server | CPU per operation (µs) | windlass ÷ this (lowest–highest) | in user space "
        "| operations/s | p99 (ms) | other processes (cores) |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.service} | {row.case} | {row.contender} | {number(row.cpu)} | {ratio(row)} "
            f"| {row.user:.0%} | {number(row.rate)} | {number(row.p99)} | {row.foreign:.2f} |"
        )
    return "\n".join(lines)


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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--out", default=os.path.join(frame.TARGET, "benches"))
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--counts", action="store_true", help="counts system calls and instructions")
    parser.add_argument("--no-build", action="store_true", help="the programs are built already")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"the services are {', '.join(NAMES)}")
    if not options.no_build:
        frame.build()
    rounds, seconds = (1, 0.2) if options.quick else (options.rounds, options.seconds)
    os.makedirs(options.out, exist_ok=True)
    samples, rows, skipped, counted, failures = [], [], {}, [], []
    for name in options.names or NAMES:
        service = importlib.import_module(name)
        try:
            if options.counts:
                counted += counts.run(service, print)
                continue
            of_service, reasons = frame.run(service, rounds, seconds)
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
    text += f"\n\n{rounds} rounds of {seconds:g} s each. {platform.platform()}. {'; '.join(versions())}.\n"
    stem = os.path.join(options.out, "services-counts" if options.counts else "services")
    with open(stem + ".md", "w") as file:
        file.write(text)
    if not options.counts:
        with open(stem + ".json", "w") as file:
            json.dump([dataclasses.asdict(sample) for sample in samples], file, indent=1)
        with open(stem + ".svg", "w") as file:
            file.write(chart.draw(rows))
    print(text)
    print(f"written to {stem}.*")
    sys.exit(bool(failures))


main()
