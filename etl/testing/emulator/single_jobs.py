"""A single job by its key, and its rerun."""

from dataclasses import replace

from etl.testing.emulator.faults import POISONED
from etl.testing.emulator.requests import Call
from etl.testing.emulator.responses import Answer, error, not_found_page, rerun_answer, server_error
from etl.testing.emulator.service_options import ServiceOptions
from etl.testing.emulator.table import Table
from etl.testing.emulator.value_forms import RowRenderer
from etl.testing.emulator.world import World


def answer_job(call: Call, table: Table, renderer: RowRenderer, options: ServiceOptions) -> Answer:
    """Return the job that the call names, as a plain object, or the error if there is none."""
    is_plain_path = call.what == "job"
    if is_plain_path and not options.has_plain_path:
        return not_found_page()
    job = table.get(call.job_id)
    if job is not None:
        if options.is_poisoned(job):
            return replace(server_error(), fault=POISONED)
        return Answer(200, renderer.choose(table)(job, ()))
    if not is_plain_path or options.unknown_job == "404":
        return error(404, "NotFound", "No such resource.")
    return not_found_page() if options.unknown_job == "404-html" else error(400, "BadRequest", "No such job.")


def answer_rerun(call: Call, world: World, options: ServiceOptions) -> Answer:
    """Put the job that the call names back on the queue, if it can be rerun."""
    job = world.get(call.job_id)
    if job is None:
        return error(404, "NotFound", "No such resource.")
    if job.payload().get("canReRun") != "Yes":
        return error(400, "BadRequest", "This job can't be run again.")
    try:
        return rerun_answer(world.rerun(job), options.rerun_shows_run)
    except ValueError as locked:
        return error(400, "BadRequest", str(locked))
