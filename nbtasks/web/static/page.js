// The page of a home: the board, or one run with all that is known of it. Its address says which.
// Python puts the text of base.js and output.js in front, so make(), say() and the like are theirs.

import * as boardModule from "./board.js";
import * as runModule from "./run.js";
import { Live, draw, liveAddress } from "./live.js";

const base = document.body.dataset.base;
const RUN_PATH = "runs/task-run/";
const READ_PAUSE_MS = 400; // between two readings of a run's record
const main = document.querySelector(".nbp-main");
const banner = document.querySelector(".nbp-banner");
let leave = () => {};

const live = new Live(liveAddress(base), (isConnected) => {
  say(banner, isConnected ? "" : "The server does not answer: what is shown may be old. Trying again…");
  show(banner, !isConnected);
});

/** Ask the API; throws an Error with the message that it gave. */
async function ask(path) {
  const response = await fetch(`${base}api/${path}`, { credentials: "same-origin" });
  const body = await response.json();
  if (!response.ok) throw new Error(body.message);
  return body;
}

function addressOf(run) {
  return base + RUN_PATH + run;
}

/** A link within this page. */
function makeLink(parent, href, text) {
  const link = make("a", "", parent);
  link.href = href;
  say(link, text);
  return link;
}

function moment(unixSeconds) {
  return unixSeconds ? new Date(1000 * unixSeconds).toLocaleString() : "";
}

// -- views --------------------------------------------------------------------------------------------

function makeAsked(parent) {
  const element = make("div", "nbp-asking", parent);
  say(element, "Asking the broker…");
  return (text) => {
    say(element, text);
    show(element, Boolean(text));
  };
}

function drawBoard() {
  document.title = "nbtasks";
  const problem = makeAsked(main);
  const model = live.show({ kind: "board" });
  model.addressOf = addressOf;
  return draw(model, boardModule, make("div", "", main), problem);
}

function drawRun(run) {
  document.title = "run · nbtasks";
  makeLink(make("p", "nbp-way", main), base, "← All runs");
  const problem = makeAsked(main);
  const model = live.show({ kind: "run", run });
  const record = makeRecord(main, () => model.get("value").id);
  model.on("change:value", () => {
    const value = model.get("value");
    document.title = `${value.shape} ${value.name} · nbtasks`;
    if (value.id !== run) {
      // it was called again: the card follows, and so does the address
      run = value.id;
      history.pushState(null, "", addressOf(run));
    }
    record.heard(`${value.id} ${value.state} ${value.attempts} ${value.start}`);
  });
  const stop = draw(model, runModule, make("div", "", main), problem);
  main.append(record.root);
  return () => {
    record.stop();
    stop();
  };
}

/** What is recorded of a run besides its card; read anew when the card tells of something else. */
function makeRecord(parent, idOf) {
  const root = make("div", "", parent);
  const given = makePart(root, "Parameters");
  const attempts = makePart(root, "Attempts");
  const history = makePart(root, "Timeline");
  const facts = makePart(root, "About");
  const output = makeOutput(root, idOf);
  let told = "";
  let timer = null;

  async function read() {
    timer = null;
    const id = idOf();
    try {
      const record = await ask(`runs/${id}`);
      if (id !== idOf()) return;
      drawGiven(given, record);
      drawAttempts(attempts, record);
      drawHistory(history, record);
      drawFacts(facts, record);
    } catch (error) {
      console.warn(`nbtasks: ${error.message}`); // the card says it as well
    }
  }

  return {
    root,
    heard(state) {
      if (state === told) return;
      told = state;
      output.changed();
      timer ??= setTimeout(read, READ_PAUSE_MS);
    },
    stop: () => clearTimeout(timer),
  };
}

function makePart(parent, title) {
  const root = make("section", "nbp-part", parent);
  root.hidden = true;
  say(make("h2", "", root), title);
  const scroller = make("div", "nbp-scroller", root);
  scroller.tabIndex = 0; // what scrolls must be reached by keyboard
  scroller.setAttribute("role", "group");
  scroller.setAttribute("aria-label", title);
  return scroller;
}

