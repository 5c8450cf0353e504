// The board of a broker: counts by state and task, what workers do, and the runs that matter now, one of
// which may be unfolded.

const COLUMNS = [
  ["state", "State"],
  ["task", "Task"],
  ["took", "Took"],
  ["message", "Message"],
  ["id", "Id"],
  ["do", ""],
];
const WAITS = ["PENDING", "SCHEDULED"];
const DETAIL = { id: "" }; // the line below the run that is unfolded

export default {
  render({ model, el }) {
    const root = makeRoot(el, "board", "region");
    root.setAttribute("aria-label", "nbtasks board");
    const head = make("div", "nbt-line nbt-head", root);
    const counts = make("div", "nbt-legend", head);
    const workers = makeWorkers(head, root);
    const note = make("div", "nbt-note", root);
    note.setAttribute("role", "status");
    makeLost(root);
    const tasks = make("div", "nbt-tasks", root);
    tasks.setAttribute("role", "list");
    tasks.setAttribute("aria-label", "Runs by task");
    const search = makeSearch(model, root, () => draw(model.get("value")));
    const scroller = make("div", "nbt-scroller", root);
    const table = makeTable(scroller);
    const empty = makeEmpty(root);
    const asking = makeAsking(model, root);
    const clock = makeClock();
    const detail = makeDetail(model, clock);
    let unfolded = "";

    function unfold(run) {
      const wanted = unfolded === run ? "" : run;
      if (!tellKernel(model, root, { do: "unfold", run: wanted }) && wanted) return; // nobody tells of it
      unfolded = wanted;
      draw(model.get("value"));
      if (unfolded) detail.line.scrollIntoView({ block: "nearest" });
    }

    function makeRow(row) {
      if (row === DETAIL) return detail.line;
      const line = make("tr", "nbt-row");
      for (const [key] of COLUMNS) make("td", `nbt-col-${key}`, line);
      make("span", "nbt-badge", line.children[0]);
      line._fold = make("button", "nbt-fold", line.children[1]);
      line._fold.type = "button";
      line._name = make("bdi", "", line._fold);
      line._message = make("span", "nbt-words", line.children[3]);
      line._message.dir = "auto";
      line.addEventListener("click", () => {
        if (document.getSelection()?.isCollapsed ?? true) unfold(row.id); // else somebody copies from it
      });
      line._cancel = asking.button(line.lastElementChild, "cancel", "Cancel", "…", () => ({ run: row.id }));
      line._cancel.setAttribute("aria-label", `Cancel run ${row.name}`);
      return line;
    }

    function drawRow(line, row, looks) {
      if (row === DETAIL) return false;
      const [state, task, took, place, id] = line.children;
      Object.assign(line.dataset, { run: row.id, state: row.type });
      badge(state.firstElementChild, looks[row.type], row.state);
      say(line._name, row.attempts > 1 ? `${row.name} (attempt ${row.attempts})` : row.name);
      line._fold.setAttribute("aria-expanded", String(row.id === unfolded));
      [state.title, task.title] = [row.state, row.name];
      const until = row.live ? clock.now() : row.end || row.at;
      say(took, row.start ? duration(until - row.start) : "");
      const words = row.message || (row.live ? row.progress : "");
      say(line._message, words);
      show(line._message, Boolean(words));
      place.title = words;
      say(id, `…${row.id.slice(-8)}`); // ids made in one hour differ at their ends only
      id.title = row.id;
      show(line._cancel, row.cancellable);
      return row.live && row.start > 0;
    }

    function draw(board) {
      root.dataset.state = board.note ? "gone" : "live";
      legend(counts, board.parts);
      show(counts, board.parts.length > 0);
      workers.draw(board, clock);
      say(note, board.note);
      show(note, Boolean(board.note));
      keyed(tasks, board.tasks, (task) => task.key, makeTask, drawTask);
      const rows = board.rows.filter((row) => search.fits(row, board));
      const lines = rows.flatMap((row) => (row.id === unfolded ? [row, DETAIL] : [row]));
      let moves = false;
      keyed(table.body, lines, (row) => row.id, makeRow, (line, row) => {
        moves = drawRow(line, row, board.looks) || moves;
      });
      detail.draw(unfolded, table.columns());
      say(table.caption, `${many(rows.length, "run")}: what runs, what failed, then what changed last`);
      show(table.root, rows.length > 0);
      show(search.root, board.rows.length > 0 || Boolean(search.text()));
      empty.draw(board, rows.length, search.text());
      asking.draw(board.answers);
      root.classList.toggle("nbt-stale", Boolean(board.note));
      return (moves || workers.moves()) && !board.note;
    }

    const drawDetail = () => detail.draw(unfolded);
    model.on("change:detail", drawDetail);
    const stop = drawOften(model, root, draw, clock);
    return () => {
      model.off("change:detail", drawDetail);
      search.stop();
      asking.stop();
      stop();
    };
  },
};

