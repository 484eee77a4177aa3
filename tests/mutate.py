"""Whether the formulas' tests can fail: the code that carries a formula's number is made wrong, bit by bit.

    python tests/mutate.py [companion.vae …] [--only 3.18]

A function carries the numbers that its docstring cites, or else those of its class. Each mutant of it (a sign turned, a
term or a factor dropped, a constant doubled, a mean for a sum, a logarithm left out, two arguments exchanged, …) meets
only the tests that are marked with one of these numbers; the first to fail has killed it. What no test can tell from
the right code stands in `mutate.toml` with the reason, by function or by mutation. The status is 1 if others survive.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import inspect
import json
import os
import re
import resource
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parent.parent
MODULES = ["latent", "ppca", "autoencoder", "likelihoods", "vae", "gan", "metrics", "diffusion"]
NUMBER = re.compile(r"\((\d+\.\d+)\)")
QUICK = ["-qs", "--assert=plain", "--tb=native", "-pno:cacheprovider", "-pno:logging"]
SECONDS = 5  # of CPU time, that a mutant may take more than thrice what its tests take otherwise

OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
OPPOSITE |= {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
OTHER = {"sum": "mean", "sin": "cos", "cos": "sin", "logsumexp": "sum", "logdet": "det"}
OTHER |= {"variance": "stddev", "stddev": "variance", "rsqrt": "sqrt"}
DROPPED = {"abs", "cholesky", "exp", "expm1", "inv", "log", "log_softmax", "sigmoid", "softmax", "softplus"}
DROPPED |= {"sqrt", "square"}
SYMMETRIC = {"isinstance", "logaddexp", "minimum", "maximum", "zip"}
LIBRARIES = {"torch", "torch.linalg", "math", "nn.functional"}


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What a mistake could make of this expression."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in OPPOSITE:
            yield ast.BinOp(left, OPPOSITE[type(op)](), right)
            yield left
            without = {ast.Sub: ast.UnaryOp(ast.USub(), right), ast.Div: ast.BinOp(ast.Constant(1), op, right)}
            yield without.get(type(op), right)
        case ast.BinOp(left, ast.Pow()):
            yield left
        case ast.AugAssign(target, op, value) if type(op) in OPPOSITE:
            yield ast.AugAssign(target, OPPOSITE[type(op)](), value)
        case ast.UnaryOp(ast.USub(), ast.Constant(int())):
            return  # an axis
        case ast.UnaryOp(ast.USub(), value) | ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.Compare(left, [op], [right]) if type(op) in OPPOSITE:
            yield ast.Compare(left, [OPPOSITE[type(op)]()], [right])
        case ast.Return(ast.Tuple([first, second])):
            yield ast.Return(ast.Tuple([second, first], ast.Load()))
        case ast.Attribute(value, name) if name in OTHER:
            yield ast.Attribute(value, OTHER[name], ast.Load())
        case ast.Call(ast.Attribute(value, "mean"), args, keywords):
            yield ast.Call(ast.Attribute(value, "sum", ast.Load()), args, keywords)
        case ast.Call(func, args, keywords):
            name = ast.unparse(func).split(".")[-1]
            if name in DROPPED:
                of_library = isinstance(func, ast.Name) or ast.unparse(func.value) in LIBRARIES
                yield args[0] if of_library else func.value
            if len(args) > 1 and name not in SYMMETRIC and not any(isinstance(a, ast.Constant) for a in args[:2]):
                yield ast.Call(func, [args[1], args[0], *args[2:]], keywords)
    for side in ("left", "right") if isinstance(node, ast.BinOp) else ():
        if isinstance(constant := getattr(node, side), ast.Constant) and isinstance(constant.value, int | float):
            yield ast.BinOp(**{**vars(node), side: ast.Constant(2 * constant.value or 1)})


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it that compute something: no checks of arguments, messages, types or devices."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.If(body=[ast.Raise()], orelse=[]):
            return
        case ast.Call(func) if ast.unparse(func).startswith("check_"):
            return
        case ast.keyword(arg="dtype" | "device" | "generator"):
            return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from expressions(child)


def mutations(function: ast.FunctionDef) -> dict[str, tuple[ast.AST, ast.AST]]:
    """Expressions and what takes their place, by the text of both."""
    found = {}
    for node in (node for statement in function.body for node in expressions(statement)):
        for new in variants(node):
            before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(new))
            if before != after:
                found.setdefault(f"{before} → {after}", (node, new))
    return found


def numbered(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, set[str]]]:
    """Functions and methods with their qualified names and the formulas that they carry."""
    for node in tree.body:
        for function in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(function, ast.FunctionDef):
                name = function.name if function is node else f"{node.name}.{function.name}"
                cited = (NUMBER.findall(ast.get_docstring(part) or "") for part in (function, node))
                yield name, function, set(next(filter(None, cited), ()))


def replace(module: object, name: str, tree: ast.Module) -> None:
    """Make a function or method of the module what it is in the tree, wherever else it has been imported."""
    codes, found = [compile(tree, "a mutant", "exec")], module
    while (code := codes.pop()).co_qualname != name:
        codes += [constant for constant in code.co_consts if hasattr(constant, "co_qualname")]
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found)).__code__ = code


def first_failure(tests: list[pytest.Item]) -> str | None:
    """The name of the first of these tests that fails."""
    for item in tests:
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=None)):
            return item.name
    return None


def seconds_of(tests: list[pytest.Item]) -> dict[str, float]:
    """CPU time of each test; all must pass."""
    seconds = {}
    for item in tests:
        start = time.process_time()
        if first_failure([item]):
            sys.exit(f"{item.nodeid} fails already without a mutation")
        seconds[item.nodeid] = time.process_time() - start
    return seconds


def in_a_child(work: Callable[[], object], seconds: float) -> object:
    """What the work returns in a process of its own, which starts with all that is imported here."""
    read, write = os.pipe()
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        try:
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    return "(time limit)" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else json.loads(answer)


class Mutate:
    """A plugin of pytest that runs the collected tests against one mutant after another."""

    def __init__(self, modules: list[str], only: str | None) -> None:
        self.modules, self.only = modules, only
        self.marked, self.found = defaultdict(list), []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            pytest.exit("some tests could not be collected", 2)
        for item in session.items:
            for mark in item.iter_markers("equation"):
                for number in mark.args:
                    self.marked[number].append(item)
        torch.testing.assert_close(torch.ones(1), torch.ones(1))  # imports what would cost each child a second
        gc.disable()  # a collection in a child would copy all that it shares
        reasons = tomllib.loads((ROOT / "tests/mutate.toml").read_text())
        for name in self.modules:
            self.module(name, reasons.get(name, {}))
        return True

    def tests(self, numbers: set[str]) -> list[pytest.Item]:
        return list({item.nodeid: item for number in sorted(numbers) for item in self.marked[number]}.values())

    def module(self, name: str, excused: dict[str, str]) -> None:
        module = importlib.import_module(name)
        tree = ast.parse(Path(module.__file__).read_text())
        functions = [part for part in numbered(tree) if self.only in (None, *part[2]) and self.tests(part[2])]
        tests = self.tests({number for _, _, numbers in functions for number in numbers})
        seconds, unused = in_a_child(lambda: seconds_of(tests), 3600), set(excused)
        for qualified, function, numbers in functions:
            title = f"\n{name}.{qualified} ({', '.join(sorted(numbers))}):"
            if qualified in excused:
                unused.discard(qualified)
                print(title, "left out, because", excused[qualified])
                continue
            tests = sorted(self.tests(numbers), key=lambda item: seconds[item.nodeid])
            limit = SECONDS + 3 * sum(seconds[item.nodeid] for item in tests)
            killers, left = Counter(), []
            for text, (old, new) in mutations(function).items():

                def work(old=old, new=new, qualified=qualified, tests=tests) -> str | None:
                    old.__class__, old.__dict__ = new.__class__, vars(new)
                    replace(module, qualified, tree)
                    return first_failure(tests)

                if killer := in_a_child(work, limit):
                    killers[killer] += 1
                else:
                    left.append((f"{qualified}: {text}", old.lineno))
            print(title, f"{killers.total() + len(left)} mutants, {killers.total()} killed")
            print(*(f"    {times:3} by {killer}" for killer, times in killers.most_common()), sep="\n")
            for key, line in left:
                unused.discard(key)
                print(f"    SURVIVES, line {line}: {key}\n        because {excused.get(key, '?')}", flush=True)
                self.found += [f"{name}.{key}"] * (key not in excused)
        if not self.only:
            self.found += [f"mutate.toml excuses {name}.{key}, which does not survive" for key in sorted(unused)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=[f"companion.{name}" for name in MODULES])
    parser.add_argument("--only", metavar="c.n", help="the functions that carry this formula")
    options = parser.parse_args()
    os.chdir(ROOT)
    files = [str(path) for path in sorted(Path("tests").glob("test_*.py")) if "mark.equation(" in path.read_text()]
    mutate = Mutate(options.modules, options.only)
    status = pytest.main([*QUICK, *files], plugins=[mutate])
    print(f"\n{len(mutate.found)} without a reason", *mutate.found, sep="\n")
    sys.exit(bool(mutate.found) or status != pytest.ExitCode.NO_TESTS_COLLECTED)
