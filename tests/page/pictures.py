"""The pictures of docs/page.md, of a hospital that is made up: `python -m tests.page.pictures [FOLDER]`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kit.chromium import Chromium, chromium
from tests.kit.hospital import CITIES, PASSWORD, Hospital, hospital, segments, speech
from tests.kit.waiting import wait_for

FOLDER = Path(__file__).parents[2] / "docs" / "page"
LARGEST_BYTES = 100_000
LOOKS: dict[str, dict[str, object]] = {
    "light": {"scheme": "light"},
    "dark": {"scheme": "dark"},
    "phone": {"scheme": "light", "width": 390, "height": 844},
}
GAP = segments([line for line in CITIES if not 12 < line[0] < 28])
PATIENT = {"patience_seconds": 900}  # with a recording that is still being copied
SLOW = {"upload_bytes_per_second": 120_000, "result_delay_seconds": 4}


def main(folder: Path) -> None:
    """Take all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root, hospital(Path(root), SLOW, watch=PATIENT) as clinic:
        fill(clinic)
        with chromium(clinic.url) as browser:
            for look in LOOKS:
                take(clinic, browser, look, folder)


def fill(clinic: Hospital) -> None:
    """A day's recordings."""
    clinic.letters.refuse = 422
    clinic.start()
    clinic.dictate("ward3/okafor-0412.wav", author="Dr. Okafor")
    clinic.dictate("ward3/lindqvist-0398.wav", said=GAP, author="Dr. Lindqvist")
    clinic.dictate("ward3/benali-0011.wav", seconds=5, is_understood=False, author="Dr. Benali")
    clinic.dictate("ward4/jones-0077.wav", seconds=21, said=segments(CITIES[:8]), author="Dr. Jones")
    clinic.wait_until("ward4/jones-0077.wav", "done")
    wait_for("it was refused", lambda: bool(clinic.clinic.events("delivery_failed")), seconds=60)
    clinic.letters.refuse = None
    for number in range(5):
        clinic.dictate(
            f"ward4/jones-00{70 + number}.wav", seconds=9, said=segments(CITIES[:3]), author="Dr. Jones"
        )
    (clinic.clinic.inbox / "ward3" / "rossi-0002.wav").write_bytes(speech(9)[:100_001])
    for name in ("ward3/okafor-0412.wav", "ward3/lindqvist-0398.wav", "ward4/jones-0074.wav"):
        clinic.wait_until(name, "done")
    clinic.wait_until("ward3/benali-0011.wav", "failed")


def take(clinic: Hospital, browser: Chromium, look: str, folder: Path) -> None:
    """All pages in one look."""
    browser.look(**LOOKS[look])  # type: ignore[arg-type]

    def picture(name: str) -> None:
        path = folder / f"{name}-{look}.png"
        browser.picture(path, most_pixels=1100 if look != "phone" else 1500)
        reduce(path)
        print(path.name, path.stat().st_size)
        assert path.stat().st_size < LARGEST_BYTES, path

    browser.go("/sign-in")
    picture("sign-in")
    browser.sign_in("anna", PASSWORD)
    ids = {Path(name).stem: job["id"] for name, job in clinic.jobs().items()}
    browser.go("/needs")
    browser.shows("benali")
    picture("needs")
    browser.go("/find")
    browser.shows("jones")
    browser.ask("document.activeElement.blur()")
    picture("find")
    browser.go(f"/recordings/{ids['lindqvist-0398']}")
    browser.wait("the words are there", lambda: browser.all(".lines .gap"))
    browser.wait(
        "the loudness is drawn", lambda: len(browser.find("#loudness").get_attribute("d") or "") > 100
    )
    browser.find(".lines .jump").click()
    browser.wait("a line is current", lambda: browser.all(".lines [aria-current]"))
    browser.wait(
        "it is on its way", lambda: browser.ask("return document.querySelector('#sound').currentTime > 7")
    )
    browser.ask("document.querySelector('#sound').pause(); document.activeElement.blur(); scrollTo(0, 0)")
    picture("recording")
    browser.go("/")
    clinic.dictate(f"ward3/okafor-{look}.wav", author="Dr. Okafor")
    clinic.dictate(f"ward4/jones-{look}.wav", seconds=9, said=segments(CITIES[:3]), author="Dr. Jones")
    browser.wait(
        "an upload is shown", lambda: browser.all("progress") and "Being transcribed" in browser.text()
    )
    picture("now")
    for name in (f"ward3/okafor-{look}.wav", f"ward4/jones-{look}.wav"):
        clinic.wait_until(name, "done")
    browser.link("Sign out").click()
    wait_for("signed out", lambda: browser.path() == "/sign-in")


def reduce(path: Path) -> None:
    """At most 256 colours, which is all that there are."""
    few = path.with_suffix(".few.png")
    colours = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=none"
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(path), "-vf", colours, "-pred", "mixed", str(few)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    few.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
