"""The configuration as an administrator meets it: what is accepted, and what is said about the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from invox_watcher.config._profiles import MatchSection, ProfileSection, SettingsSection
from invox_watcher.config.loading import example_yaml, json_schema, load
from invox_watcher.config.schema import Config, TokenSection
from invox_watcher.errors import ConfigurationError, ExitStatus

ENVIRON = {"INVOX_APP_ID": "the-app", "INVOX_API_KEY": "s3cr3t-key"}
MINIMAL = """\
api:
  base_url: https://api.example.com
credentials:
  app_id: ${INVOX_APP_ID}
  api_key: ${INVOX_API_KEY}
folders:
  root: /srv/dictation
"""
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What the user reads, line by line, without the heading."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, ENVIRON if environ is None else environ)
    assert caught.value.exit_status == ExitStatus.CONFIGURATION == 78
    heading, *rest = str(caught.value).split("\n")
    count = f"{len(rest)} problem{'' if len(rest) == 1 else 's'}"
    assert heading == f"{path}: {count}"
    return [line.removeprefix("  ") for line in rest]


def problem(path: Path, environ: dict[str, str] | None = None) -> str:
    (only,) = problems(path, environ)
    return only


def with_section(yaml: str) -> str:
    """The minimal file with one more section; its first line is line 8."""
    return MINIMAL + yaml + "\n"


class TestWhatIsAccepted:
    def test_the_minimal_file_gets_every_default(self, write: Write) -> None:
        config = load(write(MINIMAL), ENVIRON)

        assert config.api.base_url == "https://api.example.com"
        assert config.credentials.api_key.get_secret_value() == "s3cr3t-key"
        assert config.folders.inbox == Path("/srv/dictation/inbox")
        assert config.folders.failed == Path("/srv/dictation/failed")
        assert config.folders.directory_mode == 0o700
        assert config.watch.patience_seconds == 300.0
        assert config.outputs.formats == ("json", "srt")
        assert config.http.address == ("127.0.0.1", 8787)
        assert config.state.directory == Path("/var/lib/invox-watcher")

    @pytest.mark.parametrize(
        ("retention", "journal_days"),
        [
            ("done_days: 30", 400),
            ("transcripts_days: 3650", 3650),
            ("journal_days: 30", 30),
            ("journal_days: null\n  done_days: 30", None),
        ],
    )
    def test_entries_are_kept_as_long_as_any_file(
        self, write: Write, retention: str, journal_days: int | None
    ) -> None:
        config = load(write(with_section(f"retention:\n  {retention}")), ENVIRON)
        assert config.retention.ages["journal_days"] == journal_days

    def test_the_example_loads_and_says_nothing_but_defaults(self, write: Write) -> None:
        assert load(write(example_yaml()), ENVIRON) == load(write(MINIMAL), ENVIRON)

    def test_the_example_loads_with_its_commented_lines(self, write: Write) -> None:
        text = example_yaml().replace("  # inbox: /srv/dictation/inbox", "  inbox: /mnt/share/inbox")
        config = load(write(text), ENVIRON)
        assert config.folders.inbox == Path("/mnt/share/inbox")
        assert config.folders.outbox == Path("/srv/dictation/outbox")

    def test_the_checked_in_example_is_the_generated_one(self) -> None:
        checked_in = Path(__file__).parent.parent.parent / "config.example.yaml"
        assert checked_in.read_text(encoding="utf-8") == example_yaml()

    def test_every_key_is_described_in_example_and_schema(self) -> None:
        schema, example = json_schema(), example_yaml()
        for section, field in Config.model_fields.items():
            if section in ("targets", "profiles"):  # they have keys only in comments
                continue
            definition = schema["$defs"][type_name(field.annotation)]
            assert f"\n{section}:\n" in example
            for name, entry in field.annotation.model_fields.items():
                key = entry.alias or name
                assert definition["properties"][key]["description"]
                assert re.search(rf"^  (# )?{key}:", example, re.MULTILINE)
        for name, entry in TokenSection.model_fields.items():
            key = entry.alias or name
            assert schema["$defs"]["TokenSection"]["properties"][key]["description"]
            assert re.search(rf"^    {key}:", example, re.MULTILINE)
        for model in (ProfileSection, MatchSection, SettingsSection):
            for name, entry in model.model_fields.items():
                key = entry.alias or name
                assert schema["$defs"][model.__name__]["properties"][key]["description"]
                assert re.search(rf"^#  ( )?( )? {key}:", example, re.MULTILINE)

    def test_the_schema_asks_only_for_what_a_file_must_hold(self) -> None:
        schema = json_schema()
        assert schema["required"] == ["api", "folders"]
        assert schema["additionalProperties"] is False
        assert schema["$defs"]["CredentialsSection"]["required"] == []
        assert schema["$defs"]["ApiSection"]["required"] == ["base_url"]
        assert schema["$defs"]["WatchSection"]["properties"]["mode"]["enum"] == ["auto", "native", "polling"]

    @pytest.mark.parametrize("written", ["", "profiles:\n", "profiles: []\n"])
    def test_no_profiles(self, write: Write, written: str) -> None:
        assert load(write(with_section(written)), ENVIRON).profiles == ()

    def test_the_example_of_a_profile_is_one(self, write: Write) -> None:
        example = (
            example_yaml().partition("# Example:\n#   - name: cardiology")[2].partition("profiles: []")[0]
        )
        lines = ["profiles:", "  - name: cardiology", *(line[2:] for line in example.splitlines()[1:])]
        (found,) = load(write(with_section("\n".join(lines))), ENVIRON).profiles
        assert found.match.author == ("SMITH", "JONES")
        assert found.settings.formats == ("json", "txt")

    def test_one_author_needs_no_list(self, write: Write) -> None:
        path = write(with_section("profiles:\n  - name: a\n    match: {author: SMITH}\n    set:\n"))
        (found,) = load(path, ENVIRON).profiles
        assert found.match.author == ("SMITH",)
        assert found.settings.priority == "routine"

    def test_a_section_with_nothing_in_it_means_its_defaults(self, write: Write) -> None:
        assert load(write(with_section("watch:\n  # mode: native")), ENVIRON).watch.mode == "auto"

    def test_group_access_for_a_share(self, write: Write) -> None:
        folders = load(write(MINIMAL + '  mode: "2770"\n'), ENVIRON).folders
        assert folders.directory_mode == 0o2770

    @pytest.mark.parametrize(
        ("listen", "address"),
        [
            ("null", None),
            ("8795", ("127.0.0.1", 8795)),
            ("'8795'", ("127.0.0.1", 8795)),
            ("'[::1]:80'", ("::1", 80)),
            ("localhost:0", ("localhost", 0)),
        ],
    )
    def test_where_to_listen(self, write: Write, listen: str, address: tuple[str, int] | None) -> None:
        assert load(write(with_section(f"http:\n  listen: {listen}")), ENVIRON).http.address == address

    @pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:9000"])
    def test_plain_http_to_this_machine(self, write: Write, host: str) -> None:
        text = MINIMAL.replace("https://api.example.com", f"http://{host}/")
        assert load(write(text), ENVIRON).api.base_url == f"http://{host}"

    def test_it_can_not_be_changed_and_does_not_show_secrets(self, write: Write) -> None:
        text = with_section("outputs:\n  speaker_names: {Speaker_00: Doctor}").replace(
            "api:\n", "api:\n  proxy: http://me:pr0xy@proxy.example.com:3128\n"
        )
        config = load(write(text), ENVIRON)
        with pytest.raises(ValidationError):
            config.watch.recursive = False  # type: ignore[misc]
        with pytest.raises(TypeError):
            config.outputs.speaker_names["Speaker_01"] = "Eve"  # type: ignore[index]
        assert "s3cr3t" not in repr(config) + str(config)
        assert "pr0xy" not in repr(config) + str(config)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://invox@db1.clinic.example,db2.clinic.example:5433/invox?sslmode=verify-full",
            "postgres://invox:%23%2F%40%25@[2001:db8::1]:5432/invox",
            "postgresql:///invox?host=/run/postgresql",
            "postgresql://%2Frun%2Fpostgresql/invox",
        ],
    )
    def test_addresses_of_a_database(self, write: Write, url: str) -> None:
        assert load(write(with_section(f"state:\n  url: {url}")), ENVIRON).state.url == url

    @pytest.mark.parametrize(
        "url",
        [
            *(f"postgresql://me:x{sign}hunter2@db/invox" for sign in "#?/@[] %"),
            "postgresql://me:hunter2@db:port/invox",
            "postgresql://me:hunter2@[::1/invox",
            "postgresql://db/invox?password=hunter%2",
            "postgresql://db/invox?password=hunter2%00",
            "postgresql://db/invox?user=me@x&password=hunter2",
            "mysql://me:hunter2@db/invox",
        ],
    )
    def test_a_database_whose_password_would_be_shown_is_refused(self, write: Write, url: str) -> None:
        """What follows such a sign is no longer the password, for who shows the address without that."""
        with pytest.raises(ConfigurationError, match=r"state\.url: must be ") as caught:
            load(write(with_section(f"state:\n  url: '{url}'")), ENVIRON)
        assert "hunter2" not in str(caught.value)


class TestVariables:
    def test_a_variable_inside_a_text_and_an_escaped_one(self, write: Write) -> None:
        text = MINIMAL.replace("/srv/dictation", "${HOME_OF_IT}/$${X}/$5")
        assert load(write(text), ENVIRON | {"HOME_OF_IT": "/srv"}).folders.root == Path("/srv/${X}/$5")

    def test_a_variable_can_not_bring_yaml_or_other_variables_in(self, write: Write) -> None:
        content = '/x", outbox: /evil # ${INVOX_API_KEY}'
        folders = load(
            write(MINIMAL.replace("/srv/dictation", "${ROOT}")), ENVIRON | {"ROOT": content}
        ).folders
        assert folders.root == Path(content)
        assert folders.outbox == Path(content) / "outbox"

    def test_an_unset_one_is_the_only_problem_of_its_key(self, write: Write) -> None:
        path = write(MINIMAL.replace("https://api.example.com", "${API_URL}"))
        assert problems(path, {"INVOX_API_KEY": "k"}) == [
            "line 2: api.base_url: the environment variable API_URL is not set: set it where the daemon is "
            "started (under systemd: Environment= or EnvironmentFile=)",
            "line 4: credentials.app_id: the environment variable INVOX_APP_ID is not set: set it where the "
            "daemon is started (under systemd: Environment= or EnvironmentFile=)",
        ]

    @pytest.mark.parametrize("value", ["${", "${}", "${NO-NAME}", "${1}", "a${INVOX_APP_ID"])
    def test_an_unfinished_one(self, write: Write, value: str) -> None:
        path = write(MINIMAL.replace("${INVOX_APP_ID}", f"'{value}'"))
        assert problem(path) == (
            "line 4: credentials.app_id: has an incomplete ${…}: write ${NAME}, or $${ for a literal ${"
        )


WRONG_VALUES = [
    (
        "watch:\n  settle_seconds: .nan",
        "9: watch.settle_seconds: must be a number that is neither infinite nor .nan",
    ),
    (
        "watch:\n  settle_seconds: .inf",
        "9: watch.settle_seconds: must be a number that is neither infinite nor .nan",
    ),
    ("watch:\n  rescan_seconds: -1", "9: watch.rescan_seconds: must be greater than 0"),
    (
        "watch:\n  rescan_seconds: 1e3",
        "9: watch.rescan_seconds: must be a number such as 2 or 0.5, without quotes",
    ),
    (
        "watch:\n  rescan_seconds: 1000000000000",
        "9: watch.rescan_seconds: must be less than or equal to 31536000",
    ),
    ('upload:\n  workers: "4"', "9: upload.workers: must be a whole number such as 4, without quotes"),
    ("upload:\n  workers: 4.5", "9: upload.workers: must be a whole number such as 4, without quotes"),
    ("upload:\n  workers: true", "9: upload.workers: must be a whole number such as 4, without quotes"),
    ("upload:\n  workers: 0", "9: upload.workers: must be greater than or equal to 1"),
    ("upload:\n  workers:", "9: upload.workers: has no value"),
    ("upload: 4", "8: upload: must be a section with keys below it"),
    ('watch:\n  recursive: "yes"', "9: watch.recursive: must be true or false, without quotes"),
    (
        "watch:\n  mode: off",
        "9: watch.mode: must be 'auto', 'native' or 'polling' "
        "(YAML reads an unquoted on, off, yes or no as true or false)",
    ),
    ("watch:\n  ignore: '*.bak'", "9: watch.ignore: must be a list, for example [a, b]"),
    ("watch:\n  ignore: [a, 3]", "9: watch.ignore[1]: must be text: put it in quotes"),
    (
        "watch: {settle_seconds: 400}",
        "8: watch.settle_seconds: must not be greater than patience_seconds (300), but is 400",
    ),
    (
        "polling:\n  first_seconds: 90",
        "9: polling.first_seconds: must not be greater than max_seconds (60), but is 90",
    ),
    (
        "retry:\n  max_seconds: 3\n  base_seconds: 3.5",
        "10: retry.base_seconds: must not be greater than max_seconds (3), but is 3.5",
    ),
    ("polling:\n  max_seconds: 31536001", "9: polling.max_seconds: must be less than or equal to 31536000"),
    (
        "webhook:\n  public_url: https://me:hunter2@dictation.example.com/webhook",
        "9: webhook.public_url: must not contain a user name, a password or a fragment (#)",
    ),
    (
        "webhook:\n  public_url: dictation.example.com",
        "9: webhook.public_url: must be a URL with http or https and a host, "
        "for example https://api.example.com",
    ),
    ("retention:\n  done_days: 0", "9: retention.done_days: must be greater than or equal to 1"),
    (
        "retention:\n  failed_days: 31\n  journal_days: 30",
        "9: retention.failed_days: must not be greater than journal_days (30), but is 31",
    ),
    (
        "hooks:\n  on_done: [notify-ward]",
        "9: hooks.on_done: must begin with the absolute path of a program, "
        "for example [/usr/local/bin/notify-ward]",
    ),
    (
        "hooks:\n  on_failed: []",
        "9: hooks.on_failed: must begin with the absolute path of a program, "
        "for example [/usr/local/bin/notify-ward]",
    ),
    ("outputs:\n  formats: []", "9: outputs.formats: must not be empty"),
    ("outputs:\n  formats: [srt, srt]", "9: outputs.formats: must not contain duplicates"),
    (
        "outputs:\n  formats: [srt,\n    doc]",
        "10: outputs.formats[1]: must be 'json', 'srt', 'vtt', 'txt' or 'docx'",
    ),
    (
        "outputs:\n  speaker_names: {0: Doctor}",
        "9: outputs.speaker_names: a key here is not text: put it in quotes",
    ),
    ("outputs:\n  speaker_names: [a]", "9: outputs.speaker_names: must be a mapping (key: value)"),
    (
        "http:\n  listen: 70000",
        '9: http.listen: must be host:port, for example 127.0.0.1:8787 or "[::1]:8787"',
    ),
    (
        "http:\n  listen: true",
        '9: http.listen: must be host:port, for example 127.0.0.1:8787 or "[::1]:8787"',
    ),
    (
        "http:\n  listen: here",
        '9: http.listen: must be host:port, for example 127.0.0.1:8787 or "[::1]:8787"',
    ),
    (
        "http:\n  listen: a:99999",
        '9: http.listen: must be host:port, for example 127.0.0.1:8787 or "[::1]:8787"',
    ),
    ("state:\n  directory: var/lib", "9: state.directory: must be an absolute path, starting with /"),
    ("state:\n  directory: ~/state", "9: state.directory: must be an absolute path, starting with /"),
    ('state:\n  directory: "/a\\0b"', "9: state.directory: must not contain control characters"),
    ("state:\n  directory: 5", "9: state.directory: must be a path: put it in quotes"),
    (
        "state:\n  password_file: /dev/null",
        "9: state.password_file: needs url as well: without it, this host is alone. Add url, or remove this",
    ),
    (
        "state:\n  host: b",
        "9: state.host: needs url as well: without it, this host is alone. Add url, or remove this",
    ),
    (
        "state:\n  url: postgresql://db/x\n  host: a b",
        "10: state.host: must be a name of at most 64 letters, digits, dots, hyphens and underscores, for "
        "example dictation1",
    ),
    (
        "logging:\n  level: 2026-99-99",
        "9: logging.level: is not a value that YAML can read: put it in quotes if it is text",
    ),
    (
        "logging:\n  level: !!python/name:os.system x",
        "9: logging.level: is not a value that YAML can read: put it in quotes if it is text",
    ),
    ("logging: !secret {level: info}", "8: logging: has a YAML tag (!…): write the plain value"),
    (
        "watch: {ignore: &a [*a]}",
        "8: watch.ignore[0]: uses a YAML alias (*name): write the value itself",
    ),
    ("wacth: {}", "8: wacth: is not a known key: did you mean watch?"),
    (
        "watch: {setle_seconds: 2}",
        "8: watch.setle_seconds: is not a known key: did you mean watch.settle_seconds?",
    ),
    (
        "profiles: [{name: a, match: {foldr: x}}]",
        "8: profiles[0].match.foldr: is not a known key: did you mean profiles[0].match.folder?",
    ),
    (
        "profiles: [{name: a, match: {name: '(x'}}]",
        "8: profiles[0].match.name: must be a regular expression: missing ) at position 2",
    ),
    (
        "profiles: [{name: a, match: {folder: /srv/x}}]",
        "8: profiles[0].match.folder: must be a folder below the inbox, for example ward3 or ward3/urgent",
    ),
    ("profiles: [{name: a}, {name: a}]", "8: profiles: must not contain two profiles of the same name"),
    (
        "profiles: [{name: default}]",
        "8: profiles[0].name: must not be default: that is what recordings have that match no profile",
    ),
    ("profiles: [{}]", "8: profiles[0].name: is missing, for example cardiology"),
    ("profiles: {name: a}", "8: profiles: must be a list, for example [a, b]"),
    (
        "profiles: [{name: a, set: {priority: urgnt}}]",
        "8: profiles[0].set.priority: must be 'stat', 'urgent' or 'routine'",
    ),
    ("on_duplicate: fail", "8: on_duplicate: is not a known key: did you mean intake.on_duplicate?"),
    ("frobnicate: 1", "8: frobnicate: is not a known key"),
    ("on: 1", "8: a key here is not text: put it in quotes"),
]

WRONG_KEYS = [
    (
        "base_url: api.example.com",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        "base_url: ftp://api.example.com",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        "base_url: https://",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        "base_url: https://h:99999",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        "base_url: 'https://[::1'",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        'base_url: "https://a\\nb"',
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    (
        "base_url: http://127.0.0.1.example.com",
        "must be https: with plain http anyone on the network could read tokens and patients' "
        "words (plain http is accepted for this machine only, for example http://127.0.0.1:8080)",
    ),
    (
        "base_url: https://me:hunter2@api.example.com",
        "must not contain a user name or password: those belong under credentials",
    ),
    ("base_url: https://api.example.com?key=hunter2", "must not contain a query (?) or a fragment (#)"),
    ("base_url:", "has no value, for example https://api.example.com"),
    ("version: 2025-11-01", "must be text: put it in quotes"),
    ("presign_path: oauth", "must be the path of a URL, starting with /"),
    ("token_path: /oauth", "is not a known key: did you mean api.token?"),
    ("mime_types: [wav]", "must be a MIME type such as audio/wav"),
    (
        "proxy: socks5://me:hunter2@p",
        "must be a URL with http or https and a host, for example https://api.example.com",
    ),
    ("ca_bundle: /nonexistent.pem", "/nonexistent.pem can't be read: No such file or directory"),
]


WRONG_VENDOR_KEYS = [
    (
        "token: {url: oauth}",
        "token.url: must be a URL with http or https and a host, for example https://x.y",
    ),
    (
        "token: {url: 'http://evil.example/x'}",
        "token.url: must be https: with plain http anyone on the network could read tokens and patients' "
        "words (plain http is accepted for this machine only, for example http://127.0.0.1:8080)",
    ),
    (
        "token: {url: 'https://a.example/x?k=hunter2'}",
        "token.url: must not contain a query (?) or a fragment (#)",
    ),
    ("token: {url: 'https://me:hunter2@a.example'}", "token.url: must not contain a user name or password"),
    ("token: {method: PUT}", "token.method: must be 'POST' or 'GET'"),
    ("token: {json: [hunter2]}", "token.json: must be a mapping (key: value)"),
    ("token: {json_body: {a: hunter2}}", "token.json_body: is not a known key: did you mean api.token.json?"),
    ("token: {form: {a: 5}}", "token.form.a: must be text: put it in quotes"),
    ("token: {lifetime_seconds: 0}", "token.lifetime_seconds: must be greater than 0"),
    ("headers: {x-api-key: 5}", "headers.x-api-key: must be text: put it in quotes"),
    *[
        (
            f"presign_fields: {{a: {value}}}",
            "presign_fields: holds a value that JSON does not have: put it in quotes",
        )
        for value in ("2025-11-01", ".nan", "[.inf]")
    ],
]


class TestVendorKeys:
    @pytest.mark.parametrize("token", ["token:\n    # all commented out", "token: {}"])
    def test_an_empty_token_section_means_its_defaults(self, write: Write, token: str) -> None:
        found = load(write(MINIMAL.replace("api:\n", f"api:\n  {token}\n")), ENVIRON).api.token
        assert (found.url, found.method) == ("/oauth/token", "POST")
        assert dict(found.headers) == {"Authorization": "Basic {base64}"}
        assert dict(found.form or {}) == {"grant_type": "client_credentials"}
        assert (found.json_body, found.field, found.lifetime_seconds) == (None, None, None)

    def test_every_vendor_key_is_taken(self, write: Write) -> None:
        api = """api:
  headers: {x-api-key: '{api_key}'}
  presign_fields: {language: es-ES, options: {speakers: [1, null, 2.5, true]}}
  status_path: /v1/jobs/{request_id}
  token:
    url: https://login.example.com/v2/token
    method: GET
    headers: {}
    form: null
    json: {appId: '{app_id}', more: {apiKey: '{api_key}'}}
    field: data.access_token
    lifetime_seconds: 90
