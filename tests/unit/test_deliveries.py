"""What is sent for a shipment, and what an answer means: tables for each kind of target."""

from __future__ import annotations

import base64
import email
import email.policy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.delivery import Document
from invox_watcher.delivery.fhir import Fhir, FhirOptions, identifier_of
from invox_watcher.delivery.hl7 import Hl7, Hl7Options, accepted, control_id_of, escaped
from invox_watcher.delivery.http import Webhook, WebhookOptions, signature
from invox_watcher.delivery.mail import Mail, MailOptions, address_of, check_reply
from invox_watcher.delivery.posting import HttpOptions
from invox_watcher.delivery.sftp import Sftp, SftpOptions, quoted
from invox_watcher.errors import TargetError, TargetRefusedError, TargetUnavailableError
from tests.kit.shipments import PATIENT, WORDS, assert_discreet, shipment

HOSTILE = 'a\r\nBcc: evil@example.com\x00\x0b\x1c/../"`$(x)`*?[\\ \u2028\u202e\udcff' + "ö" * 300


def mail(**changes: Any) -> Mail:
    options = MailOptions(
        host="mail.example.com",
        port=None,
        tls="starttls",
        ca_bundle=None,
        username=None,
        password_file=None,
        sender="Dictation <dictation@example.com>",
        to=("ward@example.com",),
        subject="Transcript {job_id}",
        body="A transcript is attached.",
        formats=("txt",),
        timeout_seconds=10,
    )
    return Mail(replace(options, **changes))


def hl7(**changes: Any) -> Hl7:
    options = Hl7Options(
        host="127.0.0.1",
        port=2575,
        tls=False,
        ca_bundle=None,
        client_certificate=None,
        sending_application="INVOX-WATCHER",
        sending_facility="A|B",
        receiving_application="",
        receiving_facility="",
        processing_id="P",
        document_type="CN",
        patient_id="{patient_id}^^^CLINIC",
        patient_name="{patient}",
        visit="",
        author="",
        formats=(),
        timeout_seconds=10,
    )
    return Hl7(replace(options, **changes))


def sftp(folder: str = "in/{folder}", filename: str = "{name}.{job_id}") -> Sftp:
    options = SftpOptions(
        host="files.example.com",
        port=22,
        user="u",
        key_file=Path("/k"),
        known_hosts=Path("/n"),
        folder=folder,
        filename=filename,
        formats=("txt",),
        timeout_seconds=10,
    )
    return Sftp(options)


def fhir(**changes: Any) -> Fhir:
    http = HttpOptions(url="https://fhir.example.com", ca_bundle=None, proxy=None, timeout_seconds=10)
    options = FhirOptions(
        token_file=None,
        patient_id="{patient_id}",
        patient_system=None,
        type_system="http://loinc.org",
        type_code="34109-9",
        author="",
        encounter_id="",
        formats=("txt",),
    )
    return Fhir(http, replace(options, **changes))


class TestShipment:
    def test_its_own_fields_count_more_than_attributes(self) -> None:
        fields = shipment(attributes={"job_id": "x", "ward": "3"}).fields
        assert fields["job_id"] == "20261128t090000-000000000001"
        assert (fields["name"], fields["folder"], fields["ward"]) == ("smith", "ward3", "3")

    def test_it_does_not_show_names_and_words(self) -> None:
        assert_discreet(repr(shipment()))

    @pytest.mark.parametrize(
        "target",
        [
            mail(subject="{case}"),
            mail(to=("{case}@example.com",)),
            mail(body="{case} {text}"),
            hl7(visit="{case}"),
            fhir(author="{case}"),
            sftp(filename="{case}"),
        ],
        ids=["subject", "recipient", "body", "hl7", "fhir", "sftp"],
    )
    def test_a_missing_attribute_is_refused(self, target: Any) -> None:
        assert "case" in target.attributes
        assert "text" not in target.attributes
        with pytest.raises(TargetRefusedError, match=r"^The recording has no attribute case\.$") as caught:
            target.send(shipment())
        assert caught.value.code == "missing_attribute"


