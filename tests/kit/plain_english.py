"""The words that our prose avoids, each with the plain one, and the texts in which people would read them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "invox_watcher"
LONG = 20  # characters above which a string is a sentence rather than a key

# "where" is right of a place, and of what is treated as one; these patterns are of its use for "if".
_A_PLACE = (
    r"(?:cases?|places?|situations?|folders?|director(?:y|ies)|hosts?|lines?|points?|systems?|spots?)\b"
)
_WHERE = rf"\b(?!{_A_PLACE})\w+[,;:.)]? where"
_IS_NOT = r"(?:is|was|has|are) (?:no|not|missing|needed|taken|wrong|set)"
_HAS = r"(?:has|had|wants|can't|did|does|didn't|doesn't|said|says|asked)"
# "is no folder" for "is not a folder". What is fine: "there is no folder", "it is no longer there", …
_FINE = (
    r"longer|more|less|different|better|greater|worse|one|good|problem|need|way|reason|point|doubt|use|such"
)
_IS_NO = rf"(?!there|what)\w+ (?:is|are|was|were) no (?!(?:{_FINE}|limit|exception|guarantee|match)\b)\w+"
_A_LOG = r"(?:log|journal|status|command|check|page|daemon|event|metric|code)s?"
_A_SHARE = r"(?:share|mount|inbox|network|API|journal|daemon|disk)s?"
_A_FILE = r"(?:it|file|recording|folder|everything|letter|transcript|made|one)"

# A space stands for any white space. Patterns in lower case match any case. An exception that is good English
# goes into the pattern, with a line in GOOD of tests/unit/test_plain_english.py.
_PLAIN_WORD_FOR = {
    r"(?:None|True|False|[A-Z]\w+Error) where": "if",
    r"Raises [^.`]{1,60} where": "if",
    rf"{_WHERE} (?:there (?:is|are|was)|none|nothing|not)": "if there is, if none",
    rf"{_WHERE} (?:it|that|one|this|they) {_IS_NOT}": "if",
    rf"{_WHERE} (?:it|that|one|they) {_HAS}": "if",
    r"Where (?:there|that|this|none|nothing|one)\b[^.?!:]{3,60}, \w+": "If",
    r"anew": "again; reopen, reload",
    r"whoever|whomever": "any process, the caller",
    r"nobody(?![`:/])": "no one, no process",
    r"somebody": "someone, another user, any process",
    r"mend(?:s|ed|ing)?": "fix",
    r"com(?:es?|ing) about|came about": "succeed",
    r"(?:get|gets|got|getting) on(?! with)": "make progress",
    r"(?!what|time|is|was)\w+ (?:go|goes|went) on(?! to)|^(?:go|goes) on(?! to)": "continue, resume",
    r"for ever": "forever",
    r"put(?:s|ting)? (?:it |them |one |what \w+ )?back(?! (?:in|into) the pool)": "retry, return, restore",
    r"(?:gives?|gave) no (?:token|answer|reply|reason)": "rejected, did not answer",
    r"let(?:s|ting)? go": "discard, release",
    r"let(?:s)? us through": "allow",
    r"(?:next|due|last|each|every) looks?(?! (?:and|like|at))": "poll, check",
    r"looks? (?:again|anew)|looked through every": "check again, scan",
    r"(?:is|are|was|were|be) ill(?!-)": "failing",
    r"(?:is|are|was|were|be|stays?) away(?! from)": "unavailable",
    rf"{_A_SHARE} (?:is|are|was|were) gone": "unavailable",
    r"(?:stat|file's) facts": "stat",
    r"told of|tells? (?:of|nothing|at once)|says? of": "reported, logged",
    rf"{_A_LOG} (?:says|say|tells|tell)": "shows, reports",
    r"stand(?:s|ing)? still": "stalled",
    _IS_NO: "is not a",
    r"no regular file": "not a regular file",
    r"defects?": "internal error, bug",
    r"0 well": "0 success",
    r"gives? (?:the|a) command|give it as": "run",
    r"may be given again": "repeatable",
    r"(?:make|makes|made) room": "free up space",
    r"be such as": "must look like",
    r"so many (?:bytes|seconds|minutes|hours|days|times)": "that many, N",
    r"(?:known|here|waits|waited) for longest": "oldest",
    r"next of kin": "closest equivalent",
    r"has got": "has",
    rf"{_A_FILE} lies (?:in|beside|there|on)": "is",
    r"(?:comes|came) of (?:it|them|that|this)": "results",
    r"at a stand": "stopped",
    r"hasten(?:s|ed)?": "expedite",
    r"one's eyes": "you",
    r"surer|surest": "more reliable",
    r"breaks? off|broke off|broken off": "was interrupted",
    r"hears? of|heard of": "is notified",
    r"stays so": "persists",
    r"ask as": "run as",
}


def _compiled(pattern: str) -> re.Pattern[str]:
    literal = re.sub(r"\\.|\[[^]]*\]", "", pattern)
    anywhere = re.IGNORECASE if literal == literal.lower() else re.NOFLAG
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)".replace(" ", r"\s+"), anywhere)


_DIALECT = [(_compiled(pattern), plain) for pattern, plain in _PLAIN_WORD_FOR.items()]


@dataclass(frozen=True)
class Prose:
    """A text and where it begins; `kind` is "string", "docstring", "comment" or "page"."""

    file: Path
    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Finding:
    """A word of the dialect at `file`:`line`, and what to write instead."""

    file: Path
    line: int
    word: str
    plain: str

    def __str__(self) -> str:
        place = self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file
        return f"{place}:{self.line}: “{' '.join(self.word.split())}” – plainer: {self.plain}"


def findings(prose: Prose) -> Iterator[Finding]:
    """Every word of the dialect in a text."""
    for pattern, plain in _DIALECT:
        for match in pattern.finditer(prose.text):
            line = prose.line + prose.text[: match.start()].count("\n")
            yield Finding(prose.file, line, match[0], plain)


def prose_of(file: Path) -> Iterator[Prose]:
    """The strings, docstrings and comments of a Python file; of any other file its text."""
    source = file.read_text()
    if file.suffix != ".py":
        yield Prose(file, 1, "page", re.sub(r"(?m)^([ \t]*)# ?", r"\1", source))
        return
    yield from _strings(file, ast.parse(source))
    yield from _comments(file, source)


def _strings(file: Path, tree: ast.Module) -> Iterator[Prose]:
    nodes = list(ast.walk(tree))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    pieces = {id(piece) for node in joined for piece in node.values if isinstance(piece, ast.Constant)}
    for node in joined:
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        yield Prose(file, node.lineno, "string", text)
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            yield Prose(file, node.lineno, "docstring" if id(node) in alone else "string", node.value)


def _comments(file: Path, source: str) -> Iterator[Prose]:
    """Comments; those on lines that follow one another are one text."""
    block: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != first + len(block):
            yield Prose(file, first, "comment", "\n".join(block))
            block = []
        if not block:
            first = token.start[0]
        block.append(token.string.lstrip("# "))
    if block:
        yield Prose(file, first, "comment", "\n".join(block))


def files() -> list[Path]:
    """Everything that people read: the package, the pages, the examples, the units."""
    found = [*PACKAGE.rglob("*.py"), *(ROOT / "systemd").iterdir()]
    for kind in ("*.md", "*.yml", "*.json", "*.conf"):
        found += (ROOT / "docs").glob(kind)
    return sorted([*found, ROOT / "README.md", ROOT / "config.example.yaml"])
