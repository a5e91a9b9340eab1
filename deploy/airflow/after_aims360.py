"""A DAG that waits for the mirror, and then asks it: `fresh` is what to take over into others."""

from datetime import UTC, datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.sdk import dag


@dag(schedule="@hourly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def after_aims360() -> None:
    """What is to be done with a fresh mirror."""
    fresh = BashSensor(
        task_id="fresh",
        # Of all sources; of one with --source. A few rows that can't be read shall hold up no report: 0 to be strict.
        bash_command="aims360-etl status --check --max-lag 30m --max-rejects 10",
        retry_exit_code=1,  # not fresh yet; a wrong setting fails at once
        retries=2,  # for what befalls a worker; a timeout of the sensor is final
        mode="reschedule",  # takes no slot between two looks
        poke_interval=60,
        timeout=3600,
    )
    growth = BashOperator(task_id="growth", bash_command="aims360-etl report growth", do_xcom_push=False)
    fresh >> growth


after_aims360()
