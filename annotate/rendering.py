"""Model output as HTML that is safe to show: Markdown, highlighted code, LaTeX as MathML, nothing hidden, nothing lost.

    rendered("**Yes.** $a^2$")

What a model writes is hostile input. Two walls stand before the reader: markdown-it, which never passes HTML through,
and nh3's allow-list over what it made. There is no image, no style, no script, no form, no id; a link leads to the
`leave` page, which shows its address before anybody follows it. A text that Markdown would hide in part (nested too
deep) or would take too long over (LONGEST_MARKDOWN) is shown as it was written; so is a formula of which MathML would
leave letters or digits out, and so are a code block's words that name no language.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from html import escape, unescape
from urllib.parse import quote

import nh3
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

LONGEST_MARKDOWN = 20_000  # characters; 20,000 of the worst kind take 0.4 s, of the usual kind 0.02 s
LONGEST_FORMULA = 600
DEEPEST_NESTING = 20

CODE = HtmlFormatter(nowrap=True, classprefix="hl-")
CODE_CLASSES = {f"hl-{short}" for short in STANDARD_TYPES.values() if short}

TEXT_TAGS = {"p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "code", "pre", "blockquote"}
LIST_TAGS = {"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "span", "div"}
MATH_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msup", "msub", "msubsup"),
    *("munder", "mover", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded"),  # no mphantom: it hides
}
BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "th", "td", "blockquote", "ul")
ATTRIBUTES = {
    **{tag: {"dir"} for tag in BLOCKS},
    "ol": {"start", "dir"},
    "a": {"href", "target", "title"},
    "math": {"display", "xmlns"},
    **{tag: {"mathvariant"} for tag in ("mi", "mn", "mtext")},
    "mo": {"stretchy", "fence", "separator", "form", "minsize", "maxsize", "lspace", "rspace"},
    "mfrac": {"linethickness"},
    "mtable": {"columnalign", "rowspacing", "columnspacing"},
    "mtd": {"columnalign"},
    "mstyle": {"displaystyle", "scriptlevel"},
}
CLASSES = {
    "span": CODE_CLASSES | {"math", "inline"},
    "code": {"plain-code"},
    "pre": {"code-block"},
    "div": {"math", "block"},
}
ALLOWED = nh3.Cleaner(  # made once: that takes ten times as long as a short text
    tags=TEXT_TAGS | LIST_TAGS | MATH_TAGS,
    attributes=ATTRIBUTES,
    allowed_classes=CLASSES,
    url_schemes=set(),
    link_rel="noopener noreferrer nofollow",
)
BRACKETED = re.compile(
    rf"\\\((?P<inline>.{{1,{LONGEST_FORMULA}}}?)\\\)|\\\[(?P<display>.{{1,{LONGEST_FORMULA}}}?)\\\]", re.DOTALL
)

# What of a formula's source is no part of its text: commands, environments, the columns of an array, lengths, colours.
MARKUP = re.compile(
    r"\\(?:begin|end)\{[a-zA-Z]+\*?\}(?:\{[lcr|\s]*\})?|\\[hv]space\*?\{[-\d.\s]*(?:em|ex|pt|cm|mm|in|mu|px)\}"
    r"|\\(?:[hm]skip|m?kern)\s*-?[\d.]+\s*(?:em|ex|pt|cm|mm|in|mu|px)"
    r"|\\(?:text)?color(?:box)?\{(?:red|green|blue|black|white|gray|orange|purple|brown|cyan|magenta|teal|yellow|violet|pink)\}"
    r"|\\[a-zA-Z]+"
)
COMMENT = re.compile(r"(\\.)|%", re.DOTALL)
STRUT = re.compile(r"\\(?:math)?strut(?![a-zA-Z])")  # an invisible bracket to the converter
PARTS = re.compile(r'<(?:"[^"]*"|[^">])*>|[^<]+')  # of sanitised HTML: a tag, or the text up to the next

# Joiners between two letters of these scripts, or between emoji, belong to the text.
JOINING_SCRIPTS = ("ARABIC", "SYRIAC", "MONGOLIAN", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM")
INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)

# The usual ones in the reader's language; any other goes by its name in Unicode, which is English.
NAMES = {
    "\u00ad": _("soft hyphen"),
    "\u200b": _("zero width space"),
    "\u200c": _("zero width non-joiner"),
    "\u200d": _("zero width joiner"),
    "\u200e": _("left-to-right mark"),
    "\u200f": _("right-to-left mark"),
    "\u2028": _("line separator"),
    "\u2029": _("paragraph separator"),
    "\u202a": _("left-to-right embedding"),
    "\u202b": _("right-to-left embedding"),
    "\u202c": _("pop directional formatting"),
    "\u202d": _("left-to-right override"),
    "\u202e": _("right-to-left override"),
    "\u2060": _("word joiner"),
    "\u2066": _("left-to-right isolate"),
    "\u2067": _("right-to-left isolate"),
    "\u2068": _("first strong isolate"),
    "\u2069": _("pop directional isolate"),
    "\ufeff": _("zero width no-break space"),
}


def rendered(text: str) -> SafeString:
    """`text` as safe HTML. Whatever the input: no request leaves the page, all of the text is there."""
    return mark_safe(render(text, language=get_language()))  # noqa: S308 nh3 has cleaned it


def prose(text: str) -> SafeString:
    """What a colleague wrote, guidelines say: the same, but a line's end is no more than a space, as in Markdown."""
    return mark_safe(render(text, language=get_language(), breaks=False))  # noqa: S308 nh3 has cleaned it


