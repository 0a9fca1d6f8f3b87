// The page: a board to write into, and what the worker says about it.

/** The kinds of puzzles with their examples, and what is known of their models. */
const KINDS = await (await fetch("./kinds.json")).json();

const $ = (id) => document.getElementById(id);

/** What is shown. `shown` counts steps: 0 is the puzzle, `n` what step `n` made of it. */
const state = {
  kind: KINDS[0],
  puzzle: null,
  /** What there is to know of the puzzle; null until the worker has looked at it. */
  checked: null,
  thoughts: [],
  shown: 0,
  /** Which turn of thinking goes on; 0 if none. */
  running: 0,
  /** Counts puzzles and edits: answers of the worker to older ones are dropped. */
  version: 0,
  /** The worker's model has the puzzle as of this version. */
  started: -1,
  /** The cell that the keys write into. */
  cursor: 0,
  /** What the mouse draws into a maze. */
  tool: "wall",
  ready: false,
  broken: false,
};

// ---- The workers ----

/** A worker, whose calls are answered one after the other. */
class Caller {
  #address;
  #patience;
  #worker;
  #calls = 0;
  #waiting = new Map();
  #ready = false;

  /** With a patience in milliseconds, what takes longer is given up. */
  constructor(address, patience) {
    this.#address = new URL(address, import.meta.url);
    this.#patience = patience;
    this.#start();
  }

  #start() {
    this.#worker = new Worker(this.#address, { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#answer(data);
    this.#worker.onerror = (event) => broken(event.message ?? "it cannot be loaded");
  }

  #answer(data) {
    if (data.told) {
      this.#ready = true;
      return told(data);
    }
    const { resolve, reject, timer } = this.#waiting.get(data.id);
    clearTimeout(timer);
    this.#waiting.delete(data.id);
    if (!("error" in data)) return resolve(data.result);
    if (data.broken) broken(data.error);
    reject(new Error(data.error));
  }

  #giveUp() {
    this.#worker.terminate();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#ready = false;
    this.#start();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(new Error(`given up after ${this.#patience / 1000} seconds`));
    }
  }

  call(name, ...args) {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      const entry = { resolve, reject };
      // While the worker loads, time does not count.
      const wait = () => setTimeout(() => (this.#ready ? this.#giveUp() : (entry.timer = wait())), this.#patience);
      if (this.#patience) entry.timer = wait();
      this.#waiting.set(id, entry);
      this.#worker.postMessage({ id, call: name, args });
    });
  }
}

// One thinks. The other does what knows no bounds, such as a search on a large board, and can be given up.
const thinker = new Caller("./worker.js#thinker");
const solver = new Caller("./worker.js#solver", 15000);
const THINKING = ["start", "think", "logits"];

function call(name, ...args) {
  return (THINKING.includes(name) ? thinker : solver).call(name, ...args);
}

function told(message) {
  if (message.told === "ready") {
    state.ready = true;
    document.body.dataset.ready = "yes";
    drawControls();
    if (!state.thoughts.length) say("Ready. Press Think, or write your own puzzle.");
  } else if (message.told === "broken") {
    broken(message.why);
  } else if (message.told === "all") {
    keepForOffline();
  }
}

function broken(why) {
  if (state.broken) return;
  state.ready = false;
  problem(`The network cannot run here: ${why}. It needs a browser with WebAssembly SIMD (2023 or newer). Reload the page to try again.`);
  state.broken = true;
  say("");
  $("offline").textContent = "The network cannot run here.";
  drawControls();
}

/** Asks the browser to keep the page, where it can. */
async function keepForOffline() {
  $("offline").textContent = "All models are loaded: this tab needs no internet any more.";
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    $("offline").textContent = "All models are loaded, and the page is kept: it opens offline, too.";
  } catch {
    // Not over https, or switched off: the tab works all the same.
  }
  document.body.dataset.loaded = "yes";
}

// ---- Puzzles ----

