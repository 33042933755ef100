/* The hottest steps of the engine, in C: what a Mutex and a Semaphore do for tasks of asyncio.

   docs/how-the-core-works.md is the page to read first. In short:

   - Nothing here is an algorithm of its own. Each function is the twin of one in Python, named above it, and does the same
     to the same slots of the same objects. `install` finds out where a slot is. The Python function stays, and is called
     for whatever is not the usual case: another loop, another thread, a subclass with its own ideas.
   - With the GIL held a piece of C that calls nothing is atomic. So a twin changes a mutex in one such piece, provided that
     nobody is inside the internal lock (`InternalLock`). It allocates before, and lets go of what it replaced afterwards:
     both may run a finalizer, and a finalizer may use the mutex.
   - Never trust what a slot holds: it is checked, and where it is not what it should be Python is called, which complains.
   - Only for builds with a GIL, and for one interpreter in a process. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#ifdef Py_GIL_DISABLED
#error "without a GIL the pure engine is used: see docs/how-the-core-works.md"
#endif

/* What `install` was told, all of it kept for ever. */
static PyTypeObject *FreeMutex, *Mutex, *MutexGuard, *LooseMutexGuard, *Acquisition, *Ticket, *AsyncioParker, *Parked;
static PyObject *queued, *granted, *released;            /* of State */
static PyObject *spelled, *resumed;                      /* SPELLED, RESUMED of mutex_state */
static PyTypeObject *Semaphore, *Permit, *LoosePermit;
static PyObject *lock_plainly, *acquire_plainly; /* what an acquisition calls that `lock()`, `acquire()` of a semaphore returned */
static PyObject *backends;                               /* the dict of that module */
static PyObject *Future, *current_task, *current_tasks, *running_loop, *InvalidStateError, *thread_local, *current_library, *parked_in;
static PyObject *native, *Task, *eager_tasks, *awaited_by_a_holder, *look_again;
static PyObject *unpark_anywhere;                        /* AsyncioParker.unpark in Python */
static PyObject *hooks, *permit_hooks;                   /* names of methods that a subclass may have replaced */
static PyObject *one, *no_parts;                         /* how many permits are asked for; NO_PARTS of _permits */
static struct { Py_ssize_t deferred, head, lock, tail, waiting; } line;
static struct { Py_ssize_t early, free, held, owner, spelled, value; } mutex;
static struct { Py_ssize_t after, before, owner, request, state, synchronizer; } ticket;
static struct { Py_ssize_t parked, unparked; } parker;
static struct { Py_ssize_t mutex, recovered; } guard;
static struct { Py_ssize_t became, hold; } loose;
static struct { Py_ssize_t driven, guard, of, take, what; } acquisition;
static struct { Py_ssize_t reference; } parked_table;
static struct { Py_ssize_t closed, entered, entrant, free, tokens, total; } semaphore;
static struct { Py_ssize_t count, entrant, live, parts, semaphore; } permit;

#define NAMES(X) X(glance) X(name) X(send) X(throw) X(close) X(set_result) X(_asynclocks_parked) X(_asyncio_future_blocking) \
    X(_holder_sleeps) X(_fut_waiter) X(done) X(get_coro) X(cr_running) X(_mend) X(_withdraw) X(_pass_on) X(_catch_up) X(_nudge) X(_refuse) X(_leave_block) \
    X(_check_open) X(_enter)
#define DECLARE(N) static PyObject *s_##N;
NAMES(DECLARE)

#define SLOT(object, where) (*(PyObject **)((char *)(object) + (where)))

/* Put `value`, a new reference, into a slot; the old content is returned, to be let go of when all is done. */
static inline PyObject *put(PyObject *object, Py_ssize_t where, PyObject *value) {
    PyObject *old = SLOT(object, where);
    SLOT(object, where) = value;
    return old;
}

static inline int is_ticket(PyObject *object) {
    return object != NULL && (Py_TYPE(object) == AsyncioParker || PyType_IsSubtype(Py_TYPE(object), Ticket));
}

/* What a weak reference refers to, a new reference; NULL without an error: it is gone, or this is no weak reference. */
static PyObject *referent(PyObject *reference) {
    PyObject *found = NULL;
    if (reference == NULL || !PyWeakref_Check(reference)) return NULL;
#if PY_VERSION_HEX >= 0x030D0000
    PyWeakref_GetRef(reference, &found);
#else
    found = PyWeakref_GetObject(reference);
    found = found == Py_None ? NULL : Py_XNewRef(found);
#endif
    return found;
}

/* The exception that is set, taken away; and set again. */
static PyObject *take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}
static void set_exception(PyObject *exception) { /* steals */
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, PyException_GetTraceback(exception));
#endif
}

/* The exception that is set is about a missing attribute only: it is cleared. 0: it is another, which a signal handler may have
   raised in Python called here. */
static int just_absent(void) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return 0;
    PyErr_Clear();
    return 1;
}

/* Call a method that makes whole what an exception cut short, again if it is struck itself (docs/decisions, whoever is struck
   mends). `exception` is raised afterwards, or what struck meanwhile; stolen. */
static void mend(PyObject *object, PyObject *method, PyObject *argument, PyObject *exception) {
    PyObject *arguments[] = {object, argument}, *mended = NULL;
    for (int tried = 0; mended == NULL && tried < 2; tried++) {
        mended = PyObject_VectorcallMethod(method, arguments, argument == NULL ? 1 : 2, NULL);
        if (mended == NULL) {
            PyObject *another = take_exception(), *context = PyException_GetContext(another);
            if (context == NULL && another != exception) PyException_SetContext(another, exception);
            else Py_DECREF(exception);
            Py_XDECREF(context);
            exception = another;
        }
    }
    Py_XDECREF(mended);
    set_exception(exception);
}

/* ---- The internal lock ---- */

/* In the place of _thread.RLock: the same methods, but with the GIL held taking it is two stores, and a twin sees at a glance
   whether anybody is inside. */
typedef struct {
    PyObject_HEAD
    unsigned long owner;
    Py_ssize_t depth, waiting;
    PyThread_type_lock bell; /* taken while nobody is to be woken */
    char rung;
} InternalLock;

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    InternalLock *k = (InternalLock *)type->tp_alloc(type, 0);
    return (PyObject *)k; /* the bell is made by the first one that waits */
}
static void lock_dealloc(InternalLock *k) {
    if (k->bell != NULL) {
        if (!k->rung) PyThread_release_lock(k->bell); /* some systems mind freeing a taken one */
        PyThread_free_lock(k->bell);
    }
    Py_TYPE(k)->tp_free(k);
}
/* 1: taken; 0: somebody else is inside; -1: a signal handler raised. */
static int lock_take(InternalLock *k, int blocking) {
    unsigned long me = PyThread_get_thread_ident();
    while (k->depth > 0 && k->owner != me) {
        if (!blocking) return 0;
        if (k->bell == NULL) {
            if ((k->bell = PyThread_allocate_lock()) == NULL) { PyErr_NoMemory(); return -1; }
            PyThread_acquire_lock(k->bell, WAIT_LOCK);
        }
        PyLockStatus status;
        k->waiting++;
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(k->bell, -1, 1);
        Py_END_ALLOW_THREADS
        k->waiting--;
        if (status == PY_LOCK_ACQUIRED) k->rung = 0;
        else if (PyErr_CheckSignals() < 0) return -1;
    }
    k->owner = me;
    k->depth++;
    return 1;
}
static PyObject *lock_acquire(InternalLock *k, PyObject *const *args, Py_ssize_t n) {
    int blocking = n < 1 ? 1 : PyObject_IsTrue(args[0]);
    int taken = blocking < 0 ? -1 : lock_take(k, blocking);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}
static PyObject *lock_release(InternalLock *k, PyObject *_) {
    if (k->depth == 0 || k->owner != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    k->depth--;
    if (k->depth == 0 && k->waiting > 0 && !k->rung) {
        k->rung = 1;
        PyThread_release_lock(k->bell);
    }
    Py_RETURN_NONE;
}
static PyObject *lock_is_owned(InternalLock *k, PyObject *_) {
    return PyBool_FromLong(k->depth > 0 && k->owner == PyThread_get_thread_ident());
}
static PyObject *lock_enter(InternalLock *k, PyObject *_) { return lock_acquire(k, NULL, 0); }
static PyObject *lock_exit(InternalLock *k, PyObject *const *args, Py_ssize_t n) { return lock_release(k, NULL); }
static PyObject *lock_reset(InternalLock *k, PyObject *_) { /* in a forked child: its only thread is inside of nothing */
    k->owner = 0;
    k->depth = k->waiting = 0;
    k->bell = NULL; /* as the other threads left it: not to be touched */
    k->rung = 0;
    Py_RETURN_NONE;
}
static PyMethodDef lock_methods[] = {{"acquire", (PyCFunction)(void *)lock_acquire, METH_FASTCALL, ""},
    {"release", (PyCFunction)lock_release, METH_NOARGS, ""}, {"_is_owned", (PyCFunction)lock_is_owned, METH_NOARGS, ""},
    {"_at_fork_reinit", (PyCFunction)lock_reset, METH_NOARGS, ""}, {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, ""},
    {"__exit__", (PyCFunction)(void *)lock_exit, METH_FASTCALL, ""}, {0}};
static PyTypeObject InternalLock_Type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "asynclocks._engine._core.InternalLock",
    .tp_basicsize = sizeof(InternalLock), .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = lock_new, .tp_dealloc = (destructor)lock_dealloc,
    .tp_methods = lock_methods, .tp_doc = "A re-entrant lock that costs nothing while it is free."};

/* ---- Objects that come and go with each block ---- */

/* Instances of one Python class that were let go of, to be used again. An instance of a subclass comes here too, from its own
   deallocator, which has seen to all that the subclass adds. */
#define MOST_SPARE 32
typedef struct {
    PyTypeObject *type;
    Py_ssize_t slots[10]; /* all that the class and its bases have; the end is -1 */
    Py_ssize_t weaklist;  /* where its weak references are; 0: it has none */
    int (*is_done)(PyObject *); /* has its finalizer nothing to do? NULL: it has no finalizer */
    int count;
    PyObject *spare[MOST_SPARE];
} Pool;
static Pool acquisitions, guards, loose_guards, loose_permits, parkers, permits, tickets;

static PyObject *from_pool(Pool *pool) {
    if (pool->count == 0) return pool->type->tp_alloc(pool->type, 0);
    PyObject *object = PyObject_Init(pool->spare[--pool->count], pool->type);
    PyObject_GC_Track(object);
    return object;
}
static void to_pool(Pool *pool, PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t *slot = pool->slots; *slot >= 0; slot++) Py_CLEAR(SLOT(object, *slot));
    if (type == pool->type && pool->count < MOST_SPARE && !PyObject_GC_IsFinalized(object)) pool->spare[pool->count++] = object;
    else type->tp_free(object);
    Py_DECREF(type);
}
static void guard_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    to_pool(&guards, object);
}
static void with_finalizer_to_pool(Pool *pool, PyObject *object, destructor dealloc) {
    if (Py_TYPE(object) == pool->type && !pool->is_done(object) && PyObject_CallFinalizerFromDealloc(object) < 0) return;
    PyObject_GC_UnTrack(object);
    Py_TRASHCAN_BEGIN(object, dealloc) /* what a guard became by `map`, again and again, is a chain too */
    if (pool->weaklist != 0 && SLOT(object, pool->weaklist) != NULL) PyObject_ClearWeakRefs(object);
    to_pool(pool, object);
    Py_TRASHCAN_END
}
static void acquisition_dealloc(PyObject *object) { with_finalizer_to_pool(&acquisitions, object, acquisition_dealloc); }
static void loose_guard_dealloc(PyObject *object) { with_finalizer_to_pool(&loose_guards, object, loose_guard_dealloc); }
static void loose_permit_dealloc(PyObject *object) { with_finalizer_to_pool(&loose_permits, object, loose_permit_dealloc); }
static void permit_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    to_pool(&permits, object);
}
/* Tickets are chained, and a long chain may be dropped at once: not by recursion. */
static void parker_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    Py_TRASHCAN_BEGIN(object, parker_dealloc)
    to_pool(&parkers, object);
    Py_TRASHCAN_END
}
static void ticket_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    Py_TRASHCAN_BEGIN(object, ticket_dealloc)
    to_pool(&tickets, object);
    Py_TRASHCAN_END
}

