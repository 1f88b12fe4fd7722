"""Every failure cause has its words, and the page has a name for every owner."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from collector.portal.causes import CauseTexts, Owner, causes_json, load_causes
from probe.record.enums import FailureCause

SCRIPT = Path(__file__).parents[3] / "collector" / "portal" / "static" / "causes.js"


def test_every_cause_has_a_sentence_for_each_reader() -> None:
    texts = load_causes().root
    assert texts.keys() == set(FailureCause)
    for cause, text in texts.items():
        for sentence in (text.evidence, text.engineer, text.customer, text.next_step):
            assert re.fullmatch(r"[A-Z].{10,}\.", sentence), f"{cause}: {sentence}"


def test_no_two_causes_look_alike() -> None:
    titles = [text.title for text in load_causes().root.values()]
    assert len(set(titles)) == len(titles)


def test_what_a_customer_hears_has_no_jargon() -> None:
    jargon = re.compile(r"\b(GTP|TCP|TLS|DNS|SYN|RTP|SIP|APN|QUIC|HTTP|TTL|MTU|RADIUS|ICMP)\b")
    found = {cause: text.customer for cause, text in load_causes().root.items()}
    assert {cause: text for cause, text in found.items() if jargon.search(text)} == {}


def test_a_missing_cause_is_named() -> None:
    texts = load_causes().model_dump()
    del texts["dns_timeout"]
    with pytest.raises(ValidationError, match="causes are missing: dns_timeout"):
        CauseTexts.model_validate(texts)


def test_the_page_gets_every_text_and_knows_every_owner() -> None:
    sent = json.loads(causes_json(load_causes()))
    assert sent.keys() == {str(cause) for cause in FailureCause}
    named = set(
        re.findall(
            r"\b(\w+): \"", SCRIPT.read_text().partition("const OWNERS")[2].partition("};")[0]
        )
    )
    assert named == {str(owner) for owner in Owner}
