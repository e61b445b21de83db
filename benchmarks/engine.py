"""Cost of the executor: tasks that do nothing, and a study in which everything is done already.

``python benchmarks/engine.py [--tasks 10000] [--units 10000] [--jobs 2]``: wall and processor time of starting workers
and of each no-op task, peak memory of the process that holds the scheduler, and the time a finished study of so many
scans (six methods, hard links to the files of one scan job) takes to find that nothing is to do.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from _markdown import put, table

from efface.study.backends import Local
from efface.study.executor import Executor, Outcome


@dataclass(frozen=True)
class Nothing:
    """A task without work."""

    name: str

    def run(self) -> Outcome:
        return Outcome(self.name, (), 0)

    def lost(self, reason: str) -> Outcome:
        raise RuntimeError(reason)

    def is_up_to_date(self) -> bool:
        return False

    def count_stopped(self) -> int:
        return 0


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def overhead(tasks: int, jobs: int) -> list[list[str]]:
    before, start = peak_mb(), time.perf_counter()
    with Executor(Local(jobs)) as executor:
        list(executor.run([Nothing("first")]))
        started, cpu, small = time.perf_counter(), time.process_time(), peak_mb()
        done = sum(1 for _ in executor.run(Nothing(f"sub-{i:06d}") for i in range(tasks)))
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        if done != tasks:
            sys.exit(f"{done} of {tasks} tasks came back")
    memory = f"{before:.0f} MB before, {small:.0f} MB after one task, {peak_mb():.0f} MB after all"
    return [
        [f"start of {jobs} workers", f"{started - start:.1f} s", "–"],
        [
            f"{tasks:,} no-op tasks, each",
            f"{1000 * wall / tasks:.2f} ms ({1000 * cpu / tasks:.2f} of processor)",
            "< 2 ms",
        ],
        ["peak memory of scheduler and command", memory, "–"],
    ]


def resume(units: int) -> list[list[str]]:
    from efface.study import Settings, Study
    from efface.study.provenance import STATE, state_of, write_recipe
    from efface.study.scan_job import ScanJob

    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name, "bids"), Path(name, "out")
        settings = Settings(root, out, rescan="none")
        first = Path(name, "T1w.nii.gz")
        first.write_bytes(bytes(1000))
        for i in range(units):
            (root / f"sub-{i:06d}/anat").mkdir(parents=True)
            (out / f"sub-{i:06d}/anat").mkdir(parents=True)
            os.link(first, root / f"sub-{i:06d}/anat/sub-{i:06d}_T1w.nii.gz")
        (root / "dataset_description.json").write_text(json.dumps({"Name": "simulated", "BIDSVersion": "1.10.0"}))
        study = Study(settings)
        job = ScanJob(study.scans(["000000"])[0], settings)
        recipe = {**job.recipe(), "input_sha256": "0" * 64}
        images, others = job.outputs()
        for path in (*images, *others):
            path.write_bytes(bytes(1000))
        for path in images:
            write_recipe(path, recipe, Warnings=["as long as a real one"] * 4)
        job.results.write_text("a table\n" * 900)
        write_recipe(job.results, recipe, **{STATE: [state_of(job.source)]})
        template = [path.relative_to(out) for path in (out / "sub-000000").rglob("*") if path.is_file()]
        for i in range(1, units):
            for path in template:
                os.link(out / path, out / str(path).replace("000000", f"{i:06d}"))
        start, cpu = time.perf_counter(), time.process_time()
        summary = study.run()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        if (summary.scans, summary.computed, len(summary.failures)) != (units, 0, 0):
            sys.exit(f"expected nothing to do; received {summary}")
    what = f"finished study of {units:,} scans, six methods: that nothing is to do"
    return [[what, f"{wall:.1f} s ({cpu:.1f} of processor), {peak_mb():.0f} MB", "< 30 s"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    made = table(("what", "measured", "asked"), overhead(options.tasks, options.jobs) + resume(options.units))
    print(made)
    if options.write:
        put(options.write, "engine", made)


if __name__ == "__main__":
    main()