/** Put rows into a part as a table; without rows it is not there. */
function table(part, titles, rows) {
  show(part.parentElement, rows.length > 0);
  const root = make("table", "nbp-table");
  const head = make("tr", "", make("thead", "", root));
  for (const title of titles) say(make("th", "", head), title);
  const body = make("tbody", "", root);
  for (const row of rows) {
    const line = make("tr", "", body);
    for (const cell of row) {
      const place = make("td", "", line);
      place.className = String(cell.textContent ?? cell).length > 40 ? "nbp-words" : "";
      if (cell instanceof Node) place.append(cell);
      else say(place, cell);
    }
  }
  part.replaceChildren(root);
}

function code(text) {
  const element = make("code", "");
  element.dir = "auto";
  say(element, text);
  return element;
}

function drawGiven(part, record) {
  table(part, ["Name", "Value"], Object.entries(record.parameters).map(([name, text]) => [name, code(text)]));
}

function drawAttempts(part, record) {
  const now = Date.now() / 1000;
  const rows = record.attempt_records.map((attempt) => [
    String(attempt.number),
    attempt.outcome || "running",
    moment(attempt.start),
    duration((attempt.end || now) - attempt.start),
    `pid ${attempt.pid}`,
    attempt.worker,
  ]);
  table(part, ["Attempt", "Outcome", "Began", "Took", "Process", "Worker"], rows);
}

function drawHistory(part, record) {
  const first = record.history[0]?.at;
  const rows = record.history.map((state) => [
    moment(state.at),
    `+ ${duration(state.at - first)}`,
    state.state,
    state.message || "",
  ]);
  table(part, ["At", "After", "State", "Message"], rows);
}

function drawFacts(part, record) {
  const list = make("dl", "nbp-facts");
  const fact = (name, value) => {
    if (!value) return;
    say(make("dt", "", list), name);
    make("dd", "", list).append(value);
  };
  fact("Task", code(record.task));
  fact("Tags", record.tags.join(", "));
  if (record.parent) fact("Called by", makeLink(null, addressOf(record.parent), record.parent));
  fact("Id", code(record.id));
  fact("In Python", code(`nbtasks.get_run("${record.id}")`));
  show(part.parentElement, true);
  part.replaceChildren(list);
}

// -- output -------------------------------------------------------------------------------------------

/** All that is kept of the output, once somebody asks for it. */
function makeOutput(parent, idOf) {
  const root = make("details", "nbp-part", parent);
  say(make("summary", "", root), "All of its output");
  const place = make("div", "nbt nbp-output", root);
  let isRead = false;

  async function read() {
    isRead = true;
    say(place, "Reading…");
    try {
      const outputs = await ask(`runs/${idOf()}/output`);
      place.replaceChildren(...outputs.map(drawOutput));
      if (!outputs.length) say(place, "It has put out nothing.");
    } catch (error) {
      say(place, error.message);
    }
  }

  root.addEventListener("toggle", () => {
    if (root.open && !isRead) void read();
  });
  return {
    changed() {
      isRead = false;
      if (root.open) void read();
    },
  };
}

function drawOutput(output) {
  if (output.output_type === "stream") return preformatted(output.text);
  if (output.output_type === "error") {
    const element = preformatted(output.traceback.join("\n"));
    element.className = "nbp-error";
    return element;
  }
  const data = output.data || {};
  const mime = PICTURES.find((one) => one in data);
  if (!mime) return preformatted(data["text/plain"] || "");
  const picture = make("img", "");
  const text = Array.isArray(data[mime]) ? data[mime].join("") : data[mime];
  picture.src = mime === "image/svg+xml" ? `data:${mime},${encodeURIComponent(text)}` : `data:${mime};base64,${text.trim()}`;
  picture.alt = String(data["text/plain"] || "A figure");
  return picture;
}

function preformatted(text) {
  const element = make("pre", "");
  element.append(coloured(Array.isArray(text) ? text.join("") : String(text)));
  return element;
}

// -- which view ---------------------------------------------------------------------------------------

function go() {
  leave();
  main.replaceChildren();
  const path = location.pathname.slice(base.length);
  leave = path.startsWith(RUN_PATH) ? drawRun(decodeURIComponent(path.slice(RUN_PATH.length))) : drawBoard();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a");
  const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (!link || !isPlain || link.origin !== location.origin || !link.pathname.startsWith(base)) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  go();
});
window.addEventListener("popstate", go);
ask("status")
  .then((status) => say(document.querySelector(".nbp-home"), status.home))
  .catch(() => {}); // the view below says why
go();
