"""Options in words: `--set KEY=VALUE`, and the frozen dataclasses that the words fill.

The options of a sampler, an estimator, a cluster or a training are the fields of a frozen dataclass: the
annotation says how a word is read, the default what holds without it, the docstring below the field what it
means, and `__post_init__` which values are refused. `parse_options` makes the dataclass from words, and
`describe_options` lists its fields for people.
"""

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bgbench.core.errors import BgbenchError

T = TypeVar("T")

PREFIXES = ("estimator", "cluster")
"""`--set PREFIX.KEY=VALUE` is the estimator's or the cluster's; without a prefix it is the sampler's."""

RUN_TEMPERATURE = "temperature"
"""`--set temperature=VALUE` is the run's, whatever the sampler."""

BOOLS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
"""How a yes or a no is written, in upper or lower case."""


def parse_settings(settings: Iterable[str] | None) -> dict[str, str]:
    """Split the words of `--set`, `KEY=VALUE` each, into a dict.

    Raises:
        BgbenchError: for a word without `=`, an empty key, or a key that is there twice.
    """
    options = dict[str, str]()
    for word in settings or ():
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BgbenchError(f"--set {word}: write KEY=VALUE")
        if key in options:
            raise BgbenchError(
                f"--set {key} is there twice, as '{options[key]}' and as '{value}'; leave one out"
            )
        options[key] = value
    return options


def refuse_unknown_prefixes(options: Mapping[str, str]) -> None:
    """Raise BgbenchError for an option `PREFIX.KEY` whose prefix is not one of `PREFIXES`."""
    for key, value in options.items():
        prefix, dot, name = key.partition(".")
        if dot and prefix not in PREFIXES:
            hint = _suggest(prefix, PREFIXES, f"{{}}.{name}")
            raise BgbenchError(
                f"--set {key}={value}: unknown prefix '{prefix}.'{hint + 'Known' if hint else '; known'} "
                f"prefixes: {', '.join(f'{known}.' for known in PREFIXES)}"
            )


def select_sampler_options(options: Mapping[str, str]) -> dict[str, str]:
    """Select the options without a prefix, except the temperature, which is a property of the run."""
    return {key: value for key, value in options.items() if "." not in key and key != RUN_TEMPERATURE}


