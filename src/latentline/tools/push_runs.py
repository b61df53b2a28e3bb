"""Push DVC's run cache to the default remote, with the results of every run: ``make push-runs``.

``dvc push --run-cache`` pushes the list of runs. It pushes only those results that ``dvc.lock`` names, and no figures
and metrics, which git holds. Another clone then finds a run and cannot restore it. ``dvc repro --pull`` fetches what
this command has pushed.
"""

import sys

from dvc.repo import Repo


def main() -> None:
    """Push, and say how much there was to push. Exits with status 1 when some of it did not arrive."""
    with Repo() as repo, repo.lock:
        runs = repo.stage_cache.push(None)
        results = repo.cloud.push(set().union(*repo.stage_cache.get_used_objs(runs).values()))
    print(f"{len(runs)} runs, {len(results.transferred)} files pushed")
    if results.failed:
        sys.exit(f"error: {len(results.failed)} files could not be pushed; run the same command again")


if __name__ == "__main__":
    main()
