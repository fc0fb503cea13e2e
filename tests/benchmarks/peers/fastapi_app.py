"""The peer of the intake figure: FastAPI on uvicorn, which parses a task and keeps it in a dictionary."""

from fastapi import FastAPI  # type: ignore[import-not-found]
from pydantic import BaseModel  # type: ignore[import-not-found]

app = FastAPI()
tasks: dict[str, "Task"] = {}


class Task(BaseModel):  # type: ignore[misc]
    """The fields that the load sends."""

    targets: list[str]
    nodes: list[str] = []


@app.post("/v1/engine/task", status_code=202)  # type: ignore[untyped-decorator]
async def post(task: Task) -> dict[str, object]:
    """Store a task and say so."""
    task_id = str(len(tasks))
    tasks[task_id] = task
    return {"task_id": task_id, "state": "accepted", "total": len(task.targets)}
