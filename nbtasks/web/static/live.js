// Live cards over one websocket: each is a model as the modules of the widgets know it.

const PAUSE_MS = 500; // before a lost connection is tried again; doubled up to PAUSE_MS_MAX
const PAUSE_MS_MAX = 5000;
const AGAIN_MS = 2000; // between two questions for what could not be shown, as while there is no broker

/** A picture's bytes come as text. */
function revived(name, value) {
  if (name !== "picture" || typeof value?.data !== "string") return value;
  const bytes = Uint8Array.from(atob(value.data), (letter) => letter.charCodeAt(0));
  return { ...value, data: new DataView(bytes.buffer) };
}

class Model {
  constructor(live, number, question) {
    this.live = live;
    this.number = number;
    this.question = question;
    this.state = {};
    this.hearers = new Map();
    this.timer = null;
  }

  get(name) {
    return this.state[name];
  }

  on(event, hearer) {
    this.hearers.set(event, [...(this.hearers.get(event) || []), hearer]);
  }

  off(event, hearer) {
    this.hearers.set(event, (this.hearers.get(event) || []).filter((one) => one !== hearer));
  }

  send(content) {
    this.live.say({ do: "tell", card: this.number, content });
  }

  ask() {
    this.live.say({ do: "show", card: this.number, ...this.question });
  }

  tell(event, ...told) {
    for (const hearer of this.hearers.get(event) || []) hearer(...told);
  }

  hear(message) {
    clearTimeout(this.timer);
    if (message.set) {
      for (const [name, value] of Object.entries(message.set)) this.state[name] = revived(name, value);
      this.tell("shown");
      for (const name of Object.keys(message.set)) this.tell(`change:${name}`);
    } else {
      this.tell("problem", message.problem);
      if (!message.lasting) this.timer = setTimeout(() => this.ask(), AGAIN_MS);
    }
  }

  close() {
    clearTimeout(this.timer);
    this.live.forget(this);
  }
}

/** Connect to `url`; `connected(isConnected)` is told whenever that changes. */
export class Live {
  constructor(url, connected = () => {}) {
    this.url = url;
    this.connected = connected;
    this.models = new Map();
    this.last = 0;
    this.pause = PAUSE_MS;
    this.open();
  }

  open() {
    this.socket = new WebSocket(this.url);
    this.socket.addEventListener("open", () => {
      this.pause = PAUSE_MS;
      this.connected(true);
      for (const model of this.models.values()) model.ask();
    });
    this.socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      this.models.get(message.card)?.hear(message);
    });
    this.socket.addEventListener("close", () => {
      if (this.isClosed) return;
      this.connected(false);
      this.timer = setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(2 * this.pause, PAUSE_MS_MAX);
    });
  }

  /** The model of a card, as `{ kind: "board" }` or `{ kind: "run", run }` asks for it. */
  show(question) {
    const model = new Model(this, ++this.last, question);
    this.models.set(model.number, model);
    model.ask();
    return model;
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  forget(model) {
    if (this.models.delete(model.number)) this.say({ do: "hide", card: model.number });
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}

/**
 * Draw a card in `el` as soon as there is something to draw; returns what takes it away.
 *
 * `problem(text)` is told what keeps it from being drawn, "" once nothing does.
 */
export function draw(model, module, el, problem) {
  let stop = null;
  const shown = () => {
    problem("");
    stop ??= module.default.render({ model, el });
  };
  model.on("shown", shown);
  model.on("problem", problem);
  return () => {
    model.close();
    stop?.();
    el.replaceChildren();
  };
}

/** Where the websocket of the page at `base` is: a path, or an address. */
export function liveAddress(base) {
  const address = new URL(`${base}api/live`, document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return address.href;
}
