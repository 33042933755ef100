// What there is to choose from. A field is a line `NAME = value` at the top of the program.
// `beside`: what is put in the place of ours for the same program with what asyncio has.
const FIELDS = {
  TASKS: { label: "Tasks", min: 1, max: 9 },
  HOLD: { label: "Hold time, milliseconds", min: 100, max: 2000, step: 100, unit: 1000 },
  CANCELLED: { label: "Cancelled", min: 0, max: 8 },
  PERMITS: { label: "Permits", min: 1, max: 4 },
};

const ASYNCIO_LOCK = [/\bMutex\([^()]*\)/g, "asyncio.Lock()"];

export const PROGRAMS = {
  mutex: {
    title: "Mutex: one at a time",
    about: "First come, first served. Who leaves the line while it waits is passed over.",
    beside: { title: "asyncio.Lock", changes: [ASYNCIO_LOCK] },
  },
  semaphore: {
    title: "Semaphore: some at a time",
    about:
      "Every third task asks for all permits. Smaller requests behind it wait, so that it has its turn. " +
      "asyncio.Semaphore has no requests for several permits.",
  },
  rwlock: {
    title: "RwLock: many readers or one writer",
    about: "Every third task writes, alone. asyncio has no such lock: with asyncio.Lock readers go one by one as well.",
    differs: true,
    beside: {
      title: "asyncio.Lock",
      changes: [
        [/\bRwLock\([^()]*\)/g, "asyncio.Lock()"],
        [/\block\.(read|write)\(\)/g, "lock"],
      ],
    },
  },
  condvar: {
    title: "Condvar: wait until something is so",
    about: "Tasks wait for a parcel on the shelf. The shelf's mutex is free meanwhile, or nobody could bring one.",
  },
  notify: {
    title: "Notify: wake the oldest, the newest, all",
    about: "A wake-up goes to one task that waits, or to all of them. It is never lost on one that was cancelled.",
  },
  barrier: {
    title: "Barrier: go on together",
    about: "All wait for the last. Who is cancelled does not count any more; a later task has to come in its place.",
  },
  deadlock: {
    title: "Deadlock: a circle of waits",
    about:
      "Each guest holds a fork and waits for the neighbour's. DeadlockError tells the one who closes the circle; its fork " +
      "is put back, and the others eat. With asyncio.Lock all of them wait for ever, and nothing says so.",
    differs: true,
    beside: { title: "asyncio.Lock", changes: [ASYNCIO_LOCK] },
  },
};

const line = (name) => new RegExp(`^${name} = ([0-9.]+)`, "m");

// The fields that a program's text has, with their values there.
export function fieldsOf(source) {
  return Object.entries(FIELDS).flatMap(([name, { unit = 1, ...field }]) => {
    const found = source.match(line(name));
    return found ? [{ name, ...field, value: Math.round(Number(found[1]) * unit) }] : [];
  });
}

// The program's text with another value in that line.
export function withField(source, name, value) {
  return source.replace(line(name), `${name} = ${value / (FIELDS[name].unit ?? 1)}`);
}

export function sourceBeside(source, { changes }) {
  return changes.reduce((text, [what, by]) => text.replace(what, by), source);
}
