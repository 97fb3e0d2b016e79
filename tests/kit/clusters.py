"""What readers take for single characters, most of several code points; not from a library."""

from __future__ import annotations

# Whatever is set beside whatever, none of these joins the next.
CLUSTERS = (
    "a", "x", "語", "ñ",
    "e\u0301",  # é by a combining accent
    "o\u0302\u0323",  # ộ by two
    "\u0e17\u0e35\u0e48",  # Thai: a vowel and a tone above
    "\u0e01\u0e33",  # Thai: sara am
    "\u0928\u093f",  # Devanagari: a vowel sign written before
    "\u0915\u094d\u0937",  # Devanagari: two consonants joined by a virama
    "\u0bb7\u0bbf",  # Tamil
    "\u1100\u1161\u11a8",  # Hangul: three jamo
    "\u05e9\u05c1\u05b8",  # Hebrew: a dot and a vowel
    "\U0001f1ea\U0001f1f8",  # a flag
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family, joined
    "\U0001f44d\U0001f3fd",  # a thumb with its colour
    "1\ufe0f\u20e3",  # a keycap
)  # fmt: skip
