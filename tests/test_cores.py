"""A process uses as many cores as it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omote import cores


def test_with_one_core_work_is_done_as_it_is_submitted_and_with_more_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(cores, "num_cores", lambda: 1)
    with cores.thread_pool(initializer=begun.append, initargs=(7,)) as pool:
        assert pool.submit(threading.get_ident).result() == threading.get_ident()
        assert list(pool.map(lambda x: x + 1, [1, 2])) == [2, 3]
        failed = pool.submit(lambda: 1 // 0)
    assert begun == [7]
    with pytest.raises(ZeroDivisionError):
        failed.result()
    monkeypatch.setattr(cores, "num_cores", lambda: 2)
    with cores.thread_pool() as pool:
        assert pool.submit(threading.get_ident).result() != threading.get_ident()


def test_a_limit_holds_for_this_process_and_for_libraries_that_it_imports_later() -> None:
    program = (
        "from omote.cores import num_cores, use_cores; use_cores(1); import os, numpy;"
        "from threadpoolctl import threadpool_info;"
        "print(num_cores(), os.environ['OMP_NUM_THREADS'], max(pool['num_threads'] for pool in threadpool_info()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


def test_no_search_takes_all_cores_whatever_it_was_given() -> None:
    source = Path(cores.__file__).parent
    assert [path.name for path in source.rglob("*.py") if "workers=-1" in path.read_text(encoding="utf-8")] == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_that_a_scheduler_took_away_are_not_counted() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.num_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
