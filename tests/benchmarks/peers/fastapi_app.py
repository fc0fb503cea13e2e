"""The peer of the intake figure: FastAPI on uvicorn, which parses a task and keeps it in a dictionary."""

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI()
tasks: dict[str, "Task"] = {}


class Task(BaseModel):
    """The fields that the load sends."""

    targets: list[str]
    nodes: list[str] = []


@app.post("/v1/engine/task")
async def post(task: Task) -> JSONResponse:
    """Store a task and say so."""
    task_id = str(len(tasks))
    tasks[task_id] = task
    return JSONResponse({"task_id": task_id, "state": "accepted", "total": len(task.targets)}, 202)
