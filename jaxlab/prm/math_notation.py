"""Answers in LaTeX brought to one form, by the rules of the MATH release.

Hendrycks et al. 2021, arXiv 2103.03874. Nothing is simplified: 1/2 and 2/4 stay different.
"""

import re

from jaxlab.prm.numbers import check_text


def normalize_math(s: str) -> str:
    """The answer `s` in the form in which equal answers are equal strings; never raises."""
    check_text(s)
    for old, new in _REPLACED:
        s = s.replace(old, new)
    s = s.split(r"\text{ ")[0]
    for old, new in ((r"\%", ""), ("%", ""), (" .", " 0."), ("{.", "{0.")):
        s = s.replace(old, new)
    if s.startswith("."):
        s = "0" + s
    sides = s.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        s = sides[1]
    s = re.sub(r"\\sqrt([^{\[\s])", r"\\sqrt{\1}", s).replace(" ", "")
    s = re.sub(r"\\frac([^{\s])(\{|[^{\s])", _braced, s)
    if s == "0.5":
        return r"\frac{1}{2}"
    return re.sub(r"\A(-?[0-9]+)/(-?[0-9]+)\Z", r"\\frac{\1}{\2}", s)


_REPLACED = (
    ("\n", ""),
    (r"\!", ""),
    (r"\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    (r"\left", ""),
    (r"\right", ""),
    (r"^{\circ}", ""),
    (r"^\circ", ""),
    (r"\$", ""),
)


def _braced(match: re.Match) -> str:
    top, bottom = match[1], match[2]
    return rf"\frac{{{top}}}" + ("{" if bottom == "{" else f"{{{bottom}}}")