/* ---- The loop ---- */

/* asyncio's running task, a new reference; NULL without an error: there is none. */
static PyObject *task_of_asyncio(void) {
    PyObject *task;
    if (current_tasks == NULL) task = PyObject_CallNoArgs(current_task);
    else { /* 3.11, where `current_task` is Python */
        PyObject *loop = PyObject_CallNoArgs(running_loop);
        task = loop == NULL || loop == Py_None ? NULL : Py_XNewRef(PyDict_GetItemWithError(current_tasks, loop));
        Py_XDECREF(loop);
    }
    if (task == NULL) PyErr_Clear(); /* no loop runs */
    else if (task == Py_None) Py_CLEAR(task);
    return task;
}

/* `backends.glance`, as long as nothing but our own backend of asyncio is to be asked. */
static PyObject *glance(void) {
    if (PyDict_GetItemWithError(backends, s_glance) != current_task) { PyErr_Clear(); return NULL; }
    return task_of_asyncio();
}

/* Does another loop say that it runs here, inside a task of asyncio's? */
static int runs_elsewhere(void) {
    PyObject *name = PyObject_GetAttr(thread_local, s_name);
    if (name == NULL) { PyErr_Clear(); return 1; }
    Py_DECREF(name);
    return name != Py_None;
}

/* Is this a plain thread, so far as can be told quickly? `running_task` says None there. `runs_elsewhere` is to be asked first. */
static int is_plain_thread(void) {
    PyObject *loop = PyObject_CallNoArgs(running_loop), *library = NULL;
    int plain = loop == Py_None && PyContextVar_Get(current_library, NULL, &library) == 0 && library == Py_None;
    Py_XDECREF(loop);
    Py_XDECREF(library);
    if (PyErr_Occurred()) PyErr_Clear();
    return plain;
}

/* The running loop's table of parked tasks, a new reference. */
static PyObject *parked_here(PyObject *loop) {
    PyObject *table = PyObject_GetAttr(loop, s__asynclocks_parked);
    if (table == NULL && just_absent()) table = PyObject_CallOneArg(parked_in, loop);
    if (table != NULL && (Py_TYPE(table) != Parked || SLOT(table, parked_table.reference) == NULL)) {
        PyErr_SetString(PyExc_TypeError, "asynclocks: the loop's _asynclocks_parked is not the library's");
        Py_CLEAR(table);
    }
    return table;
}

/* AsyncioParker.__init__ */
static PyObject *new_parker(PyObject *synchronizer, PyObject *owner) {
    PyObject *loop = PyObject_CallNoArgs(running_loop);
    if (loop == NULL) return NULL;
    PyObject *table = parked_here(loop);
    Py_DECREF(loop);
    if (table == NULL) return NULL;
    PyObject *made = from_pool(&parkers);
    if (made != NULL) {
        SLOT(made, parker.parked) = Py_NewRef(SLOT(table, parked_table.reference));
        SLOT(made, parker.unparked) = Py_NewRef(Py_False);
        SLOT(made, ticket.synchronizer) = Py_NewRef(synchronizer);
        SLOT(made, ticket.request) = Py_NewRef(Py_None);
        SLOT(made, ticket.owner) = Py_NewRef(owner);
        SLOT(made, ticket.before) = Py_NewRef(Py_None);
        SLOT(made, ticket.after) = Py_NewRef(Py_None);
    }
    Py_DECREF(table);
    return made;
}

/* AsyncioParker.park, as far as `await` yields it: a future that the running task is to sleep on. */
static PyObject *park(PyObject *waiter) {
    PyObject *table = referent(SLOT(waiter, parker.parked));
    if (table == NULL) { PyErr_SetString(PyExc_RuntimeError, "asynclocks: parked outside of its loop"); return NULL; }
    PyObject *future = PyObject_CallNoArgs(Future);
    if (future != NULL && (PyObject_SetAttr(future, s__asyncio_future_blocking, Py_True) < 0 || PyDict_SetItem(table, waiter, future) < 0))
        Py_CLEAR(future);
    Py_DECREF(table);
    return future;
}

/* Let nothing be found in the table of what this parker slept on. */
static void leave_table(PyObject *table, PyObject *waiter) {
    if (PyDict_DelItem(table, waiter) < 0) PyErr_Clear(); /* there is nothing */
}

/* AsyncioParker.leave */
static void leave(PyObject *waiter) {
    PyObject *table = referent(SLOT(waiter, parker.parked));
    if (table == NULL) return;
    leave_table(table, waiter);
    Py_DECREF(table);
}

/* AsyncioParker.unpark, as far as the waiter's loop runs here and its table is `table`. */
static int unpark_here(PyObject *waiter, PyObject *loop, PyObject *table) {
    PyObject *future = Py_XNewRef(PyDict_GetItemWithError(table, waiter)), *nothing, *task;
    if (future == NULL) { PyErr_Clear(); return 1; } /* not parked yet */
    nothing = PyObject_CallMethodOneArg(future, s_set_result, Py_None);
    Py_DECREF(future);
    if (nothing == NULL) {
        if (!PyErr_ExceptionMatches(InvalidStateError)) return -1;
        PyErr_Clear(); /* a cancelled one wakes by itself */
    }
    Py_XDECREF(nothing);
    task = task_of_asyncio();
    if (task == NULL) { /* not in a task's step: the loop may be about to sleep */
        nothing = PyObject_CallMethodOneArg(waiter, s__nudge, loop);
        if (nothing == NULL) return -1;
        Py_DECREF(nothing);
    }
    Py_XDECREF(task);
    leave_table(table, waiter); /* last: whoever is struck on the way does it again */
    return 1;
}

/* AsyncioParker.unpark. 1: woken; 0: it can never resume; -1: an error. */
static int unpark(PyObject *waiter) {
    PyObject *here = NULL, *loop = PyObject_CallNoArgs(running_loop), *table = referent(SLOT(waiter, parker.parked));
    int woken = -1;
    if (loop == NULL) goto end;
    Py_XSETREF(SLOT(waiter, parker.unparked), Py_NewRef(Py_True));
    if (table == NULL) { woken = 0; goto end; } /* the loop is gone, and its tasks are gone with it */
    if (loop != Py_None && (here = PyObject_GetAttr(loop, s__asynclocks_parked)) == NULL && !just_absent()) goto end;
    if (here == table && Py_TYPE(table) == Parked) woken = unpark_here(waiter, loop, table);
    else { /* another thread's loop */
        PyObject *answer = PyObject_CallOneArg(unpark_anywhere, waiter);
        if (answer != NULL) { woken = PyObject_IsTrue(answer); Py_DECREF(answer); }
    }
end:
    Py_XDECREF(here);
    Py_XDECREF(table);
    Py_XDECREF(loop);
    return woken;
}

/* ---- The mutex ---- */

static inline int line_is_set(PyObject *m) {
    return SLOT(m, line.head) != NULL && SLOT(m, line.tail) != NULL && SLOT(m, line.waiting) != NULL
        && PyLong_CheckExact(SLOT(m, line.waiting)) && SLOT(m, line.deferred) != NULL && PyList_CheckExact(SLOT(m, line.deferred))
        && SLOT(m, line.lock) != NULL && Py_TYPE(SLOT(m, line.lock)) == &InternalLock_Type;
}
static inline int mutex_is_set(PyObject *m) {
    return line_is_set(m) && SLOT(m, mutex.held) != NULL && SLOT(m, mutex.owner) != NULL && SLOT(m, mutex.early) != NULL
        && SLOT(m, mutex.free) != NULL && PyList_CheckExact(SLOT(m, mutex.free))
        && SLOT(m, mutex.spelled) != NULL && PyList_CheckExact(SLOT(m, mutex.spelled));
}
static inline int semaphore_is_set(PyObject *m) {
    return line_is_set(m) && SLOT(m, semaphore.closed) != NULL && SLOT(m, semaphore.entered) != NULL
        && PyDict_CheckExact(SLOT(m, semaphore.entered)) && SLOT(m, semaphore.free) != NULL
        && PyLong_CheckExact(SLOT(m, semaphore.free)) && SLOT(m, semaphore.tokens) != NULL
        && PyList_CheckExact(SLOT(m, semaphore.tokens));
}

/* Does a subclass do everything as its base does? One that replaced a step is served in Python. */
typedef struct { PyTypeObject *type; int same; } Asked; /* the last one, kept */
static int does_as_its_base(Asked *asked, PyTypeObject *type, PyTypeObject *base, PyObject *names) {
    if (type != asked->type) {
        int same = PyType_IsSubtype(type, base);
        for (Py_ssize_t i = 0; same && i < PyTuple_GET_SIZE(names); i++) {
            PyObject *theirs = PyObject_GetAttr((PyObject *)type, PyTuple_GET_ITEM(names, i));
            PyObject *ours = PyObject_GetAttr((PyObject *)base, PyTuple_GET_ITEM(names, i));
            same = theirs != NULL && theirs == ours;
            Py_XDECREF(theirs);
            Py_XDECREF(ours);
        }
        PyErr_Clear();
        asked->same = same;
        PyTypeObject *before = asked->type;
        asked->type = (PyTypeObject *)Py_NewRef(type);
        Py_XDECREF(before);
    }
    return asked->same;
}
static int is_usual(PyObject *m) {
    static Asked asked;
    return (Py_TYPE(m) == Mutex || does_as_its_base(&asked, Py_TYPE(m), Mutex, hooks)) && mutex_is_set(m);
}
static int is_usual_semaphore(PyObject *m) {
    static Asked asked;
    return (Py_TYPE(m) == Semaphore || does_as_its_base(&asked, Py_TYPE(m), Semaphore, permit_hooks)) && semaphore_is_set(m);
}

/* Is anybody inside the internal lock? */
static inline int is_busy(PyObject *m) { return ((InternalLock *)SLOT(m, line.lock))->depth > 0; }

static inline int is_free(PyObject *m) {
    return PyList_GET_SIZE(SLOT(m, mutex.free)) > 0 && SLOT(m, line.head) == Py_None;
}

static PyObject *new_guard(PyObject *m) {
    PyObject *made = from_pool(&guards);
    if (made != NULL) SLOT(made, guard.mutex) = Py_NewRef(m);
    return made;
}

/* Is a guard or an acquisition dropped that has nothing to give back, nor to complain of? */
static int is_done_guard(PyObject *self) {
    PyObject *hold = SLOT(self, loose.hold);
    return hold == NULL || (is_ticket(hold) && SLOT(hold, ticket.state) != NULL && SLOT(hold, ticket.state) != granted);
}
static int is_done_permit(PyObject *self) { return SLOT(self, permit.live) == NULL || SLOT(self, permit.live) == Py_False; }
static int is_done_acquisition(PyObject *self) { return SLOT(self, acquisition.take) == NULL || SLOT(self, acquisition.take) == Py_None; }

/* list.pop, which keeps the memory: a new reference. */
static inline PyObject *pop(PyObject *tokens) {
    Py_ssize_t left = PyList_GET_SIZE(tokens) - 1;
    PyObject *token = PyList_GET_ITEM(tokens, left);
    Py_SET_SIZE((PyListObject *)tokens, left);
    return token;
}

/* In which way a mutex is held, and what its taker gets. */
enum { BY_BLOCK, SPELLED, LOOSELY, /* a MutexGuard; True, see Mutex.acquire; a LooseMutexGuard */
    PERMIT, LOOSE_PERMIT };        /* of a semaphore: a Permit of a block; a LoosePermit */
static inline int is_loose(int way) { return way == LOOSELY || way == LOOSE_PERMIT; }
static inline int is_in_blocks(int way) { return way == BY_BLOCK || way == PERMIT; }

/* The sign of a Python int. */
static inline int sign(PyObject *number) {
    int beyond;
    long value = PyLong_AsLongAndOverflow(number, &beyond);
    return beyond != 0 ? beyond : (value > 0) - (value < 0);
}

/* Would who asks for a mutex, or for one permit, be admitted now? */
static inline int is_available(PyObject *m, int way) {
    if (way < PERMIT) return is_free(m);
    return SLOT(m, line.head) == Py_None
        && (SLOT(m, semaphore.closed) != Py_False || PyList_GET_SIZE(SLOT(m, semaphore.tokens)) > 0 || sign(SLOT(m, semaphore.free)) > 0);
}

