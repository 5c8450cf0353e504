"""Cells with the names that they need, may need and bind: the table of tests/unit/test_cell_names.py."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import NamedTuple


class Case(NamedTuple):
    id: str
    cell: str
    needs: str = ""
    may_need: str = ""
    binds: str = ""
    stars: str = ""


def case(name: str, cell: str, needs: str = "", may: str = "", binds: str = "", stars: str = "") -> Case:
    return Case(name, dedent(cell).strip("\n"), needs, may, binds, stars)


ORDER = [
    case("an_empty_cell", ""),
    case("a_read", "x", "x"),
    case("a_read_after_its_binding", "x = 1\ny = x", "", "", "x y"),
    case("a_read_before_its_binding", "y = x\nx = 1", "x", "", "x y"),
    case("a_name_from_itself", "x = x + 1", "x", "", "x"),
    case("augmented", "n += k", "n k", "", "n"),
    case("augmented_after_binding", "n = 0\nn += 1", "", "", "n"),
    case("augmented_attribute_and_item", "a.b += c\nd[i] *= j", "a c d i j"),
    case("attribute_and_item_targets", "a.b = c\nd[i] = j", "a c d i j"),
    case("tuple_targets", "a, (b, [c, *d]) = e", "e", "", "a b c d"),
    case("chained_targets_bind_from_left_to_right", "i = a[i] = 3", "a", "", "i"),
    case("swap", "a, b = b, a", "a b", "", "a b"),
    case("a_builtin_is_a_read_like_another", "len(xs)", "len xs"),
    case("a_builtin_hidden_by_the_cell", "len = 3\nlen", "", "", "len"),
    case("attributes_and_keywords_are_no_names", "f(key=a.key).key", "f a"),
    case("names_of_the_shell_are_no_captures", "get_ipython()\n__name__\n__builtins__"),
    case("slices", "a[i:j:k]", "a i j k"),
    case("f_string", "f'{x!r:{width}} {y=}'", "x width y"),
    case("f_string_with_walrus", "f'{(n := m)}'\nn", "m", "", "n"),
    case("star_arguments", "f(*a, **k)", "f a k"),
    case("dict_display", "{**a, b: c}", "a b c"),
]
DELETING = [
    case("del_wants_what_it_deletes", "del x", "x"),
    case("del_after_binding", "x = 1\ndel x"),
    case("del_then_read_is_an_error_whatever_the_notebook_has", "x = 1\ndel x\nx"),
    case("del_then_bind", "del x\nx = 1", "x", "", "x"),
    case("del_of_items_and_attributes", "del a[i], b.c", "a i b"),
    case("del_of_a_tuple", "del (a, [b])", "a b"),
    case("del_under_a_condition", "x = 1\nif c:\n    del x\nx", "c", "", "x"),
    case("del_in_a_loop", "for i in r:\n    t = i\n    del t", "r", "", "i"),
]
BRANCHES = [
    case("bound_in_both_branches", "if c:\n    x = 1\nelse:\n    x = 2\nx", "c", "", "x"),
    case("bound_in_one_branch", "if c:\n    x = 1\nx", "c", "x", "x"),
    case("bound_in_all_of_elif", "if a:\n    x = 1\nelif b:\n    x = 2\nelse:\n    x = 3\nx", "a b", "", "x"),
    case("the_other_branch_leaves", "if c:\n    raise e\nelse:\n    x = 1\nx", "c e", "", "x"),
    case("read_in_a_branch", "if c:\n    x", "c x"),
    case("read_in_a_branch_bound_in_the_other", "if c:\n    x = 1\nelse:\n    x", "c x", "", "x"),
    case("what_is_never_run", "if False:\n    x\nif 1:\n    y\nelse:\n    z", "y"),
    case("after_raise", "raise e\nx", "e"),
    case("ternary", "a if c else b", "a b c"),
    case("ternary_with_walrus", "(x := 1) if c else 2\nx", "c", "x", "x"),
    case("ternary_with_walrus_in_both", "(x := 1) if c else (x := 2)\nx", "c", "", "x"),
    case("and_with_walrus", "a and (x := b)\nx", "a b", "x", "x"),
    case("first_of_and_is_sure", "(x := a) and b\nx", "a b", "", "x"),
    case("if_and_with_walrus", "if a and (x := b):\n    x", "a b", "", "x"),
    case("if_or_with_walrus", "if a or (x := b):\n    x\nelse:\n    x", "a b", "x", "x"),
    case("if_or_with_walrus_in_both", "if (x := a) > 1 or x < b:\n    x", "a b", "", "x"),
    case("if_not_with_walrus", "if not (a and (x := b)):\n    raise e\nx", "a b e", "", "x"),
    case("chained_comparison", "a < b < (x := c) < x", "a b c", "", "x"),
    case("chained_comparison_stops_early", "a < b < (x := c)\nx", "a b c", "x", "x"),
    case("comparison_of_two_is_sure", "a < (x := c)\nx", "a c", "", "x"),
    case("assert", "assert a, b", "a b"),
    case("assert_with_walrus", "assert (m := f(s)), m\nm", "f s", "", "m"),
    case("conditional_import", "if c:\n    import numpy as np\nnp", "c", "np", "np"),
    case(
        "import_or_else", "try:\n    import a\nexcept ImportError:\n    a = None\na", "ImportError", "", "a"
    ),
    case(
        "match_binds_in_its_case",
        """
        match m:
            case [a, *rest]:
                a, rest
            case {"k": v, **others} if v > low:
                v, others
            case Point(x=px) | Other(px):
                px
            case Color.RED as col:
                col
            case _:
                z = 1
        """,
        "m low Point Other Color",
        "",
        "a rest v others px col z",
    ),
    case(
        "match_that_always_binds",
        "match m:\n    case [x]:\n        pass\n    case x:\n        pass\nx",
        "m",
        "",
        "x",
    ),
    case("match_that_may_not", "match m:\n    case [x]:\n        pass\nx", "m", "x", "x"),
    case("match_guard_with_walrus", "match m:\n    case 1 if (g := f(m)):\n        g\ng", "m f", "g", "g"),
]
LOOPS = [
    case("bound_by_for", "for i in r:\n    i", "r", "", "i"),
    case("bound_in_a_loop_read_after", "for i in r:\n    x = i\nx, i", "r", "x i", "i x"),
    case("bound_in_a_loop_that_surely_turns", "for i in (1, 2):\n    x = i\nx, i", "", "", "i x"),
    case("bound_before_the_loop", "x = 0\nfor i in r:\n    x = x + i\nx", "r", "", "i x"),
    case("the_first_turn_reads_it_unbound", "for i in r:\n    total += i", "r total", "", "i total"),
    case(
        "bound_in_an_earlier_turn",
        "for i in r:\n    if i:\n        prev\n    prev = i",
        "r",
        "prev",
        "i prev",
    ),
    case(
        "the_first_turn_goes_on_early",
        "for i in r:\n    if a(i):\n        x = i\n        continue\n    x",
        "r a",
        "x",
        "i x",
    ),
    case("a_loop_in_a_loop", "for i in r:\n    for j in s:\n        x\n    x = i", "r s", "x", "i j x"),
    case(
        "read_and_bound_in_the_inner_loop",
        "for i in r:\n    for j in s:\n        n = n + 1",
        "r s n",
        "",
        "i j n",
    ),
    case(
        "for_else",
        "for i in r:\n    if i:\n        x = 1\n        break\nelse:\n    x = 2\nx",
        "r",
        "",
        "i x",
    ),
    case("for_else_is_skipped_by_break", "for i in r:\n    break\nelse:\n    x = 1\nx", "r", "x", "i x"),
    case("while", "while c:\n    x = 1\nx", "c", "x", "x"),
    case("while_true_with_break", "while True:\n    x = f()\n    if x:\n        break\nx", "f", "", "x"),
    case("while_true_break_before", "while True:\n    if c:\n        break\n    x = 1\nx", "c", "x", "x"),
    case("while_true_for_ever", "while True:\n    x = f()\ny", "f", "", "x"),
    case("while_walrus", "while (line := f()):\n    line\nline", "f", "", "line"),
    case("while_else", "while c:\n    pass\nelse:\n    x = 1\nx", "c", "", "x"),
    case("the_iterable_before_the_target", "for x in x:\n    x", "x", "", "x"),
    case("targets_of_loops", "for a.b in r:\n    pass\nfor c[i], d in s:\n    d", "a r c i s", "", "d"),
    case("continue", "for i in r:\n    if c:\n        continue\n    x = 1\n    x", "r c", "", "i x"),
]
TRYING = [
    case("name_error_caught", "try:\n    x\nexcept NameError:\n    x = 1\nx", "NameError", "x", "x"),
    case(
        "only_if_a_name_is_missing", "try:\n    x\nexcept NameError:\n    x = f(y)", "NameError", "x f y", "x"
    ),
    case("anything_caught", "try:\n    x\nexcept:\n    x = 1\nx", "", "x", "x"),
    case("another_error_caught", "try:\n    x\nexcept E:\n    y\nx", "x y E"),
    case("except_as_unbinds_its_name", "try:\n    f()\nexcept E as e:\n    e", "f E", "", ""),
    case(
        "except_as_left_by_continue",
        "for i in r:\n    try:\n        f()\n    except E as e:\n        continue",
        "r f E",
        "",
        "i",
    ),
    case("read_after_except_as", "try:\n    f()\nexcept E as e:\n    e\ne", "f E", "e", ""),
    case("bound_in_try_read_in_except", "try:\n    x = f()\nexcept E:\n    x", "f E", "x", "x"),
    case("bound_in_try_and_except", "try:\n    x = f()\nexcept E:\n    x = 1\nx", "f E", "", "x"),
    case("except_leaves", "try:\n    x = f()\nexcept E:\n    raise\nx", "f E", "", "x"),
    case("bound_in_try_read_in_else", "try:\n    x = f()\nexcept E:\n    pass\nelse:\n    x", "f E", "", "x"),
    case("bound_in_else", "try:\n    f()\nexcept E:\n    pass\nelse:\n    x = 1\nx", "f E", "x", "x"),
    case("bound_in_finally", "try:\n    f()\nfinally:\n    x = 1\nx", "f", "", "x"),
    case("bound_in_try_read_in_finally", "try:\n    x = f()\nfinally:\n    x.close()\nx", "f", "x", "x"),
    case("except_several", "try:\n    f()\nexcept (A, B):\n    a\nexcept C as c:\n    c", "f A B a C"),
    case("with", "with a as b, c(b) as (d, e):\n    x = d\nx, e", "a c", "", "b d e x"),
    case("with_that_suppresses", "with suppress(E):\n    x = f()\nx", "suppress E f", "x", "x"),
    case(
        "with_that_suppresses_name_errors", "with suppress(NameError):\n    del x", "suppress NameError", "x"
    ),
    case("with_item_target", "with a as b.c:\n    pass", "a b"),
]
FUNCTIONS = [
    case("defined_and_never_called", "def f():\n    return x", "", "x", "f"),
    case("called_after_its_names_are_bound", "def f():\n    return x\nx = 1\nf()", "", "", "f x"),
    case("called_before_its_names_are_bound", "def f():\n    return x\nf()\nx = 1", "x", "", "f x"),
    case("called_and_never_bound", "def f(a):\n    return a + x\nf(1)", "x", "", "f"),
    case(
        "parameters_and_locals",
        "def f(a, /, b, *c, d, **e):\n    g = a, b, c, d, e\n    return g\nf(1)",
        "",
        "",
        "f",
    ),
    case("defaults_at_once", "def f(a=x, *, b=y):\n    return a, b\nx = y = 1", "x y", "", "f x y"),
    case("lambda_defaults_at_once", "f = lambda a=x: a", "x", "", "f"),
    case("lambda_by_name", "f = lambda: x\nx = 1\nf()", "", "", "f x"),
    case("lambda_given_away", "g(lambda a: a + x)", "g x"),
    case("lambda_given_away_before_the_binding", "h.append(lambda: x)\nx = 1", "h", "x", "x"),
    case("function_given_away", "def f():\n    return x\ng(f)", "g x", "", "f"),
    case("function_given_away_before_the_binding", "def f():\n    return x\ng(f)\nx = 1", "g", "x", "f x"),
    case("function_by_another_name", "def f():\n    return x\ng = f\nx = 1\ng()", "", "", "f g x"),
    case("decorators_at_once", "@a.b(c)\ndef f(): pass", "a c", "", "f"),
    case("decorated_and_called", "@cache\ndef f():\n    return x\nx = 1\nf()", "cache", "", "f x"),
    case("a_decorator_may_call", "@now\ndef f():\n    return x\nx = 1", "now", "x", "f x"),
    case("recursive", "def f(n):\n    return f(n - 1) + x if n else 0\nf(3)", "x", "", "f"),
    case(
        "mutually_recursive",
        """
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n and even(n - k)
        k = 1
        even(4)
        """,
        "",
        "",
        "even odd k",
    ),
    case(
        "uses_a_function_defined_later",
        "def f():\n    return g()\ndef g():\n    return x\nf()",
        "x",
        "",
        "f g",
    ),
    case("uses_a_function_defined_too_late", "def f():\n    return g()\nf()\ndef g(): pass", "g", "", "f g"),
    case("global_in_a_function", "def f():\n    global x\n    x = 1\nf()\nx", "", "", "f x"),
    case("global_never_called", "def f():\n    global x\n    x = 1\nx", "x", "", "f x"),
    case("global_counter", "def f():\n    global n\n    n += 1\nn = 0\nf()", "", "", "f n"),
    case("global_counter_unbound", "def f():\n    global n\n    n += 1\nf()", "n", "", "f n"),
    case(
        "global_bound_under_a_condition",
        "def f(c):\n    global x\n    if c:\n        x = 1\nf(0)\nx",
        "",
        "x",
        "f x",
    ),
    case(
        "nonlocal",
        """
        def f():
            n = 0
            def g():
                nonlocal n
                n += 1
                return n
            return g
        f()()
        """,
        "",
        "",
        "f",
    ),
    case(
        "closure", "def f(a):\n    def g(b):\n        return a + b + x\n    return g(1)\nf(2)", "x", "", "f"
    ),
    case("local_hides_the_notebooks", "def f():\n    x = 1\n    return x\nf()", "", "", "f"),
    case("local_even_before_its_binding", "def f():\n    y = x\n    x = 1\nf()", "", "", "f"),
    case("early_return", "def f(a):\n    if a:\n        return x\n    raise y\nf(1)", "x y", "", "f"),
    case("after_return", "def f():\n    return 1\n    x\nf()", "", "", "f"),
    case("star_target_and_del_make_locals", "def f():\n    *x, y = z\n    del w\nf()", "z", "", "f"),
    case("import_makes_a_local", "def f():\n    import os.path\n    return os\nf()", "", "", "f"),
    case(
        "except_as_makes_a_local",
        "def f():\n    try:\n        g()\n    except E as x:\n        x\nf()",
        "g E",
        "",
        "f",
    ),
    case("redefined", "def f():\n    return x\ndef f():\n    return y\nf()", "y", "x", "f"),
    case(
        "one_of_two",
        "if c:\n    def f():\n        return x\nelse:\n    def f():\n        return y\nf()",
        "c x y",
        "",
        "f",
    ),
    case(
        "called_in_both_branches",
        "def f():\n    return x\nif c:\n    x = 1\n    f()\nelse:\n    f()",
        "c x",
        "",
        "f x",
    ),
    case("generator", "def g():\n    yield x\nlist(g())", "list x", "", "g"),
    case("generator_made_before_the_binding", "def g():\n    yield x\nit = g()\nx = 1", "", "x", "g it x"),
    case("generator_expression", "sum(x * k for x in xs)", "sum k xs"),
    case("generator_expression_is_lazy", "g = (x * k for x in xs)\nk = 2", "xs", "k", "g k"),
    case("lambda_called_at_once", "(lambda a: a + x)(1)", "x"),
    case("walrus_in_lambda_is_local", "f = lambda: (y := x)\nf()", "x", "", "f"),
    case("inner_function_never_called", "def f():\n    def g():\n        return x\nf()", "", "x", "f"),
    case(
        "class_in_function",
        """
        def f():
            a = 1
            class C:
                b = a
                def m(self):
                    return x
            return C().m()
        f()
        """,
        "x",
        "",
        "f",
    ),
]
CLASSES = [
    case("bases_keywords_decorators_at_once", "@d\nclass A(B, metaclass=M): pass", "d B M", "", "A"),
    case("class_body_at_once", "class A:\n    y = x\nx = 1", "x", "", "A x"),
    case("a_class_attribute_of_the_same_name", "class A:\n    x = x", "x", "", "A"),
    case("a_class_attribute_hides", "class A:\n    x = 1\n    y = x", "", "", "A"),
    case("a_class_attribute_bound_perhaps", "class A:\n    if c:\n        x = 1\n    y = x", "c", "x", "A"),
    case("a_class_attribute_deleted", "class A:\n    x = 1\n    y = x\n    del x\n    z = x", "", "x", "A"),
    case("a_temporary_in_a_class", "class A:\n    t = 1\n    y = t\n    del t", "", "", "A"),
    case(
        "a_class_attribute_deleted_in_a_turn",
        "class A:\n    x = 1\n    for i in r:\n        x\n        del x",
        "r",
        "x",
        "A",
    ),
    case(
        "methods_do_not_see_attributes",
        "class A:\n    x = 1\n    def m(self):\n        return x\nA().m()",
        "x",
        "",
        "A",
    ),
    case(
        "methods_count_where_the_class_is_used",
        "class A:\n    def m(self):\n        return x\nx = 1\nA()",
        "",
        "",
        "A x",
    ),
    case("methods_never_used", "class A:\n    def m(self):\n        return x", "", "x", "A"),
    case("a_class_in_its_own_method", "class A:\n    def m(self):\n        return A()\nA()", "", "", "A"),
    case(
        "class_body_reads_globals_not_the_enclosing",
        "def f():\n    x = 1\n    class A:\n        x = x\n    return A\nf()",
        "x",
        "",
        "f",
    ),
    case(
        "class_body_reads_the_enclosing",
        "def f():\n    x = 1\n    class A:\n        y = x\n    return A\nf()",
        "",
        "",
        "f",
    ),
    case("global_in_a_class", "class A:\n    global x\n    x = 1\nx", "", "", "A x"),
    case(
        "super_and_class_cell",
        "class A(B):\n    def m(self):\n        super().m()\n        return __class__\nA()",
        "B super",
        "",
        "A",
    ),
    case(
        "private_names", "class A:\n    def m(self):\n        return __x, __y__\nA()", "_A__x __y__", "", "A"
    ),
    case("names_of_a_class_body", "class A:\n    n = __qualname__, __module__", "", "", "A"),
    case("a_comprehension_in_a_class", "class A:\n    xs = ys\n    zs = [xs for y in xs]", "ys xs", "", "A"),
    case(
        "property_and_setter",
        """
        class A:
            @property
            def p(self):
                return x
            @p.setter
            def p(self, v):
                y[v]
        x = y = 1
        A()
        """,
        "property",
        "",
        "A x y",
    ),
    case(
        "inner_class",
        "class A:\n    class B:\n        def m(self):\n            return x\nA.B()",
        "x",
        "",
        "A",
    ),
    case(
        "dataclass",
        "@dataclass\nclass P:\n    x: float\n    y: List[int] = field(default_factory=lambda: d)",
        "dataclass float List int field d",
        "",
        "P",
    )
    if sys.version_info < (3, 14)
    else case("dataclass", "@dataclass\nclass P:\n    x: float", "dataclass", "float", "P"),
]
COMPREHENSIONS = [
    case("list_comprehension", "[x + k for x in xs if x > low]", "k xs low"),
    case("its_variable_stays_inside", "[x for x in xs]\nx", "xs x"),
    case("its_variable_hides", "x = 1\n[x for x in xs]\nx", "xs", "", "x"),
    case("dict_comprehension", "{k: f(v) for k, v in d.items()}", "f d"),
    case("nested_iterables", "[y for x in xs for y in x.ys if y in ok]", "xs ok"),
    case("first_iterable_outside", "[x for x in x]", "x"),
    case("second_iterable_inside", "[y for x in xs for y in y]", "xs"),
    case("nested_comprehension", "[[a for a in b] + c for b in bs]", "c bs"),
    case("walrus_in_comprehension", "[y for x in xs if (y := f(x))]\ny", "xs f", "y", "y"),
    case("running_total_unbound", "[t := t + x for x in xs]", "xs t", "", "t"),
    case("running_total", "t = 0\n[t := t + x for x in xs]", "xs", "", "t"),
    case("lambdas_in_comprehension", "[lambda: x + k for x in xs]", "xs k"),
    case("comprehension_in_a_function", "def f(a):\n    return {x: a for x in xs}\nf(1)", "xs", "", "f"),
]
ANNOTATIONS = [
    case(
        "future_annotations",
        "from __future__ import annotations\nx: A = 1\ndef f(a: B) -> C: ...",
        "",
        "",
        "annotations x f",
    ),
    case("annotations_of_locals", "def f():\n    x: A = 1\n    y: B\nf()", "", "", "f"),
    case("annotation_as_text", "x: 'A' = 1", "", "", "x"),
]
if sys.version_info < (3, 14):
    ANNOTATIONS += [
        case("annotation", "x: A = 1\nx", "A", "", "x"),
        case("annotation_without_value_binds_nothing", "x: A\nx", "A x", "", ""),
        case("annotations_of_functions", "def f(a: A, *b: B, c: C = d) -> D: ...", "A B C d D", "", "f"),
    ]
else:
    ANNOTATIONS += [case("annotations_are_lazy", "x: A = 1\ndef f(a: B) -> C: ...", "", "A B C", "x f")]
if sys.version_info >= (3, 12):
    ANNOTATIONS += [
        case("generic_function", "def f[T: B](a: T) -> T:\n    return T, x\nf(1)", "x", "B", "f"),
        case("generic_class", "class A[T](G[T]):\n    def m(self) -> T: ...", "G", "", "A"),
        case("type_alias", "type X = list[Y]\nX", "", "list Y", "X"),
        case("nested_quotes_in_f_strings", "f'{d['k']}'", "d"),
    ]
IMPORTS = [
    case("imports", "import a, b.c, d as e, f.g as h", "", "", "a b e h"),
    case("imports_from", "from a import b, c as d\nb, d", "", "", "b d"),
    case("star_import", "from numpy import *\narray(x)", "", "array x", "", "numpy"),
    case("before_a_star_import", "x\nfrom a.b import *\nfrom c import *", "x", "", "", "a.b c"),
    case("import_in_a_loop", "for i in r:\n    import a\na", "r", "a", "i a"),
]
ASYNC = [
    case("top_level_await", "x = await f(y)\nx", "f y", "", "x"),
    case(
        "async_for_and_with",
        "async with s(u) as c:\n    async for r in c:\n        d = r\nd",
        "s u",
        "d",
        "c r d",
    ),
    case("async_comprehension", "[x async for x in f(y) if await g(x)]", "f y g"),
    case("async_function_awaited", "async def f():\n    return x\nx = 1\nawait f()", "", "", "f x"),
    case(
        "async_function_awaited_too_early", "async def f():\n    return x\nawait f()\nx = 1", "x", "", "f x"
    ),
    case(
        "async_function_called_first",
        "async def f():\n    return x\nt = f()\nx = 1\nawait t",
        "",
        "x",
        "f t x",
    ),
    case(
        "gather",
        "async def f(u):\n    return await get(u)\nr = await asyncio.gather(*[f(u) for u in urls])",
        "asyncio urls get",
        "",
        "f r",
    ),
]
TEXTS = [
    case("asked_for_in_globals", "if 'x' not in globals():\n    x = f()\nx", "f globals", "x", "x"),
    case("asked_for_in_dir", "if 'x' in dir():\n    x", "dir", "x"),
    case("read_from_globals", "globals()['x']\nglobals().get('y')", "globals", "x y"),
    case("bound_in_globals", "globals()['x'] = 1\nx", "globals", "", "x"),
    case("query", "df.query('a > @low and b < @high')", "df", "low high"),
    case("query_in_f_string", "df.query(f'a > {low} & b < @high')", "df low", "high"),
    case("eval_of_a_text", "eval('x + 1')", "eval x"),
    case("exec_of_a_text", "exec('x = y')\nx", "exec y", "", "x"),
]
# As the user writes them: IPython transforms them in the test.
MAGICS = [
    case("time", "%time y = f(x)\ny", "f x", "", "y"),
    case("time_of_an_assignment", "y = %time f(x)\ny", "f x", "", "y"),
    case("timeit", "%timeit -n 3 -r2 f(x)", "f x"),
    case("timeit_binds_nothing", "%timeit y = f(x)\ny", "f x y"),
    case("timeit_output", "t = %timeit -o f(x)\nt", "f x", "", "t"),
    case("cell_time", "%%time\ny = f(x)\ny + 1", "f x", "", "y"),
    case("cell_timeit_with_setup", "%%timeit -n 5 k = g(1)\nf(k, x)", "f g x"),
    case("cell_capture", "%%capture out\ny = x", "x", "", "y out"),
    case("cell_capture_with_options", "%%capture --no-stderr out\ny = x", "x", "", "y out"),
    case(
        "magics_in_magics",
        "%%capture\n%%time\n%matplotlib inline\ny = %time f(x)\n!echo {z}",
        "f x",
        "z",
        "_exit_code y",
    ),
    case("magic_in_a_block", "if c:\n    %time f(x)\n    !rm $p\n", "c f x", "p", "_exit_code"),
    case("magic_of_a_function", "def g(a):\n    %time f(a, x)\ng(1)", "f x", "", "g"),
    case("prun", "%prun -l 5 -s time f(x)", "f x"),
    case("shell_line", "!echo {x} $y $$z ${w} '$q' {{v}}", "", "x y w", "_exit_code"),
    case("shell_line_and_how_it_went", "!ls\n_exit_code", "", "", "_exit_code"),
    case("shell_expression", "!ls {d['a'] + e.f(g)}", "", "d e g", "_exit_code"),
    case("shell_line_with_braces_of_awk", "!awk '{print $1, $x}' {f}", "", "", "_exit_code"),
    case("shell_line_in_a_loop", "for f in fs:\n    !wc {f}", "fs", "", "_exit_code f"),
    case("output_of_a_shell_line", "files = !ls $d\nfiles", "", "d", "files"),
    case("shell_cell", "%%bash -s {x}\necho $y {z}", "", "x"),
    case("shell_cell_output", "%%bash --out o --err e\nls", "", "", "o e"),
    case("sx_cell", "%%sx\necho {x}", "", "x"),
    case("file_cell", "%%writefile {p}\nx + y", "", "p"),
    case("question", "f?\na.b??", "", "f a"),
    case("line_magic_text", "%cd {p}/$q\n%env A={b}", "", "p q b"),
    case("continued_shell_line", "%%time\n!cp {a} \\\n  {b}\nx", "x", "a b", "_exit_code"),
    case("pylab", "%pylab inline\nplot(x)", "", "plot x", "", "pylab"),
    case("percent_that_is_no_magic", "%%time\ny = (x\n% z)", "x z", "", "y"),
]