"""
        text = MINIMAL.replace("api:\n", api) + "upload:\n  headers: {x-amz-acl: private}\n"
        config = load(write(text), ENVIRON)
        assert dict(config.api.headers) == {"x-api-key": "{api_key}"}
        fields = {"language": "es-ES", "options": {"speakers": [1, None, 2.5, True]}}
        assert dict(config.api.presign_fields) == fields
        assert config.api.status_path == "/v1/jobs/{request_id}"
        token = config.api.token
        assert (token.url, token.method) == ("https://login.example.com/v2/token", "GET")
        assert (dict(token.headers), token.form, token.field) == ({}, None, "data.access_token")
        assert dict(token.json_body or {}) == {"appId": "{app_id}", "more": {"apiKey": "{api_key}"}}
        assert token.lifetime_seconds == 90
        assert dict(config.upload.headers) == {"x-amz-acl": "private"}

    @pytest.mark.parametrize(("entry", "message"), WRONG_VENDOR_KEYS)
    def test_a_wrong_one_is_named(self, write: Write, entry: str, message: str) -> None:
        line = problem(write(MINIMAL.replace("api:\n", f"api:\n  {entry}\n")))
        assert line.startswith(f"line 2: api.{message.partition(', for example')[0]}")
        assert "hunter2" not in line


class TestWhatIsWrong:
    @pytest.mark.parametrize(("section", "message"), WRONG_VALUES)
    def test_one_wrong_value(self, write: Write, section: str, message: str) -> None:
        assert problem(write(with_section(section))) == f"line {message}"

    @pytest.mark.parametrize(("entry", "message"), WRONG_KEYS)
    def test_one_wrong_key_of_the_api(self, write: Write, entry: str, message: str) -> None:
        key = entry.partition(":")[0]
        lines = MINIMAL.replace("  base_url: https://api.example.com\n", "") if key == "base_url" else MINIMAL
        line = problem(write(lines.replace("api:\n", f"api:\n  {entry}\n")))
        assert line in (f"line 2: api.{key}: {message}", f"line 2: api.{key}[0]: {message}")
        assert "hunter2" not in line

    @pytest.mark.parametrize("mode", ["0700", "700", "448"])
    def test_a_mode_without_quotes(self, write: Write, mode: str) -> None:
        assert problem(write(f"{MINIMAL}  mode: {mode}\n")) == (
            'line 8: folders.mode: must be in quotes, for example "0700": '
            "unquoted, YAML may read it as another number"
        )

    @pytest.mark.parametrize("mode", ["0999", "0070", "rwx", ""])
    def test_a_mode_that_is_none(self, write: Write, mode: str) -> None:
        assert problem(write(f"{MINIMAL}  mode: '{mode}'\n")) == (
            "line 8: folders.mode: must be three or four octal digits with full access for the owner, "
            'for example "0700"'
        )

    def test_a_key_given_twice(self, write: Write) -> None:
        path = write(with_section("upload:\n  workers: 2\n  # more\n  workers: 3"))
        assert problem(path) == "line 11: upload.workers: duplicate key; first defined in line 9"

    def test_what_must_be_there(self, write: Write) -> None:
        assert problems(write("watch: {}\nfolders: {mode: '0700'}\n"), ENVIRON) == [
            "credentials.app_id: is missing. Set it in one of three ways: `app_id: ${VARIABLE}` with that "
            "environment variable; `app_id_file: /path/to/file`; or systemd's "
            "`LoadCredential=app_id:/path/to/file`",
            "credentials.api_key: is missing. Set it in one of three ways: `api_key: ${VARIABLE}` with that "
            "environment variable; `api_key_file: /path/to/file`; or systemd's "
            "`LoadCredential=api_key:/path/to/file`",
            "api.base_url: is missing, for example https://api.example.com",
            "line 2: folders.root: is missing, for example /srv/dictation",
        ]

    def test_webhooks_need_an_address_and_a_secret(self, write: Write) -> None:
        found = problems(write(with_section("webhook:\n  enabled: true")))
        assert [line.partition(". ")[0] for line in found] == [
            "line 3: credentials.app_secret: is missing",
            "line 8: webhook.public_url: is required if webhook.enabled is true",
        ]

    def test_everything_at_once_in_the_order_of_the_file(self, write: Write) -> None:
        text = """\