/* A ticket that holds, see QueuedSynchronizer._fill_in. */
static PyObject *new_hold(PyObject *m, PyObject *owner) {
    PyObject *made = from_pool(&tickets);
    if (made != NULL) {
        SLOT(made, ticket.synchronizer) = Py_NewRef(m);
        SLOT(made, ticket.request) = Py_NewRef(resumed);
        SLOT(made, ticket.owner) = Py_NewRef(owner);
        SLOT(made, ticket.before) = Py_NewRef(Py_None);
        SLOT(made, ticket.after) = Py_NewRef(Py_None);
        SLOT(made, ticket.state) = Py_NewRef(granted);
    }
    return made;
}

/* LooseMutexGuard.__init__ */
static PyObject *new_loose_guard(PyObject *m, PyObject *hold) {
    PyObject *made = from_pool(&loose_guards);
    if (made == NULL) return NULL;
    SLOT(made, guard.mutex) = Py_NewRef(m);
    SLOT(made, loose.hold) = Py_NewRef(hold);
    PyObject *old = put(hold, ticket.request, Py_NewRef(resumed));
    Py_XDECREF(old);
    return made;
}

/* The short way of FreeMutex.__aenter__, Mutex.acquire and try_lock: what the taker gets; NULL without an error: it is not free. */
static PyObject *take(PyObject *m, PyObject *task, int way) {
    if (!is_free(m)) return NULL;
    PyObject *owner = task == Py_None ? Py_NewRef(task) : PyWeakref_NewRef(task, NULL), *holder = NULL, *made = NULL; /* often the same reference as before */
    if (owner == NULL) return NULL;
    if (way == BY_BLOCK) holder = Py_XNewRef(made = new_guard(m));
    else if (way == SPELLED) { holder = Py_NewRef(spelled); made = Py_NewRef(Py_True); }
    else if ((holder = new_hold(m, owner)) != NULL) made = new_loose_guard(m, holder);
    if (made == NULL || !is_free(m)) {
        if (way == LOOSELY && holder != NULL) Py_SETREF(SLOT(holder, ticket.state), Py_NewRef(released)); /* it never held */
        Py_DECREF(owner);
        Py_XDECREF(holder);
        Py_XDECREF(made);
        return NULL;
    }
    if (way == SPELLED && PyList_Append(SLOT(m, mutex.spelled), Py_None) < 0) { /* the right to release it */
        Py_DECREF(owner);
        Py_DECREF(holder);
        Py_DECREF(made);
        return NULL;
    }
    PyObject *token = pop(SLOT(m, mutex.free));
    owner = put(m, mutex.owner, owner);
    holder = put(m, mutex.held, holder);
    Py_DECREF(token);
    Py_DECREF(owner);
    Py_DECREF(holder);
    return made;
}

/* The number of waiters after one more or one less, a new reference. */
static inline PyObject *waiting_after(PyObject *m, Py_ssize_t change) {
    return PyLong_FromSsize_t(PyLong_AsSsize_t(SLOT(m, line.waiting)) + change);
}

/* QueuedSynchronizer._append. 0: done; 1: it is to be done in Python; -1: an error. */
static int append(PyObject *m, PyObject *waiter, int way) {
    PyObject *waiting = waiting_after(m, 1), *tail = SLOT(m, line.tail);
    if (waiting == NULL) return -1;
    if (is_busy(m) || is_available(m, way) || PyList_GET_SIZE(SLOT(m, line.deferred)) > 0
        || (tail == Py_None ? SLOT(m, line.head) != Py_None : !is_ticket(tail))) {
        Py_DECREF(waiting);
        return 1;
    }
    SLOT(waiter, ticket.state) = Py_NewRef(queued);
    Py_SETREF(SLOT(waiter, ticket.before), Py_NewRef(tail));
    PyObject *old = tail == Py_None ? put(m, line.head, Py_NewRef(waiter)) : put(tail, ticket.after, Py_NewRef(waiter));
    SLOT(m, line.tail) = Py_NewRef(waiter);
    waiting = put(m, line.waiting, waiting);
    Py_DECREF(tail);
    Py_XDECREF(old);
    Py_DECREF(waiting);
    return 0;
}

/* The end of FreeMutex._hand_over: wake who was granted the mutex. 0: done; -1: an error. */
static int wake(PyObject *m, PyObject *waiter) {
    PyObject *nothing = Py_NewRef(Py_None);
    int woken = unpark(waiter);
    if (woken == 0) { /* its loop is closed: the grant goes on */
        PyObject *dead = PyList_New(1);
        if (dead != NULL) {
            PyList_SET_ITEM(dead, 0, Py_NewRef(waiter));
            Py_SETREF(nothing, PyObject_CallMethodOneArg(m, s__pass_on, dead));
            Py_DECREF(dead);
        }
        else Py_CLEAR(nothing);
    }
    if (woken >= 0 && nothing != NULL && PyList_GET_SIZE(SLOT(m, line.deferred)) > 0)
        Py_SETREF(nothing, PyObject_CallMethodNoArgs(m, s__catch_up));
    int failed = woken < 0 || nothing == NULL;
    Py_XDECREF(nothing);
    if (failed) mend(m, s__mend, waiter, take_exception());
    return failed ? -1 : 0;
}

/* What is to be let go of when a lock is whole again: that may run anything. */
typedef struct { PyObject *things[10]; int count; } Gone;
static inline void later(Gone *gone, PyObject *thing) { gone->things[gone->count++] = thing; }
static inline void let_go_of(Gone *gone) { while (gone->count > 0) Py_XDECREF(gone->things[--gone->count]); }

/* Can the head of the line be granted here what it waits for? */
static int can_be_granted(PyObject *waiter) {
    PyObject *following = SLOT(waiter, ticket.after);
    return Py_TYPE(waiter) == AsyncioParker && following != NULL && SLOT(waiter, ticket.owner) != NULL
        && SLOT(waiter, ticket.state) == queued && (following == Py_None || is_ticket(following));
}

/* Take it out of the line, granted. `waiting` is how many wait then; stolen. */
static inline void grant_head(PyObject *m, PyObject *waiter, PyObject *waiting, Gone *gone) {
    PyObject *following = SLOT(waiter, ticket.after);
    later(gone, put(waiter, ticket.state, Py_NewRef(granted)));
    later(gone, put(m, line.head, Py_NewRef(following)));
    later(gone, put(waiter, ticket.after, Py_NewRef(Py_None)));
    if (following == Py_None) later(gone, put(m, line.tail, Py_NewRef(Py_None)));
    else later(gone, put(following, ticket.before, Py_NewRef(Py_None)));
    later(gone, put(m, line.waiting, waiting));
}

/* FreeMutex._hand_over. 0: done; 1: it is to be done in Python; -1: an error. */
static int hand_over(PyObject *m) {
    PyObject *waiter = SLOT(m, line.head), *waiting;
    if (!can_be_granted(waiter)) return 1;
    if ((waiting = waiting_after(m, -1)) == NULL) return -1;
    Gone gone = {.count = 0};
    Py_INCREF(waiter);
    later(&gone, put(m, mutex.owner, Py_NewRef(SLOT(waiter, ticket.owner))));
    later(&gone, put(m, mutex.held, Py_NewRef(waiter)));
    grant_head(m, waiter, waiting, &gone);
    let_go_of(&gone);
    int left = wake(m, waiter);
    Py_DECREF(waiter);
    return left;
}

/* End the present hold: by the token, or by handing over. 0: done; 1: it is to be done in Python; -1: an error. */
static int end_hold(PyObject *m) {
    PyObject *head = SLOT(m, line.head);
    if (head != Py_None) return hand_over(m);
    if (PyList_Append(SLOT(m, mutex.free), Py_None) < 0) return -1;
    PyObject *held = put(m, mutex.held, Py_NewRef(Py_None));
    Py_DECREF(held);
    return 0;
}

/* ---- The semaphore ---- */

/* Can one permit be had by its token? */
static inline int has_token(PyObject *m) {
    return PyList_GET_SIZE(SLOT(m, semaphore.tokens)) > 0 && SLOT(m, line.head) == Py_None && SLOT(m, semaphore.closed) == Py_False
        && sign(SLOT(m, semaphore.free)) >= 0;
}

/* make_permit, and what PermitState._enter fills in; `entrant` is NULL for a loose one. */
static PyObject *new_permit(PyObject *m, PyObject *entrant) {
    PyObject *made = from_pool(entrant != NULL ? &permits : &loose_permits);
    if (made != NULL) {
        SLOT(made, permit.semaphore) = Py_NewRef(m);
        SLOT(made, permit.count) = Py_NewRef(one);
        SLOT(made, permit.parts) = Py_NewRef(Py_None);
        SLOT(made, permit.live) = Py_NewRef(Py_True);
        SLOT(made, permit.entrant) = Py_XNewRef(entrant);
    }
    return made;
}
static void spoil(PyObject *made) { /* it never held */
    Py_SETREF(SLOT(made, permit.live), Py_NewRef(Py_False));
    Py_DECREF(made);
}

/* PermitState._enter, of a task that is in no block of this semaphore: the permit, which the exit will find. NULL without an
   error: it is in one. */
static PyObject *enter_block(PyObject *m, PyObject *task) {
    PyObject *key = PyLong_FromVoidPtr(task), *entrant = PyWeakref_NewRef(task, NULL), *made = NULL;
    if (key != NULL && entrant != NULL && PyDict_GetItemWithError(SLOT(m, semaphore.entered), key) == NULL && !PyErr_Occurred()
        && (made = new_permit(m, entrant)) != NULL) {
        PyObject *entered = SLOT(m, semaphore.entered), *there = PyDict_SetDefault(entered, key, made);
        if (there != made) { /* a finalizer entered while the permit was made, or there is no memory */
            spoil(made);
            made = NULL;
        }
        else if (SLOT(m, semaphore.entrant) != entrant) Py_XSETREF(SLOT(m, semaphore.entrant), Py_NewRef(entrant));
    }
    Py_XDECREF(key);
    Py_XDECREF(entrant);
    return made;
}
static void leave_entered(PyObject *m, PyObject *task) {
    PyObject *exception = take_exception(), *key = PyLong_FromVoidPtr(task);
    if (key == NULL || PyDict_DelItem(SLOT(m, semaphore.entered), key) < 0) PyErr_Clear();
    Py_XDECREF(key);
    if (exception != NULL) set_exception(exception);
}

/* The short way of Semaphore.__aenter__, acquire and try_acquire: one permit; NULL without an error: it cannot be had so. */
static PyObject *take_permit(PyObject *m, PyObject *task, int way) {
    if (!has_token(m)) return NULL;
    PyObject *made = way == PERMIT ? enter_block(m, task) : new_permit(m, NULL);
    if (made == NULL) return NULL;
    if (!has_token(m)) { /* a finalizer took it */
        if (way == PERMIT) leave_entered(m, task);
        spoil(made);
        return NULL;
    }
    PyObject *token = pop(SLOT(m, semaphore.tokens));
    Py_DECREF(token);
    return made;
}

/* What a loose guard holds in the usual way, and can be let go of here: one permit. */
static int is_one_permit(PyObject *self) {
    return SLOT(self, permit.live) == Py_True && SLOT(self, permit.count) == one && SLOT(self, permit.semaphore) != NULL
        && is_usual_semaphore(SLOT(self, permit.semaphore)) && !is_busy(SLOT(self, permit.semaphore));
}

/* Give one permit back: to the head of the line, or as a token. Of a block's permit `key` is where the semaphore has it.
   0: done; 1: it is to be done in Python; -1: an error. */
static int give_back(PyObject *self, PyObject *key) {
    PyObject *m = SLOT(self, permit.semaphore), *waiter = SLOT(m, line.head), *waiting = NULL;
    Gone gone = {.count = 0};
    if (waiter == Py_None) {
        if (PyList_Append(SLOT(m, semaphore.tokens), Py_None) < 0) return -1;
    }
    else {
        if (!can_be_granted(waiter) || SLOT(waiter, ticket.request) != one || SLOT(m, semaphore.closed) != Py_False
            || sign(SLOT(m, semaphore.free)) < 0) return 1;
        if ((waiting = waiting_after(m, -1)) == NULL) return -1;
    }
    later(&gone, Py_NewRef(self));
    later(&gone, Py_NewRef(m));
    later(&gone, put(self, permit.live, Py_NewRef(Py_False)));
    if (key != NULL && PyDict_DelItem(SLOT(m, semaphore.entered), key) < 0) PyErr_Clear(); /* it was there just now */
    int left = 0;
    if (waiter != Py_None) {
        Py_INCREF(waiter);
        grant_head(m, waiter, waiting, &gone);
        left = wake(m, waiter);
        Py_DECREF(waiter);
    }
    let_go_of(&gone);
    return left;
}

