"""What a row may be called: one function for every door by which a name comes in."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Iterable

from mdbench.errors import InputError
from mdbench.registry import BUILT_IN

LONGEST_NAME = 300  # characters
# Letters of other scripts, and digits, with what they look like.
_LOOK_ALIKES = str.maketrans(
    dict(
        zip(
            "авԁеһіјкмопрѕстухαβεηικνορτυχωԛԝօոսհցı01|",
            "abdehijkmonpsctyxabenikvoptuxwqwonuhgioii",
            strict=True,
        )
    )
)


# Letters that are drawn as nothing (Unicode's Default_Ignorable_Code_Point, less format characters); Braille's blank.
_DRAWN_AS_NOTHING = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def skeleton(name: str) -> str:
    """What an eye sees of a name: names of one skeleton look alike."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = folded.translate(_LOOK_ALIKES).replace("l", "i").replace("rn", "m").replace("vv", "w")
    return "".join(c for c in letters if c.isalnum() or unicodedata.category(c) == "Lo")


def look_alike(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names it may be taken for; None if for none.

    Of all scripts no table says what looks like what, so a letter that is not ASCII may stand for any, but for those of
    the wide scripts (Chinese, Korean and the like), if at least one other letter is the same.
    """
    seen = skeleton(name)
    for other in known:
        like = skeleton(other)
        if len(seen) != len(like):
            continue
        open_ = [not a.isascii() and unicodedata.east_asian_width(a) not in ("W", "F") for a in seen]
        same = [a == b for a, b in zip(seen, like, strict=True)]
        if all(map(operator.or_, open_, same)) and (any(same) or not any(open_)):
            return other
    return None


def is_path(name: str) -> bool:
    """Whether a name is that of a file or folder: such a predictor is what stands there, on whatever machine."""
    return name == "run" or re.match(r"run:|[/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\]|.*\.py(:|$)", name) is not None


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
    """Raise :class:`InputError` unless a row that is not built in may be called that."""
    check_printable(name, "name")
    if is_path(name):
        raise InputError(f"'{name[:50]}' reads like a path; give these predictions a name of their own.")
    like = look_alike(name.partition(":")[0], BUILT_IN)
    if like is not None or not skeleton(name.partition(":")[0]):
        what = f"looks like the built-in predictor '{like}'" if like else "has no letter or digit"
        raise InputError(f"'{name[:50]}' {what}; give these predictions a name of their own.")
