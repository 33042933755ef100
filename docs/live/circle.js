// A deadlock as its circle, drawn from what DeadlockError says link by link:
// "task 'a' waits for Mutex 'x' held by task 'b'".
import { make, makeSvg } from "./make.js";

const LINK = /^(?<waiter>.+) waits for (?<lock>.+) held by (?<holder>.+)$/;
const SIZE = 400;
const RADIUS = 140;

export function circle(links) {
  const words = make(
    "ol",
    {},
    links.map((link) => make("li", { textContent: link })),
  );
  const caption = make("figcaption", {}, [make("strong", { textContent: "The circle" }), words]);
  const parts = links.map((link) => link.match(LINK)?.groups);
  return make("figure", { className: "circle" }, [...(parts.every(Boolean) ? [drawing(parts)] : []), caption]);
}

function drawing(parts) {
  // Round the circle: a task, the lock that it waits for, the task that holds it, ...
  const nodes = parts.flatMap(({ waiter, lock }) => [
    { kind: "task", label: short(waiter) },
    { kind: "lock", label: short(lock) },
  ]);
  const turn = (2 * Math.PI) / nodes.length;
  const at = (number) => [Math.cos, Math.sin].map((of) => SIZE / 2 + RADIUS * of(number * turn - Math.PI / 2));
  const arrows = nodes.map((_, number) => {
    // The arc ends before the next label begins.
    const margin = Math.min(0.35, 34 / (RADIUS * turn));
    const [[x, y], [toX, toY]] = [at(number + margin), at(number + 1 - margin)];
    return makeSvg("path", { d: `M${x} ${y} A${RADIUS} ${RADIUS} 0 0 1 ${toX} ${toY}`, "marker-end": "url(#arrow)" });
  });
  const labels = nodes.flatMap(({ kind, label }, number) => {
    const [x, y] = at(number);
    const width = 7 * label.length + 14;
    const box = { x: x - width / 2, y: y - 12, width, height: 24, rx: kind === "task" ? 12 : 2, class: kind };
    return [makeSvg("rect", box), makeSvg("text", { x, y: y + 4 }, [label])];
  });
  const arrow = { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" };
  const head = makeSvg("marker", arrow, [makeSvg("path", { d: "M0 0 L8 4 L0 8 z" })]);
  const frame = {
    viewBox: `0 0 ${SIZE} ${SIZE}`,
    role: "img",
    "aria-label": "The deadlock's circle: the list beside says the same",
  };
  return makeSvg("svg", frame, [makeSvg("defs", {}, [head]), ...arrows, ...labels]);
}

// "Mutex 'fork 1'" as "fork 1"
function short(name) {
  return name.match(/'(.+)'/)?.[1] ?? name;
}