/* Semaphore.__aexit__; as `give_back`. */
static int leave_semaphore(PyObject *m, PyObject *exc_type) {
    if (!is_usual_semaphore(m) || is_busy(m) || exc_type == PyExc_GeneratorExit) return 1;
    PyObject *task = glance(), *key, *self;
    if (task == NULL) return 1;
    int left = 1;
    if ((key = PyLong_FromVoidPtr(task)) != NULL && (self = PyDict_GetItemWithError(SLOT(m, semaphore.entered), key)) != NULL
        && Py_TYPE(self) == Permit && SLOT(self, permit.parts) == Py_None && SLOT(self, permit.semaphore) == m && is_one_permit(self))
        left = give_back(self, key);
    else PyErr_Clear();
    Py_XDECREF(key);
    Py_DECREF(task);
    return left;
}

/* ---- Awaitables ---- */

/* One StopIteration is used again and again to return guards, as long as nobody keeps it: making one costs as much as taking
   a mutex. */
static PyObject *spare;

static int is_spoilt(PyObject *exception) { /* somebody keeps it, or raised it on, or it still has its value */
    PyStopIterationObject *stop = (PyStopIterationObject *)exception;
    return Py_REFCNT(stop) != 1 || (stop->value != NULL && stop->value != Py_None) || stop->traceback != NULL || stop->context != NULL || stop->cause != NULL
        || stop->dict != NULL || stop->notes != NULL;
}
static PyObject *give(PyObject *value) { /* steals; returns NULL, as tp_iternext does that returns a value */
    while (is_spoilt(spare)) {
        PyObject *fresh = PyObject_CallNoArgs(PyExc_StopIteration);
        if (fresh == NULL) { Py_DECREF(value); return NULL; }
        Py_SETREF(spare, fresh); /* what the old one kept may have a finalizer, which comes here too */
    }
    Py_XSETREF(((PyStopIterationObject *)spare)->value, value); /* from nothing, or None */
    set_exception(Py_NewRef(spare));
    return NULL;
}

/* What was returned is not ours to keep. */
static inline void forget(void) {
    PyStopIterationObject *stop = (PyStopIterationObject *)spare;
    if (Py_REFCNT(stop) == 1 && stop->value != NULL) Py_CLEAR(stop->value);
}

/* What an exit returns: a coroutine that is done. */
static PyObject *done_next(PyObject *self) { return NULL; }
static PyObject *done_send(PyObject *self, PyObject *value) { PyErr_SetNone(PyExc_StopIteration); return NULL; }
static PyObject *done_close(PyObject *self, PyObject *_) { Py_RETURN_NONE; }

/* Set what `throw(type, value, traceback)` was given. */
static void raise_what_was_thrown(PyObject *const *args, Py_ssize_t n) {
    if (n < 1 || n > 3) { PyErr_SetString(PyExc_TypeError, "throw() takes an exception"); return; }
    PyObject *exception = args[0];
    if (PyExceptionInstance_Check(exception)) Py_INCREF(exception);
    else if (!PyExceptionClass_Check(exception)) { PyErr_SetString(PyExc_TypeError, "throw() takes an exception"); return; }
    else if (n > 1 && PyObject_IsInstance(args[1], exception) == 1) exception = Py_NewRef(args[1]);
    else exception = n > 1 && args[1] != Py_None ? PyObject_CallOneArg(exception, args[1]) : PyObject_CallNoArgs(exception);
    if (exception == NULL) return;
    if (n > 2 && PyTraceBack_Check(args[2])) PyException_SetTraceback(exception, args[2]);
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
}
static PyObject *done_throw(PyObject *self, PyObject *const *args, Py_ssize_t n) { raise_what_was_thrown(args, n); return NULL; }

static PyMethodDef done_methods[] = {{"send", done_send, METH_O, ""}, {"throw", (PyCFunction)(void *)done_throw, METH_FASTCALL, ""},
    {"close", done_close, METH_NOARGS, ""}, {0}};
static PyAsyncMethods done_async = {.am_await = PyObject_SelfIter};
static PyTypeObject Done_Type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "asynclocks._engine._core.Done", .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, .tp_iter = PyObject_SelfIter, .tp_iternext = done_next,
    .tp_as_async = &done_async, .tp_methods = done_methods, .tp_doc = "A coroutine that is done."};
static PyObject *done;

/* What `__aenter__` returns: a coroutine, as its user sees it. It is also what looking up `__aenter__` of a mutex gives, to be
   called, and then returns itself: a bound method would cost a third of an uncontended block. */
typedef struct {
    PyObject_HEAD
    PyObject *lock, *slow; /* the twin in Python */
    PyObject *of;          /* whose method that is: the mutex, or an acquisition of it */
    PyObject *coroutine;   /* DELEGATED: of `slow` */
    PyObject *waiter;      /* PARKED: its ticket */
    PyObject *entrant;     /* PERMIT, PARKED: its task, a weak reference */
    vectorcallfunc call;
    char stage, awaited, way, entering; /* entering: an acquisition's block, which keeps the guard for its exit */
} Enter;
enum { BOUND, CREATED, PARKED, DELEGATED, OVER };
static PyTypeObject Enter_Type;
static Enter *spare_enters[MOST_SPARE];
static int spare_enters_count;

static int enter_traverse(Enter *e, visitproc visit, void *arg) {
    Py_VISIT(e->lock);
    Py_VISIT(e->slow);
    Py_VISIT(e->of);
    Py_VISIT(e->coroutine);
    Py_VISIT(e->waiter);
    Py_VISIT(e->entrant);
    return 0;
}
static int enter_clear(Enter *e) {
    Py_CLEAR(e->lock);
    Py_CLEAR(e->slow);
    Py_CLEAR(e->of);
    Py_CLEAR(e->coroutine);
    Py_CLEAR(e->waiter);
    Py_CLEAR(e->entrant);
    return 0;
}

/* The wait is over: let its things go, so that the block's frame, which may keep this object, keeps none of them. */
static void enter_over(Enter *e) {
    e->stage = OVER;
    Py_CLEAR(e->coroutine);
    Py_CLEAR(e->waiter);
    Py_CLEAR(e->entrant);
}

/* The wait ends by the exception that is set, as in QueuedSynchronizer._acquire. One is set afterwards too. */
static void enter_fails(Enter *e) {
    PyObject *exception = take_exception(), *outside = PyErr_GetHandledException(), *waiter = e->waiter;
    PyObject *deferred = SLOT(e->lock, line.deferred), *withdraw, *change = NULL;
    e->waiter = NULL;
    e->stage = OVER;
    PyErr_SetHandledException(exception); /* `_catch_up` is called in its `except` */
    if ((withdraw = PyObject_GetAttr(e->lock, s__withdraw)) != NULL) change = PyTuple_Pack(2, withdraw, waiter);
    if (change == NULL || deferred == NULL || !PyList_CheckExact(deferred) || PyList_Append(deferred, change) < 0) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "asynclocks: _deferred is no list");
        Py_DECREF(exception);
    }
    else { /* whatever strikes now, it is withdrawn */
        leave(waiter);
        mend(e->lock, s__catch_up, NULL, exception);
    }
    Py_XDECREF(change);
    Py_XDECREF(withdraw);
    Py_DECREF(waiter);
    PyErr_SetHandledException(outside);
    Py_XDECREF(outside);
}

/* It was used too early: Python is to begin. */
static void unuse(Enter *e) {
    if (!is_loose(e->way)) return;
    PyObject *method = PyMethod_New(e->way == LOOSELY ? lock_plainly : acquire_plainly, e->lock);
    if (method == NULL) { PyErr_Clear(); return; }
    PyObject *old = put(e->of, acquisition.take, method);
    Py_XDECREF(old);
}

/* Let the Python function do it all. */
static int enter_delegates(Enter *e) {
    e->coroutine = PyObject_CallOneArg(e->slow, e->of);
    e->stage = e->coroutine == NULL ? OVER : DELEGATED;
    return e->coroutine == NULL ? -1 : 0;
}

/* backends.awaits.is_starting_another, of a task that waits for nothing; -1: an error. */
static int starts_another(PyObject *task) {
    PyObject *value = PyObject_CallMethodNoArgs(task, s_done), *coroutine;
    int answer = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    if (answer != 0) return answer < 0 ? -1 : 0; /* to ask one that is done for its coroutine crashes 3.12.0 and 3.12.1 */
    if ((coroutine = PyObject_CallMethodNoArgs(task, s_get_coro)) == NULL) return -1;
    value = PyObject_GetAttr(coroutine, s_cr_running);
    Py_DECREF(coroutine);
    if (value == NULL) return just_absent() ? 0 : -1;
    Py_DECREF(value);
    return value == Py_True;
}

/* AsyncioBackend.sleeps; -1: an error. */
static int sleeps(PyObject *task) {
    int answer = -1;
    PyObject *future = PyObject_GetAttr(task, s__fut_waiter), *value;
    if (future == NULL) return -1;
    if (future != Py_None) {
        value = PyObject_CallMethodNoArgs(future, s_done);
        if (value != NULL) { answer = value == Py_False; Py_DECREF(value); }
    }
    else if ((answer = PyObject_IsTrue(eager_tasks)) > 0) answer = starts_another(task);
    Py_DECREF(future);
    return answer;
}

/* Must this wait be followed for deadlocks, as QueuedSynchronizer._acquire asks? Then it is Python's. -1: an error. */
static int is_to_be_followed(PyObject *m, PyObject *task, PyObject *waiter) {
    /* Who holds nothing refers to its task by its ticket only (docs/decisions). Nobody waits for such a task but another
       that awaits it, and sleeps. */
    if (Py_REFCNT(SLOT(waiter, ticket.owner)) > 1) return 1;
    PyObject *held = SLOT(m, mutex.held), *owner = SLOT(m, mutex.owner), *holder, *value;
    if (owner == Py_None || (is_ticket(held) && SLOT(held, ticket.request) != resumed)) return 0; /* it is about to run */
    int answer;
    holder = referent(owner);
    if (holder != NULL && (PyObject *)Py_TYPE(holder) == Task) answer = sleeps(holder);
    else {
        value = PyObject_CallMethodObjArgs(m, s__holder_sleeps, waiter, native, NULL);
        answer = value == NULL ? -1 : PyObject_IsTrue(value);
        Py_XDECREF(value);
    }
    Py_XDECREF(holder);
    if (answer <= 0) return answer;
    value = PyObject_CallFunctionObjArgs(awaited_by_a_holder, task, waiter, NULL);
    answer = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return answer;
}

/* Must this wait be Python's? 0: no; 1: yes; -1: an error. Else the waiter stands in line now. */
static int stand_in_line(Enter *e, PyObject *task, PyObject *waiter) {
    PyObject *lock = e->lock;
    if (e->way >= PERMIT) { /* nobody can say which holder would end such a wait: it is not followed */
        if (e->way == PERMIT && (e->entrant = PyWeakref_NewRef(task, NULL)) == NULL) return -1;
        Py_SETREF(SLOT(waiter, ticket.request), Py_NewRef(one));
        return append(lock, waiter, e->way);
    }
    PyObject *holder = Py_NewRef(SLOT(lock, mutex.owner));
    int left = is_to_be_followed(lock, task, waiter);
    if (left == 0) left = SLOT(lock, mutex.owner) == holder ? append(lock, waiter, e->way) : 1; /* by another thread meanwhile */
    Py_DECREF(holder);
    return left;
}

/* Stand in line and sleep: the future to sleep on; NULL: an error, or it is delegated. */
static PyObject *enter_waits(Enter *e, PyObject *task) {
    PyObject *owner = e->way >= PERMIT ? Py_NewRef(Py_None) : PyWeakref_NewRef(task, NULL), *future = NULL;
    PyObject *waiter = owner == NULL ? NULL : new_parker(e->lock, owner);
    Py_XDECREF(owner);
    if (waiter == NULL) return NULL;
    future = park(waiter); /* before it stands in line: making a future may run a finalizer, which may release the lock */
    int left = future == NULL ? -1 : stand_in_line(e, task, waiter);
    if (left != 0) { /* or it was released meanwhile, or somebody is inside the internal lock */
        PyObject *exception = take_exception();
        leave(waiter);
        Py_DECREF(waiter);
        Py_CLEAR(future);
        if (exception != NULL) set_exception(exception);
        else {
            unuse(e);
            enter_delegates(e);
        }
        return NULL;
    }
    e->waiter = waiter;
    e->stage = PARKED;
    return future;
}

