"""Cells as notebooks have them, each read by eye: frames, training loops, plots, http, magics."""

from __future__ import annotations

from tests.unit.cells import case

EVERYDAY = [
    case(
        "summary_of_a_frame",
        r"""
        df = pd.read_csv(DATA / "train.csv", parse_dates=["date"])
        df["year"] = df["date"].dt.year
        summary = (df.groupby(["year", key])
                     .agg(mean=("price", "mean"), n=("price", lambda s: (s > threshold).sum()))
                     .reset_index())
        summary.head()
        """,
        needs="DATA key pd threshold",
        binds="df summary",
    ),
    case(
        "cross_validation",
        r"""
        from sklearn.model_selection import KFold
        scores = []
        for fold, (tr, va) in enumerate(KFold(n_splits=5, shuffle=True, random_state=SEED).split(X)):
            model = clone(base)
            model.fit(X[tr], y[tr])
            pred = model.predict(X[va])
            scores.append(metric(y[va], pred))
            print(f"fold {fold}: {scores[-1]:.4f}")
        best = max(scores)
        """,
        needs="SEED X base clone enumerate max metric print y",
        binds="KFold best fold model pred scores tr va",
    ),
    case(
        "torch_training",
        r"""
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self, n_in, n_hidden=HIDDEN):
                super().__init__()
                self.layers = nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 1))
            def forward(self, x):
                return self.layers(x.to(device))
        net = Net(X.shape[1]).to(device)
        opt = torch.optim.Adam(net.parameters(), lr=lr)
        for epoch in range(epochs):
            for xb, yb in loader:
                loss = loss_fn(net(xb), yb)
                opt.zero_grad(); loss.backward(); opt.step()
            if epoch % 10 == 0:
                history.append(loss.item())
        """,
        needs="HIDDEN X device epochs history loader loss_fn lr range super",
        may="loss",
        binds="Net epoch loss net nn opt torch xb yb",
    ),
    case(
        "early_stopping",
        r"""
        best_loss = float("inf")
        for epoch in range(n):
            loss = train_one(net)
            if loss < best_loss:
                best_loss = loss
                best_state = {k: v.clone() for k, v in net.state_dict().items()}
        net.load_state_dict(best_state)
        """,
        needs="float n net range train_one",
        may="best_state",
        binds="best_loss best_state epoch loss",
    ),
    case(
        "histograms",
        r"""
        %matplotlib inline
        import matplotlib.pyplot as plt
        fig, axes = plt.subplots(1, 2, figsize=(10, 4))
        for ax, (name, group) in zip(axes.flat, df.groupby("kind")):
            ax.hist(group["x"], bins=bins, label=name)
            ax.legend()
        plt.tight_layout();
        """,
        needs="bins df zip",
        binds="ax axes fig group name plt",
    ),
    case(
        "http_with_asyncio",
        r"""
        import asyncio, httpx
        async def get(client, url):
            r = await client.get(url, timeout=TIMEOUT)
            r.raise_for_status()
            return r.json()
        async with httpx.AsyncClient() as client:
            pages = await asyncio.gather(*(get(client, u) for u in urls))
        """,
        needs="TIMEOUT urls",
        binds="asyncio client get httpx pages",
    ),
    case(
        "timed_simulation",
        r"""
        %%time
        result = simulate(params, n=1_000)
        result.mean()
        """,
        needs="params simulate",
        binds="result",
    ),
    case(
        "pip_and_reload",
        r"""
        !pip install -q {pkg}=={version}
        import importlib
        importlib.reload(mod)
        """,
        needs="mod",
        may="pkg version",
        binds="_exit_code importlib",
    ),
    case(
        "timer_as_a_context_manager",
        r"""
        from contextlib import contextmanager
        import time
        @contextmanager
        def timer(label):
            t0 = time.perf_counter()
            try:
                yield
            finally:
                times[label] = time.perf_counter() - t0
        times = {}
        with timer("fit"):
            model.fit(X, y)
        times
        """,
        needs="X model y",
        binds="contextmanager time timer times",
    ),
    case(
        "argparse",
        r"""
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.1)
        args = parser.parse_args([] if "ipykernel" in sys.modules else None)
        """,
        needs="float sys",
        binds="argparse args parser",
    ),
    case(
        "regex_over_a_file",
        r"""
        pattern = re.compile(r"(\d+)-(?P<w>\w+)")
        rows = []
        with open(path) as fh:
            for line in fh:
                if m := pattern.match(line):
                    rows.append((int(m[1]), m["w"]))
                elif (m2 := other.match(line)) and m2[0]:
                    rows.append(m2.groups())
        pd.DataFrame(rows)
        """,
        needs="int open other path pd re",
        binds="fh line m m2 pattern rows",
    ),
    case(
        "typed_composition",
        r"""
        from typing import TypeVar, Callable
        T = TypeVar("T")
        def compose(*fs: Callable[[T], T]) -> Callable[[T], T]:
            def inner(x: T) -> T:
                for f in fs:
                    x = f(x)
                return x
            return inner
        pipeline = compose(clean, lambda s: s.lower(), normalise)
        out = [pipeline(s) for s in texts]
        """,
        needs="clean normalise texts",
        binds="Callable T TypeVar compose out pipeline",
    ),
    case(
        "chunks_from_a_generator",
        r"""
        def chunks(xs, n=CHUNK):
            for i in range(0, len(xs), n):
                yield xs[i:i + n]
        total = 0
        for part in chunks(data):
            total += sum(part)
        total
        """,
        needs="CHUNK data len range sum",
        binds="chunks part total",
    ),
    case(
        "cached_fibonacci",
        r"""
        try:
            cache
        except NameError:
            cache = {}
        def fib(n):
            if n not in cache:
                cache[n] = n if n < 2 else fib(n - 1) + fib(n - 2)
            return cache[n]
        fib(30)
        """,
        needs="NameError",
        may="cache",
        binds="cache fib",
    ),
    case(
        "thread_pool",
        r"""
        with ThreadPoolExecutor(max_workers=8) as pool:
            futures = {pool.submit(work, item): item for item in items}
            for fut in as_completed(futures):
                item = futures[fut]
                try:
                    done[item] = fut.result()
                except Exception as exc:
                    errors.append((item, exc))
        print(len(done), len(errors))
        """,
        needs="Exception ThreadPoolExecutor as_completed done errors items len print work",
        binds="fut futures item pool",
    ),
    case(
        "timed_sort",
        r"""
        %%timeit -n 10 -r 3 a = np.arange(n)
        np.sort(a)
        """,
        needs="n np",
    ),
    case(
        "captured_summary",
        r"""
        %%capture cap
        model.summary()
        """,
        needs="model",
        binds="cap",
    ),
    case(
        "files_of_a_folder",
        r"""
        files = !ls {folder}/*.csv
        frames = [pd.read_csv(f) for f in files]
        df = pd.concat(frames)
        """,
        needs="pd",
        may="folder",
        binds="df files frames",
    ),
    case(
        "optuna_objective",
        r"""
        def objective(trial):
            params = {
                "depth": trial.suggest_int("depth", 2, 10),
                "lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            }
            clf = XGBClassifier(**params, n_jobs=-1)
            return cross_val_score(clf, X_train, y_train, cv=cv).mean()
        study = optuna.create_study(direction="maximize")
        study.optimize(objective, n_trials=50)
        """,
        needs="XGBClassifier X_train cross_val_score cv optuna y_train",
        binds="objective study",
    ),
    case(
        "pages_of_an_api",
        r"""
        while True:
            r = session.get(url, params={"page": page})
            if r.status_code != 200:
                break
            batch = r.json()
            if not batch:
                break
            results.extend(batch)
            page += 1
        """,
        needs="page results session url",
        binds="batch page r",
    ),
    case(
        "query_if_loaded",
        r"""
        if "df" not in globals():
            df = load()
        df = df.query("price > @low and name in @names").assign(z=lambda d: d.x / scale)
        """,
        needs="globals load scale",
        may="df low names",
        binds="df",
    ),
    case(
        "match_on_a_config",
        r"""
        match cfg["kind"]:
            case "ridge":
                model = Ridge(alpha=alpha)
            case "forest" | "trees":
                model = Forest(n)
            case other:
                raise ValueError(other)
        model.fit(X, y)
        """,
        needs="Forest Ridge ValueError X alpha cfg n y",
        binds="model",
    ),
    case(
        "tqdm_and_del",
        r"""
        from tqdm.notebook import tqdm
        tqdm.pandas()
        df["len"] = df["text"].progress_apply(lambda t: len(tokenizer(t)["input_ids"]))
        del tmp
        gc.collect()
        """,
        needs="df gc len tmp tokenizer",
        binds="tqdm",
    ),
    case(
        "animation",
        r"""
        fig, ax = plt.subplots()
        def update(frame):
            line.set_ydata(np.sin(x + frame / 10))
            return line,
        x = np.linspace(0, 6)
        line, = ax.plot(x, np.sin(x))
        ani = FuncAnimation(fig, update, frames=100)
        """,
        needs="FuncAnimation np plt",
        binds="ani ax fig line update x",
    ),
    case(
        "linked_nodes",
        r"""
        class Node:
            __slots__ = ("value", "next")
            count = 0
            def __init__(self, value, next=None):
                Node.count += 1
                self.value, self.next = value, next
            def __iter__(self):
                node = self
                while node:
                    yield node.value
                    node = node.next
            def __repr__(self):
                return f"{type(self).__name__}({SEP.join(map(str, self))})"
        Node(1, Node(2))
        """,
        needs="SEP map str type",
        binds="Node",
    ),
    case(
        "trajectory",
        r"""
        import numpy as np
        rng = np.random.default_rng(seed)
        def step(state, dt=DT):
            x, v = state
            return x + v * dt, v + force(x) * dt
        def force(x):
            return -k * x
        state = (1.0, 0.0)
        trajectory = [state := step(state) for _ in range(n_steps)]
        xs, vs = np.array(trajectory).T
        """,
        needs="DT k n_steps range seed",
        binds="force np rng state step trajectory vs xs",
    ),
    case(
        "interactive_plot",
        r"""
        @interact(a=(0, 10), b=(0.0, 1.0))
        def show(a=3, b=0.5):
            plt.plot(t, a * np.sin(b * t))
            plt.show()
        """,
        needs="interact",
        may="np plt t",
        binds="show",
    ),
    case(
        "sqlite",
        r"""
        with sqlite3.connect(db_path) as con:
            cur = con.execute("select * from t where k = ?", (k,))
            cols = [c[0] for c in cur.description]
            table = pd.DataFrame(cur.fetchall(), columns=cols)
        table.pipe(display)
        """,
        needs="db_path display k pd sqlite3",
        binds="cols con cur table",
    ),
    case(
        "widget_callback",
        r"""
        widgets = {}
        def on_change(change):
            global current
            current = change["new"]
            refresh()
        def refresh():
            out.clear_output()
            with out:
                display(data[current])
        slider = W.IntSlider()
        slider.observe(on_change, names="value")
        """,
        needs="W data display out",
        binds="current on_change refresh slider widgets",
    ),
    case(
        "star_assignments",
        r"""
        s = pd.Series(range(3)); s.plot(ax=plt.gca()) if plot else None
        x, *rest = s
        (first, _), last = pairs[0], pairs[-1]
        print(*rest, sep=sep)
        """,
        needs="pairs pd plot plt print range sep",
        binds="_ first last rest s x",
    ),
    case(
        "functools",
        r"""
        from functools import partial, reduce
        add = partial(op.add, base)
        reduce(lambda a, b: a @ b, [mats[i] for i in idx if i in mats])
        sorted(items, key=lambda it: (-weights[it], it))
        """,
        needs="base idx items mats op sorted weights",
        binds="add partial reduce",
    ),
    case(
        "retries",
        r"""
        n_ok = 0
        for _ in range(retries):
            try:
                resp = requests.get(url)
                resp.raise_for_status()
            except requests.HTTPError as err:
                last_err = err
                time.sleep(backoff)
                continue
            else:
                n_ok += 1
                break
        else:
            raise RuntimeError("no answer") from last_err
        resp.json()
        """,
        needs="RuntimeError backoff range requests retries time url",
        may="last_err",
        binds="_ last_err n_ok resp",
    ),
    case(
        "soup",
        r"""
        from bs4 import BeautifulSoup
        soup = BeautifulSoup(html)
        links = {a["href"] for a in soup.find_all("a") if (h := a.get("href")) and h.startswith(base)}
        counts = Counter(w for doc in docs for w in doc.split() if w not in stop)
        {k: v for k, v in counts.items() if v > min_count}
        """,
        needs="Counter base docs html min_count stop",
        binds="BeautifulSoup counts h links soup",
    ),
    case(
        "numba",
        r"""
        jit_f = numba.njit(f)
        @numba.njit(parallel=True)
        def kernel(a):
            out = np.zeros(N)
            for i in numba.prange(N):
                out[i] = a[i] * C
            return out
        kernel(arr)
        """,
        needs="C N arr f np numba",
        binds="jit_f kernel",
    ),
    case(
        "differences_with_previous",
        r"""
        for i, row in df.iterrows():
            if prev is not None:
                deltas.append(row.t - prev)
            prev = row.t
        """,
        needs="deltas df prev",
        binds="i prev row",
    ),
    case(
        "differences_from_the_start",
        r"""
        prev = None
        for i, row in df.iterrows():
            if prev is not None:
                deltas.append(row.t - prev)
            prev = row.t
        """,
        needs="deltas df",
        binds="i prev row",
    ),
    case(
        "shell_by_hand",
        r"""
        ip = get_ipython()
        ip.run_line_magic("load_ext", "autoreload")
        %autoreload 2
        %env CUDA_VISIBLE_DEVICES={gpu}
        """,
        may="gpu",
        binds="ip",
    ),
    case(
        "magics_in_a_loop",
        r"""
        for name, model in models.items():
            %time model.fit(X, y)
            out = !du -h {path / name}
            print(out[0])
        """,
        needs="X models print y",
        may="path",
        binds="model name out",
    ),
    case(
        "globals_across_functions",
        r"""
        def train(cfg):
            global model
            model = build(cfg)
            for e in range(cfg.epochs):
                step(e)
        def step(e):
            model.fit(X)
            log[e] = model.loss
        log = {}
        train(cfg)
        plot(log)
        """,
        needs="X build cfg plot range",
        binds="log model step train",
    ),
    case(
        "registry_of_classes",
        r"""
        class Base:
            registry = {}
            def __init_subclass__(cls, **kw):
                Base.registry[cls.__name__] = (cls, VERSION)
        class A(Base):
            x = [i * scale for i in range(3)]
            y = {k: helper(k) for k in x}
            helper2 = staticmethod(lambda v: v + offset)
            def f(self): return self.x, A.y, super().g()
        a = A(); offset = 1
        """,
        needs="VERSION helper range scale staticmethod super",
        may="offset",
        binds="A Base a offset",
    ),
    case(
        "paths_by_star",
        r"""
        from pathlib import *
        p = Path(root)
        files = sorted(p.glob("*"))
        """,
        may="Path root sorted",
        binds="files p",
        stars="pathlib",
    ),
    case(
        "two_files",
        r"""
        with open(a) as f, open(b, "w") as g:
            g.writelines(l for l in f if l.strip() not in skip)
        """,
        needs="a b open skip",
        binds="f g",
    ),
    case(
        "decorator_and_constant",
        r"""
        def deco(fn):
            @functools.wraps(fn)
            def inner(*a, **k):
                calls.append(fn.__name__)
                return fn(*a, **k)
            return inner
        @deco
        def area(r): return PI * r ** 2
        PI = 3.14
        area(2)
        """,
        needs="calls functools",
        may="PI",
        binds="PI area deco",
    ),
    case(
        "gpu_or_not",
        r"""
        try:
            import cupy as xp
        except ImportError:
            import numpy as xp
        a = xp.zeros(n)
        try:
            fast(a)
        except Exception:
            slow(a)
        finally:
            clean(tmp)
        """,
        needs="Exception ImportError clean n slow tmp",
        may="fast",
        binds="a xp",
    ),
    case(
        "worker_queue",
        r"""
        lock = asyncio.Lock()
        async def worker(q):
            while True:
                item = await q.get()
                async with lock:
                    seen.add(item)
                q.task_done()
        q = asyncio.Queue()
        tasks = [asyncio.create_task(worker(q)) for _ in range(n)]
        for u in urls: q.put_nowait(u)
        await q.join()
        for t in tasks: t.cancel()
        """,
        needs="asyncio n range seen urls",
        binds="lock q t tasks u worker",
    ),
    case(
        "f_string",
        r"""
        print(f"{df.shape=}, {v:>{w}.{p}f} {', '.join(f'{k}={z}' for k, z in d.items())}")
        """,
        needs="d df p print v w",
    ),
    case(
        "generators_in_calls",
        r"""
        total = sum(w for _, w in G.edges(data="weight") if w > cut)
        ok = all(v in ALLOWED for v in vals) and any(u for u in us)
        best = min(cands, key=lambda c: cost(c, total))
        """,
        needs="ALLOWED G all any cands cost cut min sum us vals",
        binds="best ok total",
    ),
    case(
        "closures",
        r"""
        def outer():
            def helper(): return K
            def run(): return helper() + M
            return run
        r = outer()
        K = 1
        r()
        """,
        needs="M",
        may="K",
        binds="K outer r",
    ),
    case(
        "timed_loop_with_shell",
        r"""
        %%time
        import numpy as np
        %config InlineBackend.figure_format = "retina"
        acc = []
        for i in range(n):
            acc.append(f(i))
            if i % 100 == 0:
                !nvidia-smi --id={gpu}
        np.mean(acc)
        """,
        needs="f n range",
        may="gpu",
        binds="_exit_code acc i np",
    ),
    case(
        "nested_comprehension",
        r"""
        [(i, j) for i in rows for j in cols[i] if (k := i + j) % m for l in range(k)]
        """,
        needs="cols m range rows",
        binds="k",
    ),
    case(
        "memo",
        r"""
        def memo(f, cache={}):
            def g(n):
                if n in cache: return cache[n]
                r = cache[n] = f(n)
                return r
            return g
        @memo
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        fact(5)
        """,
        binds="fact memo",
    ),
    case(
        "constants_in_conditions",
        r"""
        if True:
            alpha = 1
        while 1:
            beta = alpha
            break
        beta
        """,
        binds="alpha beta",
    ),
    case(
        "descent",
        r"""
        lr = lr0
        for step in range(100):
            if step and step % 10 == 0:
                lr *= gamma
            w = w - lr * grad(w)
            if not np.isfinite(w).all():
                del w
                break
        """,
        needs="gamma grad lr0 np range w",
        binds="lr step w",
    ),
    case(
        "recursive_flatten",
        r"""
        from itertools import chain as c
        def r(t): return list(c(r(x) for x in t)) if isinstance(t, list) else [t]
        r(nested)
        """,
        needs="isinstance list nested",
        binds="c r",
    ),
    case(
        "lazy_frames",
        r"""
        data = (pd.read_json(u) for u in urls)
        urls = ["a"]
        pd.concat(data)
        """,
        needs="pd urls",
        binds="data urls",
    ),
    case(
        "defaults_and_decorators",
        r"""
        def f(n=(lambda: Z)()): ...
        def h(*, k=[q for q in Q]): ...
        @dec(lambda: W)
        class X(metaclass=make(Y)): ...
        """,
        needs="Q W Y Z dec make",
        binds="X f h",
    ),
    case(
        "facets",
        r"""
        sns.set_theme()
        g = sns.FacetGrid(df, col="k").map_dataframe(lambda data, **kw: sns.lineplot(data=data, y=col, **kw))
        g.fig.savefig(OUT / f"{tag}.png")
        """,
        needs="OUT col df sns tag",
        binds="g",
    ),
    case(
        "inference",
        r"""
        with torch.no_grad(), autocast(device_type=dev):
            for i, b in enumerate(dl):
                preds = net(b)
                if i == 0:
                    allp = preds
                else:
                    allp = torch.cat([allp, preds])
        allp.shape
        """,
        needs="autocast dev dl enumerate net torch",
        may="allp",
        binds="allp b i preds",
    ),
    case(
        "coroutine_of_old",
        r"""
        def gen():
            x = yield
            while x: x = yield x * F
        it = gen(); next(it)
        F = 2
        it.send(3)
        """,
        needs="next",
        may="F",
        binds="F gen it",
    ),
    case(
        "targets",
        r"""
        a = b = c = []
        (a, b), c.d, e[f] = g
        del a[0], e
        *_, last = xs
        """,
        needs="e f g xs",
        binds="_ a b c last",
    ),
]
