"""Predict shards on a Ray cluster; the shard of a lost worker goes to another worker."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kdpose.inference.shards import Count, Predict, Shard, write


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # messages for Ray's developers
    os.environ.setdefault(
        "RAY_raylet_start_wait_time_s", "300"
    )  # 30 s is too short on a busy machine
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("engine=ray needs the extra: pip install 'kdpose[ray]'") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts persons
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


class _Writer:
    """A worker process: built once, then given one shard at a time."""

    def __init__(self, build: Callable[[], Predict]) -> None:
        self._predict = build()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return write(row["item"], self._predict)._asdict()


def write_on_ray(
    shards: Sequence[Shard],
    build: Callable[[], Predict],
    address: str | None = None,
    workers: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
) -> Iterator[Count]:
    """Write the shards on any free worker, and yield the counts of each.

    All machines must find images, checkpoint and output under the same paths. A lost worker is
    replaced and its shard is predicted again. Shards appear complete or not at all, so nothing is
    lost or duplicated.

    Args:
        shards: to write.
        build: makes the predictor of a worker, in its process.
        address: of a cluster; None is the one in ``$RAY_ADDRESS``, or this machine.
        workers: processes; None is as many as fit the cluster.
        cpus: of a worker.
        gpus: of a worker; None is 1 if the cluster has any.

    Raises:
        ValueError: the extra ``ray`` is not installed, or the cluster cannot be reached or
            has no room for a worker.
        OSError: raised by ``build`` or by writing.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    try:
        written = _written(ray, shards, build, workers, cpus, gpus)
        for row in written.iter_rows():
            yield Count(**row)
    except ray.exceptions.RayTaskError as error:
        raise _cause(error) from None
    finally:
        if own:
            ray.shutdown()


def _written(
    ray: Any,
    shards: Sequence[Shard],
    build: Callable[[], Predict],
    workers: int | None,
    cpus: float,
    gpus: float | None,
) -> Any:
    """Ray's data set of the counts, made as it is read."""
    workers, gpus = _room(ray.cluster_resources(), workers, cpus, gpus)
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    return ray.data.from_items(list(shards), override_num_blocks=len(shards)).map(
        _Writer, fn_constructor_args=(build,), compute=pool, num_cpus=cpus, num_gpus=gpus
    )


def _room(
    has: Mapping[str, float], workers: int | None, cpus: float, gpus: float | None
) -> tuple[int, float]:
    """How many workers a cluster of such resources runs, and the GPUs of each."""
    gpus = float(has.get("GPU", 0) > 0) if gpus is None else gpus
    room = [has.get("CPU", 0) // cpus] if cpus else []
    room += [has.get("GPU", 0) // gpus] if gpus else []
    workers = int(min(room, default=1)) if workers is None else workers
    if not 1 <= workers <= min(room, default=workers):
        raise ValueError(
            f"{workers} workers of {cpus:g} CPUs and {gpus:g} GPUs (from ray.workers, ray.cpus "
            f"and ray.gpus) do not fit a cluster of {has.get('CPU', 0):g} CPUs and "
            f"{has.get('GPU', 0):g} GPUs"
        )
    return workers, gpus


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise ValueError(f"no Ray cluster (from ray.address, {address}): {error}") from None


def _cause(error: Any) -> Exception:
    """The exception of a worker, without Ray's wrapper."""
    found = error
    while isinstance(getattr(found, "cause", None), Exception) and found.cause is not found:
        found = found.cause
    while found.__cause__ is not None:
        found = found.__cause__
    return found if isinstance(found, ValueError | OSError) else error