/* In which way is this acquisition to be served here? -1: in none, it was used before, or has a timeout, or is another lock's. */
static int way_of(PyObject *of) {
    PyObject *method = SLOT(of, acquisition.take), *function, *m = SLOT(of, acquisition.of);
    if (method == NULL || !PyMethod_Check(method) || m == NULL) return -1;
    function = PyMethod_GET_FUNCTION(method);
    if (function == lock_plainly) return PyType_IsSubtype(Py_TYPE(m), Mutex) ? LOOSELY : -1;
    return function == acquire_plainly && PyType_IsSubtype(Py_TYPE(m), Semaphore) ? LOOSE_PERMIT : -1;
}

/* An acquisition is used once. */
static int use(PyObject *of) {
    PyObject *method = SLOT(of, acquisition.take);
    if (way_of(of) < 0) return 0;
    SLOT(of, acquisition.take) = Py_NewRef(Py_None);
    Py_DECREF(method);
    return 1;
}

/* It was granted: return what the taker gets. */
static PyObject *enter_gets(Enter *e, PyObject *value) { /* steals */
    if (e->entering) {
        PyObject *old = put(e->of, acquisition.guard, Py_NewRef(value));
        Py_XDECREF(old);
        if (e->way == LOOSE_PERMIT) Py_SETREF(SLOT(value, permit.parts), Py_NewRef(no_parts)); /* Permit.__enter__ */
    }
    return give(value);
}

/* The first step. */
static PyObject *enter_begins(Enter *e) {
    PyObject *lock = e->lock, *task = (e->way < PERMIT ? is_usual(lock) : is_usual_semaphore(lock)) ? glance() : NULL;
    if (task != NULL) {
        int here = is_in_blocks(e->way) || !runs_elsewhere();
        int mine = here && (!is_loose(e->way) || use(e->of));
        PyObject *value = !mine ? NULL : e->way < PERMIT ? take(lock, task, e->way) : take_permit(lock, task, e->way);
        if (value != NULL) {
            Py_DECREF(task);
            e->stage = OVER;
            return enter_gets(e, value);
        }
        if (mine && !PyErr_Occurred() && !is_busy(lock) && !is_available(lock, e->way) && (!is_in_blocks(e->way) || !runs_elsewhere())) {
            PyObject *future = enter_waits(e, task);
            Py_DECREF(task);
            return future;
        }
        Py_DECREF(task);
        PyErr_Clear();
        if (mine) unuse(e);
    }
    enter_delegates(e);
    return NULL;
}

/* What the taker gets who was granted it; the lock knows of it then. */
static PyObject *mutex_gets(Enter *e) {
    PyObject *value = e->way == BY_BLOCK ? new_guard(e->lock) : e->way == SPELLED ? Py_NewRef(Py_True) : new_loose_guard(e->lock, e->waiter);
    if (value == NULL || (e->way == SPELLED && PyList_Append(SLOT(e->lock, mutex.spelled), Py_None) < 0)) {
        Py_XDECREF(value);
        return NULL;
    }
    if (e->way != LOOSELY) {
        PyObject *held = put(e->lock, mutex.held, Py_NewRef(e->way == BY_BLOCK ? value : spelled));
        Py_XDECREF(held);
    }
    return value;
}
static PyObject *semaphore_gets(Enter *e) {
    PyObject *lock = e->lock, *value = NULL, *task;
    if (SLOT(e->waiter, ticket.request) != one) { /* it was closed */
        if ((value = PyObject_CallMethodOneArg(lock, s__check_open, e->waiter)) == NULL) return NULL;
        Py_CLEAR(value);
    }
    if (e->way == LOOSE_PERMIT) return new_permit(lock, NULL);
    if ((task = referent(e->entrant)) == NULL) { PyErr_SetString(PyExc_RuntimeError, "asynclocks: its task is gone"); return NULL; }
    value = enter_block(lock, task);
    if (value == NULL && !PyErr_Occurred()) value = PyObject_CallMethodOneArg(lock, s__enter, task); /* a block in a block */
    Py_DECREF(task);
    return value;
}

/* The sleeper was woken. */
static PyObject *enter_resumes(Enter *e) {
    PyObject *value;
    if (SLOT(e->waiter, ticket.state) == queued) { /* without a reason, or a circle was seen to have closed meanwhile */
        PyObject *looked = e->way < PERMIT ? PyObject_CallOneArg(look_again, e->waiter) : Py_NewRef(Py_None);
        value = looked == NULL ? NULL : park(e->waiter);
        Py_XDECREF(looked);
        if (value == NULL) enter_fails(e);
        if (value == NULL || SLOT(e->waiter, ticket.state) == queued) return value;
        Py_DECREF(value); /* granted meanwhile, by another thread, which may have found no future */
        leave(e->waiter);
    }
    if ((value = e->way < PERMIT ? mutex_gets(e) : semaphore_gets(e)) == NULL) {
        enter_fails(e);
        return NULL;
    }
    enter_over(e);
    return enter_gets(e, value);
}

static PyObject *enter_send(Enter *e, PyObject *value) {
    PyObject *result = NULL;
    if (e->stage == CREATED || e->stage == BOUND) {
        e->stage = OVER;
        /* Not awaited but driven as a task's own coroutine: this object is then all that would tell of the wait's end. */
        if (e->awaited) result = enter_begins(e);
        else enter_delegates(e);
        if (e->stage != DELEGATED) return result;
        value = Py_None;
    }
    else if (e->stage == PARKED) return enter_resumes(e);
    else if (e->stage == OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    PyObject *coroutine = Py_NewRef(e->coroutine);
    switch (PyIter_Send(coroutine, value, &result)) {
    case PYGEN_RETURN:
        enter_over(e);
        result = give(result);
        break;
    case PYGEN_ERROR:
        enter_over(e);
        break;
    case PYGEN_NEXT:
        break;
    }
    Py_DECREF(coroutine);
    return result;
}
static PyObject *enter_next(Enter *e) { return enter_send(e, Py_None); }

static PyObject *enter_throw(Enter *e, PyObject *const *args, Py_ssize_t n) {
    if (e->stage == DELEGATED) {
        PyObject *coroutine = Py_NewRef(e->coroutine), *method = PyObject_GetAttr(coroutine, s_throw);
        PyObject *result = method == NULL ? NULL : PyObject_Vectorcall(method, args, n, NULL);
        if (result == NULL) enter_over(e); /* it is over, or returned: a StopIteration */
        Py_XDECREF(method);
        Py_DECREF(coroutine);
        return result;
    }
    if (e->stage == OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    raise_what_was_thrown(args, n);
    if (e->stage == PARKED) enter_fails(e);
    else e->stage = OVER;
    return NULL;
}

static PyObject *enter_close(Enter *e, PyObject *_) {
    if (e->stage == DELEGATED) {
        PyObject *coroutine = Py_NewRef(e->coroutine), *result = PyObject_CallMethodNoArgs(coroutine, s_close);
        enter_over(e);
        Py_DECREF(coroutine);
        return result;
    }
    if (e->stage == PARKED) {
        PyErr_SetNone(PyExc_GeneratorExit);
        enter_fails(e);
        if (!PyErr_ExceptionMatches(PyExc_GeneratorExit)) return NULL;
        PyErr_Clear();
    }
    e->stage = OVER;
    Py_RETURN_NONE;
}

static void enter_finalize(PyObject *self) {
    Enter *e = (Enter *)self;
    if (e->stage != PARKED && e->stage != CREATED) return;
    PyObject *exception = take_exception();
    if (e->stage == CREATED) {
        e->stage = OVER;
        if (!is_loose(e->way) /* else its acquisition says so */
            && PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s.%s' was never awaited", Py_TYPE(e->of)->tp_name,
                e->way == SPELLED ? "acquire" : "__aenter__") < 0)
            PyErr_WriteUnraisable(self);
    }
    else {
        PyObject *result = enter_close(e, NULL); /* nobody will resume it */
        if (result == NULL) PyErr_WriteUnraisable(self);
        Py_XDECREF(result);
    }
    if (exception != NULL) set_exception(exception);
}
static void enter_dealloc(Enter *e) {
    if ((e->stage == PARKED || e->stage == CREATED) && PyObject_CallFinalizerFromDealloc((PyObject *)e) < 0) return;
    PyObject_GC_UnTrack(e);
    enter_clear(e);
    forget();
    if (spare_enters_count < MOST_SPARE && !PyObject_GC_IsFinalized((PyObject *)e)) spare_enters[spare_enters_count++] = e;
    else PyObject_GC_Del(e);
}

static Enter *new_enter(PyObject *lock, PyObject *slow, PyObject *of, int way);
static PyObject *enter_call(PyObject *self, PyObject *const *args, size_t n, PyObject *names) {
    Enter *e = (Enter *)self;
    if (PyVectorcall_NARGS(n) != 0 || (names != NULL && PyTuple_GET_SIZE(names) != 0)) {
        PyErr_SetString(PyExc_TypeError, "__aenter__() takes no arguments");
        return NULL;
    }
    if (e->stage != BOUND) { /* called again: another coroutine */
        e = new_enter(e->lock, e->slow, e->of, e->way);
        if (e != NULL) e->stage = CREATED;
        return (PyObject *)e;
    }
    e->stage = CREATED;
    return Py_NewRef(self);
}
static PyObject *enter_await(Enter *e) {
    e->awaited = 1;
    return Py_NewRef(e);
}
static PyMethodDef enter_methods[] = {{"send", (PyCFunction)enter_send, METH_O, ""},
    {"throw", (PyCFunction)(void *)enter_throw, METH_FASTCALL, ""}, {"close", (PyCFunction)enter_close, METH_NOARGS, ""}, {0}};
static PyAsyncMethods enter_async = {.am_await = (unaryfunc)enter_await};
static PyTypeObject Enter_Type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "asynclocks._engine._core.Enter", .tp_basicsize = sizeof(Enter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(Enter, call), .tp_call = PyVectorcall_Call, .tp_iter = (getiterfunc)enter_await,
    .tp_iternext = (iternextfunc)enter_next, .tp_as_async = &enter_async, .tp_dealloc = (destructor)enter_dealloc,
    .tp_traverse = (traverseproc)enter_traverse, .tp_clear = (inquiry)enter_clear, .tp_methods = enter_methods,
    .tp_finalize = enter_finalize, .tp_doc = "Entering a mutex: a coroutine."};

static Enter *new_enter(PyObject *lock, PyObject *slow, PyObject *of, int way) {
    Enter *e;
    if (spare_enters_count > 0) {
        e = spare_enters[--spare_enters_count];
        PyObject_Init((PyObject *)e, &Enter_Type);
    }
    else if ((e = PyObject_GC_New(Enter, &Enter_Type)) == NULL) return NULL;
    e->lock = Py_NewRef(lock);
    e->slow = Py_NewRef(slow);
    e->of = Py_NewRef(of);
    e->coroutine = e->waiter = e->entrant = NULL;
    e->call = enter_call;
    e->stage = BOUND;
    e->awaited = e->entering = 0;
    e->way = way;
    PyObject_GC_Track(e);
    return e;
}

/* FreeMutex.__aexit__. 0: done; 1: it is to be done in Python; -1: an error. */
static int leave_mutex(PyObject *m, PyObject *exc_type) {
    if (exc_type == PyExc_GeneratorExit || !is_usual(m) || SLOT(m, mutex.early) != Py_None || SLOT(m, mutex.held) == Py_None
        || PyList_GET_SIZE(SLOT(m, line.deferred)) > 0 || is_busy(m)) return 1;
    return end_hold(m);
}

/* Leave a block. It is done when it is called, not when it is awaited: Ctrl-C may come in between, in the user's frame. */
typedef int (*Leave)(PyObject *m, PyObject *exc_type);
static PyObject *exit_block(Leave short_way, PyObject *slow, PyObject *const *args, Py_ssize_t n) {
    int left = short_way(args[0], n > 1 ? args[1] : Py_None);
    if (left <= 0) return left < 0 ? NULL : Py_NewRef(done);
    PyObject *result, *coroutine = PyObject_Vectorcall(slow, args, n, NULL);
    if (coroutine == NULL) return NULL;
    PySendResult how = PyIter_Send(coroutine, Py_None, &result);
    Py_DECREF(coroutine);
    if (how == PYGEN_ERROR) return NULL;
    Py_DECREF(result);
    if (how == PYGEN_NEXT) { PyErr_SetString(PyExc_SystemError, "asynclocks: an exit waited"); return NULL; }
    return Py_NewRef(done);
}

/* What looking up `__aexit__` of a mutex gives. */
typedef struct { PyObject_HEAD PyObject *lock, *slow; vectorcallfunc call; Leave leave; } Exit;
static PyTypeObject Exit_Type;
static Exit *spare_exits[MOST_SPARE];
static int spare_exits_count;
static int exit_traverse(Exit *x, visitproc visit, void *arg) { Py_VISIT(x->lock); Py_VISIT(x->slow); return 0; }
static int exit_clear(Exit *x) { Py_CLEAR(x->lock); Py_CLEAR(x->slow); return 0; }
static void exit_dealloc(Exit *x) {
    PyObject_GC_UnTrack(x);
    exit_clear(x);
    if (spare_exits_count < MOST_SPARE) spare_exits[spare_exits_count++] = x;
    else PyObject_GC_Del(x);
}
static PyObject *exit_call(PyObject *self, PyObject *const *args, size_t n, PyObject *names) {
    Exit *x = (Exit *)self;
    PyObject *all[4] = {x->lock, Py_None, Py_None, Py_None};
    Py_ssize_t count = PyVectorcall_NARGS(n);
    if (names != NULL && PyTuple_GET_SIZE(names) != 0) { /* nobody does: as Python would */
        PyObject *method = PyMethod_New(x->slow, x->lock), *result = NULL;
        if (method != NULL) { result = PyObject_Vectorcall(method, args, n, names); Py_DECREF(method); }
        return result;
    }
    if (count > 3) { PyErr_SetString(PyExc_TypeError, "__aexit__() takes at most three arguments"); return NULL; }
    for (Py_ssize_t i = 0; i < count; i++) all[i + 1] = args[i];
    Py_INCREF(self); /* it keeps the lock */
    PyObject *result = exit_block(x->leave, x->slow, all, 4);
    Py_DECREF(self);
    return result;
}
static PyTypeObject Exit_Type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "asynclocks._engine._core.Exit", .tp_basicsize = sizeof(Exit),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(Exit, call), .tp_call = PyVectorcall_Call, .tp_dealloc = (destructor)exit_dealloc,
    .tp_traverse = (traverseproc)exit_traverse, .tp_clear = (inquiry)exit_clear, .tp_doc = "Leaving a mutex."};