class TestMail:
    def read(self, target: Mail, **changes: Any) -> Any:
        content = target.message(shipment(**changes)).as_bytes()
        assert content.isascii()
        assert max(map(len, content.split(b"\r\n"))) < 998
        return email.message_from_bytes(content, policy=email.policy.default)

    def test_the_defaults_show_nothing_but_the_attachment(self) -> None:
        read = self.read(mail(), documents=())
        assert_discreet(str(read))
        assert read["Subject"] == "Transcript 20261128t090000-000000000001"
        assert read["From"] == "Dictation <dictation@example.com>"
        assert read["Message-ID"].endswith("@example.com>")
        assert read["Auto-Submitted"] == "auto-generated"

    def test_equal_shipments_give_equal_messages(self) -> None:
        assert mail().message(shipment()).as_bytes() == mail().message(shipment()).as_bytes()
        other = mail().message(shipment(2))
        assert other["Message-ID"] != mail().message(shipment())["Message-ID"]

    def test_names_in_any_script_arrive_whole(self) -> None:
        read = self.read(
            mail(subject="{patient}: {name}", body="{text}"),
            name="スミス",
            documents=(Document("スミス.docx", "application/x", b"\x00\xff"),),
        )
        assert read["Subject"] == f"{PATIENT}: スミス"
        assert read.get_body().get_content().replace("\r\n", "\n") == f"{WORDS}\n"
        (attachment,) = read.iter_attachments()
        assert attachment.get_filename() == "スミス.docx"
        assert attachment.get_content() == b"\x00\xff"

    def test_hostile_names_add_no_header_and_no_folder(self) -> None:
        target = mail(subject="{name}", body="{name}{text}")
        read = self.read(target, name=HOSTILE, text=HOSTILE, documents=(Document(HOSTILE, "a/b", b""),))
        assert read["Bcc"] is None
        assert set(read.keys()) == {
            *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type")
        }
        (attachment,) = read.iter_attachments()
        assert attachment["Bcc"] is None
        assert not set("/\r\n\0") & set(attachment.get_filename())

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "a",
            "a@b, c@d",
            "a@b c@d",
            "<a@b>",
            "a@b\r\nRCPT TO:<c@d>",
            "a@b>",
            "ä@b",
            "a@-b",
            "a..b@c",
            "a@b;c@d",
        ],
    )
    def test_a_recipient_is_one_address_or_refused(self, address: str) -> None:
        with pytest.raises(TargetRefusedError) as caught:
            address_of(address)
        assert caught.value.code == "bad_address"

    @pytest.mark.parametrize(
        ("what", "code", "reply", "kind", "error_code"),
        [
            ("sender", 451, b"4.3.0 smith", TargetUnavailableError, "sender_refused"),
            ("sender", 550, b"5.7.1 smith", TargetUnavailableError, "sender_refused"),
            ("sender", 552, b"5.3.4 smith", TargetRefusedError, "sender_refused"),
            ("recipient", 450, b"4.2.1 smith", TargetUnavailableError, "recipient_refused"),
            ("recipient", 530, b"5.7.0 smith", TargetUnavailableError, "recipient_refused"),
            ("recipient", 550, b"5.1.1 smith", TargetRefusedError, "recipient_refused"),
            ("message", 421, b"smith", TargetUnavailableError, "message_refused"),
            ("message", 554, b"5.7.1 smith", TargetRefusedError, "message_refused"),
            ("message", 554, b"smith", TargetRefusedError, "message_refused"),
        ],
    )
    def test_what_a_reply_means(
        self, what: Any, code: int, reply: bytes, kind: type[TargetError], error_code: str
    ) -> None:
        with pytest.raises(kind) as caught:
            check_reply(what, code, reply)
        assert caught.value.code == error_code
        assert str(code) in caught.value.message
        assert_discreet(caught.value.message, caught.value.hint)

    @pytest.mark.parametrize("code", [250, 251, 354])
    def test_a_positive_reply_is_no_refusal(self, code: int) -> None:
        check_reply("message", code, b"")
        with pytest.raises(TargetError):
            check_reply("message", code + 200, b"")


ACK = "MSH|^~\\&|R||S||20261128||ACK|1|P|2.5.1\rMSA|{code}|{id}|smith\r{error}"
ERR_2_5 = "ERR||PID^1|{}^smith|E\r"
ERR_2_3 = "ERR|PID^1^3^{}&smith\r"


