// The extension of JupyterLab and Notebook, written by hand as the container that their loader asks for, so
// that nothing has to be built. What it draws with comes from the server's own extension, /nbtasks.

(() => {
  const NAME = "nbtasks";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const CARD = "application/vnd.nbtasks.card+json"; // beside the view: what it shows, for who has no such model
  const CARD_RANK = -20; // before ipywidgets' -10
  const OPEN_BOARD = "nbtasks:open-board";
  const OPEN_PAGE = "nbtasks:open-page";
  const LOST = ["restarting", "autorestarting", "terminating", "dead"]; // what a kernel's models do not outlive
  const VIEW_MS = 700; // for a view to be drawn, before another is tried
  const VIEWS_MAX = 5;
  let scope;

  /** A module that JupyterLab shares with its extensions. */
  async function shared(name) {
    const versions = scope[name];
    return versions ? (await Object.values(versions)[0].get())() : {};
  }

  /** What the server's extension draws with; loaded once somebody looks. */
  function makeDrawing(base) {
    let loaded;
    let live;
    let uses = 0;

    async function load() {
      if (!document.querySelector("link[data-nbtasks]")) {
        const style = document.createElement("link");
        Object.assign(style, { rel: "stylesheet", href: `${base}static/widgets.css` });
        style.dataset.nbtasks = "";
        document.head.append(style);
      }
      const names = ["live", "board", "run"];
      const [tools, board, run] = await Promise.all(names.map((name) => import(`${base}static/${name}.js`)));
      return { tools, modules: { board, run } };
    }

    /** Draw a card in `el`; `problem(text)` is told why not. Returns what takes it away. */
    return async function draw(question, el, problem) {
      loaded ??= load();
      loaded.catch(() => (loaded = undefined)); // the server may have the extension later
      const { tools, modules } = await loaded;
      uses += 1;
      live ??= new tools.Live(tools.liveAddress(base));
      const model = live.show(question);
      model.addressOf = (run) => `${base}runs/task-run/${run}`;
      const stop = tools.draw(model, modules[question.kind], el, problem);
      return () => {
        stop();
        uses -= 1;
        if (!uses) {
          live.close(); // a page that looks at nothing keeps no broker
          live = undefined;
        }
      };
    };
  }

  function makeBoardClass(Widget, draw, icon) {
    /** The board, connected only while it is to be seen. */
    return class Board extends Widget {
      constructor(id) {
        super();
        this.id = id;
        this.title.label = id.endsWith("side") ? "" : "nbtasks";
        this.title.caption = "nbtasks: background runs";
        this.title.icon = icon;
        this.title.closable = !id.endsWith("side");
        this.node.style.overflow = "auto";
        this.node.style.padding = "4px 6px";
        this.words = document.createElement("p");
        this.place = document.createElement("div");
        this.node.append(this.words, this.place);
      }

      onAfterShow() {
        this.begin();
      }

      onAfterAttach() {
        if (this.isVisible) this.begin();
      }

      onBeforeHide() {
        this.end();
      }

      onBeforeDetach() {
        this.end();
      }

      begin() {
        this.drawn ??= draw({ kind: "board" }, this.place, (text) => this.say(text)).catch(() => {
          this.drawn = undefined;
          this.say("The server has no extension nbtasks: jupyter server extension enable nbtasks, then restart it.");
        });
      }

      end() {
        this.drawn?.then((stop) => stop?.());
        this.drawn = undefined;
      }

      say(text) {
        this.words.textContent = text;
        this.words.hidden = !text;
      }
    };
  }

  /**
   * A card of a notebook: the widget while its kernel lives, else the same card as the server tells it, else
   * the HTML that was saved.
   */
  function makeCardClass(Widget, rendermime, lost, draw) {
    return class Card extends Widget {
      async renderModel(model) {
        this.model = model;
        this.told = model.data[CARD];
        this.still = rendermime.createRenderer("text/html", model);
        this.places = {};
        for (const which of ["still", "server", "widget"]) {
          this.places[which] = document.createElement("div");
          this.node.append(this.places[which]);
        }
        this.places.still.append(this.still.node);
        this.show("still");
        // it is drawn when its model has come; if there is none, ipywidgets says so in words
        this.watch = new MutationObserver(() => this.look());
        this.watch.observe(this.places.widget, { childList: true, subtree: true, characterData: true });
        lost.connect(this.onLost, this);
        this.tryView(1);
        await this.still.renderModel(model);
      }

      /** Have ipywidgets draw it. One that was made before a notebook had its models waits for ever. */
      tryView(times) {
        this.leaveView();
        const view = (this.view = rendermime.createRenderer(VIEW, this.model));
        this.places.widget.append(view.node);
        view.renderModel(this.model).catch(() => {}); // it was left meanwhile
        this.timer = setTimeout(() => {
          if (!view.node.textContent.startsWith("Loading")) return;
          if (times < VIEWS_MAX) this.tryView(times + 1);
          else void this.ask();
        }, VIEW_MS);
      }

      look() {
        if (this.asked) return;
        if (this.places.widget.querySelector("[data-nbtasks]")) this.show("widget");
        else if (this.places.widget.textContent.includes("Error displaying")) void this.ask();
      }

      onLost() {
        void this.ask();
      }

      /** Show what the server knows; what is there stays if it knows nothing. */
      async ask() {
        if (this.asked || this.isDisposed || this.told.kind === "list") return;
        this.asked = true;
        const problem = (text) => text || this.show("server");
        try {
          this.stop = await draw(this.told, this.places.server, problem);
        } catch {
          this.asked = false; // the server has no such extension
        }
        if (this.isDisposed) this.stop?.();
      }

      show(which) {
        for (const [name, place] of Object.entries(this.places)) place.hidden = name !== which;
        if (which === "server") this.leaveView();
      }

      leaveView() {
        clearTimeout(this.timer);
        this.view?.node.remove();
        this.view?.dispose();
        this.view = undefined;
      }

      dispose() {
        if (this.isDisposed) return;
        lost.disconnect(this.onLost, this);
        this.watch.disconnect();
        this.leaveView();
        this.stop?.();
        this.still.dispose();
        super.dispose();
      }
    };
  }

  async function makePlugins() {
    const [widgets, signaling, core, ui, notebooks, launchers, apputils, application] = await Promise.all(
      [
        "@lumino/widgets",
        "@lumino/signaling",
        "@jupyterlab/coreutils",
        "@jupyterlab/ui-components",
        "@jupyterlab/notebook",
        "@jupyterlab/launcher",
        "@jupyterlab/apputils",
        "@jupyterlab/application",
      ].map(shared),
    );
    const base = core.URLExt.join(core.PageConfig.getBaseUrl(), "nbtasks/");
    const draw = makeDrawing(base);
    const icon = new ui.LabIcon({ name: "nbtasks:icon", svgstr: ICON });
    const known = (...tokens) => tokens.filter(Boolean);

    const board = {
      id: `${NAME}:board`,
      description: "The board of background runs, in the left sidebar and as a tab.",
      autoStart: true,
      optional: known(launchers.ILauncher, apputils.ICommandPalette, application.ILayoutRestorer),
      activate(app, ...services) {
        const given = new Map(board.optional.map((token, i) => [token, services[i]]));
        const Board = makeBoardClass(widgets.Widget, draw, icon);
        const side = new Board("nbtasks-side");
        app.shell.add(side, "left", { rank: 600 });
        given.get(application.ILayoutRestorer)?.add(side, side.id);
        app.commands.addCommand(OPEN_BOARD, {
          label: (args) => (args.isLauncher ? "nbtasks board" : "Background runs: board"),
          caption: "What runs in the background",
          icon: (args) => (args.isPalette ? undefined : icon),
          execute() {
            const open = [...app.shell.widgets("main")].find((widget) => widget.id === "nbtasks-board");
            const shown = open ?? new Board("nbtasks-board");
            if (!open) app.shell.add(shown, "main");
            app.shell.activateById(shown.id);
          },
        });
        app.commands.addCommand(OPEN_PAGE, {
          label: "Background runs: page in a new browser tab",
          execute: () => window.open(base, "_blank", "noopener"),
        });
        const palette = given.get(apputils.ICommandPalette);
        for (const command of [OPEN_BOARD, OPEN_PAGE]) {
          palette?.addItem({ command, category: "nbtasks", args: { isPalette: true } });
        }
        given.get(launchers.ILauncher)?.add({
          command: OPEN_BOARD,
          category: "Other",
          rank: 50,
          args: { isLauncher: true },
        });
      },
    };

    const cards = {
      id: `${NAME}:cards`,
      description: "Runs shown in a notebook stay alive when their kernel does not.",
      autoStart: true,
      requires: [notebooks.INotebookTracker],
      activate(app, tracker) {
        const equip = (panel) => {
          const { rendermime } = panel.content;
          const lost = new signaling.Signal(panel);
          panel.sessionContext.statusChanged.connect((_, status) => LOST.includes(status) && lost.emit());
          panel.sessionContext.kernelChanged.connect((_, change) => change.newValue || lost.emit());
          const Card = makeCardClass(widgets.Widget, rendermime, lost, draw);
          const createRenderer = () => new Card();
          rendermime.addFactory({ safe: true, mimeTypes: [CARD], createRenderer }, CARD_RANK);
        };
        tracker.forEach(equip);
        tracker.widgetAdded.connect((_, panel) => equip(panel));
      },
    };
    return [board, cards];
  }

  const ICON =
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 20 20">' +
    '<path class="jp-icon3" fill="#616161" d="M3 3h11v2H3zm0 5h6v2H3zm0 5h6v2H3zm8-5v9l7-4.5z"/></svg>';

  (window._JUPYTERLAB ??= {})[NAME] = {
    init: (given) => {
      scope = given;
    },
    get: async () => {
      const plugins = await makePlugins();
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
