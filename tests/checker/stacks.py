"""The stacks of a process that hangs, in the kernel and in the program. A debugger has to stop threads first, and one that
waits for a mount that does not answer cannot be stopped: what lies on the stacks is read as it is, so a name may be of a call
that has long returned."""
import os
import re
import shutil
import struct
import subprocess

STACK_BYTES = 6144
IN_KERNEL = 8  # lines


def read_text(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except OSError:
        return ""


def program_text(pid):
    """(program, [(begin, end, offset)]) of its code."""
    program = os.readlink(f"/proc/{pid}/exe")
    ranges = []
    for line in read_text(f"/proc/{pid}/maps").splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) .* (\S+)$", line)
        if match and match.group(4) == program:
            ranges.append(tuple(int(match.group(n), 16) for n in (1, 2, 3)))
    return program, ranges


def addresses_on_stack(pid, task, ranges):
    """Of the program's code, the innermost call first."""
    fields = read_text(f"/proc/{pid}/task/{task}/syscall").split()
    if len(fields) < 9:
        return []
    try:
        with open(f"/proc/{pid}/mem", "rb") as f:
            f.seek(int(fields[7], 16))
            data = f.read(STACK_BYTES)
    except OSError:
        return []
    found = []
    for (value,) in struct.iter_unpack("Q", data[:len(data) & ~7]):
        for begin, end, offset in ranges:
            if begin < value < end:
                found.append(value - 1 - begin + offset)  # within the call
    return found


def names_of(program, addresses):
    if not addresses or shutil.which("addr2line") is None:
        return []
    out = subprocess.run(["addr2line", "-f", "-s", "-e", program, *map(hex, addresses)], capture_output=True, text=True,
                         check=False, timeout=60).stdout.splitlines()
    return [f"{name} ({place})" for name, place in zip(out[::2], out[1::2]) if name != "??"]


def stacks(pid):
    """Text for all threads; root's privileges are needed for the kernel's part."""
    program, ranges = program_text(pid)
    text = ""
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        kernel = [line.partition("] ")[2] for line in read_text(f"/proc/{pid}/task/{task}/stack").splitlines()]
        text += f"thread {task} {read_text(f'/proc/{pid}/task/{task}/comm').strip()}\n"
        text += "".join(f"    kernel: {line}\n" for line in kernel[:IN_KERNEL])
        names = names_of(program, addresses_on_stack(pid, task, ranges))
        text += "".join(f"    {name}\n" for name in dict.fromkeys(names))
    return text
