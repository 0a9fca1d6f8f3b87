// What computes lives here, so that the page stays responsive: as `#thinker` the models, as `#solver` everything else. Answers
// `{ id, call, args }` with `{ id, result }` or `{ id, error }`; tells by itself `{ told: "solver" | "ready" | "all" | "broken" }`.

import init, * as hrm from "./hrm_web.js";

const models = new Map();
let thinker = null;

/** The model of a name, fetched once. */
function model(name) {
  if (!models.has(name)) models.set(name, fetchModel(name));
  return models.get(name);
}

async function fetchModel(name) {
  const response = await fetch(`./models/${name}.safetensors`);
  if (!response.ok) throw new Error(`models/${name}.safetensors: the server says ${response.status}`);
  return new hrm.Model(name, new Uint8Array(await response.arrayBuffer()));
}

const calls = {
  read: (family, text) => JSON.parse(hrm.read(family, text)),
  generate: (family, rows, cols, seed) => JSON.parse(hrm.generate(family, rows, cols, seed)),
  check: (puzzle) => JSON.parse(hrm.check(JSON.stringify(puzzle))),
  work(puzzle, method) {
    const start = performance.now();
    const worked = JSON.parse(hrm.work(JSON.stringify(puzzle), method));
    return { ...worked, milliseconds: performance.now() - start };
  },
  async start(puzzle) {
    const text = JSON.stringify(puzzle);
    const name = hrm.model_name(text);
    const chosen = await model(name);
    thinker?.free();
    thinker = null;
    thinker = chosen.start(text);
    return name;
  },
  think() {
    const start = performance.now();
    const thought = JSON.parse(thinker.think());
    return { ...thought, milliseconds: performance.now() - start };
  },
  logits: () => thinker.logits(),
};

async function load() {
  if (self.location.hash === "#solver") {
    await init();
    return postMessage({ told: "solver" });
  }
  const kinds = fetch("./kinds.json").then((response) => response.json());
  await init();
  // The page starts with the first one.
  const [first, ...others] = new Set((await kinds).map((kind) => kind.model));
  await model(first);
  postMessage({ told: "ready" });
  loadOthers(others);
}

async function loadOthers(names) {
  try {
    for (const name of names) await model(name);
    postMessage({ told: "all" });
  } catch {
    // Told when one of them is needed.
    names.forEach((name) => models.delete(name));
  }
}

const loaded = load();
loaded.catch((error) => postMessage({ told: "broken", why: String(error.message ?? error) }));

// One call after the other: a later one may not overtake an earlier one that waits for a model.
let queue = loaded.catch(() => {});
onmessage = ({ data: { id, call, args } }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id, result: await calls[call](...args) });
    } catch (error) {
      postMessage({ id, error: String(error.message ?? error), broken: error instanceof WebAssembly.RuntimeError });
    }
  });
};
