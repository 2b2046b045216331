"""What each part of a text adds to its score, cut and graded by hand."""

from trainer.attribution import Piece, attributed, pieces


def test_it_cuts_a_text_at_its_tokens_and_grades_them_on_one_scale():
    terms = [[0, 2, 3.0], [2, 2, 9.0], [3, 5, -1.4], [5, 9, 0.2]]  # a token without text, a space that none covers
    assert pieces("ab cd ef", terms, largest=3.0) == [
        Piece("ab", 3.0, 3),
        Piece(" ", 0.0, 0),
        Piece("cd", -1.4, -1),
        Piece(" ef", 0.0, 0),  # its end lies behind the text: what cannot be true is left out
    ]


def test_it_never_loses_a_letter():
    text = "One. Two!"
    assert "".join(piece.text for piece in pieces(text, [[4, 5, 1.0], [2, 3, 1.0], [6, 8, -1.0]], largest=1.0)) == text


def test_it_has_one_scale_for_both_texts_and_none_without_terms():
    sample = {"candidate": "ab", "parent": "cd", "terms": [[[0, 2, 2.0]], [[0, 2, -1.0]], None]}
    assert [[piece.step for piece in side] for side in attributed(sample)] == [[3], [-2]]
    assert attributed({"candidate": "ab", "parent": "cd"}) == [[], []]
    assert attributed({"candidate": "ab", "parent": "cd", "terms": [None, None, None]}) == [[], []]
    nothing = attributed({"candidate": "ab", "parent": "cd", "terms": [[[0, 2, 0.0]], [[0, 2, 0.0]], None]})
    assert nothing == [[Piece("ab", 0.0, 0)], [Piece("cd", 0.0, 0)]]
