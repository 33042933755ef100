"""Every workload, in the order of the table. A new primitive adds its module here."""

from __future__ import annotations

from benchmarks.harness import Workload
from benchmarks.workloads import (
    concurrent_map,
    cost,
    drop_in,
    events,
    mutex,
    once,
    recipes,
    rwlock,
    semaphore,
    spellings,
)

TABLE: list[Workload] = [
    *mutex.WORKLOADS,
    *semaphore.WORKLOADS,
    *rwlock.WORKLOADS,
    *once.WORKLOADS,
    *events.WORKLOADS,
    *concurrent_map.WORKLOADS,
    *spellings.WORKLOADS,
    *drop_in.WORKLOADS,
    *recipes.WORKLOADS,
    *cost.WORKLOADS,
]
