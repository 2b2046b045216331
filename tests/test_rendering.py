"""What the annotator reads: Markdown as people know it, hostile input harmless, and never a word lost."""

import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from html.parser import HTMLParser

import pytest
from django.utils import translation

from annotate.rendering import LONGEST_MARKDOWN, prose, raw, render, rendered


def words(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**bold** and *soft*", '<p dir="auto"><strong>bold</strong> and <em>soft</em></p>\n'),
        ("one\ntwo", '<p dir="auto">one<br>\ntwo</p>\n'),
        ("# Title", '<h3 dir="auto">Title</h3>\n'),  # below the page's own
        ("~~no~~", '<p dir="auto"><s>no</s></p>\n'),
        ("3. three", '<ol start="3" dir="auto">\n<li dir="auto">three</li>\n</ol>\n'),
        ("`a < b`", '<p dir="auto"><code>a &lt; b</code></p>\n'),
        ("costs $5 and $10", '<p dir="auto">costs $5 and $10</p>\n'),
    ],
)
def test_it_renders_markdown(text, html):
    assert rendered(text) == html


def test_it_renders_tables():
    html = rendered("a | b\n--|--\n1 | 2")
    assert html.count('<td dir="auto">') == 2
    assert "<table>" in html


def test_it_colours_code_of_a_known_language_with_classes_alone():
    html = rendered("```python\ndef f(): pass\n```")
    assert '<span class="hl-k">def</span>' in html
    assert "style" not in html


def test_it_shows_code_of_an_unknown_language_as_it_is():
    assert "&lt;b&gt;" in rendered("```nonsense\n<b>\n```")


@pytest.mark.parametrize("text", ["so $x^2$ is", r"so \(x^2\) is", "$$x^2$$", r"\[x^2\]"])
def test_it_turns_latex_into_mathml(text):
    html = rendered(text)
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert "$" not in html


def test_a_percent_sign_in_a_formula_is_a_percent_sign():
    assert "%" in words(rendered("It is $5%$ of it."))
    assert words(rendered(r"\(20% of 50 = 10\)")).strip() == "20%of50=10"
    assert words(rendered(r"$5\% \\ 6%$")).strip() == "5%6%"
    assert words(rendered(r"$\text{5% or 6\%}$")).strip() == "5%\xa0or\xa06%"


def test_what_a_formula_would_hide_in_a_phantom_is_read():
    html = rendered(r"$x\phantom{secret}$")
    assert words(html).strip() == "xsecret"
    assert "mphantom" not in html
    assert words(rendered(r"$\sqrt{\mathstrut a}$")).strip() == "a"
    assert r"\sideset" in words(rendered(r"$\sideset{_a^b}{_c^d}\sum$"))


@pytest.mark.parametrize(
    "latex",
    [
        r"\mathbb{R}^n \in \mathcal{L}",
        r"\begin{array}{cc}a & b\\c & d\end{array}",
        r"\begin{aligned}x &= 1 \\ y &= 2\end{aligned}",
        r"a \hspace{1cm} \textcolor{red}{b} \tag{1}",
        r"\operatorname{argmax}_\theta \mathbb{1}[x > 0]",
        r"\text{score < 60} \colorbox{yellow}{b} a \mkern-2mu b \kern 3pt c",
        r"\mathbf{x}^\top \mathfrak{g} \text{ if } \sqrt[3]{y}",
    ],
)
def test_what_marks_up_a_formula_is_not_taken_for_lost(latex):
    assert "<math" in rendered(f"${latex}$")


