"""A guest's last words."""

from sandbox_kernel.backends import words


def test_last_words_cannot_hold_terminal_tricks_or_fill_the_screen():
    text = words.clean(b"\x1b]0;x\x07\x00\xff a\r\n\xe2\x80\xae" + b"z" * 10_000)
    assert text.isprintable()
    assert len(text) <= words.SHOWN_WORDS + 1