api:
  base_url: http://api.example.com
  read_timout_seconds: 4
credentials:
  app_id: ${UNSET}
  api_key_file: keys/api_key
folders:
  root: dictation
  mode: 0700
retry: {base_seconds: 400}
upload:
  workers: "4"
"""
        assert [line.split(": ")[:2] for line in problems(write(text))] == [
            ["line 2", "api.base_url"],
            ["line 3", "api.read_timout_seconds"],
            ["line 5", "credentials.app_id"],
            ["line 6", "credentials.api_key_file"],
            ["line 8", "folders.root"],
            ["line 9", "folders.mode"],
            ["line 10", "retry.base_seconds"],
            ["line 12", "upload.workers"],
        ]


UNREADABLE = [
    (b"", "the file is empty; `invox-watcher config example` prints a complete one"),
    (b"# only a comment\n", "the file is empty; `invox-watcher config example` prints a complete one"),
    (b"- api\n", "line 1: the file must hold sections such as `api:`, not a list or a single value"),
    (b"api:\n  base_url: 'x\n", "line 3: is not valid YAML: found unexpected end of stream"),
    (
        b"api:\n\tbase_url: x\n",
        r"line 2: is not valid YAML: found character '\t' that cannot start any token",
    ),
    (b"credentials:\n  api_key: *hunter2\n", "line 2: is not valid YAML: found undefined alias"),
    (b"credentials:\n  api_key: !hunter2!x\n", "line 2: is not valid YAML: found undefined tag handle"),
    (b"api: 1\n---\napi: 2\n", "line 2: is not valid YAML: but found another document"),
    (b"api:\n  base_url: \xff\n", "line 2: is not UTF-8 text"),
    (b"api:\n\n  base_url: \x01\n", "line 3: contains the control character U+0001"),
    (b"[" * 3000, "is nested too deeply"),
]


class TestFilesThatAreNoConfiguration:
    @pytest.mark.parametrize(("content", "message"), UNREADABLE)
    def test_the_line_is_named(self, write: Write, content: bytes, message: str) -> None:
        assert problem(write(content)) == message

    def test_there_is_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "none.yaml"
        assert problem(path) == (
            "no such file. Give another path with --config FILE or $INVOX_WATCHER_CONFIG, or create it: "
            f"invox-watcher config example > {path}"
        )

    def test_a_byte_order_mark_is_ignored(self, write: Write) -> None:
        assert load(write(b"\xef\xbb\xbf" + MINIMAL.encode()), ENVIRON).upload.workers == 4


class TestCredentials:
    WITHOUT = "api: {base_url: https://api.example.com}\nfolders: {root: /srv}\n"

    def test_from_files_of_their_own(self, write: Write, tmp_path: Path) -> None:
        for name, content in (("a", "the id\n"), ("k", "the key\r\n")):
            (tmp_path / name).write_bytes(content.encode())
        text = f"{self.WITHOUT}credentials:\n  app_id_file: {tmp_path}/a\n  api_key_file: ${{DIR}}/k\n"
        found = load(write(text), {"DIR": str(tmp_path)}).credentials
        assert found.app_id.get_secret_value() == "the id"
        assert found.api_key.get_secret_value() == "the key"

    def test_from_systemd(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "app_id").write_text("from systemd\n")
        (tmp_path / "api_key").write_text("not wanted\n")
        text = f"{self.WITHOUT}credentials:\n  api_key: ${{K}}\n"
        found = load(write(text), {"K": "written", "CREDENTIALS_DIRECTORY": str(tmp_path)}).credentials
        assert found.app_id.get_secret_value() == "from systemd"
        assert found.api_key.get_secret_value() == "written"

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_a_credential_is_what_an_editor_saves_of_it(
        self, write: Write, tmp_path: Path, mark: bytes, end: bytes
    ) -> None:
        (tmp_path / "app_id").write_bytes(mark + "wárd-7".encode() + end)
        (tmp_path / "api_key").write_bytes(mark + b"k3y" + end)
        text = f"{self.WITHOUT}credentials:\n  app_id_file: {tmp_path}/app_id\n"
        found = load(write(text), {"CREDENTIALS_DIRECTORY": str(tmp_path)}).credentials
        assert found.app_id.get_secret_value() == "wárd-7"
        assert found.api_key.get_secret_value() == "k3y"

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xef\xbb\xbf", "is empty"),
            (b"\xef\xbb\xbf\r\n", "is empty"),
            (b"key \n", "begins or ends with a space"),
            (b"\xef\xbb\xbf key", "begins or ends with a space"),
            (b"key\n\n", "contains a line break or a control character: it must be one line"),
            (b"k\xef\xbb\xbfey", "contains a line break or a control character: it must be one line"),
            ("key\r\n".encode("utf-16"), "{path} is not UTF-8 text"),
        ],
    )
    def test_a_credential_that_can_not_be_one_is_reported(
        self, write: Write, tmp_path: Path, content: bytes, says: str
    ) -> None:
        path = tmp_path / "app_id"
        path.write_bytes(content)
        text = f"{self.WITHOUT}credentials:\n  api_key: k\n  app_id_file: {path}\n"
        assert says.format(path=path) in problem(write(text), {})

    def test_what_can_be_wrong_with_a_credential_file(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "two_lines").write_text("hunter2\nhunter3\n")
        (tmp_path / "bytes").write_bytes(b"\xff\xfe")
        (tmp_path / "blank").write_text("\n")

        def said(app_id: str) -> str:
            return problem(write(f"{self.WITHOUT}credentials:\n  api_key: k\n  {app_id}\n"), {"EMPTY": ""})

        at = "line 5: credentials."
        assert said("app_id: ${EMPTY}") == f"{at}app_id: is empty"
        assert said("app_id: 123456") == f"{at}app_id: must be text: put it in quotes"
        assert said("app_id: ' hunter2'") == f"{at}app_id: begins or ends with a space"
        file = f"app_id_file: {tmp_path}"
        assert said(f"{file}/none") == (
            f"{at}app_id_file: {tmp_path}/none can't be read: No such file or directory"
        )
        assert said(file) == f"{at}app_id_file: {tmp_path} can't be read: Is a directory"
        assert said(f"{file}/bytes") == f"{at}app_id_file: {tmp_path}/bytes is not UTF-8 text"
        assert said(f"{file}/blank") == f"{at}app_id_file: is empty"
        assert said(f"{file}/two_lines") == (
            f"{at}app_id_file: contains a line break or a control character: it must be one line"
        )
        assert said("app_id_file: here/app_id") == (
            f"{at}app_id_file: must be an absolute path, starting with /"
        )
        assert said(
            f"{{app_id: hunter2, app_id_file: {tmp_path}/blank}}".strip("{}").replace(", ", "\n  ")
        ) == ("line 6: credentials.app_id_file: app_id is set as well: remove one of the two")

    def test_a_file_beside_the_variable_of_the_example(self, write: Write, tmp_path: Path) -> None:
        text = (
            f"{self.WITHOUT}credentials:\n  api_key: k\n  app_id: ${{NOT_SET}}\n  app_id_file: {tmp_path}/a\n"
        )
        assert problem(write(text), {}) == (
            "line 6: credentials.app_id_file: app_id is set as well: remove one of the two"
        )

    @pytest.mark.parametrize("section", ["", "credentials: {app_id: '${NOT_SET}', api_key_file: /none}\n"])
    def test_commands_without_the_api_need_no_credentials(self, write: Write, section: str) -> None:
        path = write(self.WITHOUT + section)
        assert load(path, {}, credentials=False).folders.root == Path("/srv")
        assert problems(path, {})

    def test_other_problems_are_reported_without_credentials_too(self, write: Write) -> None:
        path = write(
            f"{self.WITHOUT}credentials: {{app_id: '${{NOT_SET}}'}}\nwatch: {{mode: '${{NOT_SET}}'}}\n"
        )
        with pytest.raises(ConfigurationError) as caught:
            load(path, {}, credentials=False)
        assert [found.path for found in caught.value.problems] == ["watch.mode"]

    def test_systemd_names_one_that_can_not_be_read(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "app_id").symlink_to("app_id")  # refused even to root
        text = f"{self.WITHOUT}credentials:\n  api_key: k\n"
        assert problem(write(text), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
            f"line 3: credentials.app_id: {tmp_path}/app_id can't be read: Too many levels of symbolic links"
        )

    def test_no_message_repeats_a_secret(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "api_key").write_text("hunter2\nhunter2")
        environ = {"SECRET": "hunter2", "CREDENTIALS_DIRECTORY": str(tmp_path)}
        for secret in ("hunter2", "${SECRET}"):
            text = f"""\
api: {{base_url: "{secret}", version: ["{secret}"], proxy: "http://{secret}@", ca_bundle: "{secret}"}}
credentials: {{app_id: ["{secret}"]}}
folders: {{root: "{secret}", mode: "{secret}"}}
watch: {{mode: "{secret}", recursive: "{secret}", settle_seconds: "{secret}"}}
http: {{listen: "{secret}"}}
logging: "{secret}"
"""
            lines = problems(write(text), environ)
            assert len(lines) == 13
            assert "hunter2" not in "".join(lines)


def type_name(annotation: object) -> str:
    assert isinstance(annotation, type)
    return annotation.__name__
