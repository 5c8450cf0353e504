"""A web server that hands work over to a worker and tells what became of it: `uvicorn api:app`.

Endpoints are plain functions, which FastAPI calls in threads: to talk to the broker takes a millisecond or,
if it is in trouble, longer, and meanwhile the loop serves others.
"""

from typing import Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import nbtasks
from tasks import some_work

app = FastAPI()


class Job(BaseModel):
    value: int


class Submitted(BaseModel):
    message: str
    id: UUID


class Status(BaseModel):
    id: UUID
    type: str  # COMPLETED, FAILED, ...: what a program tests
    state: str  # Completed, TimedOut, ...: what a user reads
    result: Any = None
    message: str = ""  # why there is no result


@app.post("/job", status_code=202)
@app.post("/", status_code=202)
def submit(job: Job) -> Submitted:
    run = some_work.delay(job.value)  # recorded when this returns
    return Submitted(message=f"submitted task run {run.id!r}", id=run.id)


@app.get("/runs/{run_id}", response_model_exclude_unset=True)
def status(run_id: UUID) -> Status:
    try:
        run = nbtasks.get_run(run_id)
    except nbtasks.UnknownRun:
        run = None
    if run is None or run.task_key != some_work.key:  # other runs of this home are not for the web
        raise HTTPException(404, f"there is no run {run_id}")
    state = run.state
    told = Status(id=run.id, type=state.type, state=state.name)
    if state.type == "COMPLETED":
        told.result = run.result()
    elif state.is_final:
        told.message = state.message
    return told


@app.exception_handler(nbtasks.BrokerUnavailable)
@app.exception_handler(nbtasks.SubmitUnknown)
@app.exception_handler(nbtasks.QueueFull)
def unavailable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503)