class TestHl7:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain ö", "plain ö"),
            ("a|b^c&d~e\\f", r"a\F\b\S\c\T\d\R\e\E\f"),
            ("\\F\\", r"\E\F\E\ ".strip()),
            ("a\rMSH|x\x0b\x1c\x00\x7f", r"a MSH\F\x    ".strip(" ") + "    "),
            ("\udcff", "\ufffd"),
        ],
    )
    def test_escapes(self, text: str, expected: str) -> None:
        assert escaped(text) == expected

    def test_the_message(self) -> None:
        segments = hl7().message(shipment(documents=())).decode().split("\r")
        control_id = control_id_of(shipment().key)
        assert segments == [
            f"MSH|^~\\&|INVOX-WATCHER|A\\F\\B|||20261128090600+0000||MDM^T02^MDM_T02|{control_id}|P|2.5.1"
            "||||||UNICODE UTF-8",
            "EVN||20261128090600+0000",
            f"PID|1||4711^^^CLINIC||{PATIENT}",
            "PV1|1|U|||||||||||||||||",
            f"TXA|1|CN|TX|20261128090000+0000||20261128090000+0000|20261128090600+0000|||||{control_id}"
            "|||||DO||AV",
            "OBX|1|TX|CN||Patient Zoë Qvist reports pain.||||||P",
            r"OBX|2|TX|CN||No fever; 38,5 °C \F\ yesterday \R\ \T\ \S\ \E\ end.||||||P",
            "",
        ]

    def test_documents_follow_the_text(self) -> None:
        message = hl7().message(shipment(text="", documents=(Document("a.pdf", "application/pdf", b"%PDF"),)))
        assert message.decode().split("\r")[5:7] == [
            "OBX|1|TX|CN||||||||P",
            "OBX|2|ED|CN||^application^pdf^Base64^JVBERg==||||||P",
        ]

    def test_hostile_values_add_no_segment_and_no_block(self) -> None:
        message = hl7().message(shipment(attributes={"patient_id": HOSTILE, "patient": "x"}, text=HOSTILE))
        assert not set(message) & {0x0B, 0x1C, 0x00, 0x0A}
        assert [segment[:3] for segment in message.decode().split("\r")][:5] == [
            "MSH",
            "EVN",
            "PID",
            "PV1",
            "TXA",
        ]
        pid = message.decode().split("\r")[2].split("|")
        assert pid[3].count("^") == 3

    def test_an_empty_patient_id_is_refused(self) -> None:
        with pytest.raises(TargetRefusedError, match="patient id is empty"):
            hl7(patient_id="{patient_id}^^^").message(shipment(attributes={"patient_id": "", "patient": ""}))

    def test_a_control_id_fits_its_field(self) -> None:
        assert len(control_id_of("k")) == 20
        assert control_id_of("k") == control_id_of("k") != control_id_of("l")

    @pytest.mark.parametrize(
        ("code", "error", "kind"),
        [
            ("AA", "", None),
            ("CA", "", None),
            ("AE", "", TargetUnavailableError),
            ("AE", ERR_2_5.format("207"), TargetUnavailableError),
            ("AE", ERR_2_5.format("101"), TargetRefusedError),
            ("AE", ERR_2_3.format("101"), TargetRefusedError),
            ("CE", "", TargetUnavailableError),
            ("AR", "", TargetRefusedError),
            ("AR", ERR_2_5.format("207"), TargetUnavailableError),
            ("AR", ERR_2_3.format("206"), TargetUnavailableError),
            ("CR", ERR_2_5.format("smith"), TargetRefusedError),
            ("XX", "", TargetUnavailableError),
        ],
    )
    def test_what_an_acknowledgement_means(
        self, code: str, error: str, kind: type[TargetError] | None
    ) -> None:
        reply = ACK.format(code=code, id="ID", error=error).encode()
        if kind is None:
            assert accepted(reply, "ID", "ris:2575") == code
            return
        with pytest.raises(kind) as caught:
            accepted(reply, "ID", "ris:2575")
        assert_discreet(caught.value.message, caught.value.hint)

    @pytest.mark.parametrize("reply", ["", "MSA", "MSA|AA", "HTTP/1.1 400", "MSA|AA|other"])
    def test_anything_else_is_no_acknowledgement(self, reply: str) -> None:
        with pytest.raises(TargetUnavailableError, match="did not answer with an acknowledgement"):
            accepted(reply.encode(), "ID", "ris:2575")


