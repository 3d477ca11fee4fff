from __future__ import annotations

import socket

import pytest

from gensoup.runtime.errors import GenSoupError, UsageError
from gensoup.runtime.view.address import Address, listen, new_token, parse_address, with_default_address


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("8064", Address("127.0.0.1", 8064), True),
        (":81", Address("127.0.0.1", 81), True),
        ("localhost:0", Address("localhost", 0), True),
        ("127.3.2.1:9", Address("127.3.2.1", 9), True),
        ("[::1]:9", Address("::1", 9), True),
        ("0.0.0.0:8064", Address("0.0.0.0", 8064), False),
        ("[::]:8064", Address("::", 8064), False),
        ("cart-7.ward:8064", Address("cart-7.ward", 8064), False),
        ("192.168.1.7:8064", Address("192.168.1.7", 8064), False),
    ],
)
def test_addresses_and_which_of_them_stay_on_this_machine(text: str, address: Address, local: bool) -> None:
    assert parse_address(text) == address
    assert parse_address(text).local is local


@pytest.mark.parametrize("text", ["", "host", "host:", "host:80:80", "http://a:1", "1.2.3.4:65536", "a b:1", "::1:80"])
def test_what_is_no_address_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--view .*must be HOST:PORT or PORT, such as 127\.0\.0\.1:8064$"):
        parse_address(text)


@pytest.mark.parametrize(
    ("typed", "filled"),
    [
        (["--view"], ["--view", "127.0.0.1:8064"]),
        (["--view", "b.gensoup", "--source", "s"], ["--view", "127.0.0.1:8064", "b.gensoup", "--source", "s"]),
        (["b", "--view", "--source", "s"], ["b", "--view", "127.0.0.1:8064", "--source", "s"]),
        (["b", "--view", "0.0.0.0:1", "x"], ["b", "--view", "0.0.0.0:1", "x"]),
        (["b", "--view", "localhost"], ["b", "--view", "localhost"]),
        (["b", "--view", "9000"], ["b", "--view", "9000"]),
        (["b", "--view=9000"], ["b", "--view=9000"]),
        (["--", "--view"], ["--", "--view"]),
        (["b"], ["b"]),
    ],
)
def test_view_may_go_without_an_address(typed: list[str], filled: list[str]) -> None:
    assert with_default_address(typed) == filled


def test_urls_can_be_opened_as_they_are() -> None:
    assert Address("127.0.0.1", 8064).url() == "http://127.0.0.1:8064/"
    assert Address("::1", 8064).url() == "http://[::1]:8064/"
    assert "0.0.0.0" not in Address("0.0.0.0", 8064).url()


def test_a_taken_port_and_a_foreign_address_are_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(GenSoupError, match=rf"^--view 127\.0\.0\.1:{port}: cannot be listened on .*another port$"):
            listen(Address("127.0.0.1", port))
    with pytest.raises(GenSoupError, match=r"^--view 192\.0\.2\.1:0: .*; give an address of this machine"):
        listen(Address("192.0.2.1", 0))
    with pytest.raises(GenSoupError, match=r"^--view no\.such\.invalid: is no address of this machine .*$"):
        listen(Address("no.such.invalid", 1))


def test_tokens_are_long_and_never_the_same() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 43
