"""Themes of the app, a dark and a light one, beside those of Textual."""

from textual.theme import Theme

DARK = Theme(
    name="workbench-dark",
    primary="#6cb6ff",
    secondary="#b392f0",
    accent="#f0a35e",
    success="#6bc46d",
    warning="#daaa3f",
    error="#f47067",
    foreground="#cdd9e5",
    background="#14181f",
    surface="#191f27",
    panel="#262e39",
    dark=True,
    variables={"block-cursor-text-style": "none", "footer-key-foreground": "#6cb6ff"},
)
LIGHT = Theme(
    name="workbench-light",
    primary="#0a5fc4",
    secondary="#7a3fd1",
    accent="#b04800",
    success="#1a7f37",
    warning="#946200",
    error="#c4212d",
    foreground="#1f2328",
    background="#ffffff",
    surface="#f6f8fa",
    panel="#e6ebf0",
    dark=False,
    variables={"block-cursor-text-style": "none", "footer-key-foreground": "#0a5fc4"},
)
THEMES = (DARK, LIGHT)
