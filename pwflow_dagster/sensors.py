"""Sensors: what has to run because of what the nights found, and only that.

A sensor reads the warehouse and the runs on record, and asks for a run whose key says what it is for. So a tick that is
repeated, or that dies half-way, asks for the same run again, and Dagster starts it once. All that a sensor writes down
is that nobody could answer a verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import dropwhile, islice
from typing import TYPE_CHECKING

import dagster as dg

from pwflow_core.config import PlantConfig
from pwflow_dagster.names import (
    ANSWER_DRIFT,
    ANSWER_VERDICTS,
    APPROVE_REGIME,
    ASKED,
    DELIVER_NOTICES,
    DISMISS,
    LEARN_REGIMES,
    NIGHTLY_SCORING,
    PROMOTE_FLOW,
    REASON_TAG,
    ROLL_BACK_FLOW,
    SCORING_JOBS,
    SHORT_CYCLE,
    TRAIN_AND_SCORE,
    TRAIN_REGIMES,
    WHOLE_PATH,
    op_config,
    verdict_tags,
)
from pwflow_dagster.run_records import NOT_ENDED, find_late_scoring, is_active, read_failure, records_of_plant

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["DRIFT_SENSOR", "FAILURE_SENSOR", "NOTIFY_SENSOR", "REGIMES_SENSOR", "build_sensors"]

DRIFT_SENSOR = "drift"
REGIMES_SENSOR = "regimes"
NOTIFY_SENSOR = "notify"
FAILURE_SENSOR = "failed_runs"

_SCORING = (*SCORING_JOBS, SHORT_CYCLE, LEARN_REGIMES)
_WATCHED_BY_A_PERSON = (APPROVE_REGIME, DISMISS, PROMOTE_FLOW, ROLL_BACK_FLOW)
_STARTERS = (WHOLE_PATH, ANSWER_DRIFT)
"""Jobs that start others, whose failure is theirs."""
_USUAL_RUN = timedelta(hours=1)

_MOST_ATTEMPTS = 3
_PAUSES = (timedelta(minutes=1), timedelta(minutes=10))
_WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class _Attempts:
    """The runs that were asked for one thing.

    Attributes:
        ended: Ids of those that ended, the last first.
        active: Id of one that is waiting or under way; None if there is none.
        last_ended_at: When the last one ended, UTC.
    """

    ended: tuple[str, ...]
    active: str | None
    last_ended_at: datetime | None

    def pause_left(self, now: datetime) -> timedelta:
        """Return how long the next attempt has to wait; at most zero if it need not."""
        if not self.ended or self.last_ended_at is None:
            return timedelta(0)
        return self.last_ended_at + _PAUSES[min(len(self.ended), len(_PAUSES)) - 1] - now


def build_sensors(config: PlantConfig) -> list[dg.SensorDefinition]:
    """Return the sensors of a plant, running by default."""
    return [
        _build_drift_sensor(config),
        _build_regimes_sensor(config),
        _build_notify_sensor(config),
        _build_failure_sensor(config),
    ]


def _build_drift_sensor(config: PlantConfig) -> dg.SensorDefinition:
    @dg.sensor(
        name=DRIFT_SENSOR,
        job_name=ANSWER_DRIFT,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Asks for one run that answers the open verdicts on drift: the regimes that moved are retrained, and "
            "only they. Follows drift.policy."
        ),
    )
    def drift(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from pwflow_core.errors import PwflowError
        from pwflow_core.pipeline.decisions.verdicts import Decider, give_up_verdicts, pending_verdicts

        if config.drift.policy != "retrain":
            return dg.SkipReason(f"drift.policy is {config.drift.policy!r}: a person decides what is retrained.")
        plant = _open(config)
        now = datetime.now(UTC)
        try:
            pending = pending_verdicts(plant)
            wanted, waiting = [], []
            for verdict in pending:
                attempts = _attempts(context.instance, config, verdict_tags([verdict.verdict_id]), now)
                if attempts.active is not None:
                    waiting.append(f"run {attempts.active[:8]} answers {verdict.verdict_id}")
                elif len(attempts.ended) >= _MOST_ATTEMPTS:
                    reason = f"given up after {len(attempts.ended)} runs without an answer"
                    give_up_verdicts(plant, [verdict.verdict_id], by=Decider("the drift sensor"), reason=reason)
                    waiting.append(f"{verdict.verdict_id} was {reason}")
                elif (pause := attempts.pause_left(now)) > timedelta(0):
                    waiting.append(f"{verdict.verdict_id} is tried again in {pause.seconds + 1} s")
                else:
                    wanted.append((verdict, attempts))
        except PwflowError as error:
            return dg.SkipReason(str(error))
        if not wanted:
            return dg.SkipReason("; ".join(waiting) or "No verdict on drift is open.")
        keys = sorted({key for verdict, _ in wanted for key in verdict.cluster_keys})
        named = [f"{verdict.verdict_id}.{len(attempts.ended)}" for verdict, attempts in wanted]
        ids = [verdict.verdict_id for verdict, _ in wanted]
        given_up = [run_id for _, attempts in wanted for run_id in attempts.ended]
        return dg.RunRequest(
            run_key=f"drift:{_digest(named)}",
            run_config=op_config(ANSWER_VERDICTS, verdict_ids=ids, given_up=given_up),
            tags={
                REASON_TAG: _shortened(" ".join(verdict.summary for verdict, _ in wanted)),
                "pwflow/clusters": _shortened(",".join(keys)),
                **verdict_tags(ids),
            },
        )

    return drift


def _build_regimes_sensor(config: PlantConfig) -> dg.SensorDefinition:
    @dg.sensor(
        name=REGIMES_SENSOR,
        job_name=WHOLE_PATH,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the run that trains regimes which have no flow yet, after the regimes were found again.",
    )
    def regimes(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from pwflow_core.errors import PwflowError
        from pwflow_core.pipeline.flows.training import clusters_without_flow
        from pwflow_core.pipeline.regimes.model import cluster_model_in_force

        plant = _open(config)
        now = datetime.now(UTC)
        try:
            missing = clusters_without_flow(plant)
            model_id = cluster_model_in_force(plant)
        except PwflowError as error:
            return dg.SkipReason(str(error))
        if not missing or model_id is None:
            return dg.SkipReason("Every regime in use has a flow.")
        for job in (WHOLE_PATH, LEARN_REGIMES, TRAIN_REGIMES, TRAIN_AND_SCORE, NIGHTLY_SCORING, SHORT_CYCLE):
            if (active := _active_run(context.instance, config, job, now)) is not None:
                return dg.SkipReason(f"Run {active[:8]} of {job} is under way.")
        tag = f"pwflow/regimes.{_digest([model_id, *missing])}"
        attempts = _attempts(context.instance, config, {tag: ASKED}, now)
        if len(attempts.ended) >= _MOST_ATTEMPTS:
            return dg.SkipReason(
                f"{len(attempts.ended)} runs left {', '.join(missing)} without a flow: look at the last one, "
                f"{attempts.ended[0][:8]}, then materialize cluster_flow."
            )
        if (pause := attempts.pause_left(now)) > timedelta(0):
            return dg.SkipReason(f"{', '.join(missing)}: tried again in {pause.seconds + 1} s.")
        return dg.RunRequest(
            run_key=f"{tag}:{len(attempts.ended)}",
            tags={tag: ASKED, REASON_TAG: _shortened(f"No flow yet: {', '.join(missing)}")},
        )

    return regimes


def _build_notify_sensor(config: PlantConfig) -> dg.SensorDefinition:
    @dg.sensor(
        name=NOTIFY_SENSOR,
        job_name=DELIVER_NOTICES,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Asks for the run that tells people what they were not told yet: what did not arrive, what quiet hours "
            "held back, what a killed run left, what failed. Says once that the nightly run is late."
        ),
    )
    def notify(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not config.notify.targets:
            return dg.SkipReason("pwflow.toml has no [notify.targets.NAME].")
        from pwflow_core.errors import PwflowError
        from pwflow_core.notifying.delivering import due_work, note_run
        from pwflow_core.notifying.record import late_scoring
        from pwflow_core.warehouse import in_utc

        now = datetime.now(UTC)
        for job in _SCORING:
            if (active := _active_run(context.instance, config, job, now, at_most=_USUAL_RUN)) is not None:
                return dg.SkipReason(f"Run {active[:8]} of {job} is under way and tells what it finds.")
        if (late := find_late_scoring(context.instance, config, now)) is not None:
            ended_at = in_utc(datetime.fromtimestamp(late.end_time or 0.0, UTC))
            note_run(config, late_scoring(late.dagster_run.run_id, ended_at, at=in_utc(now)))
        try:
            due = due_work(_open(config), now=in_utc(now))
        except PwflowError as error:
            return dg.SkipReason(str(error))
        if due is None:
            return dg.SkipReason("Everybody was told everything.")
        tag = f"pwflow/told.{_digest([due])}"
        attempts = _attempts(context.instance, config, {tag: ASKED}, now)
        if attempts.active is not None:
            return dg.SkipReason(f"Run {attempts.active[:8]} tells it.")
        if (pause := attempts.pause_left(now)) > timedelta(0):
            return dg.SkipReason(f"The last run came to nothing; tried again in {pause.seconds + 1} s.")
        return dg.RunRequest(
            run_key=f"{tag}:{len(attempts.ended)}", tags={tag: ASKED, REASON_TAG: _shortened(f"To tell: {due}")}
        )

    return notify


def _build_failure_sensor(config: PlantConfig) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name=FAILURE_SENSOR,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Notes runs that failed, for the sensor notify to tell; a run that a person watches is left out.",
    )
    def failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run
        if not config.notify.targets:
            return dg.SkipReason("pwflow.toml has no [notify.targets.NAME].")
        if run.job_name in (*_WATCHED_BY_A_PERSON, DELIVER_NOTICES):
            return dg.SkipReason(f"Nobody is told of a run of {run.job_name} that failed: see it in Dagster.")
        if run.job_name in _STARTERS and (other := _failed_within(context.instance, config, run.run_id)) is not None:
            return dg.SkipReason(f"People are told of {other[:8]}, which it started.")
        if run.job_name == SHORT_CYCLE and _failed_before(context.instance, config, run.run_id):
            return dg.SkipReason("People were told of an earlier cycle; none has succeeded since.")
        from pwflow_core.notifying.delivering import note_run
        from pwflow_core.notifying.record import fail_run
        from pwflow_core.warehouse import utc_now

        reason = read_failure(context.instance, run.run_id) or context.failure_event.message or ""
        note_run(config, fail_run(run.run_id, run.job_name, reason, at=utc_now()))
        return None

    return failed_runs


def _failed_within(instance: dg.DagsterInstance, config: PlantConfig, run_id: str) -> str | None:
    """Return a run that failed while another one was under way, and was not of a kind that starts others."""
    (whole,) = instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=whole.create_timestamp)
    for record in records_of_plant(instance, config.plant.name, failed):
        if record.create_timestamp <= whole.update_timestamp and record.dagster_run.job_name not in _STARTERS:
            return str(record.dagster_run.run_id)
    return None


def _failed_before(instance: dg.DagsterInstance, config: PlantConfig, run_id: str) -> bool:
    """Whether the cycle before one that failed had failed too."""
    ended = dg.RunsFilter(job_name=SHORT_CYCLE, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    runs = (record.dagster_run for record in records_of_plant(instance, config.plant.name, ended))
    earlier = dropwhile(lambda run: run.run_id != run_id, runs)
    before = next(islice(earlier, 1, None), None)
    return before is not None and before.status is dg.DagsterRunStatus.FAILURE


def _open(config: PlantConfig) -> Plant:
    """Return the plant, with a short wait: a tick that cannot have the warehouse comes again."""
    from pwflow_core.plant import Plant

    plant = Plant.open(config)
    plant.warehouse.wait_seconds = min(plant.warehouse.wait_seconds, _WAIT_SECONDS)
    return plant


def _attempts(instance: dg.DagsterInstance, config: PlantConfig, tags: dict[str, str], now: datetime) -> _Attempts:
    records = list(records_of_plant(instance, config.plant.name, dg.RunsFilter(tags=tags)))
    active = [record for record in records if is_active(record, now)]
    ended = [record for record in records if not is_active(record, now)]
    return _Attempts(
        tuple(record.dagster_run.run_id for record in ended),
        active[0].dagster_run.run_id if active else None,
        max((record.update_timestamp for record in ended), default=None),
    )


def _active_run(
    instance: dg.DagsterInstance,
    config: PlantConfig,
    job: str,
    now: datetime,
    *,
    at_most: timedelta | None = None,
) -> str | None:
    wanted = dg.RunsFilter(job_name=job, statuses=NOT_ENDED)
    for record in records_of_plant(instance, config.plant.name, wanted):
        if is_active(record, now) and (at_most is None or now - record.update_timestamp < at_most):
            return str(record.dagster_run.run_id)
    return None


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


def _shortened(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:239]}…"
