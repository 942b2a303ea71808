"""`make spec`: the rules of docs/spec.md with the tests that prove them, and those with none.

A test names its rules by `@pytest.mark.spec("D4", "D5")`, on itself, on its class, on a parameter
(`pytest.param(..., marks=)`) or for a whole file (`pytestmark`). The marks are read from the source, so nothing is
imported or run. A mark that names no rule of the specification is an error: a proof of nothing.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPECIFICATION = Path("docs/spec.md")
TEST_FOLDERS = ("libs/*/tests", "services/*/tests", "deploy/*/tests", "tests")

_RULE = re.compile(r"- (?P<id>[A-Z]\d+[a-z]?) (?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Proof:
    """A test, or a whole file of tests, that names a rule."""

    rule: str
    path: str
    line: int
    test: str


@dataclass(slots=True)
class Rule:
    """A numbered rule and what proves it."""

    id: str
    text: str
    tests: list[Proof] = field(default_factory=list)


def parse_rules(text: str) -> dict[str, Rule]:
    """The rules of a specification page: `- D4 text`, continued by indented lines; a number used twice is refused."""
    rules: dict[str, Rule] = {}
    current: Rule | None = None
    for line in text.splitlines():
        match = _RULE.fullmatch(line)
        if match:
            current = Rule(match["id"], match["text"].strip())
            if current.id in rules:
                raise ValueError(f"rule {current.id} stands twice")
            rules[current.id] = current
        elif current is not None and line.startswith("  ") and line.strip():
            current.text += " " + line.strip()
        else:
            current = None
    return rules


def _marked_rules(node: ast.AST) -> Iterator[tuple[str, int]]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.spec"):
            for argument in call.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, call.lineno


def collect_proofs(path: str, source: str) -> Iterator[Proof]:
    """The marks of one test file, in the order of its lines."""
    for node in ast.walk(ast.parse(source, filename=path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                for rule, line in _marked_rules(decorator):
                    yield Proof(rule, path, line, node.name)
        elif isinstance(node, ast.Assign) and any(ast.unparse(target) == "pytestmark" for target in node.targets):
            for rule, line in _marked_rules(node.value):
                yield Proof(rule, path, line, "(whole file)")


def read(root: Path) -> tuple[dict[str, Rule], list[Proof]]:
    """The rules with their tests, and the marks that name no rule."""
    rules = parse_rules((root / SPECIFICATION).read_text(encoding="utf-8"))
    strays: list[Proof] = []
    files = sorted({file for folder in TEST_FOLDERS for file in root.glob(f"{folder}/**/test_*.py")})
    for file in files:
        for proof in collect_proofs(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")):
            if proof.rule in rules:
                rules[proof.rule].tests.append(proof)
            else:
                strays.append(proof)
    return rules, strays


def _print_table(rules: dict[str, Rule]) -> None:
    for rule in rules.values():
        count = len(rule.tests)
        print(f"{rule.id:<5} {count or '-':>4}  {rule.text[:100]}")
        for proof in rule.tests:
            print(f"{'':12}{proof.path}:{proof.line} {proof.test}")
    unproven = [rule.id for rule in rules.values() if not rule.tests]
    print(f"\n{len(rules) - len(unproven)} of {len(rules)} rules have a test. Without: {', '.join(unproven) or 'none'}")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Print the table; 1 where a required rule has no test or a mark names no rule."""
    parser = argparse.ArgumentParser(prog="make spec", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the rules as JSON")
    parser.add_argument("--require", default="", metavar="D1,D2", help="fail where one of these rules has no test")
    options = parser.parse_args(arguments)
    rules, strays = read(root)
    if options.json:
        print(json.dumps([asdict(rule) for rule in rules.values()], indent=1))
    else:
        _print_table(rules)
    for proof in strays:
        print(
            f"{proof.path}:{proof.line}: {proof.test} names the rule {proof.rule}, which does not exist",
            file=sys.stderr,
        )
    required = [rule for rule in options.require.replace(" ", "").split(",") if rule]
    missing = [rule for rule in required if rule not in rules or not rules[rule].tests]
    if missing:
        print(f"Required, and without a test: {', '.join(missing)}", file=sys.stderr)
    return 1 if strays or missing else 0


if __name__ == "__main__":
    sys.exit(main())
