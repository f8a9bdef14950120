"""The words of a message, in the language of its target, in the local time of the plant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, time

from pwflow_core.config import SEVERITIES, Language, PlantConfig
from pwflow_core.errors import list_few
from pwflow_core.notifying.channels import Letter
from pwflow_core.notifying.notices import Notice
from pwflow_core.notifying.outbox import Message
from pwflow_core.reporting.texts import Texts

__all__ = ["word_message", "word_test"]

_MOST_NAMED = 6
_MOST_SHOWN = 10
_MOST_MACHINES = 20
_MOST_IDS = 500
_COMMAND = re.compile(r"`[^`]+`")


def word_message(config: PlantConfig, message: Message, picture: bytes | None = None) -> Letter:
    """Return a message as it is sent; the same message in the same words each time."""
    language = config.notify.targets[message.target].language
    texts = Texts(language, __package__, timezone=config.schedule.timezone)
    words = _Words(config, texts)
    title, lines = words.sum_up(message.notices) if message.is_summary else words.tell(message.notices)
    return Letter(
        message.message_id,
        title,
        "\n".join([*lines, "", *words.foot(message.message_id)]),
        message.severity,
        _facts(config, message),
        picture,
        is_good=all(notice.is_over for notice in message.notices),
    )


def word_test(config: PlantConfig, language: Language, message_id: str, now: datetime) -> Letter:
    """Return the message that a target is tried with."""
    texts = Texts(language, __package__, timezone=config.schedule.timezone)
    words = _Words(config, texts)
    plant = config.plant.name
    lines = [texts("notice.tested", plant=plant), words.noted(now), "", *words.foot(message_id)]
    facts = _envelope(config, message_id, "test", now) | {"severity": "low", "notices": []}
    title = texts("notice.title", plant=plant, what=texts("notice.test"), subject=plant)
    return Letter(message_id, title, "\n".join(lines), "low", facts, is_good=True)


class _Words:
    """What is said of notices in one language."""

    def __init__(self, config: PlantConfig, texts: Texts) -> None:
        self._config = config
        self._texts = texts
        self._zone = config.schedule.timezone

    def tell(self, notices: Sequence[Notice]) -> tuple[str, list[str]]:
        """Return title and lines about one subject; the last notice is what holds now."""
        last = notices[-1]
        subject = _about(last)
        kinds = " → ".join(dict.fromkeys(self._texts(f"notice.{notice.kind}") for notice in notices))
        lines = [f"{self._texts.moment(notice.at)}  {self.sentence(notice)}" for notice in notices[:-1]]
        lines += [self.sentence(last), "", *self._details(last), self.noted(last.at)]
        return self._texts("notice.title", plant=self._config.plant.name, what=kinds, subject=subject), lines

    def sum_up(self, notices: Sequence[Notice]) -> tuple[str, list[str]]:
        """Return title and lines about many subjects: how many of what, by machine, and the gravest."""
        t = self._texts
        number = t.number(len(notices))
        first, last = (self._texts.moment(chosen(notice.at for notice in notices)) for chosen in (min, max))
        kinds = Counter(notice.kind for notice in notices).most_common()
        machines = Counter(machine for notice in notices for machine in notice.machines).most_common()
        gravest = sorted(notices, key=lambda n: (n.is_over, -SEVERITIES.index(n.severity), n.at, n.notice_id))
        lines = [t("notice.summary", n=number, first=first, last=last, zone=self._zone), ""]
        lines += [t("notice.count", what=t(f"notice.{kind}"), n=t.number(count)) for kind, count in kinds]
        if machines:
            named = [f"{machine} ({t.number(count)})" for machine, count in machines]
            lines.append(t("notice.by_machine", names=list_few(named, _MOST_MACHINES)))
        lines += ["", t("notice.worst")]
        lines += [f"- {t.moment(n.at)}  {t(f'notice.{n.kind}')}: {self.sentence(n)}" for n in gravest[:_MOST_SHOWN]]
        if len(notices) > _MOST_SHOWN:
            lines.append(t("notice.rest", n=t.number(len(notices) - _MOST_SHOWN)))
        return t("notice.summary_title", plant=self._config.plant.name, n=number), lines

    def sentence(self, notice: Notice) -> str:
        """Return what happened; the record has it in English."""
        if self._texts.language == "en":
            return notice.summary
        key = f"said.{notice.verdict}"
        if notice.verdict is not None and key in self._texts.keys:
            none = self._texts("none")
            summary = self._texts(
                key,
                regimes=list_few(notice.shown_regimes, _MOST_NAMED) or none,
                machines=list_few(notice.machines, _MOST_NAMED) or none,
                sensors=list_few(notice.sensors, _MOST_NAMED) or self._texts("regime.together"),
                since=self._texts.night(None if notice.since is None else self._texts.local(notice.since)),
            )
        else:
            summary = notice.summary
        told = f"told.{'ended' if notice.is_over else notice.kind}"
        return self._texts(told, summary=summary) if told in self._texts.keys else summary

    def noted(self, at: datetime) -> str:
        """Return the line that says when something was noted."""
        return self._texts("notice.at", time=self._texts.moment(at), zone=self._zone)

    def foot(self, message_id: str) -> list[str]:
        """Return the last lines: where to look, and the id that tells a repetition from news."""
        link = self._config.notify.link
        lines = [] if link is None else [self._texts("notice.link", link=link)]
        return [*lines, self._texts("notice.id", id=message_id)]

    def _details(self, notice: Notice) -> list[str]:
        t = self._texts
        lines = [t("notice.severity", level=t(f"severity.{notice.severity}"))]
        lines += [
            t(f"notice.{key}", names=list_few(names, _MOST_NAMED))
            for key, names in (
                ("machines", notice.machines),
                ("sensors", notice.sensors),
                ("regimes", notice.shown_regimes),
            )
            if names
        ]
        if notice.since is not None:
            lines.append(t("notice.since", time=self._since(notice.since)))
        if step := self._next_step(notice):
            lines.append(t("notice.next", step=step))
        return lines

    def _since(self, since: datetime) -> str:
        local = self._texts.local(since)
        is_day = local.time() == time()
        return self._texts.night(local) if is_day else self._texts.moment(since)

    def _next_step(self, notice: Notice) -> str:
        """Return what to do; in another language than English its commands, which have no words."""
        if self._texts.language == "en":
            return notice.next_step
        return " / ".join(dict.fromkeys(_COMMAND.findall(notice.next_step)))


def _about(notice: Notice) -> str:
    """Return what a title names: machines and sensors where there are some, else the subject."""
    named = [list_few(names, 2) for names in (notice.machines, notice.sensors) if names]
    return ", ".join(named) or notice.subject


def _envelope(config: PlantConfig, message_id: str, kind: str, at: datetime) -> dict[str, object]:
    return {
        "id": message_id,
        "type": f"pwflow.{kind}",
        "timestamp": _iso(at),
        "plant": config.plant.name,
        "link": config.notify.link,
    }


def _facts(config: PlantConfig, message: Message) -> dict[str, object]:
    """Return a message for programs."""
    kind = "summary" if message.is_summary else message.notices[-1].kind
    return _envelope(config, message.message_id, kind, message.made_at) | {
        "severity": message.severity,
        "n_notices": len(message.notices),
        "notices": [_fact(notice) for notice in message.notices[:_MOST_IDS]],
    }


def _fact(notice: Notice) -> dict[str, object]:
    return {
        "id": notice.notice_id,
        "kind": notice.kind,
        "subject": notice.subject,
        "severity": notice.severity,
        "at": _iso(notice.at),
        "since": None if notice.since is None else _iso(notice.since),
        "summary": notice.summary,
        "machines": list(notice.machines),
        "sensors": list(notice.sensors),
        "regimes": list(notice.regimes),
        "regime_names": list(notice.regime_names),
        "next_step": notice.next_step,
    }


def _iso(at: datetime) -> str:
    return f"{at.isoformat(timespec='seconds')}Z"
