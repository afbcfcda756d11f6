"""SPECs that nest, `tta(indoor(; stride=28); flips)`: from text to calls and back, with errors that point.

    call    = NAME "(" [ item { "," item } ] [ ";" option { "," option } ] ")"
    item    = JSON number, text, list or object | SPEC
    SPEC    = head [ "(" ... ")" ]      head = NAME | NAME ":" argument | ["python" ":"] package.module ":" Class
    option  = key [ "=" value ]         value = JSON or one bare word; without one: true

An argument that holds one of (),;" is written as a JSON text: precomputed:"my, files". A SPEC is a call where it begins
with a name or a package.module:Class and a bracket; everything else is what it always was, whatever characters it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from pydantic import JsonValue

from schemas.errors import ConfigError

LONGEST = 4000
"""Characters of a SPEC."""
PYTHON = "python"
"""What may stand before `module:Class`, and must where the module's name has no dot."""
DEEPEST = 16
"""Brackets within brackets."""
HELP = "for example tta(indoor; flips, scales=[0.75, 1]); docs/operators.md has the grammar"
_CALL = re.compile(r"\s*[A-Za-z_](\w*|\w*\.[\w.]*:[\w.]+)\s*\(")
_SPACE = re.compile(r"\s*")
_HEAD = re.compile(r'[^(),;"]*')
_KEY = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r'[^\s(),;"\[\]{}=]+')
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_PLAIN_ARGUMENT = re.compile(r'[^\s(),;"]([^(),;"]*[^\s(),;"])?')


@dataclass(frozen=True, slots=True)
class Call:
    """A SPEC taken apart.

    Attributes:
        name: `tta`, `precomputed`, `package.module:Class`.
        argument: what follows the colon after a name, or None.
        items: what stands in brackets before the semicolon: SPECs and plain values.
        options: what stands behind it.
    """

    name: str
    argument: str | None = None
    items: tuple[Call | JsonValue, ...] = ()
    options: Mapping[str, JsonValue] = field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """Its name and those of all SPECs in it."""
        yield self.name
        for item in self.items:
            if isinstance(item, Call):
                yield from item.names()


def is_call(spec: str) -> bool:
    """Whether a SPEC has brackets behind its name; `name:argument` has none, whatever its argument is."""
    return _CALL.match(spec) is not None


def parse(spec: str) -> Call:
    """Take a SPEC apart. Raises `ConfigError` that says where and what was expected."""
    if len(spec) > LONGEST:
        raise ConfigError(f"operator SPEC has {len(spec):,} characters, at most {LONGEST:,} are read", remedy=HELP)
    if not is_call(spec):
        return _head(spec.strip())
    parser = _Parser(spec)
    call = parser.spec(0)
    parser.end()
    return call


def names_in(spec: str) -> list[str]:
    """Every operator that a SPEC names. Raises `ConfigError` where it cannot be read."""
    return list(parse(spec).names())


def render(call: Call) -> str:
    """A call as text that `parse` reads back; where it has brackets behind an argument, only inside of another call."""
    text = call.name if call.argument is None else f"{call.name}:{_argument(call.argument)}"
    items = ", ".join(render(item) if isinstance(item, Call) else json.dumps(item) for item in call.items)
    options = ", ".join(f"{key}={json.dumps(value)}" for key, value in call.options.items())
    if not items and not options:
        return text
    return f"{text}({items}{'; ' + options if options else ''})"


def relabelled(spec: str, kwargs: Mapping[str, JsonValue], label_set: str, unmapped: str) -> str:
    """The SPEC of an operator, built with `kwargs`, whose classes are those of another label set (`relabel`)."""
    call = parse(spec)
    inner = Call(call.name, call.argument, call.items, {**call.options, **kwargs})
    return render(Call("relabel", None, (inner, label_set), {"unmapped": unmapped}))


def _argument(text: str) -> str:
    return text if _PLAIN_ARGUMENT.fullmatch(text) else json.dumps(text)


def _head(text: str, quoted: str | None = None) -> Call:
    name, colon, argument = text.partition(":")
    if colon and ("." in name or name.strip() == PYTHON) and quoted is None:
        return Call(text)
    return Call(name.strip(), quoted if quoted is not None else argument.strip() or None)


class _Parser:
    """Recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def spec(self, depth: int) -> Call:
        if depth > DEEPEST:
            self.refuse(f"at most {DEEPEST} brackets within brackets")
        self.space()
        start = self.at
        text = self.take(_HEAD).strip()
        quoted = None
        if self.peek() == '"' and text.endswith(":"):
            quoted = str(self.json())
        if not re.match(r"[A-Za-z_][\w.]*\s*(:|$)", text):
            self.at = start
            self.refuse("an operator's name")
        call = _head(text, quoted)
        if self.peek() != "(":
            return call
        self.at += 1
        items, options = self.inside(depth)
        return Call(call.name, call.argument, items, options)

    def inside(self, depth: int) -> tuple[tuple[Call | JsonValue, ...], dict[str, JsonValue]]:
        items: list[Call | JsonValue] = []
        options: dict[str, JsonValue] = {}
        while self.peek() not in (";", ")"):
            items.append(self.item(depth))
            self.comma(";)")
        if self.peek() == ";":
            self.at += 1
            while self.peek() != ")":
                self.option(options)
                self.comma(")")
        self.at += 1
        return tuple(items), options

    def item(self, depth: int) -> Call | JsonValue:
        first = self.peek()
        if first in ('"', "[", "{"):
            return self.json()
        if first == "-" or first.isdigit():
            return self.word()
        return self.spec(depth + 1)

    def option(self, options: dict[str, JsonValue]) -> None:
        self.space()
        key = self.take(_KEY)
        if not key:
            self.refuse("the name of an option")
        if key in options:
            self.refuse(f"option {key!r} once only")
        if self.peek() != "=":
            options[key] = True
            return
        self.at += 1
        options[key] = self.json() if self.peek() in ('"', "[", "{") else self.word()

    def word(self) -> JsonValue:
        """A number, true, false or null, else the word itself."""
        text = self.take(_WORD)
        if not text:
            self.refuse("a value")
        constants: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
        if text in constants:
            return constants[text]
        return self.finite(json.loads(text)) if _NUMBER.fullmatch(text) else text

    def json(self) -> JsonValue:
        try:
            value, self.at = json.JSONDecoder(parse_constant=_no_constant).raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            self.refuse("a JSON value")
        return self.finite(value)

    def finite(self, value: JsonValue) -> JsonValue:
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:  # 1e999 is read as infinity
            self.refuse("finite numbers")
        return value

    def comma(self, closing: str) -> None:
        found = self.peek()
        if found == ",":
            self.at += 1
            if self.peek() in ("", *closing):
                self.refuse("something after the comma")
        elif not found or found not in closing:
            self.refuse(" or ".join(f"'{mark}'" for mark in f",{closing}"))

    def end(self) -> None:
        if self.peek():
            self.refuse("the end")

    def peek(self) -> str:
        """The next character that is no space, or '' at the end."""
        self.space()
        return self.text[self.at : self.at + 1]

    def space(self) -> None:
        self.take(_SPACE)

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match.group() if match else ""

    def refuse(self, expected: str) -> NoReturn:
        before, after = self.text[max(0, self.at - 30) : self.at], self.text[self.at : self.at + 30]
        found = repr(after) if after else "the end"
        raise ConfigError(
            f"operator SPEC: expected {expected} at character {self.at + 1}, after {before!r}, found {found}",
            remedy=HELP,
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