const BLANK = 1;
const [WALL, FREE, START, GOAL, PATH] = [1, 2, 3, 4, 5];
const isMaze = () => state.puzzle.family === "maze";

/** How a token of a Sudoku is written: 1 to 9, then A to P. */
function symbol(token) {
  const value = token - 1;
  if (value < 1) return "";
  return value < 10 ? String(value) : String.fromCharCode(55 + value);
}

/** The value that a key stands for; 0 for none. */
function valueOf(key) {
  if (/^[1-9]$/.test(key)) return Number(key);
  if (/^[a-p]$/i.test(key)) return key.toUpperCase().charCodeAt(0) - 55;
  return 0;
}

function empty({ family, rows, cols, boxes }) {
  const tokens = new Array(rows * cols).fill(family === "maze" ? FREE : BLANK);
  if (family === "maze") {
    tokens[0] = START;
    tokens[tokens.length - 1] = GOAL;
  }
  return { family, rows, cols, boxes, tokens };
}

/** Shows another puzzle. */
function show(puzzle) {
  state.kind = KINDS.find((kind) => kind.family === puzzle.family && kind.rows === puzzle.rows) ?? another(puzzle);
  state.puzzle = puzzle;
  state.cursor = Math.min(state.cursor, puzzle.tokens.length - 1);
  drawKind();
  build();
  edited();
}

/** A kind of puzzle that the page does not offer, but that was pasted. */
function another({ family, rows, cols }) {
  const card = family === "maze"
    ? `Mazes of ${rows}×${cols}: the model knows no places, so it takes mazes of every size. It was trained on 15×15 and 30×30.`
    : `${rows}×${cols}: the model for every size, which was trained on 4×4, 6×6, 9×9 and 16×16 and has never seen this one. It solved 100 of 100 easy boards of 12×12.`;
  return { id: "", family, examples: [], unseen: true, card };
}

/** After any change of the puzzle: what was thought about the old one is gone. */
function edited() {
  stop();
  state.version += 1;
  state.thoughts = [];
  state.shown = 0;
  state.checked = null;
  problem("");
  draw();
  check();
}

/** What the classical solvers are called outside of the command line. */
const METHODS = {
  dfs: "depth-first search",
  dlx: "dancing links",
  coloring: "graph colouring",
  bfs: "breadth-first search",
  astar: "A*",
  "wall-left": "left hand on the wall",
  "wall-right": "right hand on the wall",
  tremaux: "Trémaux's rule",
  "dead-end": "dead-end filling",
};

let checking = 0;

/** Looks the puzzle over when the hand rests. */
function check() {
  clearTimeout(checking);
  checking = setTimeout(async () => {
    const version = state.version;
    try {
      const checked = await call("check", state.puzzle);
      if (version !== state.version) return;
      state.checked = checked;
      const isEmpty = !isMaze() && state.puzzle.tokens.every((token) => token === BLANK);
      if (!state.thoughts.length && state.ready) {
        if (isEmpty) say("Write a puzzle, paste one, or take an example.");
        else if (checked.fault) say(`Note: ${checked.fault}. The network can think about it all the same.`);
        else if (!checked.solution) say("Ready. The puzzle is too open to know whether it has one solution.");
        else say("Ready. The puzzle has one solution.");
      }
      drawMethods();
      classical();
      draw();
    } catch (error) {
      if (version === state.version) problem(`The puzzle cannot be checked: ${error.message}.`);
    }
  }, 150);
}

