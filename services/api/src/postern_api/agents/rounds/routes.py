"""/v1/agent: what agents call. Their token leads to their own customer and nowhere else."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError, WrapValidator

from postern_api.agents.door import Agent, AgentRoute, agent
from postern_api.agents.rounds.schemas import (
    Failure,
    NewRound,
    PageQuery,
    Round,
    SentAnswer,
    SentPage,
    Statement,
    Work,
    WorkQuery,
)
from postern_api.agents.rounds.service import Body, Rounds
from postern_api.agents.schemas import EXAMPLE_QUESTION, EXAMPLE_ROUND, AgentToken
from postern_api.agents.service import rotate
from postern_api.http.openapi import BY_AGENT, answers

router = APIRouter(prefix="/v1/agent", tags=["Agents"], route_class=AgentRoute)
Caller = Annotated[Agent, agent()]
RoundId = Annotated[str, Path(alias="id", max_length=100, description="The round's id.", examples=[EXAMPLE_ROUND])]
QuestionId = Annotated[
    str, Path(alias="id", max_length=100, description="The question's id.", examples=[EXAMPLE_QUESTION])
]
MAX_PAGES: Final = 1_000_000
PageNumber = Annotated[int, Path(alias="n", ge=0, lt=MAX_PAGES, description="The page's number, from 0.", examples=[0])]
# Described as a page, and checked by the route itself.
UncheckedPage = Annotated[SentPage, WrapValidator(lambda value, _check: value)]
_OPTIONS: Final[dict[str, Any]] = {"openapi_extra": BY_AGENT}


@router.post("/token", operation_id="agent_token", summary="Renew the token", responses=answers(415, 429), **_OPTIONS)
async def renew_token(caller: Caller) -> AgentToken:
    """The token of this request stays good until the new one was used once, so that none is lost with an answer."""
    return await rotate(caller)


@router.get("/work", operation_id="agent_work", summary="Ask for work", responses=answers(429), **_OPTIONS)
async def get_work(caller: Caller, query: Annotated[WorkQuery, Query()], request: Request) -> Work:
    """Answers as soon as there is something to do, or after `wait` seconds with nothing."""
    return await Rounds(caller).work(query, request.is_disconnected)


@router.post(
    "/rounds",
    operation_id="agent_rounds_begin",
    summary="Begin a reading, or go on with it",
    responses=answers(404, 409, 415, 429),
    **_OPTIONS,
)
async def begin_round(caller: Caller, body: NewRound) -> Round:
    """Everything is to be sent where `base` is null; otherwise what changed since that round.

    The same upload goes on at `next_page`; another one begins anew.
    """
    return await Rounds(caller).begin(body)


@router.put(
    "/rounds/{id}/pages/{n}",
    operation_id="agent_rounds_put_page",
    summary="Send a page",
    status_code=204,
    responses=answers(404, 409, 415, 429),
    **_OPTIONS,
)
async def put_page(
    caller: Caller,
    round_id: RoundId,
    number: PageNumber,
    query: Annotated[PageQuery, Query()],
    body: UncheckedPage,
    request: Request,
) -> None:
    """Pages come in order, packed with gzip. The same page may be sent again; another one of its number is refused."""
    sent = Body(await request.body(), getattr(request.state, "packed", None))
    await Rounds(caller).put_page(round_id, number, query.upload_id, await _checked(body), sent)


async def _checked(body: Any) -> SentPage:
    """A page whose thousands of values are looked at beside the loop, so that other requests go on meanwhile."""
    try:
        return await asyncio.to_thread(SentPage.model_validate, body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from None


@router.post(
    "/rounds/{id}/finish",
    operation_id="agent_rounds_finish",
    summary="State that everything was sent",
    status_code=204,
    responses=answers(404, 409, 415, 429),
    **_OPTIONS,
)
async def finish_round(caller: Caller, round_id: RoundId, body: Statement) -> None:
    """Only now does what was sent count. The run checks it against the digest."""
    await Rounds(caller).finish(round_id, body)


@router.post(
    "/rounds/{id}/failure",
    operation_id="agent_rounds_fail",
    summary="State that the directory cannot be read",
    status_code=204,
    responses=answers(404, 409, 415, 429),
    **_OPTIONS,
)
async def fail_round(caller: Caller, round_id: RoundId, body: Failure) -> None:
    """The run ends with this reason."""
    await Rounds(caller).fail(round_id, body)


@router.post(
    "/questions/{id}/answer",
    operation_id="agent_questions_answer",
    summary="Answer a question to the directory",
    status_code=204,
    responses=answers(404, 415, 429),
    **_OPTIONS,
)
async def answer_question(caller: Caller, question_id: QuestionId, body: SentAnswer) -> None:
    """The answer to a test of settings, or to a look at entries."""
    await Rounds(caller).answer(question_id, body)
