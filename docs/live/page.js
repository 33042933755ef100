// The form, the editor and the buttons.
import { make } from "./make.js";
import { Picture } from "./picture.js";
import { fieldsOf, PROGRAMS, sourceBeside, withField } from "./programs.js";
import { Python } from "./python.js";

const QUIET = 2000; // asyncio's program is stopped after so many milliseconds without an event, once ours has ended
const OURS = "program.py";
const BESIDE = "beside.py";

const [primitive, about, fields, besideField, beside, besideName, run, stop, status, pictures, program, reset] = [
  ...["primitive", "about", "fields", "beside-field", "beside", "beside-name", "run", "stop", "status", "pictures"],
  ...["program", "reset"],
].map((id) => document.getElementById(id));

const python = new Python((state, why) => {
  const said = { loading: "Loading Python", ready: "Ready", broken: `Python cannot be started: ${why}` };
  // What was said of a run that was stopped stays until there is something new.
  if (state !== "ready" || status.textContent === said.loading) status.textContent = said[state];
  document.documentElement.dataset.python = state;
});

const chosen = () => PROGRAMS[primitive.value];

let choices = 0;

async function choose() {
  const choice = ++choices;
  const name = primitive.value;
  const response = await fetch(new URL(`programs/${name}.py`, import.meta.url));
  const source = await response.text();
  if (choice !== choices) return; // something else was chosen or written meanwhile
  program.value = source;
  program.rows = source.split("\n").length;
  about.textContent = chosen().about;
  besideField.hidden = !chosen().beside;
  beside.checked = Boolean(chosen().differs);
  besideName.textContent = chosen().beside?.title ?? "";
  fields.replaceChildren(...fieldsOf(source).map(fieldElement));
  if (!python.busy) pictures.replaceChildren(make("p", { className: "hint", textContent: "Nothing yet: press Run." }));
}

function fieldElement({ name, label, ...numbers }) {
  const input = make("input", { type: "number", id: name, required: true, ...numbers });
  input.addEventListener("input", () => {
    if (input.checkValidity()) program.value = withField(program.value, name, input.valueAsNumber);
  });
  return make("div", { className: "field" }, [make("label", { htmlFor: name, textContent: label }), input]);
}

// What is written in the program counts: a number that was changed there is shown in its field too.
function followProgram() {
  choices += 1; // a program that is still on its way does not take the place of what was written
  for (const { name, value } of fieldsOf(program.value)) {
    const input = document.getElementById(name);
    if (input) input.value = value; // a visitor may write such a line where there is no field for it
  }
}

async function start() {
  if (python.busy) return;
  const ours = new Picture("asynclocks");
  const others = besideField.hidden || !beside.checked ? null : new Picture(chosen().beside.title);
  pictures.replaceChildren(...[ours, others].filter(Boolean).map((picture) => picture.element));
  say("Running", true);
  const endings = [python.run(OURS, program.value, (event) => ours.hear(event)).then((how) => ours.end(how))];
  if (others) endings.push(runBeside(others, endings[0]));
  await Promise.all(endings);
  say(
    ["asynclocks: ", ours.summary, ...(others ? [` With ${chosen().beside.title}: `, others.summary] : [])].join(""),
    false,
  );
}

async function runBeside(picture, oursEnded) {
  let last = performance.now();
  const ending = python.run(BESIDE, sourceBeside(program.value, chosen().beside), (event) => {
    last = performance.now();
    picture.hear(event);
  });
  oursEnded.then(() => {
    last = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - last < QUIET) return;
      clearInterval(watch);
      picture.freeze(`Still waiting ${QUIET / 1000} s after ours had ended; stopped.`);
      python.stop(BESIDE);
    }, 100);
    ending.then(() => clearInterval(watch));
  });
  picture.end(await ending);
}

function say(text, busy) {
  status.textContent = text;
  run.setAttribute("aria-disabled", busy);
  stop.setAttribute("aria-disabled", !busy);
}

for (const [value, { title }] of Object.entries(PROGRAMS)) primitive.add(new Option(title, value));
primitive.addEventListener("change", choose);
reset.addEventListener("click", choose);
program.addEventListener("input", followProgram);
program.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  start();
});
document.getElementById("options").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
stop.addEventListener("click", () => {
  if (!python.busy) return;
  status.textContent = "Stopping";
  python.stop(OURS, BESIDE);
});
await choose();