async function classical() {
  const method = $("method").value;
  const version = state.version;
  if (!method || !state.checked) return;
  for (const part of ["result", "work", "time"]) $(`classic-${part}`).textContent = "…";
  $("classic").textContent = METHODS[method] ?? method;
  if (state.checked.conflicts.length || (!state.checked.solution && !state.checked.fault)) {
    $("classic-result").textContent = state.checked.conflicts.length ? "givens break the rules" : "too open to try here";
    $("classic-work").textContent = $("classic-time").textContent = "–";
    return;
  }
  try {
    const worked = await call("work", state.puzzle, method);
    if (version !== state.version || method !== $("method").value) return;
    $("classic-result").textContent = worked.outcome ?? (worked.answer ? "right" : "no solution");
    $("classic-work").textContent = worked.work.map(([unit, count]) => plural(count, unit)).join(", ") || "–";
    $("classic-time").textContent = time(worked.milliseconds);
  } catch (error) {
    if (version !== state.version) return;
    $("classic-result").textContent = error.message;
    $("classic-work").textContent = $("classic-time").textContent = "–";
  }
}

function plural(count, unit) {
  const units = unit.endsWith("s") ? `${unit}es` : `${unit}s`;
  return `${count.toLocaleString("en")} ${count === 1 ? unit : units}`;
}