function makeTask() {
  const item = make("div", "nbt-task");
  item.setAttribute("role", "listitem");
  make("span", "nbt-name", item).dir = "auto";
  make("div", "nbt-bar", item);
  make("span", "nbt-sum", item);
  return item;
}

function drawTask(item, task) {
  const [name, strip, sum] = item.children;
  say(name, task.name);
  name.title = task.name;
  bar(strip, task.parts, task.total, `${task.name}: ${spoken(task.parts)}`);
  const open = task.total - task.ended;
  say(sum, open ? `${grouped(task.ended)} of ${grouped(task.total)}` : grouped(task.total));
}

function makeTable(parent) {
  const root = make("table", "nbt-table", parent);
  const caption = make("caption", "nbt-hidden", root);
  const header = make("tr", "", make("thead", "", root));
  for (const [key, text] of COLUMNS) {
    const cell = make("th", `nbt-col-${key}`, header);
    cell.scope = "col";
    if (text) say(cell, text);
    else say(make("span", "nbt-hidden", cell), "Actions");
  }
  // a cell over columns that are hidden would take their width
  const columns = () => [...header.children].filter((cell) => getComputedStyle(cell).display !== "none").length;
  return { root, caption, columns, body: make("tbody", "", root) };
}

/** Filters at once what is here; the kernel looks for the rest. */
function makeSearch(model, parent, redraw) {
  const root = make("input", "nbt-filter", parent);
  root.type = "search";
  root.placeholder = "Filter by task, state or id";
  root.setAttribute("aria-label", "Filter runs by task, state or id");
  root.value = model.get("value").filter || "";
  let timer = null;
  root.addEventListener("input", () => {
    redraw();
    clearTimeout(timer);
    timer = setTimeout(() => tellKernel(model, parent, { do: "filter", text: root.value }), 250);
  });
  for (const kind of ["keydown", "keyup", "keypress"]) root.addEventListener(kind, (event) => event.stopPropagation());

  function fits(row, board) {
    if (board.filter === root.value) return true; // these rows were looked for already
    const words = root.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = `${row.name} ${row.state} ${row.type} ${row.id} ${row.message}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  return { root, fits, text: () => root.value, stop: () => clearTimeout(timer) };
}

/** "3 workers, 2 busy", which unfolds what each does. */
function makeWorkers(head, parent) {
  const title = make("button", "nbt-fold nbt-dim nbt-staff", head);
  title.type = "button";
  const wanted = make("div", "nbt-note", parent);
  make("span", "", wanted).textContent = "The runs wait for a worker: ";
  const hint = make("code", "", wanted);
  make("span", "", wanted).textContent = " starts up to two.";
  const list = make("div", "nbt-workers", parent);
  list.setAttribute("role", "list");
  list.setAttribute("aria-label", "Workers");
  list.hidden = true;
  let isOpen = false;
  title.addEventListener("click", () => {
    isOpen = !isOpen;
    title.setAttribute("aria-expanded", String(isOpen));
    show(list, isOpen && list.children.length > 0);
  });
  title.setAttribute("aria-expanded", "false");

  function drawWorker(item, worker, clock) {
    const [pid, state, what] = item.children;
    say(pid, worker.pid ? `pid ${worker.pid}` : "");
    say(state, worker.state);
    const since = worker.start ? ` for ${duration(clock.now() - worker.start)}` : "";
    say(what, worker.name ? `${worker.name}${since}` : "");
  }

  return {
    draw(board, clock) {
      const busy = board.busy ? `, ${grouped(board.busy)} busy` : "";
      show(title, board.heard);
      say(title, board.workers ? `${many(board.workers, "worker")}${busy}` : "no workers");
      const isWaiting = board.heard && !board.workers && board.parts.some((part) => WAITS.includes(part.type));
      say(hint, "%nbtasks workers 2");
      show(wanted, isWaiting && !board.note);
      title.disabled = !board.staff.length;
      const create = () => {
        const item = make("div", "nbt-worker");
        item.setAttribute("role", "listitem");
        for (const name of ["nbt-pid", "nbt-dim", "nbt-name"]) make("span", name, item);
        return item;
      };
      keyed(list, board.staff, (worker) => worker.id, create, (item, worker) => drawWorker(item, worker, clock));
      show(list, isOpen && board.staff.length > 0);
    },
    moves: () => isOpen,
  };
}

/** What is said instead of a table. */
function makeEmpty(parent) {
  const root = make("div", "nbt-empty", parent);
  const words = make("span", "", root);
  const hint = make("code", "", root);
  return {
    draw(board, rows, filter) {
      show(root, rows === 0);
      const isNew = !filter && board.heard && !board.note;
      say(words, filter ? "No run fits the filter." : board.heard ? "No runs yet. " : "Asking the broker…");
      if (isNew) say(words, "No runs yet. Try ");
      say(hint, "nbtasks.task(len).delay([1, 2, 3])");
      show(hint, isNew);
    },
  };
}

/** The line below a run: call, message, attempts, the end of its output. One is asked for at a time. */
function makeDetail(model, clock) {
  const line = make("tr", "nbt-detail");
  const cell = make("td", "", line);
  const root = make("div", "nbt-inner", cell);
  const call = make("code", "nbt-call", root);
  call.dir = "auto";
  const message = make("div", "nbt-message", root);
  message.dir = "auto";
  const attempts = make("div", "nbt-attempts", root);
  const id = make("div", "nbt-dim nbt-id", root);
  const link = make("a", "", make("div", "", root));
  link.textContent = "All about this run";
  link.hidden = !model.addressOf; // a notebook has no page of it
  link.target = "nbtasks-run";
  const tail = makeTail(root);
  const words = make("div", "nbt-dim", root);

  function drawAttempt(item, attempt) {
    const took = attempt.start ? duration((attempt.end || clock.now()) - attempt.start) : "";
    say(item, [`attempt ${attempt.number}`, attempt.outcome || "running", took, `pid ${attempt.pid}`].filter(Boolean).join(", "));
  }

  return {
    line,
    draw(run, columns) {
      if (columns) cell.colSpan = columns;
      const told = model.get("detail") || {};
      const isThere = Boolean(run) && told.id === run;
      line.dataset.run = run;
      say(call, isThere ? told.call : "");
      say(message, isThere ? told.message : "");
      say(id, run);
      if (model.addressOf) link.href = model.addressOf(run);
      keyed(attempts, (isThere && told.attempts) || [], (attempt) => attempt.number, () => make("div", "nbt-dim"), drawAttempt);
      tail.of(isThere ? told.call : run);
      tail.draw(isThere ? told.tail : null);
      const isSilent = isThere && !told.tail?.text;
      say(words, isThere ? (isSilent ? told.note || "It has put out nothing." : told.note) : "Asking…");
      show(words, Boolean(words.textContent));
    },
  };
}
