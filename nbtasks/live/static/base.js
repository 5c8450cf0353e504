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
  if (element.hidden !== isVisible) return;
  // whoever goes by keyboard would begin at the top of the page again
  if (!isVisible && element.contains(document.activeElement)) element.closest(".nbt")?.focus({ preventScroll: true });
  element.hidden = !isVisible;
}

/** The element that all of a widget hangs on. */
function makeRoot(el, kind, role) {
  const root = make("div", `nbt nbt-${kind}`, el);
  root.setAttribute("role", role);
  root.tabIndex = -1;
  root.dataset.nbtasks = kind;
  root.addEventListener("keydown", (event) => {
    // JupyterLab takes single keys, and Enter, for commands
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  return root;
}

/** What the page itself knows: that the kernel which showed this is gone. */
function makeLost(parent) {
  const lost = make("div", "nbt-note nbt-lost", parent);
  say(lost, "The kernel that showed this is gone; this is what was known then. Show it again in a new cell.");
  return lost;
}

function isLost(root) {
  return root.closest(".nbt-cut, .jupyter-widgets-disconnected") !== null;
}

/** Tell the kernel something; returns whether there is one. */
function tellKernel(model, root, message) {
  try {
    if (!isLost(root)) model.send(message);
  } catch {
    root.classList.add("nbt-cut"); // its connection went with it
  }
  return !isLost(root);
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
function drawOften(model, root, draw, clock) {
  let timer = null;
  const step = () => {
    const moves = draw(model.get("value")) && !isLost(root);
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
  const cut = () => {
    // the kernel restarts; anywidget keeps this from ipywidgets, which would mark the widget by itself
    root.classList.add("nbt-cut");
    step();
  };
  model.on("change:value", changed);
  model.on("comm_live_update", cut);
  step();
  return () => {
    model.off("change:value", changed);
    model.off("comm_live_update", cut);
    clearInterval(timer);
  };
}

const BUSY_MS = 1500; // a kernel that listens has answered long before

/**
 * Buttons that ask the kernel, and the line that says what became of it.
 *
 * A question has a token; the kernel says of it that it was heard, then done or refused. Until then its
 * button is marked as busy. It is never disabled, since that would take the focus from it.
 */
function makeAsking(model, root) {
  const line = make("div", "nbt-answer", root);
  line.setAttribute("role", "status");
  line.hidden = true;
  const open = new Map(); // token -> { button, since, heard }

  function tell(text, isRefusal) {
    say(line, text);
    line.classList.toggle("nbt-refused", Boolean(isRefusal));
    show(line, Boolean(text));
  }

  function settle(token) {
    const { button, timer } = open.get(token);
    clearTimeout(timer);
    open.delete(token);
    say(button, button.dataset.text);
    button.removeAttribute("aria-disabled");
    button.dataset.asked = "";
  }

  function button(place, action, text, asking, content = () => ({})) {
    const element = make("button", "nbt-button", place);
    element.type = "button";
    Object.assign(element.dataset, { do: action, text, asked: "" });
    say(element, text);
    element.addEventListener("click", (event) => {
      event.stopPropagation();
      if (element.dataset.asked) return;
      const token = Math.random().toString(36).slice(2);
      const timer = setTimeout(() => {
        if (isLost(root)) return;
        tell("The kernel is busy: it will be asked when its cell ends.");
        element.dataset.asked = "waiting";
      }, BUSY_MS);
      open.set(token, { button: element, timer });
      element.dataset.asked = "asked";
      element.setAttribute("aria-disabled", "true");
      say(element, asking);
      tell("");
      if (!tellKernel(model, root, { do: action, token, ...content() })) settle(token);
    });
    return element;
  }

  function draw(answers) {
    for (const { token, status, text } of answers || []) {
      if (!open.has(token)) continue;
      const asked = open.get(token);
      clearTimeout(asked.timer);
      if (asked.button.dataset.asked === "waiting") tell("");
      asked.button.dataset.asked = "heard";
      if (status === "heard") continue;
      settle(token);
      tell(text, status === "refused");
    }
  }

  function stop() {
    for (const { timer } of open.values()) clearTimeout(timer);
  }

  return { button, draw, stop, tell };
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
  track.setAttribute("aria-valuemin", "0");
  track.setAttribute("aria-valuemax", "100");
  words.dir = "auto";
  return {
    draw(text, share, isLive) {
      show(root, Boolean(text));
      show(track, share >= 0);
      root.classList.toggle("nbt-still", !isLive);
      fill.style.width = `${100 * share}%`;
      track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      track.setAttribute("aria-label", text);
      say(words, text);
    },
  };
}
