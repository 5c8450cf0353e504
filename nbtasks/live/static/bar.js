// The runs of one map: one bar, the counts by state, and a button that cancels what has not ended.

export default {
  render({ model, el }) {
    const root = makeRoot(el, "list", "group");
    const head = make("div", "nbt-line", root);
    const title = make("span", "nbt-title", head);
    title.dir = "auto";
    const time = make("span", "nbt-dim nbt-took", head);
    const buttons = make("span", "nbt-buttons", head);
    const strip = make("div", "nbt-bar", root);
    const counts = make("div", "nbt-legend", root);
    const asking = makeAsking(model, root);
    const cancel = asking.button(buttons, "cancel", "Cancel all", "Cancelling…");
    const note = make("div", "nbt-note", root);
    makeLost(root);
    const clock = makeClock();

    function draw(list) {
      const words = spoken(list.parts);
      root.dataset.state = list.live ? "live" : "ended";
      root.setAttribute("aria-label", `${list.label}: ${words}`);
      say(title, list.label);
      say(time, duration((list.live ? clock.now() : list.ended) - list.submitted));
      show(time, list.submitted > 0);
      bar(strip, list.parts, list.total, words);
      legend(counts, list.parts);
      say(note, list.note);
      show(note, Boolean(list.note));
      show(cancel, list.live);
      asking.draw(list.answers);
      return list.live;
    }

    const stop = drawOften(model, root, draw, clock);
    return () => {
      asking.stop();
      stop();
    };
  },
};
