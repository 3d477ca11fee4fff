from __future__ import annotations

from pathlib import Path

import pytest

from gensoup.bench.remote.address import Address
from gensoup.runtime.errors import UsageError

pytest.importorskip("paramiko")
NONE = Path("none")


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("me@cart", "me", "cart", 22),
        ("me@cart:2222", "me", "cart", 2222),
        ("cart", None, "cart", 22),
        ("me@192.168.1.7:22", "me", "192.168.1.7", 22),
        ("me@[fe80::1%eth0]:2200", "me", "fe80::1%eth0", 2200),
    ],
)
def test_read(text: str, user: str | None, host: str, port: int) -> None:
    address = Address.of(text, config=NONE)
    assert (address.user, address.host, address.port) == (user, host, port)


@pytest.mark.parametrize(
    "text", ["", "me@", "@cart", "me@cart:", "me@cart:0", "me@cart:70000", "ssh://cart/x", "a b", "me@fe80::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be USER@HOST"):
        Address.of(text, config=NONE)


def test_sshs_configuration_fills_in_what_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    config = tmp_path / "config"
    config.write_text(
        f"Host cart\n HostName 10.0.0.7\n User nurse\n Port 2200\n IdentityFile {tmp_path}/key\n"
        f" IdentityFile {tmp_path}/gone\nHost far\n ProxyJump gate\n"
    )
    address = Address.of("cart", config=config)
    assert (address.host, address.user, address.port) == ("10.0.0.7", "nurse", 2200)
    assert address.identities == (tmp_path / "key",)
    said = Address.of("me@cart:22", identity=config, config=config)
    assert (said.user, said.port, said.identities) == ("me", 22, (config,))
    with pytest.raises(UsageError, match=r"takes a detour.*open a tunnel"):
        Address.of("far", config=config)
    with pytest.raises(UsageError, match="--known-hosts gone: no such file"):
        Address.of("cart", known_hosts=Path("gone"), config=config)