def select_prefixed(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Select the options `prefix.KEY`, as `KEY`."""
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in options.items() if key.startswith(start)}


def refuse_misplaced(options: Mapping[str, str], kind: type, elsewhere: Iterable[str], *, owner: str) -> None:
    """Raise BgbenchError for an option that `kind` lacks and that stands for one of another owner.

    Whether it is one of `kind` that is misspelt, `parse_options` says.

    Args:
        options: words by name.
        kind: the dataclass of the owner's options.
        elsewhere: the options of others, as they are written after `--set`.
        owner: whose options these should be, for messages.

    >>> @dataclass(frozen=True)
    ... class Options:
    ...     width: float = 0.02
    >>> refuse_misplaced({"cut": "psis"}, Options, ("temperature", "estimator.cut"), owner="my")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: --set cut=psis: my has no option 'cut'; did you mean 'estimator.cut'? \
Its options are width
    """
    own, others = list(_option_fields(kind)), list(elsewhere)
    for name, value in options.items():
        if name in own:
            continue
        same = next((word for word in others if word.rpartition(".")[2] == name), "")
        nearest = same or nearest_word(name, [*own, *others])
        if nearest in others:
            raise BgbenchError(
                f"--set {name}={value}: {owner} has no option '{name}'; did you mean '{nearest}'? "
                f"Its options are {', '.join(own) or 'none'}"
            )


def parse_options(kind: type[T], options: Mapping[str, str], *, owner: str, prefix: str = "") -> T:
    """Make a frozen dataclass of options from words.

    Every field is an option. Its annotation is one of `int`, `float`, `bool`, `str`, `Path`, a `Literal`, an
    `Enum` (written by value), or one of these `| None` (written `none`). Numbers are finite, except where the
    default itself is infinite. A field without a default is an option that must be set. `kind` may be the
    sampler or estimator itself, where its options are all that it is made of.

    Ranges are checked in `__post_init__`, which raises BgbenchError or ValueError with a message that starts
    with the field's name ("steps must be 1 or more, got 0"): it is shown as "--set steps must be …".

    Args:
        kind: The frozen dataclass.
        options: Words by name, as `--set NAME=VALUE` gives them, without the prefix.
        owner: Who has these options, for messages: "md", "estimator snis".
        prefix: What stands before each name on the command line, as in `--set estimator.cut=psis`.

    Returns:
        The dataclass, with its defaults where no word is given.

    Raises:
        BgbenchError: for an unknown option, with the nearest known one; for a value that cannot be read or
            that `__post_init__` refuses; for an option that must be set and is not.
        TypeError: if `kind` is no dataclass, or a field has an annotation of another type.

    Example:
        >>> from dataclasses import dataclass
        >>> import bgbench
        >>> @dataclass(frozen=True)
        ... class Options:
        ...     width: float = 0.02
        ...     steps: int = 10
        >>> bgbench.parse_options(Options, {"width": "0.1"}, owner="my")
        Options(width=0.1, steps=10)
        >>> bgbench.parse_options(Options, {"widht": "0.1"}, owner="my")
        Traceback (most recent call last):
        bgbench.core.errors.BgbenchError: --set widht=0.1: my has no option 'widht'; did you mean 'width'? \
Its options are width, steps
    """
    known = _option_fields(kind)
    if RUN_TEMPERATURE in known and not prefix:
        raise BgbenchError(
            f"{owner} has an option '{RUN_TEMPERATURE}', which is the run's and would not reach it; "
            "rename the option, or read task.system.temperature"
        )
    values = _read_words(kind, options, owner, prefix)
    for name, field in known.items():
        if name not in values and _default(field) is MISSING:
            words = _Reader.of(get_type_hints(kind)[name], field).words
            raise BgbenchError(f"{owner} needs --set {f'{prefix}.' if prefix else ''}{name}={words.upper()}")
    return _make(lambda: kind(**values), kind, owner, prefix)


def parse_changes(value: T, options: Mapping[str, str], *, owner: str) -> T:
    """Change fields of a frozen dataclass as words say; the others stay as they are.

    Args:
        value: What holds without words, such as an engine's own settings.
        options: Words by name.
        owner: Who has these options, for messages.

    Returns:
        A copy with the changes.

    Raises:
        BgbenchError: As `parse_options` does.

    >>> from bgbench.data import SimulationSettings
    >>> parse_changes(SimulationSettings(high=500.0), {"rungs": "4"}, owner="engine batched").high
    500.0
    """
    kind = type(value)
    values = _read_words(kind, options, owner, "")
    return _make(lambda: replace(value, **values), kind, owner, "")  # type: ignore[type-var]


def _read_words(kind: type, options: Mapping[str, str], owner: str, prefix: str) -> dict[str, Any]:
    """The values of the words, by field."""
    known, hints = _option_fields(kind), get_type_hints(kind)
    start = f"{prefix}." if prefix else ""
    readers = {name: _Reader.of(hints[name], field) for name, field in known.items()}
    values = {}
    for name, text in options.items():
        if name not in known:
            raise BgbenchError(f"--set {start}{name}={text}: {_describe_unknown(owner, name, known, start)}")
        try:
            values[name] = readers[name].read(text)
        except ValueError as error:
            raise BgbenchError(f"--set {start}{name}={text}: {error}") from error
    return values


def _make(make: Callable[[], T], kind: type, owner: str, prefix: str) -> T:
    """What `make` makes, with what its checks say put down to the option that it is about."""
    known = _option_fields(kind)
    try:
        return make()
    except (BgbenchError, ValueError) as error:
        message = str(error)
        about_a_field = re.match("|".join(rf"{name}\b" for name in known), message) if known else None
        start = f"--set {f'{prefix}.' if prefix else ''}" if about_a_field else f"{owner}: "
        raise BgbenchError(f"{start}{message}") from error


@dataclass(frozen=True)
class OptionDescription:
    """An option for people: its name, what may be written, the default as written, and what it means.

    `default` is empty for an option that must be set.
    """

    name: str
    values: str
    default: str
    meaning: str

    def __str__(self) -> str:
        head = f"{self.name}={self.default}" if self.default else self.name
        return f"{head} ({self.values})" + (f": {self.meaning}" if self.meaning else "")


def describe_options(kind: type, defaults: object = None) -> tuple[OptionDescription, ...]:
    """Describe the options that `parse_options` reads into the dataclass `kind`, in the order of its fields.

    The meaning of a field is the docstring below it, where the source of `kind` is at hand.

    Args:
        kind: the dataclass.
        defaults: one of its values, where other values hold without words than those of the class.

    Raises:
        TypeError: if `kind` is no dataclass, or a field has an annotation that is not read from words.
    """
    hints, meanings = get_type_hints(kind), _docstrings_of_fields(kind)
    return tuple(
        OptionDescription(
            name,
            _Reader.of(hints[name], field).words,
            _write(_default(field) if defaults is None else getattr(defaults, name)),
            meanings.get(name, ""),
        )
        for name, field in _option_fields(kind).items()
    )


def refuse_outside(name: str, value: float, low: float, high: float) -> None:
    """Raise BgbenchError unless low ≤ value ≤ high; NaN is outside."""
    if not low <= value <= high:
        raise BgbenchError(f"{name} must lie between {low:g} and {high:g}, got {value:g}")


def refuse_below(name: str, value: float, least: float) -> None:
    """Raise BgbenchError unless `value` is `least` or more, and finite."""
    if not least <= value < math.inf:
        raise BgbenchError(f"{name} must be {least:g} or more, got {value:g}")


def refuse_unknown_word(name: str, value: object, known: Iterable[object]) -> None:
    """Raise BgbenchError, with the nearest known word, unless `value` is one of the `known` words.

    Args:
        name: what the value is, as it begins the message: "measure".
        value: the value.
        known: the words it may be.

    Raises:
        BgbenchError: for another value.

    >>> refuse_unknown_word("measure", "cartesain", ("cartesian", "shape"))
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: measure must be one of cartesian, shape, got 'cartesain'; did you mean \
'cartesian'?
    """
    words = tuple(known)
    if value not in words:
        allowed = [str(word) or "''" for word in words]
        hint = _suggest(str(value), allowed).rstrip()
        raise BgbenchError(f"{name} must be one of {', '.join(allowed)}, got '{value}'{hint}")


def refuse_unknown_words(options: object) -> None:
    """Raise BgbenchError where a field of a dataclass annotated with a `Literal` holds another value."""
    hints = get_type_hints(type(options))
    for name in _option_fields(type(options)):
        if get_origin(hints[name]) is Literal:
            refuse_unknown_word(name, getattr(options, name), get_args(hints[name]))


@dataclass(frozen=True)
class _Reader:
    """How a word becomes a value of `kind`; `optional` ones may be none, `unbounded` ones infinite."""

    kind: Any
    optional: bool
    unbounded: bool

    @classmethod
    def of(cls, annotation: Any, field: Field[Any]) -> "_Reader":
        kinds = [annotation]
        if get_origin(annotation) in (Union, UnionType):
            kinds = [part for part in get_args(annotation) if part is not NoneType]
        (kind, *others) = kinds
        readable = kind in (bool, int, float, str, Path) or get_origin(kind) is Literal
        if others or not (readable or (isinstance(kind, type) and issubclass(kind, Enum))):
            raise TypeError(
                f"option {field.name}: {annotation} is not read from words; annotate it as int, float, bool, "
                "str, Path, a Literal or an Enum, or one of these | None"
            )
        default = _default(field)
        return cls(kind, kind is not annotation, isinstance(default, float) and math.isinf(default))

    @property
    def words(self) -> str:
        """What may be written."""
        plain = {bool: "yes or no", int: "whole number", float: "number", str: "text", Path: "path"}
        words = plain.get(self.kind) or " | ".join(self.choices)
        return f"{words} or none" if self.optional else words

    @property
    def choices(self) -> dict[str, Any]:
        """Values of a `Literal` or an `Enum` by how they are written."""
        if get_origin(self.kind) is Literal:
            return {str(value): value for value in get_args(self.kind)}
        return {str(member.value): member for member in self.kind}

    def read(self, text: str) -> Any:
        """The value.

        Raises:
            ValueError: for a word that is not of this kind.
        """
        if self.optional and text.lower() == "none":
            return None
        if self.kind is str:
            return text
        if self.kind is bool:
            if text.lower() not in BOOLS:
                raise ValueError(f"'{text}' is not one of {', '.join(BOOLS)}")
            return BOOLS[text.lower()]
        if self.kind is int:
            return _read_number(text, int, "whole number")
        if self.kind is float:
            return self._read_float(text)
        if self.kind is Path:
            if not text:
                raise ValueError("'' is not a path")
            return Path(text)
        return _look_up(text, self.choices)

    def _read_float(self, text: str) -> float:
        value = float(_read_number(text, float, "number"))
        if math.isnan(value):
            raise ValueError(f"'{text}' is not a number")
        if math.isinf(value) and not self.unbounded:
            raise ValueError(f"'{text}' is not a finite number")
        return value


def _read_number(text: str, kind: type[Any], words: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a {words}") from error


def _look_up(text: str, choices: Mapping[str, Any]) -> Any:
    if text not in choices:
        hint = _suggest(text, choices)
        raise ValueError(f"'{text}' is not one of {', '.join(choices)}{hint.rstrip()}")
    return choices[text]


def describe_known(word: str, known: Iterable[str], what: str = "known") -> str:
    """The end of a message about an unknown word: the nearest known one, if any is near, and all of them.

    Args:
        word: the unknown word.
        known: the known ones.
        what: what these are, as the list of them begins.

    Returns:
        The end, which begins with a semicolon.

    >>> from bgbench.data import describe_known
    >>> describe_known("prse", ("prose", "verse")), describe_known("x", ())
    ("; did you mean 'prose'? Known: prose, verse", '; known: none')
    """
    words = list(known)
    hint = _suggest(word, words)
    what = what.capitalize() if hint else what
    return f"{hint or '; '}{what}: {', '.join(words) or 'none'}"


def _suggest(word: str, known: Iterable[str], form: str = "{}") -> str:
    """The nearest of the `known` words as a question, or nothing."""
    nearest = nearest_word(word, known)
    return f"; did you mean '{form.format(nearest)}'? " if nearest else ""


def nearest_word(word: str, known: Iterable[str]) -> str:
    """The known word that is spelt most like `word`; empty if none is near.

    >>> nearest_word("prse", ("prose", "verse")), nearest_word("x", ("prose",))
    ('prose', '')
    """
    return next(iter(get_close_matches(word, list(known), n=1)), "")


def _describe_unknown(owner: str, name: str, known: Iterable[str], start: str) -> str:
    names: Sequence[str] = list(known)
    if not names:
        return f"{owner} has no options"
    hint = _suggest(name, names, f"{start}{{}}")
    options = ", ".join(f"{start}{option}" for option in names)
    return f"{owner} has no option '{start}{name}'{hint + 'Its' if hint else '; its'} options are {options}"


def _option_fields(kind: type) -> dict[str, Field[Any]]:
    if not is_dataclass(kind):
        raise TypeError(f"options are the fields of a frozen dataclass, and {kind.__name__} is none")
    return {field.name: field for field in fields(kind) if field.init}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _write(value: Any) -> str:
    """A default as it is written on the command line."""
    if value is MISSING:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None else str(value)


def _docstrings_of_fields(kind: type) -> dict[str, str]:
    """Docstrings that stand below the fields of a dataclass and of those it derives from."""
    docstrings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue
        (definition,) = ast.parse(source).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, below in pairwise(body):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                docstrings[field.target.id] = " ".join(str(below.value.value).split())
    return docstrings
