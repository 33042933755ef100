"""CPython's tests of threading's locks, given our classes as ``test.test_threading`` gives them threading's."""

from __future__ import annotations

from test import lock_tests

from asynclocks.drop_in import threading


class LockTests(lock_tests.LockTests):
    locktype = staticmethod(threading.Lock)


class EventTests(lock_tests.EventTests):
    eventtype = staticmethod(threading.Event)


class ConditionTests(lock_tests.ConditionTests):
    condtype = staticmethod(threading.Condition)


class SemaphoreTests(lock_tests.SemaphoreTests):
    semtype = staticmethod(threading.Semaphore)


class BoundedSemaphoreTests(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(threading.BoundedSemaphore)


class BarrierTests(lock_tests.BarrierTests):
    barriertype = staticmethod(threading.Barrier)
