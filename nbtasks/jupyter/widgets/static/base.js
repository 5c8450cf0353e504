// What all widgets share. Python puts this text in front of each module, so that nothing has to be built.
// Data gets into the page as textContent or as an attribute, and in no other way.

/** Make an element. */
function make(tag, className, parent) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

/** Set a text only if it differs, so that a selection survives. */
function say(element, text) {
  const wanted = text == null ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

function show(element, isVisible) {
  if (element.hidden === isVisible) element.hidden = !isVisible;
}

function tint(element, look) {
  element.style.setProperty("--nbt-colour", look.colour);
}

/** Let `parent` hold one child per item, keeping those that are there: a button must survive an update. */
function keyed(parent, items, keyOf, create, update) {
  const known = parent._nbtChildren || (parent._nbtChildren = new Map());
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, child] of known) {
    if (!wanted.has(key)) {
      child.remove();
      known.delete(key);
    }
  }
  let place = parent.firstElementChild;
  for (const [key, item] of wanted) {
    let child = known.get(key);
    if (!child) {
      child = create(item);
      known.set(key, child);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

/** Seconds as two digits tell them; as `views.duration` does. */
function duration(seconds) {
  if (seconds == null) return "";
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(s % 60)).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function grouped(number) {
  return number.toLocaleString("en-US");
}

function many(number, word) {
  return `${grouped(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** The kernel's clock: it may be on another machine. What was kept while no page was open tells nothing. */
function makeClock() {
  let ahead = 0;
  return {
    heard(unixSeconds) {
      ahead = unixSeconds - Date.now() / 1000;
    },
    now() {
      return Date.now() / 1000 + ahead;
    },
  };
}

/** Draw at once, at each change, and while something moves twice a second; returns what stops that. */
function drawOften(model, draw, clock) {
  let timer = null;
  const step = () => {
    const moves = draw(model.get("value"));
    if (moves && timer === null) timer = setInterval(step, 500);
    if (!moves && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  };
  const changed = () => {
    clock.heard(model.get("value").now);
    step();
  };
  model.on("change:value", changed);
  step();
  return () => {
    model.off("change:value", changed);
    clearInterval(timer);
  };
}

/** A button that says what it asks for, and then that it asked. */
function askButton(parent, text, label, ask) {
  const button = make("button", "nbt-button", parent);
  button.type = "button";
  button.dataset.do = text.split(" ")[0].toLowerCase();
  say(button, text);
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => {
    button.disabled = true;
    ask();
    // what was asked may have been lost with a kernel that was busy ending
    setTimeout(() => (button.disabled = false), 3000);
  });
  return button;
}

/** "▶ Running": a shape and a word; the colour only repeats them. */
function badge(element, look, word) {
  tint(element, look);
  if (!element.firstElementChild) {
    make("span", "nbt-shape", element).setAttribute("aria-hidden", "true");
    make("span", "nbt-word", element);
  }
  say(element.firstElementChild, look.shape);
  say(element.lastElementChild, word);
}

/** A bar of one segment per part, in proportion, but none too thin to be seen. */
function bar(element, parts, total, label) {
  element.setAttribute("role", "img");
  if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
  keyed(
    element,
    parts.filter((part) => part.count),
    (part) => part.type,
    () => make("span", "nbt-segment"),
    (segment, part) => {
      tint(segment, part);
      segment.dataset.type = part.type;
      segment.style.flexGrow = String(part.count / Math.max(1, total));
      segment.title = `${grouped(part.count)} ${part.word}`;
    },
  );
}

/** "✓ 6 Completed  ▶ 2 Running". */
function legend(element, parts) {
  keyed(
    element,
    parts.filter((part) => part.count),
    (part) => part.type,
    () => make("span", "nbt-badge"),
    (item, part) => badge(item, part, `${grouped(part.count)} ${part.word}`),
  );
}

function spoken(parts) {
  return parts
    .filter((part) => part.count)
    .map((part) => `${grouped(part.count)} ${part.word}`)
    .join(", ");
}

/** How far a run is: a thin bar with the words beside it; without a total only the words. */
function makeProgress(parent) {
  const root = make("div", "nbt-progress", parent);
  const track = make("div", "nbt-track", root);
  const fill = make("div", "nbt-fill", track);
  const words = make("span", "nbt-dim", root);
  track.setAttribute("role", "progressbar");
  return {
    draw(text, share, isLive) {
      show(root, Boolean(text));
      show(track, share >= 0 && isLive);
      fill.style.width = `${100 * share}%`;
      track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      track.setAttribute("aria-label", text);
      say(words, text);
    },
  };
}
