"""/v1/customers/{c}/directory: all of it but the agents."""

from fastapi import APIRouter

from postern_api.directory.additions import routes as additions
from postern_api.directory.conflicts import routes as conflicts
from postern_api.directory.exceptions import routes as exceptions
from postern_api.directory.questions import routes as questions
from postern_api.directory.runs import routes as runs
from postern_api.directory.settings import routes as settings
from postern_api.directory.steps import routes as steps

router = APIRouter()
for module in (settings, steps, questions, runs, exceptions, additions, conflicts):
    router.include_router(module.router)
