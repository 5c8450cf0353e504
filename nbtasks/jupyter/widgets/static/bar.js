// The runs of one map: one bar, the counts by state, and a button that cancels what has not ended.

export default {
  render({ model, el }) {
    const root = make("div", "nbt nbt-list", el);
    root.setAttribute("role", "group");
    root.dataset.nbtasks = "list";
    const head = make("div", "nbt-line", root);
    const title = make("span", "nbt-title", head);
    const time = make("span", "nbt-dim", head);
    const button = askButton(head, "Cancel all", "Cancel all runs that have not ended", () => model.send({ do: "cancel" }));
    const strip = make("div", "nbt-bar", root);
    const counts = make("div", "nbt-legend", root);
    const note = make("div", "nbt-note", root);
    const clock = makeClock();

    function draw(list) {
      const words = spoken(list.parts);
      root.setAttribute("aria-label", `${list.label}: ${words}`);
      root.dataset.state = list.live ? "live" : "ended";
      say(title, list.label);
      say(time, duration((list.live ? clock.now() : list.ended) - list.submitted));
      show(time, list.submitted > 0);
      bar(strip, list.parts, list.total, words);
      legend(counts, list.parts);
      say(note, list.note);
      show(note, Boolean(list.note));
      show(button, list.live);
      return list.live;
    }

    return drawOften(model, draw, clock);
  },
};
