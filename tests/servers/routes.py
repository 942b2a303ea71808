"""The routes of the API as a flat list, with the doors that they declare."""

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from postern_api.tenancy import Door


def routes_of(app: FastAPI) -> list[APIRoute]:
    """All routes, those of included routers too."""
    return [context.original_route for context in iter_route_contexts(app.routes)]  # type: ignore[attr-defined]


def doors_of(route: APIRoute) -> list[Door]:
    """The doors among a route's dependencies; exactly one, or a test fails."""
    return _doors(route.dependant)


def _doors(dependant: Dependant) -> list[Door]:
    found = [dependant.call] if isinstance(dependant.call, Door) else []
    for inner in dependant.dependencies:
        found += _doors(inner)
    return found