function time(milliseconds) {
  if (milliseconds < 1) return "under 1 ms";
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

// ---- Thinking ----

const limit = () => Number($("limit").value);
const isOver = (thought) => thought && (thought.settled || thought.step >= limit());

/** Runs one more step. */
async function think() {
  const version = state.version;
  if (state.started !== version) {
    await call("start", state.puzzle);
    if (version !== state.version) return;
    state.started = version;
  }
  const thought = await call("think");
  if (version !== state.version) return;
  state.thoughts.push(thought);
  state.shown = state.thoughts.length;
  draw();
}

let turns = 0;

/** Runs until something else is wanted; the turn that `state.running` says is the one that may go on. */
async function turn(work) {
  const mine = ++turns;
  state.running = mine;
  drawControls();
  try {
    await work(() => state.running === mine);
  } catch (error) {
    if (state.running === mine) problem(error.message);
  }
  if (state.running === mine) stop();
}

function run() {
  if (state.running) return stop();
  const pause = () => new Promise((resolve) => setTimeout(resolve, Number($("speed").value)));
  return turn(async (goesOn) => {
    // What is known already is played again.
    if (state.shown < state.thoughts.length || isOver(state.thoughts.at(-1))) state.shown = 0;
    while (goesOn() && state.shown < state.thoughts.length) {
      state.shown += 1;
      draw();
      await pause();
    }
    while (goesOn() && !isOver(state.thoughts.at(-1))) {
      await think();
      if (!isOver(state.thoughts.at(-1))) await pause();
    }
  });
}

function oneStep() {
  stop();
  if (state.shown < state.thoughts.length) return scrub(state.shown + 1);
  return turn(think);
}

function stop() {
  state.running = 0;
  drawControls();
}

function scrub(step) {
  stop();
  state.shown = Math.max(0, Math.min(step, state.thoughts.length));
  draw();
}

// ---- Drawing ----

const thought = () => state.thoughts[state.shown - 1];

/** Makes the cells. */
function build() {
  const { rows, cols, boxes } = state.puzzle;
  const board = $("board");
  board.style.setProperty("--rows", rows);
  board.style.setProperty("--cols", cols);
  board.classList.toggle("maze", isMaze());
  board.setAttribute("aria-rowcount", rows);
  board.setAttribute("aria-colcount", cols);
  const made = [];
  for (let row = 0; row < rows; row++) {
    const line = document.createElement("div");
    line.className = "row";
    line.setAttribute("role", "row");
    for (let col = 0; col < cols; col++) {
      const cell = document.createElement("div");
      cell.className = "cell";
      cell.setAttribute("role", "gridcell");
      cell.dataset.cell = row * cols + col;
      cell.append(document.createElement("span"));
      if (boxes) {
        cell.classList.toggle("box-right", (col + 1) % boxes[1] === 0 && col + 1 < cols);
        cell.classList.toggle("box-below", (row + 1) % boxes[0] === 0 && row + 1 < rows);
      }
      line.append(cell);
    }
    made.push(line);
  }
  board.replaceChildren(...made);
  drawPad();
}

const cells = () => $("board").querySelectorAll(".cell");

function draw() {
  drawBoard();
  drawControls();
  drawCurve();
  drawStatus();
}

function drawBoard() {
  const now = thought();
  const { tokens: given, cols } = state.puzzle;
  const tokens = now?.tokens ?? given;
  const changed = new Set(now?.changed);
  const conflicts = new Set(now ? now.conflicts : state.checked?.conflicts);
  const guessed = new Set(now?.guessed);
  cells().forEach((cell, index) => {
    const token = tokens[index];
    const isGiven = isMaze() ? true : given[index] > BLANK;
    cell.classList.toggle("given", !isMaze() && isGiven);
    cell.classList.toggle("changed", changed.has(index));
    cell.classList.toggle("conflict", conflicts.has(index));
    cell.classList.toggle("guessed", guessed.has(index));
    const certainty = now ? now.certainty[index] : 1;
    cell.style.setProperty("--certainty", now && !(isGiven && !isMaze()) ? 0.25 + 0.75 * certainty : 1);
    let text, name;
    if (isMaze()) {
      cell.classList.toggle("wall", token === WALL);
      cell.classList.toggle("path", token === PATH);
      // Where start and goal are, whatever the network makes of them.
      text = given[index] === START ? "S" : given[index] === GOAL ? "G" : "";
      name = { [WALL]: "wall", [FREE]: "free", [START]: "start", [GOAL]: "goal", [PATH]: "path" }[token] ?? "nothing";
    } else {
      text = symbol(token);
      name = text || "blank";
      if (text && isGiven) name += ", given";
    }
    if (now && !(isGiven && !isMaze())) name += `, ${Math.round(100 * certainty)} % sure`;
    if (changed.has(index)) name += ", changed";
    if (conflicts.has(index)) name += ", breaks the rules";
    if (guessed.has(index)) name += ", guessed";
    if (cell.firstChild.textContent !== text) cell.firstChild.textContent = text;
    cell.setAttribute("aria-label", `row ${Math.floor(index / cols) + 1}, column ${(index % cols) + 1}: ${name}`);
    cell.tabIndex = index === state.cursor ? 0 : -1;
  });
}

function drawControls() {
  const { running, ready, thoughts, shown } = state;
  $("think").textContent = running ? "Pause" : thoughts.length && !isOver(thoughts.at(-1)) ? "Go on" : "Think";
  $("think").disabled = !ready;
  $("step").disabled = !ready || running;
  const scrubber = $("scrubber");
  scrubber.max = thoughts.length;
  scrubber.value = shown;
  scrubber.disabled = !thoughts.length;
  scrubber.setAttribute("aria-valuetext", shown ? `step ${shown} of ${thoughts.length}` : "the puzzle");
  $("back").disabled = shown === 0;
  $("forth").disabled = shown === thoughts.length;
  $("shown").textContent = shown ? `step ${shown} of ${thoughts.length}` : "puzzle";
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function problem(text) {
  // Nothing is worse than that the network does not run.
  if (state.broken) return;
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

const percent = (share) => (share > 0.99 && share < 1 ? "over 99" : share < 0.01 ? "under 1" : Math.round(100 * share));

function drawStatus() {
  const now = thought();
  const last = state.thoughts.at(-1);
  drawNetwork(last);
  if (!now) return;
  const sure = `it gives itself a chance of ${percent(now.halt_probability)} % to be right`;
  const end = now === last && isOver(now);
  if (now.fault === null) {
    const rest = now.halts ? "and it knows: it stops" : "but it does not believe it yet";
    const tries = now.attempt > 1 ? `, after ${plural(now.attempt - 1, "guess")} of its own` : "";
    say(`Step ${now.step}: right, ${rest} (${sure}).${end ? ` Solved in ${plural(now.step, "step")}${tries}.` : ""}`);
    return;
  }
  const parts = [`Step ${now.step}: ${plural(now.changed.length, "cell")} changed, ${now.conflicts.length} break the rules; ${sure}.`];
  if (now.attempt > 1) parts.push(`Attempt ${now.attempt}: it takes ${plural(now.guessed.length, "guess")} as given (framed).`);
  if (now.halts && !end) parts.push("It would stop here, but the answer is wrong, so it thinks on.");
  if (end) {
    parts.push(`Not solved: ${now.fault}.`);
    const solution = state.checked?.solution;
    if (solution) {
      const wrong = solution.filter((token, cell) => token !== now.tokens[cell]).length;
      parts.push(isMaze() ? `${plural(wrong, "cell")} differ from a shortest path.` : `${plural(wrong, "cell")} of ${solution.length} are wrong.`);
    }
    if (state.kind.unseen) parts.push("It has never seen boards of this size.");
    else if (!isMaze() && limit() < 1024) parts.push("More steps may help.");
  }
  say(parts.join(" "));
}

function drawNetwork(last) {
  const set = (part, text) => ($(`net-${part}`).textContent = text);
  if (!last) return ["result", "work", "time"].forEach((part) => set(part, "–"));
  set("result", last.fault === null ? "right" : isOver(last) ? "wrong" : "thinking");
  set("work", plural(last.step, "step"));
  set("time", time(state.thoughts.reduce((sum, { milliseconds }) => sum + milliseconds, 0)));
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawCurve() {
  const { thoughts, shown } = state;
  const [left, right, top, bottom] = [34, 312, 10, 112];
  const most = Math.max(8, thoughts.length);
  const x = (step) => left + ((right - left) * (step - 1)) / (most - 1);
  const y = (share) => bottom - (bottom - top) * share;
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(svg("line", { class: "axis", x1: left, x2: right, y1: y(share), y2: y(share) }));
    parts.push(svg("text", { x: left - 4, y: y(share) + 3, "text-anchor": "end" }, `${100 * share} %`));
  }
  const every = Math.ceil(most / 8);
  for (let step = 1; step <= most; step += every) {
    parts.push(svg("text", { x: x(step), y: bottom + 12, "text-anchor": "middle" }, step));
  }
  if (shown) parts.push(svg("line", { class: "here", x1: x(shown), x2: x(shown), y1: top, y2: bottom }));
  const mean = ({ certainty }) => certainty.reduce((sum, share) => sum + share, 0) / certainty.length;
  const line = (share) => thoughts.map((thought) => `${x(thought.step)},${y(share(thought))}`).join(" ");
  parts.push(svg("polyline", { class: "sure", points: line(mean) }));
  parts.push(svg("polyline", { class: "halt", points: line((thought) => thought.halt_probability) }));
  for (const { step, halt_probability } of thoughts) {
    parts.push(svg("circle", { class: "dot", cx: x(step), cy: y(halt_probability), r: step === shown ? 4 : 2 }));
  }
  $("curve").replaceChildren(...parts);
  const told = thoughts.map((thought) => `step ${thought.step}: ${percent(thought.halt_probability)} %`);
  $("curve").setAttribute("aria-label", thoughts.length ? `Chance of being right, as the network says: ${told.join(", ")}` : "No steps yet");
}

/** The kind of puzzle: examples, help, what is known of the model. */
function drawKind() {
  const { kind } = state;
  for (const input of $("kinds").querySelectorAll("input")) input.checked = input.value === kind.id;
  const options = kind.examples.map(({ name }, index) => new Option(name, index));
  $("example").replaceChildren(new Option("Example…", ""), ...options);
  $("card").textContent = kind.card;
  const isMaze = kind.family === "maze";
  $("help").textContent = isMaze
    ? "Draw with the mouse or a finger. Keys: arrows move, space sets or takes a wall, S and G place start and goal."
    : "Keys: arrows move, digits (and letters on large boards) write, Delete clears. Writing into an answer starts anew.";
}

function drawMethods() {
  const { methods } = state.checked;
  const select = $("method");
  if ([...select.options].map(({ value }) => value).join() === methods.join()) return;
  select.replaceChildren(...methods.map((method) => new Option(METHODS[method] ?? method, method)));
}

/** Buttons for those without a keyboard. */
function drawPad() {
  const button = (text, label, press) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", press);
    return made;
  };
  let made;
  if (isMaze()) {
    made = [["wall", "Wall"], ["free", "Free"], ["start", "Start"], ["goal", "Goal"]].map(([tool, text]) => {
      const press = button(text, "", () => {
        state.tool = tool;
        drawPad();
      });
      press.setAttribute("aria-pressed", tool === state.tool);
      return press;
    });
  } else {
    const values = Array.from({ length: state.puzzle.rows }, (_, index) => symbol(index + 2));
    made = values.map((text) => button(text, `write ${text}`, () => write(state.cursor, valueOf(text))));
    made.push(button("⌫", "clear the cell", () => write(state.cursor, 0)));
  }
  const count = made.length;
  $("pad").style.setProperty("--wide", count <= 10 ? count : Math.ceil(count / 2));
  $("pad").style.setProperty("--narrow", count <= 4 ? count : Math.ceil(count / (count <= 10 ? 2 : 3)));
  $("pad").replaceChildren(...made);
}

// ---- Writing ----

/** Writes a value into a Sudoku, 0 for a blank. */
function write(cell, value) {
  const { tokens, rows } = state.puzzle;
  if (isMaze() || value > rows || (tokens[cell] === value + 1 && !state.thoughts.length)) return;
  tokens[cell] = value + 1;
  edited();
}

/** Draws into a maze. */
function paint(cell, tool) {
  const { tokens } = state.puzzle;
  const token = { wall: WALL, free: FREE, start: START, goal: GOAL }[tool];
  // Start and goal move; nothing is drawn over them.
  if (tokens[cell] === token || tokens[cell] === START || tokens[cell] === GOAL) return;
  if (token === START || token === GOAL) tokens[tokens.indexOf(token)] = FREE;
  tokens[cell] = token;
  edited();
}

function moveTo(cell) {
  const all = cells();
  if (cell < 0 || cell >= all.length) return;
  all[state.cursor].tabIndex = -1;
  state.cursor = cell;
  all[cell].tabIndex = 0;
  all[cell].focus();
}

$("board").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { rows, cols } = state.puzzle;
  const cell = state.cursor;
  const [row, col] = [Math.floor(cell / cols), cell % cols];
  const moves = {
    ArrowLeft: [row, col - 1],
    ArrowRight: [row, col + 1],
    ArrowUp: [row - 1, col],
    ArrowDown: [row + 1, col],
    Home: [row, 0],
    End: [row, cols - 1],
    PageUp: [0, col],
    PageDown: [rows - 1, col],
  };
  const target = moves[event.key];
  if (target) {
    const inside = target[0] >= 0 && target[0] < rows && target[1] >= 0 && target[1] < cols;
    if (inside) moveTo(target[0] * cols + target[1]);
  } else if (isMaze()) {
    if (event.key === " " || event.key === "Enter") paint(cell, state.puzzle.tokens[cell] === WALL ? "free" : "wall");
    else if (event.key === "#") paint(cell, "wall");
    else if (["Delete", "Backspace", "."].includes(event.key)) paint(cell, "free");
    else if (/^[sg]$/i.test(event.key)) paint(cell, event.key.toLowerCase() === "s" ? "start" : "goal");
    else return;
  } else if (["Delete", "Backspace", "0", ".", " "].includes(event.key)) {
    write(cell, 0);
  } else if (valueOf(event.key)) {
    write(cell, valueOf(event.key));
  } else {
    return;
  }
  event.preventDefault();
});

