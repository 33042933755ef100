"""The small changes that `tools.mutants` makes, and how their code takes the place of what is loaded.

A mutant is one change in the syntax tree of one function. `variants` is the list of kinds. What is done while a module
is imported (constants, class bodies, defaults, decorators) is not mutated: its effect is there before any test.
"""

from __future__ import annotations

import ast
import gc
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeAlias

SWAPPED: dict[type[ast.AST], tuple[Any, ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
}
SHORT = 100  # characters of a change that are shown
Place: TypeAlias = tuple[str, str, int]  # file, qualified name and first line of a function's code
Functions: TypeAlias = dict[Place, list[FunctionType]]


class Put(Enum):
    """What came of putting a mutant in its place."""

    IN_PLACE = "in place"
    SAME = "same"  # it compiles to what was there
    UNFIT = "unfit"  # it no longer needs a variable of the function around it, so it cannot take that one's place


class Mutant:
    """One small change: `new` takes the place of what is in `field` of `parent`."""

    def __init__(self, path: Path, parent: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
        self.path, self.parent, self.field, self.index, self.new = str(path), parent, field, index, new
        self.where, self.change, self.text = "", "", ""
        old = self.old()
        end = (old.end_lineno or old.lineno) + 1
        if isinstance(old, ast.stmt | ast.excepthandler) and getattr(old, "body", None):
            end = old.body[0].lineno
        self.lines = range(old.lineno, end)

    def old(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def apply(self) -> None:
        ast.fix_missing_locations(ast.copy_location(self.new, self.old()))
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            getattr(self.parent, self.field)[self.index] = self.new

    def key(self) -> str:
        """Its name on the page and for people: the same wherever in the file its function stands."""
        return f"{self.where}: {self.change}"

    def known(self) -> str:
        """By what a result is found again: only as long as the function's text is the same."""
        return f"{self.key()} #{zlib.crc32(self.text.encode()):x}"


def variants(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST | None]:  # noqa: C901, PLR0912  # a table
    """What may stand in this node's place; None: nothing."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
            pass
        case ast.Constant() if isinstance(parent, ast.Expr):  # a docstring
            pass
        case ast.Raise() if "NotImplementedError" in ast.unparse(node):
            pass
        case ast.Return(value=ast.Constant()):  # the constant has variants of its own
            pass
        case ast.Return(value=ast.AST()):
            yield ast.Return(ast.Constant(None))
        case ast.AugAssign(target=target, op=op, value=value):
            yield None
            yield from (ast.AugAssign(target, swap(), value) for swap in SWAPPED.get(type(op), ()))
        case ast.Expr() | ast.Assign() | ast.AnnAssign() | ast.Delete() | ast.Raise() | ast.Return():
            yield None
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.With(items=[ast.withitem(context_expr=expression, optional_vars=None)], body=body):
            yield ast.If(ast.Constant(True), body, [ast.Expr(expression)])  # mentioned, so that its variables stay
        case ast.ExceptHandler(body=body) if not isinstance(body[0], ast.Raise):
            yield ast.ExceptHandler(node.type, node.name, [ast.copy_location(ast.Raise(), node)])
        case ast.BoolOp(op=op, values=values):
            for one in values:
                rest = [other for other in values if other is not one]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
            yield ast.BoolOp(SWAPPED[type(op)][0](), values)
        case ast.Compare(left=left, ops=[op], comparators=right):
            swaps = SWAPPED[type(op)]
            if len(swaps) > 1 or not _is_condition(node, parent):  # to negate a condition adds nothing to what is below
                yield from (ast.Compare(left, [swap()], right) for swap in swaps)
        case ast.UnaryOp(op=ast.Not(), operand=operand) if not _is_condition(node, parent):
            yield operand
        case ast.BinOp(left=left, op=op, right=right):
            yield from (ast.BinOp(left, swap(), right) for swap in SWAPPED.get(type(op), ()))
        case ast.Constant(value=bool(truth)):
            yield ast.Constant(not truth)
        case ast.Constant(value=int(number) | float(number)):
            yield ast.Constant(number + 1)
        case ast.Constant(value=str(text)) if text:
            yield ast.Constant("mutated")
        case ast.JoinedStr():
            yield ast.Constant("mutated")
    if _is_condition(node, parent) and not isinstance(node, ast.Constant):
        yield ast.Constant(False)
        if not isinstance(parent, ast.While):
            yield ast.Constant(True)


def _is_condition(node: ast.AST, parent: ast.AST) -> bool:
    return node is getattr(parent, "test", None) or node in getattr(parent, "ifs", ())


def mutants_of(path: Path, root: Path) -> tuple[ast.Module, list[Mutant], int]:
    """The module's tree, its mutants, and how many more would change what is done on import."""
    text = path.read_text()
    tree = ast.parse(text)
    module = ".".join(path.relative_to(root).with_suffix("").parts).removeprefix("asynclocks.")
    found: list[Mutant] = []
    outside = 0
    for names, function, parent, field, index, node in _nodes(tree, (module,), None):
        for new in variants(node, parent):
            if function is None:
                outside += 1
                continue
            put = new
            if new is None or isinstance(new, ast.Return):  # the old stays where nobody comes, for its variables
                put = ast.If(ast.Constant(True), [new or ast.Pass()], [node])
            mutant = Mutant(path, parent, field, index, put)
            mutant.where = ".".join(names)
            mutant.change = f"`{_short(node)}` {'dropped' if new is None else f'→ `{_short(new)}`'}"
            mutant.text = ast.get_source_segment(text, function) or ""
            found.append(mutant)
    seen = Counter[str]()
    for mutant in found:
        seen[key := mutant.key()] += 1
        if seen[key] > 1:
            mutant.change += f" ({seen[key]})"
    return tree, found, outside


def _nodes(parent: ast.AST, names: tuple[str, ...], function: ast.AST | None) -> Iterator[tuple[Any, ...]]:
    """What can be mutated: the names around it, the outermost function, and where it stands."""
    for field, value in ast.iter_fields(parent):
        if field in {"annotation", "returns"} or isinstance(parent, ast.Assert):
            continue
        on_import = parent is function and field == "decorator_list"
        on_import |= parent is getattr(function, "args", None) and field in {"defaults", "kw_defaults"}
        within = None if on_import else function
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or (isinstance(parent, ast.JoinedStr) and isinstance(node, ast.Constant)):
                continue
            if hasattr(node, "lineno"):
                yield names, within, parent, field, index, node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _nodes(node, (*names, node.name), within or node)
            elif isinstance(node, ast.ClassDef):
                yield from _nodes(node, (*names, node.name), within)
            else:
                yield from _nodes(node, names, within)


def _short(node: ast.AST) -> str:
    """The node in one line."""
    match node:
        case ast.ExceptHandler(type=kind, body=body):
            return f"except {ast.unparse(kind) if kind else ''}: {_short(body[0])}"
        case ast.If(body=body, orelse=[ast.Expr()]):
            return _short(body[0])
        case ast.With(items=items, body=body):
            return f"with {', '.join(map(ast.unparse, items))}: {_short(body[0])}"
    words = " ".join(ast.unparse(node).split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."


def live_functions(paths: set[str]) -> Functions:
    """Those of these files that there are, by the place of their code."""
    found = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in paths:
            found[_place(one.__code__)].append(one)
    return found


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def put_in_place(mutant: Mutant, tree: ast.Module, functions: Functions) -> Put:
    """Let the live functions run the mutant's code: for good, so in a process of its own."""
    mutant.apply()
    put = Put.SAME
    for code in nested(compile(tree, mutant.path, "exec", dont_inherit=True)):
        for function in functions.get(_place(code), ()):
            if _does_the_same(code, function.__code__):
                continue
            try:
                function.__code__ = code
            except ValueError:
                return Put.UNFIT
            put = Put.IN_PLACE
            if "trio" in sys.modules:  # which protects code from Ctrl-C, not functions
                sys.modules["trio"].lowlevel.enable_ki_protection(function)
    return put


def _does_the_same(one: object, other: object) -> bool:
    if not (isinstance(one, CodeType) and isinstance(other, CodeType)):
        return type(one) is type(other) and one == other
    if (one.co_code, one.co_names, len(one.co_consts)) != (other.co_code, other.co_names, len(other.co_consts)):
        return False
    return all(map(_does_the_same, one.co_consts, other.co_consts))