/* ---- What stands in the classes ---- */

/* `__aenter__` and `__aexit__`: each knows the Python function whose twin it is. */
typedef struct { PyObject_HEAD PyObject *slow; vectorcallfunc call; PyTypeObject *type; int way; Leave leave; } Twin;
static int twin_traverse(Twin *t, visitproc visit, void *arg) { Py_VISIT(t->slow); return 0; }
static int twin_clear(Twin *t) { Py_CLEAR(t->slow); return 0; }
static void twin_dealloc(Twin *t) { PyObject_GC_UnTrack(t); twin_clear(t); PyObject_GC_Del(t); }
static PyObject *twin_doc(Twin *t, void *name) { return PyObject_GetAttrString(t->slow, name); }
static PyObject *twin_wrapped(Twin *t, void *_) { return Py_NewRef(t->slow); }
#define TOLD(NAME) {NAME, (getter)twin_doc, NULL, NULL, NAME}
/* All that `inspect` asks for to take it for the coroutine function that it stands for. */
static PyGetSetDef twin_getset[] = {TOLD("__doc__"), TOLD("__name__"), TOLD("__qualname__"), TOLD("__module__"), TOLD("__code__"),
    TOLD("__defaults__"), TOLD("__kwdefaults__"), TOLD("__annotations__"), {"__wrapped__", (getter)twin_wrapped, NULL, NULL, NULL}, {0}};

static PyObject *get_enter(PyObject *self, PyObject *lock, PyObject *type) {
    if (lock == NULL || lock == Py_None) return Py_NewRef(self);
    return (PyObject *)new_enter(lock, ((Twin *)self)->slow, lock, ((Twin *)self)->way);
}
static PyObject *call_enter(PyObject *self, PyObject *const *args, size_t n, PyObject *names) { /* Mutex.__aenter__(mutex) */
    Twin *twin = (Twin *)self;
    if (PyVectorcall_NARGS(n) != 1 || names != NULL || !PyType_IsSubtype(Py_TYPE(args[0]), twin->type))
        return PyObject_Vectorcall(twin->slow, args, n, names);
    Enter *e = new_enter(args[0], twin->slow, args[0], twin->way);
    if (e != NULL) e->stage = CREATED;
    return (PyObject *)e;
}
static PyObject *get_exit(PyObject *self, PyObject *lock, PyObject *type) {
    if (lock == NULL || lock == Py_None) return Py_NewRef(self);
    Exit *x;
    if (spare_exits_count > 0) {
        x = spare_exits[--spare_exits_count];
        PyObject_Init((PyObject *)x, &Exit_Type);
    }
    else if ((x = PyObject_GC_New(Exit, &Exit_Type)) == NULL) return NULL;
    x->lock = Py_NewRef(lock);
    x->slow = Py_NewRef(((Twin *)self)->slow);
    x->call = exit_call;
    x->leave = ((Twin *)self)->leave;
    PyObject_GC_Track(x);
    return (PyObject *)x;
}
static PyObject *call_exit(PyObject *self, PyObject *const *args, size_t n, PyObject *names) {
    Twin *twin = (Twin *)self;
    Py_ssize_t count = PyVectorcall_NARGS(n);
    if (count < 1 || count > 4 || names != NULL || !PyType_IsSubtype(Py_TYPE(args[0]), twin->type))
        return PyObject_Vectorcall(twin->slow, args, n, names);
    return exit_block(twin->leave, twin->slow, args, count);
}
#define TWIN_TYPE(TYPE, NAME, GET) static PyTypeObject TYPE = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "asynclocks._engine._core." NAME, \
    .tp_basicsize = sizeof(Twin), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR \
    | Py_TPFLAGS_DISALLOW_INSTANTIATION, .tp_vectorcall_offset = offsetof(Twin, call), .tp_call = PyVectorcall_Call, .tp_descr_get = GET, \
    .tp_dealloc = (destructor)twin_dealloc, .tp_traverse = (traverseproc)twin_traverse, .tp_clear = (inquiry)twin_clear, .tp_getset = twin_getset}
static PyObject *get_acquire(PyObject *self, PyObject *lock, PyObject *type) {
    return lock == NULL || lock == Py_None ? Py_NewRef(self) : PyMethod_New(self, lock);
}
TWIN_TYPE(AcquireTwin_Type, "acquire", get_acquire); /* called by `call_enter` */
TWIN_TYPE(EnterTwin_Type, "__aenter__", get_enter);
TWIN_TYPE(ExitTwin_Type, "__aexit__", get_exit);

/* Put a twin in the place of the Python function that a class has. */
static int replace(PyTypeObject *type, const char *name, PyTypeObject *kind, vectorcallfunc call, int way, Leave leave) {
    PyObject *slow = PyObject_GetAttrString((PyObject *)type, name);
    if (slow == NULL) return -1;
    Twin *twin = PyObject_GC_New(Twin, kind);
    if (twin == NULL) { Py_DECREF(slow); return -1; }
    twin->slow = slow;
    twin->call = call;
    twin->type = type;
    twin->way = way;
    twin->leave = leave;
    PyObject_GC_Track(twin);
    int failed = PyObject_SetAttrString((PyObject *)type, name, (PyObject *)twin);
    Py_DECREF(twin);
    return failed;
}

/* MutexGuard.value */
static PyObject *guarding(PyObject *self) { /* the mutex, a borrowed reference; NULL: it holds no more, and an error is set */
    PyObject *m = SLOT(self, guard.mutex);
    if (m != NULL && PyType_IsSubtype(Py_TYPE(m), Mutex) && SLOT(m, mutex.held) == self && SLOT(m, mutex.value) != NULL) return m;
    PyObject *refused = PyObject_CallMethodNoArgs(self, s__refuse);
    if (refused != NULL) { Py_DECREF(refused); PyErr_SetString(PyExc_SystemError, "asynclocks: a guard did not refuse"); }
    return NULL;
}
static PyObject *guard_get_value(PyObject *self, void *_) {
    PyObject *m = guarding(self);
    return m == NULL ? NULL : Py_NewRef(SLOT(m, mutex.value));
}
static int guard_set_value(PyObject *self, PyObject *value, void *_) {
    if (value == NULL) { PyErr_SetString(PyExc_AttributeError, "property 'value' of 'MutexGuard' object has no deleter"); return -1; }
    PyObject *m = guarding(self);
    if (m == NULL) return -1;
    PyObject *old = put(m, mutex.value, Py_NewRef(value));
    Py_DECREF(old); /* its finalizer may do what it likes */
    return 0;
}
static PyGetSetDef guard_value = {"value", guard_get_value, guard_set_value, "The mutex's value. Raises GuardReleasedError after the release.", NULL};

/* LooseMutexGuard.value */
static PyObject *holding(PyObject *self) { /* as `guarding` */
    PyObject *m = SLOT(self, guard.mutex), *hold = SLOT(self, loose.hold);
    if (m != NULL && PyType_IsSubtype(Py_TYPE(m), Mutex) && is_ticket(hold) && SLOT(hold, ticket.state) == granted && SLOT(m, mutex.value) != NULL) return m;
    PyObject *refused = PyObject_CallMethodNoArgs(self, s__refuse);
    if (refused != NULL) { Py_DECREF(refused); PyErr_SetString(PyExc_SystemError, "asynclocks: a guard did not refuse"); }
    return NULL;
}
static PyObject *loose_get_value(PyObject *self, void *_) {
    PyObject *m = holding(self);
    return m == NULL ? NULL : Py_NewRef(SLOT(m, mutex.value));
}
static int loose_set_value(PyObject *self, PyObject *value, void *_) {
    if (value == NULL) { PyErr_SetString(PyExc_AttributeError, "property 'value' of 'LooseMutexGuard' object has no deleter"); return -1; }
    PyObject *m = holding(self);
    if (m == NULL) return -1;
    PyObject *old = put(m, mutex.value, Py_NewRef(value));
    Py_DECREF(old);
    return 0;
}
static PyGetSetDef loose_value = {"value", loose_get_value, loose_set_value, "The mutex's value. Raises GuardReleasedError after the release.", NULL};

/* Methods: each begins as its Python twin does, whose place it takes in the class, and leaves to that what is unusual. */
typedef struct { PyMethodDef method; PyTypeObject **type; const char *signature; PyObject *slow; } Method;
enum { ACQUIRE_AT_ONCE, ACQUIRE_NOWAIT, RELEASE, TRY_LOCK, LOCK, GUARD_RELEASE, GUARD_ENTER, GUARD_EXIT, SEMAPHORE_ACQUIRE, TRY_ACQUIRE, PERMIT_RELEASE, PERMIT_ENTER, PERMIT_EXIT, ACQUISITION_ENTER, ACQUISITION_EXIT,
    ACQUISITION_AWAIT, METHODS };
static Method twins[METHODS + 1];

static PyObject *slowly(int which, PyObject *self) { return PyObject_CallOneArg(twins[which].slow, self); }
static PyObject *slowly_with(int which, PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    PyObject *method = PyMethod_New(twins[which].slow, self);
    PyObject *result = method == NULL ? NULL : PyObject_Vectorcall(method, args, n, names);
    Py_XDECREF(method);
    return result;
}