def raw(text: str) -> SafeString:
    """`text` as it was written, for a `<pre>`, with invisible characters shown."""
    return mark_safe(reveal(escape(text)))  # noqa: S308 escaped


@lru_cache(maxsize=512)
def render(text: str, *, language: str | None, breaks: bool = True) -> str:
    """HTML of a text; `language`, the reader's, is there for the cache to keep one for each."""
    text = text.replace("\r\n", "\n")
    html = None if len(text) > LONGEST_MARKDOWN else markdown(text, breaks)
    if html is None:
        return reveal(f'<p class="as-written" dir="auto">{escape(text)}</p>')
    return reveal(ALLOWED.clean(html))


def markdown(text: str, breaks: bool) -> str | None:
    """HTML of a Markdown text; None where it nests so deep that markdown-it would leave some of it out."""
    tokens = MARKDOWN.parse(text)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        return None
    return MARKDOWN.renderer.render(tokens, OptionsDict({**MARKDOWN.options, "breaks": breaks}), {})


def reveal(html: str) -> str:
    """Show characters that cannot be seen or that turn the text around: ⟨U+202E⟩. In a tag they are but named."""
    if not INVISIBLE.search(html):
        return html
    return PARTS.sub(lambda part: (named if part[0].startswith("<") else shown)(part[0]), html)


def shown(text: str) -> str:
    def show(match: re.Match) -> str:
        character = match.group()
        if is_a_joiner_in_its_place(text, match.start()):
            return character
        name = NAMES.get(character) or unicodedata.name(character, "").lower() or _("control character")
        return f'<span class="invisible" title="{name}">{code_point(character)}</span>'

    return INVISIBLE.sub(show, text)


def named(tag: str) -> str:
    return INVISIBLE.sub(lambda match: code_point(match.group()), tag)


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def is_a_joiner_in_its_place(text: str, at: int) -> bool:
    if text[at] not in "\u200c\u200d" or not 0 < at < len(text) - 1:
        return False
    before, after = text[at - 1], text[at + 1]
    if unicodedata.category(before) in ("So", "Sk", "Mn") and unicodedata.category(after) == "So":
        return text[at] == "\u200d"
    return all(unicodedata.name(neighbour, "").startswith(JOINING_SCRIPTS) for neighbour in (before, after))


def formula(latex: str, options: dict) -> str:
    """One formula as MathML; what cannot be read as LaTeX, or not as a whole, is shown as it was written."""
    mode = "block" if options["display_mode"] else "inline"
    if len(latex) <= LONGEST_FORMULA:
        # To LaTeX a bare % begins a comment; to a model that writes $5%$ it does not.
        source = STRUT.sub("", COMMENT.sub(lambda match: match[1] or r"\%", latex))
        try:
            mathml = convert(source, display=mode)
        except Exception:  # noqa: BLE001 hostile LaTeX fails in many ways, and all of them mean: show the source
            mathml = None
        if mathml is not None and r"\sideset" not in source and is_whole(mathml, source):  # it is made of phantoms
            return mathml.replace(r"\%", "%")  # of \text{…}, which the converter takes letter by letter
    mark = "$$" if options["display_mode"] else "$"
    return f'<code class="plain-code">{escape(mark + latex + mark)}</code>'


