"""What a row may be called: one function for every door by which a name comes in."""

from __future__ import annotations

import re
import unicodedata

from mdbench.core.errors import InputError
from mdbench.predictors.catalogue import BUILT_IN, PREDICTOR_FILE

LONGEST_NAME = 300  # characters

_DIGITS = str.maketrans("01i2589", "ollzsbg")  # and letters, with what they look like

# Letters that are drawn as nothing (Unicode's Default_Ignorable_Code_Point, less format characters); Braille's blank.
_DRAWN_AS_NOTHING = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def skeleton(name: str) -> str:
    """What an eye sees of a name in ASCII: names of one skeleton look alike."""
    letters = name.casefold().translate(_DIGITS).replace("cl", "d").replace("rn", "m").replace("vv", "w")
    return "".join(c for c in letters if c.isalnum())


def is_path(name: str) -> bool:
    """Whether a name is that of a file or folder: such a predictor is what stands there, on whatever machine."""
    slash = re.search(r"[/\\~]", name.partition(":")[0]) is not None
    return slash or name.startswith(".") or name.partition(":")[0] == "run" or bool(PREDICTOR_FILE.fullmatch(name))


def visible(text: str, longest: int = LONGEST_NAME) -> str:
    """The text with escapes for what cannot be printed, cut: what a terminal or a page may be given."""
    return (text if text.isprintable() else ascii(text)[1:-1])[:longest]


def check_printable(text: str, what: str) -> str:
    """The text; raises :class:`InputError` unless all of it can be seen, and it is not too long."""
    if not text.isprintable() or text != text.strip() or not 1 <= len(text) <= LONGEST_NAME:
        raise InputError(
            f"a {what} has 1 to {LONGEST_NAME} printable characters and no blanks at its ends, unlike {text[:50]!r}."
        )
    if not _DRAWN_AS_NOTHING.isdisjoint(text) or any(
        unicodedata.category(c) in ("Cf", "Mn", "Me", "Co", "Cn", "Zs") and c != " " for c in text
    ):
        raise InputError(f"a {what} has no characters that cannot be seen, unlike {text[:50]!a}.")
    return text


def check_reference(text: str) -> str:
    """Likewise for what a row refers to: a paper, a DOI."""
    return check_printable(text, "reference")


def check_name(name: str) -> None:
    """Raise :class:`InputError` unless a row that is not built in may be called that.

    ASCII alone: of all scripts no table says what looks like what.
    """
    check_printable(name, "name")
    if is_path(name):
        raise InputError(f"'{visible(name, 50)}' reads like a path; give it a name of its own.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._:=,()+-]*", name):
        raise InputError(f"a name is an ASCII letter or digit, then also ' ._:=,()+-', unlike {name[:50]!a}.")
    seen = skeleton(name.partition(":")[0])
    like = next((known for known in BUILT_IN if skeleton(known) == seen), None)
    if like is not None or not seen:
        what = f"looks like the built-in predictor '{like}'" if like else "has no letter or digit"
        raise InputError(f"'{name[:50]}' {what}; give it a name of its own.")