/* Take it now, in the name of a task of asyncio's or, if a plain thread may, in nobody's; NULL without an error: Python is to try. */
static PyObject *take_now(PyObject *m, int way, int threads_may) {
    int here = is_usual(m) && !is_busy(m) && is_free(m) && !runs_elsewhere();
    PyObject *task = !here ? NULL : threads_may && is_plain_thread() ? Py_NewRef(Py_None) : glance();
    PyObject *value = task == NULL || is_busy(m) ? NULL : take(m, task, way);
    Py_XDECREF(task);
    if (value == NULL) PyErr_Clear();
    return value;
}
static PyObject *mutex_acquire_nowait(PyObject *m, PyObject *_) {
    PyObject *value = take_now(m, SPELLED, 1);
    if (value == NULL) return slowly(ACQUIRE_NOWAIT, m);
    Py_DECREF(value);
    Py_RETURN_NONE;
}
static PyObject *mutex_acquire_at_once(PyObject *m, PyObject *_) {
    PyObject *value = take_now(m, SPELLED, 0);
    return value == NULL ? slowly(ACQUIRE_AT_ONCE, m) : value;
}
static PyObject *mutex_try_lock(PyObject *m, PyObject *_) {
    PyObject *value = take_now(m, LOOSELY, 0);
    return value == NULL ? slowly(TRY_LOCK, m) : value;
}
static PyObject *mutex_release(PyObject *m, PyObject *_) {
    int left = 1;
    if (is_usual(m) && SLOT(m, mutex.held) == spelled && PyList_GET_SIZE(SLOT(m, mutex.spelled)) > 0 && !is_busy(m)) {
        PyObject *token = pop(SLOT(m, mutex.spelled));
        left = end_hold(m);
        if (left > 0 && PyList_Append(SLOT(m, mutex.spelled), token) < 0) left = -1;
        Py_DECREF(token);
    }
    if (left < 0) return NULL;
    if (left > 0) return slowly(RELEASE, m);
    Py_RETURN_NONE;
}
static PyObject *new_acquisition(PyObject *m, PyObject *plainly, const char *text, PyObject **what) {
    if (*what == NULL && (*what = PyUnicode_InternFromString(text)) == NULL) return NULL;
    PyObject *take = PyMethod_New(plainly, m), *made = take == NULL ? NULL : from_pool(&acquisitions);
    if (made == NULL) { Py_XDECREF(take); return NULL; }
    SLOT(made, acquisition.of) = Py_NewRef(m);
    SLOT(made, acquisition.what) = Py_NewRef(*what);
    SLOT(made, acquisition.take) = take;
    return made;
}
static PyObject *mutex_lock(PyObject *m, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    static PyObject *what;
    if (n > 0 || names != NULL || !is_usual(m)) return slowly_with(LOCK, m, args, n, names);
    return new_acquisition(m, lock_plainly, "lock()", &what);
}
static PyObject *semaphore_acquire(PyObject *m, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    static PyObject *what;
    if (n > 0 || names != NULL || !is_usual_semaphore(m) || SLOT(m, semaphore.total) == NULL || !PyLong_CheckExact(SLOT(m, semaphore.total))
        || sign(SLOT(m, semaphore.total)) <= 0) return slowly_with(SEMAPHORE_ACQUIRE, m, args, n, names);
    return new_acquisition(m, acquire_plainly, "acquire(1)", &what);
}
static PyObject *semaphore_try_acquire(PyObject *m, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    PyObject *made = n == 0 && names == NULL && is_usual_semaphore(m) && !is_busy(m) ? take_permit(m, NULL, LOOSE_PERMIT) : NULL;
    if (made == NULL) PyErr_Clear();
    return made == NULL ? slowly_with(TRY_ACQUIRE, m, args, n, names) : made;
}

/* A LoosePermit's. */
static PyObject *permit_release(PyObject *self, PyObject *_) {
    int left = Py_TYPE(self) == LoosePermit && is_one_permit(self) ? give_back(self, NULL) : 1;
    if (left > 0) return slowly(PERMIT_RELEASE, self);
    if (left < 0) return NULL;
    Py_RETURN_NONE;
}
static PyObject *permit_enter(PyObject *self, PyObject *_) {
    if (Py_TYPE(self) != LoosePermit || SLOT(self, permit.live) != Py_True || SLOT(self, permit.parts) != Py_None)
        return slowly(PERMIT_ENTER, self);
    PyObject *old = put(self, permit.parts, Py_NewRef(no_parts));
    Py_DECREF(old);
    return Py_NewRef(self);
}
static int leave_permit(PyObject *self) { /* Permit._leave_block; as `give_back` */
    PyObject *parts = SLOT(self, permit.parts);
    if (Py_TYPE(self) != LoosePermit || parts == NULL || (parts != Py_None && parts != no_parts)) return 1; /* it was split */
    return is_one_permit(self) ? give_back(self, NULL) : 1;
}
static PyObject *permit_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    int left = leave_permit(self);
    if (left > 0) return slowly_with(PERMIT_EXIT, self, args, n, NULL);
    if (left < 0) return NULL;
    Py_RETURN_NONE;
}
/* Does this guard hold its mutex in the usual way, and can it be let go of here? */
static int lets_go(PyObject *self) {
    PyObject *hold, *m;
    return Py_TYPE(self) == LooseMutexGuard && (hold = SLOT(self, loose.hold)) != NULL && is_ticket(hold) && SLOT(hold, ticket.state) == granted
        && (m = SLOT(self, guard.mutex)) != NULL && SLOT(hold, ticket.synchronizer) == m && is_usual(m) && SLOT(m, mutex.held) == hold && !is_busy(m);
}
static int let_go(PyObject *self) { /* as `end_hold` */
    PyObject *hold = Py_NewRef(SLOT(self, loose.hold)), *m = Py_NewRef(SLOT(self, guard.mutex));
    /* Handing over may run Python: the guard must have let go by then. */
    Py_SETREF(SLOT(hold, ticket.state), Py_NewRef(released));
    int left = end_hold(m);
    if (left > 0) Py_SETREF(SLOT(hold, ticket.state), Py_NewRef(granted)); /* nothing was done: Python does it all */
    Py_DECREF(m);
    Py_DECREF(hold);
    return left;
}
static PyObject *guard_release(PyObject *self, PyObject *_) {
    int left = lets_go(self) ? let_go(self) : 1;
    if (left < 0) return NULL;
    if (left > 0) return slowly(GUARD_RELEASE, self);
    Py_RETURN_NONE;
}
static PyObject *guard_enter(PyObject *self, PyObject *_) {
    PyObject *hold = Py_TYPE(self) == LooseMutexGuard ? SLOT(self, loose.hold) : NULL;
    if (is_ticket(hold) && SLOT(hold, ticket.state) == granted) return Py_NewRef(self);
    return slowly(GUARD_ENTER, self);
}
static PyObject *guard_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    int left = lets_go(self) ? let_go(self) : 1;
    if (left < 0) return NULL;
    if (left > 0) return slowly_with(GUARD_EXIT, self, args, n, NULL);
    Py_RETURN_NONE;
}
/* CPython's way to `__del__`, which looks the method up: not gone where there is nothing to do. */
static destructor finalize;
static void guard_finalize(PyObject *self) { if (!is_done_guard(self)) finalize(self); }
static void permit_finalize(PyObject *self) { if (!is_done_permit(self)) finalize(self); }
static void acquisition_finalize(PyObject *self) { if (!is_done_acquisition(self)) finalize(self); }

static PyObject *enter_of(PyObject *self, int which) {
    int way = Py_TYPE(self) == Acquisition ? way_of(self) : -1;
    if (way < 0) return slowly(which, self);
    Enter *e = new_enter(SLOT(self, acquisition.of), twins[which].slow, self, way);
    if (e != NULL) e->stage = CREATED;
    return (PyObject *)e;
}
static PyObject *acquisition_enter(PyObject *self, PyObject *_) {
    PyObject *made = enter_of(self, ACQUISITION_ENTER);
    if (made != NULL && Py_TYPE(made) == &Enter_Type) ((Enter *)made)->entering = 1;
    return made;
}
/* Its place is taken when it is driven, its use is noted now, as by Python. */
static PyObject *acquisition_await(PyObject *self, PyObject *_) {
    PyObject *made = enter_of(self, ACQUISITION_AWAIT);
    if (made != NULL && Py_TYPE(made) == &Enter_Type) ((Enter *)made)->awaited = 1;
    return made;
}
static PyObject *acquisition_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    PyObject *held = Py_TYPE(self) == Acquisition ? SLOT(self, acquisition.guard) : NULL;
    if (held == NULL || (Py_TYPE(held) != LooseMutexGuard && Py_TYPE(held) != LoosePermit))
        return slowly_with(ACQUISITION_EXIT, self, args, n, NULL);
    Py_INCREF(held);
    int left = Py_TYPE(held) == LoosePermit ? leave_permit(held) : lets_go(held) ? let_go(held) : 1;
    if (left > 0) { /* as in Python: whatever the guard has become is released */
        PyObject *nothing = PyObject_CallMethodNoArgs(held, s__leave_block);
        left = nothing == NULL ? -1 : 0;
        Py_XDECREF(nothing);
    }
    Py_DECREF(held);
    return left < 0 ? NULL : Py_NewRef(done);
}
#define FUNCTION(F) (PyCFunction)(void *)(F)
static Method twins[METHODS + 1] = {
    [ACQUIRE_AT_ONCE] = {{"_acquire_at_once", mutex_acquire_at_once, METH_NOARGS, NULL}, &Mutex, "($self)", NULL},
    [ACQUIRE_NOWAIT] = {{"acquire_nowait", mutex_acquire_nowait, METH_NOARGS, NULL}, &Mutex, "($self)", NULL},
    [RELEASE] = {{"release", mutex_release, METH_NOARGS, NULL}, &Mutex, "($self)", NULL},
    [TRY_LOCK] = {{"try_lock", mutex_try_lock, METH_NOARGS, NULL}, &Mutex, "($self)", NULL},
    [LOCK] = {{"lock", FUNCTION(mutex_lock), METH_FASTCALL | METH_KEYWORDS, NULL}, &Mutex, "($self, timeout=None)", NULL},
    [GUARD_RELEASE] = {{"release", guard_release, METH_NOARGS, NULL}, &LooseMutexGuard, "($self)", NULL},
    [GUARD_ENTER] = {{"__enter__", guard_enter, METH_NOARGS, NULL}, &LooseMutexGuard, "($self)", NULL},
    [GUARD_EXIT] = {{"__exit__", FUNCTION(guard_exit), METH_FASTCALL, NULL}, &LooseMutexGuard, "($self, exc_type=None, exc=None, traceback=None)", NULL},
    [SEMAPHORE_ACQUIRE] = {{"acquire", FUNCTION(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS, NULL}, &Semaphore, "($self, permits=1, timeout=None)", NULL},
    [TRY_ACQUIRE] = {{"try_acquire", FUNCTION(semaphore_try_acquire), METH_FASTCALL | METH_KEYWORDS, NULL}, &Semaphore, "($self, permits=1)", NULL},
    [PERMIT_RELEASE] = {{"release", permit_release, METH_NOARGS, NULL}, &LoosePermit, "($self)", NULL},
    [PERMIT_ENTER] = {{"__enter__", permit_enter, METH_NOARGS, NULL}, &LoosePermit, "($self)", NULL},
    [PERMIT_EXIT] = {{"__exit__", FUNCTION(permit_exit), METH_FASTCALL, NULL}, &LoosePermit, "($self, exc_type=None, exc=None, traceback=None)", NULL},
    [ACQUISITION_ENTER] = {{"__aenter__", acquisition_enter, METH_NOARGS, NULL}, &Acquisition, "($self)", NULL},
    [ACQUISITION_EXIT] = {{"__aexit__", FUNCTION(acquisition_exit), METH_FASTCALL, NULL}, &Acquisition, "($self, exc_type=None, exc=None, traceback=None)", NULL},
    [ACQUISITION_AWAIT] = {{"__await__", acquisition_await, METH_NOARGS, NULL}, &Acquisition, "($self)", NULL},
};
static int replace_methods(void) {
    for (Method *twin = twins; twin->type != NULL; twin++) {
        twin->slow = PyObject_GetAttrString((PyObject *)*twin->type, twin->method.ml_name);
        if (twin->slow == NULL) return -1;
        PyObject *doc = PyObject_GetAttrString(twin->slow, "__doc__"), *told;
        if (doc == NULL) return -1;
        /* The signature first, as `inspect` expects it of a method in C. */
        told = PyUnicode_FromFormat("%s%s\n--\n\n%V", twin->method.ml_name, twin->signature, PyUnicode_Check(doc) ? doc : NULL, "");
        Py_DECREF(doc);
        if (told == NULL || (twin->method.ml_doc = PyUnicode_AsUTF8(told)) == NULL) return -1; /* kept for ever, as `told` is */
    }
    for (Method *twin = twins; twin->type != NULL; twin++) { /* when all of theirs are known: some are inherited */
        PyObject *method = PyDescr_NewMethod(*twin->type, &twin->method);
        if (method == NULL) return -1;
        int failed = PyObject_SetAttrString((PyObject *)*twin->type, twin->method.ml_name, method);
        Py_DECREF(method);
        if (failed) return -1;
    }
    return 0;
}
static int replace_property(PyTypeObject *type, PyGetSetDef *property) {
    PyObject *made = PyDescr_NewGetSet(type, property);
    int failed = made == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, property->name, made);
    Py_XDECREF(made);
    return failed;
}

