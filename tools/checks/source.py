"""A tracked file as the checks see it: its path, its text, and for Python its syntax tree."""

import ast
import io
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One place that breaks a convention."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Source:
    """One file of the repository; `path` is relative to its root, with forward slashes."""

    path: str
    text: str

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.path).name

    @property
    def is_python(self) -> bool:
        """Whether the file is a Python module."""
        return self.path.endswith(".py")

    @property
    def is_test(self) -> bool:
        """Whether the file stands in a tests folder."""
        return "tests" in PurePosixPath(self.path).parts[:-1]

    @property
    def package(self) -> str | None:
        """The name of the package that a product module belongs to (`postern_edge`), None for tests and tools."""
        parts = PurePosixPath(self.path).parts
        return parts[parts.index("src") + 1] if "src" in parts[:-2] else None

    @property
    def module(self) -> PurePosixPath:
        """The path below the package's folder: `rules/mx.py`."""
        parts = PurePosixPath(self.path).parts
        return PurePosixPath(*parts[parts.index("src") + 2 :]) if "src" in parts[:-2] else PurePosixPath(self.path)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, filename=self.path)

    @cached_property
    def docstring_ids(self) -> frozenset[int]:
        """Identities of the nodes that are docstrings, so that a check for literals can leave them out."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
                first = node.body[0]
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    found.add(id(first.value))
        return frozenset(found)

    def comments(self) -> Iterator[tuple[int, str]]:
        """Each comment with its line number."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def docstrings(self) -> Iterator[tuple[int, str]]:
        """Each docstring with the number of its first line."""
        for node in ast.walk(self.tree):
            if id(node) in self.docstring_ids and isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value

    def imports(self) -> Iterator[tuple[int, str]]:
        """Each imported module with its line; `from a import b` gives both `a` and `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.lineno, node.module
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"


Check = Callable[[Source], Iterator[Finding]]


def tracked_sources(root: Path) -> Iterator[Source]:
    """The text files that git tracks or would track; binary ones are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    for name in sorted(set(filter(None, listed.stdout.split("\0")))):
        file = root / name
        if file.is_symlink() or not file.is_file():
            continue
        try:
            yield Source(name, file.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
