"""Jupyter servers for the browser tests: on a free port, apart from the user's own settings."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

START_SECONDS, STOP_SECONDS = 600, 60  # for what hangs, not for what is slow

# All cells stay on the page, and no message about news covers a button.
LAB_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[str]:
    """Run `python -m *arguments --port=...` with its settings in `folder`; yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", *arguments, f"--port={port}", "--no-browser"]
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=own_settings(folder), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        if not answers(address, process):
            raise RuntimeError(f"{' '.join(arguments)} did not start:\n{log.read_text()[-3000:]}")
        yield address
    finally:
        # On this signal a Jupyter server ends its kernels too.
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_settings(folder: Path) -> dict[str, str]:
    """The environment of a server that reads and writes no settings outside of `folder`."""
    for name, settings in LAB_SETTINGS.items():
        path = folder / "lab" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "lab",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return os.environ | {name: str(folder / place) for name, place in own.items()}


def answers(address: str, process: subprocess.Popen) -> bool:
    """Whether the server answers before it ends or the time is up."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return True
    return False
