// One run: state, call, time, where, the end of its output, and buttons that cancel it, run it again, and
// ask where it is.

export default {
  render({ model, el }) {
    const root = makeRoot(el, "run", "group");
    const head = make("div", "nbt-line", root);
    const state = make("span", "nbt-badge nbt-state", head);
    state.setAttribute("role", "status");
    const call = make("code", "nbt-call", head);
    call.dir = "auto";
    const time = make("span", "nbt-dim nbt-took", head);
    const buttons = make("span", "nbt-buttons", head);
    const former = make("div", "nbt-former", root);
    const progress = makeProgress(root);
    const message = make("div", "nbt-message", root);
    message.dir = "auto";
    const result = make("div", "nbt-result", root);
    make("span", "nbt-dim", result).textContent = "returned ";
    const returned = make("code", "nbt-value", result);
    returned.dir = "auto";
    const picture = makePicture(root);
    const tail = makeTail(root);
    const asking = makeAsking(model, root);
    const stack = asking.button(buttons, "stack", "Where is it now?", "Asking…");
    const cancel = asking.button(buttons, "cancel", "Cancel", "Cancelling…");
    const rerun = asking.button(buttons, "rerun", "Rerun", "Calling again…");
    const where = makeWhere(root);
    const facts = make("div", "nbt-facts", root);
    const note = make("div", "nbt-note", root);
    makeLost(root);
    const clock = makeClock();

    function timeOf(run) {
      if (run.start) return duration((run.live ? clock.now() : run.end || run.at) - run.start);
      return run.live ? `waiting for ${duration(clock.now() - run.submitted)}` : "";
    }

    function draw(run) {
      tint(root, run);
      Object.assign(root.dataset, { run: run.id, state: run.type });
      badge(state, run, run.state);
      say(call, run.call);
      call.title = run.call;
      root.setAttribute("aria-label", `Run ${run.name}: ${run.state}`);
      tail.of(run.name);
      say(time, timeOf(run));
      drawFormer(former, run.former);
      const items = [
        ["attempt", run.attempts > 1 ? `attempt ${run.attempts}` : ""],
        ["worker", run.pid ? `worker pid ${run.pid}` : ""],
        ["id", run.id],
      ].filter(([, text]) => text);
      keyed(facts, items, ([key]) => key, ([key]) => make("span", `nbt-fact nbt-${key}`), (fact, [, text]) => say(fact, text));
      progress.draw(run.progress, run.share, run.live);
      say(message, run.message);
      show(message, Boolean(run.message));
      say(returned, run.result);
      show(result, Boolean(run.result));
      say(note, run.note);
      show(note, Boolean(run.note));
      show(buttons, !run.live || run.cancellable);
      show(stack, run.type === "RUNNING");
      show(cancel, run.cancellable);
      show(rerun, !run.live);
      asking.draw(run.answers);
      root.classList.toggle("nbt-moves", run.live && run.start > 0);
      return run.live;
    }

    function drawOutput() {
      picture.draw(model.get("picture"));
      tail.draw(model.get("tail"));
      where.draw(model.get("stack"));
    }

    const traits = ["tail", "picture", "stack"];
    for (const trait of traits) model.on(`change:${trait}`, drawOutput);
    drawOutput();
    const stop = drawOften(model, root, draw, clock);
    return () => {
      for (const trait of traits) model.off(`change:${trait}`, drawOutput);
      asking.stop();
      stop();
    };
  },
};

/** "rerun of …0000ab, ✗ Failed": the run that the cell displayed is another one. */
function drawFormer(element, former) {
  show(element, Boolean(former));
  if (!former) return;
  if (!element.firstElementChild) {
    make("span", "nbt-dim", element);
    make("span", "nbt-badge", element);
  }
  const number = former.count > 1 ? `rerun ${grouped(former.count)}` : "rerun";
  say(element.firstElementChild, `${number} of …${former.id.slice(-8)},`);
  badge(element.lastElementChild, former, former.state);
}

/** Where the code was when somebody asked; it can be put away. */
function makeWhere(parent) {
  const root = make("details", "nbt-where", parent);
  const title = make("summary", "nbt-dim", root);
  const text = make("pre", "nbt-tail", root);
  text.tabIndex = 0;
  let drawn = 0;
  return {
    draw(told) {
      show(root, Boolean(told?.text));
      if (!told?.text || told.at === drawn) return;
      drawn = told.at;
      root.open = true;
      say(title, `Where it was at ${new Date(1000 * told.at).toLocaleTimeString()}, the innermost call last`);
      text.replaceChildren(coloured(told.text));
    },
  };
}
