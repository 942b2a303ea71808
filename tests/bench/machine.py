"""What the figures were measured on: without it they tell nothing."""

import os
import platform
import subprocess
from pathlib import Path

import psutil


def describe_machine() -> str:
    """Processor, memory, kernel and the peers' versions in a few lines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    memory = psutil.virtual_memory().total / 2**30
    postfix = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=False)
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, Postfix {postfix.stdout.strip() or 'unknown'}. "
        "The load generator and the next hop share the processors."
    )