let drawing = null;

const cellAt = (event) => {
  const found = document.elementFromPoint(event.clientX, event.clientY)?.closest("#board .cell");
  return found ? Number(found.dataset.cell) : null;
};

$("board").addEventListener("pointerdown", (event) => {
  const cell = cellAt(event);
  if (cell === null || event.button !== 0) return;
  event.preventDefault();
  moveTo(cell);
  if (!isMaze()) return;
  const token = state.puzzle.tokens[cell];
  // A start or goal under the pointer is dragged; a wall tool on a wall takes walls.
  if (token === START || token === GOAL) drawing = token === START ? "start" : "goal";
  else drawing = state.tool === "wall" && token === WALL ? "free" : state.tool;
  paint(cell, drawing);
});
addEventListener("pointermove", (event) => {
  if (drawing === null) return;
  const cell = cellAt(event);
  if (cell !== null) paint(cell, drawing);
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (drawing = null));

// ---- The other controls ----

$("kinds").append(
  ...KINDS.map(({ id, name }) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "kind", value: id });
    input.addEventListener("change", () => choose(KINDS.find((kind) => kind.id === id)));
    label.append(input, name);
    return label;
  }),
);

async function choose(kind) {
  state.tool = "wall";
  await take(kind, 0);
}

/** Shows an example. */
async function take(kind, index) {
  try {
    const [entry] = await call("read", kind.family, kind.examples[index].text);
    if ("Err" in entry.puzzle) throw new Error(entry.puzzle.Err);
    show(entry.puzzle.Ok);
  } catch (error) {
    problem(error.message);
  }
}

