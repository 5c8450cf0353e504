// One run: state, call, time, where, and a button that cancels it while it lives.

export default {
  render({ model, el }) {
    const root = make("div", "nbt nbt-run", el);
    root.setAttribute("role", "group");
    root.dataset.nbtasks = "run";
    const head = make("div", "nbt-line", root);
    const state = make("span", "nbt-badge nbt-state", head);
    state.setAttribute("role", "status");
    const call = make("code", "nbt-call", head);
    const button = askButton(head, "Cancel", "Cancel this run", () => model.send({ do: "cancel" }));
    const facts = make("div", "nbt-facts", root);
    const progress = makeProgress(root);
    const message = make("div", "nbt-message", root);
    const note = make("div", "nbt-note", root);
    const clock = makeClock();

    function draw(run) {
      tint(root, run);
      Object.assign(root.dataset, { run: run.id, state: run.type });
      badge(state, run, run.state);
      say(call, run.call);
      call.title = run.call;
      root.setAttribute("aria-label", `Run ${run.name}: ${run.state}`);
      const isRunning = run.live && run.start > 0;
      const until = run.live ? clock.now() : run.end || run.at;
      const took = run.start ? duration(until - run.start) : run.live ? `waiting for ${duration(clock.now() - run.submitted)}` : "";
      const items = [
        ["took", took],
        ["attempt", run.attempts > 1 ? `attempt ${run.attempts}` : ""],
        ["worker", run.pid ? `worker pid ${run.pid}` : ""],
        ["id", run.id],
      ].filter(([, text]) => text);
      keyed(facts, items, ([key]) => key, ([key]) => make("span", `nbt-fact nbt-${key}`), (fact, [, text]) => say(fact, text));
      progress.draw(run.progress, run.share, run.live);
      say(message, run.message);
      show(message, Boolean(run.message));
      say(note, run.note);
      show(note, Boolean(run.note));
      show(button, run.cancellable);
      button.setAttribute("aria-label", `Cancel run ${run.name}`);
      root.classList.toggle("nbt-moves", isRunning);
      return run.live;
    }

    return drawOften(model, draw, clock);
  },
};
