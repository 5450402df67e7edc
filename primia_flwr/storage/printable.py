"""Text from elsewhere, made safe to print and short.

Names and messages that a stranger wrote end in refusals, in the site's log and on a terminal.
There a control character moves the cursor, and a bidirectional one shows a line backwards.
"""

_LONGEST_SENTENCE = 300


def hidden(character: str) -> bool:
    """Say whether a terminal or an editor would not show this character as itself.

    Control and format characters (the bidirectional ones among them), surrogates, unassigned ones,
    and all white space but the blank.
    """
    return not character.isprintable()


def printable(text: str, *, limit: int) -> str:
    r"""Return text with every hidden character as `\uXXXX`, cut after `limit` characters.

    A text that was cut says how long it was.
    """
    kept = "".join(_escaped(c) if hidden(c) else c for c in text[:limit])
    if len(text) <= limit and len(kept) <= limit:
        return kept
    return f"{kept[:limit]}... ({len(text)} characters)"


def shown(value: object, *, limit: int = 40) -> str:
    """Return a value of a stranger's in one short piece of ASCII, for a sentence.

    Of a list or a mapping only its kind is told.
    """
    if value is None or isinstance(value, bool | float):
        return ascii(value)
    if isinstance(value, int):
        return ascii(value) if abs(value) < 2**64 else "a very large number"
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = ascii(value[:limit])
    return text if len(value) <= limit and len(text) <= limit + 2 else f"{text[: limit - 2]}...'"


def short(sentence: str) -> str:
    """Return a sentence for others, a log and a terminal: one printable line, not long."""
    longest = _LONGEST_SENTENCE - len("... (123456 characters)")
    return printable(" ".join(sentence.split()), limit=longest)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