$("example").addEventListener("change", () => {
  if ($("example").value !== "") take(state.kind, Number($("example").value));
});

$("new").addEventListener("click", async () => {
  const { family, rows, cols } = state.puzzle;
  $("new").disabled = true;
  try {
    show(await call("generate", family, rows, cols, Math.floor(Math.random() * 2 ** 32)));
  } catch (error) {
    problem(error.message);
  }
  $("new").disabled = false;
});

$("clear").addEventListener("click", () => show(empty(state.puzzle)));

$("paste").addEventListener("click", () => {
  const box = $("paste-box");
  box.hidden = !box.hidden;
  $("paste").setAttribute("aria-expanded", !box.hidden);
  if (!box.hidden) $("text").focus();
});

let pasted = [];

/** Reads what was pasted as the kind that is chosen, else as the other one. */
async function load() {
  const text = $("text").value;
  const families = [...new Set([state.kind.family, "sudoku", "maze"])];
  let first;
  for (const family of families) {
    try {
      const entries = await call("read", family, text);
      const good = entries.filter(({ puzzle }) => "Ok" in puzzle);
      if (!good.length) throw new Error(entries[0].puzzle.Err);
      pasted = good.map(({ puzzle }) => puzzle.Ok);
      $("which").replaceChildren(...good.map(({ line }, index) => new Option(`${index + 1} (line ${line})`, index)));
      $("which-label").hidden = good.length < 2;
      show(structuredClone(pasted[0]));
      const bad = entries.length - good.length;
      if (bad) problem(`${plural(bad, "entry").replace("entrys", "entries")} left out; the first: ${entries.find(({ puzzle }) => "Err" in puzzle).puzzle.Err}.`);
      return;
    } catch (error) {
      first ??= error;
    }
  }
  problem(`This is no puzzle: ${first.message}.`);
}

$("load").addEventListener("click", load);
$("which").addEventListener("change", () => show(structuredClone(pasted[Number($("which").value)])));

$("think").addEventListener("click", run);
$("step").addEventListener("click", oneStep);
$("back").addEventListener("click", () => scrub(state.shown - 1));
$("forth").addEventListener("click", () => scrub(state.shown + 1));
$("scrubber").addEventListener("input", () => scrub(Number($("scrubber").value)));
$("method").addEventListener("change", classical);
$("limit").addEventListener("change", () => {
  drawControls();
  drawStatus();
});

// The board is there before the model is.
show(empty({ family: "sudoku", rows: 9, cols: 9, boxes: [3, 3] }));
choose(KINDS[0]);

// For tests: what the page asks its worker can be asked from outside.
globalThis.hrm = { call, state };