def test_it_shows_broken_latex_as_written():
    assert r"\frac{" in words(rendered(r"$\frac{$"))


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><circle/></svg>",
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "![x](https://evil.example/pixel.png)",
    "<style>*{display:none}</style>",
    '<form action="https://evil.example"><input name=a><button>ok</button></form>',
    "<iframe src=https://evil.example></iframe>",
    '<p style="position:fixed">x</p>',
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\style{background:url(//evil.example)}{x}$",
    "```html\n<script>alert(1)</script>\n```",
    "```<script>\nx\n```",
    "<https://evil.example/?a=1>",
    '[x](https://evil.example "on\\" onclick=alert(1)")',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!-- --><script>alert(1)</script>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<template><script>alert(1)</script></template>",
    "]]><![CDATA[<script>alert(1)</script>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "$\\genfrac(\\text{1<\u200b>}{0}{a}{b}$",
    '[x](https://evil.example "<i onclick=alert(1)>")',
]
SAFE_TAGS = (
    "p br hr h1 h2 h3 h4 h5 h6 em strong s code pre blockquote ul ol li table thead tbody tr th td a span div "
    "math mrow mi mn mo mtext mspace mfrac msqrt mroot msup msub msubsup munder mover munderover mtable mtr mtd "
    "mstyle mpadded"
)
SAFE_ATTRIBUTES = (
    "dir start href target title rel class display xmlns mathvariant stretchy fence separator form lspace rspace"
)


class Harm(HTMLParser):
    """What may not be in a piece of HTML, read as a browser reads it: quotes, cases, and brackets in attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in SAFE_TAGS.split():
            self.found.append(f"<{tag}>")
        self.found += [name for name, _value in attrs if name not in SAFE_ATTRIBUTES.split()]
        self.found += [value for name, value in attrs if name == "href" and not value.startswith("/leave/?to=http")]

    def handle_decl(self, decl):
        self.found.append(decl)

    handle_comment = handle_pi = unknown_decl = handle_decl


@pytest.mark.parametrize("text", HOSTILE)
def test_it_makes_hostile_output_harmless(text):
    html = rendered(text)
    assert Harm(html).found == []
    assert html.count("<") == len(re.findall(r"<[^<>]*>", html))  # none stands inside an attribute


@pytest.mark.parametrize(
    ("html", "harm"),
    [
        ('<p dir="auto">a &lt;script&gt; and <a href="/leave/?to=http%3A%2F%2Fe.org" title="a < b">b</a></p>', []),
        ('<a title="<" onclick="alert(1)">x</a>', ["onclick"]),
        ("<p dir=auto onclick=alert(1)>x</p>", ["onclick"]),
        ('<P TITLE=">" OnClick>x</P>', ["onclick"]),
        ('<a title="<" href="javascript:alert(1)">x</a>', ["javascript:alert(1)"]),
        ("<a href='java&#115;cript:alert(1)'>x</a>", ["javascript:alert(1)"]),
        ("<!-- x --><!y>", [" x ", "y"]),
    ],
)
def test_whether_output_is_harmless_is_seen_whatever_stands_in_an_attribute(html, harm):
    assert Harm(html).found == harm


def test_it_sends_every_link_through_the_warning_page():
    html = rendered("[read](https://example.org/a?b=c&d=e)")
    assert 'href="/leave/?to=https%3A%2F%2Fexample.org%2Fa%3Fb%3Dc%26d%3De"' in html
    assert 'rel="noopener noreferrer nofollow"' in html


@pytest.mark.parametrize(
    "text",
    [
        ">" * 400 + " deep inside",
        "".join("  " * level + "- item\n" for level in range(60)) + "  " * 60 + "- deep inside",
        "[deep inside]: https://example.org",
        "<div>deep inside</div>",
        "<!-- deep inside -->",
        "![deep inside](x.png)",
        '![x](https://example.org/x.png "deep inside")',
        '[x](https://example.org "deep inside")',
        "a | b\n--|--\n1 | 2 | deep inside",
        "> | a |\n> |--|\n> | 1 | deep inside |",
        "```python deep inside\n1\n```",
        "~~~deep inside\n1\n~~~",
        r"$\newcommand{\a}{deep inside}x$",
        r"$\href{deep inside}{x}$",
        r"$\color{deep inside}{x}$",
        r"$\hspace{deep inside}x$",
        r"$\class{deep inside}{x}$",
        r'$\text{<deep inside "}$',
        "deep inside " + "x" * LONGEST_MARKDOWN,
    ],
)
def test_it_never_hides_words(text):
    assert "deep inside" in words(rendered(text))


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "*a " * 6_600, "![a" * 6_600, "a|b\n-|-\n" * 2_500, "x" * 2_000_000, "`a" * 10_000, r"\(" * 10_000],
    ids=["brackets", "stars", "images", "tables", "one huge line", "ticks", "formulas"],
)
@pytest.mark.timeout(60)
def test_it_comes_to_an_end_whatever_it_gets(text):
    """Each of these once took minutes or more; it takes a second or two now."""
    assert rendered(text)


def test_a_row_keeps_the_cells_beyond_its_tables_head():
    html = rendered("a | b\n--|--\n1 | 2 | **three** | 4 |\n5 | 6")
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert rows == [[], ["1", "2", "<strong>three</strong>", "4"], ["5", "6"]]


def test_it_shows_characters_that_hide_or_turn_the_text():
    html = rendered("user\u202etxt.exe zero\u200bwidth")
    assert '<span class="invisible" title="right-to-left override">U+202E</span>' in html
    assert "U+200B" in html
    assert "\u202e" not in html


def test_it_names_them_in_the_language_of_each_reader():
    text = "zero\u200bwidth \u0007 \ufe01"
    assert 'title="zero width space"' in rendered(text)
    with translation.override("zh-hans"):
        html = rendered(text)
    assert re.findall(r'title="(.+?)"', html) == ["零宽空格", "控制字符", "variation selector-2"]


@pytest.mark.parametrize("text", ["👩\u200d🔬", "می\u200cخواهم", "क्\u200dष"])
def test_it_leaves_joiners_where_they_belong(text):
    assert rendered(text) == f'<p dir="auto">{text}</p>\n'


def test_it_shows_the_raw_text_with_everything_escaped():
    assert raw("**a** <b>\u200b") == '**a** &lt;b&gt;<span class="invisible" title="zero width space">U+200B</span>'


def test_it_lets_the_lines_of_guidelines_flow():
    assert prose("one\ntwo") == '<p dir="auto">one\ntwo</p>\n'


def test_texts_rendered_at_once_are_each_their_own():
    """One parser, one allow-list and one cache serve all threads of a web process."""
    texts = [
        f"**{number}** [a](https://e.org/{number}) `{number}` ${number}^2$ <b>{number}</b>" for number in range(200)
    ]
    alone = [render.__wrapped__(text, language="en") for text in texts]
    render.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(rendered, texts * 5))
    assert together == alone * 5
    assert len(set(together)) == len(texts)