class TestSftp:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("a b", '"a b"'),
            ('a"b', r'"a\"b"'),
            ("a\\b", r'"a\\b"'),
            ("a*?[b]", '"a*?[b]"'),
            ("'#;!&", '"\'#;!&"'),
        ],
    )
    def test_quoting(self, path: str, expected: str) -> None:
        assert quoted(path) == expected

    @pytest.mark.parametrize("path", ["a\nrm *", "a\r", "a\0", "\x7f", "a" * 1000, "ö" * 500, '"' * 600])
    def test_what_could_become_another_command_is_refused(self, path: str) -> None:
        with pytest.raises(TargetRefusedError) as caught:
            quoted(path)
        assert caught.value.code == "bad_name"

    @pytest.mark.parametrize(
        ("folder", "made", "path"),
        [
            (".", [], "./"),
            ("in", [], "in/"),
            ("/in/", [], "/in/"),
            ("/", [], "/"),
            ("in/{folder}", ["in/ward3"], "in/ward3/"),
            (
                "/srv/in/{folder}/{author}",
                ["/srv/in/ward3", "/srv/in/ward3/Dr. Weiß"],
                "/srv/in/ward3/Dr. Weiß/",
            ),
            ("/{folder}", ["/ward3"], "/ward3/"),
            ("{folder}", ["./ward3"], "ward3/"),
            ("in/w-{folder}/x", ["in/w-ward3", "in/w-ward3/x"], "in/w-ward3/x/"),
        ],
    )
    def test_folders_are_made_from_the_first_field_on(self, folder: str, made: list[str], path: str) -> None:
        assert sftp(folder).places(shipment()) == (
            made,
            [f"{path}smith.20261128t090000-000000000001.txt"],
        )

    @pytest.mark.parametrize(
        "name", [HOSTILE, "../../etc/passwd", "..", ".profile", "a/b", "a\\b", "x" * 300]
    )
    def test_a_hostile_name_stays_one_name_in_its_folder(self, name: str) -> None:
        document = Document(f"{name}.txt", "text/plain", b"")
        _, (path,) = sftp("in/{name}", "{name}").places(shipment(name=name, documents=(document,)))
        assert path.count("/") == 2
        top, folder, file = path.split("/")
        assert top == "in"
        assert not folder.startswith(".")
        assert not file.startswith(".")
        assert file.endswith(".txt")
        assert len((file + ".part").encode()) <= 255
        quoted(path + ".part")

    def test_an_empty_attribute_is_no_folder(self) -> None:
        with pytest.raises(TargetRefusedError, match="attribute in the path is empty"):
            sftp().places(shipment(folder=""))


class TestFhir:
    def test_ids_lead_to_no_other_resource(self) -> None:
        assert fhir().resource(shipment())["subject"] == {"reference": "Patient/4711"}
        for value in ("1/../../Group/2", "http://x", "ä", "", "1 2", "1?x"):
            with pytest.raises(TargetRefusedError):
                fhir().resource(shipment(attributes={"patient_id": value}))

    def test_an_identifier_of_the_clinics(self) -> None:
        target = fhir(patient_system="urn:oid:1.2.3", author="{author}", encounter_id="e-1")
        resource = target.resource(shipment(attributes={"patient_id": "A/1", "author": "Dr. Weiß"}))
        assert resource["subject"]["identifier"] == {"system": "urn:oid:1.2.3", "value": "A/1"}
        assert resource["author"] == [{"display": "Dr. Weiß"}]
        assert resource["context"] == {"encounter": [{"reference": "Encounter/e-1"}]}

    def test_no_person_has_read_the_text(self) -> None:
        resource = fhir().resource(shipment())
        assert resource["docStatus"] == "preliminary"
        assert resource["identifier"][0]["value"] == identifier_of(shipment().key)
        assert identifier_of("a") != identifier_of("b")


class TestWebhook:
    def test_the_specifications_own_example(self) -> None:
        # https://github.com/standard-webhooks/standard-webhooks, the libraries' tests
        secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_only_what_is_configured_is_sent(self) -> None:
        http = HttpOptions(url="https://ehr.example.com", ca_bundle=None, proxy=None, timeout_seconds=1)
        options = WebhookOptions(
            secret_file=Path("/s"), fields={"mrn": "{patient_id}"}, text=False, formats=()
        )
        event = json.loads(Webhook(http, options).body(shipment(documents=())))
        assert event == {
            "type": "transcript.completed",
            "timestamp": "2026-11-28T09:06:00.000Z",
            "data": {
                "job_id": "20261128t090000-000000000001",
                "recorded_at": "2026-11-28T09:00:00.000Z",
                "received_at": "2026-11-28T09:05:00.000Z",
                "fields": {"mrn": "4711"},
                "documents": [],
            },
        }
