"""Files and folders of the inbox: which names are ignored, and that none is opened through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invox_watcher.inbox.tree import Filter, NotAFileError, open_file, open_folder, program_of


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("smith.wav", None),
        ("ward3/smith.wav", None),
        ("ward3/.smith.wav", ".*"),
        (".hidden/smith.wav", ".*"),
        ("SMITH.WAV.PART", "*.part"),
        ("~$smith.docx", "~$*"),
        ("@eaDir/smith.wav", "@eaDir/"),
        ("@eaDir", None),
        ("ward3/old/x.wav", "ward3/old/*"),
        ("new\nline.part", "*.part"),
    ],
)
def test_the_filter_names_its_reason(path: str, reason: str | None) -> None:
    names = Filter(["ward3/old/*"])
    assert names.why_ignored(path) == reason


# A name, and the program that `explain` names.
LITTER = {
    "@Recycle/x.wav": "QNAP",
    "@Recently-Snapshot/x.wav": "QNAP",
    "#recycle/x.wav": "Synology",
    "#recycle/ward 3/x.wav": "Synology",
    "#snapshot/x.wav": "Synology",
    "@eaDir/x.wav@SynoEAStream": "Synology",
    "@tmp/x.wav": "Synology",
    "~snapshot/hourly.0/x.wav": "NetApp",
    ".snapshot/x.wav": "NetApp",
    ".zfs/snapshot/x.wav": "ZFS",
    ".recycle/x.wav": "Samba",
    "System Volume Information/x.wav": "Windows",
    "$RECYCLE.BIN/S-1-5-21/$RABC123.wav": "Windows",
    "$Recycle.Bin/x.wav": "Windows",
    "RECYCLER/x.wav": "Windows",
    "Network Trash Folder/x.wav": "macOS",
    ".Trash-1000/files/x.wav": "desktop",
    "lost+found/#12": "fsck",
    "x.wav~": "backup",
    "#x.wav#": "Emacs",
    ".x.wav.swp": "Vim",
    ".x.wav.kate-swp": "Kate",
    ".goutputstream-AB12CD": "GNOME",
    ".~lock.x.wav#": "LibreOffice",
    "~$x.docx": "Microsoft Office",
    "~WRL0001.tmp": "temporary",
    "x.wav.bak": "backup",
    "x.wav.old": "backup",
    "x.wav.lock": "lock",
    "x.wav.lck": "lock",
    "x.wav:Zone.Identifier": "Windows",
    "x.wav\uf03aZone.Identifier": "Windows",
    "x.wav:com.apple.quarantine": "Samba",
    "x.wav:AFP_AfpInfo": "Samba",
    "._x.wav": "macOS",
    ".DS_Store": "macOS",
    "Icon\r": "macOS",
    ".smbdeleteAAA1234": "macOS",
    "x.wav.sb-1a2b3c4d-AbCdEf": "macOS",
    "Thumbs.db": "Windows",
    "desktop.ini": "Windows",
    ".nfs00000000abcd": "NFS",
    ".fuse_hidden0000abcd00000001": "FUSE",
    ".x.wav.Ab12Cd": "rsync",
    ".~tmp~/x.wav": "rsync",
    ".rsync-partial/x.wav": "rsync",
    ".unison.x.wav.0123abcd.unison.tmp": "Unison",
    "x.wav.1a2b3c4d.partial": "rclone",
    "x.wav.ocTransferId1234567.part": "Nextcloud",
    ".sync_0123456789ab.db-wal": "Nextcloud",
    ".syncthing.x.wav.tmp": "Syncthing",
    "~syncthing~x.wav.tmp": "Syncthing",
    ".stversions/x.wav": "Syncthing",
    ".stfolder/x": "Syncthing",
    "x.wav.!sync": "Resilio",
    "x.wav.filepart": "WinSCP",
    "x.wav.part": "Firefox",
    "x.wav.crdownload": "Chrome",
    "x.wav.download": "Safari",
    "x.wav.opdownload": "Opera",
    "x.wav.aria2": "aria2",
    "x.wav.!ut": "µTorrent",
    "x.wav.uploading": "upload",
    ".in.x.wav.": "ProFTPD",
    ".pureftpd-upload.5f1": "Pure-FTPd",
    "x.wav.reapeaks": "REAPER",
}
RECORDINGS = [
    *("lock.wav", "old.wav", "bak.wav", "part.wav", "tmp.wav", "recycle.wav", "snapshot.wav", "download.wav"),
    *(
        "backup~1.wav",
        "SMITH~1.WAV",
        "~smith.wav",
        "#12 smith.wav",
        "@smith.wav",
        "$smith.wav",
        "smith (2).wav",
    ),
    *(
        "x.old.wav",
        "x.bak.wav",
        "x.part.wav",
        "x.sb-2.wav",
        "x.lock.mp3",
        "uploading.m4a",
        "Zone.Identifier.wav",
    ),
    *("ward.old/x.wav", "ward.bak/x.wav", "ward~/x.wav", "recycle/x.wav", "snapshot/x.wav", "tmp/x.wav"),
    *(
        "lost and found/x.wav",
        "@Recycle",
        "#recycle",
        "x.sync-conflict-20261123-120000-ABCDEFG.wav",
        "x",
        "x.",
    ),
]


@pytest.mark.parametrize("path", LITTER)
def test_the_names_of_known_programs_are_ignored(path: str) -> None:
    pattern = Filter().why_ignored(path)
    assert pattern is not None
    assert LITTER[path] in (program_of(pattern) or "")


@pytest.mark.parametrize("path", RECORDINGS)
def test_what_may_be_a_recording_is_not_ignored(path: str) -> None:
    assert Filter().why_ignored(path) is None


def test_a_walk_skips_what_the_filter_ignores() -> None:
    names = Filter()
    for path in LITTER:
        steps = path.split("/")
        skipped = [
            names.why_skipped("/".join(steps[:depth]), folder=depth < len(steps))
            for depth in range(1, len(steps) + 1)
        ]
        assert any(skipped), path


def test_only_built_in_patterns_have_a_program() -> None:
    assert program_of("draft-*") is None
    assert Filter(["draft-*"]).why_ignored("draft-1.wav") == "draft-*"


def test_nothing_is_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_bytes(b"secret")
    root = tmp_path / "inbox"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "x")
    root_fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            open_file(root_fd, "folder/x")
        with pytest.raises(NotADirectoryError):
            open_folder(root_fd, "folder")
        with pytest.raises(NotAFileError):
            open_file(root_fd, "file")
    finally:
        os.close(root_fd)