def is_whole(mathml: str, latex: str) -> bool:
    """Whether all letters and digits of a formula can be read: none was a macro's, a link's, an unknown command's."""
    seen = ALLOWED.clean(mathml)  # a \text may hold what would be taken for a tag
    read = unescape("".join(part for part in PARTS.findall(seen) if not part.startswith("<")))
    return not letters(MARKUP.sub(" ", latex)) - letters(read)


def letters(text: str) -> Counter[str]:
    return Counter(character for character in unicodedata.normalize("NFKC", text) if character.isalnum())


def bracketed_formula(state, silent: bool) -> bool:
    r"""The other way to write formulas, and language models' favourite: \( … \) and \[ … \]."""
    match = BRACKETED.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        token = state.push("math_inline" if match["inline"] else "math_inline_double", "math", 0)
        token.content = match["inline"] or match["display"]
    state.pos = match.end()
    return True


def fence(renderer, tokens: list[Token], index: int, options, env) -> str:
    """A code block, coloured where it names a language that Pygments knows; whatever else its fence says is shown."""
    token = tokens[index]
    language, _space, more = token.info.strip().partition(" ")
    try:
        html = highlight(token.content, get_lexer_by_name(language, stripnl=False), CODE) if language else None
        is_told = not more
    except ClassNotFound:
        html, is_told = None, False
    html = html or escape(token.content)
    if not is_told:
        html = f"{escape(token.markup + token.info)}\n{html}{token.markup}"
    return f'<pre class="code-block"><code>{html}</code></pre>\n'


def link(renderer, tokens: list[Token], index: int, options, env) -> str:
    address = str(tokens[index].attrGet("href") or "")
    return f'<a href="{reverse("leave")}?to={quote(address, safe="")}" target="_blank" title="{escape(address)}">'


def is_web_address(address: str) -> bool:
    """Anything else, `javascript:` and `data:` among it, stays the text it is."""
    return address.lower().startswith(("http://", "https://", "mailto:"))


def image(renderer, tokens: list[Token], index: int, options, env) -> str:
    """No image is ever fetched: its text and its address stand in its place."""
    token = tokens[index]
    title = f' "{token.attrGet("title")}"' if token.attrGet("title") else ""
    return escape(f"![{token.content}]({token.attrGet('src')}{title})")


def show_titles(state) -> None:
    """A link's title, which only a pointer would find, behind the link."""
    for token in state.tokens:
        open_links, children = [], []
        for child in token.children or []:
            children.append(child)
            if child.type == "link_open":
                open_links.append(child)
            elif child.type == "link_close" and (title := open_links.pop().attrGet("title")):
                children.append(Token("text", "", 0, content=f' "{title}"'))
        if children:
            token.children = children


def whole_table(state, start: int, end: int, silent: bool) -> bool:
    """Markdown's rule for tables, but that cells beyond the head's stay in their row."""
    first = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    tokens, wide = state.tokens[first:], 0
    del state.tokens[first:]
    for token in tokens:
        wide += token.type == "th_open"
        if token.type == "tr_open":
            line = token.map[0]
        if token.type == "tr_close" and line > start:
            for text in cells(getLine(state, line))[wide:]:
                state.push("td_open", "td", 1)
                inline = state.push("inline", "", 0)
                inline.map, inline.content, inline.children = [line, line + 1], text.strip(), []
                state.push("td_close", "td", -1)
        state.tokens.append(token)
    return True


def cells(line: str) -> list[str]:
    found = escapedSplit(line.strip())
    return found[found[:1] == [""] : len(found) - (found[-1:] == [""])]


def fit_into_the_page(state) -> None:
    """`dir="auto"` on every block, so that a right-to-left paragraph stands right, whatever stands beside it; and
    headings below the page's own, which end at the second level."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.nesting == 1 and token.block and token.tag in ATTRIBUTES:
            token.attrSet("dir", "auto")


def make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": DEEPEST_NESTING})
    parser.enable(["table", "strikethrough"]).disable("reference")  # a definition would vanish from the page
    parser.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,  # "$5 and $10" is money
        double_inline=True,
        renderer=formula,
    )
    parser.inline.ruler.before("escape", "math_brackets", bracketed_formula)
    parser.validateLink = is_web_address
    parser.block.ruler.at("table", whole_table, {"alt": ["paragraph", "reference"]})
    parser.core.ruler.push("fit", fit_into_the_page)
    parser.core.ruler.push("titles", show_titles)
    for name, rule in {"fence": fence, "link_open": link, "image": image}.items():
        parser.add_render_rule(name, rule)
    return parser


MARKDOWN = make_parser()
