// The board of a broker: counts by state and task, what workers do, and the runs that matter now.

const COLUMNS = [
  ["state", "State"],
  ["task", "Task"],
  ["took", "Took"],
  ["message", "Message"],
  ["id", "Id"],
  ["do", ""],
];

export default {
  render({ model, el }) {
    const root = make("div", "nbt nbt-board", el);
    root.setAttribute("role", "region");
    root.dataset.nbtasks = "board";
    root.setAttribute("aria-label", "nbtasks board");
    const head = make("div", "nbt-line", root);
    const counts = make("div", "nbt-legend", head);
    const staff = make("span", "nbt-dim nbt-staff", head);
    const note = make("div", "nbt-note", root);

    const tasks = make("div", "nbt-tasks", root);
    tasks.setAttribute("role", "list");
    tasks.setAttribute("aria-label", "Runs by task");

    const search = make("input", "nbt-filter", root);
    search.type = "search";
    search.placeholder = "Filter by task, state or id";
    search.setAttribute("aria-label", "Filter runs by task, state or id");
    search.value = model.get("value").filter || "";
    let asked = null;
    search.addEventListener("input", () => {
      step(); // at once with what is here
      clearTimeout(asked);
      asked = setTimeout(() => model.send({ do: "filter", text: search.value }), 250);
    });
    // JupyterLab takes single keys for commands
    for (const kind of ["keydown", "keyup", "keypress"]) search.addEventListener(kind, (event) => event.stopPropagation());

    const scroller = make("div", "nbt-scroller", root);
    const table = make("table", "nbt-table", scroller);
    const caption = make("caption", "nbt-hidden", table);
    const header = make("tr", "", make("thead", "", table));
    for (const [key, text] of COLUMNS) {
      const cell = make("th", `nbt-col-${key}`, header);
      cell.scope = "col";
      if (text) say(cell, text);
      else say(make("span", "nbt-hidden", cell), "Actions");
    }
    const body = make("tbody", "", table);
    const empty = make("div", "nbt-empty", root);
    const clock = makeClock();

    function matches(row, board) {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (board.filter === search.value) return true; // these rows were looked for already
      const text = `${row.name} ${row.state} ${row.type} ${row.id} ${row.message}`.toLowerCase();
      return words.every((word) => text.includes(word));
    }

    function makeTask() {
      const item = make("div", "nbt-task");
      item.setAttribute("role", "listitem");
      make("span", "nbt-name", item);
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

    function makeRow(row) {
      const line = make("tr", "");
      for (const [key] of COLUMNS) make("td", `nbt-col-${key}`, line);
      make("span", "nbt-badge", line.children[0]);
      line._button = askButton(line.lastElementChild, "Cancel", `Cancel run ${row.name}`, () => model.send({ do: "cancel", run: row.id }));
      return line;
    }

    function drawRow(line, row, look) {
      const [state, task, took, message, id] = line.children;
      Object.assign(line.dataset, { run: row.id, state: row.type });
      badge(state.firstElementChild, look, row.state);
      say(task, row.attempts > 1 ? `${row.name} (attempt ${row.attempts})` : row.name);
      task.title = row.name;
      const until = row.live ? clock.now() : row.end || row.at;
      say(took, row.start ? duration(until - row.start) : "");
      const words = row.message || (row.live ? row.progress : "");
      say(message, words);
      message.title = words;
      say(id, `…${row.id.slice(-8)}`); // ids made in one hour differ at their ends only
      id.title = row.id;
      line._button.hidden = !row.cancellable;
      return row.live && row.start > 0;
    }

    function draw(board) {
      root.dataset.state = board.note ? "gone" : "live";
      legend(counts, board.parts);
      show(counts, board.parts.length > 0);
      const busy = board.busy ? `, ${grouped(board.busy)} busy` : "";
      say(staff, board.workers ? `${many(board.workers, "worker")}${busy}` : "no workers");
      say(note, board.note);
      show(note, Boolean(board.note));
      keyed(tasks, board.tasks, (task) => task.key, makeTask, drawTask);
      const rows = board.rows.filter((row) => matches(row, board));
      let moves = false;
      keyed(body, rows, (row) => row.id, makeRow, (line, row) => {
        moves = drawRow(line, row, board.looks[row.type]) || moves;
      });
      say(caption, `${many(rows.length, "run")}: what runs, what failed, then what changed last`);
      show(table, rows.length > 0);
      show(empty, rows.length === 0);
      say(empty, search.value ? "No run fits the filter." : "No runs yet.");
      root.classList.toggle("nbt-stale", Boolean(board.note));
      return moves && !board.note;
    }

    function step() {
      draw(model.get("value"));
    }

    const stop = drawOften(model, draw, clock);
    return () => {
      clearTimeout(asked);
      stop();
    };
  },
};
