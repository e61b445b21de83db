"""What the engine costs: tasks that do nothing, and a study in which everything is done already.

``python benchmarks/engine.py [--tasks 10000] [--units 10000] [--jobs 2]``: wall and processor time of starting workers
and of each no-op task, peak memory of the process that holds the scheduler, and the time a finished study of so many
scans (six methods, hard links to one unit's files) takes to find that nothing is to do.
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

from efface.study.clusters import Local
from efface.study.engine import Engine, Outcome


@dataclass(frozen=True)
class Nothing:
    """A unit without work."""

    name: str

    def run(self) -> Outcome:
        return Outcome(self.name, (), 0)

    def lost(self, reason: str) -> Outcome:
        raise RuntimeError(reason)

    def up_to_date(self) -> bool:
        return False

    def stopped(self) -> int:
        return 0


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def overhead(tasks: int, jobs: int) -> None:
    before, start = peak_mb(), time.perf_counter()
    with Engine(Local(jobs)) as engine:
        list(engine.run([Nothing("first")]))
        started, cpu, small = time.perf_counter(), time.process_time(), peak_mb()
        print(f"start of {jobs} workers\t{started - start:.1f} s", flush=True)
        done = sum(1 for _ in engine.run(Nothing(f"sub-{i:06d}") for i in range(tasks)))
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        if done != tasks:
            sys.exit(f"{done} of {tasks} tasks came back")
    print(f"{tasks} no-op tasks\t{1000 * wall / tasks:.2f} ms each\t{1000 * cpu / tasks:.2f} ms of processor each")
    print(
        f"peak memory of scheduler and command\t{before:.0f} MB before, {small:.0f} after 1, {peak_mb():.0f} after all"
    )


def resume(units: int) -> None:
    from efface.study import Settings, Study
    from efface.study.recipes import KEY, STATE, state_of, write_recipe
    from efface.study.unit import Unit

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
        unit = Unit(study.scans(["000000"])[0], settings)
        recipe = {**unit.settings_recipe(), "input_sha256": "0" * 64}
        paths = unit.paths
        images = [paths.segmentation(method, "atlas") for method in ("original", *settings.methods)]
        images += map(paths.defaced, settings.methods)
        for path in (*images, *map(paths.mask, settings.methods), *map(paths.quality, settings.methods), paths.brain()):
            path.write_bytes(bytes(1000))
        for path in images:
            write_recipe(path, recipe, Warnings=["as long as a real one"] * 4)
        paths.results.write_text("a table\n" * 900)
        write_recipe(paths.results, recipe, **{STATE: [state_of(unit.source)]})
        assert KEY in paths.results.with_suffix(".json").read_text()
        template = [path.relative_to(out) for path in (out / "sub-000000").rglob("*") if path.is_file()]
        for i in range(1, units):
            for path in template:
                os.link(out / path, out / str(path).replace("000000", f"{i:06d}"))
        start, cpu = time.perf_counter(), time.process_time()
        summary = study.run()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        if (summary.scans, summary.computed, len(summary.failures)) != (units, 0, 0):
            sys.exit(f"expected nothing to do; received {summary}")
    print(f"finished study of {units} scans, six methods\t{wall:.1f} s\t{cpu:.1f} s of processor\t{peak_mb():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    overhead(options.tasks, options.jobs)
    resume(options.units)


if __name__ == "__main__":
    main()
