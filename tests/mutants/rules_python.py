"""Mutants of a Python module: calls left out, conditions negated, guards skipped, times wrong by ten.

The syntax tree says where; the text of that span alone is replaced.
"""

from __future__ import annotations

import ast
import re

from .mutant import AWAIT, CALL, CONDITION, SLOWER, SOONER, Mutant

_TIMES = re.compile(r"seconds|pause|interval|timeout|ttl|_ms\b|within|every|debt|clock|1000", re.IGNORECASE)
_WAITS = frozenset(["sleep", "timeout", "timeout_at", "uniform", "call_later", "wait_for", "min"])
_NO_GUARD = '__import__("contextlib").nullcontext({})'


def mutants(file: str, source: str) -> list[Mutant]:
    finder = _Finder(file, source)
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._scope: list[str] = []
        self.found: list[Mutant] = []

    # Where

    def _at(self, line: int, column: int) -> int:
        before = sum(len(text) for text in self._lines[: line - 1])
        return before + len(self._lines[line - 1].encode()[:column].decode())

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _replace(self, rule: str, node: ast.expr | ast.stmt, replacement: str) -> None:
        start, end = self._span(node)
        self.found.append(Mutant(self._file, rule, ".".join(self._scope), start, end, replacement))

    # Functions and classes

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given = node.args.posonlyargs + node.args.args
        defaults = zip(given[len(given) - len(node.args.defaults) :], node.args.defaults, strict=True)
        by_name = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        for argument, default in [*defaults, *by_name]:
            if default is not None and _TIMES.search(argument.arg):
                self._time(default)
        self._inside(node)

    # Conditions

    def _negate(self, node: ast.expr) -> None:
        if not isinstance(node, ast.Constant):
            self._replace(CONDITION, node, f"not ({self._text(node)})")

    def _negate_truth(self, node: ast.expr | None) -> None:
        """Of a value that is true or false, and only of such a one."""
        if node is not None and _is_truth(node):
            self._negate(node)

    def visit_If(self, node: ast.If) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._negate_truth(node.elt)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        self._negate_truth(node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._negate_truth(node.value)
        if not self._scope and any(_TIMES.search(self._text(target)) for target in node.targets):
            self._time(node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._negate_truth(node.value)
        if isinstance(node.op, ast.Mult | ast.Div) and _TIMES.search(self._text(node.target)):
            self._time(node.value)
        self.generic_visit(node)

    # Calls and guards

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Await):
            self._replace(AWAIT, node, "pass")
        elif isinstance(node.value, ast.Call) and not self._text(node.value.func).startswith("log."):
            self._replace(CALL, node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(CALL, node, "pass")

    def visit_With(self, node: ast.With) -> None:
        self._guards(node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._guards(node)

    def _guards(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            # One that gives something is taken to give what it was given.
            passed = ""
            if item.optional_vars is not None:
                assert isinstance(item.context_expr, ast.Call)
                passed = self._text(item.context_expr.args[0])
            self._replace(AWAIT, item.context_expr, _NO_GUARD.format(passed))
        self.generic_visit(node)

    # Times

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function in _WAITS:
            for argument in node.args:
                self._time(argument)
        for keyword in node.keywords:
            self._negate_truth(keyword.value)
            if keyword.arg is not None and _TIMES.search(keyword.arg):
                self._time(keyword.value)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Mult | ast.Div) and _TIMES.search(self._text(node)):
            self._time(node.left)
            self._time(node.right)
        self.generic_visit(node)

    def _time(self, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value:
            for rule, value in ((SLOWER, node.value * 10), (SOONER, node.value / 10)):
                whole = isinstance(node.value, int) and value == int(value)
                self._replace(rule, node, str(max(int(value), 1) if whole else value))


def _is_truth(node: ast.expr) -> bool:
    if isinstance(node, ast.Compare):
        return True
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    return isinstance(node, ast.BoolOp) and any(_is_truth(value) for value in node.values)
