"""Once dumps are forbidden, a process leaves no core file and hides its memory from its user."""

import os
import subprocess
import sys

from tests.support import ROOT

PR_GET_DUMPABLE = 3  # prctl(2)

FORBID_AND_ABORT = f"""
import ctypes, os, resource, sys
from probe.engine import forbid_dumps
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
dumpable = ctypes.CDLL(None).prctl
before = dumpable({PR_GET_DUMPABLE}, 0, 0, 0, 0)
forbid_dumps()
after = dumpable({PR_GET_DUMPABLE}, 0, 0, 0, 0)
print(before, after, *resource.getrlimit(resource.RLIMIT_CORE), flush=True)
os.abort()
"""


def test_a_process_that_forbids_dumps_leaves_none() -> None:
    words = [sys.executable, "-c", FORBID_AND_ABORT]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    process.stdout.close()
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status  # it has been waited for
    assert said == "1 0 0 0\n"
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