/* Where a class has the slot of this name; -1: an error. */
static Py_ssize_t slot_of(PyTypeObject *type, const char *name) {
    Py_ssize_t where = -1;
    PyObject *descriptor = PyObject_GetAttrString((PyObject *)type, name);
    if (descriptor == NULL) return -1;
    if (Py_TYPE(descriptor) == &PyMemberDescr_Type && ((PyMemberDescrObject *)descriptor)->d_member->type == T_OBJECT_EX)
        where = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    else PyErr_Format(PyExc_TypeError, "asynclocks: %s.%s is no slot", type->tp_name, name);
    Py_DECREF(descriptor);
    return where;
}

/* Are a class's slots those that its pool knows of, and nothing else to be let go of? */
static int is_plain(Pool *pool) {
    Py_ssize_t known = sizeof(PyObject);
    for (Py_ssize_t *slot = pool->slots; *slot >= 0; slot++) known += sizeof(PyObject *);
    if (pool->weaklist > 0) known += sizeof(PyObject *); /* else it lies before the object */
    return pool->type->tp_basicsize == known && pool->type->tp_dictoffset == 0 && pool->type->tp_weaklistoffset == pool->weaklist
        && (pool->type->tp_finalize == NULL) == (pool->is_done == NULL);
}

static PyObject *install(PyObject *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"FreeMutex", "Mutex", "MutexGuard", "LooseMutexGuard", "Acquisition", "Ticket", "AsyncioParker", "Parked", "queued",
        "granted", "released", "spelled", "resumed", "lock_plainly", "backends", "Future", "current_task", "current_tasks", "running_loop",
        "InvalidStateError", "thread_local", "current_library", "parked_in", "native", "Task", "eager_tasks", "awaited_by_a_holder", "look_again", "hooks", "Semaphore", "Permit",
        "LoosePermit", "acquire_plainly", "permit_hooks", NULL};
    if (done != NULL) { PyErr_SetString(PyExc_RuntimeError, "asynclocks: installed already"); return NULL; }
    PyObject *tasks;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$O!O!O!O!O!O!O!O!OOOOOOO!OOOOOOOOOOOOOO!O!O!O!OO!", names, &PyType_Type, &FreeMutex, &PyType_Type, &Mutex,
            &PyType_Type, &MutexGuard, &PyType_Type, &LooseMutexGuard, &PyType_Type, &Acquisition, &PyType_Type, &Ticket,
            &PyType_Type, &AsyncioParker, &PyType_Type, &Parked, &queued, &granted, &released, &spelled, &resumed, &lock_plainly,
            &PyDict_Type, &backends, &Future, &current_task, &tasks, &running_loop, &InvalidStateError, &thread_local, &current_library, &parked_in,
            &native, &Task, &eager_tasks, &awaited_by_a_holder, &look_again, &PyTuple_Type, &hooks, &PyType_Type, &Semaphore,
            &PyType_Type, &Permit, &PyType_Type, &LoosePermit, &acquire_plainly, &PyTuple_Type, &permit_hooks)) return NULL;
#define FIND(GROUP, TYPE, NAME) if ((GROUP.NAME = slot_of(TYPE, "_" #NAME)) < 0) return NULL;
#define FIND_PLAIN(GROUP, TYPE, NAME) if ((GROUP.NAME = slot_of(TYPE, #NAME)) < 0) return NULL;
    FIND(line, FreeMutex, deferred) FIND(line, FreeMutex, head) FIND(line, FreeMutex, lock) FIND(line, FreeMutex, tail) FIND(line, FreeMutex, waiting)
    FIND(mutex, FreeMutex, early) FIND(mutex, FreeMutex, free) FIND(mutex, FreeMutex, held) FIND(mutex, FreeMutex, owner) FIND(mutex, Mutex, spelled)
    FIND(mutex, Mutex, value)
    FIND_PLAIN(ticket, Ticket, after) FIND_PLAIN(ticket, Ticket, before) FIND_PLAIN(ticket, Ticket, owner) FIND_PLAIN(ticket, Ticket, request)
    FIND_PLAIN(ticket, Ticket, state) FIND_PLAIN(ticket, Ticket, synchronizer)
    FIND(parker, AsyncioParker, parked) FIND(parker, AsyncioParker, unparked) FIND(guard, MutexGuard, mutex) FIND(guard, MutexGuard, recovered)
    FIND(loose, LooseMutexGuard, became) FIND(loose, LooseMutexGuard, hold) FIND(acquisition, Acquisition, driven) FIND(acquisition, Acquisition, guard) FIND(acquisition, Acquisition, of) FIND(acquisition, Acquisition, take)
    FIND(acquisition, Acquisition, what) FIND_PLAIN(parked_table, Parked, reference)
    FIND(semaphore, Semaphore, closed) FIND(semaphore, Semaphore, entered) FIND(semaphore, Semaphore, entrant) FIND(semaphore, Semaphore, free)
    FIND(semaphore, Semaphore, tokens) FIND(semaphore, Semaphore, total) FIND(permit, Permit, count) FIND(permit, Permit, entrant)
    FIND(permit, Permit, live) FIND(permit, Permit, parts) FIND(permit, Permit, semaphore)
    if (!PyType_IsSubtype(AsyncioParker, Ticket) || !PyType_IsSubtype(Parked, &PyDict_Type) || !PyType_IsSubtype(Mutex, FreeMutex)
        || !PyType_IsSubtype(LooseMutexGuard, MutexGuard) || !PyType_IsSubtype(LoosePermit, Permit)) {
        PyErr_SetString(PyExc_TypeError, "asynclocks: these classes do not belong together");
        return NULL;
    }
    guards = (Pool){.type = MutexGuard, .slots = {guard.mutex, guard.recovered, -1}};
    parkers = (Pool){.type = AsyncioParker, .slots = {parker.parked, parker.unparked, ticket.after, ticket.before, ticket.owner,
        ticket.request, ticket.state, ticket.synchronizer, -1}};
    tickets = (Pool){.type = Ticket, .slots = {ticket.after, ticket.before, ticket.owner, ticket.request, ticket.state, ticket.synchronizer, -1}};
    permits = (Pool){.type = Permit, .slots = {permit.count, permit.entrant, permit.live, permit.parts, permit.semaphore, -1}};
    loose_permits = permits;
    loose_permits.type = LoosePermit;
    loose_permits.is_done = is_done_permit;
    loose_guards = (Pool){.type = LooseMutexGuard, .slots = {guard.mutex, guard.recovered, loose.became, loose.hold, -1}, .is_done = is_done_guard};
    acquisitions = (Pool){.type = Acquisition, .slots = {acquisition.driven, acquisition.guard, acquisition.of, acquisition.take, acquisition.what, -1},
        .is_done = is_done_acquisition};
    Pool *pools[] = {&guards, &parkers, &tickets, &permits, &loose_permits, &loose_guards, &acquisitions};
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        if (pools[i]->is_done != NULL) pools[i]->weaklist = pools[i]->type->tp_weaklistoffset;
        if (!is_plain(pools[i]) && pools[i] != &acquisitions) { /* up to 3.12 acquisitions have a dict: their deallocator is Python's */
            PyErr_Format(PyExc_TypeError, "asynclocks: %s has slots that _core.c does not know", pools[i]->type->tp_name);
            return NULL;
        }
    }
    if ((unpark_anywhere = PyObject_GetAttrString((PyObject *)AsyncioParker, "unpark")) == NULL) return NULL;
    current_tasks = tasks == Py_None ? NULL : tasks;
    if (current_tasks != NULL && !PyDict_Check(current_tasks)) { PyErr_SetString(PyExc_TypeError, "asynclocks: no dict of tasks"); return NULL; }
    PyObject *kept[] = {(PyObject *)FreeMutex, (PyObject *)Mutex, (PyObject *)MutexGuard, (PyObject *)LooseMutexGuard, (PyObject *)Acquisition, (PyObject *)Ticket,
        (PyObject *)AsyncioParker, (PyObject *)Parked, queued, granted, released, spelled, resumed, lock_plainly, backends, Future, current_task, tasks, running_loop, InvalidStateError, thread_local, current_library, parked_in, native,
        Task, eager_tasks, awaited_by_a_holder, look_again, hooks, (PyObject *)Semaphore, (PyObject *)Permit, (PyObject *)LoosePermit, acquire_plainly, permit_hooks};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) Py_INCREF(kept[i]);
    if ((one = PyLong_FromLong(1)) == NULL || (no_parts = PyTuple_New(0)) == NULL) return NULL;
    if ((spare = PyObject_CallNoArgs(PyExc_StopIteration)) == NULL || (done = (PyObject *)PyObject_New(PyObject, &Done_Type)) == NULL) return NULL;
    MutexGuard->tp_dealloc = guard_dealloc;
    AsyncioParker->tp_dealloc = parker_dealloc;
    Ticket->tp_dealloc = ticket_dealloc;
    Permit->tp_dealloc = permit_dealloc;
    finalize = LooseMutexGuard->tp_finalize;
    if (finalize == NULL || LoosePermit->tp_finalize != finalize || Acquisition->tp_finalize != finalize) {
        PyErr_SetString(PyExc_TypeError, "asynclocks: these classes have no finalizer");
        return NULL;
    }
    LooseMutexGuard->tp_dealloc = loose_guard_dealloc;
    LoosePermit->tp_dealloc = loose_permit_dealloc;
    if (is_plain(&acquisitions)) Acquisition->tp_dealloc = acquisition_dealloc;
    LooseMutexGuard->tp_finalize = guard_finalize;
    LoosePermit->tp_finalize = permit_finalize;
    Acquisition->tp_finalize = acquisition_finalize;
    if (replace_property(MutexGuard, &guard_value) || replace_property(LooseMutexGuard, &loose_value) || replace_methods()
        || replace(Mutex, "acquire", &AcquireTwin_Type, call_enter, SPELLED, NULL)
        || replace(FreeMutex, "__aenter__", &EnterTwin_Type, call_enter, BY_BLOCK, NULL)
        || replace(FreeMutex, "__aexit__", &ExitTwin_Type, call_exit, BY_BLOCK, leave_mutex)
        || replace(Semaphore, "__aenter__", &EnterTwin_Type, call_enter, PERMIT, NULL)
        || replace(Semaphore, "__aexit__", &ExitTwin_Type, call_exit, PERMIT, leave_semaphore)) return NULL;
    return Py_BuildValue("(OO)O", (PyObject *)&Enter_Type, (PyObject *)&Done_Type, (PyObject *)&InternalLock_Type);
}

static PyMethodDef methods[] = {{"install", (PyCFunction)(void *)install, METH_VARARGS | METH_KEYWORDS,
    "Put the twins in the places of the Python functions; the types that are coroutines, and the internal lock's."}, {0}};
static int execute(PyObject *module) {
    if (s_name != NULL) { PyErr_SetString(PyExc_ImportError, "asynclocks._engine._core serves one interpreter"); return -1; }
#define INTERN(N) if ((s_##N = PyUnicode_InternFromString(#N)) == NULL) return -1;
    NAMES(INTERN)
    PyTypeObject *types[] = {&InternalLock_Type, &Done_Type, &Enter_Type, &Exit_Type, &AcquireTwin_Type, &EnterTwin_Type, &ExitTwin_Type};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) if (PyType_Ready(types[i]) < 0) return -1;
    return 0;
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "asynclocks._engine._core", .m_doc = "See docs/how-the-core-works.md.",
    .m_methods = methods, .m_slots = slots};
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
