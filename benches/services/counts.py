"""System calls (strace) and user instructions (callgrind) per operation of each contender."""
import os, re, signal, subprocess, time

import frame

# Instructions are the difference between loads of so many seconds, so that the start does not count.
SHORT, LONG = 1, 3


def system_calls(contender, case):
    server = frame.Server(contender)
    try:
        case.load(server.port, 0.2)  # warm-up
        path = os.path.join(server.folder, "calls")
        pids = [word for pid in frame.tree(server.process.pid) for word in ("-p", str(pid))]
        command = [frame.program("strace"), "-f", "-c", "-U", "calls,name", "-o", path, *pids]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if "attached" not in strace.stderr.readline():
            raise frame.Skip("strace may not attach")
        load = case.load(server.port, 1)
        strace.send_signal(signal.SIGINT)
        strace.wait()
        with open(path) as table:
            return per_operation(table.read(), load.requests)
    finally:
        server.stop()


def per_operation(table, operations):
    found = {}
    for line in table.splitlines():
        match = re.fullmatch(r"\s*(\d+)\s+(\w+)", line)
        if match and match[2] != "total" and int(match[1]) / operations >= 0.005:
            found[match[2]] = int(match[1]) / operations
    return found


def instructions(contender, case):
    """Instructions in user space per operation, with the load at two lengths."""
    counts = []
    for seconds in (SHORT, LONG):
        wrapped = frame.dataclasses.replace(contender, command=under_callgrind(contender.command))
        server = frame.Server(wrapped)
        try:
            operations = case.load(server.port, seconds).requests
        finally:
            log = os.path.join(server.folder, "callgrind.log")
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
            with open(log) as file:
                text = file.read()
            server.stop()
        # One line per process; the server's own has the most.
        collected = [int(word) for word in re.findall(r"Collected : (\d+)", text)]
        counts.append((operations, sum(collected)))
    (few, start), (many, end) = counts
    return (end - start) / (many - few) if many > few else None


def under_callgrind(command):
    def wrapped(folder, port):
        words = command(folder, port)
        prefix = words[:1] if words[0] == "prints" else []
        valgrind = [frame.program("valgrind"), "--tool=callgrind", "--trace-children=yes",
                    "--callgrind-out-file=/dev/null", f"--log-file={folder}/callgrind.log"]
        return prefix + valgrind + words[len(prefix):]

    return wrapped


def run(service, report):
    if getattr(service, "MEASURES_CLIENTS", False):
        raise frame.Skip("counts are those of servers")
    found = []
    for case in service.CASES:
        for contender in service.CONTENDERS:
            if contender.cases is not None and case.name not in contender.cases:
                continue
            try:
                calls = system_calls(contender, case)
                try:
                    own = instructions(contender, case)
                except Exception as error:  # for example io_uring, which valgrind lacks
                    report(f"{contender.name}: no instructions: {error}")
                    own = None
            except frame.Skip as reason:
                report(f"{contender.name}: skipped: {reason}")
                continue
            found.append((service.NAME, case.name, contender.name, calls, own))
            report(found[-1])
            time.sleep(0.1)
    return found


def table(found):
    lines = ["| service | case | server | system calls | user instructions | by name |",
             "|---|---|---|---:|---:|---|"]
    for service, case, contender, calls, own in found:
        names = ", ".join(f"{name} {count:.2f}" for name, count in sorted(calls.items(), key=lambda it: -it[1]))
        total = sum(calls.values())
        lines.append(f"| {service} | {case} | {contender} | {total:.2f} | {f'{own:,.0f}' if own else '–'} | {names} |")
    return "\n".join(lines)
