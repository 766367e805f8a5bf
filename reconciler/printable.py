r"""Text of others, made safe for a terminal: what a name or an annotation holds must not act on it. Pure.

>>> printable("a\x1b[2Jb")
'a\\x1b[2Jb'
"""


def printable(text: str) -> str:
    """Return `text` with each character escaped that is not shown: controls, line ends, bidi marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
